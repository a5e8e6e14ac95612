//! A maintainer publishes over HTTP: in one go, after a break, and where that must not be.

use super::*;
use crate::stage::{Answer, Recipe, Server, Stage, TODAY};
use crate::tokens::add_token;

struct Maintainer<'a> {
    server: &'a Server,
    token: String,
}

impl Maintainer<'_> {
    fn ask(&self, method: &str, sha256: &str, headers: &str, body: &[u8]) -> Answer {
        let token = format!("Authorization: Bearer {}\r\n", self.token);
        let path = format!("/publish/{sha256}");
        self.server.ask_bytes(method, &path, &format!("{token}{headers}"), body)
    }

    fn append(&self, sha256: &str, offset: usize, body: &[u8]) -> Answer {
        self.ask("PATCH", sha256, &format!("Upload-Offset: {offset}\r\n"), body)
    }

    fn publish(&self, package: &[u8]) -> Answer {
        let sha256 = hex::encode(Sha256::digest(package));
        assert_eq!(self.append(&sha256, 0, package).status, 204);
        self.ask("POST", &sha256, "", b"")
    }
}

#[test]
fn a_maintainer_publishes_over_http_and_goes_on_after_a_break() {
    let stage = Stage::new();
    let token = add_token(&stage.depot(), "anna", &["hello".to_owned()], &[7; 32]).unwrap();
    let server = stage.serve(None);
    let anna = Maintainer { server: &server, token };
    let package = fs::read(stage.build(Recipe::default())).unwrap();
    let sha256 = hex::encode(Sha256::digest(&package));
    assert_eq!(anna.ask("HEAD", &sha256, "", b"").headers[OFFSET], "0");
    assert_eq!(anna.ask("POST", &sha256, "", b"").status, 404);
    assert_eq!(anna.append(&sha256, 0, &package[..1000]).status, 204);
    // She does not know how much came; the depot does, and takes nothing twice.
    let lost = anna.append(&sha256, 0, &package);
    assert_eq!((lost.status, lost.headers[OFFSET].as_str()), (409, "1000"));
    assert_eq!(anna.ask("POST", &sha256, "", b"").status, 409, "a part is not published");
    assert_eq!(anna.append(&sha256, 1000, &package[1000..]).status, 204);
    let published = anna.ask("POST", &sha256, "", b"");
    assert_eq!(published.status, 200, "{published:?}");
    assert_eq!(published.json()["file"], "hello-1.0.0-1-dsm7-x86_64.spk");
    assert_eq!(server.get("/packages/hello-1.0.0-1-dsm7-x86_64.spk").body, package);
    assert_eq!(stage.verified(TODAY).unwrap().len(), 1);
    assert_eq!(anna.publish(&package).json()["is_new"], false);
    let left = crate::stage::files_below(&stage.depot().join("uploads"));
    assert!(left.is_empty(), "{:?}", left.keys());
}

#[test]
fn what_a_maintainer_may_not_publish_is_refused_with_a_reason_and_changes_nothing() {
    let stage = Stage::new();
    stage.publish(Recipe { version: "1.0.0-2", ..Recipe::default() });
    let token = add_token(&stage.depot(), "anna", &["hello".to_owned()], &[7; 32]).unwrap();
    let server = stage.serve(None);
    let anna = Maintainer { server: &server, token };
    let before = stage.verified(TODAY).unwrap();
    let of = |recipe: Recipe<'_>| fs::read(stage.build(recipe)).unwrap();
    for (status, package) in [
        (403, of(Recipe { name: "notes", ..Recipe::default() })),
        (409, of(Recipe { version: "1.0.0-1", ..Recipe::default() })),
        (409, of(Recipe { version: "1.0.0-2", content: "other", ..Recipe::default() })),
        (422, b"no package".to_vec()),
    ] {
        let refused = anna.publish(&package);
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(refused.json()["remedy"].is_string(), "{refused:?}");
        assert!(!refused.json()["error"].as_str().unwrap().contains('/'), "{refused:?}");
    }
    let stranger = Maintainer { server: &server, token: "hfdt_00".to_owned() };
    let zeros = "0".repeat(64);
    for method in ["HEAD", "PATCH", "POST"] {
        assert_eq!(stranger.ask(method, &zeros, "", b"").status, 401, "{method}");
        for strange in ["..%2f..%2fkeys", "short", &zeros.replace('0', "A")] {
            assert_eq!(anna.ask(method, strange, "", b"").status, 401, "{method} {strange}");
        }
    }
    assert_eq!(stage.verified(TODAY).unwrap(), before);
}

/// Publishes in the folder, when it is let.
#[derive(Debug)]
struct Waiting {
    folder: crate::InFolder,
    may: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    count: std::sync::atomic::AtomicUsize,
}

impl Publisher for Waiting {
    fn publish(
        &self,
        deliveries: &[Delivery],
        now: UnixSeconds,
    ) -> Result<Vec<Published>, DepotError> {
        self.may.lock().unwrap().recv().unwrap();
        self.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.folder.publish(deliveries, now)
    }

    fn renew_if_due(&self, _: UnixSeconds) -> Result<bool, DepotError> {
        Ok(false)
    }

    fn waits_for(&self) -> Option<String> {
        Some("somebody is about to publish".to_owned())
    }
}

#[test]
fn who_asks_while_it_is_published_is_told_so_in_time_and_told_the_end_once_it_is_there() {
    let stage = Stage::new();
    let token = add_token(&stage.depot(), "anna", &["hello".to_owned()], &[7; 32]).unwrap();
    let (let_it, may) = std::sync::mpsc::channel();
    let publisher = Arc::new(Waiting {
        folder: crate::InFolder(stage.depot()),
        may: may.into(),
        count: Default::default(),
    });
    let server = stage.serve_with(|settings| settings.publisher = publisher.clone());
    let anna = Maintainer { server: &server, token };
    let package = fs::read(stage.build(Recipe::default())).unwrap();
    let sha256 = hex::encode(Sha256::digest(&package));
    assert_eq!(anna.append(&sha256, 0, &package).status, 204);
    for _ in 0..2 {
        let answer = anna.ask("POST", &sha256, "", b"");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "2");
        let said = answer.json()["error"].to_string();
        assert!(said.contains("not published yet: somebody is about to"), "{said}");
    }
    let_it.send(()).unwrap();
    let mut answer = anna.ask("POST", &sha256, "", b"");
    while answer.status == 503 {
        answer = anna.ask("POST", &sha256, "", b"");
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["is_new"], true);
    assert_eq!(publisher.count.load(std::sync::atomic::Ordering::SeqCst), 1);
}
