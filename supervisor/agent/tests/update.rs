//! `depot …` and `update check`: a real depot on loopback, believed, doubted and caught going back.

mod world;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use world::{GOOD, Nas};

fn depot(arguments: &[&str], root: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-supervisor"))
        .arg("depot")
        .args(arguments)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A depot that is served until it is dropped.
struct Served {
    process: Child,
    url: String,
}

impl Served {
    fn from(root: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_holdfast-supervisor"))
            .args(["depot", "serve", "--listen", "127.0.0.1:0", "--root"])
            .arg(root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect(&line).to_owned();
        Self { process, url }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Town {
    nas: Nas,
    depot: PathBuf,
}

impl Town {
    fn with_an_empty_depot() -> Self {
        let nas = Nas::with(GOOD);
        let depot_root = nas.path("depot");
        depot(&["init"], &depot_root);
        Self { nas, depot: depot_root }
    }

    fn trusts(&self, depot_root: &Path) {
        let root = depot(&["keys", "export"], depot_root);
        std::fs::write(self.nas.target().join("conf/depot.pub"), root).unwrap();
    }

    fn check(&self, url: &str) -> String {
        let answer = self.nas.run(&["update", "check", "--depot", url]);
        // Nothing is on these shelves, so even a depot that is believed has nothing to offer.
        assert_eq!(answer.code, 1, "{}", answer.said);
        answer.said
    }
}

#[test]
fn an_honest_depot_is_believed_and_another_ones_key_is_not() {
    let town = Town::with_an_empty_depot();
    let served = Served::from(&town.depot);
    let other = town.nas.path("other");
    depot(&["init"], &other);
    town.trusts(&other);
    let said = town.check(&served.url);
    assert!(said.contains("the depot is not believed"), "{said}");
    assert!(!town.nas.var().join("trust/timestamp.json").exists());
    town.trusts(&town.depot);
    let said = town.check(&served.url);
    assert!(said.contains("sleepy"), "{said}");
    assert!(town.nas.var().join("trust/timestamp.json").exists());
}

#[test]
fn a_depot_that_goes_back_to_something_older_is_caught() {
    let town = Town::with_an_empty_depot();
    town.trusts(&town.depot);
    let old = town.nas.path("old");
    let copied = Command::new("cp").arg("-a").args([&town.depot, &old]).status().unwrap();
    assert!(copied.success());
    depot(&["renew"], &town.depot);
    let served = Served::from(&town.depot);
    town.check(&served.url);
    let kept = std::fs::read(town.nas.var().join("trust/timestamp.json")).unwrap();
    let went_back = Served::from(&old);
    let said = town.check(&went_back.url);
    assert!(said.contains("the depot is not believed"), "{said}");
    let still = std::fs::read(town.nas.var().join("trust/timestamp.json")).unwrap();
    assert_eq!(kept, still);
}

#[test]
fn no_depot_no_root_and_no_answer_are_three_different_sentences() {
    let town = Town::with_an_empty_depot();
    let answer = town.nas.run(&["update", "check"]);
    assert_eq!(answer.code, 2);
    assert!(answer.said.contains("name it: update check --depot"), "{}", answer.said);
    let said = town.check("http://127.0.0.1:9");
    assert!(said.contains("root of trust") && said.contains("--root-key"), "{said}");
    town.trusts(&town.depot);
    let said = town.check("http://127.0.0.1:9");
    assert!(said.contains("cannot fetch http://127.0.0.1:9/metadata/"), "{said}");
}
