//! An old CrashPlan package was on the box: what it left is read, and shown with what to do.

mod world;

use std::fs;
use std::process::Command;
use world::{GOOD, Nas};

const SETTINGS: &str = include_str!("crashplan/my.service.xml");
const IDENTITY: &str = include_str!("crashplan/identity");

#[test]
fn everything_an_owner_had_set_up_is_found_whatever_the_old_package_was_called() {
    for (name, settings, identity) in [
        ("CrashPlan", "volume1/@appstore/CrashPlan", "var/lib/crashplan/.identity"),
        (
            "CrashPlanPRO",
            "volume1/@appstore/CrashPlanPRO",
            "volume1/@appstore/CrashPlanPRO/conf/var-backup/.identity",
        ),
        // Its last upgrade broke off; DSM had deleted /var/lib meanwhile.
        (
            "CrashPlanPROe",
            "volume2/@appstore/CrashPlanPROe_data_mig",
            "volume2/@appstore/CrashPlanPROe_data_mig/conf/var-backup/.identity",
        ),
    ] {
        let mut nas = Nas::empty(6);
        let put = |path: &str, text: &str| {
            let path = nas.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(&format!("{settings}/conf/my.service.xml"), SETTINGS);
        put(&format!("{settings}/syno_package.vars"), "#USR_MAX_HEAP=1G\nUSR_MAX_HEAP=1024M\n");
        put(identity, IDENTITY);
        nas.install(GOOD);
        let shown = nas.run(&["legacy"]);
        assert_eq!(shown.code, 0, "{name}: {}", shown.said);
        for part in [
            "identity adopt 6503624866600795236",
            "Photos & letters",
            "backed up    /volume1/photo/",
            "left out     /volume1/photo/@eaDir/",
            "pattern      .*\\.part$",
            "ran          00:00 to 04:00 on SMTWTFS",
            "set       Music",
            "ran          always",
            "archives  /volume1/crashplan/backupArchives",
            "memory    1024M for Java",
        ] {
            assert!(shown.said.contains(part), "{name}: no {part:?} in:\n{}", shown.said);
        }
        let json = nas.run(&["legacy", "--json"]).said;
        assert!(json.contains("\"heap\": \"512m\""), "{json}");
        // Its owner does as told: the computer and its memory are taken over.
        let told = |before: &str| {
            let mut lines = shown.said.lines();
            lines.find_map(|line| line.trim().strip_prefix(before)).expect(before).to_owned()
        };
        let adopt = told("to take over: holdfast-supervisor ");
        assert_eq!(nas.run(&adopt.split(' ').collect::<Vec<_>>()).code, 0, "{adopt}");
        assert_eq!(nas.guid(), "6503624866600795236");
        let memory = told("to give it as much: ");
        assert!(Command::new("sh").args(["-c", &memory]).status().unwrap().success(), "{memory}");
        let plan = nas.run(&["plan", "--json"]).said;
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        assert_eq!(plan["wish_bytes"], 1_u64 << 30);
        assert_eq!(plan["complaints"], serde_json::json!([]));
    }
}

#[test]
fn hours_that_all_sets_kept_to_are_told_as_tasks_and_what_is_no_size_is_put_into_no_command() {
    let nas = Nas::with(GOOD);
    let put = |name: &str, text: &str| {
        let path = nas.path("volume1/@appstore/CrashPlan").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let text = SETTINGS.replace("always=\"true\"", "always=\"false\"");
    put("conf/my.service.xml", &text);
    put("syno_package.vars", "USR_MAX_HEAP=$(reboot)\n");
    let shown = nas.run(&["legacy"]).said;
    let tasks = "user root: at 00:00 `synopkg start sleepy`, at 04:00 `synopkg stop sleepy`";
    assert!(shown.contains(tasks), "{shown}");
    assert!(shown.contains("memory    $(reboot) for Java") && !shown.contains("echo"), "{shown}");
}

#[test]
fn a_box_without_an_old_package_says_so() {
    let nas = Nas::with(GOOD);
    let shown = nas.run(&["legacy"]);
    assert!(shown.code == 0 && shown.said.contains("no CrashPlan was on this box"));
}

#[test]
fn a_copy_of_a_box_on_another_machine_is_noticed_and_told_apart() {
    let mut nas = Nas::empty(7);
    let is_machine = |nas: &Nas, serial: &str, mac: &str| {
        for (path, text) in
            [("proc/sys/kernel/syno_serial", serial), ("sys/class/net/eth0/address", mac)]
        {
            let path = nas.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
    };
    is_machine(&nas, "1750PDN000001", "00:11:32:aa:bb:01");
    nas.install(GOOD);
    let guid = nas.guid();
    let shows = |nas: &Nas| nas.run(&["status"]).said;
    assert!(!shows(&nas).contains("another machine"));
    // A new network card is no new machine.
    is_machine(&nas, "1750PDN000001", "00:11:32:aa:bb:02");
    nas.start();
    nas.expect_code("stop", 0);
    assert!(!shows(&nas).contains("another machine"), "{}", shows(&nas));
    // The disks are in another box now, or were copied.
    is_machine(&nas, "2080QWR000009", "00:11:32:cc:dd:09");
    nas.start();
    let said = shows(&nas);
    assert!(said.contains("another machine") && said.contains("identity new"), "{said}");
    assert!(nas.log().contains("another machine"), "{}", nas.log());
    assert_eq!(nas.guid(), guid, "nothing is decided silently");
    nas.expect_code("stop", 0);
    assert_eq!(nas.run(&["identity", "keep"]).code, 0);
    assert!(!shows(&nas).contains("another machine"));
    assert_eq!(nas.guid(), guid);
    is_machine(&nas, "3090XYZ000003", "00:11:32:ee:ff:03");
    assert_eq!(nas.run(&["identity", "new"]).code, 0);
    assert_ne!(nas.guid(), guid);
    assert!(!shows(&nas).contains("another machine"));
}
