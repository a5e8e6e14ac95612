//! The last complete run of each backup set, also when the daemon was started since.
//!
//! They are read once, at the start, so that whoever asks for them wakes no disk.

use crate::home::Home;
use crate::settings::Settings;
use engine_contract::control::CompleteRun;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// By the set's name; there are no more of them than sets.
#[derive(Debug, Default)]
pub struct CompleteRuns {
    by_set: Mutex<BTreeMap<String, CompleteRun>>,
}

impl CompleteRuns {
    /// Those of the sets there are.
    pub fn load(home: &Home, settings: &Settings) -> Self {
        let names = settings.sets.iter().map(|set| set.name.clone());
        let found = names.filter_map(|name| Some((name.clone(), home.complete_run(&name)?)));
        Self { by_set: Mutex::new(found.collect()) }
    }

    fn by_set(&self) -> MutexGuard<'_, BTreeMap<String, CompleteRun>> {
        self.by_set.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// That of one set.
    pub fn of(&self, set: &str) -> Option<CompleteRun> {
        self.by_set().get(set).cloned()
    }

    /// A run wrote a snapshot.
    pub fn note(&self, home: &Home, set: &str, run: CompleteRun) {
        home.keep_complete_run(set, &run);
        self.by_set().insert(set.to_owned(), run);
    }

    /// There is no such set any more.
    pub fn forget(&self, home: &Home, set: &str) {
        home.forget_complete_run(set);
        self.by_set().remove(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{BackupSet, Destination};
    use engine_contract::control::RunSummary;
    use engine_contract::layout::Layout;

    fn run() -> CompleteRun {
        CompleteRun {
            ended_at: 1_700_000_000,
            summary: RunSummary {
                snapshot: "ab".repeat(32),
                parent: None,
                files_new: 1,
                files_changed: 0,
                files_unmodified: 0,
                unreadable: vec!["/a: permission denied".into()],
                unreadable_count: 1,
                data_added_bytes: 5,
                stored_bytes: 5,
                total_bytes: 5,
                elapsed_ms: 7,
            },
        }
    }

    #[test]
    fn the_last_complete_run_is_known_after_a_restart_until_its_set_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::take(Layout::below(folder.path())).unwrap();
        let mut settings = Settings::default();
        let place = Destination {
            name: "usb".into(),
            location: "/usb".into(),
            repository_id: "a".repeat(64),
            ssh_arguments: Vec::new(),
        };
        settings.add_destination(place).unwrap();
        let set = BackupSet {
            name: "photos".into(),
            paths: vec!["/photos".into()],
            excludes: Vec::new(),
            destination: "usb".into(),
        };
        settings.add_set(set).unwrap();
        let runs = CompleteRuns::load(&home, &settings);
        assert_eq!(runs.of("photos"), None);
        runs.note(&home, "photos", run());
        assert_eq!(CompleteRuns::load(&home, &settings).of("photos"), Some(run()));
        std::fs::write(home.layout().complete_runs().join("photos"), "{").unwrap();
        assert_eq!(CompleteRuns::load(&home, &settings).of("photos"), None, "a damaged one");
        runs.forget(&home, "photos");
        assert_eq!(runs.of("photos"), None);
        assert!(!home.layout().complete_runs().join("photos").exists());
    }
}
