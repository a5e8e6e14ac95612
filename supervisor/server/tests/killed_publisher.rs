//! A publisher is killed before each single call that changes the disk, and so also after the one
//! before it; boxes that ask all the while see the old shelves until `current` is renamed, and the
//! new ones from then on.

mod keeper;

use keeper::{Keeper, Serving};
use serde_json::Value;
use std::path::Path;

/// The calls a publication changes the disk with, by the names of any processor.
const CALLS: &str = "?rename,?renameat,?renameat2,?link,?linkat,?symlink,?symlinkat,?mkdir,\
                     ?mkdirat,?unlink,?unlinkat,?rmdir,fsync";

/// The steps that have names, in their order: what a call does, to what.
const NAMED: [(&str, &str, &str); 9] = [
    ("the package is synced beside the others", "fsync", ""),
    ("an icon gets its name", "rename", "icons/.new-"),
    ("the package gets its name", "rename", "files/.new-0"),
    ("the new tree gets its folder", "mkdir", "trees/3\""),
    ("what did not change is linked into it", "link", "trees/2/metadata/1.root.json"),
    ("what changed is synced in it", "fsync", ""),
    ("the new link is made", "symlink", ".new-current"),
    ("the new tree comes into force", "rename", "/.new-current"),
    ("the tree before the last goes", "unlink", ""),
];

/// A call of the publication.
struct Step {
    call: String,
    /// It is the publication's so many-th of that kind, beginning with 1.
    number: usize,
    line: String,
}

impl Step {
    fn is(&self, call: &str, path: &str) -> bool {
        // `renameat2` is a rename, `rmdir` beside `unlinkat` only ends a folder.
        self.call.starts_with(call) && self.line.contains(path)
    }
}

/// What a publisher that nobody disturbs does, call by call.
fn steps(trace: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in trace.lines().filter(|line| !line.ends_with("+++") && !line.contains(" --- ")) {
        let line = line.split_once(' ').map_or(line, |(_, line)| line.trim_start());
        let Some((call, _)) = line.split_once('(') else { continue };
        let number = 1 + steps.iter().filter(|step| step.call == call).count();
        steps.push(Step { call: call.to_owned(), number, line: line.to_owned() });
    }
    steps
}

/// A depot that can be put back to how it was.
struct Stand {
    keeper: Keeper,
    new: String,
}

impl Stand {
    fn new() -> Self {
        let keeper = Keeper::new();
        keeper.publishes("hello", "1.0.0-1");
        std::fs::copy(keeper.path("hello-x86_64-dsm7-1.0.0-1.spk"), keeper.path("old.spk"))
            .unwrap();
        let trust = keeper.types(&["keys", "export", "--root", "depot"]).well();
        std::fs::write(keeper.path("depot.pub"), trust).unwrap();
        keeper.runs("mv", &["depot", "pristine"]).well();
        // As if the new version had other icons, so that a publication brings them, too.
        keeper.runs("sh", &["-c", "rm pristine/icons/*"]).well();
        let new = keeper.builds_with("hello", "1.0.0-2", b"another file");
        Self { keeper, new }
    }

    fn put_back(&self) {
        self.keeper.runs("rm", &["-rf", "depot"]).well();
        self.keeper.runs("cp", &["-a", "pristine", "depot"]).well();
    }

    /// Publishes under `strace`; whether it came through.
    fn publishes(&self, inject: Option<&Step>) -> bool {
        let expressions = match inject {
            None => vec![format!("trace={CALLS}")],
            Some(Step { call, number, .. }) => {
                vec![format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}")]
            }
        };
        let mut words = vec!["-f", "-qq", "-s", "300", "-o", "trace"];
        words.extend(expressions.iter().flat_map(|expression| ["-e", expression]));
        words.extend([env!("CARGO_BIN_EXE_holdfast-depot"), "publish", "--root", "depot"]);
        words.push(&self.new);
        self.keeper.runs("strace", &words).code == 0
    }

    /// What a box is offered: the version; the bytes it would install are those of that version.
    fn offered(&self, serving: &Serving, when: &str) -> String {
        let curl = |words: &[&str]| {
            self.keeper.runs("curl", &[&["-sSf", "--noproxy", "*"], words].concat()).well()
        };
        let list = curl(&[&format!("{}/?arch=avoton&major=7&build=72806", serving.urls[0])]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let row = &list["packages"][0];
        curl(&["-o", "fetched", row["link"].as_str().unwrap()]);
        let read = |name: &str| std::fs::read(self.keeper.path(name)).unwrap();
        let version = row["version"].as_str().unwrap();
        let file = if version == "1.0.0-1" { "old.spk" } else { &self.new };
        assert!(read("fetched") == read(file), "{when}: other bytes than those of {version}");
        assert_eq!(row["size"], read(file).len(), "{when}");
        let ring = self.keeper.path("depot.pub");
        let asks = ["keys", "canary", "--url", &serving.urls[0], "--days", "0", "--root-key"];
        let canary = self.keeper.types(&[&asks[..], &[ring.to_str().unwrap()]].concat());
        assert_eq!(canary.code, 0, "{when}: {canary:?}");
        version.to_owned()
    }
}

#[test]
fn a_publisher_killed_before_or_after_any_step_leaves_the_old_shelves_or_the_new() {
    let stand = Stand::new();
    stand.put_back();
    assert!(stand.publishes(None));
    let trace = std::fs::read_to_string(stand.keeper.path("trace")).unwrap();
    let steps = steps(&trace);
    let mut from = 0;
    for (name, call, path) in NAMED {
        let at = steps[from..].iter().position(|step| step.is(call, path));
        from += 1 + at.unwrap_or_else(|| panic!("{name}: not among the steps:\n{trace}"));
    }
    let switch = steps.iter().position(|step| step.is("rename", "/.new-current")).unwrap();
    let (mut old, mut new) = (0, 0);
    for (at, step) in steps.iter().enumerate() {
        let when = format!("killed before step {at} of {}, {}", steps.len(), step.line);
        stand.put_back();
        let serving = stand.keeper.serves("depot", &[], 1);
        assert!(!stand.publishes(Some(step)), "{when}: it came through");
        let expected = if at <= switch { "1.0.0-1" } else { "1.0.0-2" };
        assert_eq!(stand.offered(&serving, &when), expected, "{when}");
        *(if at <= switch { &mut old } else { &mut new }) += 1;
        // Who comes after it is hindered by nothing, and leaves nothing behind.
        stand.keeper.types(&["publish", "--root", "depot", &stand.new]).well();
        assert_eq!(stand.offered(&serving, &when), "1.0.0-2", "{when}");
        assert_eq!(left_behind(&stand.keeper.path("depot")), [""; 0], "{when}");
    }
    assert!(old > 10 && new > 1, "{old} before the switch and {new} after it:\n{trace}");
}

/// Names that nobody reads, in a depot.
fn left_behind(depot: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["", "files", "icons"] {
        for entry in std::fs::read_dir(depot.join(folder)).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    names.retain(|name| name.starts_with(".new-"));
    names
}
