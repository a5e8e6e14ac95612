//! Mail to the keepers, taken by a mail server that is not ours.

use crate::keeper::{Keeper, python};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

struct MailServer {
    child: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

impl MailServer {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coming_days/mail_server.py");
        let child =
            Command::new(python()).arg(script).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, said, port: 0 };
        server.port = server.line().parse().unwrap();
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The settings of a keeper who is written to by this server.
    fn settings(&self, keeper: &Keeper, password: &str) -> String {
        std::fs::write(keeper.path("password"), format!("{password}\n")).unwrap();
        let settings = format!(
            "server = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nuser = \"depot\"\n\
             password_file = \"{}\"\nfrom = \"Depot <depot@example.org>\"\n\
             to = [\"keeper@example.org\", \"deputy@example.org\"]\n",
            self.port,
            keeper.text("password")
        );
        std::fs::write(keeper.path("mail.toml"), settings).unwrap();
        keeper.text("mail.toml")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_keeper_is_written_to_when_something_ends_soon_and_left_alone_when_nothing_does() {
    let mut server = MailServer::start();
    let healthy = Keeper::who_began(0);
    let settings = server.settings(&healthy, "secret");
    let answer = healthy.keys(0, &["renew", "--mail", &settings]);
    assert_eq!((answer.code, answer.said.as_str()), (0, ""));

    let keeper = Keeper::who_began(-380);
    keeper.loses("targets.key");
    let settings = server.settings(&keeper, "secret");
    let answer = keeper.keys(0, &["renew", "--mail", &settings]);
    assert_eq!(answer.code, 0, "{}", answer.said);
    // The first mail there is: the healthy depot sent none.
    let mail = server.line();
    for text in [
        "depot@example.org",
        "keeper@example.org",
        "deputy@example.org",
        "a signature ends soon",
        "the targets signature ends in ",
    ] {
        assert!(mail.contains(text), "{text} is not in {mail}");
    }
    assert!(!mail.contains("secret"));
}

#[test]
fn a_renewal_that_fails_is_told_by_mail_and_mail_that_fails_is_told_on_the_spot() {
    let mut server = MailServer::start();
    let keeper = Keeper::who_began(-30);
    keeper.loses("timestamp.key");
    let settings = server.settings(&keeper, "secret");
    let answer = keeper.keys(0, &["renew", "--mail", &settings]);
    assert_eq!(answer.code, 1, "{}", answer.said);
    let mail = server.line();
    assert!(mail.contains("the timestamp key is not in"), "{mail}");
    assert!(mail.contains("needs its keeper") && mail.contains("what to do"), "{mail}");

    let settings = server.settings(&keeper, "wrong");
    let answer = keeper.keys(0, &["renew", "--mail", &settings]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("the mail could not be sent"), "{}", answer.said);
    assert!(answer.said.contains("the timestamp key is not in"), "{}", answer.said);
}

#[test]
fn a_password_is_not_sent_readably_over_a_network() {
    let keeper = Keeper::who_began(0);
    let settings = "server = \"mail.example.org\"\nport = 25\nsecurity = \"none\"\n\
                    from = \"a@example.org\"\nto = [\"b@example.org\"]\n";
    std::fs::write(keeper.path("mail.toml"), settings).unwrap();
    let answer = keeper.keys(0, &["renew", "--mail", &keeper.text("mail.toml")]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("readable over the network"), "{}", answer.said);
}
