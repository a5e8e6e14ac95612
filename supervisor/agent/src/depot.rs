//! `depot …`: handing over to `holdfast-depot`, which is not on every NAS.
//!
//! What a keeper of a depot needs (a server, TLS, object storage) would double this program, and
//! this one is on each box.

use crate::problem::Problem;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// The program's name.
const PROGRAM: &str = "holdfast-depot";

/// Becomes `holdfast-depot`; returns only with the reason why that cannot be.
pub fn hand_over(arguments: &[OsString], search: &str) -> Problem {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join(PROGRAM)));
    let Some(program) = beside.into_iter().chain(candidates(search)).find(|path| path.is_file())
    else {
        return Problem::new(format!("{PROGRAM} is neither beside this program nor in PATH"))
            .remedy(format!(
                "keeping a depot needs the program {PROGRAM}: `cargo build -p supervisor-server` \
                 builds it; put it beside holdfast-supervisor"
            ));
    };
    let cause = std::process::Command::new(&program).args(arguments).exec();
    Problem::new(format!("cannot run {}", program.display()))
        .because(cause)
        .remedy("build it for this machine, and see that it may be executed")
}

fn candidates(search: &str) -> impl Iterator<Item = PathBuf> {
    search.split(':').filter(|folder| !folder.is_empty()).map(|folder| {
        // PATH may be relative; so is what it finds.
        Path::new(folder).join(PROGRAM)
    })
}
