//! The table of requests: what boxes from DSM 4.1 to 7.3 ask, and what each must be answered.

use super::*;
use crate::asked::Shape;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `requests.toml`; its head says who wrote it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    request: Vec<Request>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    who: String,
    seen: Seen,
    method: String,
    parameters: String,
    shape: AnswerShape,
    rows: Vec<String>,
    #[serde(default)]
    dnames: Vec<String>,
    #[serde(default)]
    betas: Vec<String>,
}

/// Whether a box was seen to ask so.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Seen {
    Captured,
    Composed,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum AnswerShape {
    List,
    Keyrings,
    Packages,
}

fn table() -> Vec<Request> {
    let table: Table = toml::from_str(include_str!("requests.toml")).unwrap();
    table.request
}

/// What the table's answers are about.
fn shelves() -> Stage {
    let stage = stage();
    let japanese = "displayname_jpn = \"ノート\"";
    for (name, version, target, dsm, info) in [
        ("hello", "1.2.0-6", Target::X86_64, Dsm::Seven, "beta = \"yes\""),
        ("hello", "1.0.0-2", Target::Aarch64, Dsm::Seven, ""),
        ("notes", "1.5-1", Target::Noarch, Dsm::Six, japanese),
        ("late", "3.0-1", Target::Noarch, Dsm::Seven, "os_max_ver = \"7.1-42962\""),
    ] {
        stage.publish(Recipe { name, version, target, dsm, info, ..Recipe::default() });
    }
    stage
}

fn asked(server: &Server, method: &str, path: &str, parameters: &str) -> crate::stage::Answer {
    match method {
        "GET" => server.get(&format!("{path}?{parameters}")),
        _ => {
            let form = "Content-Type: application/x-www-form-urlencoded\r\n";
            server.ask("POST", path, form, parameters)
        }
    }
}

#[test]
fn every_request_of_the_table_is_answered_with_the_rows_and_in_the_form_of_its_dsm() {
    let stage = shelves();
    let server = stage.serve(None);
    for request in table() {
        let who = &request.who;
        for method in [request.method.as_str(), "GET", "POST"] {
            let answer = asked(&server, method, "/", &request.parameters);
            assert_eq!(answer.status, 200, "{who}");
            assert_eq!(answer.headers["content-type"], "application/json", "{who}");
            let answer = answer.json();
            let list = match request.shape {
                AnswerShape::List => &answer,
                _ => &answer["packages"],
            };
            assert_eq!(rows(list), request.rows, "{who} by {method}");
            let has_keyrings = matches!(request.shape, AnswerShape::Keyrings);
            assert_eq!(answer.get("keyrings").is_some(), has_keyrings, "{who}");
            let all = list.as_array().unwrap();
            let named: Vec<_> = all.iter().map(|row| row["dname"].as_str().unwrap()).collect();
            if !request.dnames.is_empty() {
                assert_eq!(named, request.dnames, "{who}");
            }
            let betas = all.iter().filter(|row| row.get("beta").is_some());
            let betas: Vec<_> = betas.map(|row| row["package"].as_str().unwrap()).collect();
            assert_eq!(betas, request.betas, "{who}");
        }
    }
}

#[test]
fn the_table_reaches_every_dsm_by_both_methods() {
    let table = table();
    let value = |request: &Request, key: &str| {
        let pairs = request.parameters.split('&').filter_map(|pair| pair.split_once('='));
        let found: BTreeMap<_, _> = pairs.collect();
        found.get(key).map(|value| (*value).to_owned())
    };
    for release in ["4.1", "4.3", "5.0", "5.1", "5.2", "6.0", "6.1", "6.2", "7.0", "7.1", "7.2"] {
        let (major, minor) = release.split_once('.').unwrap();
        let is_of = |request: &&Request| {
            value(request, "major").as_deref() == Some(major)
                && value(request, "minor").as_deref() == Some(minor)
        };
        assert!(table.iter().any(|request| is_of(&request)), "no DSM {release}");
    }
    assert!(table.iter().filter(|request| request.method == "POST").count() > 5);
    assert!(table.iter().filter(|request| request.seen == Seen::Captured).count() >= 4);
}

/// Whatever else a box, or somebody who tries the address, might ask: a list, never a page.
#[test]
fn an_odd_question_under_any_address_is_answered_with_an_empty_list() {
    let stage = shelves();
    let server = stage.serve(None);
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let long = format!("/?unique={}", "x".repeat(6000));
    let many = format!("/?{}", "a=b&".repeat(200));
    for path in [
        "/",
        "/?",
        "/?language=enu",
        "/?language=xyz&package_update_channel=nightly",
        "/?arch=&major=&build=",
        "/?arch=apollolake",
        "/?build=72806&major=7",
        "/?arch=..%2F..%2Fetc&build=%00&major=%ff",
        "/?arch=apollolake&major=99&build=999999",
        "/?arch=apollolake&major=-7&build=x",
        "/?%",
        "/?&&==&",
        "/packages",
        "/packages/",
        "/icons/",
        "/metadata/?language=enu",
        "/web?language=enu",
        "/web/",
        "/publish",
        "/index.html",
        "/favicon.ico",
        "/robots.txt",
        "/keys/root.key",
        "/tokens.json",
        "/shelves.json",
        "//",
        "/%ff/%00",
        "/a/b/../c",
        long.as_str(),
        many.as_str(),
    ] {
        for (method, headers) in [("GET", ""), ("GET", browser), ("POST", browser)] {
            let answer = server.ask(method, path, headers, "");
            assert_eq!(answer.status, 200, "{method} {path:.60}");
            assert_eq!(answer.headers["content-type"], "application/json", "{path:.60}");
            assert_eq!(answer.body, br#"{"packages":[]}"#, "{method} {path:.60}");
        }
    }
    for body in ["arch", "{\"arch\":\"avoton\"}", "--x\r\nnot a form\r\n--x--", "\0\u{1}\u{2}"] {
        let answer = server.ask("POST", "/", "", body);
        assert_eq!(answer.body, br#"{"packages":[]}"#, "{body}");
    }
}

#[test]
fn a_box_finds_its_rows_under_every_address_its_owner_may_have_given() {
    let stage = shelves();
    let server = stage.serve(None);
    let box_ = "arch=avoton&major=7&minor=2&build=72806&language=enu&unique=synology_avoton_1517";
    let path_and_own = format!("/?{box_}");
    for path in ["/", "/any/path", "/web", "/packages/", "/metadata", "/a%20b/", "/?language=ger"] {
        for method in ["GET", "POST"] {
            let answer = match (method, path.contains('?')) {
                // What a form does not say, its address may.
                (_, true) => asked(&server, "POST", path, box_),
                _ => asked(&server, method, path, box_),
            };
            let rows = rows(&answer.json()["packages"]);
            assert_eq!(rows, ["hello 1.0.0-2", "notes 2.0-1"], "{method} {path}");
        }
    }
    let head = server.ask("HEAD", &path_and_own, "", "");
    let whole = server.get(&path_and_own);
    assert_eq!(head.headers["content-length"], whole.body.len().to_string());
    assert_eq!(Asked::read(box_).shape(), Shape::Packages);
}
