//! `spk init`: a few questions, and a package that builds at once, to change from.
//!
//! What a flag says is not asked; without a terminal nothing is asked, and the proposals hold.

use crate::{Failure, InitFlags};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

const START_STOP_STATUS: &str = include_str!("start-stop-status");
const DAEMON: &str = include_str!("daemon");
const ICON: &str = "icon.png";

/// What the new package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// Files only; nothing runs.
    Files,
    /// A program that runs in the background.
    Daemon,
}

/// What was answered.
struct Answers {
    name: String,
    displayname: String,
    description: String,
    maintainer: String,
    purpose: Purpose,
    targets: Vec<Target>,
    dsm: Vec<Dsm>,
}

/// Writes the starting package into a folder that is new or empty.
pub fn init(flags: &InitFlags) -> Result<ExitCode, Failure> {
    let is_asked = !flags.yes && std::io::stdin().is_terminal();
    let answers = answers(flags, &mut Asker { is_asked, lines: std::io::stdin().lock() })?;
    let manifest = manifest(&answers);
    Manifest::parse(&manifest).map_err(|error| Failure::new(&error, error.remedy()))?;
    let name = &answers.name;
    let mut files: Vec<(String, Vec<u8>, u32)> = vec![
        ("package.toml".into(), manifest.into_bytes(), 0o644),
        (ICON.into(), spk::icon::plain().encode(), 0o644),
        ("payload/README".into(), b"What is here ends up in target/.\n".to_vec(), 0o644),
    ];
    if answers.purpose == Purpose::Daemon {
        let script = START_STOP_STATUS.replace("@NAME@", name);
        files.push(("scripts/start-stop-status".into(), script.into_bytes(), 0o755));
        files.push((format!("payload/bin/{name}"), DAEMON.as_bytes().to_vec(), 0o755));
    } else {
        let text = "#!/bin/sh\n# Nothing runs: whatever DSM asks, all is well.\nexit 0\n";
        files.push(("scripts/start-stop-status".into(), text.into(), 0o755));
    }
    for (path, content, mode) in files {
        write(&flags.folder.join(path), &content, mode)?;
    }
    let folder = flags.folder.display();
    say!("{folder} is ready: spk build --manifest {folder}/package.toml");
    Ok(ExitCode::SUCCESS)
}

/// Who answers: the person at the terminal, or nobody.
struct Asker<R> {
    is_asked: bool,
    lines: R,
}

impl<R: BufRead> Asker<R> {
    /// The flag's value, or the answer to the question, or the proposal.
    fn text(&mut self, flag: Option<&String>, question: &str, proposal: &str) -> String {
        let Some(flag) = flag else { return self.ask(question, proposal) };
        flag.clone()
    }

    fn ask(&mut self, question: &str, proposal: &str) -> String {
        if !self.is_asked {
            return proposal.to_owned();
        }
        print!("{question} [{proposal}]: ");
        let mut line = String::new();
        let read = std::io::stdout().flush().and_then(|()| self.lines.read_line(&mut line));
        // The end of the input answers this question and all that follow.
        self.is_asked = read.is_ok_and(|bytes| bytes > 0);
        match line.trim() {
            "" => proposal.to_owned(),
            answer => answer.to_owned(),
        }
    }

    /// Asks again until the answer can be read.
    fn parsed<T>(
        &mut self,
        question: &str,
        proposal: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        loop {
            let answer = self.ask(question, proposal);
            match parse(&answer) {
                Ok(value) => return Ok(value),
                Err(why) if self.is_asked => say!("  {why}"),
                Err(why) => {
                    let remedy = "say it by a flag: spk init --help lists them".into();
                    return Err(Failure { facts: vec![why], remedy });
                }
            }
        }
    }
}

fn answers(flags: &InitFlags, asker: &mut Asker<impl BufRead>) -> Result<Answers, Failure> {
    let folder = flags.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = |name: &str| match spk::info::name_is_safe(name) {
        true => Ok(name.to_owned()),
        false => Err(format!("`{name}` is no name for a package: use letters, digits, - and _")),
    };
    let name = match &flags.name {
        Some(name) => named(name).map_err(|why| Failure {
            facts: vec![why],
            remedy: "say another one with --name".into(),
        })?,
        None => asker.parsed("Name, for DSM; it can never change", folder, named)?,
    };
    let displayname = asker.text(flags.displayname.as_ref(), "Name, for people", &name);
    let proposal = "Says what it does, in a sentence.";
    let description = asker.text(flags.description.as_ref(), "Description", proposal);
    let maintainer = asker.text(flags.maintainer.as_ref(), "Maintainer", "Your name");
    let purpose = match flags.purpose {
        Some(purpose) => purpose,
        None => asker.parsed("files only, or a daemon", "files", |text| {
            clap::ValueEnum::from_str(text, true).map_err(|_| "say files or daemon".into())
        })?,
    };
    let targets = match flags.target.as_slice() {
        [] => asker.parsed("Targets, with spaces between", "noarch", |text| {
            let words = text.split_whitespace().map(|word| {
                let target = word.parse::<Target>();
                target.map_err(|error| format!("{error}: {}", error.remedy()))
            });
            words.collect()
        })?,
        named => named.to_vec(),
    };
    let dsm = match flags.dsm.as_slice() {
        [] => asker.parsed("DSM versions, with spaces between", "6 7", |text| {
            text.split_whitespace().map(crate::dsm).collect()
        })?,
        named => named.to_vec(),
    };
    Ok(Answers { name, displayname, description, maintainer, purpose, targets, dsm })
}

fn manifest(answers: &Answers) -> String {
    let Answers { name, displayname, description, maintainer, .. } = answers;
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let targets: Vec<String> = answers.targets.iter().map(|target| quoted(target.name())).collect();
    let dsm: Vec<String> = answers.dsm.iter().map(|dsm| dsm.major().to_string()).collect();
    let startable = match answers.purpose {
        Purpose::Daemon => "",
        Purpose::Files => "startable = false              # no Run and Stop\n",
    };
    format!(
        r#"# Every key is explained by `spk schema`; editors read it too.
[package]
name = {name}                # its folder on the NAS; never change it
version = "0.1.0-0001"         # digits only; the part after the dash must grow
displayname = {displayname}
description = {description}
maintainer = {maintainer}
{startable}targets = [{targets}]           # noarch, or x86_64, aarch64, armhf, armv7, armv5, i686

[dsm]
build = [{dsm}]

[[payload]]
from = "payload"               # or "{{programs}}/{{target}}/NAME" for built programs
to = "."

[scripts]
folder = "scripts"             # start-stop-status, and those of the six hooks you need

[icon]
file = "{ICON}"
"#,
        name = quoted(name),
        displayname = quoted(displayname),
        description = quoted(description),
        maintainer = quoted(maintainer),
        targets = targets.join(", "),
        dsm = dsm.join(", "),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> InitFlags {
        InitFlags { folder: "mine".into(), ..InitFlags::default() }
    }

    fn answered(typed: &str) -> Result<Answers, Failure> {
        answers(&flags(), &mut Asker { is_asked: true, lines: typed.as_bytes() })
    }

    #[test]
    fn a_person_who_only_presses_enter_gets_every_proposal() {
        let all = answered("\n\n\n\n\n\n\n").ok().unwrap();
        assert_eq!((all.name.as_str(), all.displayname.as_str()), ("mine", "mine"));
        assert_eq!((all.targets, all.dsm), (vec![Target::Noarch], vec![Dsm::Six, Dsm::Seven]));
        assert_eq!(answered("").ok().unwrap().name, "mine", "the input ended at once");
    }

    #[test]
    fn a_wrong_answer_is_asked_again_and_a_flag_is_not_asked_at_all() {
        let typed = "my tool\nmy-tool\nMy \"tool\"\nDoes.\nMe\nservice\ndaemon\nsparc\narmhf\n7\n";
        let all = answered(typed).ok().unwrap();
        assert_eq!((all.name.as_str(), all.purpose), ("my-tool", Purpose::Daemon));
        assert_eq!((all.targets, all.dsm), (vec![Target::Armhf], vec![Dsm::Seven]));
        let named = InitFlags { name: Some("tool".into()), ..flags() };
        let mut asker = Asker { is_asked: true, lines: "Tool\n".as_bytes() };
        let all = answers(&named, &mut asker).ok().unwrap();
        assert_eq!((all.name.as_str(), all.displayname.as_str()), ("tool", "Tool"));
        let wrong = InitFlags { name: Some("../x".into()), ..flags() };
        assert!(answers(&wrong, &mut Asker { is_asked: false, lines: &b""[..] }).is_err());
    }
}
