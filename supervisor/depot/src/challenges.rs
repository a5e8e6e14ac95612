//! What a certificate authority asks for over plain HTTP, to see that a name leads to this depot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Answers held at one time, at most: as many names as one certificate has.
const ANSWERS_MAX: usize = 100;

/// Answers below `/.well-known/acme-challenge/`, by the token in the address.
#[derive(Debug, Clone, Default)]
pub struct Challenges(Arc<Mutex<BTreeMap<String, String>>>);

impl Challenges {
    /// Holds an answer; beyond a hundred the first one goes.
    pub fn hold(&self, token: &str, answer: &str) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS_MAX {
            answers.pop_first();
        }
        answers.insert(token.to_owned(), answer.to_owned());
    }

    /// Forgets all answers.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The answer for a token.
    pub fn answer(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}
