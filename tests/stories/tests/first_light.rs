//! The main job, start to end: from a depot's URL to a restored file, through every ordinary day.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_stories::{Depot, OurBox, nothing_was_sent_again, packs};
use tests_support::nas::{Removal, State};
use tests_support::{Dsm, Shell, compare, program, run, tree};

/// The owner's files, and where they go.
struct Plan {
    source: PathBuf,
    repository: PathBuf,
}

#[test]
fn on_dsm_seven_as_an_unprivileged_user_under_bash() {
    first_light(Dsm::Seven, Shell::Bash);
}

#[test]
fn on_dsm_six_as_root_under_ash() {
    first_light(Dsm::Six, Shell::Ash);
}

fn first_light(dsm: Dsm, shell: Shell) {
    let depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::new(dsm, shell);
    let offered = our_box.button(&depot);
    assert_eq!(offered, Some(("Install", "0.1.0-0001".to_owned())));
    our_box.install_from(&depot);
    assert_eq!(our_box.state(), State::Running);

    let plan = the_owner_protects_a_folder(&our_box);
    our_box.does(&["set", "run", "everything"]);
    let sent = packs(&plan.repository);
    assert!(!sent.is_empty(), "nothing was sent");
    restic_calls_it_sound(&our_box, &plan);
    everything_comes_back(&our_box, &plan, "restored first");

    our_box.does(&["set", "run", "everything"]);
    nothing_was_sent_again(&plan.repository, &sent);

    an_upgrade_changes_nothing(&our_box, &depot, &plan);
    nothing_was_sent_again(&plan.repository, &sent);

    uninstalling_and_installing_again_keeps_the_identity(&our_box, &depot);
    another_nas_adopts_the_old_computer(&our_box, &depot, &plan);
    nothing_was_sent_again(&plan.repository, &sent);
    everything_comes_back(&our_box, &plan, "restored last");
    restic_calls_it_sound(&our_box, &plan);
}

fn the_owner_protects_a_folder(our_box: &OurBox) -> Plan {
    let source = our_box.outside("files of the owner");
    tree::ordinary(&source, 6 << 20);
    let repository = our_box.nas().share("backups", tests_stories::PACKAGE).expect("a share");
    our_box.does(&["destination", "add", "disk", &repository.display().to_string()]);
    let path = source.display().to_string();
    our_box.does(&["set", "add", "everything", "--path", &path, "--destination", "disk"]);
    Plan { source, repository }
}

fn restic_calls_it_sound(our_box: &OurBox, plan: &Plan) {
    let mut restic = Command::new("restic");
    restic.arg("-r").arg(&plan.repository);
    restic.arg("--password-file").arg(our_box.password_file("disk"));
    run(restic.args(["--no-cache", "check", "--read-data"])).must_succeed();
}

fn everything_comes_back(our_box: &OurBox, plan: &Plan, name: &str) {
    let target = our_box.outside(name);
    let mut restore = Command::new(program("holdfast"));
    restore.arg("-r").arg(&plan.repository);
    restore.arg("--password-file").arg(our_box.password_file("disk"));
    restore.args(["restore", "latest", "--verify", "--target"]).arg(&target);
    run(&mut restore).must_succeed();
    let restored = target.join(plan.source.strip_prefix("/").expect("an absolute path"));
    compare::trees(&plan.source, &restored).expect("both are there").must_be_equal();
}

fn settings(our_box: &OurBox) -> (String, String) {
    (our_box.does(&["set", "list"]).out, our_box.does(&["destination", "list"]).out)
}

fn an_upgrade_changes_nothing(our_box: &OurBox, depot: &Depot, plan: &Plan) {
    let before = (our_box.guid(), settings(our_box));
    our_box.stop();
    assert_eq!(our_box.state(), State::Stopped);
    assert_eq!(our_box.nas().processes(), Vec::<u32>::new(), "something still runs after a stop");
    depot.publish("0.1.0-0002");
    assert_eq!(our_box.button(depot), Some(("Update", "0.1.0-0002".to_owned())));
    our_box.install_from(depot);
    our_box.start();
    assert_eq!((our_box.guid(), settings(our_box)), before);
    our_box.does(&["set", "run", "everything"]);

    // Once more while it runs: DSM stops it and starts it again by itself.
    depot.publish("0.1.0-0010");
    our_box.install_from(depot);
    assert_eq!(our_box.state(), State::Running);
    assert_eq!((our_box.guid(), settings(our_box)), before);
    our_box.does(&["set", "run", "everything"]);
    let password = our_box.password_file("disk");
    assert!(password.is_file() && plan.repository.join("config").is_file());
}

fn uninstalling_and_installing_again_keeps_the_identity(our_box: &OurBox, depot: &Depot) {
    let before = (our_box.guid(), settings(our_box));
    our_box.uninstall(Removal::AsDsm);
    assert!(!our_box.nas().target(tests_stories::PACKAGE).exists());
    our_box.install_from(depot);
    assert_eq!((our_box.guid(), settings(our_box)), before);
}

/// The worst case: nothing of the package is left, as after a new volume. The owner has the
/// repository, its password, and the old GUID.
fn another_nas_adopts_the_old_computer(our_box: &OurBox, depot: &Depot, plan: &Plan) {
    let guid = our_box.guid();
    let kept = our_box.outside("password on a piece of paper");
    fs::copy(our_box.password_file("disk"), &kept).expect("the password");
    our_box.uninstall(Removal::Everything);
    assert_eq!(
        our_box.nas().processes(),
        Vec::<u32>::new(),
        "something still runs after an uninstall"
    );
    our_box.install_from(depot);
    assert_ne!(our_box.guid(), guid, "a new computer has a new GUID");
    let repository = plan.repository.display().to_string();
    let password = path_text(&kept);
    our_box.does(&["--password-file", &password, "destination", "add", "disk", &repository]);
    our_box.does(&["adopt", &guid, "--destination", "disk"]);
    assert_eq!(our_box.guid(), guid);
    let sets = our_box.does(&["set", "list"]).out;
    if !sets.contains("everything") {
        let path = path_text(&plan.source);
        our_box.does(&["set", "add", "everything", "--path", &path, "--destination", "disk"]);
    }
    our_box.does(&["set", "run", "everything"]);
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}
