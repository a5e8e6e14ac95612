//! A repository on the REST server restic's authors wrote: ours over the line, then restic's over
//! the line and from the server's own disk.

use std::path::Path;
use std::process::Command;
use tests_support::compare::trees;
use tests_support::tree::ordinary;
use tests_support::{Finished, RestServer, TempHome, program, run};

/// The sum of `se:c/r@t`, as `htpasswd -s` writes it.
const ALICE: &str = "alice:{SHA}SNWJPhTAHOXx+48aLrtOliMf8Uc=";

/// Runs a program on a repository that may be anywhere, with the password of `home`.
fn on(home: &TempHome, program: &Path, repository: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new(program);
    command.args(["-r", repository, "--password-file"]).arg(home.password_file());
    run(command.args(arguments))
}

#[test]
fn what_we_sent_to_a_server_comes_back_by_ours_and_by_restic() {
    let home = TempHome::new();
    ordinary(&home.source(), 40 << 20);
    let server = RestServer::over(&home.join("served"), &["--private-repos"], Some(ALICE));
    let address = server.address;
    let repository = format!("rest:http://alice:se%3Ac%2Fr%40t@{address}/alice/photos");
    let source = home.source();
    let source = source.to_str().unwrap();
    let holdfast = program("holdfast");
    let ours = |arguments: &[&str]| {
        let said = on(&home, &holdfast, &repository, arguments).must_succeed();
        assert!(!said.said().contains("se%3Ac"), "{}", said.said());
    };
    ours(&["init"]);
    ours(&["backup", source]);
    ours(&["check", "--read-data"]);
    let restored = home.restored();
    ours(&["restore", "latest", "--verify", "--target", restored.to_str().unwrap()]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();

    let on_disk = home.join("served/alice/photos");
    for place in [&*repository, on_disk.to_str().unwrap()] {
        on(&home, Path::new("restic"), place, &["--no-cache", "check", "--read-data"])
            .must_succeed();
    }

    let wrong = repository.replace("se%3A", "not");
    let said = on(&home, &holdfast, &wrong, &["snapshots"]).must_fail_with_a_remedy();
    assert!(said.said().contains("does not accept the user and password"), "{}", said.said());
    assert!(!said.said().contains("notc%2Fr"), "{}", said.said());
}
