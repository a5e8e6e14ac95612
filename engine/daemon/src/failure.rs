//! Why a command did not do what was asked: a fact, a remedy, an exit code.

use engine_contract::control::Refusal;
use std::error::Error;
use std::fmt;

/// Exit codes scripts may rely on; those from 10 on are restic's.
pub mod exit {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const WRONG_USE: u8 = 2;
    /// Done, but some source files could not be read.
    pub const INCOMPLETE: u8 = 3;
    /// There is no repository.
    pub const NO_REPOSITORY: u8 = 10;
    /// Another program holds a lock.
    pub const LOCKED: u8 = 11;
    /// No key opens with the password.
    pub const WRONG_PASSWORD: u8 = 12;
    /// The settings are unusable: the supervisor waits until they change (`EX_CONFIG`).
    pub const CONFIGURATION: u8 = 78;
}

/// A failure as the user sees it.
#[derive(Debug)]
pub struct Failure {
    fact: String,
    remedy: Option<String>,
    code: u8,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that says what happened; exit code 1.
    pub fn new(fact: impl Into<String>) -> Self {
        Self { fact: fact.into(), remedy: None, code: exit::FAILED, cause: None }
    }

    /// A failure whose fact is an error's own sentence.
    pub fn from_error(error: impl Error + Send + Sync + 'static) -> Self {
        let cause = error.source().map(|cause| causes(cause).into());
        Self { fact: error.to_string(), remedy: None, code: exit::FAILED, cause }
    }

    /// The same, with what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same, with a remedy if there is one.
    pub fn remedy_if_any(mut self, remedy: Option<impl Into<String>>) -> Self {
        self.remedy = remedy.map(Into::into);
        self
    }

    /// The same, with another exit code.
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same, with what caused it.
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The fact and its causes, in one line.
    pub fn sentence(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {}", self.fact, causes(cause.as_ref())),
            None => self.fact.clone(),
        }
    }

    /// What to do about it.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The same, as it crosses the control socket.
    pub fn refusal(&self) -> Refusal {
        Refusal { fact: self.sentence(), remedy: self.remedy.clone(), exit_code: self.code }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

/// An error and all that caused it, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
