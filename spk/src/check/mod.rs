//! What a NAS will not like about a package that can be read.
//!
//! Each finding is a sentence about *this* package, what its author should do, the DSM versions
//! it matters on, and a code that does not change. The rules are Synology's guide, and what
//! packagers learnt from DSM's error numbers.
//!
//! **Not here:** what makes a file no package at all; that is [`crate::read::ReadError`].

mod conf;
mod info;
mod keys;
mod members;
mod payload;

use crate::dsm::Dsm;
use crate::read::Package;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// DSM refuses the package, or it breaks once it is installed.
    Refused,
    /// It installs, but something is lost or will surprise.
    Advice,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// A short name that does not change, such as `script-not-executable`.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub sentence: String,
    /// What the author should do.
    pub remedy: &'static str,
    /// The first and last DSM it matters on.
    pub range: Range,
}

/// Nobody reads more, and a hostile package could cause a million.
const FINDINGS_MAX: usize = 200;

/// The first and last generation of DSM a rule holds on.
pub type Range = (Dsm, Dsm);

const ALL: Range = (Dsm::Five, Dsm::Seven);
const UP_TO_5: Range = (Dsm::Five, Dsm::Five);
const UP_TO_6: Range = (Dsm::Five, Dsm::Six);
const SINCE_6: Range = (Dsm::Six, Dsm::Seven);
const ONLY_7: Range = (Dsm::Seven, Dsm::Seven);

impl Finding {
    /// The DSM versions it matters on, in words.
    pub fn dsm(&self) -> String {
        match self.range {
            ALL => "every DSM".into(),
            (from, to) if from == to => from.to_string(),
            (from, to) => format!("{from} to {}", to.major()),
        }
    }
}

/// Everything that is wrong with a package, on the DSM it says it is for; what DSM refuses first.
///
/// A package that does not say is judged as one for DSM 7, the strictest.
pub fn findings(package: &Package) -> Vec<Finding> {
    let dsm = package.info.os_min().and_then(|oldest| oldest.dsm()).unwrap_or(Dsm::Seven);
    let mut report = Report { package, dsm, findings: Vec::new() };
    info::check(&mut report);
    keys::check(&mut report);
    members::check(&mut report);
    conf::check(&mut report);
    payload::check(&mut report);
    report.findings.sort_by_key(|finding| finding.weight);
    report.findings
}

/// The findings so far, and what they are about.
struct Report<'a> {
    package: &'a Package,
    dsm: Dsm,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn refused(
        &mut self,
        range: Range,
        code: &'static str,
        sentence: impl Into<String>,
        remedy: &'static str,
    ) {
        self.add(Weight::Refused, range, code, sentence.into(), remedy);
    }

    fn advice(
        &mut self,
        range: Range,
        code: &'static str,
        sentence: impl Into<String>,
        remedy: &'static str,
    ) {
        self.add(Weight::Advice, range, code, sentence.into(), remedy);
    }

    fn add(
        &mut self,
        weight: Weight,
        range: Range,
        code: &'static str,
        sentence: String,
        remedy: &'static str,
    ) {
        if (range.0..=range.1).contains(&self.dsm) && self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { weight, code, sentence, remedy, range });
        }
    }
}

#[cfg(test)]
mod tests;
