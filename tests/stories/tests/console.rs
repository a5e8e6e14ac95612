//! The owner looks at the web console; so does everybody else in the house.

use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use tests_stories::{Browser, Computer, line_to};
use tests_support::tree::Tree;
use tests_support::{Telling, program, run, wait_for, workspace};

/// A port nobody else has.
const ANY: Option<&str> = Some("127.0.0.1:0");

/// More connections than the console answers at a time.
const TOO_MANY: usize = 24;

/// As many as it does, and some descriptors the daemon may open meanwhile.
const DESCRIPTORS_MAX: usize = 20;

#[test]
fn whoever_has_the_token_sees_all_and_whoever_has_not_is_told_how_to_get_it() {
    let computer = Computer::with_console(ANY);
    Tree::at(computer.home.source()).many("photos", 5);
    computer.protects_its_photos();
    let token = computer.token();

    let page = computer.asked("GET", "/", None);
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert!(page.body.contains("<title>Holdfast</title>"));
    let preflight = computer.asked("OPTIONS", "/v1/sets/photos/run", None);
    for reply in [&page, &preflight] {
        assert!(!reply.head.contains("access-control"), "another page may ask: {}", reply.head);
    }
    for path in ["/console.js", "/console.css", "/icon.png", "//"] {
        assert_eq!(computer.asked("GET", path, None).status, 200, "{path}");
    }

    let wrong = "0".repeat(token.len());
    let asked = [("GET", "/v1/status"), ("GET", "/v1/sets"), ("POST", "/v1/sets/photos/run")];
    for (method, path) in asked.into_iter().chain([("GET", "/nowhere"), ("POST", "/")]) {
        let is_first = path == "/v1/status";
        // A wrong one is answered late.
        for token in [None, Some(""), is_first.then_some(wrong.as_str())] {
            let reply = computer.asked(method, path, token);
            assert_eq!(reply.status, 401, "{method} {path} {token:?}");
            let remedy = reply.json()["remedy"].to_string();
            assert!(remedy.contains("holdfast console"), "{remedy}");
            assert!(!reply.body.contains("photos"), "{}", reply.body);
        }
    }
    assert!(!computer.history().contains("backup of set"), "a stranger began a backup");

    let status = computer.asked("GET", "/v1/status", Some(&token)).json();
    assert_eq!(status["guid"].as_str().unwrap(), computer.does(&["guid"]).out.trim());
    assert_eq!(status["sets"][0]["name"], "photos");
    assert_eq!(status["destinations"][0]["cannot_connect"], json!(null));
    let secret = std::fs::read_to_string(computer.file("secrets/disk")).unwrap();
    assert!(!status.to_string().contains(secret.trim()), "the page is told a password");
}

#[test]
fn a_token_in_wrong_hands_changes_no_settings() {
    let computer = Computer::with_console(ANY);
    computer.protects_its_photos();
    let token = computer.token();
    let before = std::fs::read_to_string(computer.file("settings.json")).unwrap();
    for (method, path) in [
        ("POST", "/v1/destinations"),
        ("DELETE", "/v1/destinations/disk"),
        ("POST", "/v1/sets"),
        ("DELETE", "/v1/sets/photos"),
        ("POST", "/v1/adopt"),
        ("POST", "/v1/console"),
        ("GET", "/v1/console"),
    ] {
        let reply = computer.asked(method, path, Some(&token));
        assert_eq!(reply.status, 400, "{method} {path}");
        assert!(reply.json()["remedy"].is_string(), "{method} {path}");
        assert!(!reply.body.contains(&token), "{method} {path}");
    }
    assert_eq!(std::fs::read_to_string(computer.file("settings.json")).unwrap(), before);
    // The same over the Unix socket, as ever.
    computer.does(&["set", "remove", "photos"]);
    computer.does(&["destination", "remove", "disk"]);
}

#[test]
fn the_last_complete_backup_and_the_token_are_known_after_a_restart() {
    let mut computer = Computer::with_console(ANY);
    Tree::at(computer.home.source()).many("photos", 5);
    computer.protects_its_photos();
    let token = computer.token();
    let begun = computer.asked("POST", "/v1/sets/photos/run", Some(&token));
    assert_eq!((begun.status, &begun.json()["set"]), (200, &json!("photos")));
    let sets = |computer: &Computer| computer.asked("GET", "/v1/sets", Some(&token)).json();
    wait_for(Telling(|| format!("the backup: {}", sets(&computer))), || {
        sets(&computer)[0]["last_run"]["ended"]["done"].is_object()
    });
    let mode = std::fs::metadata(computer.file(".ui_info")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let made = computer.history().matches("a new token").count();
    computer.stops();
    computer.starts();
    assert_eq!(computer.history().matches("a new token").count(), made);
    let after = sets(&computer);
    assert_eq!(after[0]["last_run"], json!(null));
    assert_eq!(after[0]["last_complete"]["summary"]["files_new"], 5, "{after}");
    let unknown = computer.asked("POST", "/v1/sets/letters/run", Some(&token));
    assert!(unknown.json()["fact"].as_str().unwrap().contains("no backup set `letters`"));
}

#[test]
fn a_port_that_is_taken_leads_to_the_next_and_everybody_is_told() {
    let tunnel = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = tunnel.local_addr().unwrap().port();
    let wanted = format!("127.0.0.1:{taken}");
    let first = Computer::with_console(Some(&wanted));
    let second = Computer::with_console(Some(&wanted));
    assert!(first.port() > taken && second.port() > taken && first.port() != second.port());
    for computer in [&first, &second] {
        let sentence = format!("port {taken} is taken");
        let port = computer.port().to_string();
        let (said, told) = (computer.does(&["console"]).out, computer.does(&["status"]).out);
        for text in [&said, &told, &computer.history()] {
            assert!(text.contains(&sentence) && text.contains(&port), "{text}");
        }
        assert!(said.contains(&format!("http://127.0.0.1:{port}/#token={}", computer.token())));
        let file = std::fs::read_to_string(computer.file(".ui_info")).unwrap();
        assert_eq!(file, format!("{port},{},127.0.0.1\n", computer.token()));
        assert_eq!(computer.asked("GET", "/v1/sets", Some(&computer.token())).status, 200);
    }
    let strange = second.asked("GET", "/v1/sets", Some(&first.token()));
    assert_eq!(strange.status, 401, "one computer's token opens another");
}

#[test]
fn a_computer_where_nothing_can_be_listened_at_backs_up_and_says_so() {
    // An address that is nobody's, and words that mean nothing.
    for wanted in ["198.51.100.7:4243", "sometimes"] {
        let computer = Computer::with_console(Some(wanted));
        Tree::at(computer.home.source()).many("photos", 2);
        computer.protects_its_photos();
        computer.does(&["set", "run", "photos"]);
        let told = computer.does(&["status"]).out;
        assert!(told.contains("console") && told.contains(wanted), "{told}");
        assert!(computer.history().contains(wanted));
        assert_eq!(computer.console()["port"], json!(null));
        let file = std::fs::read_to_string(computer.file(".ui_info")).unwrap();
        assert!(file.starts_with("0,"), "{file}");
    }
}

#[test]
fn a_ui_info_that_was_lost_or_damaged_is_made_anew_and_that_is_said() {
    let mut computer = Computer::with_console(ANY);
    let (path, first) = (computer.file(".ui_info"), computer.token());
    // Under a running daemon the token stays what it was: the file follows it.
    for damage in ["", "4243,something,else\n"] {
        std::fs::remove_file(&path).unwrap();
        if !damage.is_empty() {
            std::fs::write(&path, damage).unwrap();
        }
        assert_eq!(computer.token(), first);
        assert!(std::fs::read_to_string(&path).unwrap().contains(&first));
    }
    assert_eq!(computer.history().matches("lost or changed").count(), 2);

    // A daemon that starts knows only what is there.
    let elsewhere = computer.home.join("somebody's file");
    std::fs::write(&elsewhere, "precious").unwrap();
    let mut known = vec![first];
    for damage in ["", "garbage\n", "4243,short,::\n", "link", "long"] {
        computer.stops();
        std::fs::remove_file(&path).unwrap();
        match damage {
            "" => (),
            "link" => symlink(&elsewhere, &path).unwrap(),
            "long" => std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap(),
            text => std::fs::write(&path, text).unwrap(),
        }
        computer.starts();
        let token = computer.token();
        assert!(!known.contains(&token), "{damage:?}");
        let old = computer.asked("GET", "/v1/sets", known.last().map(String::as_str));
        assert_eq!(old.status, 401, "{damage:?}");
        assert!(old.json()["fact"].as_str().unwrap().contains("not the one"), "{damage:?}");
        assert_eq!(computer.asked("GET", "/v1/sets", Some(&token)).status, 200);
        known.push(token);
    }
    let told = computer.history();
    assert_eq!(told.matches("a new token for the console was made").count(), known.len());
    assert!(told.contains("was not there") && told.contains("is damaged"), "{told}");
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
}

#[test]
fn its_owner_moves_it_switches_it_off_and_changes_the_token_while_it_runs() {
    let mut computer = Computer::with_console(None);
    computer.does(&["console", "--listen", "127.0.0.1:0"]);
    let (port, token) = (computer.port(), computer.token());
    assert_eq!(computer.asked("GET", "/v1/sets", Some(&token)).status, 200);

    let said = computer.does(&["console", "--listen", "off"]).out;
    assert!(said.contains("switched off"), "{said}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "it listens still");
    computer.stops();
    computer.starts();
    assert!(computer.does(&["status"]).out.contains("switched off"));

    computer.does(&["console", "--listen", "127.0.0.1:0"]);
    assert_eq!(computer.asked("GET", "/v1/sets", Some(&token)).status, 200);
    computer.does(&["console", "--new-token"]);
    assert_ne!(computer.token(), token);
    assert_eq!(computer.asked("GET", "/v1/sets", Some(&token)).status, 401);
    assert_eq!(computer.asked("GET", "/v1/sets", Some(&computer.token())).status, 200);

    let nonsense = run(&mut computer.holdfast(&["console", "--listen", "sometimes"]));
    assert_eq!(nonsense.code, 2, "{}", nonsense.said());
    let forced = Computer::with_console(ANY);
    let refused = run(&mut forced.holdfast(&["console", "--listen", "off"]));
    refused.must_fail_with_a_remedy();
}

#[test]
fn strangers_who_say_too_much_or_nothing_cost_little_and_keep_nobody_out() {
    let computer = Computer::with_console(ANY);
    let (port, token) = (computer.port(), computer.token());
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!([0, 431].contains(&computer.told(long.as_bytes()).status));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert!([0, 431].contains(&computer.told(many.as_bytes()).status));
    let body = format!(
        "POST /v1/sets/x/run HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 9999999999\r\n\r\n"
    );
    assert_eq!(computer.told(body.as_bytes()).status, 422, "nobody waits for a body");
    assert_eq!(computer.told(b"\x16\x03\x01 no HTTP at all\r\n\r\n").status, 400);

    let open = |computer: &Computer| {
        std::fs::read_dir(format!("/proc/{}/fd", computer.pid())).unwrap().count()
    };
    let before = open(&computer);
    let mut silent: Vec<_> = (0..TOO_MANY).map(|_| line_to(port)).collect();
    for line in &mut silent[1..] {
        line.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    }
    let mut most = 0;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut line = line_to(port);
            let words = format!("GET /v1/sets HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n");
            line.write_all(words.as_bytes()).unwrap();
            let mut answer = Vec::new();
            line.read_to_end(&mut answer).map(|_| answer)
        });
        while !reader.is_finished() {
            most = most.max(open(&computer));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let answer = reader.join().unwrap().expect("an answer");
        most = most.max(open(&computer));
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    });
    assert!(most < before + DESCRIPTORS_MAX, "{most} descriptors, {before} before");
    for line in &mut silent[..2] {
        // It is closed, with or without a word.
        let closed = line.read_to_end(&mut Vec::new());
        let is_open = closed.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!is_open, "a silent connection is never closed");
    }
}

#[test]
fn the_page_shows_the_sets_and_the_names_of_files_stay_text() {
    let computer = Computer::with_console(ANY);
    let hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title=1<";
    let turned = "photo\u{202e}gpj.exe\n</li>";
    Tree::at(computer.home.source())
        .many("photos", 5)
        .file(hostile, "x")
        .mode(hostile, 0o000)
        .file(turned, "x")
        .mode(turned, 0o000);
    computer.protects_its_photos();
    let mut browser = Browser::new();
    let address = format!("http://127.0.0.1:{}/", computer.port());

    browser.opens(&address);
    let asked = browser.reads_until("holdfast console");
    assert!(!asked.contains("photos"), "{asked}");
    browser.opens(&format!("{address}#token={}", "0".repeat(32)));
    browser.reads_until("this token is not the one");

    browser.opens(&format!("{address}#token={}", computer.token()));
    let guid = computer.does(&["guid"]).out;
    let page = browser.reads_until(guid.trim());
    assert!(page.contains("not backed up yet") && page.contains("connected"), "{page}");
    assert_eq!(browser.finds("location.href"), address, "the token stays in the address");

    browser.presses("Back up now");
    let page = browser.reads_until("complete, but 2 files could not be read");
    assert!(page.contains("5 files new"), "{page}");
    browser.finds("document.querySelector('details').open = true");
    let page = browser.reads_until("ermission denied");
    assert!(page.contains(hostile) && page.contains(r"\u{202e}gpj.exe\u{a}</li>"), "{page}");
    assert_eq!(browser.finds("document.title"), "Holdfast");
    let made = "document.querySelectorAll('main img, main script').length";
    assert_eq!(browser.finds(made), "0", "a name became an element");

    // A reader who comes back needs no token; the disk is away by then.
    std::fs::rename(computer.home.repository(), computer.home.join("unplugged")).unwrap();
    browser.opens("about:blank");
    wait_for("an empty page", || browser.finds("location.href") == "about:blank");
    browser.opens(&address);
    browser.reads_until("cannot connect");
    browser.presses("Back up now");
    let page = browser.reads_until("failed");
    assert!(page.contains("What to do:"), "{page}");
    browser.presses("Forget the token in this browser");
    let page = browser.reads_until("Who are you?");
    assert!(!page.contains(guid.trim()), "{page}");
}

#[test]
fn the_icon_on_the_desktop_of_every_dsm_leads_to_where_the_daemon_listens() {
    let computer = Computer::with_console(ANY);
    let port = computer.console()["usual_port"].as_u64().expect("a port").to_string();
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(place.path().join("x86_64")).unwrap();
    for name in ["holdfast", "holdfast-supervisor"] {
        std::fs::write(place.path().join("x86_64").join(name), "#!/bin/sh\n").unwrap();
    }
    let mut build = Command::new(program("spk"));
    build.arg("build").arg("--manifest").arg(workspace().join("scripts/package/package.toml"));
    build.args(["--target", "x86_64", "--programs"]).arg(place.path());
    run(build.arg("-o").arg(place.path().join("built"))).must_succeed();
    let built: Vec<_> = std::fs::read_dir(place.path().join("built")).unwrap().flatten().collect();
    assert_eq!(built.len(), 3, "{built:?}");
    for package in built {
        let folder = tempfile::tempdir().unwrap();
        let unpack = |file: &std::path::Path| {
            run(Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(file))
                .must_succeed();
        };
        unpack(&package.path());
        unpack(&folder.path().join("package.tgz"));
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let info = text("INFO");
        for line in [
            "dsmuidir=\"ui\"",
            "dsmappname=\"org.holdfast.Console\"",
            &format!("adminport=\"{port}\""),
            "adminprotocol=\"http\"",
            "checkport=\"no\"",
        ] {
            assert!(info.lines().any(|found| found == line), "no {line} in {info}");
        }
        let config: serde_json::Value = serde_json::from_str(&text("ui/config")).unwrap();
        let icon = &config[".url"]["org.holdfast.Console"];
        assert_eq!((&icon["port"], &icon["protocol"]), (&json!(port), &json!("http")));
        assert_eq!((&icon["url"], &icon["allUsers"]), (&json!("/"), &json!(false)));
        for pixels in [16, 24, 32, 48, 64, 72, 256] {
            let name = icon["icon"].as_str().unwrap().replace("{0}", &pixels.to_string());
            assert!(folder.path().join("ui").join(&name).is_file(), "{name}");
        }
        let firewall = text("conf/holdfast.sc");
        assert!(firewall.contains(&format!("dst.ports=\"{port}/tcp\"")), "{firewall}");
    }
}
