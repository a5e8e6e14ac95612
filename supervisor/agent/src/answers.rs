//! The wizard's answers: text from a browser that arrives in a root shell's environment.
//!
//! DSM hands them over only while it installs, so they are checked and written to
//! `var/answers.json` (mode 0600). They are never put into a command or a file that a shell reads.

use crate::description::AnswerKind;
use crate::problem::{Problem, Result};
use engine_contract::identity::Guid;
use std::collections::BTreeMap;
use supervisor_dsm::{Folder, WIZARD_VALUE_BYTES_MAX};

const FILE_NAME: &str = "answers.json";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Answers that only steer a removal are not kept.
const DELETE_DATA_KEYS: [&str; 2] = ["wizard_delete_data", "pkgwizard_delete_data"];

/// Whether the owner chose to delete the data.
pub fn wants_data_deleted(answers: &BTreeMap<String, String>) -> bool {
    DELETE_DATA_KEYS.iter().any(|key| answers.get(*key).is_some_and(|value| value == "true"))
}

/// Refuses answers that make no sense, in a sentence for the dialog.
pub fn check(
    answers: &BTreeMap<String, String>,
    kinds: &BTreeMap<String, AnswerKind>,
) -> Result<()> {
    for (key, value) in answers {
        let name: String = key.chars().filter(|letter| !letter.is_control()).take(60).collect();
        let refuse = |why: &str| {
            Err(Problem::new(format!("the answer to `{name}` {why}"))
                .remedy("go back in the wizard and correct it"))
        };
        if value.len() > WIZARD_VALUE_BYTES_MAX {
            return refuse(&format!("is longer than {WIZARD_VALUE_BYTES_MAX} bytes"));
        }
        if value.chars().any(char::is_control) {
            return refuse("is more than one line of text");
        }
        let kind = kinds.get(key).copied().unwrap_or(AnswerKind::Text);
        if !value.is_empty() && !fits(value, kind) {
            return refuse(match kind {
                AnswerKind::Path => "is not a path such as /volume1/backup",
                AnswerKind::Guid => "is not the GUID of a computer: a decimal number",
                AnswerKind::Number => "is not a whole number",
                AnswerKind::YesNo => "is neither true nor false",
                AnswerKind::Text => "is not text",
            });
        }
    }
    Ok(())
}

fn fits(value: &str, kind: AnswerKind) -> bool {
    match kind {
        AnswerKind::Path => value.starts_with('/') && value.split('/').all(|part| part != ".."),
        AnswerKind::Guid => value.parse::<Guid>().is_ok(),
        AnswerKind::Number => value.parse::<i64>().is_ok(),
        AnswerKind::YesNo => matches!(value, "true" | "false"),
        AnswerKind::Text => true,
    }
}

/// The GUID the owner asked to adopt in the wizard.
pub fn guid_to_adopt(
    answers: &BTreeMap<String, String>,
    kinds: &BTreeMap<String, AnswerKind>,
) -> Option<Guid> {
    answers
        .iter()
        .filter(|(key, _)| kinds.get(*key) == Some(&AnswerKind::Guid))
        .find_map(|(_, value)| value.parse().ok())
}

/// Writes the answers down; what was answered at another time and not now stays.
pub fn keep(answers: &BTreeMap<String, String>, var: &Folder) -> Result<()> {
    let mut all: BTreeMap<String, String> = match var.read(FILE_NAME, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_default(),
        _ => BTreeMap::new(),
    };
    let before = all.clone();
    let worth_keeping = |key: &&String| !DELETE_DATA_KEYS.contains(&key.as_str());
    for key in answers.keys().filter(worth_keeping) {
        all.insert(key.clone(), answers[key].clone());
    }
    if all != before {
        let bytes = serde_json::to_vec_pretty(&all).unwrap_or_default();
        var.write(FILE_NAME, &bytes, 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn hostile_answers_are_refused_in_a_sentence() {
        let kinds = BTreeMap::from([
            ("wizard_port".to_owned(), AnswerKind::Number),
            ("wizard_folder".to_owned(), AnswerKind::Path),
            ("wizard_guid".to_owned(), AnswerKind::Guid),
        ]);
        let long = "x".repeat(100_000);
        for (key, value) in [
            ("wizard_port", "8000; rm -rf /"),
            ("wizard_folder", "/volume1/../etc"),
            ("wizard_folder", "relative"),
            ("wizard_guid", "$(reboot)"),
            ("wizard_other", "two\nlines"),
            ("wizard_other", "\u{1b}[2J"),
            ("wizard_other", long.as_str()),
        ] {
            let problem = check(&answer(key, value), &kinds).unwrap_err();
            assert!(problem.fact().starts_with("the answer to `wizard_"), "{}", problem.fact());
        }
        for (key, value) in [("wizard_port", "8000"), ("wizard_guid", ""), ("wizard_other", "a; b")]
        {
            assert!(check(&answer(key, value), &kinds).is_ok(), "{key} {value}");
        }
    }

    #[test]
    fn data_is_deleted_only_for_the_one_word_that_means_it() {
        assert!(wants_data_deleted(&answer("wizard_delete_data", "true")));
        for value in ["false", "", "TRUE", "yes"] {
            assert!(!wants_data_deleted(&answer("wizard_delete_data", value)), "{value}");
        }
    }

    #[test]
    fn answers_are_kept_over_an_upgrade_that_does_not_ask_again() {
        let place = tempfile::tempdir().unwrap();
        let var = Folder::open(place.path()).unwrap();
        keep(&answer("wizard_folder", "/volume1/x\"y"), &var).unwrap();
        keep(&BTreeMap::new(), &var).unwrap();
        keep(&answer("wizard_delete_data", "true"), &var).unwrap();
        let text = var.read_text("answers.json", 1000).unwrap().unwrap();
        let kept: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        assert_eq!(kept, answer("wizard_folder", "/volume1/x\"y"));
    }
}
