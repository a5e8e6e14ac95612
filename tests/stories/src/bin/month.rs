//! `month`: a month of random days on one repository, from the command line.
//!
//! The stories run a short one; `scripts/test --long` runs many, with rustic too; and a month that
//! went wrong is lived again by its seed.
//!
//! **Invariant:** the same seed, days and tools give the same operations.
//!
//! **Not here:** what happens on a day. That is `tests_stories::Month`.

use std::path::PathBuf;
use tests_stories::Month;

const USAGE: &str = "month [--seed N] [--days N] [--rounds N] [--rustic PROGRAM]";

fn main() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut seed = now.map_or(1, |since| since.as_secs());
    let (mut days, mut rounds, mut rustic) = (30, 1, None);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{USAGE}"));
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{USAGE}"));
        match flag.as_str() {
            "--seed" => seed = number(),
            "--days" => days = number(),
            "--rounds" => rounds = number(),
            "--rustic" => rustic = Some(PathBuf::from(&value)),
            _ => panic!("{USAGE}"),
        }
    }
    for round in 0..rounds {
        Month::new(seed + round, rustic.clone()).live(days);
    }
}
