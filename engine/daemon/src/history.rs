//! The history: one readable log in the box's own time zone, bounded in size.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// At this size the log becomes `history.log.1`, and the one before it is dropped.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The log of one home.
#[derive(Debug, Clone)]
pub struct History {
    path: PathBuf,
}

impl History {
    /// The log in the folder of logs; nothing is created yet.
    pub fn within(logs: &Path) -> Self {
        Self { path: logs.join("history.log") }
    }

    /// Adds a line. A full disk must not stop a backup, so that the caller may ignore the error.
    pub fn add(&self, text: &str) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|facts| facts.len() >= FILE_BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let now = jiff::Zoned::now();
        let one_line = text.replace(['\n', '\r'], " ");
        file.write_all(format!("{} {one_line}\n", now.strftime("%Y-%m-%d %H:%M:%S %:z")).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_one_line_an_event_and_never_grows_past_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::within(folder.path());
        history.add("backup of photos began\nand a forged line").unwrap();
        let text = fs::read_to_string(folder.path().join("history.log")).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with("backup of photos began and a forged line\n"), "{text}");
        fs::write(folder.path().join("history.log"), vec![b'x'; FILE_BYTES_MAX as usize]).unwrap();
        history.add("next").unwrap();
        let now = fs::metadata(folder.path().join("history.log")).unwrap().len();
        let before = fs::metadata(folder.path().join("history.log.1")).unwrap().len();
        assert!(now < 100 && before == FILE_BYTES_MAX);
    }
}
