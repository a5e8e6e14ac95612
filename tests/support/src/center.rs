//! Package Center: asks a package source as DSM asks, believes no more than DSM believes.
//!
//! Source of every field and quirk: requests captured on DSM 5.1 and 6.1, and what third-party
//! servers found out; the table is in the depot's protocol notes.

use crate::http::{Answer, Request, ask};
use crate::nas::package::{compare_versions, md5_of};
use crate::nas::{AtPath, Done, Dsm, Nas, NasError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A catalog is a few hundred rows.
const CATALOG_BYTES_MAX: usize = 8 << 20;

/// No package of ours comes near.
const PACKAGE_BYTES_MAX: usize = 512 << 20;

/// From this build on the answer is an object, not a bare list (DSM 5.1).
const BUILD_WITH_KEYRINGS: u32 = 5004;

/// From this build on there are no keyrings and betas are hidden (DSM 7).
const BUILD_WITHOUT_KEYRINGS: u32 = 40_000;

/// A row of a catalog: what Package Center shows, and where the package is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Row {
    /// The package's name.
    pub package: String,
    /// Its version, byte for byte the one in INFO.
    pub version: String,
    /// The name to show.
    pub dname: String,
    /// The description to show.
    pub desc: String,
    /// Absolute URL of the package.
    pub link: String,
    /// md5 of the package, in hex.
    pub md5: String,
    /// The package's size in bytes.
    pub size: u64,
    /// Absolute URLs of the icon.
    pub thumbnail: Vec<String>,
    /// Whether it installs without a dialog.
    pub qinst: bool,
    /// Whether it upgrades without a dialog.
    pub qupgrade: bool,
    /// Whether it starts without a dialog.
    pub qstart: bool,
}

/// A row, and what the button beside it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The row.
    pub row: Row,
    /// `Install`, `Update` or `Open`.
    pub button: &'static str,
}

/// Package Center of one NAS, with one source added.
#[derive(Debug, Clone)]
pub struct Center<'a> {
    nas: &'a Nas,
    source: String,
}

impl<'a> Center<'a> {
    /// The owner adds `source` in Settings, Package Sources: a GET must already answer JSON.
    pub fn with_source(nas: &'a Nas, source: &str) -> Result<Self, NasError> {
        let center = Self { nas, source: source.to_owned() };
        let probe = center.ask(source, None, CATALOG_BYTES_MAX)?;
        center.json(&probe)?;
        Ok(center)
    }

    /// The rows Package Center shows, each with its button.
    pub fn offers(&self) -> Result<Vec<Offer>, NasError> {
        let form = self.form();
        let answer = self.ask(&self.source, Some(&form), CATALOG_BYTES_MAX)?;
        let rows = self.rows(&self.json(&answer)?)?;
        let offer = |row: Row| {
            let button = match self.nas.installed(&row.package) {
                None => "Install",
                Some(installed) if compare_versions(&row.version, &installed).is_gt() => "Update",
                Some(_) => "Open",
            };
            Offer { row, button }
        };
        Ok(rows.into_iter().map(offer).collect())
    }

    /// The owner presses Install or Update: download, check, install, start.
    pub fn install(
        &self,
        package: &str,
        answers: &BTreeMap<String, String>,
    ) -> Result<Done, NasError> {
        let file = self.download(package)?;
        let outcome = match self.nas.installed(package) {
            Some(_) => self.nas.upgrade(&file, answers),
            None => self.nas.install(&file, answers).and_then(|mut done| {
                done.messages.extend(self.nas.start(package)?.messages);
                Ok(done)
            }),
        };
        let _ = std::fs::remove_file(&file);
        outcome
    }

    /// Downloads a package and compares it with what the catalog promises.
    pub fn download(&self, package: &str) -> Result<PathBuf, NasError> {
        let offers = self.offers()?;
        let Some(Offer { row, .. }) = offers.into_iter().find(|offer| offer.row.package == package)
        else {
            return Err(NasError::NotOffered { package: package.to_owned() });
        };
        let differs = |reason: String| NasError::Download { url: row.link.clone(), reason };
        let bytes_max = usize::try_from(row.size).unwrap_or(usize::MAX).min(PACKAGE_BYTES_MAX);
        let answer = self.ask(&row.link, None, bytes_max)?;
        if answer.body.len() as u64 != row.size {
            let bytes = answer.body.len();
            return Err(differs(format!("it has {bytes} bytes, not {}", row.size)));
        }
        let file = self.nas.root().join("volume1/@tmp").join(format!("{package}.spk"));
        std::fs::write(&file, &answer.body).at(&file)?;
        let md5 = md5_of(&file)?;
        if !md5.eq_ignore_ascii_case(&row.md5) {
            let _ = std::fs::remove_file(&file);
            return Err(differs(format!("its md5 is {md5}, not {}", row.md5)));
        }
        Ok(file)
    }

    /// What DSM sends about itself.
    fn form(&self) -> Vec<(&'static str, String)> {
        let version = self.nas.dsm().version();
        let mut form = vec![
            ("package_update_channel", "stable".to_owned()),
            ("unique", self.nas.hardware().unique()),
            ("build", version.build.to_string()),
            ("language", "enu".to_owned()),
            ("major", version.major.to_string()),
            ("micro", version.micro.to_string()),
            ("arch", self.nas.hardware().platform.clone()),
            ("minor", version.minor.to_string()),
            ("timezone", "Amsterdam".to_owned()),
            ("nano", version.nano.to_string()),
        ];
        if self.nas.dsm() == Dsm::Five {
            form.retain(|(name, _)| !matches!(*name, "micro" | "nano"));
        }
        form
    }

    fn user_agent(&self) -> String {
        let version = self.nas.dsm().version();
        let (unique, nano) = (self.nas.hardware().unique(), version.nano);
        let (major, minor, build) = (version.major, version.minor, version.build);
        format!("{unique} DSM{major}.{minor}-{build} Update {nano} (package)")
    }

    fn ask(
        &self,
        url: &str,
        form: Option<&[(&str, String)]>,
        answer_bytes_max: usize,
    ) -> Result<Answer, NasError> {
        let user_agent = self.user_agent();
        let request = Request { url, user_agent: &user_agent, form, answer_bytes_max };
        let invalid = |reason: String| NasError::Location { url: url.to_owned(), reason };
        let answer = ask(&request).map_err(invalid)?;
        match answer.status {
            200 => Ok(answer),
            status => Err(invalid(format!("the server answers {status}"))),
        }
    }

    fn json(&self, answer: &Answer) -> Result<serde_json::Value, NasError> {
        let invalid = |reason: String| NasError::Location { url: self.source.clone(), reason };
        if !answer.content_type.starts_with("application/json") {
            return Err(invalid(format!("the answer is {}, not JSON", answer.content_type)));
        }
        serde_json::from_slice(&answer.body).map_err(|cause| invalid(cause.to_string()))
    }

    /// The rows of an answer, in the shape this build of DSM reads.
    fn rows(&self, answer: &serde_json::Value) -> Result<Vec<Row>, NasError> {
        let invalid = |reason: &str| NasError::Location {
            url: self.source.clone(),
            reason: reason.to_owned(),
        };
        let build = self.nas.dsm().version().build;
        let rows = if build < BUILD_WITH_KEYRINGS { answer } else { &answer["packages"] };
        let rows = rows.as_array().ok_or_else(|| invalid("the answer has no list of packages"))?;
        let wants_keyrings = (BUILD_WITH_KEYRINGS..BUILD_WITHOUT_KEYRINGS).contains(&build);
        if wants_keyrings && !answer["keyrings"].is_array() {
            return Err(invalid("the answer has no list of keyrings"));
        }
        let hidden: &[&str] = match self.nas.dsm() {
            Dsm::Seven => &["beta", "model", "type", "price"],
            _ => &["model"],
        };
        rows.iter()
            .filter(|row| hidden.iter().all(|field| row[*field].is_null()))
            .map(|row| {
                serde_json::from_value(row.clone())
                    .map_err(|cause| invalid(&format!("one row empties the whole list: {cause}")))
            })
            .collect()
    }
}

/// Fetches any file of a depot, as a browser would.
pub fn fetch(url: &str) -> Result<Answer, NasError> {
    let request =
        Request { url, user_agent: "Mozilla/5.0", form: None, answer_bytes_max: PACKAGE_BYTES_MAX };
    ask(&request).map_err(|reason| NasError::Location { url: url.to_owned(), reason })
}

/// The md5 of a file in hex, for stories that look behind the catalog.
pub fn md5(path: &Path) -> Result<String, NasError> {
    md5_of(path)
}
