//! python-tuf's client follows our depot through everything that can happen to its keys.

use crate::keeper::{Keeper, Server, python, run};
use std::path::Path;

/// A client that was given the depot's first root, and what it keeps.
struct Client<'a> {
    keeper: &'a Keeper,
    python: String,
    folder: &'static str,
}

impl<'a> Client<'a> {
    fn of(keeper: &'a Keeper, folder: &'static str) -> Self {
        std::fs::create_dir(keeper.path(folder)).unwrap();
        Self { keeper, python: python(), folder }
    }

    /// What it says on that day.
    fn says(&self, server: &Server, days: i64) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coming_days/refresh.py");
        let (folder, first) = (self.keeper.text(self.folder), self.keeper.text("depot.pub"));
        let arguments = [script.to_str().unwrap(), &folder, &server.url, &first];
        run(days, &self.python, &arguments).said.trim().to_owned()
    }

    #[track_caller]
    fn believes_root(&self, server: &Server, days: i64, version: u32) {
        let said = self.says(server, days);
        assert!(said.starts_with(&format!("root {version} ")), "{said}");
    }
}

#[test]
fn python_tuf_updates_through_rotation_lost_keys_the_spare_root_and_expiry() {
    let keeper = Keeper::who_began(0);
    let server = keeper.serves();
    let client = Client::of(&keeper, "kept");
    client.believes_root(&server, 0, 1);
    keeper.keeps_the_root_in_a_safe();
    client.believes_root(&server, 0, 2);
    // Each online key is lost, and replaced without it.
    for (role, version) in [("timestamp", 3), ("snapshot", 4), ("targets", 5)] {
        keeper.loses(&format!("{role}.key"));
        keeper.keys_with_safe(0, &["rotate", role]);
        client.believes_root(&server, 0, version);
    }
    // One of three root keys is lost.
    let safe = keeper.text("safe");
    let text = std::fs::read_to_string(keeper.path("safe/root.key")).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("keyid=")).unwrap();
    std::fs::remove_file(keeper.path("safe/root.key")).unwrap();
    keeper.keys_with_safe(0, &["rotate", "root", "--keyid", id, "--keys-to", &safe]);
    client.believes_root(&server, 0, 6);
    // All are lost, but the spare root was signed before.
    let spare = keeper.text("spare");
    std::fs::create_dir(&spare).unwrap();
    keeper.keys_with_safe(0, &["spare", "--keys-to", &spare]);
    std::fs::remove_dir_all(&safe).unwrap();
    assert_eq!(keeper.keys(0, &["spare", "--publish"]).code, 0);
    client.believes_root(&server, 0, 7);
    assert_eq!(keeper.keys(0, &["plan"]).code, 0);
    // Its keys go on from there.
    std::fs::rename(&spare, &safe).unwrap();
    keeper.keys_with_safe(0, &["rotate", "root", "--keys-to", &safe]);
    client.believes_root(&server, 0, 8);
    // Who slept through all of it follows the whole chain, and so does who sleeps some days more.
    let late = Client::of(&keeper, "late");
    late.believes_root(&server, 20, 8);
    // Nobody renews it: refused. Then somebody does: believed again.
    assert_eq!(client.says(&server, 22), "ExpiredMetadataError");
    assert_eq!(keeper.keys(22, &["renew"]).code, 0);
    client.believes_root(&server, 22, 8);
}

#[test]
fn python_tuf_does_not_follow_a_root_that_one_thief_signed() {
    let keeper = Keeper::who_began(0);
    keeper.keeps_the_root_in_a_safe();
    let stolen = keeper.text("safe/root.key");
    let answer = keeper.keys(0, &["rotate", "root", "--key", &stolen]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("2 root keys must sign, and 1 of them"), "{}", answer.said);
    let client = Client::of(&keeper, "kept");
    client.believes_root(&keeper.serves(), 0, 2);
}
