//! What a command could not do: a fact, what to do about it, and the exit code.

use std::error::Error;

/// Ends a command. Printed as a fact, its causes, and a second line with the remedy.
#[derive(Debug)]
pub struct Problem {
    fact: String,
    remedy: Option<String>,
    cause: Option<Box<dyn Error + Send + Sync>>,
    /// The exit code: 1 failed, 2 wrong use, 11 locked.
    pub code: u8,
}

/// Shorthand for what commands return.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// A fact without a remedy.
    pub fn new(fact: impl Into<String>) -> Self {
        Self { fact: fact.into(), remedy: None, cause: None, code: 1 }
    }

    /// The same with what to do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with its cause.
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The fact and its causes in one line.
    pub fn fact(&self) -> String {
        let mut text = self.fact.clone();
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What to do, if that is known.
    pub fn what_to_do(&self) -> &str {
        self.remedy.as_deref().unwrap_or("try again; if it stays, see the log")
    }

    /// Everything a person is told: the fact, then what to do.
    pub fn for_people(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}\n  what to do: {remedy}", self.fact()),
            None => self.fact(),
        }
    }
}

impl From<supervisor_depot::DepotError> for Problem {
    fn from(error: supervisor_depot::DepotError) -> Self {
        let remedy = error.remedy();
        let is_locked = matches!(error, supervisor_depot::DepotError::Busy { .. });
        let mut problem = Self::new("the depot cannot do that").because(error);
        if is_locked {
            problem.code = 11;
        }
        match remedy {
            Some(remedy) => problem.remedy(remedy),
            None => problem,
        }
    }
}

/// What a maintainer elsewhere is told when the object store fails.
impl From<Problem> for supervisor_depot::DepotError {
    fn from(problem: Problem) -> Self {
        Self::Store { fact: problem.fact(), remedy: problem.what_to_do().to_owned() }
    }
}
