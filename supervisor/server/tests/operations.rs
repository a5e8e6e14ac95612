//! A depot in service: what the log and the metrics say, a reload in the middle of a download, the
//! unit for systemd as it is written.

mod keeper;

use keeper::{Keeper, Serving};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BOX: &str = "?arch=apollolake&major=7&build=72806&language=enu";
/// What a server must do is waited for, this long at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// Serves `root`, with standard error in the keeper's file `log`.
fn serves(keeper: &Keeper, root: &str, flags: &[&str], places: usize) -> Serving {
    let log = std::fs::File::create(keeper.path("log")).unwrap();
    let mut command = keeper.command(&["serve", "--root", root, "--listen", "127.0.0.1:0"]);
    let mut process = command.args(flags).stderr(log).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let urls = lines.take(places).map(|line| line.unwrap().split(" on ").nth(1).unwrap().into());
    Serving { urls: urls.collect(), process }
}

fn curl(keeper: &Keeper, words: &[&str]) -> String {
    keeper.runs("curl", &[&["-sS", "--noproxy", "*"], words].concat()).well()
}

fn waits_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(it) = found() {
            return it;
        }
        assert!(begun.elapsed() < PATIENCE, "there never was {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn asks_to(serving: &Serving, signal: &str) {
    let done = Command::new("kill").args([signal, &serving.process.id().to_string()]).status();
    assert!(done.unwrap().success());
}

#[test]
fn a_log_of_json_lines_says_what_was_asked_and_nothing_of_who_asked() {
    let keeper = Keeper::new();
    keeper.publishes("hello", "1.0.0-1");
    let mut serving = serves(&keeper, "depot", &["--log", "debug", "--log-format", "json"], 1);
    let url = serving.urls[0].clone();
    let secrets = "unique=synology_avoton_secret&ds_sn=1234567890&timezone=Taipei";
    curl(&keeper, &["-A", "agent-secret", &format!("{url}/{BOX}&{secrets}")]);
    curl(&keeper, &["-e", "http://referer-secret/", "-H", "X-Forwarded-For: 203.0.113.9", &url]);
    curl(&keeper, &["-d", secrets, &format!("{url}/a%22b%0Ac")]);
    curl(&keeper, &["-o", "/dev/null", &format!("{url}/packages/nothing.spk")]);
    asks_to(&serving, "-TERM");
    assert!(serving.process.wait().unwrap().success());
    let log = std::fs::read_to_string(keeper.path("log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let answered = lines.iter().filter(|line| line["message"] == "answered");
    let answered: Vec<_> = answered
        .map(|line| {
            assert_eq!(line["level"], "info");
            assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
            format!("{} {} {}", line["method"], line["path"], line["status"]).replace('"', "")
        })
        .collect();
    let expected =
        ["GET / 200", "GET / 200", "POST /a%22b%0Ac 200", "GET /packages/nothing.spk 404"];
    assert_eq!(answered, expected);
    for personal in ["secret", "1234567890", "Taipei", "203.0.113.9", "127.0.0.1", "avoton"] {
        assert!(!log.contains(personal), "{personal} is in the log:\n{log}");
    }
}

/// A figure of the page for Prometheus.
fn figure(keeper: &Keeper, metrics: &str, name: &str) -> Option<u64> {
    let page = curl(keeper, &["-f", metrics]);
    let mut lines = page.lines();
    lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn the_days_until_signatures_end_are_figures_and_grow_when_they_are_renewed() {
    let keeper = Keeper::new();
    let program = env!("CARGO_BIN_EXE_holdfast-depot");
    keeper.runs("faketime", &["-f", "-5d", program, "init", "--root", "aged"]).well();
    let days = |metrics: &str, role: &str| {
        figure(&keeper, metrics, &format!("holdfast_depot_signature_days{{role=\"{role}\"}}"))
    };
    for (root, passed) in [("depot", 0), ("aged", 5)] {
        let serving = keeper.serves(root, &["--metrics", "127.0.0.1:0"], 2);
        let metrics = &serving.urls[1];
        for (role, valid) in [("root", 1825), ("targets", 400)] {
            let left = days(metrics, role).unwrap();
            // Less than a whole day has passed since it was signed, and that counts.
            assert!((valid - passed - 1..=valid - passed).contains(&left), "{role}: {left}");
        }
        for role in ["snapshot", "timestamp"] {
            waits_for("a renewal", || days(metrics, role).filter(|left| *left >= 20));
        }
        // What the command says is what the page says, a moment later.
        let shown = keeper.types(&["keys", "show", "--root", root]).well();
        let left = days(metrics, "targets").unwrap();
        let is_said = |days: u64| shown.contains(&format!("({days} days)"));
        assert!(is_said(left) || is_said(left + 1), "{left}: {shown}");
    }
}

#[test]
fn a_reload_in_the_middle_of_a_download_changes_the_certificate_and_breaks_nothing() {
    let keeper = Keeper::new();
    let mut content = vec![0; 24 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    let file = keeper.builds_with("hello", "1.0.0-1", &content);
    keeper.types(&["publish", "--root", "depot", &file]).well();
    certify(&keeper, "first");
    let tls = ["--listen-tls", "127.0.0.1:0", "--tls-cert", "chain.pem", "--tls-key", "key.pem"];
    let log = ["--log", "info", "--log-format", "json"];
    let serving = serves(&keeper, "depot", &[&tls[..], &log].concat(), 2);
    let [plain, encrypted] = &serving.urls[..] else { panic!("{:?}", serving.urls) };
    let mut download = TcpStream::connect(plain.strip_prefix("http://").unwrap()).unwrap();
    download.set_read_timeout(Some(PATIENCE)).unwrap();
    let path = "/packages/hello-1.0.0-1-dsm7-x86_64.spk";
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    download.write_all(request.as_bytes()).unwrap();
    let mut begin = vec![0; 100_000];
    download.read_exact(&mut begin).unwrap();

    // It is in the middle now: what follows does not fit into what the kernel keeps for us. Who
    // takes nothing for half a minute is shown out, so a little is taken all the time.
    let hurry = Arc::new(AtomicBool::new(false));
    let hurries = hurry.clone();
    let download = std::thread::spawn(move || {
        let mut whole = begin;
        let mut piece = vec![0; 32 * 1024];
        while !hurries.load(Ordering::Relaxed) {
            let count = download.read(&mut piece).unwrap();
            whole.extend_from_slice(&piece[..count]);
            std::thread::sleep(Duration::from_millis(200));
        }
        download.read_to_end(&mut whole).unwrap();
        whole
    });
    std::fs::copy(keeper.path("chain.pem"), keeper.path("first.pem")).unwrap();
    certify(&keeper, "second");
    asks_to(&serving, "-HUP");
    let shows = |ca: &str| {
        let words = ["-sS", "--noproxy", "*", "--cacert", ca, encrypted];
        keeper.runs("curl", &words).code == 0
    };
    waits_for("the second certificate", || shows("chain.pem").then_some(()));
    assert!(!shows("first.pem"));

    // A pair that does not fit is refused, and the one in use stays.
    std::fs::write(keeper.path("key.pem"), "nonsense").unwrap();
    asks_to(&serving, "-HUP");
    waits_for("a word about it", || {
        let log = std::fs::read_to_string(keeper.path("log")).unwrap();
        log.contains("the old certificate stays").then_some(())
    });
    assert!(shows("chain.pem"));

    hurry.store(true, Ordering::Relaxed);
    let whole = download.join().unwrap();
    let begin = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(whole[begin..] == std::fs::read(keeper.path(&file)).unwrap()[..], "other bytes");
}

/// A certificate for 127.0.0.1 that signs itself.
fn certify(keeper: &Keeper, name: &str) {
    let how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
               -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out chain.pem -subj";
    let subject = format!("/CN={name}");
    let words: Vec<_> = how.split_whitespace().chain([subject.as_str()]).collect();
    keeper.runs("openssl", &words).well();
}

#[test]
fn a_depot_is_made_at_the_first_start_and_kept_at_the_next() {
    let keeper = Keeper::new();
    let answers = keeper.path("answers.json");
    for (said, code) in
        [(None, None), (Some("{}"), None), (Some(r#"{"wizard_port":"x"}"#), Some(1))]
    {
        if let Some(said) = said {
            std::fs::write(&answers, said).unwrap();
        }
        if code.is_some() {
            let flags = ["serve", "--root", "made", "--make", "--answers", "answers.json"];
            keeper.types(&flags).with_a_remedy();
            continue;
        }
        let serving = keeper.serves("made", &["--make", "--answers", "answers.json"], 1);
        let list = curl(&keeper, &[&format!("{}/{BOX}", serving.urls[0])]);
        assert_eq!(list, r#"{"packages":[]}"#);
        let trusted = keeper.types(&["keys", "export", "--root", "made"]).well();
        let before = std::fs::read_to_string(keeper.path("trusted")).unwrap_or(trusted.clone());
        assert_eq!(trusted, before, "it made other keys");
        std::fs::write(keeper.path("trusted"), trusted).unwrap();
    }
    // Without the flag a folder with nothing in it is no depot, and stays as it is.
    let nothing = ["serve", "--root", "nothing", "--listen", "127.0.0.1:0"];
    keeper.types(&nothing).with_a_remedy();
    assert!(!keeper.path("nothing").exists());
}

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/depot/holdfast-depot.service")
}

/// What the unit says behind `NAME=`, its lines joined as systemd joins them.
fn said_by_the_unit(name: &str) -> String {
    let text = std::fs::read_to_string(unit()).unwrap().replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the unit's own lines where nothing is in their way: the network, `/var/lib` and
/// `/usr/local/bin` are this process's own.
const AS_SYSTEMD: &str = r#"
set -eu
program=$1 start=$2 reload=$3 stage=$4
mount -t tmpfs x /var/lib
mount -t tmpfs x /usr/local/bin
cp "$program" /usr/local/bin/holdfast-depot
mkdir /var/lib/holdfast-depot
busybox ip link set lo up
$start >"$stage/out" 2>"$stage/err" &
MAINPID=$!
until grep -q 'listening on' "$stage/out"; do
    kill -0 $MAINPID || { cat "$stage/err"; exit 1; }
    sleep 0.1
done
ask() { curl -sSf --noproxy '*' "http://127.0.0.1:8484/?arch=avoton&major=7&build=72806"; }
ask
eval "$reload"
ask
kill -TERM $MAINPID
wait $MAINPID
ls /var/lib/holdfast-depot/keys
"#;

#[test]
fn the_unit_of_systemd_is_sound_and_its_own_lines_start_reload_and_stop_a_depot() {
    let keeper = Keeper::new();
    let text = std::fs::read_to_string(unit()).unwrap();
    // Its program is not installed on this machine, and this is all that is wrong with it.
    let here = text.replace("/usr/local/bin/holdfast-depot", "/bin/true");
    std::fs::write(keeper.path("holdfast-depot.service"), here).unwrap();
    if Command::new("systemd-analyze").arg("--version").output().is_ok() {
        let verified = keeper.runs("systemd-analyze", &["verify", "./holdfast-depot.service"]);
        assert_eq!((verified.code, verified.err.as_str()), (0, ""), "{}", verified.out);
    }
    let spaces = ["--mount", "--net", "--map-root-user"];
    let mounts = [&spaces[..], &["mount", "-t", "tmpfs", "x", "/var/lib"]].concat();
    if keeper.runs("unshare", &mounts).code != 0 {
        eprintln!("this machine gives nobody a network of their own: the unit was only read");
        return;
    }
    let stage = keeper.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = env!("CARGO_BIN_EXE_holdfast-depot");
    let (start, reload) = (said_by_the_unit("ExecStart"), said_by_the_unit("ExecReload"));
    assert!(start.starts_with("/usr/local/bin/holdfast-depot serve --make"), "{start}");
    let script = ["sh", "-c", AS_SYSTEMD, "sh", program, &start, &reload];
    let words = [&spaces[..], &script, &[stage.to_str().unwrap()]].concat();
    let said = keeper.runs("unshare", &words).well();
    let list = r#"{"packages":[]}"#;
    assert_eq!(said, format!("{list}{list}root.key\nsnapshot.key\ntargets.key\ntimestamp.key\n"));
}
