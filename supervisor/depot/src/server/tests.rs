//! The server, asked over real connections: by the Package Center of every DSM, by TUF clients, by
//! downloaders that stop and go on, and by people who mean no good.

use super::*;
use crate::shelves::Channel;
use crate::stage::{Recipe, Server, Stage, TODAY};
use md5::Md5;
use serde_json::Value;
use spk::dsm::Dsm;
use spk::platform::Target;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// A depot with packages for DSM 5, 6 and 7.
fn stage() -> Stage {
    let stage = Stage::new();
    for (name, version, target, dsm, info) in [
        ("hello", "1.0.0-1", Target::X86_64, Dsm::Seven, ""),
        ("hello", "1.0.0-2", Target::X86_64, Dsm::Seven, ""),
        ("hello", "1.0.0-2", Target::Armhf, Dsm::Seven, ""),
        ("hello", "1.0.0-3", Target::X86_64, Dsm::Six, ""),
        ("hello", "1.0.0-3", Target::Armhf, Dsm::Six, ""),
        ("hello", "1.1.0-4", Target::Armhf, Dsm::Six, "beta = \"yes\""),
        ("hello", "0.9.0-1", Target::Armv5, Dsm::Five, ""),
        ("notes", "2.0-1", Target::Noarch, Dsm::Seven, ""),
    ] {
        stage.publish(Recipe { name, version, target, dsm, info, ..Recipe::default() });
    }
    stage
}

/// Package and version of each row, in order.
fn rows(list: &Value) -> Vec<String> {
    let row = |row: &Value| {
        format!("{} {}", row["package"].as_str().unwrap(), row["version"].as_str().unwrap())
    };
    list.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_row_says_all_that_package_center_needs_and_every_link_in_it_works() {
    let stage = stage();
    let server = stage.serve(None);
    let host = format!("http://{}", server.address);
    let answer = server.get("/?arch=apollolake&major=7&build=72806&language=ger").json();
    let row = &answer["packages"][0];
    assert_eq!(row["dname"], "Hallo");
    assert_eq!(row["desc"], "Says «hello».");
    assert_eq!(row["maintainer"], "Somebody");
    for field in ["qinst", "qupgrade", "qstart"] {
        assert_eq!(row[field], true, "{field}");
    }
    for (field, value) in [("deppkgs", Value::Null), ("conflictpkgs", Value::Null)] {
        assert_eq!(row.get(field), Some(&value), "{field}");
    }
    assert_eq!((&row["download_count"], &row["snapshot"]), (&0.into(), &Value::Array(vec![])));

    let link = row["link"].as_str().unwrap();
    assert_eq!(link, format!("{host}/packages/hello-1.0.0-2-dsm7-x86_64.spk"));
    let package = server.get(link.strip_prefix(&host).unwrap());
    assert_eq!(package.status, 200);
    assert_eq!(row["size"], package.body.len());
    assert_eq!(package.headers["content-length"], package.body.len().to_string());
    assert_eq!(row["md5"], hex::encode(<Md5 as md5::Digest>::digest(&package.body)));
    let read = spk::read::Package::read(&package.body[..]).unwrap();
    assert_eq!(row["version"], read.info.version_text());

    for (field, pixels) in [("thumbnail", 64), ("thumbnail_retina", 256)] {
        let link = row[field][0].as_str().unwrap();
        let icon = server.get(link.strip_prefix(&host).unwrap());
        assert_eq!(icon.headers["content-type"], "image/png");
        assert_eq!(spk::icon::size_of_png(&icon.body), Some((pixels, pixels)), "{field}");
    }
}

#[test]
fn a_package_that_asks_questions_is_not_offered_for_quick_installation() {
    let stage = Stage::new();
    stage.publish(Recipe { has_wizard: true, ..Recipe::default() });
    let answer = stage.serve(None).get("/?arch=avoton&major=7&build=72806").json();
    let row = &answer["packages"][0];
    assert_eq!(
        (&row["qinst"], &row["qupgrade"], &row["qstart"]),
        (&false.into(), &true.into(), &false.into())
    );
}

#[test]
fn the_probe_of_add_source_is_answered_with_an_empty_list_even_to_a_browser() {
    let stage = stage();
    let server = stage.serve(None);
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    for answer in [
        server.get("/"),
        server.ask("GET", "/", browser, ""),
        server.ask("POST", "/", browser, ""),
        server.get("/?"),
        server.get("/?language=enu"),
        server.get("/?arch=..%2F..%2Fetc&build=%00&major=%ff"),
    ] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.body, br#"{"packages":[]}"#);
    }
    let head = server.ask("HEAD", "/", "", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], "15");
    let page = server.ask("GET", "/web", browser, "");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(String::from_utf8(page.body).unwrap().contains("hello-1.0.0-2-dsm7-x86_64.spk"));
}

#[test]
fn links_begin_with_the_host_that_was_asked_or_the_address_the_keeper_gave() {
    let stage = stage();
    let query = "/?arch=avoton&major=7&build=72806";
    let link = |server: &Server, headers: &str| {
        let answer = server.ask("GET", query, headers, "").json();
        answer["packages"][0]["link"].as_str().unwrap().to_owned()
    };
    let server = stage.serve(None);
    let own = format!("http://{}/packages/", server.address);
    assert!(link(&server, "Host: nas.example:8080\r\n").starts_with("http://nas.example:8080/p"));
    assert!(link(&server, "Host: [fe80::1]:8080\r\n").starts_with("http://[fe80::1]:8080/p"));
    for nasty in ["a/../b", "evil\"><script>", "a b", "user@host", "a?b", "%0d%0a"] {
        assert!(link(&server, &format!("Host: {nasty}\r\n")).starts_with(&own), "{nasty}");
    }
    drop(server);
    let server = stage.serve(Some("https://depot.example/spk/"));
    assert!(link(&server, "Host: x\r\n").starts_with("https://depot.example/spk/packages/h"));
    for wrong in
        ["", "depot.example", "ftp://a", "http://", "http:///a", "http://a b", "http://a?b"]
    {
        assert!(checked_base_url(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_stopped() {
    let stage = stage();
    let server = stage.serve(None);
    let path = "/packages/hello-1.0.0-2-dsm7-x86_64.spk";
    let whole = server.get(path);
    let tag = &whole.headers["etag"];
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    let half = whole.body.len() / 2;
    let rest = |condition: &str| {
        server.ask("GET", path, &format!("Range: bytes={half}-\r\nIf-Range: {condition}\r\n"), "")
    };
    let answer = rest(tag);
    assert_eq!(answer.status, 206);
    assert_eq!(answer.body, whole.body[half..]);
    let last = whole.body.len() - 1;
    let range = format!("bytes {half}-{last}/{}", whole.body.len());
    assert_eq!(answer.headers["content-range"], range);
    let answer = rest("\"of another file\"");
    assert_eq!((answer.status, &answer.body), (200, &whole.body));

    let conditional = server.ask("GET", path, &format!("If-None-Match: {tag}\r\n"), "");
    assert_eq!((conditional.status, conditional.body.len()), (304, 0));
    let beyond = server.ask("GET", path, "Range: bytes=999999999-\r\n", "");
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    let head = server.ask("HEAD", path, "", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], whole.body.len().to_string());
}

#[test]
fn a_list_that_did_not_change_is_not_sent_again() {
    let stage = stage();
    let server = stage.serve(None);
    let query = "/?arch=avoton&major=7&build=72806";
    let tag = server.get(query).headers["etag"].clone();
    let ask = |method: &str| {
        server.ask(method, query, &format!("If-None-Match: {tag}\r\n"), "language=enu")
    };
    let unchanged = ask("GET");
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(ask("POST").status, 200, "a form is answered whole");
    stage.publish(Recipe { version: "1.0.0-9", ..Recipe::default() });
    assert_eq!(ask("GET").status, 200);
}

#[test]
fn tuf_clients_find_packages_under_their_hash_and_metadata_by_version() {
    let stage = stage();
    let server = stage.serve(None);
    let shelves = crate::shelves(&stage.depot()).unwrap();
    let item = shelves.items.iter().find(|item| item.channel == Channel::Stable).unwrap();
    let answer = server.get(&format!("/packages/{}.{}", item.sha256, item.file));
    assert_eq!(hex::encode(Sha256::digest(&answer.body)), item.sha256);
    let zeros = "0".repeat(64);
    assert_eq!(server.get(&format!("/packages/{zeros}.{}", item.file)).status, 404);

    let root = server.get("/metadata/1.root.json");
    assert_eq!(root.status, 200);
    assert_eq!(server.get("/metadata/root.json").body, root.body);
    assert_eq!(server.get("/metadata/2.root.json").status, 404);
    assert_eq!(server.get("/metadata/timestamp.json").headers["cache-control"], "no-cache");
    let moment = supervisor_trust::Moment::new(TODAY, TODAY);
    let mut client =
        supervisor_trust::Client::start(&root.body, Default::default(), moment).unwrap();
    while let Some(request) = client.request() {
        let answer = server.get(&format!("/metadata/{}", request.name));
        let found = (answer.status == 200).then_some(answer.body);
        client.answer(found.as_deref()).unwrap();
    }
    let targets = &client.verified().unwrap().targets.targets;
    assert_eq!(targets[&item.file.replace("-1-dsm7", "-2-dsm7")].hash.to_hex().len(), 64);
}

/// Files that are not there, whoever asks for them and however.
const NO_FILES: [&str; 16] = [
    "/packages/notes-2.0-1-dsm7-noarch.spk",
    "/packages/nothing.spk?arch=avoton&major=7&build=72806",
    "/packages/a/b/c",
    "/packages/..%2fkeys%2froot.key",
    "/packages/../keys/root.key",
    "/packages/%2e%2e/keys/root.key",
    "/packages/%00",
    "/packages/%ff%fe",
    "/icons/..%2f..%2fkeys%2froot.key",
    "/icons/.png",
    "/icons/nothing",
    "/icons/%ff.png",
    "/metadata/..%2fshelves.json",
    "/metadata/9.root.json",
    "/metadata/sub/root.json",
    "/metadata/%ff",
];

#[test]
fn a_file_that_is_not_there_is_404_without_a_byte_and_never_a_page() {
    let stage = stage();
    let server = stage.serve(None);
    crate::withdraw(&stage.depot(), "notes", "2.0-1", TODAY).unwrap();
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    for path in NO_FILES {
        for (method, headers) in [("GET", ""), ("GET", browser), ("HEAD", "")] {
            let answer = server.ask(method, path, headers, "");
            assert_eq!((answer.status, answer.body.len()), (404, 0), "{method} {path}");
            assert_eq!(answer.headers.get("content-type"), None, "{method} {path}");
        }
    }
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        for path in ["/", "/web", "/metadata/root.json", "/packages/nothing.spk"] {
            let answer = server.ask(method, path, "", "");
            assert_eq!((answer.status, answer.body.len()), (405, 0), "{method} {path}");
        }
    }
}

#[test]
fn a_new_package_is_seen_at_once_and_never_half() {
    let stage = Stage::new();
    stage.publish(Recipe::default());
    let server = stage.serve(None);
    let paths: Vec<_> = (2..8)
        .map(|build| {
            let version = format!("1.0.0-{build}");
            let path = stage.build(Recipe { version: &version, ..Recipe::default() });
            let kept = path.with_extension(format!("{build}.spk"));
            std::fs::rename(path, &kept).unwrap();
            kept
        })
        .collect();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for path in &paths {
                crate::publish(&stage.depot(), std::slice::from_ref(path), TODAY).unwrap();
            }
        });
        let mut is_last = false;
        while !is_last {
            is_last = publisher.is_finished();
            let answer = server.get("/?arch=avoton&major=7&build=72806").json();
            let row = &answer["packages"][0];
            let link = row["link"].as_str().unwrap();
            let package = server.get(&link[link.find("/packages/").unwrap()..]);
            assert_eq!(row["size"], package.body.len());
            assert_eq!(row["md5"], hex::encode(<Md5 as md5::Digest>::digest(&package.body)));
        }
    });
    let answer = server.get("/?arch=avoton&major=7&build=72806").json();
    assert_eq!(answer["packages"][0]["version"], "1.0.0-7");
}

#[test]
fn hostile_requests_cost_nothing_and_the_next_guest_is_served() {
    let stage = stage();
    let server = stage.serve(None);
    let long = "a".repeat(100_000);
    for request in [
        format!("GET /?{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(1000)),
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{long}"),
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "GET http://other/ HTTP/9.9\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        "GET /?arch=%ED%A0%80&&&=&build=1e9 HTTP/1.0\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let begun = Instant::now();
        let answer = server.send(request.as_bytes());
        let status = String::from_utf8_lossy(&answer).chars().take(12).collect::<String>();
        assert!(begun.elapsed() < Duration::from_secs(120), "{status}: {request:.40}");
        assert!(!status.contains(" 500"), "{status}: {request:.40}");
    }
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn guests_who_say_nothing_are_shown_out_and_do_not_keep_others_waiting() {
    let stage = stage();
    let server = stage.serve(None);
    let begun = Instant::now();
    let mut idle: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/").status, 200);
    // They are shown out after half a minute; whoever has something to say was not kept so long.
    assert!(begun.elapsed() < Duration::from_secs(25));
    for stream in &mut idle {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(begun.elapsed() < Duration::from_secs(120), "an idle guest was kept");
    }
}

#[test]
fn however_many_different_questions_come_the_answers_kept_stay_within_bounds() {
    let stage = stage();
    let served = Served::new(Place::at(&stage.depot()).read_shelf().unwrap());
    for number in 0..20_000 {
        let asked = Asked::read(&format!("arch=avoton&major=7&build={number}&language=x{number}"));
        served.answer(asked, format!("http://{number}"));
        assert!(locked(&served.answers).bytes <= ANSWERS_BYTES_MAX);
    }
    let answers = locked(&served.answers);
    assert!(answers.by_question.len() < 10_000);
}

mod recorded;
