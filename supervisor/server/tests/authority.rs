//! A certificate from an authority: Pebble, which Let's Encrypt wrote for tests of such clients. It
//! looks at the name, refuses nonces now and then, and signs for a few seconds only.

#[allow(dead_code, reason = "nothing is published here")]
mod keeper;

use keeper::Keeper;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests_support::peer;

/// A certificate's life.
const LIFE_SECONDS: u32 = 15;

/// A certificate authority; it ends with the test.
struct Authority {
    child: Child,
    port: u16,
    management: u16,
}

impl Authority {
    /// Starts one that looks for names at that port of theirs.
    fn start(keeper: &Keeper, http_port: u16) -> Self {
        let certify = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let named = ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "own-key.pem"];
        let is_own = ["-out", "own.pem", "-addext", "subjectAltName=DNS:localhost"];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
        keeper.runs("openssl", &[&certify[..], &named, &is_own, &leaf].concat()).well();
        let program = peer("pebble");
        // It does not say which port it took, so it is told; somebody may have taken it meanwhile.
        for _ in 0..5 {
            let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let [port, management] = held.map(|held| held.local_addr().unwrap().port());
            let settings = format!(
                r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}",
                "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "own.pem", "privateKey": "own-key.pem", "httpPort": {http_port},
                "tlsPort": 9, "certificateValidityPeriod": {LIFE_SECONDS}}}}}"#
            );
            std::fs::write(keeper.path("authority.json"), settings).unwrap();
            let child = Command::new(&program)
                .args(["-config", "authority.json"])
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "20")
                .current_dir(keeper.path(""))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut authority = Self { child, port, management };
            if authority.answers(keeper) {
                return authority;
            }
        }
        panic!("pebble does not start");
    }

    /// Waits until it answers; false when it ended.
    fn answers(&mut self, keeper: &Keeper) -> bool {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            let root = format!("https://localhost:{}/roots/0", self.management);
            let directory = format!("https://localhost:{}/dir", self.port);
            let said = keeper.runs("curl", &["-sSfk", "--noproxy", "*", "-o", "root.pem", &root]);
            let there = keeper.runs("curl", &["-sSfk", "--noproxy", "*", &directory]);
            if said.code == 0 && there.code == 0 {
                return true;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{said:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// A port that leads to the depot, as soon as it is known where that listens: each has to know the
/// other's port before it starts.
fn way_to(depot: Arc<Mutex<Option<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            let Some(address) = depot.lock().unwrap().clone() else { continue };
            let Ok(to) = TcpStream::connect(address) else { continue };
            let (mut asked, mut asks) = (caller.try_clone().unwrap(), to.try_clone().unwrap());
            let (mut caller, mut to) = (caller, to);
            std::thread::spawn(move || std::io::copy(&mut caller, &mut asks));
            std::thread::spawn(move || std::io::copy(&mut to, &mut asked));
        }
    });
    port
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_certificate_comes_from_an_authority_is_renewed_in_time_and_outlasts_it() {
    let keeper = Keeper::new();
    let depot = Arc::new(Mutex::new(None));
    let authority = Authority::start(&keeper, way_to(depot.clone()));
    let directory = format!("https://localhost:{}/dir", authority.port);
    let serve = ["serve", "--root", "depot", "--listen", "127.0.0.1:0", "--log", "info"];
    let tls = ["--listen-tls", "127.0.0.1:0", "--acme", "localhost"];
    let whom = ["--acme-directory", &directory];
    let log = std::fs::File::create(keeper.path("log")).unwrap();
    let mut process = keeper
        .command(&[&serve[..], &tls, &whom].concat())
        .env("SSL_CERT_FILE", keeper.path("own.pem"))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let _running = Running(process);
    let mut place = || lines.next().unwrap().unwrap().rsplit_once("//").unwrap().1.to_owned();
    *depot.lock().unwrap() = Some(place());
    let port = place().rsplit_once(':').unwrap().1.to_owned();
    let url = format!("https://localhost:{port}/");
    let asked = |how: &[&str]| {
        let quiet = ["-sS", "--noproxy", "*", "--resolve"];
        let here = format!("localhost:{port}:127.0.0.1");
        keeper.runs("curl", &[&quiet[..], &[&here], how, &[&url]].concat()).code == 0
    };
    wait_for("a certificate that is believed", || asked(&["--cacert", "root.pem"]));
    let file = keeper.path("depot/acme/certificate.pem");
    let first = std::fs::read(&file).unwrap();
    let account = || std::fs::read(keeper.path("depot/acme/account.json")).unwrap();
    let ours = account();
    wait_for("the next one", || std::fs::read(&file).unwrap() != first);
    assert!(account() == ours, "it asks by the account that it has");
    wait_for("the next one in use", || asked(&["--cacert", "root.pem"]));
    for secret in ["certificate.pem", "account.json"] {
        let path = keeper.path("depot/acme").join(secret);
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    drop(authority);
    let log = || std::fs::read_to_string(keeper.path("log")).unwrap();
    wait_for("a warning", || log().contains("the old certificate stays"));
    assert!(log().contains("what to do:"), "{}", log());
    assert!(asked(&["--insecure"]), "it is still served");
}
