//! DSM's scripts, in DSM's order: installation, upgrade, removal, migration, and hostile input.

mod world;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use tests_support::put_program;
use world::{GOOD, Nas, PACKAGE};

fn installed(major: u32) -> Nas {
    let mut nas = Nas::empty(major);
    nas.install(GOOD);
    nas
}

#[test]
fn a_fresh_installation_has_private_folders_and_an_identity_in_every_place() {
    for major in [5, 6, 7] {
        let mut nas = Nas::empty(major);
        // Some DSM call it before a first installation too.
        nas.hook("preupgrade", "INSTALL");
        nas.install(GOOD);
        let guid: u64 = nas.guid().parse().unwrap();
        assert!(guid > 0);
        let mode = fs::metadata(nas.var()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let mut places = vec![nas.var().join("identity"), nas.etc().join("identity")];
        if major < 7 {
            places.push(nas.path("var/lib").join(PACKAGE).join("identity"));
        }
        for place in places {
            let text = fs::read_to_string(&place).unwrap();
            assert!(text.contains(&format!("guid={guid}\n")), "{}", place.display());
        }
    }
}

#[test]
fn an_upgrade_keeps_identity_settings_and_everything_else() {
    for major in [5, 6, 7] {
        let mut nas = installed(major);
        nas.start();
        fs::create_dir(nas.var().join("cache")).unwrap();
        fs::write(nas.var().join("cache/index"), "much work").unwrap();
        fs::write(nas.var().join("settings.json"), "{}").unwrap();
        let guid = nas.guid();
        nas.upgrade(GOOD);
        assert_eq!(nas.guid(), guid, "DSM {major}");
        assert_eq!(fs::read_to_string(nas.var().join("cache/index")).unwrap(), "much work");
        assert!(nas.var().join("settings.json").exists());
        assert!(!nas.path("volume1/@appstore").join(format!("{PACKAGE}.kept")).exists());
        nas.start();
    }
}

#[test]
fn an_upgrade_that_broke_off_anywhere_is_finished_by_a_later_one() {
    let scripts: [(&str, bool); 6] = [
        ("preupgrade", false),
        ("preuninst", false),
        ("postuninst", false),
        ("preinst", true),
        ("postinst", false),
        ("postupgrade", false),
    ];
    for broken_after in 0..scripts.len() {
        let mut nas = installed(6);
        fs::write(nas.var().join("settings.json"), "{}").unwrap();
        let guid = nas.guid();
        for (script, unpacks) in &scripts[..=broken_after] {
            nas.hook(script, "UPGRADE");
            if *unpacks {
                nas.unpack(GOOD, world::QUICK);
            }
        }
        // The owner presses Repair, which is an upgrade to the same version.
        nas.upgrade(GOOD);
        assert_eq!(nas.guid(), guid, "broken off after {}", scripts[broken_after].0);
        assert!(nas.var().join("settings.json").exists(), "{broken_after}");
    }
}

#[test]
fn every_script_run_twice_does_what_it_did_once() {
    for major in [6, 7] {
        let mut nas = installed(major);
        let guid = nas.guid();
        for script in ["preupgrade", "preuninst", "postuninst", "preinst"] {
            nas.hook(script, "UPGRADE");
            nas.hook(script, "UPGRADE");
        }
        nas.unpack(GOOD, world::QUICK);
        for script in ["postinst", "postupgrade"] {
            nas.hook(script, "UPGRADE");
            nas.hook(script, "UPGRADE");
        }
        assert_eq!(nas.guid(), guid);
    }
}

#[test]
fn what_waits_is_not_lost_when_a_payload_brings_data_of_its_own() {
    let mut nas = installed(6);
    fs::write(nas.var().join("settings.json"), "the owner's").unwrap();
    let guid = nas.guid();
    nas.hook("preupgrade", "UPGRADE");
    nas.unpack(GOOD, world::QUICK);
    fs::create_dir(nas.var()).unwrap();
    fs::write(nas.var().join("settings.json"), "a default").unwrap();
    nas.hook("postinst", "UPGRADE");
    nas.hook("postupgrade", "UPGRADE");
    assert_eq!(fs::read_to_string(nas.var().join("settings.json")).unwrap(), "the owner's");
    assert_eq!(fs::read_to_string(nas.var().join("settings.json.new")).unwrap(), "a default");
    assert_eq!(nas.guid(), guid);
}

#[test]
fn data_of_dsm_6_moves_to_where_dsm_7_keeps_it() {
    let mut six = installed(6);
    fs::write(six.var().join("settings.json"), "{}").unwrap();
    let guid = six.guid();
    // DSM 7 takes over the same disk: target/var is still there, var is new and empty.
    let mut seven = Nas::empty(7);
    seven.unpack(GOOD, world::QUICK);
    let copied = std::process::Command::new("cp")
        .args(["-a", &six.var().display().to_string(), &seven.target().display().to_string()])
        .status()
        .unwrap();
    assert!(copied.success());
    seven.upgrade(GOOD);
    assert_eq!(seven.guid(), guid);
    assert!(seven.var().join("settings.json").exists());
    assert!(!seven.target().join("var").exists());
    six.hook("preuninst", "UNINSTALL");
}

#[test]
fn a_removal_keeps_the_data_unless_the_owner_says_otherwise() {
    for major in [6, 7] {
        let mut nas = installed(major);
        fs::write(nas.var().join("settings.json"), "{}").unwrap();
        let guid = nas.guid();
        nas.start();
        nas.hook("preuninst", "UNINSTALL");
        nas.runs_nothing();
        nas.wipe_target();
        nas.install(GOOD);
        assert_eq!(nas.guid(), guid, "DSM {major}");
        assert!(nas.var().join("settings.json").exists(), "DSM {major}");

        let delete = [("wizard_delete_data", "true")];
        let answer = nas.try_hook("preuninst", "UNINSTALL", &delete);
        assert_eq!(answer.code, 0, "{}", answer.said);
        assert!(!nas.var().join("settings.json").exists(), "DSM {major}");
        nas.wipe_target();
        nas.install(GOOD);
        assert!(!nas.var().join("settings.json").exists(), "DSM {major}");
        // The identity is no secret, and a later installation may want it.
        assert_eq!(nas.guid(), guid, "DSM {major}");
    }
}

#[test]
fn an_answer_to_delete_means_nothing_during_an_upgrade() {
    let mut nas = installed(7);
    fs::write(nas.var().join("settings.json"), "{}").unwrap();
    for script in ["preuninst", "postuninst"] {
        nas.try_hook(script, "UPGRADE", &[("wizard_delete_data", "true")]);
    }
    assert!(nas.var().join("settings.json").exists());
}

/// What is left where a copy was lost; `None`: nothing.
const LEFT_OF_A_COPY: [Option<&str>; 4] = [
    None,
    Some(""),
    Some("# Holdfast identity. It na"),
    Some("guid=1\ngeneration=9\nchecksum=00\n"),
];

#[test]
fn whichever_copies_of_the_identity_are_lost_any_one_that_is_left_restores_all() {
    for major in [5, 6, 7] {
        let mut nas = installed(major);
        let guid = nas.guid();
        let mut places = vec![nas.var().join("identity"), nas.etc().join("identity")];
        if major < 7 {
            places.push(nas.path("var/lib").join(PACKAGE).join("identity"));
        }
        let whole = fs::read_to_string(&places[0]).unwrap();
        let subsets = (1..1_u32 << places.len()).flat_map(|kept| {
            LEFT_OF_A_COPY.iter().enumerate().map(move |(at, left)| (kept, at, left))
        });
        for (kept, at, left) in subsets {
            for (place, path) in places.iter().enumerate().filter(|(it, _)| kept >> it & 1 == 0) {
                // The folder may be gone with it; the next place has lost its copy otherwise.
                match LEFT_OF_A_COPY[(at + place) % LEFT_OF_A_COPY.len()] {
                    None if path.starts_with(nas.path("var/lib")) => {
                        fs::remove_dir_all(path.parent().unwrap()).unwrap();
                    }
                    None => fs::remove_file(path).unwrap(),
                    Some(left) => fs::write(path, left).unwrap(),
                }
            }
            let when = format!("DSM {major}, kept {kept:b}, {left:?}");
            assert_eq!(nas.guid(), guid, "{when}");
            if at % 2 == 0 {
                nas.hook("postinst", "UPGRADE");
            } else {
                nas.start();
                nas.expect_code("stop", 0);
            }
            for path in &places {
                let restored = fs::read_to_string(path).unwrap_or_default();
                assert_eq!(restored, whole, "{when}: {}", path.display());
            }
        }
    }
}

#[test]
fn copies_that_disagree_are_reported_and_settled_by_the_owner() {
    let mut nas = installed(7);
    let guid = nas.guid();
    let mut other = installed(7);
    let others = other.guid();
    fs::copy(other.var().join("identity"), nas.etc().join("identity")).unwrap();
    nas.hook("postinst", "UPGRADE");
    let answer = nas.service("start");
    assert_eq!(answer.code, 1);
    let (one, two) = (answer.said.contains(&guid), answer.said.contains(&others));
    assert!(one && two && answer.said.contains("identity set GUID"), "{}", answer.said);
    assert!(nas.message().contains("identity set GUID"));
    assert_eq!(nas.run(&["identity", "set", &guid]).code, 0);
    nas.start();
    assert_eq!(nas.guid(), guid);
    other.hook("preuninst", "UNINSTALL");
}

#[test]
fn what_a_daemon_took_over_while_it_ran_is_in_every_copy_after_a_stop() {
    let nas = installed(7);
    let mut other = installed(7);
    nas.start();
    assert_eq!(other.run(&["identity", "adopt", "77"]).code, 0);
    fs::copy(other.var().join("identity"), nas.var().join("identity")).unwrap();
    nas.expect_code("stop", 0);
    assert!(fs::read_to_string(nas.etc().join("identity")).unwrap().contains("guid=77\n"));
    other.hook("preuninst", "UNINSTALL");
}

#[test]
fn an_old_computer_is_adopted_by_hand_in_the_wizard_or_from_crashplan() {
    let mut nas = Nas::empty(6);
    fs::create_dir_all(nas.path("var/lib/crashplan")).unwrap();
    let identity = "#Fri Jan 04\nguid=6503624866600795236\nservicePublicKey=x\n";
    fs::write(nas.path("var/lib/crashplan/.identity"), identity).unwrap();
    nas.install(GOOD);
    let shown = nas.run(&["identity", "show"]).said;
    assert!(shown.contains("identity adopt 6503624866600795236"), "{shown}");
    assert_eq!(nas.run(&["identity", "adopt", "6503624866600795236"]).code, 0);
    assert_eq!(nas.guid(), "6503624866600795236");
    assert_eq!(nas.run(&["identity", "set", "8; reboot"]).code, 2);

    let answers = [("wizard_guid", "42")];
    assert_eq!(nas.try_hook("postinst", "INSTALL", &answers).code, 0);
    assert_eq!(nas.guid(), "42");
}

#[test]
fn hostile_answers_of_the_wizard_stop_the_installation_with_a_sentence_and_do_nothing() {
    let long = "A".repeat(100_000);
    for value in ["8000; rm -rf /", "$(touch /tmp/owned)", "1\n2", long.as_str()] {
        let mut nas = Nas::empty(7);
        nas.unpack(GOOD, world::QUICK);
        for script in ["preinst", "postinst", "preupgrade"] {
            let answer = nas.try_hook(script, "INSTALL", &[("wizard_guid", value)]);
            assert_eq!(answer.code, 1, "{script}");
            assert!(nas.message().contains("the answer to `wizard_guid`"), "{}", nas.message());
        }
        assert!(!nas.var().join("identity").exists());
    }
}

#[test]
fn no_script_follows_a_link_the_package_planted() {
    for major in [6, 7] {
        let mut nas = installed(major);
        let outside = nas.path("precious");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "precious").unwrap();
        fs::remove_file(nas.var().join("identity")).unwrap();
        symlink(outside.join("file"), nas.var().join("identity")).unwrap();
        symlink(&outside, nas.var().join("cache")).unwrap();
        nas.upgrade(GOOD);
        nas.try_hook("preuninst", "UNINSTALL", &[("wizard_delete_data", "true")]);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn a_link_in_the_place_of_the_data_folder_stops_an_upgrade_before_anything_moves() {
    let mut nas = installed(6);
    let outside = nas.path("precious");
    fs::rename(nas.var(), &outside).unwrap();
    symlink(&outside, nas.var()).unwrap();
    let answer = nas.try_hook("preupgrade", "UPGRADE", &[]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("is a link"), "{}", answer.said);
    assert!(outside.join("identity").exists());
}

#[test]
fn a_name_dsm_may_invent_tomorrow_is_answered_with_success() {
    let mut nas = installed(7);
    nas.hook("prereplace", "UPGRADE");
}

#[test]
fn the_status_shows_identity_memory_and_limits_to_people_and_programs() {
    let mut nas = installed(7);
    fs::write(nas.etc().join("syno_package.vars"), "USR_MAX_HEAP=48M\n").unwrap();
    nas.start();
    let text = nas.run(&["status"]).said;
    for part in ["running", "process ", &nas.guid(), "2 copies agree", "48 MiB", "open files"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let json = nas.run(&["status", "--json"]).said;
    for part in ["\"code\": 0", "\"reason\": \"owner-wish\"", "\"total_bytes\": 50331648"] {
        assert!(json.contains(part), "{part:?} is not in:\n{json}");
    }
    nas.hook("preuninst", "UNINSTALL");
}

#[test]
fn by_hand_over_ssh_dsm_7_is_asked_to_do_it_so_that_package_center_shows_it() {
    let nas = installed(7);
    let synopkg = nas.path("usr/syno/bin/synopkg");
    fs::create_dir_all(synopkg.parent().unwrap()).unwrap();
    let asked = nas.path("asked");
    // As DSM does: writes down that the package is on, and calls the package's own script.
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> '{}'\nSYNOPKG_PKGNAME=$2 exec '{}' service \"$1\"\n",
        asked.display(),
        env!("CARGO_BIN_EXE_holdfast-supervisor")
    );
    put_program(&synopkg, script.as_bytes());
    let by_hand = |words: &[&str]| {
        let mut command = nas.command(words);
        let ended = command.args(["--package", PACKAGE]).env_remove("SYNOPKG_PKGNAME").output();
        ended.unwrap()
    };
    assert!(by_hand(&["start"]).status.success());
    nas.expect_code("status", 0);
    assert!(by_hand(&["service", "stop"]).status.success());
    nas.expect_code("status", 3);
    let lines = fs::read_to_string(&asked).unwrap();
    assert_eq!(lines, format!("start {PACKAGE}\nstop {PACKAGE}\n"));
}

#[test]
fn by_hand_over_ssh_dsm_6_is_told_that_the_package_runs() {
    let nas = installed(6);
    let by_hand = |verb: &str| {
        let output = nas
            .command(&["service", verb, "--package", PACKAGE])
            .env_remove("SYNOPKG_PKGNAME")
            .output()
            .unwrap();
        assert!(output.status.success());
    };
    let enabled = nas.path("var/packages").join(PACKAGE).join("enabled");
    by_hand("start");
    assert!(enabled.exists());
    by_hand("stop");
    assert!(!enabled.exists());
}
