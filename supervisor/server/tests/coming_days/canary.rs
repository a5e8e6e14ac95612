//! The canary: our own client, under the clocks of the coming days.

use crate::keeper::{Answer, Keeper};

fn canary(keeper: &Keeper) -> Answer {
    let server = keeper.serves();
    let root = keeper.text("depot.pub");
    let arguments = ["keys", "canary", "--url", &server.url, "--root-key", &root];
    crate::keeper::run(0, crate::keeper::PROGRAM, &arguments)
}

#[test]
fn a_depot_that_is_kept_is_believed_for_a_fortnight_and_refused_when_nobody_keeps_it() {
    let answer = canary(&Keeper::who_began(0));
    assert_eq!(answer.code, 0, "{}", answer.said);
    for line in ["in    1 days  believed", "in   14 days  believed", "in   22 days  refused"] {
        assert!(answer.said.contains(line), "{line} is not in {}", answer.said);
    }
}

#[test]
fn a_depot_that_nobody_renews_any_more_is_found_out_before_its_clients_find_it_out() {
    let keeper = Keeper::who_began(-15);
    keeper.loses("timestamp.key");
    let answer = canary(&keeper);
    assert_eq!(answer.code, 1, "{}", answer.said);
    assert!(answer.said.contains("in    1 days  believed"), "{}", answer.said);
    assert!(answer.said.contains("a client in 7 days would not be served"), "{}", answer.said);
    assert!(answer.said.contains("keys renew"), "{}", answer.said);
}

#[test]
fn a_list_that_ends_within_the_month_is_found_out_though_the_timestamp_is_new() {
    let keeper = Keeper::who_began(-380);
    keeper.loses("targets.key");
    assert_eq!(keeper.keys(0, &["renew"]).code, 0);
    let answer = canary(&keeper);
    assert_eq!(answer.code, 1, "{}", answer.said);
    assert!(answer.said.contains("the targets signature ends in "), "{}", answer.said);
}

#[test]
fn a_timestamp_signed_for_too_long_protects_nobody_from_being_kept_on_old_packages() {
    let answer = canary(&Keeper::who_began(30));
    assert_eq!(answer.code, 1, "{}", answer.said);
    assert!(answer.said.contains("would still be believed"), "{}", answer.said);
}
