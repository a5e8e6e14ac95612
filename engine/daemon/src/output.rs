//! What people and programs read: failures on standard error, results on standard output.
//!
//! A reader that goes away (`ls latest | head -1`) has seen enough. An answer that finds no room is
//! a failure, but none that stops what is being done: [`must_be_whole`] tells it at the end.

use crate::failure::{Failure, exit};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why the first of what is missing from the answer could not be written.
static MISSING: OnceLock<io::Error> = OnceLock::new();

/// Prints a failure, its remedy on a line of its own, and gives its exit code.
pub fn failure(failure: &Failure) -> ExitCode {
    eprintln!("holdfast: {failure}");
    if let Some(remedy) = failure.remedy_text() {
        eprintln!("  what to do: {remedy}");
    }
    ExitCode::from(failure.exit_code())
}

/// Prints what is wrong with a command line, or the help that was asked for.
pub fn usage(refusal: &clap::Error) -> ExitCode {
    let is_help = !refusal.use_stderr();
    // A closed pipe is not worth a word: the reader has seen enough.
    let _ = refusal.print();
    if is_help { ExitCode::SUCCESS } else { ExitCode::from(exit::WRONG_USE) }
}

/// Prints one JSON document on one line.
pub fn json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => eprintln!("holdfast: the answer cannot be shown as JSON: {error}"),
    }
}

/// Prints one line.
pub fn line(text: &str) {
    note(writeln!(io::stdout(), "{text}"));
}

/// Prints a path, its bytes as they are, on one line.
pub fn path(path: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt;
    let mut stdout = io::stdout().lock();
    note(stdout.write_all(path.as_os_str().as_bytes()).and_then(|()| stdout.write_all(b"\n")));
}

fn note(written: io::Result<()>) {
    if let Err(cause) = written
        && cause.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = MISSING.set(cause);
    }
}

/// Fails if a part of the answer could not be written.
pub fn must_be_whole() -> Result<(), Failure> {
    let Some(cause) = MISSING.get() else { return Ok(()) };
    Err(Failure::new(format!("the answer could not be written: {cause}")).remedy(
        "what was asked for is done; make room where standard output goes, to read the answer",
    ))
}

/// A number of bytes for people: `1.4 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A moment for people, in this computer's own time zone: `2026-11-22 16:40`.
pub fn moment(seconds: i64) -> String {
    let Ok(moment) = jiff::Timestamp::from_second(seconds) else { return seconds.to_string() };
    moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// A time span for people: `3:07` or `2:05:09`.
pub fn duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short_enough_for_a_progress_bar() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1000 << 20), "1.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(duration(67), "1:07");
        assert_eq!(duration(7509), "2:05:09");
    }
}
