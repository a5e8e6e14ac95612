//! OpenSSH's server, started for each connection that comes to a port of ours.

use engine_storage::{Patience, Sftp, SftpAddress, SshProgram};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server, with keys, settings and a folder of its own.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
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
        let (program, settings) = (openssh.join("sshd"), place("settings"));
        // Where it gives up its rights it wants an empty folder of root's.
        if nix::unistd::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        std::thread::spawn(move || {
            for line in listener.incoming() {
                let (input, output) = (line.unwrap(), settings.clone());
                let reply = std::os::fd::OwnedFd::from(input.try_clone().unwrap());
                let mut command = Command::new(&program);
                command.args(["-i", "-e", "-f"]).arg(output).stderr(Stdio::null());
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

    /// How `ssh` is to log in: with which key, and by which list of known hosts.
    pub fn program(&self, key: &str, known: &str) -> SshProgram {
        let mut arguments = vec!["-F".into(), "none".into()];
        for (option, name) in [("IdentityFile", key), ("UserKnownHostsFile", known)] {
            let value = format!("{option}={}", self.folder.path().join(name).display());
            arguments.extend(["-o".into(), value.into()]);
        }
        for option in ["IdentitiesOnly=yes", "GlobalKnownHostsFile=none"] {
            arguments.extend(["-o".into(), option.into()]);
        }
        SshProgram { path: openssh().join("ssh"), arguments }
    }

    /// A repository here, reached through `line`.
    pub fn through(&self, line: SocketAddr, path: &str, program: SshProgram) -> Sftp {
        let path = self.folder.path().join(path);
        let text = format!("//127.0.0.1:{}/{}", line.port(), path.display());
        let address = SftpAddress::parse(&text).unwrap();
        Sftp::at(address, program, &std::env::temp_dir(), Patience::default())
    }

    /// A repository here.
    pub fn at(&self, path: &str) -> Sftp {
        self.through(self.address, path, self.program("mine", "known"))
    }
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let found = Command::new(&script).arg("sshd").output().unwrap();
    let told = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "these tests need an sshd: {told}");
    let sshd = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    sshd.parent().unwrap().to_owned()
}
