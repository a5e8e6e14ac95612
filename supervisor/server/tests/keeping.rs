//! A depot's keeper's days, with the real program: packages come from elsewhere, go elsewhere, and
//! are asked for by curl.

mod keeper;

use keeper::{Keeper, sha256};
use std::time::{Duration, Instant};

const BOX: &str = "?arch=apollolake&major=7&build=72806&language=enu";

#[test]
fn a_maintainer_elsewhere_publishes_with_a_token_and_a_stranger_does_not() {
    let keeper = Keeper::new();
    let add = ["token", "add", "--root", "depot", "anna", "--package", "hello"];
    std::fs::write(keeper.path("token"), keeper.types(&add).well()).unwrap();
    let serving = keeper.serves("depot", &[], 1);
    let send = |file: &str| {
        keeper.types(&["publish", "--to", &serving.urls[0], "--token-file", "token", file])
    };
    let hello = keeper.builds("hello", "1.0.0-1");
    let said = send(&hello).well();
    assert_eq!(said, "published hello 1.0.0-1 (hello-1.0.0-1-dsm7-x86_64.spk)\n");
    assert!(send(&hello).well().starts_with("already there: hello"));
    let notes = keeper.builds("notes", "1.0.0-1");
    let said = send(&notes).with_a_remedy();
    assert!(said.contains("anna's token is not for the package notes"), "{said}");
    keeper.types(&["token", "remove", "--root", "depot", "anna"]).well();
    let said = send(&hello).with_a_remedy();
    assert!(said.contains("does not know this token"), "{said}");
    let listed = keeper.types(&["list", "--root", "depot"]).well();
    assert_eq!(listed, "hello 1.0.0-1 (x86_64) stable\n");
}

#[test]
fn another_depot_is_mirrored_by_its_signatures_and_a_plain_source_by_pinned_hashes() {
    let keeper = Keeper::new();
    keeper.publishes("hello", "1.0.0-1");
    let package = keeper.path(&keeper.builds("hello", "1.0.0-1"));
    let serving = keeper.serves("depot", &[], 1);
    let url = &serving.urls[0];
    let trust = keeper.types(&["keys", "export", "--root", "depot"]).well();
    std::fs::write(keeper.path("depot.pub"), trust).unwrap();
    for root in ["ours", "plain"] {
        keeper.types(&["init", "--root", root]).well();
    }
    let wrong = keeper.types(&["keys", "export", "--root", "ours"]).well();
    std::fs::write(keeper.path("wrong.pub"), wrong).unwrap();
    let follow = |trust| keeper.types(&["mirror", "--root", "ours", "--trust", trust, url]);
    follow("wrong.pub").with_a_remedy();
    assert!(follow("depot.pub").well().starts_with("published hello 1.0.0-1"));
    assert_eq!(follow("depot.pub").well(), "");
    let pinned = |sha256: &str| {
        let pin = format!("hello={sha256}");
        let asks = ["--pin", &pin, "--platform", "apollolake", "--build", "72806"];
        keeper.types(&[&["mirror", "--root", "plain", url][..], &asks].concat())
    };
    let right = sha256(&keeper, &package);
    let said = pinned(&"0".repeat(64)).with_a_remedy();
    assert!(said.contains(&right), "{said}");
    assert!(pinned(&right).well().starts_with("published hello 1.0.0-1"));
    let left = std::fs::read_dir(keeper.path("plain/files")).unwrap().count();
    assert_eq!(left, 1, "a copy was left behind");
}

#[test]
fn curl_speaks_http_2_over_tls_and_sees_the_next_certificate_after_a_hangup() {
    let keeper = Keeper::new();
    keeper.publishes("hello", "1.0.0-1");
    certify(&keeper, "first");
    let tls = ["--listen-tls", "127.0.0.1:0", "--tls-cert", "chain.pem", "--tls-key", "key.pem"];
    let metrics = ["--metrics", "127.0.0.1:0"];
    let serving = keeper.serves("depot", &[&tls[..], &metrics].concat(), 3);
    let [plain, encrypted, metrics] = &serving.urls[..] else { panic!("{:?}", serving.urls) };
    let curl = |words: &[&str]| keeper.runs("curl", &[&["-sS", "--noproxy", "*"], words].concat());
    let ca = ["--cacert", "chain.pem", "--write-out", "\n%{http_version} %{http_code}"];
    let said = curl(&[&ca[..], &[&format!("{encrypted}/{BOX}")]].concat()).well();
    let (list, how) = said.rsplit_once('\n').unwrap();
    assert_eq!(how, "2 200");
    // Links begin as the list was asked for, so a box that cannot do TLS is not sent to it.
    assert!(list.contains(&format!("\"link\":\"{encrypted}/packages/hello-")), "{list}");
    let old = curl(&[&format!("{plain}/{BOX}")]).well();
    assert!(old.contains(&format!("\"link\":\"{plain}/packages/hello-")), "{old}");
    let file = format!("{encrypted}/packages/hello-1.0.0-1-dsm7-x86_64.spk");
    let fetched = curl(&[&ca[..2], &["-o", "fetched", &file]].concat());
    fetched.well();
    let again = curl(&[&ca[..2], &["-r", "0-0", "-o", "first-byte", &file]].concat());
    again.well();
    assert_eq!(std::fs::read(keeper.path("first-byte")).unwrap().len(), 1);

    certify(&keeper, "second");
    let pid = serving.process.id().to_string();
    keeper.runs("kill", &["-HUP", &pid]).well();
    let begun = Instant::now();
    while curl(&[&ca[..2], &[&format!("{encrypted}/{BOX}")]].concat()).code != 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the old certificate is still shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    let counted = curl(&[metrics]).well();
    // It is for two days, and a moment of them may be over.
    let days = ["1", "2"].map(|days| format!("\nholdfast_depot_certificate_days {days}\n"));
    assert!(days.iter().any(|days| counted.contains(days)), "{counted}");
    let row = "holdfast_depot_downloads_total{package=\"hello\",version=\"1.0.0-1\",\
               platform=\"x86_64\"} 1";
    assert!(counted.lines().any(|line| line == row), "{counted}");
    assert!(counted.contains("holdfast_depot_signature_days{role=\"root\"}"), "{counted}");
    keeper.runs("kill", &["-TERM", &pid]).well();
    let mut serving = serving;
    assert!(serving.process.wait().unwrap().success());
    let kept = keeper.types(&["downloads", "--root", "depot"]).well();
    assert_eq!(kept.trim(), "1 hello-1.0.0-1-dsm7-x86_64.spk");
}

/// A certificate for 127.0.0.1 that signs itself.
fn certify(keeper: &Keeper, name: &str) {
    let subject = format!("/CN={name}");
    let made = keeper.runs(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "chain.pem",
        ],
    );
    made.well();
}
