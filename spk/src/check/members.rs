//! The outer archive: names, owners, scripts, icons, wizards.

use super::{ALL, ONLY_7, Report, UP_TO_6};
use crate::archive::Kind;
use crate::dsm::{Dsm, SCRIPTS};
use crate::icon::{LARGE_PIXELS, size_of_png};
use crate::read::Member;
use crate::signature::State;
use serde_json::Value;

pub(super) fn check(report: &mut Report<'_>) {
    names(report);
    scripts(report);
    icons(report);
    wizards(report);
    texts(report);
}

/// The licence, which is shown, and the signature, which may be believed.
fn texts(report: &mut Report<'_>) {
    let package = report.package;
    if package.license().is_some_and(|text| std::str::from_utf8(text).is_err()) {
        let sentence = "LICENSE is not UTF-8 text";
        report.advice(
            ALL,
            "license-text",
            sentence,
            "save it as UTF-8; the page shows it as it is",
        );
    }
    let state = State::of(package);
    if state == State::Unreadable {
        let remedy = "sign it again with `spk sign`, or remove the member";
        report.refused(UP_TO_6, "signature", state.sentence(), remedy);
    }
    if let Some(last) = package.members.last()
        && state != State::Unsigned
        && last.head.path != crate::signature::MEMBER
    {
        let sentence = format!("`{}` comes after the signature", last.head.path);
        report.advice(UP_TO_6, "signature-place", sentence, "sign it as the last step");
    }
}

fn names(report: &mut Report<'_>) {
    let members = &report.package.members;
    let first = |wanted: &dyn Fn(&&Member) -> bool| {
        members.iter().find(wanted).map(|member| member.head.path.clone())
    };
    if let Some(path) = first(&|member| member.head.is_dotted) {
        let sentence = format!("names in the archive start with ./ (`./{path}`)");
        let remedy = "pack with `tar -cf x.spk INFO …`, not `tar -cf x.spk .`; servers refuse it";
        report.advice(ALL, "dot-slash", sentence, remedy);
    }
    if let Some(path) = first(&|member| member.head.is_extended) {
        let sentence = format!("`{path}` needs an extension of tar to say its name");
        let remedy = "pack with --format=ustar, and shorten the name";
        report.advice(ALL, "not-ustar", sentence, remedy);
    }
    let is_litter = |path: &str| {
        path.split('/').any(|part| part.starts_with("._") || part.starts_with("PaxHeader"))
    };
    if let Some(path) = first(&|member| is_litter(&member.head.path)) {
        let sentence = format!("`{path}` is a leftover of a Mac or of another tar");
        report.refused(ALL, "litter", sentence, "pack with COPYFILE_DISABLE=1 --format=ustar");
    }
    if let Some(path) = first(&|member| member.head.owner != 0) {
        let sentence = format!("`{path}` belongs to a user's number, not to root");
        report.advice(ALL, "owner", sentence, "pack with --owner=0 --group=0");
    }
    for folder in ["conf", "WIZARD_UIFILES"] {
        let below = format!("{folder}/");
        if first(&|member| member.head.path.starts_with(&below)).is_some()
            && report.package.member(folder).is_none()
        {
            let sentence = format!("the folder `{folder}` has no entry of its own");
            let remedy = "pack the folder, not only its files: servers look for the entry";
            report.advice(ALL, "folder-entry", sentence, remedy);
        }
    }
    let is_odd = |kind| !matches!(kind, Kind::File | Kind::Directory);
    if let Some(path) = first(&|member| is_odd(member.head.kind)) {
        let sentence = format!("`{path}` is a link or a device");
        report.refused(
            ALL,
            "member-kind",
            sentence,
            "put files and folders only around package.tgz",
        );
    }
}

fn scripts(report: &mut Report<'_>) {
    let package = report.package;
    match package.member("scripts").map(|member| member.head.kind) {
        Some(Kind::Directory) => {}
        Some(_) => {
            let remedy = "make it a real folder with the seven scripts in it";
            report.refused(ALL, "scripts-folder", "`scripts` is not a folder (error 313)", remedy);
        }
        None => {
            let sentence = "the folder `scripts` has no entry of its own";
            report.advice(ALL, "scripts-folder", sentence, "pack the folder, not only its files");
        }
    }
    for name in SCRIPTS {
        let Some(member) = package.member(&format!("scripts/{name}")) else {
            let sentence = format!("there is no scripts/{name}");
            let remedy = "add one that says `#!/bin/sh` and `exit 0` (error 261 without it)";
            match name {
                "start-stop-status" => report.refused(ALL, "script-missing", sentence, remedy),
                "preupgrade" | "postupgrade" => {
                    report.refused(ONLY_7, "script-missing", sentence.clone(), remedy);
                    report.advice(UP_TO_6, "script-missing", sentence, remedy);
                }
                _ => report.advice(ALL, "script-missing", sentence, remedy),
            }
            continue;
        };
        if member.head.mode & 0o111 != 0o111 {
            let sentence = format!("scripts/{name} has mode {:o}", member.head.mode);
            report.refused(ALL, "script-not-executable", sentence, "give it mode 0755");
        }
        let first_line = member.content.as_deref().unwrap_or_default().split(|byte| *byte == b'\n');
        let first_line = first_line.take(1).next().unwrap_or_default();
        if !first_line.starts_with(b"#!") {
            let sentence = format!("scripts/{name} does not start with #!");
            report.refused(ALL, "script-shebang", sentence, "let its first line be #!/bin/sh");
        } else if first_line.ends_with(b"\r") {
            let sentence = format!("scripts/{name} has Windows line ends: no shell runs it");
            report.refused(ALL, "script-line-ends", sentence, "save it with Unix line ends");
        } else if first_line.ends_with(b"bash") && report.dsm == Dsm::Five {
            let sentence = format!("scripts/{name} wants bash, which DSM 5 does not have");
            report.refused(ALL, "script-bash", sentence, "write it for /bin/sh (BusyBox ash)");
        }
    }
}

fn icons(report: &mut Report<'_>) {
    let package = report.package;
    let in_info = |key: &str| package.info.get(key).is_some();
    let wanted = report.dsm.icon_pixels();
    match package.icon().map(size_of_png) {
        None if in_info("package_icon") => {}
        None => {
            let remedy = "add a PNG of 72 pixels (64 on DSM 7)";
            report.refused(ALL, "icon", "there is no PACKAGE_ICON.PNG", remedy);
        }
        Some(None) => {
            report.advice(ALL, "icon", "PACKAGE_ICON.PNG is not a PNG", "convert it to PNG");
        }
        // DSM 7 takes 72 pixels as well.
        Some(Some((width, height))) if width == height && (width == wanted || width == 72) => {}
        Some(Some((width, height))) => {
            let sentence = format!(
                "PACKAGE_ICON.PNG has {width} by {height} pixels, not {wanted} by {wanted}"
            );
            report.advice(ALL, "icon-size", sentence, "scale it to 72 pixels (64 on DSM 7)");
        }
    }
    match package.icon_256().map(size_of_png) {
        None if in_info("package_icon_256") => {}
        None => {
            let sentence = "there is no PACKAGE_ICON_256.PNG: Package Center shows a blurred icon";
            report.advice(ALL, "icon-256", sentence, "add a PNG of 256 pixels");
        }
        Some(Some((LARGE_PIXELS, LARGE_PIXELS))) => {}
        Some(_) => {
            let sentence = "PACKAGE_ICON_256.PNG is not a PNG of 256 by 256 pixels";
            report.advice(ALL, "icon-256", sentence, "scale it to 256 pixels");
        }
    }
}

fn wizards(report: &mut Report<'_>) {
    for member in &report.package.members {
        let Some(name) = member.head.path.strip_prefix("WIZARD_UIFILES/") else { continue };
        let Some(content) = &member.content else { continue };
        if name.ends_with(".sh") {
            if member.head.mode & 0o111 != 0o111 {
                let sentence = format!("the wizard {name} has mode {:o}", member.head.mode);
                report.refused(ALL, "wizard-not-executable", sentence, "give it mode 0755");
            }
            if !content.starts_with(b"#!") {
                let sentence = format!("the wizard {name} does not start with #!");
                report.refused(ALL, "wizard-shebang", sentence, "let its first line be #!/bin/sh");
            }
        } else if name.contains("_uifile") {
            wizard_steps(report, name, content);
        }
    }
}

/// Kinds of questions DSM's wizards know.
const ITEM_TYPES: [&str; 5] = ["singleselect", "multiselect", "textfield", "password", "combobox"];

/// Questions of one wizard that are looked at.
const ITEMS_MAX: usize = 200;

fn wizard_steps(report: &mut Report<'_>, name: &str, content: &[u8]) {
    let Ok(steps) = serde_json::from_slice::<Vec<Value>>(content) else {
        let sentence = format!("the wizard {name} is not a JSON list of steps");
        let remedy = "correct it with a JSON checker; DSM says \"invalid file format\"";
        report.refused(ALL, "wizard-json", sentence, remedy);
        return;
    };
    let items = steps.iter().filter_map(|step| step["items"].as_array()).flatten();
    for item in items.take(ITEMS_MAX) {
        let kind = item["type"].as_str();
        if let Some(kind) = kind.filter(|kind| !ITEM_TYPES.contains(kind)) {
            let kind: String = kind.chars().take(40).collect();
            let sentence = format!("the wizard {name} asks with `{kind}`, which DSM does not know");
            let remedy = "use singleselect, multiselect, textfield, password or combobox";
            report.advice(ALL, "wizard-type", sentence, remedy);
        }
        let subitems = item["subitems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_keyed = |subitem: &Value| subitem["key"].as_str().is_some_and(|key| !key.is_empty());
        if kind.is_some() && (subitems.is_empty() || !subitems.iter().all(is_keyed)) {
            let sentence = format!("the wizard {name} asks for something without a key");
            let remedy = "give each of its subitems a key: the answer's environment variable";
            report.advice(ALL, "wizard-key", sentence, remedy);
        }
    }
}
