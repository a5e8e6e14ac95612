//! A memory cgroup: where a process that needs more than it may is killed by the kernel.
//!
//! Version 1 and 2 are known; which one is there is found by trying. Swap counts, where the kernel
//! counts it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A cgroup with a limit; it is removed when dropped.
#[derive(Debug)]
pub struct Limited(PathBuf);

impl Limited {
    /// A cgroup of `limit_bytes`, or why there can be none.
    pub fn of(limit_bytes: u64) -> Result<Self, String> {
        let name = format!("holdfast-bench-{}", std::process::id());
        let places = [
            (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", MEMSW),
            (Path::new("/sys/fs/cgroup"), "memory.max", SWAP_MAX),
        ];
        let mut why = String::new();
        for (top, limit, swap) in places {
            match Self::at(&top.join(&name), limit, swap, limit_bytes) {
                Ok(limited) => return Ok(limited),
                Err(cause) => why = format!("{why}{}: {cause}; ", top.display()),
            }
        }
        Err(why.trim_end_matches("; ").to_owned())
    }

    fn at(folder: &Path, limit: &str, swap: (&str, bool), bytes: u64) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let limited = Self(folder.to_path_buf());
        fs::write(folder.join(limit), bytes.to_string())?;
        // A kernel that does not count swap has no such file; then swap is not limited.
        let swap_bytes = if swap.1 { bytes } else { 0 };
        let _ = fs::write(folder.join(swap.0), swap_bytes.to_string());
        Ok(limited)
    }

    /// Its folder, for who moves in.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

/// Version 1 limits memory and swap together, version 2 swap alone.
const MEMSW: (&str, bool) = ("memory.memsw.limit_in_bytes", true);
const SWAP_MAX: (&str, bool) = ("memory.swap.max", false);

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Moves this process in; its children are born there.
pub fn enter(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), std::process::id().to_string())
}
