//! The upkeep of a depot in a store: keys, mirrors, what leaves it, whom a publisher waits for, and
//! uploads through a proxy.

use crate::days::{at, curl, offers, open, serves, withdrew};
use crate::keeper::{Keeper, Said, sha256};
use crate::line::{Happens, Line};
use crate::{SIGNED, keeper, place};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tests_support::stores::Moto;

/// What does not come about by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

fn types(keeper: &Keeper, words: &[&str], place: &str, more: &[&str]) -> Said {
    keeper.types(&[words, &at(place), more].concat())
}

/// A command typed so many days from now; its process is named in the file `pid`. The process that
/// was started only waits for that one, and clears away what it used: it must not be killed.
fn later(keeper: &Keeper, days: u32, words: &[&str]) -> Command {
    let typed = keeper.command(words);
    let mut command = Command::new("faketime");
    let names_itself = "echo $$ >pid.new && mv pid.new pid && exec \"$@\"";
    command.args(["-f", &format!("+{days}d"), "sh", "-c", names_itself, "sh"]);
    command.arg(typed.get_program()).args(typed.get_args());
    for (name, value) in typed.get_envs() {
        value.map(|value| command.env(name, value));
    }
    command.current_dir(keeper.path(""));
    command
}

/// The objects of a depot whose names begin so.
fn objects(keeper: &Keeper, store: &Moto, begin: &str) -> Vec<String> {
    let url = format!("{}/bucket?list-type=2&prefix=depot/{begin}", store.url);
    let listed = curl(keeper, &["-H", SIGNED, &url]).unwrap();
    let names = listed.split("<Key>depot/").skip(1);
    names.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

#[test]
fn keys_are_rotated_in_a_store_and_a_client_with_the_first_root_follows() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place = place(&store.url);
    open(&keeper, &place);
    let first = types(&keeper, &["keys", "export"], &place, &[]).well();
    std::fs::write(keeper.path("depot.pub"), first).unwrap();
    keeper.runs("sh", &["-c", "mkdir safe spare && mv keys/root.key safe/first.key"]).well();
    let refused = types(&keeper, &["keys", "rotate", "timestamp"], &place, &[]).with_a_remedy();
    assert!(refused.contains("root key"), "{refused}");

    let first_key = ["--key", "safe/first.key", "--keys-to", "safe"];
    let two = ["--count", "2", "--threshold", "2"];
    let add = ["keys", "add", "root"];
    types(&keeper, &add, &place, &[&two[..], &first_key].concat()).well();
    let listed = keeper.runs("sh", &["-c", "printf '%s\n' safe/*.key"]).well();
    let safe: Vec<&str> = listed.lines().flat_map(|key| ["--key", key]).collect();
    assert_eq!(safe.len(), 6, "{listed}");
    let said = types(&keeper, &["keys", "rotate", "timestamp"], &place, &safe).well();
    assert!(said.contains("keys/timestamp-") && said.contains("each server"), "{said}");
    let shown = types(&keeper, &["keys", "show"], &place, &[]).well();
    assert!(shown.contains("version 3") && shown.contains("2 of 3 must sign"), "{shown}");
    let laid_by = [&safe[..], &["--keys-to", "spare"]].concat();
    types(&keeper, &["keys", "spare"], &place, &laid_by).well();
    types(&keeper, &["keys", "renew"], &place, &[]).well();
    types(&keeper, &["keys", "plan"], &place, &[]).well();

    // All is in the store, nothing only here: another machine has the keys alone.
    std::fs::remove_dir_all(keeper.path("keys/work")).unwrap();
    let said = types(&keeper, &["keys", "spare", "--publish"], &place, &[]).well();
    assert!(said.contains("root 4, the spare one"), "{said}");
    let server = serves(&keeper, &place, "one");
    let hello = keeper.builds("hello", "1.0.0-1");
    types(&keeper, &["publish"], &place, &[&hello]).well();
    offers(&keeper, &server, "hello", "1.0.0-1");
    let asks = ["keys", "canary", "--root-key", "depot.pub", "--days", "0", "--url"];
    keeper.types(&[&asks[..], &[&server.urls[0]]].concat()).well();
}

#[test]
fn another_depot_and_a_source_that_signs_nothing_are_mirrored_into_a_store() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place = place(&store.url);
    open(&keeper, &place);
    for name in ["hello", "notes"] {
        keeper.publishes(name, "1.0.0-1");
    }
    let trust = keeper.types(&["keys", "export", "--root", "depot"]).well();
    std::fs::write(keeper.path("theirs.pub"), trust).unwrap();
    let theirs = keeper.serves("depot", &[], 1);
    let url = theirs.urls[0].as_str();
    let followed = [url, "--trust", "theirs.pub", "--package", "hello"];
    let said = types(&keeper, &["mirror"], &place, &followed).well();
    assert!(said.starts_with("published hello 1.0.0-1"), "{said}");
    assert_eq!(types(&keeper, &["mirror"], &place, &followed).well(), "");
    let hash = sha256(&keeper, &keeper.path("notes-x86_64-dsm7-1.0.0-1.spk"));
    let pin = |hash: &str| format!("notes={hash}");
    let asks = |pin: &str| {
        let asked_as = ["--platform", "apollolake", "--build", "72806", "--pin", pin];
        types(&keeper, &["mirror"], &place, &[&[url][..], &asked_as].concat())
    };
    let refused = asks(&pin(&"0".repeat(64))).with_a_remedy();
    assert!(refused.contains("is pinned"), "{refused}");
    assert!(asks(&pin(&hash)).well().starts_with("published notes 1.0.0-1"));
    let listed = types(&keeper, &["list"], &place, &[]).well();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let left = keeper.runs("sh", &["-c", "find keys -name '.new-*'"]).well();
    assert_eq!(left, "", "copies that were not cleared away");
}

#[test]
fn what_was_withdrawn_leaves_the_store_after_a_month_whenever_its_keeper_is_killed() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place_of = |url: &str| place(url);
    let direct = place_of(&store.url);
    open(&keeper, &direct);
    let hello = keeper.builds("hello", "1.0.0-1");
    let notes = keeper.builds("notes", "1.0.0-1");
    types(&keeper, &["publish"], &direct, &[&hello, &notes]).well();
    types(&keeper, &["withdraw"], &direct, &["hello", "1.0.0-1"]).well();
    let file = |name: &str| format!("files/{}.spk", sha256(&keeper, &keeper.path(name)));
    let (gone, stays) = (file(&hello), file(&notes));
    // Somebody was killed before he named this.
    let orphan = format!("{}/bucket/depot/files/{}.spk", store.url, "0".repeat(64));
    curl(&keeper, &["-H", SIGNED, "-T", &hello, &orphan]).unwrap();
    types(&keeper, &["renew"], &direct, &[]).well();
    let renew = |place: &str, days| later(&keeper, days, &[&["renew"], &at(place)[..]].concat());
    Said::from(renew(&direct, 29).output().unwrap()).well();
    assert_eq!(objects(&keeper, &store, "files/").len(), 3);

    for writes in 0.. {
        let line = Line::to(store.address(), Happens::IsCutAfter(writes));
        let mut child = renew(&place_of(&line.url), 31).stderr(Stdio::null()).spawn().unwrap();
        let is_through = loop {
            if line.cut.recv_timeout(Duration::from_millis(20)).is_ok() {
                let process = std::fs::read_to_string(keeper.path("pid")).unwrap();
                keeper.runs("kill", &["-KILL", process.trim()]).well();
                child.wait().unwrap();
                break false;
            }
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break true;
            }
        };
        assert!(objects(&keeper, &store, "files/").contains(&stays), "{writes}");
        let listed = types(&keeper, &["list"], &direct, &[]).well();
        assert!(listed.starts_with("notes 1.0.0-1"), "{writes}: {listed}");
        if is_through {
            // Two lists and what names them, three tries, and then what notes the deletion.
            assert!(writes > 5, "{writes}");
            break;
        }
    }
    assert_eq!(objects(&keeper, &store, "files/"), [stays.as_str()]);
    let server = serves(&keeper, &direct, "one");
    offers(&keeper, &server, "notes", "1.0.0-1");
    withdrew(&keeper, &server, "hello");

    // It is published again: not while its deletion may be on its way, but then.
    let publish = |days| {
        let words = [&["publish"], &at(&direct)[..], &[&hello]].concat();
        Said::from(later(&keeper, days, &words).output().unwrap())
    };
    let said = publish(31).with_a_remedy();
    assert!(said.contains("just deleted") && said.contains("minutes"), "{said}");
    assert!(publish(32).well().starts_with("published hello"));
    let files = objects(&keeper, &store, "files/");
    assert!(files.contains(&gone) && files.contains(&stays), "{files:?}");
    offers(&keeper, &server, "hello", "1.0.0-1");
}

#[test]
fn a_publisher_that_waits_for_another_is_told_for_whom_and_published_in_the_end() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let line = Line::to(store.address(), Happens::ForgetsConditions);
    let place = place(&line.url);
    open(&keeper, &place);
    let server = serves(&keeper, &place, "one");
    let hello = keeper.builds("hello", "1.0.0-1");
    let url = server.urls[0].as_str();
    let words = ["publish", "--to", url, "--token-file", "token", &hello];
    let mut publisher = keeper.command(&words);
    let publisher = publisher.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (told, is_told) = channel();
    let done = std::thread::scope(|scope| {
        let (keeper, store) = (&keeper, &store);
        let claimed = Claims::of(keeper, store, 0);
        let mut publisher = publisher.spawn().unwrap();
        let said = BufReader::new(publisher.stderr.take().unwrap()).lines();
        scope.spawn(move || {
            for line in said.map(|line| line.unwrap()).filter(|line| line.contains("nas1")) {
                let _ = told.send(line);
            }
        });
        // The server answers before the line goes quiet, again and again.
        let told = claimed.until(&is_told);
        assert!(told.contains("not published yet") && told.contains("process 7"), "{told}");
        assert!(told.contains("its turn is over in"), "{told}");
        Said::from(publisher.wait_with_output().unwrap()).well()
    });
    assert!(done.starts_with("published hello 1.0.0-1"), "{done}");
    offers(&keeper, &server, "hello", "1.0.0-1");
}

/// The claim of somebody whose turn it is and who does nothing.
struct Claims<'a> {
    keeper: &'a Keeper,
    store: &'a Moto,
    number: usize,
}

impl<'a> Claims<'a> {
    /// Puts it, under a name lower than any that a publisher takes.
    fn of(keeper: &'a Keeper, store: &'a Moto, number: usize) -> Self {
        std::fs::write(keeper.path("claim"), "nas1 (process 7)").unwrap();
        let claims = Self { keeper, store, number };
        curl(keeper, &["-H", SIGNED, "-T", "claim", &claims.url()]).unwrap();
        claims
    }

    fn url(&self) -> String {
        format!("{}/bucket/depot/claims/-{}", self.store.url, self.number)
    }

    /// Claims anew every ten seconds, as somebody does who lives, until a word comes; then ends.
    fn until(mut self, word: &Receiver<String>) -> String {
        let begun = Instant::now();
        loop {
            let heard = word.recv_timeout(Duration::from_secs(10));
            let old = self.url();
            if heard.is_err() {
                assert!(begun.elapsed() < PATIENCE, "it does not say for whom it waits");
                self = Self::of(self.keeper, self.store, self.number + 1);
            }
            curl(self.keeper, &["-H", SIGNED, "-X", "DELETE", &old]).unwrap();
            if let Ok(word) = heard {
                return word;
            }
        }
    }
}

/// A running proxy; it ends with the test.
struct Proxy {
    url: String,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// nginx in front of servers, with what chooses among them.
fn proxy(keeper: &Keeper, choice: &str, servers: &[&str]) -> Proxy {
    let folder = keeper.path("proxy");
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let servers: String = servers.iter().map(|address| format!("server {address};")).collect();
    // It does not say which port it took, so it is told; somebody may have taken it meanwhile.
    for _ in 0..5 {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", held.local_addr().unwrap());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/{name};"))
            .concat();
        let settings = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{}}
             http {{ access_log off; client_max_body_size 0; {temporary}
             upstream depots {{ {choice} {servers} }}
             server {{ listen {}; location / {{ proxy_pass http://depots; }} }} }}",
            url.trim_start_matches("http://")
        );
        std::fs::write(keeper.path("proxy/nginx.conf"), settings).unwrap();
        drop(held);
        let words = ["-c", "nginx.conf", "-p", folder];
        let mut command = Command::new("/usr/sbin/nginx");
        let mut child = command.args(words).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if curl(keeper, &[&format!("{url}/web")]).is_some() {
                return Proxy { url, child };
            }
            assert!(begun.elapsed() < PATIENCE, "nginx does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    panic!("nginx does not start");
}

#[test]
fn an_upload_reaches_one_server_through_a_proxy_that_chooses_by_the_address() {
    let (keeper, store) = (keeper(), Moto::start("bucket"));
    let place = place(&store.url);
    open(&keeper, &place);
    let servers = ["one", "two", "three"].map(|copy| serves(&keeper, &place, copy));
    let addresses = servers.each_ref().map(|one| one.urls[0].trim_start_matches("http://"));
    let proxy = proxy(&keeper, "hash $uri consistent;", &addresses);
    for name in ["hello", "notes", "music"] {
        let file = keeper.builds(name, "1.0.0-1");
        let to = ["publish", "--to", &proxy.url, "--token-file", "token", &file];
        assert!(keeper.types(&to).well().starts_with("published "));
    }
    for server in &servers {
        offers(&keeper, server, "music", "1.0.0-1");
    }
}
