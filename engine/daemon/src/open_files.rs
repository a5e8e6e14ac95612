//! How many files may be open: as many as the system allows, and not the 1024 that programs from
//! before `poll` could bear. A walk holds each folder open that it is in.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More are of no use: twice and more what the deepest folder takes, and destinations beside it.
const OPEN_FILES_MAX: u64 = 16_384;

/// Raises the limit as far as it may be; where that is refused, it stays.
pub fn allow_all() {
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = most.min(OPEN_FILES_MAX);
        if now < wanted {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, most);
        }
    }
}
