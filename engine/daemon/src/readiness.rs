//! Telling whoever started the daemon that it is ready: one newline, then the descriptor is closed.

use crate::failure::Failure;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, RawFd};

/// Writes the newline to the descriptor that was handed over, if one was.
pub fn announce(descriptor: Option<RawFd>) -> Result<(), Failure> {
    let Some(descriptor) = descriptor else { return Ok(()) };
    // SAFETY: whoever started us put this number into the environment for us alone; nothing else
    // in this process opened it, and it is taken once.
    #[allow(unsafe_code)]
    let mut pipe = unsafe { File::from_raw_fd(descriptor) };
    pipe.write_all(b"\n").map_err(|error| {
        Failure::new("whoever started the daemon cannot be told that it is ready").because(error)
    })
}
