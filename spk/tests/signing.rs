//! Signatures for DSM 5.1 to 6.2, with stock `gpg` as the judge both ways: it makes the keys and
//! checks ours, and we check its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A publisher with a key ring of `gpg` and a package.
struct Publisher {
    folder: tempfile::TempDir,
}

impl Publisher {
    fn new() -> Self {
        let publisher = Self { folder: tempfile::tempdir().unwrap() };
        publisher.spk(&["init", "demo", "--yes", "--purpose", "daemon"]);
        publisher.spk(&["build", "--manifest", "demo/package.toml", "--dsm", "6"]);
        publisher
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn package(&self) -> String {
        "dist/demo-noarch-dsm6-0.1.0-0001.spk".into()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path());
        command.env("GNUPGHOME", self.folder.path()).env("LC_ALL", "C");
        let missing = |error| panic!("{program} is needed for this test: {error}");
        command.output().unwrap_or_else(missing)
    }

    fn must(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        output.stdout
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let quiet = ["--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"];
        self.must("gpg", &[&quiet, arguments].concat())
    }

    /// Makes a key of `kind`, and writes NAME.secret and NAME.public.
    fn makes_a_key(&self, name: &str, kind: &str, passphrase: &str) {
        let address = format!("{name}@example.org");
        let passphrase = ["--passphrase", passphrase];
        self.gpg(
            &[&passphrase[..], &["--quick-generate-key", &address, kind, "sign", "never"]].concat(),
        );
        let secret = self.gpg(&[&passphrase[..], &["--export-secret-keys", &address]].concat());
        fs::write(self.path(&format!("{name}.secret")), secret).unwrap();
        let public = self.gpg(&["--armor", "--export", &address]);
        fs::write(self.path(&format!("{name}.public")), public).unwrap();
    }

    fn try_spk(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(env!("CARGO_BIN_EXE_spk"), arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn spk(&self, arguments: &[&str]) -> String {
        let (code, said) = self.try_spk(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    }

    /// What DSM hashes, put together by `tar` in the order Synology's own tools are known for.
    fn signed_bytes(&self) -> PathBuf {
        let package = self.package();
        let names = String::from_utf8(self.must("tar", &["-tf", &package])).unwrap();
        let mut names: Vec<&str> = names.lines().filter(|name| !name.ends_with('/')).collect();
        names.sort_unstable();
        let groups: [fn(&str) -> bool; 6] = [
            |name| name == "INFO",
            |name| matches!(name, "PACKAGE_ICON.PNG" | "PACKAGE_ICON_256.PNG"),
            |name| name.starts_with("WIZARD_UIFILES/"),
            |name| name.starts_with("conf/"),
            |name| name == "package.tgz",
            |name| name.starts_with("scripts/"),
        ];
        let ordered = groups.iter().flat_map(|group| names.iter().filter(|name| group(name)));
        let parts = ordered.map(|name| self.must("tar", &["-xOf", &package, name]));
        let whole = parts.collect::<Vec<_>>().concat();
        assert!(whole.len() > 1000);
        fs::write(self.path("message"), whole).unwrap();
        self.path("message")
    }

    fn member(&self) -> PathBuf {
        let member = self.must("tar", &["-xOf", &self.package(), "syno_signature.asc"]);
        fs::write(self.path("member.asc"), member).unwrap();
        self.path("member.asc")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn gpg_believes_what_spk_signed_and_spk_what_gpg_signed() {
    let publisher = Publisher::new();
    publisher.makes_a_key("publisher", "rsa2048", "");
    publisher.makes_a_key("stranger", "rsa2048", "");
    let package = publisher.package();
    let unsigned = fs::read(publisher.path(&package)).unwrap();
    let (code, said) = publisher.try_spk(&["verify", &package, "--keyring", "publisher.public"]);
    assert!(code == 1 && said.contains("not signed"), "{said}");

    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = since.as_secs().to_string();
    let at = ["--at", now.as_str()];
    let sign = ["sign", &package, "--key", "publisher.secret", "--public-key-into", "ring.asc"];
    let said = publisher.spk(&[&sign[..], &at].concat());
    assert!(said.contains("without a time stamp: DSM 5.1 to 6.2"), "{said}");
    let (message, member) = (publisher.signed_bytes(), publisher.member());
    publisher.gpg(&["--verify", text(&member), text(&message)]);
    publisher.must("gpg", &["--batch", "--import", "ring.asc"]);
    let listing = publisher.must("tar", &["-tf", &package]);
    assert!(listing.ends_with(b"package.tgz\nsyno_signature.asc\n"), "the last member");
    assert!(publisher.spk(&["check", &package]).contains("nothing to complain about"));

    // Signed again at the same time, the same bytes; without its member, what it was.
    let signed = fs::read(publisher.path(&package)).unwrap();
    publisher.spk(&[&sign[..], &at].concat());
    assert!(fs::read(publisher.path(&package)).unwrap() == signed);
    let members_end = unsigned.len() / 10_240 * 10_240 - 10_240;
    assert_eq!(signed[..members_end], unsigned[..members_end]);

    // gpg's own signature, put in by tar.
    fs::write(publisher.path(&package), &unsigned).unwrap();
    let by_gpg = ["--local-user", "publisher@example.org", "--armor", "--detach-sign"];
    let output = ["--output", "syno_signature.asc", text(&message)];
    publisher.gpg(&[&by_gpg[..], &output].concat());
    publisher.must("tar", &["-rf", &package, "syno_signature.asc"]);
    let said = publisher.spk(&["verify", &package, "--keyring", "publisher.public"]);
    assert!(said.contains("<publisher@example.org>") || said.contains("(publisher@"), "{said}");
    let (code, said) = publisher.try_spk(&["verify", &package, "--keyring", "stranger.public"]);
    assert!(code == 1 && said.contains("which the keyring does not hold"), "{said}");

    // A package changed after it was signed.
    let mut changed = fs::read(publisher.path(&package)).unwrap();
    let at = changed.windows(6).position(|window| window == b"0.1.0-").unwrap();
    changed[at] = b'9';
    fs::write(publisher.path(&package), &changed).unwrap();
    let (code, said) = publisher.try_spk(&["verify", &package, "--keyring", "publisher.public"]);
    assert!(code == 1 && said.contains("was changed since"), "{said}");
}

#[test]
fn a_time_stamp_is_whatever_a_command_answers_and_is_looked_at() {
    let publisher = Publisher::new();
    publisher.makes_a_key("publisher", "rsa2048", "a good one");
    publisher.makes_a_key("stamp", "rsa2048", "");
    fs::write(publisher.path("password"), "a good one\n").unwrap();
    let package = publisher.package();
    let sign = ["sign", &package, "--key", "publisher.secret"];
    let (code, said) = publisher.try_spk(&sign);
    assert!(code == 1 && said.contains("--password-file"), "{said}");
    let sign = [&sign[..], &["--password-file", "password", "--timestamp"]].concat();

    let stamp = "gpg --batch --quiet --local-user stamp@example.org --armor --sign";
    publisher.spk(&[&sign[..], &[stamp]].concat());
    assert!(publisher.spk(&["show", &package]).contains("signed and time-stamped"));
    let keyrings = ["--keyring", "publisher.public", "--keyring", "stamp.public"];
    let verify = ["verify", &package];
    let said = publisher.spk(&[&verify[..], &keyrings].concat());
    assert!(said.contains("time stamp by "), "{said}");
    let said = publisher.spk(&[&verify[..], &keyrings[..2]].concat());
    assert!(said.contains("not in the keyring"), "{said}");
    let stamped = fs::read(publisher.path(&package)).unwrap();

    for (command, expected) in [
        ("echo '<html>gone</html>'", "must enclose the signature"),
        ("cat >/dev/null; exit 7", "exit status: 7"),
        ("exec head -c 3000000 /dev/zero", "more than any time stamp"),
    ] {
        let (code, said) = publisher.try_spk(&[&sign[..], &[command]].concat());
        assert!(
            code == 1 && said.contains(expected) && said.contains("what to do:"),
            "{command}: {said}"
        );
        assert!(fs::read(publisher.path(&package)).unwrap() == stamped, "{command}");
    }

    // Keys DSM 5 and 6 cannot read are refused before anything is written.
    publisher.makes_a_key("modern", "ed25519", "");
    let (code, said) = publisher.try_spk(&["sign", &package, "--key", "modern.secret"]);
    assert!(code == 1 && said.contains("not an RSA key"), "{said}");
    let (code, said) = publisher.try_spk(&["sign", &package, "--key", "publisher.public"]);
    assert!(code == 1 && said.contains("--export-secret-keys"), "{said}");
}
