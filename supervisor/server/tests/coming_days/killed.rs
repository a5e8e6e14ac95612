//! A renewal that is killed at any step, and two at once: the depot stays whole.

use crate::keeper::{Keeper, PROGRAM, run};
use std::process::Command;

/// What changes something on the disk, or waits for it.
const CALLS: [&str; 9] =
    ["fsync", "rename", "renameat", "unlink", "unlinkat", "linkat", "symlinkat", "mkdir", "flock"];
/// More calls of one kind than a command makes.
const CALLS_MAX: u32 = 200;

/// Runs `keys …`, and kills it before its Nth call of that kind; whether it came through.
fn comes_through(keeper: &Keeper, arguments: &[&str], call: &str, number: u32) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", &keeper.text("strace"), "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={number}")])
        .arg(PROGRAM)
        .arg("keys")
        .args(arguments)
        .args(["--root", &keeper.text("depot")])
        .status()
        .unwrap();
    status.success()
}

fn is_believed(keeper: &Keeper) {
    let server = keeper.serves();
    let root = keeper.text("depot.pub");
    let canary = ["keys", "canary", "--url", &server.url, "--root-key", &root];
    let answer = run(0, PROGRAM, &canary);
    assert_eq!(answer.code, 0, "{}", answer.said);
}

#[test]
fn a_renewal_killed_at_any_step_leaves_the_old_signatures_or_the_new_ones() {
    let keeper = Keeper::who_began(-5);
    let mut killed = 0;
    for call in CALLS {
        let number = (1..CALLS_MAX).find(|number| {
            let through = comes_through(&keeper, &["renew"], call, *number);
            killed += u32::from(!through);
            let plan = keeper.keys(0, &["plan"]);
            assert_eq!(plan.code, 0, "killed at {call} {number}: {}", plan.said);
            through
        });
        assert!(number.is_some(), "it never came through {call}");
    }
    assert!(killed >= 10, "killed {killed} times only: strace did not see its calls");
    is_believed(&keeper);
}

#[test]
fn a_spare_root_killed_on_its_way_into_force_is_in_force_or_still_laid_by() {
    let keeper = Keeper::who_began(0);
    let version = || keeper.keys(0, &["show"]).said.lines().next().unwrap().to_owned();
    for call in ["fsync", "rename", "unlink"] {
        assert_eq!(keeper.keys(0, &["spare"]).code, 0);
        let before = version();
        for number in 1..CALLS_MAX {
            comes_through(&keeper, &["spare", "--publish"], call, number);
            assert_eq!(keeper.keys(0, &["plan"]).code, 0, "killed at {call} {number}");
            if version() != before {
                break;
            }
        }
        assert_ne!(version(), before);
        // What was left lying does not keep anybody from renewing.
        let answer = keeper.keys(0, &["renew"]);
        assert_eq!(answer.code, 0, "{}", answer.said);
    }
    is_believed(&keeper);
}

#[test]
fn two_renewals_at_once_are_one_after_the_other_and_a_third_party_is_not_waited_for_for_ever() {
    let keeper = Keeper::who_began(-5);
    let depot = keeper.text("depot");
    let renewals: Vec<_> = (0..4)
        .map(|_| Command::new(PROGRAM).args(["keys", "renew", "--root", &depot]).spawn().unwrap())
        .collect();
    for mut renewal in renewals {
        let code = renewal.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 11)), "{code:?}");
    }
    assert_eq!(keeper.keys(0, &["plan"]).code, 0);
    let lock = std::fs::File::open(keeper.path("depot/lock")).unwrap();
    lock.lock().unwrap();
    let answer = keeper.keys(0, &["renew"]);
    assert_eq!(answer.code, 11, "{}", answer.said);
    assert!(answer.said.contains("somebody else is publishing"), "{}", answer.said);
}
