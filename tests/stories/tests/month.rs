//! Random days on one repository, which ours and stock restic take turns with.
//!
//! Every run lives the same days; `month --rounds` (see `scripts/test --long`) lives new ones.

use tests_stories::Month;

#[test]
fn after_random_days_of_both_tools_they_agree_on_every_snapshot_and_every_byte() {
    Month::new(20_260_301, None).live(9);
}
