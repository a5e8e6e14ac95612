//! OpenSSH's server, on a port of ours: with keys, settings and a folder of its own.
//!
//! It is started for each connection anew, as by inetd, so no port has to be looked for.

use crate::programs::peer;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server, with keys, settings and a folder of its own.
#[derive(Debug)]
pub struct SshServer {
    /// Where it listens.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl SshServer {
    /// One that lets whoever runs this log in with the key it makes. `subsystem` is its SFTP.
    pub fn start(subsystem: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let openssh = openssh();
        for key in ["host", "mine", "strange"] {
            make_key(&openssh, &place(key));
        }
        std::fs::copy(place("mine.pub"), place("authorized")).unwrap();
        let host = std::fs::read_to_string(place("host.pub")).unwrap();
        std::fs::write(place("known"), format!("* {host}")).unwrap();
        std::fs::write(place("known-otherwise"), "").unwrap();
        let mut settings = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nSubsystem sftp {subsystem}\nUsePAM no\n\
             PermitRootLogin prohibit-password\nStrictModes no\nPrintMotd no\nPidFile none\n",
            place("host").display(),
            place("authorized").display(),
        );
        // Since 9.8 a server is several programs, and looks for them where Debian installs them.
        for (option, name) in [("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")] {
            let path = openssh.join("usr/lib/openssh").join(name);
            if path.exists() {
                settings += &format!("{option} {}\n", path.display());
            }
        }
        std::fs::write(place("settings"), settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (starter, settings) = (starter(folder.path(), &openssh), place("settings"));
        std::thread::spawn(move || {
            for line in listener.incoming() {
                let (input, output) = (line.unwrap(), settings.clone());
                let reply = std::os::fd::OwnedFd::from(input.try_clone().unwrap());
                let mut command = Command::new(&starter[0]);
                command.args(&starter[1..]).args(["-i", "-e", "-f"]).arg(output);
                command.stderr(Stdio::null());
                command.stdin(std::os::fd::OwnedFd::from(input)).stdout(reply);
                let mut child = command.spawn().unwrap();
                std::thread::spawn(move || child.wait());
            }
        });
        Self { address, folder }
    }

    /// What it keeps, in a folder that is there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The `ssh` that goes with it.
    pub fn client(&self) -> PathBuf {
        openssh().join("ssh")
    }

    /// How `ssh` is told to log in with `key` (`mine` is let in, `strange` is not) and by the list
    /// of hosts `known` (`known` has this one, `known-otherwise` none), and by nothing else.
    pub fn words(&self, key: &str, known: &str) -> Vec<String> {
        let mut words = vec!["-F".to_owned(), "none".to_owned()];
        for (option, name) in [("IdentityFile", key), ("UserKnownHostsFile", known)] {
            let value = format!("{option}={}", self.folder.path().join(name).display());
            words.extend(["-o".to_owned(), value]);
        }
        for option in ["IdentitiesOnly=yes", "GlobalKnownHostsFile=none"] {
            words.extend(["-o", option].map(str::to_owned));
        }
        words
    }
}

/// How the server is started. As root it gives up its rights, for which it wants an empty folder
/// and a user `sshd`; where nobody installed one, it is shown one.
fn starter(folder: &Path, openssh: &Path) -> Vec<String> {
    let program = openssh.join("sshd").display().to_string();
    if !nix::unistd::geteuid().is_root() {
        return vec![program];
    }
    std::fs::create_dir_all("/run/sshd").unwrap();
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    if users.lines().any(|line| line.starts_with("sshd:")) {
        return vec![program];
    }
    let shown = folder.join("passwd");
    let user = "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n";
    std::fs::write(&shown, format!("{users}{user}")).unwrap();
    let mount = format!("mount --bind '{}' /etc/passwd && exec \"$@\"", shown.display());
    ["unshare", "--mount", "sh", "-c", &mount, "sh", &program].map(str::to_owned).to_vec()
}

fn make_key(openssh: &Path, path: &Path) {
    let mut command = Command::new(openssh.join("ssh-keygen"));
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"]).arg(path);
    assert!(command.status().unwrap().success());
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// OpenSSH's SFTP server.
pub fn sftp_server() -> String {
    openssh().join("sftp-server").to_str().unwrap().to_owned()
}

/// The folder of OpenSSH's programs.
fn openssh() -> PathBuf {
    peer("sshd").parent().expect("it lies in a folder").to_owned()
}
