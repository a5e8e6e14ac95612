//! Daemons that know nothing of us, wrapped as packages: a shell script, the REST server of
//! restic's authors, and Debian's nginx with its workers. Installed, started, crashed, upgraded
//! and removed as any package is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_stories::folder_for_everybody;
use tests_support::nas::{Removal, State};
use tests_support::{Dsm, Hardware, Nas, Shell, peer, program, run, wait_for, workspace};

/// What makes one daemon a package.
struct Foreign {
    name: &'static str,
    /// The signal that ends it without any warning.
    dies_of: &'static str,
    /// Its program, as it lies on this machine.
    program: PathBuf,
    /// The table `[daemon]`.
    daemon: &'static str,
}

impl Foreign {
    fn script(folder: &Path) -> Self {
        let program = folder.join("ticker.sh");
        let script = "#!/bin/sh\n# Counts, and stops when asked.\ntrap 'exit 0' TERM\n\
                      test -e \"$1/count\" || echo 0 >\"$1/count\"\n\
                      while :; do sleep 1 & wait $!; done\n";
        fs::write(&program, script).unwrap();
        let daemon = "command = [\"/bin/sh\", \"{target}/bin/ticker\", \"{var}\"]\n\
                      ready_seconds = 0\nstop_seconds_max = 5\n";
        Self { name: "ticker", dies_of: "-SEGV", program, daemon }
    }

    fn rest_server() -> Self {
        let daemon = "command = [\"{target}/bin/restserver\", \"--no-auth\", \"--listen\", \
                      \"127.0.0.1:0\", \"--path\", \"{var}/data\"]\n\
                      ready_seconds = 1\nstop_seconds_max = 5\nidle_io = true\nnice = 10\n";
        Self { name: "restserver", dies_of: "-SEGV", program: peer("rest-server"), daemon }
    }

    /// A master with two workers, which outlive it when it is killed and keep what it listened at.
    fn nginx(folder: &Path) -> Self {
        let program = folder.join("nginxd.sh");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path $1/{what};"))
            .concat();
        let script = format!(
            "#!/bin/sh\nrm -f \"$1/nginx.sock\"\ncat >\"$1/nginx.conf\" <<END\n\
             daemon off; worker_processes 2;\n\
             pid $1/nginx.pid; error_log stderr; events {{ worker_connections 64; }}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen unix:$1/nginx.sock; return 200 served; }} }}\nEND\n\
             exec nginx -e stderr -p \"$1\" -c \"$1/nginx.conf\"\n"
        );
        fs::write(&program, script).unwrap();
        let daemon = "command = [\"/bin/sh\", \"{target}/bin/nginxd\", \"{var}\"]\n\
                      ready_seconds = 1\nstop_signal = \"QUIT\"\nstop_seconds_max = 20\n";
        Self { name: "nginxd", dies_of: "-KILL", program, daemon }
    }

    /// Its package in this version.
    fn package(&self, version: &str, dsm: Dsm, folder: &Path) -> PathBuf {
        let folder = folder.join(format!("{}-{version}", self.name));
        let put = |from: &Path, to: &str| {
            let to = folder.join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, &to).unwrap();
        };
        put(&self.program, &format!("payload/{}", self.name));
        put(&program("holdfast-supervisor"), "payload/holdfast-supervisor");
        let ours = workspace().join("scripts/package");
        put(&ours.join("icon.png"), "icon.png");
        for script in fs::read_dir(ours.join("scripts")).unwrap().flatten() {
            put(&script.path(), &format!("scripts/{}", script.file_name().to_string_lossy()));
        }
        let major = if dsm == Dsm::Seven { 7 } else { 6 };
        let manifest = format!(
            "[package]\nname = \"{}\"\nversion = \"{version}\"\ndisplayname = \"Foreign\"\n\
             description = \"Somebody else's daemon.\"\nmaintainer = \"Somebody\"\n\
             targets = [\"x86_64\"]\n[dsm]\nbuild = [{major}]\n[[payload]]\nfrom = \"payload\"\n\
             to = \"bin\"\nmode = 0o755\n[scripts]\nfolder = \"scripts\"\n[icon]\n\
             file = \"icon.png\"\n[daemon]\n{}",
            self.name, self.daemon
        );
        fs::write(folder.join("package.toml"), manifest).unwrap();
        let mut build = Command::new(program("spk"));
        build.arg("build").arg("--manifest").arg(folder.join("package.toml"));
        run(build.arg("-o").arg(folder.join("dist"))).must_succeed();
        let mut built = fs::read_dir(folder.join("dist")).unwrap().flatten();
        built.find(|entry| entry.path().extension().is_some_and(|it| it == "spk")).unwrap().path()
    }
}

/// The daemon's own process: the only one of the NAS that is no supervisor and no child of one's.
fn daemon_of(nas: &Nas, name: &str) -> Option<u32> {
    let text = fs::read_to_string(nas.var(name).join(format!("run/{name}.pid"))).ok()?;
    text.trim().parse().ok()
}

/// Every process of a daemon, whatever program it is: they work where the daemon was started.
fn daemon_processes(nas: &Nas, name: &str) -> Vec<u32> {
    let var = nas.var(name).display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let works_there = |pid: &u32| {
        let place = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        place.display().to_string().trim_end_matches(" (deleted)") == var
    };
    pids.filter(works_there).collect()
}

fn lives_as_any_package(foreign: &Foreign, dsm: Dsm, works: impl Fn(&Nas)) {
    let folder = folder_for_everybody();
    let hardware = Hardware::of("apollolake").expect("a known platform");
    let shell = if dsm == Dsm::Seven { Shell::Bash } else { Shell::Ash };
    let nas = Nas::create(&folder.path().join("nas"), dsm, hardware, shell).expect("a NAS");
    let name = foreign.name;
    let none = BTreeMap::new();
    let said = |error: &dyn std::fmt::Display| {
        format!("{error}\n{}", fs::read_to_string(nas.package_log(name)).unwrap_or_default())
    };
    let first = foreign.package("1.0-0001", dsm, folder.path());
    nas.install(&first, &none).unwrap_or_else(|error| panic!("{}", said(&error)));
    assert_eq!(nas.status(name).unwrap(), State::Stopped);
    nas.start(name).unwrap_or_else(|error| panic!("{}", said(&error)));
    assert_eq!(nas.status(name).unwrap(), State::Running);
    works(&nas);

    let pid = daemon_of(&nas, name).expect("a PID file");
    let before = daemon_processes(&nas, name);
    assert!(before.contains(&pid), "{before:?}");
    run(Command::new("kill").args([foreign.dies_of, &pid.to_string()])).must_succeed();
    wait_for("it is started again", || {
        nas.status(name).is_ok_and(|state| state == State::Running)
            && daemon_of(&nas, name).is_some_and(|now| now != pid)
    });
    works(&nas);
    let now = daemon_processes(&nas, name);
    assert!(before.iter().all(|old| !now.contains(old)), "{before:?} outlived it: {now:?}");

    fs::write(nas.var(name).join("precious"), "an owner's").unwrap();
    let second = foreign.package("1.0-0002", dsm, folder.path());
    nas.upgrade(&second, &none).unwrap_or_else(|error| panic!("{}", said(&error)));
    assert_eq!(nas.status(name).unwrap(), State::Running);
    assert_eq!(fs::read_to_string(nas.var(name).join("precious")).unwrap(), "an owner's");
    works(&nas);

    // It has no identity: nothing of our engine is put into its folders.
    assert!(!nas.var(name).join("identity").exists());
    nas.uninstall(name, Removal::AsDsm, &none).unwrap_or_else(|error| panic!("{}", said(&error)));
    let left = [nas.processes(), daemon_processes(&nas, name)].concat();
    assert!(left.is_empty(), "a child was left behind: {left:?}");
}

#[test]
fn a_shell_script_is_a_well_behaved_package() {
    let folder = folder_for_everybody();
    for dsm in [Dsm::Six, Dsm::Seven] {
        lives_as_any_package(&Foreign::script(folder.path()), dsm, |nas| {
            wait_for("it counts", || nas.var("ticker").join("count").exists());
        });
    }
}

#[test]
fn the_rest_server_of_restics_authors_is_a_well_behaved_package() {
    lives_as_any_package(&Foreign::rest_server(), Dsm::Seven, |nas| {
        let log = nas.var("restserver").join("log/supervisor.log");
        let answers = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let line = text.lines().rev().find_map(|line| line.rsplit_once("server on "))?;
            let mut stream = TcpStream::connect(line.1.trim()).ok()?;
            stream.write_all(b"GET /nothing/config HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.0 404").then_some(())
        };
        wait_for("it answers over HTTP", answers);
    });
}

#[test]
fn nginx_is_a_well_behaved_package_and_its_workers_do_not_outlive_it() {
    let folder = folder_for_everybody();
    lives_as_any_package(&Foreign::nginx(folder.path()), Dsm::Seven, |nas| {
        let socket = nas.var("nginxd").join("nginx.sock");
        let answers = || {
            let mut stream = UnixStream::connect(&socket).ok()?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.ends_with("served").then_some(())
        };
        wait_for("it answers over HTTP", answers);
        wait_for("both workers are there", || daemon_processes(nas, "nginxd").len() == 3);
    });
}
