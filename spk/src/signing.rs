//! The verbs `sign` and `verify`: keys from files, a time stamp from any command.

use crate::commands::{Done, open};
use crate::{Failure, SignFlags};
use spk::openpgp::{self, Keyring, OpenPgpError, Signer};
use spk::signature::{self, Signed, State};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = openpgp::FILE_BYTES_MAX as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| Failure::new(&error, "check the file's name").about(path))?;
    Ok(bytes)
}

fn about(path: &Path) -> impl Fn(OpenPgpError) -> Failure {
    move |error| Failure::new(&error, error.remedy()).about(path)
}

/// Signs packages in place, or one into another file; `now_seconds` after 1970.
pub fn sign(flags: &SignFlags, now_seconds: u32) -> Done {
    let password = match &flags.password_file {
        Some(path) => Some(String::from_utf8_lossy(&read(path)?).trim_end().to_owned()),
        None => None,
    };
    let signer =
        Signer::parse(&read(&flags.key)?, password.as_deref()).map_err(about(&flags.key))?;
    let public = signer.public_key().map_err(about(&flags.key))?;
    if let Some(path) = &flags.public_key_into {
        fs::write(path, &public)
            .map_err(|error| Failure::new(&error, "name a file that can be written").about(path))?;
    }
    let keyring = Keyring::parse(public.as_bytes()).map_err(about(&flags.key))?;
    for file in &flags.files {
        let package = open(file)?;
        let data = || Signed::of(&package, file);
        let unreadable =
            |error: std::io::Error| Failure::new(&error, "check that the file stays").about(file);
        let signature = signer
            .sign(data().map_err(unreadable)?, flags.at.unwrap_or(now_seconds))
            .map_err(about(&flags.key))?;
        let member = match &flags.timestamp {
            Some(command) => stamped(command, &signature)?,
            None => openpgp::armored(&signature).map_err(about(file))?,
        };
        // What goes into the package is looked at as a stranger would.
        keyring.verify(&member, data).map_err(|error| {
            Failure::new(&error, "the time stamp must enclose the signature it was given")
        })?;
        let to = flags.into.as_deref().unwrap_or(file);
        signature::attach(file, &member, to)
            .map_err(|error| Failure::new(&error, error.remedy()).about(file))?;
        say!("{}: signed by {}", to.display(), signer.id());
    }
    if flags.timestamp.is_none() {
        say!(
            "without a time stamp: DSM 5.1 to 6.2 believe a signature only when Synology's server \
             stamped it, so there the trust level must still be \"Any publisher\"; DSM 7 does not \
             look. See --timestamp."
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands a signature to the command and takes what it answers for the stamped one.
fn stamped(command: &str, signature: &[u8]) -> Result<Vec<u8>, Failure> {
    let remedy = "the command reads a binary signature and answers with syno_signature.asc";
    let failed = |error: std::io::Error| {
        let mut failure = Failure::new(&error, remedy);
        failure.facts.insert(0, "the time stamp's command failed".into());
        failure
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // A signature is smaller than any pipe's buffer: this cannot wait for the answer.
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(signature)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(failed(error));
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let limit = openpgp::FILE_BYTES_MAX as u64 + 1;
        stdout.take(limit).read_to_end(&mut answer).map_err(failed)?;
    }
    let ended = child.wait().map_err(failed)?;
    if answer.len() > openpgp::FILE_BYTES_MAX {
        return Err(failed(std::io::Error::other("it answers more than any time stamp has")));
    }
    if !ended.success() {
        return Err(failed(std::io::Error::other(ended.to_string())));
    }
    Ok(answer)
}

/// Says by whom packages are signed; fails for those that are not, or by strangers.
pub fn verify(files: &[PathBuf], keyrings: &[PathBuf]) -> Done {
    let mut keyring: Option<Keyring> = None;
    for path in keyrings {
        let next = Keyring::parse(&read(path)?).map_err(about(path))?;
        keyring = Some(match keyring {
            Some(keyring) => keyring.with(next),
            None => next,
        });
    }
    let mut all_fit = true;
    for file in files {
        let package = open(file)?;
        let state = State::of(&package);
        let member = package.content(signature::MEMBER).unwrap_or_default();
        let Some(keyring) = keyring.as_ref().filter(|_| state != State::Unsigned) else {
            say!("{}: {}", file.display(), state.sentence());
            all_fit &= keyring.is_none() && state != State::Unsigned;
            continue;
        };
        match keyring.verify(member, || Signed::of(&package, file)) {
            Ok(verified) => {
                let stamp = match verified.stamp.as_deref() {
                    None => "no time stamp".to_owned(),
                    Some("") => "time stamp of a key that is not in the keyring".to_owned(),
                    Some(id) => format!("time stamp by {id}"),
                };
                let (signer, user) = (verified.signer, crate::commands::shown(&verified.user));
                say!("{}: signed by {signer} ({user}); {stamp}", file.display());
            }
            Err(error) => {
                let failure = about(file)(error);
                eprintln!("{}", failure.facts.join(": "));
                eprintln!("  what to do: {}", failure.remedy);
                all_fit = false;
            }
        }
    }
    Ok(if all_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
