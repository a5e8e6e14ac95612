//! Running other programs, with errors that say which one and how it ended.

use std::io;
use std::process::{Command, ExitStatus};

/// Why another program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started at all.
    #[error("cannot start `{program}`")]
    NotStarted {
        /// Name or path of the program.
        program: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// It ran and failed.
    #[error("`{line}` failed ({status})")]
    Failed {
        /// The command as a person would type it.
        line: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Runs it to its end, its output going where ours goes.
pub fn run(command: &mut Command) -> Result<(), RunError> {
    let status = command.status().map_err(|cause| not_started(command, cause))?;
    if status.success() { Ok(()) } else { Err(failed(command, status)) }
}

/// Runs it to its end and returns what it printed, without the white space around it.
pub fn output(command: &mut Command) -> Result<String, RunError> {
    let output = command.output().map_err(|cause| not_started(command, cause))?;
    if !output.status.success() {
        return Err(failed(command, output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn not_started(command: &Command, cause: io::Error) -> RunError {
    RunError::NotStarted { program: command.get_program().to_string_lossy().into_owned(), cause }
}

fn failed(command: &Command, status: ExitStatus) -> RunError {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    RunError::Failed { line, status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_quoted_and_one_that_is_missing_is_named() {
        let failed = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(failed.to_string(), "`sh -c exit 7` failed (exit status: 7)");
        let missing = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot start `no-such-program-here`");
    }

    #[test]
    fn what_a_program_prints_is_handed_back() {
        assert_eq!(output(Command::new("echo").arg("  hello ")).unwrap(), "hello");
    }
}
