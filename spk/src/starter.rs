//! `spk init`: a package that builds at once, to change from.

use crate::Failure;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

const HOOK: &str = "#!/bin/sh\n# DSM calls this; 0 lets it go on.\nexit 0\n";

const START_STOP_STATUS: &str = r#"#!/bin/sh
# DSM calls this with start, stop, status, prestart, prestop or log.
case "$1" in
    status) exit 3 ;; # 0 running, 1 dead but its PID file is there, 3 not running
    *) exit 0 ;;
esac
"#;

fn manifest(name: &str) -> String {
    format!(
        r#"[package]
name = "{name}"                # its folder on the NAS; never change it
version = "0.1.0-0001"         # digits only; the part after the dash must grow
displayname = "{name}"
description = "Says what it does, in a sentence."
maintainer = "Your name"
targets = ["noarch"]           # or x86_64, aarch64, armhf, armv7, armv5, i686

[dsm]
build = [6, 7]

[[payload]]
from = "payload"               # or "{{programs}}/{{target}}/NAME" for built programs
to = "share"

[scripts]
folder = "scripts"

[icon]
file = "icon.png"
"#
    )
}

/// Writes the starting package into a folder that is new or empty.
pub fn init(folder: &Path) -> Result<ExitCode, Failure> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !spk::info::name_is_safe(name) {
        let facts = vec![format!("`{}` is no name for a package", folder.display())];
        let remedy = "use letters, digits, `-` and `_`".into();
        return Err(Failure { facts, remedy });
    }
    let mut files: Vec<(String, Vec<u8>, u32)> = vec![
        ("package.toml".into(), manifest(name).into_bytes(), 0o644),
        ("icon.png".into(), spk::icon::plain().encode(), 0o644),
        ("payload/README".into(), b"What is here ends up in target/share.\n".to_vec(), 0o644),
    ];
    for script in spk::build::SCRIPTS {
        let text = if script == "start-stop-status" { START_STOP_STATUS } else { HOOK };
        files.push((format!("scripts/{script}"), text.as_bytes().to_vec(), 0o755));
    }
    for (path, content, mode) in files {
        write(&folder.join(path), &content, mode)?;
    }
    println!("{} is ready: spk build --manifest {0}/package.toml", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        std::io::Write::write_all(&mut file, content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    });
    made.map_err(|error| Failure::new(&error, "name a new folder").about(path))
}
