//! Servers over one object store (moto, a stand-in for S3 written by others): they agree with the
//! publisher, none of them is needed, and what is damaged on the way is not served.

mod keeper;

use keeper::{Keeper, Serving};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The object store; it ends with the test.
struct Moto {
    child: Child,
    url: String,
}

impl Moto {
    fn start(keeper: &Keeper) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
        let program = keeper.runs(script.to_str().unwrap(), &["moto"]).well();
        let mut child = Command::new(program.trim())
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = said
            .by_ref()
            .find_map(|line| Some(line.unwrap().split_once("Running on ")?.1.trim().to_owned()))
            .expect("the store says where it listens");
        // It goes on writing, and must find somebody who reads.
        std::thread::spawn(move || said.for_each(drop));
        curl(keeper, &["-X", "PUT", &format!("{url}/bucket")]).expect("a bucket");
        Self { child, url }
    }

    fn place(&self) -> String {
        format!("s3:{}/bucket/depot", self.url)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn curl(keeper: &Keeper, words: &[&str]) -> Option<String> {
    let said = keeper.runs("curl", &[&["-sSf", "--noproxy", "*"], words].concat());
    (said.code == 0).then_some(said.out)
}

fn list(keeper: &Keeper, server: &Serving) -> String {
    let url = format!("{}/?arch=apollolake&major=7&build=72806", server.urls[0]);
    curl(keeper, &[&url]).unwrap_or_default()
}

/// Waits until the server offers that version.
fn offers(keeper: &Keeper, server: &Serving, version: &str) {
    let begun = Instant::now();
    while !list(keeper, server).contains(&format!("\"version\":\"{version}\"")) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", list(keeper, server));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn three_servers_over_one_store_agree_with_the_publisher_and_any_of_them_may_be_lost() {
    let keeper = Keeper::with_access_key();
    let store = Moto::start(&keeper);
    let place = store.place();
    keeper.publishes("hello", "1.0.0-1");
    assert_eq!(keeper.types(&["push", "--root", "depot", &place]).well(), "pushed\n");
    assert_eq!(keeper.types(&["push", "--root", "depot", &place]).well(), "already there\n");
    let copies = ["one", "two", "three"];
    let mut servers = copies.map(|copy| keeper.serves(&place, &["--copy", copy], 1));
    for server in &servers {
        offers(&keeper, server, "1.0.0-1");
    }
    // The publisher is a server too, and pushes by itself.
    let publisher = keeper.serves("depot", &["--push-to", &place], 1);
    keeper.publishes("hello", "1.0.0-2");
    for server in servers.iter().chain([&publisher]) {
        offers(&keeper, server, "1.0.0-2");
    }
    // A node is lost with its disk, and a new one takes its place.
    servers[0].process.kill().unwrap();
    std::fs::remove_dir_all(keeper.path("one")).unwrap();
    servers[0] = keeper.serves(&place, &["--copy", "one"], 1);
    offers(&keeper, &servers[0], "1.0.0-2");
    let file = format!("{}/packages/hello-1.0.0-2-dsm7-x86_64.spk", servers[0].urls[0]);
    curl(&keeper, &["-o", "fetched", &file]).expect("the package");
    let built = std::fs::read(keeper.path(&keeper.builds("hello", "1.0.0-2"))).unwrap();
    assert_eq!(std::fs::read(keeper.path("fetched")).unwrap(), built);
    // Nobody on a server's disk can sign.
    assert_eq!(std::fs::read_dir(keeper.path("one/keys")).unwrap().count(), 0);
    // The store is gone: what was there last is served on, and after a start, too.
    drop(publisher);
    drop(store);
    offers(&keeper, &servers[1], "1.0.0-2");
    servers[1].process.kill().unwrap();
    let again = keeper.serves(&place, &["--copy", "two"], 1);
    offers(&keeper, &again, "1.0.0-2");
}

#[test]
fn an_older_folder_undoes_nothing_and_a_damaged_object_is_not_served() {
    let keeper = Keeper::with_access_key();
    let store = Moto::start(&keeper);
    let place = store.place();
    keeper.publishes("hello", "1.0.0-1");
    keeper.runs("cp", &["-a", "depot", "old"]).well();
    keeper.publishes("hello", "1.0.0-2");
    keeper.types(&["push", "--root", "depot", &place]).well();
    let said = keeper.types(&["push", "--root", "old", &place]).with_a_remedy();
    assert!(said.contains("published in last"), "{said}");
    let files = std::fs::read_dir(keeper.path("depot/files")).unwrap();
    let file = files.flatten().next().unwrap().file_name().into_string().unwrap();
    let object = format!("{}/bucket/depot/files/{file}", store.url);
    std::fs::write(keeper.path("other"), b"other bytes").unwrap();
    // The store looks at no signature, but wants to hear whose object it is.
    let keeper_says = "Authorization: AWS4-HMAC-SHA256 Credential=keeper/20260101/us-east-1/s3/\
                       aws4_request, SignedHeaders=host, Signature=0";
    curl(&keeper, &["-H", keeper_says, "-T", "other", &object]).expect("the object");
    let serve = ["serve", "--root", &place, "--copy", "one", "--listen", "127.0.0.1:0"];
    let said = keeper.types(&serve).with_a_remedy();
    assert!(said.contains("has other bytes"), "{said}");
    let nothing = format!("s3:{}/bucket/empty", store.url);
    let serve = ["serve", "--root", &nothing, "--copy", "two", "--listen", "127.0.0.1:0"];
    assert!(keeper.types(&serve).with_a_remedy().contains("no depot"));
}
