//! A log that is bounded whatever is written into it.
//!
//! The daemon writes to the file itself, not to a pipe of ours: a supervisor that dies must not
//! break its daemon's output. What has grown too large is copied to `NAME.1` and cut to nothing;
//! because the file is open for appending, the writer goes on at the new end.

use crate::{DsmError, Folder, Result};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

/// A log is turned over when it is larger. With the one before it, twice this is on disk.
pub const LOG_BYTES_MAX: u64 = 1 << 20;

/// A log file and its predecessor.
#[derive(Debug)]
pub struct BoundedLog {
    folder: Folder,
    name: String,
    file: File,
}

impl BoundedLog {
    /// Opens the log for appending, made with mode 0640 when it is missing.
    pub fn open(folder: Folder, name: &str) -> Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
        let file = folder.open_file(name, flags, 0o640)?;
        Ok(Self { folder, name: name.to_owned(), file })
    }

    /// The file, for a daemon to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Appends one line with the time before it. A full disk is not worth failing for here.
    pub fn say(&self, text: &str) {
        let time = crate::clock::local(crate::clock::now_seconds());
        let line = text.replace('\n', " / ");
        let _ = (&self.file).write_all(format!("{time} {line}\n").as_bytes());
        let _ = self.turn();
    }

    /// Turns the log over if it has grown too large. Of a flood only the last part is kept.
    pub fn turn(&self) -> Result<bool> {
        let cannot = |error| DsmError::io("turn over", &self.path(), error);
        let bytes = self.file.metadata().map_err(cannot)?.len();
        if bytes <= LOG_BYTES_MAX {
            return Ok(false);
        }
        // A second descriptor: the reading position is shared with nobody.
        let mut file = self.folder.open_file(&self.name, OFlag::O_RDONLY, 0)?;
        file.seek(SeekFrom::Start(bytes - LOG_BYTES_MAX)).map_err(cannot)?;
        let mut kept = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut kept).map_err(cannot)?;
        // A full disk must not keep the flood from being cut.
        let _ = self.folder.write_lightly(&format!("{}.1", self.name), &kept, 0o640);
        self.file.set_len(0).map_err(cannot)?;
        Ok(true)
    }

    /// How many bytes there are now; a place to read on from with [`BoundedLog::since`].
    pub fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }
}

/// The last lines of a log, from byte `since` on (all of it when it was turned over meanwhile).
pub fn last_lines(folder: &Folder, name: &str, since: u64, lines_max: usize) -> Vec<String> {
    const TAIL_BYTES_MAX: u64 = 8192;
    let Ok(mut file) = folder.open_file(name, OFlag::O_RDONLY, 0) else { return Vec::new() };
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    let since = if since > bytes { 0 } else { since };
    let from = since.max(bytes.saturating_sub(TAIL_BYTES_MAX));
    let mut tail = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_err()
        || file.take(TAIL_BYTES_MAX).read_to_end(&mut tail).is_err()
    {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&tail);
    let printable = |line: &str| {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        line.chars().map(plain).take(300).collect::<String>().trim().to_owned()
    };
    let lines: Vec<String> = text.lines().map(printable).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(lines_max)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        (place, folder)
    }

    #[test]
    fn a_flood_is_cut_and_its_end_is_kept_and_the_writer_goes_on() {
        let (place, folder) = folder();
        let log = BoundedLog::open(folder, "x.log").unwrap();
        let mut daemon = log.file().try_clone().unwrap();
        daemon.write_all(&vec![b'a'; LOG_BYTES_MAX as usize]).unwrap();
        assert!(!log.turn().unwrap());
        daemon.write_all(b"the end\n").unwrap();
        assert!(log.turn().unwrap());
        daemon.write_all(b"goes on\n").unwrap();
        assert_eq!(std::fs::read(place.path().join("x.log")).unwrap(), b"goes on\n");
        let before = std::fs::read(place.path().join("x.log.1")).unwrap();
        assert_eq!(before.len() as u64, LOG_BYTES_MAX);
        assert!(before.ends_with(b"the end\n"));
    }

    #[test]
    fn the_last_lines_are_those_written_since_and_hold_nothing_that_plays_with_a_terminal() {
        let (_place, folder) = folder();
        let log = BoundedLog::open(folder, "x.log").unwrap();
        let mut daemon = log.file();
        daemon.write_all(b"old\n").unwrap();
        let since = log.bytes();
        daemon.write_all(b"one\n\n\x1b[31mtwo\nthree\n").unwrap();
        let folder = Folder::open(log.path().parent().unwrap()).unwrap();
        assert_eq!(last_lines(&folder, "x.log", since, 2), ["[31mtwo", "three"]);
        assert_eq!(last_lines(&folder, "x.log", since, 9).len(), 3);
        assert_eq!(last_lines(&folder, "none.log", 0, 9), Vec::<String>::new());
    }
}
