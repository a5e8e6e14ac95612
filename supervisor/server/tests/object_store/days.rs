//! Days of servers over one object store, whichever store it is.

use crate::keeper::{Keeper, Said, Serving};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What does not come about by then never will.
const WAIT_SECONDS_MAX: u64 = 120;

pub fn curl(keeper: &Keeper, words: &[&str]) -> Option<String> {
    let said = keeper.runs("curl", &[&["-sSf", "--noproxy", "*"], words].concat());
    (said.code == 0).then_some(said.out)
}

fn list(keeper: &Keeper, server: &Serving) -> String {
    let url = format!("{}/?arch=apollolake&major=7&build=72806", server.urls[0]);
    curl(keeper, &[&url]).unwrap_or_default()
}

fn wait_for(what: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let begun = Instant::now();
    while !what() {
        let is_late = begun.elapsed() > Duration::from_secs(WAIT_SECONDS_MAX);
        assert!(!is_late, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the server offers that version of a package.
pub fn offers(keeper: &Keeper, server: &Serving, package: &str, version: &str) {
    let row = format!("/packages/{package}-{version}-dsm7-");
    wait_for(|| list(keeper, server).contains(&row), || list(keeper, server));
}

/// Waits until the server offers nothing of that package.
pub fn withdrew(keeper: &Keeper, server: &Serving, package: &str) {
    let row = format!("\"package\":\"{package}\"");
    let is_gone = || {
        let list = list(keeper, server);
        list.contains("packages") && !list.contains(&row)
    };
    wait_for(is_gone, || list(keeper, server));
}

/// Waits until the server knows the token in the keeper's file.
fn knows_the_token(keeper: &Keeper, server: &Serving) {
    let token = std::fs::read_to_string(keeper.path("token")).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let url = format!("{}/publish/{}", server.urls[0], "0".repeat(64));
    let is_known = || curl(keeper, &["-I", "-H", &bearer, &url]).is_some();
    wait_for(is_known, || "the server does not know the token".to_owned());
}

/// The flags that name a depot in a store, and its keys.
pub fn at(place: &str) -> [&str; 4] {
    ["--root", place, "--keys", "keys"]
}

/// Makes a depot in the store with a token for everything in the file `token`.
pub fn open(keeper: &Keeper, place: &str) {
    keeper.types(&[&["init"], &at(place)[..]].concat()).well();
    let again = keeper.types(&[&["init"], &at(place)[..]].concat()).with_a_remedy();
    assert!(again.contains("already"), "{again}");
    let add = [&["token", "add"], &at(place)[..], &["anna", "--package", "*"]].concat();
    std::fs::write(keeper.path("token"), keeper.types(&add).well()).unwrap();
}

/// A server that publishes, too.
pub fn serves(keeper: &Keeper, place: &str, copy: &str) -> Serving {
    keeper.serves(place, &["--copy", copy, "--keys", "keys"], 1)
}

/// Commands that run at one time; what each said.
fn at_once<const N: usize>(commands: [Command; N]) -> [Said; N] {
    let running = commands
        .map(|mut command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    running.map(|child| Said::from(child.wait_with_output().unwrap()))
}

/// Three servers over one store are published on at one moment, lose one, and agree.
pub fn three_servers_agree(keeper: &Keeper, place: &str) {
    open(keeper, place);
    let copies = ["one", "two", "three"];
    let mut servers = copies.map(|copy| serves(keeper, place, copy));
    for server in &servers {
        knows_the_token(keeper, server);
    }
    // On each, and by command beside them, at one moment.
    let packages = ["hello", "notes", "music"];
    let files = packages.map(|name| keeper.builds(name, "1.0.0-1"));
    let photos = keeper.builds("photos", "1.0.0-1");
    let far = |at: usize| {
        let to = ["publish", "--to", &servers[at].urls[0], "--token-file", "token", &files[at]];
        keeper.command(&to)
    };
    let near = keeper.command(&[&["publish"], &at(place)[..], &[&photos]].concat());
    for said in at_once([far(0), far(1), far(2), near]) {
        assert!(said.well().starts_with("published "));
    }
    for server in &servers {
        for package in packages.iter().chain(&["photos"]) {
            offers(keeper, server, package, "1.0.0-1");
        }
    }
    // A node is lost with its disk, and the others go on.
    servers[0].process.kill().unwrap();
    servers[0].process.wait().unwrap();
    std::fs::remove_dir_all(keeper.path("one")).unwrap();
    let newer = keeper.builds("hello", "1.0.0-2");
    let to = ["publish", "--to", &servers[1].urls[0], "--token-file", "token", &newer];
    assert!(keeper.types(&to).well().starts_with("published hello 1.0.0-2"));
    assert!(keeper.types(&to).well().starts_with("already there: hello 1.0.0-2"));
    keeper.types(&[&["withdraw"], &at(place)[..], &["music", "1.0.0-1"]].concat()).well();
    // A new one has its settings alone.
    servers[0] = serves(keeper, place, "one");
    for server in &servers {
        offers(keeper, server, "hello", "1.0.0-2");
        withdrew(keeper, server, "music");
        its_clients_believe(keeper, server);
    }
    let file = format!("{}/packages/hello-1.0.0-2-dsm7-x86_64.spk", servers[0].urls[0]);
    curl(keeper, &["-o", "fetched", &file]).expect("the package");
    let built = std::fs::read(keeper.path(&newer)).unwrap();
    assert_eq!(std::fs::read(keeper.path("fetched")).unwrap(), built);
    let listed = keeper.types(&[&["list"], &at(place)[..]].concat()).well();
    assert_eq!(listed.lines().count(), 4, "{listed}");
}

/// A client that was given the first root believes what the server says, to the last hash.
fn its_clients_believe(keeper: &Keeper, server: &Serving) {
    let url = &server.urls[0];
    curl(keeper, &["-o", "depot.pub", &format!("{url}/metadata/1.root.json")]).expect("a root");
    let canary = ["keys", "canary", "--url", url, "--root-key", "depot.pub", "--days", "0"];
    keeper.types(&canary).well();
}
