/*
 * Three functions that the armv5 build links in front of the ones it would get otherwise.
 *
 * `__aeabi_read_tp`: the linker's own runtime library reads the thread pointer from a coprocessor
 * register that came with ARMv6, and an ARM926 answers with SIGILL in the first thread-local
 * access. Linux gives older cores a helper at a fixed address (since 2.6.12), which keeps every
 * register except r0, as the ABI of this function demands.
 *
 * `getauxval`: glibc 2.16 brought it, DSM 5 and 6 on these boxes have 2.15. The kernel tells the
 * same in /proc/self/auxv.
 *
 * `accept4`: the kernel of these boxes, 2.6.32, does not have it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

__asm__(
    "    .arm\n"
    "    .text\n"
    "    .p2align 2\n"
    "    .global __aeabi_read_tp\n"
    "    .hidden __aeabi_read_tp\n"
    "    .type __aeabi_read_tp, %function\n"
    "__aeabi_read_tp:\n"
    "    mvn r0, #0xf000\n" /* r0 = 0xffff0fff */
    "    sub pc, r0, #31\n" /* jump to 0xffff0fe0, __kuser_get_tls, which returns to lr */
    "    .size __aeabi_read_tp, . - __aeabi_read_tp\n");

__attribute__((visibility("hidden"))) unsigned long getauxval(unsigned long wanted)
{
    unsigned long entry[2]; /* type, value */
    unsigned long found = 0;
    int errno_before = errno;
    int auxv = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);

    if (auxv < 0) {
        errno = errno_before;
        return 0;
    }
    while (read(auxv, entry, sizeof entry) == (ssize_t)sizeof entry && entry[0] != 0) {
        if (entry[0] == wanted) {
            found = entry[1];
            break;
        }
    }
    close(auxv);
    errno = errno_before;
    return found;
}

/* Linux has this call since 2.6.36 on ARM; the box's glibc passes ENOSYS on. */
__attribute__((visibility("hidden"))) int accept4(int listener, struct sockaddr *address,
                                                  socklen_t *length, int flags)
{
    int accepted = (int)syscall(SYS_accept4, listener, address, length, flags);

    if (accepted >= 0 || errno != ENOSYS)
        return accepted;
    accepted = accept(listener, address, length);
    if (accepted < 0)
        return accepted;
    if (flags & SOCK_CLOEXEC)
        fcntl(accepted, F_SETFD, FD_CLOEXEC);
    if (flags & SOCK_NONBLOCK)
        fcntl(accepted, F_SETFL, fcntl(accepted, F_GETFL) | O_NONBLOCK);
    return accepted;
}
