//! Servers over one object store (moto, a stand-in for S3 written by others): they agree, none of
//! them is needed, and what is damaged on the way is not served.

mod days;
#[path = "../keeper/mod.rs"]
mod keeper;
mod line;
mod upkeep;

use days::{at, curl, offers, three_servers_agree};
use keeper::Keeper;
use line::{Happens, Line};
use std::process::Stdio;
use std::time::Duration;
use tests_support::stores::{Access, Moto};

/// The store looks at no signature, but wants to hear whose object it is.
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=keeper/20260101/us-east-1/s3/\
                      aws4_request, SignedHeaders=host, Signature=0";

fn keeper() -> Keeper {
    let word = || "keeper".to_owned();
    Keeper::with_access(Access { id: word(), secret: word(), region: "us-east-1".to_owned() })
}

fn place(url: &str) -> String {
    format!("s3:{url}/bucket/depot")
}

#[test]
fn three_servers_are_published_on_at_one_moment_and_lose_nothing() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    three_servers_agree(&keeper, &place(&store.url));
    // Nobody who reads the bucket can sign, or publish.
    let url = format!("{}/bucket?list-type=2", store.url);
    let listed = curl(&keeper, &["-H", SIGNED, &url]).unwrap();
    let names = listed.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap());
    let names: Vec<_> = names.collect();
    assert!(names.len() > 10, "{listed}");
    let token = std::fs::read_to_string(keeper.path("token")).unwrap();
    for name in names {
        let object = format!("{}/bucket/{name}", store.url);
        curl(&keeper, &["-H", SIGNED, "-o", "object", &object]).unwrap();
        let bytes = std::fs::read(keeper.path("object")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("secret=") && !text.contains(token.trim()), "{name}");
    }
}

#[test]
fn publishers_take_turns_where_the_store_takes_no_notice_of_conditions() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let line = Line::to(store.address(), Happens::ForgetsConditions);
    three_servers_agree(&keeper, &place(&line.url));
}

#[test]
fn a_publisher_killed_after_any_write_leaves_the_old_list_or_the_new() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place_of = |url: &str| place(url);
    let direct = place_of(&store.url);
    days::open(&keeper, &direct);
    let publish =
        |place: &str, file: &str| keeper.command(&[&["publish"], &at(place)[..], &[file]].concat());
    let mut last = "none".to_owned();
    for writes in 0.. {
        let version = format!("1.0.0-{}", writes + 1);
        let file = keeper.builds("hello", &version);
        let line = Line::to(store.address(), Happens::IsCutAfter(writes));
        let mut command = publish(&place_of(&line.url), &file);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let is_through = loop {
            if line.cut.recv_timeout(Duration::from_millis(20)).is_ok() {
                child.kill().unwrap();
                child.wait().unwrap();
                break false;
            }
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break true;
            }
        };
        let listed = keeper.types(&[&["list"], &at(&direct)[..]].concat()).well();
        let newest = listed.lines().last().unwrap_or("hello none").split(' ').nth(1).unwrap();
        assert!(newest == version || (newest == last && !is_through), "{writes}: {listed}");
        let said = keeper.types(&[&["publish"], &at(&direct)[..], &[&file]].concat()).well();
        let word = if newest == version { "already there" } else { "published" };
        assert!(said.starts_with(word), "{writes}: {said}");
        last = version;
        if is_through {
            // Icons, the package, what it is tried on, four lists and what names them.
            assert!(writes > 6, "{writes}");
            break;
        }
    }
}

#[test]
fn what_somebody_else_wrote_into_the_bucket_is_signed_by_nobody() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place = place(&store.url);
    days::open(&keeper, &place);
    let current = format!("{}/bucket/depot/current", store.url);
    let text = curl(&keeper, &["-H", SIGNED, &current]).unwrap();
    let forged = text.replacen("\"revision\":", "\"revision\":1", 1);
    assert_ne!(text, forged);
    std::fs::write(keeper.path("forged"), forged).unwrap();
    curl(&keeper, &["-H", SIGNED, "-T", "forged", &current]).expect("the object");
    let hello = keeper.builds("hello", "1.0.0-1");
    let said = keeper.types(&[&["publish"], &at(&place)[..], &[&hello]].concat()).with_a_remedy();
    assert!(said.contains("signed by none of the keys"), "{said}");
    let serve = ["serve", "--copy", "one", "--listen", "127.0.0.1:0"];
    let said = keeper.types(&[&serve, &at(&place)[..]].concat()).with_a_remedy();
    assert!(said.contains("signed by none of the keys"), "{said}");
}

#[test]
fn three_servers_over_one_store_agree_with_the_publisher_and_any_of_them_may_be_lost() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place = place(&store.url);
    keeper.publishes("hello", "1.0.0-1");
    assert_eq!(keeper.types(&["push", "--root", "depot", &place]).well(), "pushed\n");
    assert_eq!(keeper.types(&["push", "--root", "depot", &place]).well(), "already there\n");
    let copies = ["one", "two", "three"];
    let mut servers = copies.map(|copy| keeper.serves(&place, &["--copy", copy], 1));
    for server in &servers {
        offers(&keeper, server, "hello", "1.0.0-1");
    }
    // The publisher is a server too, and pushes by itself.
    let publisher = keeper.serves("depot", &["--push-to", &place], 1);
    keeper.publishes("hello", "1.0.0-2");
    for server in servers.iter().chain([&publisher]) {
        offers(&keeper, server, "hello", "1.0.0-2");
    }
    // A node is lost with its disk, and a new one takes its place.
    servers[0].process.kill().unwrap();
    std::fs::remove_dir_all(keeper.path("one")).unwrap();
    servers[0] = keeper.serves(&place, &["--copy", "one"], 1);
    offers(&keeper, &servers[0], "hello", "1.0.0-2");
    let file = format!("{}/packages/hello-1.0.0-2-dsm7-x86_64.spk", servers[0].urls[0]);
    curl(&keeper, &["-o", "fetched", &file]).expect("the package");
    let built = std::fs::read(keeper.path(&keeper.builds("hello", "1.0.0-2"))).unwrap();
    assert_eq!(std::fs::read(keeper.path("fetched")).unwrap(), built);
    // Nobody on a server's disk can sign.
    assert_eq!(std::fs::read_dir(keeper.path("one/keys")).unwrap().count(), 0);
    // The store is gone: what was there last is served on, and after a start, too.
    drop(publisher);
    drop(store);
    offers(&keeper, &servers[1], "hello", "1.0.0-2");
    servers[1].process.kill().unwrap();
    let again = keeper.serves(&place, &["--copy", "two"], 1);
    offers(&keeper, &again, "hello", "1.0.0-2");
}

#[test]
fn an_older_folder_undoes_nothing_and_a_damaged_object_is_not_served() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place = place(&store.url);
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
    curl(&keeper, &["-H", SIGNED, "-T", "other", &object]).expect("the object");
    let serve = ["serve", "--root", &place, "--copy", "one", "--listen", "127.0.0.1:0"];
    let said = keeper.types(&serve).with_a_remedy();
    assert!(said.contains("has other bytes"), "{said}");
    let nothing = format!("s3:{}/bucket/empty", store.url);
    let serve = ["serve", "--root", &nothing, "--copy", "two", "--listen", "127.0.0.1:0"];
    assert!(keeper.types(&serve).with_a_remedy().contains("no depot"));
}
