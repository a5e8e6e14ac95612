//! Somebody packages a program of their own with `spk`, and it lives on a NAS without us.
//!
//! The three are the examples beside `spk`: a shell script that runs, a program in C from Debian,
//! and a page on the desktop.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_stories::{built_and_checked, folder_for_everybody};
use tests_support::nas::{Removal, State};
use tests_support::{Dsm, Hardware, Nas, Shell, fetch, program, run, wait_for, workspace};

/// What answers to a wizard there are.
type Answers = BTreeMap<String, String>;

fn example(name: &str) -> PathBuf {
    workspace().join("spk/examples").join(name)
}

/// Builds an example for one target and DSM; the package.
fn packed(name: &str, target: &str, dsm: &str, place: &Path) -> PathBuf {
    let mut build = Command::new(program("spk"));
    build.arg("build").arg("--manifest").arg(example(name).join("package.toml"));
    build.arg("--programs").arg(place.join("dist")).arg("-o").arg(place.join("out"));
    built_and_checked(build.args(["--target", target, "--dsm", dsm]))
}

fn nas(place: &Path, dsm: Dsm, shell: Shell) -> Nas {
    let hardware = Hardware::of("apollolake").expect("a known platform");
    Nas::create(&place.join("nas"), dsm, hardware, shell).expect("a NAS in a folder")
}

#[test]
fn a_shell_script_becomes_a_daemon_that_starts_stops_and_dies_honestly_on_every_dsm() {
    for (dsm, number, shell) in
        [(Dsm::Five, "5", Shell::Ash), (Dsm::Six, "6", Shell::Ash), (Dsm::Seven, "7", Shell::Bash)]
    {
        let place = folder_for_everybody();
        let nas = nas(place.path(), dsm, shell);
        let spk = packed("heartbeat", "noarch", number, place.path());
        nas.install(&spk, &Answers::new()).expect("it installs");
        assert_eq!(nas.status("heartbeat").expect("a status"), State::Stopped);
        nas.start("heartbeat").expect("it starts");
        assert_eq!(nas.status("heartbeat").expect("a status"), State::Running);
        let beats = nas.var("heartbeat").join("beats");
        let beat = wait_for("a beat", || std::fs::read_to_string(&beats).ok());
        assert!(beat.starts_with("20"), "{beat}");
        nas.start("heartbeat").expect("a second start is no second daemon");
        nas.stop("heartbeat").expect("it stops");
        assert_eq!(nas.status("heartbeat").expect("a status"), State::Stopped);

        nas.start("heartbeat").expect("it starts again");
        nas.cut_power();
        assert_eq!(nas.status("heartbeat").expect("a status"), State::Dead(1), "{dsm}");
        nas.start("heartbeat").expect("after the power cut");
        assert_eq!(nas.status("heartbeat").expect("a status"), State::Running);
        nas.uninstall("heartbeat", Removal::AsDsm, &Answers::new()).expect("it goes");
        assert_eq!(nas.installed("heartbeat"), None);
    }
}

#[test]
fn a_program_of_debian_serves_its_page_on_the_port_the_owner_named() {
    let place = folder_for_everybody();
    run(Command::new(example("web-server").join("fetch")).arg(place.path().join("dist")))
        .must_succeed();
    let nas = nas(place.path(), Dsm::Seven, Shell::Bash);
    let spk = packed("web-server", "x86_64", "7", place.path());
    let name = "web-server";
    let port = wait_for("a free port", || {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a port").port().to_string();
        let answers = Answers::from([("wizard_port".to_owned(), port.clone())]);
        nas.install(&spk, &answers).expect("it installs");
        // Somebody may have taken it meanwhile: then it says that it did not start.
        if nas.start(name).is_ok() {
            return Some(port);
        }
        assert_ne!(nas.status(name).expect("a status"), State::Running);
        nas.uninstall(name, Removal::Everything, &Answers::new()).expect("it goes");
        None
    });
    let page = wait_for("a page", || fetch(&format!("http://127.0.0.1:{port}/")).ok());
    assert!(String::from_utf8_lossy(&page.body).contains("It works"));
    nas.stop(name).expect("it stops");
    assert!(fetch(&format!("http://127.0.0.1:{port}/")).is_err(), "it is still served");
    nas.uninstall(name, Removal::AsDsm, &Answers::new()).expect("it goes");
}

#[test]
fn a_page_on_the_desktop_needs_no_program_at_all() {
    for (dsm, number) in [(Dsm::Five, "5"), (Dsm::Seven, "7")] {
        let place = folder_for_everybody();
        let nas = nas(place.path(), dsm, Shell::Ash);
        let spk = packed("web-page", "noarch", number, place.path());
        nas.install(&spk, &Answers::new()).expect("it installs");
        assert_eq!(nas.status("web-page").expect("a status"), State::Running, "nothing can fail");
        let ui = nas.target("web-page").join("ui");
        let config = std::fs::read(ui.join("config")).expect("ui/config");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        let class = &config[".url"]["org.holdfast.HouseRules"];
        let page = class["url"].as_str().and_then(|url| url.strip_prefix("3rdparty/web-page/"));
        assert!(ui.join(page.expect("a page of its own")).is_file());
        let icon = class["icon"].as_str().expect("an icon").replace("{0}", "48");
        let png = std::fs::read(ui.join(icon)).expect("every size of the icon");
        assert_eq!(png[16..24], [0, 0, 0, 48, 0, 0, 0, 48]);
        nas.uninstall("web-page", Removal::AsDsm, &Answers::new()).expect("it goes");
    }
}
