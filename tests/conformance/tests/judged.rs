//! Our client under the cases of theupdateframework's conformance suite and under the list of
//! attacks, over repositories that python-tuf makes; and python-tuf's own client under the same
//! cases, which shows that they are right.
//!
//! The suite itself is on no package index, so its cases are told anew in `judge/`, by their names.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has python-tuf.
fn python() -> PathBuf {
    let peers = folder().join("../../scripts/peers");
    let output = Command::new(peers).arg("python-tuf").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn judged(client: &Path, known: &str) {
    let output = Command::new(python())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(folder().join("judge/judge.py"))
        .arg(client)
        .arg("--xfails")
        .arg(folder().join(known))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{why}");
    println!("{}", said.lines().last().unwrap_or_default());
}

#[test]
fn our_client_passes_every_case_but_those_of_delegations_rsa_and_ecdsa() {
    judged(Path::new(env!("CARGO_BIN_EXE_tuf-client")), "tuf-client.xfails");
}

#[test]
fn the_cases_are_right_because_the_reference_client_passes_them_too() {
    judged(Path::new("--reference"), "python-tuf.xfails");
}
