//! What is counted: answers by what was asked for, downloads by file. Nothing of who asked.

use crate::place::{Place, read, write_whole};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Files whose downloads are counted, at most.
const FILES_MAX: usize = 50_000;
/// A longer table of downloads is not read.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Package Center's list.
    Catalog,
    /// A package.
    Package,
    /// An icon.
    Icon,
    /// Signed metadata.
    Metadata,
    /// The page for people.
    Web,
    /// Publishing.
    Publish,
}

impl Kind {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Catalog, "catalog"),
        (Self::Package, "package"),
        (Self::Icon, "icon"),
        (Self::Metadata, "metadata"),
        (Self::Web, "web"),
        (Self::Publish, "publish"),
    ];

    /// What a path asks for.
    pub fn of(path: &str) -> Self {
        // A folder by itself is answered as the catalog.
        match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
            Some(("packages", file)) if !file.is_empty() => Self::Package,
            Some(("icons", file)) if !file.is_empty() => Self::Icon,
            Some(("metadata", file)) if !file.is_empty() => Self::Metadata,
            Some(("publish", file)) if !file.is_empty() => Self::Publish,
            None if path == "/web" => Self::Web,
            _ => Self::Catalog,
        }
    }
}

/// The counters of a running server.
#[derive(Debug, Default)]
pub struct Counts {
    /// By kind and by the status' first digit, 1 to 5.
    answers: [[AtomicUsize; 5]; 6],
    refused: AtomicUsize,
    downloads: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    /// Counters that go on from what was kept.
    pub fn kept(place: &Place) -> Self {
        let bytes = read(&place.downloads(), TABLE_BYTES_MAX).unwrap_or_default();
        let downloads = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { downloads: Mutex::new(downloads), ..Self::default() }
    }

    /// Keeps the downloads for the next run.
    pub fn keep(&self, place: &Place) {
        let bytes = serde_json::to_vec_pretty(&*self.table()).unwrap_or_default();
        if let Err(error) = write_whole(&place.downloads(), &bytes, 0o644) {
            tracing::warn!(%error, "the counts of downloads were not kept");
        }
    }

    /// An answer was given.
    pub fn answered(&self, kind: Kind, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answers[kind as usize][class].fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody asked too much.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A download of that file began.
    pub fn downloaded(&self, file: &str) {
        let mut table = self.table();
        if let Some(count) = table.get_mut(file) {
            *count += 1;
        } else if table.len() < FILES_MAX {
            table.insert(file.to_owned(), 1);
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters in Prometheus' text form. `label` names a file by package, version, platform.
    pub fn text(&self, label: impl Fn(&str) -> Option<[String; 3]>) -> String {
        let mut out = String::from(
            "# HELP holdfast_depot_answers_total Answers by what was asked for and status.\n\
             # TYPE holdfast_depot_answers_total counter\n",
        );
        for (kind, name) in Kind::ALL {
            for (class, count) in self.answers[kind as usize].iter().enumerate() {
                let (class, count) = (class + 1, count.load(Ordering::Relaxed));
                if count > 0 {
                    let _ = writeln!(
                        out,
                        "holdfast_depot_answers_total{{kind=\"{name}\",status=\"{class}xx\"}} \
                         {count}"
                    );
                }
            }
        }
        out.push_str(
            "# HELP holdfast_depot_refused_total Requests of those who asked too much.\n\
             # TYPE holdfast_depot_refused_total counter\n",
        );
        let _ =
            writeln!(out, "holdfast_depot_refused_total {}", self.refused.load(Ordering::Relaxed));
        out.push_str(
            "# HELP holdfast_depot_downloads_total Downloads that were begun.\n\
             # TYPE holdfast_depot_downloads_total counter\n",
        );
        for (file, count) in &*self.table() {
            let Some([package, version, platform]) = label(file) else { continue };
            let _ = writeln!(
                out,
                "holdfast_depot_downloads_total{{package=\"{package}\",version=\"{version}\",\
                 platform=\"{platform}\"}} {count}"
            );
        }
        out
    }
}

/// How often each file was downloaded, as the last server kept it.
pub fn downloads(root: &std::path::Path) -> BTreeMap<String, u64> {
    let bytes = read(&Place::at(root).downloads(), TABLE_BYTES_MAX).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
