//! Wizards as DSM reads them: JSON files of steps, one for each stage and language.
//!
//! The plain file (`install_uifile`) is English, or what there is, and is shown to everybody whose
//! language has no file of its own. DSM 7 took new names for what a step does to the Next button.

use crate::dsm::Dsm;
use crate::manifest::wizard::{Ask, AskKind, Choice, Page};
use crate::manifest::{Manifest, Wizard};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every wizard file of a package: its name below `WIZARD_UIFILES` and its content.
pub fn files(manifest: &Manifest, dsm: Dsm) -> Vec<(String, String)> {
    let languages = languages(&manifest.wizard);
    let mut files = Vec::new();
    for (stage, pages) in manifest.wizard.stages() {
        let file = |language: &str| format!("{:#}\n", steps(pages, language, dsm));
        files.push((format!("{stage}_uifile"), file("enu")));
        for language in languages.iter().filter(|language| **language != "enu") {
            files.push((format!("{stage}_uifile_{language}"), file(language)));
        }
    }
    files
}

/// The languages any text of the wizard is written in.
fn languages(wizard: &Wizard) -> BTreeSet<&str> {
    let pages = wizard.stages().flat_map(|(_, pages)| pages);
    pages.flat_map(Page::texts).flat_map(|text| text.languages()).collect()
}

fn steps(pages: &[Page], language: &str, dsm: Dsm) -> Value {
    let steps = pages.iter().map(|page| {
        let items: Vec<Value> = page.ask.iter().map(|ask| item(ask, language)).collect();
        let mut step = json!({ "step_title": page.title.in_language(language), "items": items });
        if page.ask.iter().any(must_fit) {
            // Next stays grey while an answer does not fit.
            step["invalid_next_disabled"] = json!(true);
            if dsm == Dsm::Seven {
                step["invalid_next_disabled_v2"] = json!(true);
            }
        }
        step
    });
    Value::Array(steps.collect())
}

fn must_fit(ask: &Ask) -> bool {
    let is_field = matches!(ask.kind, AskKind::Text | AskKind::Password);
    is_field && (!ask.optional || ask.pattern.is_some() || ask.length_min.is_some())
}

fn item(ask: &Ask, language: &str) -> Value {
    let question = ask.question.in_language(language);
    let (kind, subitems) = match ask.kind {
        AskKind::Note => return json!({ "desc": question }),
        AskKind::Text => ("textfield", json!([field(ask, language)])),
        AskKind::Password => ("password", json!([field(ask, language)])),
        AskKind::Choice => ("singleselect", options(ask, language)),
        AskKind::Checks => ("multiselect", options(ask, language)),
        AskKind::List => ("combobox", json!([list(ask, language)])),
    };
    json!({ "type": kind, "desc": question, "subitems": subitems })
}

fn options(ask: &Ask, language: &str) -> Value {
    // Of several that exclude each other one must be chosen, or none can be left out.
    let none_chosen = !ask.options.iter().any(|option| option.default);
    let first = |at: usize| ask.kind == AskKind::Choice && none_chosen && at == 0;
    let each = ask.options.iter().enumerate().map(|(at, option)| {
        json!({
            "key": option.key,
            "desc": option.label.in_language(language),
            "defaultValue": option.default || first(at),
        })
    });
    each.collect()
}

fn field(ask: &Ask, language: &str) -> Value {
    let mut field = json!({ "key": ask.key });
    let texts = [("desc", &ask.label), ("emptyText", &ask.hint)];
    for (name, text) in texts {
        if let Some(text) = text {
            field[name] = json!(text.in_language(language));
        }
    }
    if let Some(default) = &ask.default {
        field["defaultValue"] = json!(default);
    }
    let mut validator = json!({ "allowBlank": ask.optional });
    if let Some(pattern) = &ask.pattern {
        let expression = json!({
            "expr": format!("/^(?:{})$/", pattern.replace('/', "\\/")),
            "errorText": ask.complaint.as_ref().map(|text| text.in_language(language)),
        });
        validator["regex"] = expression;
    }
    for (name, letters) in [("minLength", ask.length_min), ("maxLength", ask.length_max)] {
        if let Some(letters) = letters {
            validator[name] = json!(letters);
        }
    }
    field["validator"] = validator;
    field
}

fn list(ask: &Ask, language: &str) -> Value {
    let label = |option: &Choice| option.label.in_language(language).to_owned();
    let value = |option: &Choice| option.value.clone().unwrap_or_else(|| label(option));
    let rows: Vec<Value> =
        ask.options.iter().map(|option| json!([value(option), label(option)])).collect();
    let chosen = ask.options.iter().find(|option| option.default).or(ask.options.first());
    let default = ask.default.clone().or_else(|| chosen.map(value));
    json!({
        "key": ask.key,
        "desc": ask.label.as_ref().map_or("", |text| text.in_language(language)),
        "editable": false,
        "mode": "local",
        "forceSelection": true,
        "displayField": "label",
        "valueField": "value",
        "defaultValue": default,
        "store": { "xtype": "arraystore", "fields": ["value", "label"], "data": rows },
    })
}
