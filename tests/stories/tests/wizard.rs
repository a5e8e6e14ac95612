//! The owner answers Package Center's wizard and does nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use tests_stories::{Depot, OurBox, PACKAGE};
use tests_support::nas::State;
use tests_support::{Center, Dsm, Shell, Telling, compare, program, run, tree, wait_for};

fn install_with(our_box: &OurBox, depot: &Depot, answers: &[(&str, &Path)]) {
    let center = Center::with_source(our_box.nas(), depot.url()).expect("the depot answers");
    let text = |path: &Path| path.display().to_string();
    let answers: BTreeMap<String, String> =
        answers.iter().map(|(key, path)| ((*key).to_owned(), text(path))).collect();
    center.install(PACKAGE, &answers).expect("it installs");
}

/// The sets and how their last run stands, as the daemon tells.
fn sets(our_box: &OurBox) -> serde_json::Value {
    let status = our_box.does(&["status", "--json"]).out;
    serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["sets"].clone()
}

/// What the daemon wrote down.
fn history(our_box: &OurBox) -> String {
    let path = our_box.nas().var(PACKAGE).join("log/history.log");
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn three_answers_and_the_folder_is_backed_up() {
    for (dsm, shell) in [(Dsm::Seven, Shell::Bash), (Dsm::Six, Shell::Ash)] {
        let depot = Depot::with("0.1.0-0001");
        let our_box = OurBox::new(dsm, shell);
        let source = our_box.outside("photo");
        tree::ordinary(&source, 2 << 20);
        let share = || our_box.nas().share("backups", PACKAGE).expect("a share");
        let repository = share().join("holdfast");
        let answers = [("pkgwizard_source", &*source), ("pkgwizard_destination", &*repository)];
        install_with(&our_box, &depot, &answers);
        if dsm == Dsm::Seven {
            // Only now the package has a user the owner can give the shared folder to.
            our_box.stop();
            share();
            our_box.start();
        }

        let what = Telling(|| format!("a first backup: {}", history(&our_box)));
        let ended = wait_for(what, || {
            let ended = sets(&our_box)[0]["last_run"]["ended"].clone();
            (!ended.is_null()).then_some(ended)
        });
        assert!(ended["done"].is_object(), "{ended}");
        let target = our_box.outside("restored");
        let mut restore = std::process::Command::new(program("holdfast"));
        restore.arg("-r").arg(&repository);
        restore.arg("--password-file").arg(our_box.password_file("backup"));
        run(restore.args(["restore", "latest", "--verify", "--target"]).arg(&target))
            .must_succeed();
        let restored = target.join(source.strip_prefix("/").expect("an absolute path"));
        compare::trees(&source, &restored).expect("both are there").must_be_equal();

        // The answers were followed once: what the owner removes now stays removed.
        our_box.does(&["set", "remove", "photo"]);
        our_box.stop();
        our_box.start();
        assert_eq!(sets(&our_box), serde_json::json!([]));
    }
}

#[test]
fn a_disk_that_is_not_connected_at_the_installation_is_used_once_it_is() {
    let depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::new(Dsm::Six, Shell::Ash);
    let source = our_box.outside("photo");
    tree::ordinary(&source, 1 << 20);
    let disk = our_box.outside("usb disk");
    let repository = disk.join("holdfast");
    let answers = [("pkgwizard_source", &*source), ("pkgwizard_destination", &*repository)];
    install_with(&our_box, &depot, &answers);
    assert_eq!(our_box.state(), State::Running);
    let what = Telling(|| format!("a word of the disk: {}", history(&our_box)));
    let told = wait_for(what, || {
        Some(history(&our_box)).filter(|told| told.contains("could not be set up"))
    });
    assert!(told.contains("usb disk"), "{told}");
    assert_eq!(sets(&our_box), serde_json::json!([]));
    assert!(!disk.exists(), "a folder was made where the disk belongs");

    std::fs::create_dir(&disk).expect("the disk is connected");
    our_box.stop();
    our_box.start();
    let what = Telling(|| format!("the first backup: {}", sets(&our_box)));
    wait_for(what, || sets(&our_box)[0]["last_run"]["ended"]["done"].is_object());
}
