//! `package.tgz`: modes, processors, links, and what INFO promises about it.

use super::{ALL, Report, UP_TO_5};
use crate::archive::{Kind, link_stays_inside};
use crate::platform::Target;
use crate::read::{Compression, Machine, PayloadEntry};

pub(super) fn check(report: &mut Report<'_>) {
    modes(report);
    processors(report);
    desktop(report);
    let payload = &report.package.payload;
    if payload.compression == Compression::Xz {
        let remedy = "compress it with gzip, which every DSM unpacks";
        report.refused(UP_TO_5, "payload-xz", "package.tgz is xz inside", remedy);
    }
    if payload.entries.is_empty() {
        let sentence = "package.tgz is empty";
        report.advice(ALL, "payload-empty", sentence, "pack what the package is for");
    }
    let name = report.package.info.package();
    let folder = format!("{name}/");
    if !payload.entries.is_empty()
        && payload.entries.iter().all(|e| e.head.path == name || e.head.path.starts_with(&folder))
    {
        let sentence = format!("everything in package.tgz lies in a folder `{name}`");
        let remedy = "pack the folder's content: names are relative to target/";
        report.advice(ALL, "payload-folder", sentence, remedy);
    }
}

fn modes(report: &mut Report<'_>) {
    for entry in &report.package.payload.entries {
        let (path, mode) = (&entry.head.path, entry.head.mode);
        match entry.head.kind {
            Kind::Directory if mode & 0o500 != 0o500 => {
                let sentence = format!("the folder target/{path} has mode {mode:o}");
                let remedy = "give folders 0755; without x the package cannot start (126)";
                report.refused(ALL, "folder-mode", sentence, remedy);
            }
            Kind::File if mode & 0o6000 != 0 => {
                let sentence = format!("target/{path} is setuid or setgid, mode {mode:o}");
                report.advice(ALL, "setuid", sentence, "give it 0755; DSM 7 takes the bit away");
            }
            Kind::File if entry.machine.is_some() && is_program(path) && mode & 0o111 == 0 => {
                let sentence = format!("the program target/{path} has mode {mode:o}");
                report.advice(ALL, "program-mode", sentence, "give it 0755, or nothing starts it");
            }
            Kind::Symlink
                if !link_stays_inside(path, entry.head.link.as_deref().unwrap_or_default()) =>
            {
                let sentence = format!("target/{path} is a link out of the package");
                let remedy = "make it relative, or create it in postinst";
                report.advice(ALL, "link-outside", sentence, remedy);
            }
            Kind::Other => {
                let sentence = format!("target/{path} is neither file, folder nor link");
                report.refused(ALL, "payload-kind", sentence, "leave it out");
            }
            _ => {}
        }
    }
}

/// Whether a path is where programs are.
fn is_program(path: &str) -> bool {
    path.starts_with("bin/") || path.starts_with("sbin/")
}

/// Programs for a processor that none of the package's platforms has.
fn processors(report: &mut Report<'_>) {
    let package = report.package;
    let archs = package.info.archs();
    let runs: Vec<Target> = Target::ALL
        .into_iter()
        .filter(|target| {
            let known = target.archs(report.dsm);
            archs.iter().any(|arch| known.contains(arch))
                || crate::platform::PLATFORMS.iter().any(|platform| {
                    platform.target(report.dsm) == Ok(*target)
                        && crate::platform::arch_matches(archs.iter().copied(), platform.codename)
                })
        })
        .collect();
    let fits = |machine: Machine| runs.iter().any(|target| machines(*target).contains(&machine));
    let wrong = |entry: &&PayloadEntry| entry.machine.is_some_and(|machine| !fits(machine));
    if runs.is_empty() || runs.contains(&Target::Noarch) {
        return;
    }
    if let Some(entry) = package.payload.entries.iter().find(wrong) {
        let machine = entry.machine.map(described).unwrap_or_default();
        let sentence = format!(
            "target/{} is a program for {machine}, but INFO's arch is `{}`",
            entry.head.path,
            archs.join(" ")
        );
        let remedy = "pack the build of that target";
        report.refused(ALL, "wrong-processor", sentence, remedy);
    }
}

/// `e_machine` numbers, from the ELF specification.
const X86: u16 = 3;
const ARM: u16 = 40;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

fn machines(target: Target) -> &'static [Machine] {
    const INTEL_32: Machine = Machine { number: X86, bits: 32 };
    const INTEL_64: Machine = Machine { number: X86_64, bits: 64 };
    const ARM_32: Machine = Machine { number: ARM, bits: 32 };
    const ARM_64: Machine = Machine { number: AARCH64, bits: 64 };
    match target {
        // A 64-bit box runs static 32-bit helpers too.
        Target::X86_64 => &[INTEL_64, INTEL_32],
        Target::Aarch64 => &[ARM_64, ARM_32],
        Target::Armhf | Target::Armv7 | Target::Armv5 => &[ARM_32],
        Target::I686 => &[INTEL_32],
        Target::Noarch => &[],
    }
}

fn described(machine: Machine) -> String {
    match machine.number {
        X86 => "32-bit Intel".into(),
        ARM => "32-bit ARM".into(),
        X86_64 => "64-bit Intel".into(),
        AARCH64 => "64-bit ARM".into(),
        number => format!("processor {number}, {} bit", machine.bits),
    }
}

/// `dsmuidir` and `dsmappname`: an Open button that does nothing says nothing.
fn desktop(report: &mut Report<'_>) {
    let package = report.package;
    let folder = package.info.get("dsmuidir").filter(|folder| !folder.contains([':', ' ']));
    if let Some(folder) = folder
        && package.payload_entry(folder).is_none()
    {
        let sentence = format!("INFO's dsmuidir is `{folder}`, which package.tgz does not hold");
        report.advice(ALL, "dsmuidir", sentence, "pack the folder, or leave dsmuidir out");
        return;
    }
    let Some(names) = package.info.get("dsmappname") else { return };
    let config = package.payload_entry(&format!("{}/config", folder.unwrap_or("ui")));
    let config = config.and_then(|entry| entry.content.as_deref());
    let parsed = config.and_then(|text| serde_json::from_slice::<serde_json::Value>(text).ok());
    let classes = parsed.as_ref().and_then(|value| value[".url"].as_object());
    for name in names.split_whitespace() {
        if classes.is_none_or(|classes| !classes.contains_key(name)) {
            let sentence = format!("INFO's dsmappname is `{name}`, which no ui/config explains");
            let remedy = "name a key of \".url\" in ui/config, or leave dsmappname out";
            report.advice(ALL, "dsmappname", sentence, remedy);
        }
    }
}
