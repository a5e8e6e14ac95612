//! The progress bar: one line on a terminal, rewritten at most ten times a second.
//!
//! Without a terminal nothing is drawn but one line every ten seconds, so that a log stays a log.

use crate::output::{bytes, duration};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const REDRAW_PAUSE: Duration = Duration::from_millis(100);
const LOG_PAUSE: Duration = Duration::from_secs(10);
const BAR_CELLS: usize = 24;

/// How far a job has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached {
    /// Files done.
    pub files_done: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes to do, once known.
    pub bytes_total: Option<u64>,
}

/// A line on standard error.
pub struct ProgressBar {
    begun: Instant,
    drawn: Option<Instant>,
    is_terminal: bool,
    is_quiet: bool,
}

impl ProgressBar {
    /// A bar that has not been drawn yet.
    pub fn new(is_quiet: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { begun: Instant::now(), drawn: None, is_terminal, is_quiet }
    }

    /// Shows how far the job has come, unless it was shown a moment ago.
    pub fn show(&mut self, reached: Reached) {
        let pause = if self.is_terminal { REDRAW_PAUSE } else { LOG_PAUSE };
        let is_due = self.drawn.unwrap_or(self.begun).elapsed() >= pause;
        if self.is_quiet || !is_due {
            return;
        }
        self.drawn = Some(Instant::now());
        self.draw(reached);
    }

    /// Shows the end and leaves the line standing.
    pub fn finish(&mut self, reached: Reached) {
        if self.is_quiet || (!self.is_terminal && self.drawn.is_none()) {
            return;
        }
        let whole = Reached { bytes_total: Some(reached.bytes_done), ..reached };
        self.draw(whole);
        if self.is_terminal {
            eprintln!();
        }
    }

    /// Leaves the line as it stands, for a failure to be printed below it.
    pub fn abandon(&mut self) {
        if self.is_terminal && self.drawn.is_some() {
            eprintln!();
        }
    }

    fn draw(&self, reached: Reached) {
        let text = line(reached, self.begun.elapsed());
        let mut stderr = std::io::stderr().lock();
        // A closed standard error is no reason to stop a backup.
        let _ = if self.is_terminal {
            write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{text}")
        };
    }
}

fn line(reached: Reached, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = (reached.bytes_done as f64 / seconds) as u64;
    let done = format!("{} files, {}", reached.files_done, bytes(reached.bytes_done));
    let Some(total) = reached.bytes_total else {
        return format!("counting… {done}, {}/s", bytes(rate));
    };
    let total = total.max(reached.bytes_done);
    let share = if total == 0 { 1.0 } else { reached.bytes_done as f64 / total as f64 };
    let full = (share * BAR_CELLS as f64) as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR_CELLS - full));
    let left = (total - reached.bytes_done).checked_div(rate).map_or("?".into(), duration);
    format!(
        "{bar} {:3.0} %  {done} of {}, {}/s, {left} left",
        share * 100.0,
        bytes(total),
        bytes(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_share_rate_and_time_left_and_never_divides_by_zero() {
        let second = Duration::from_secs(1);
        let half = Reached { files_done: 7, bytes_done: 1 << 20, bytes_total: Some(2 << 20) };
        assert!(line(half, second).contains(" 50 %  7 files, 1.0 MiB of 2.0 MiB, 1.0 MiB/s, 0:01"));
        let nothing = Reached { files_done: 0, bytes_done: 0, bytes_total: Some(0) };
        assert!(line(nothing, Duration::ZERO).contains("100 %"));
        let unknown = Reached { bytes_total: None, ..half };
        assert!(line(unknown, second).starts_with("counting… 7 files"));
    }

    #[test]
    fn a_file_that_grew_while_it_was_read_does_not_push_the_bar_over_its_end() {
        let over = Reached { files_done: 1, bytes_done: 30, bytes_total: Some(10) };
        assert!(line(over, Duration::from_secs(1)).contains("100 %"));
    }
}
