//! The system's allocator, told to give back what is freed.
//!
//! The C library of GNU systems learns from the first large block that is freed, which is the one
//! the password is checked with (16 MiB): from then on every buffer up to that size comes out of a
//! heap that has holes and does not shrink. With the threshold fixed a large buffer is a mapping of
//! its own, and goes when it is freed. Measured, a first backup with a plan of 64 MiB: 70 MiB
//! resident before, 38 after, processor time alike. musl does so by itself.

/// Larger blocks are mappings of their own: what the library begins with (`mallopt(3)`).
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: i32 = 128 << 10;

/// Each heap has holes of its own; two are enough for what little is allocated at the same time.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: i32 = 2;

/// Sets it up; called once, before there is a second thread.
#[cfg(target_env = "gnu")]
pub fn set_up() {
    for (what, value) in
        [(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN), (libc::M_ARENA_MAX, HEAPS_MAX)]
    {
        // SAFETY: two known parameters with values in their range; a refusal changes nothing.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(what, value);
        }
    }
}

/// Nothing to set up.
#[cfg(not(target_env = "gnu"))]
pub fn set_up() {}
