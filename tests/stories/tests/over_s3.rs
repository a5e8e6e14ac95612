//! A repository in a bucket: ours writes, restic reads and writes there, ours reads again; and the
//! key of the bucket is seen nowhere.

use std::path::Path;
use std::process::Command;
use tests_support::compare::trees;
use tests_support::stores::Moto;
use tests_support::tree::ordinary;
use tests_support::{Finished, TempHome, program, run};

const KEY_ID: &str = "AKIAHOLDFASTSTORY";
const SECRET: &str = "not-for-anybodys-eyes";

/// Runs a program on the repository, with the key in the environment.
fn on(home: &TempHome, program: &Path, repository: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new(program);
    command.args(["-r", repository, "--password-file"]).arg(home.password_file());
    command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
    let said = run(command.args(arguments));
    assert!(!said.said().contains(SECRET), "{}", said.said());
    said
}

#[test]
fn what_we_put_into_a_bucket_comes_back_by_ours_and_by_restic_and_theirs_by_ours() {
    let home = TempHome::new();
    ordinary(&home.source(), 20 << 20);
    let service = Moto::start("photos");
    let repository = format!("s3:{}/photos/of/ours", service.url);
    let source = home.source();
    let source = source.to_str().unwrap();
    let (holdfast, restic) = (program("holdfast"), Path::new("restic"));
    let ours = |arguments: &[&str]| on(&home, &holdfast, &repository, arguments).must_succeed();
    let theirs = |arguments: &[&str]| {
        let arguments = [&["--no-cache"], arguments].concat();
        on(&home, restic, &repository, &arguments).must_succeed()
    };
    ours(&["init"]);
    ours(&["backup", source]);
    theirs(&["check", "--read-data"]);
    let restored = home.restored();
    theirs(&["restore", "latest", "--target", restored.to_str().unwrap()]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();

    theirs(&["backup", source]);
    ours(&["check", "--read-data"]);
    std::fs::remove_dir_all(&restored).unwrap();
    ours(&["restore", "latest", "--verify", "--target", restored.to_str().unwrap()]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();
    ours(&["forget", "--keep-last", "1", "--prune"]);
    theirs(&["check", "--read-data"]);

    let nowhere = repository.replace("photos", "phtoos");
    let said = on(&home, &holdfast, &nowhere, &["init"]).must_fail_with_a_remedy();
    assert!(said.said().contains("there is no bucket phtoos"), "{}", said.said());
    let mut keyless = Command::new(&holdfast);
    keyless.args(["-r", &repository, "snapshots", "--password-file"]).arg(home.password_file());
    let said = run(keyless.env_remove("AWS_ACCESS_KEY_ID")).must_fail_with_a_remedy();
    assert!(said.said().contains("AWS_ACCESS_KEY_ID"), "{}", said.said());
}
