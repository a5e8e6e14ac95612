/*
 * One function that every 32-bit ARM build links in.
 *
 * With 64-bit file offsets, Rust's libc crate calls `fcntl` by the name glibc 2.34 gave it. Older
 * glibc has one `fcntl`, which hands the 64-bit locking commands to the kernel as they are.
 */
__asm__(
    "    .arm\n"
    "    .text\n"
    "    .p2align 2\n"
    "    .global __fcntl_time64\n"
    "    .hidden __fcntl_time64\n"
    "    .type __fcntl_time64, %function\n"
    "__fcntl_time64:\n"
    "    b fcntl\n"
    "    .size __fcntl_time64, . - __fcntl_time64\n");
