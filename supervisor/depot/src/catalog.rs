//! What Package Center is answered: which rows, in which form, with which fields.
//!
//! The rules follow the servers that have fed DSM for years (the facts and their sources are in
//! the project's notes on the protocol):
//!
//! - a row fits when it is for the platform, its family or `noarch`, for the same major version of
//!   DSM (DSM 4 and 5 also take `noarch` rows of 3.x), and the build lies within its range;
//! - one row for each package: the highest version, then the one asking for the newest DSM;
//! - betas only for those who asked; on DSM 7 without the `beta` field, which would hide the row;
//! - no `model`, `type` or `price`: they hide rows too. Every field always has the same type.

use crate::asked::{Asked, Shape};
use crate::shelves::{Channel, Item, Shelves, compare};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The rows that fit what was asked, one for each package.
pub fn rows<'a>(shelves: &'a Shelves, asked: &Asked) -> Vec<&'a Item> {
    let (Some(arch), Some(major)) = (&asked.arch, asked.dsm_major()) else { return Vec::new() };
    let mut best: BTreeMap<&str, &Item> = BTreeMap::new();
    for item in shelves.offered().filter(|item| fits(item, asked, arch, major)) {
        best.entry(&item.package)
            .and_modify(|other| {
                if outranks(item, other) == Ordering::Greater {
                    *other = item;
                }
            })
            .or_insert(item);
    }
    best.into_values().collect()
}

fn fits(item: &Item, asked: &Asked, arch: &str, major: u32) -> bool {
    let is_noarch = item.archs.iter().any(|arch| arch == "noarch");
    let same_major = item.dsm_major == major || (item.dsm_major == 3 && major < 6 && is_noarch);
    let build_fits = asked.build.is_none_or(|build| {
        item.build_min <= build && item.build_max.is_none_or(|build_max| build <= build_max)
    });
    let channel_fits = asked.beta || item.channel == Channel::Stable;
    same_major && build_fits && channel_fits && item.is_for_platform(arch)
}

fn outranks(one: &Item, other: &Item) -> Ordering {
    compare(&one.version, &other.version).then(one.build_min.cmp(&other.build_min))
}

/// The answer's bytes, written row by row: as one value, ten thousand rows take a hundred MiB.
pub fn answer(shelves: &Shelves, asked: &Asked, base_url: &str) -> Vec<u8> {
    let shape = asked.shape();
    let (begin, end) = match shape {
        Shape::List => ("[", "]".to_owned()),
        Shape::PackagesAndKeyrings => {
            let keys: Vec<&str> = shelves.publishers.iter().map(|key| key.armored()).collect();
            ("{\"packages\":[", format!("],\"keyrings\":{}}}", json!(keys)))
        }
        Shape::Packages => ("{\"packages\":[", "]}".to_owned()),
    };
    let mut out = begin.as_bytes().to_vec();
    let rows = rows(shelves, asked);
    for (at, item) in rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if at == 1 {
            // Rows are much alike. Growing step by step leaves holes as large as the answer.
            out.reserve(rows.len() * (out.len() + out.len() / 4));
        }
        // Writing to memory cannot fail, and every key is text.
        let _ = serde_json::to_writer(&mut out, &row(item, &asked.language, shape, base_url));
    }
    out.extend(end.into_bytes());
    out.shrink_to_fit();
    out
}

fn row(item: &Item, language: &str, shape: Shape, base_url: &str) -> Value {
    let has_dialog = item.has_licence || item.has_install_wizard;
    let icon =
        |hash: &Option<String>| hash.as_ref().map(|hash| format!("{base_url}/icons/{hash}.png"));
    let small = icon(&item.icon).or_else(|| icon(&item.icon_256));
    let mut row = Map::new();
    let mut set = |key: &str, value: Value| row.insert(key.to_owned(), value);
    set("package", json!(item.package));
    set("version", json!(item.version));
    set("dname", json!(localized(item, "displayname", language).unwrap_or(&item.package)));
    set("desc", json!(localized(item, "description", language).unwrap_or_default()));
    set("link", json!(format!("{base_url}/packages/{}", escaped(&item.file))));
    set("md5", json!(item.md5));
    set("size", json!(item.bytes));
    set("thumbnail", json!(small.into_iter().collect::<Vec<_>>()));
    if let Some(large) = icon(&item.icon_256) {
        set("thumbnail_retina", json!([large]));
    }
    set("snapshot", json!([]));
    set("qinst", json!(!has_dialog));
    set("qupgrade", json!(!item.has_licence && !item.has_upgrade_wizard));
    set("qstart", json!(!has_dialog && item.is_startable));
    set("startable", json!(if item.is_startable { "yes" } else { "no" }));
    set("deppkgs", json!(item.text("install_dep_packages")));
    set("conflictpkgs", json!(item.text("install_conflict_packages")));
    // Nobody is counted.
    set("download_count", json!(0));
    set("recent_download_count", json!(0));
    for key in ["changelog", "distributor", "distributor_url", "maintainer", "maintainer_url"] {
        if let Some(text) = item.text(key) {
            set(key, json!(text));
        }
    }
    if item.channel == Channel::Beta && shape != Shape::Packages {
        set("beta", json!(true));
        set("report_url", json!(item.text("report_url").unwrap_or_default()));
    }
    Value::Object(row)
}

fn localized<'a>(item: &'a Item, key: &str, language: &str) -> Option<&'a str> {
    item.text(&format!("{key}_{language}"))
        .or_else(|| item.text(&format!("{key}_enu")))
        .or_else(|| item.text(key))
}

/// A file's name as it stands in an address.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelves::tests::item;

    fn shelves(items: Vec<Item>) -> Shelves {
        let mut shelves = Shelves::default();
        shelves.items = items;
        shelves
    }

    fn versions(shelves: &Shelves, query: &str) -> Vec<String> {
        rows(shelves, &Asked::read(query)).iter().map(|item| item.version.clone()).collect()
    }

    #[test]
    fn one_row_for_each_package_and_the_highest_version_wins_whatever_the_order() {
        for order in [["1.0-9", "1.0-10"], ["1.0-10", "1.0-9"]] {
            let shelves = shelves(order.iter().map(|v| item(v, &["x86_64"], 7)).collect());
            assert_eq!(versions(&shelves, "arch=apollolake&build=72806&major=7"), ["1.0-10"]);
        }
    }

    #[test]
    fn rows_for_another_platform_dsm_or_build_are_not_shown() {
        let late = Item { build_min: 69_057, ..item("1.0-3", &["x86_64"], 7) };
        let early = Item { build_max: Some(64_570), ..item("1.0-2", &["x86_64"], 7) };
        let shelves = shelves(vec![item("1.0-1", &["alpine", "armv8"], 7), late, early]);
        let rows = |query| versions(&shelves, query);
        assert_eq!(rows("arch=apollolake&build=72806&major=7"), ["1.0-3"]);
        assert_eq!(rows("arch=apollolake&build=64570&major=7"), ["1.0-2"]);
        assert_eq!(rows("arch=apollolake&build=65000&major=7"), [""; 0]);
        assert_eq!(rows("arch=alpine&build=65000&major=7"), ["1.0-1"]);
        assert_eq!(rows("arch=rtd1296&build=65000&major=7"), ["1.0-1"]);
        assert_eq!(rows("arch=armada38x&build=65000&major=7"), [""; 0]);
        assert_eq!(rows("arch=alpine&build=25556&major=6"), [""; 0]);
        assert_eq!(rows("arch=alpine&build=65000&major=8"), [""; 0]);
        assert_eq!(rows("build=65000&major=7"), [""; 0]);
        assert_eq!(rows("arch=alpine"), [""; 0]);
    }

    #[test]
    fn noarch_is_for_everybody_even_a_platform_nobody_has_heard_of() {
        let shelves = shelves(vec![item("1.0-1", &["noarch"], 7), item("1.0-1", &["noarch"], 3)]);
        assert_eq!(versions(&shelves, "arch=zen9&build=90000&major=7"), ["1.0-1"]);
        assert_eq!(versions(&shelves, "arch=88f6281&build=5644&major=5"), ["1.0-1"]);
        assert_eq!(versions(&shelves, "arch=88f6281&build=25556&major=6"), [""; 0]);
    }

    #[test]
    fn betas_are_for_those_who_asked_and_dsm_7_is_not_told() {
        let beta = Item { channel: Channel::Beta, ..item("1.1-2", &["x86_64"], 7) };
        let old_beta = Item { channel: Channel::Beta, ..item("1.1-2", &["x86_64"], 6) };
        let shelves = shelves(vec![
            item("1.0-1", &["x86_64"], 7),
            item("1.0-1", &["x86_64"], 6),
            beta,
            old_beta,
        ]);
        let answer = |query: &str| {
            let asked = Asked::read(query);
            serde_json::from_slice::<Value>(&answer(&shelves, &asked, "http://d")).unwrap()
        };
        let on_7 = answer("arch=avoton&build=72806&major=7&package_update_channel=beta");
        assert_eq!(on_7["packages"][0]["version"], "1.1-2");
        assert_eq!(on_7["packages"][0].get("beta"), None);
        let on_6 = answer("arch=avoton&build=25556&major=6&package_update_channel=beta");
        assert_eq!(on_6["packages"][0]["beta"], true);
        let stable = answer("arch=avoton&build=25556&major=6&package_update_channel=stable");
        assert_eq!(stable["packages"][0]["version"], "1.0-1");
    }

    #[test]
    fn names_and_descriptions_come_in_the_language_asked_for_or_english() {
        let mut item = item("1.0-1", &["noarch"], 7);
        for (key, text) in [
            ("displayname", "Holdfast"),
            ("displayname_ger", "Halt fest"),
            ("description", "plain"),
            ("description_enu", "English"),
        ] {
            item.texts.insert(key.to_owned(), text.to_owned());
        }
        let shown = |language: &str| {
            let row = row(&item, language, Shape::Packages, "http://d");
            format!("{} {}", row["dname"], row["desc"])
        };
        assert_eq!(shown("ger"), "\"Halt fest\" \"English\"");
        assert_eq!(shown("jpn"), "\"Holdfast\" \"English\"");
    }

    #[test]
    fn no_field_that_hides_rows_is_ever_sent() {
        let shelves = shelves(vec![item("1.0-1", &["noarch"], 7)]);
        let asked = Asked::read("arch=avoton&build=72806&major=7");
        let answer = answer(&shelves, &asked, "http://d");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        for key in ["model", "type", "price", "beta", "category", "depsers"] {
            assert_eq!(answer["packages"][0].get(key), None, "{key}");
        }
        assert_eq!(answer.as_object().unwrap().len(), 1);
    }

    #[test]
    fn a_question_with_dialogs_is_never_answered_quick() {
        let plain = item("1.0-1", &["noarch"], 7);
        let quick = |item: &Item| {
            let row = row(item, "enu", Shape::Packages, "http://d");
            [row["qinst"] == true, row["qupgrade"] == true, row["qstart"] == true]
        };
        assert_eq!(quick(&plain), [true, true, true]);
        assert_eq!(quick(&Item { has_licence: true, ..plain.clone() }), [false; 3]);
        let asks = Item { has_install_wizard: true, ..plain.clone() };
        assert_eq!(quick(&asks), [false, true, false]);
        let asks = Item { has_upgrade_wizard: true, ..plain.clone() };
        assert_eq!(quick(&asks), [true, false, true]);
        assert_eq!(quick(&Item { is_startable: false, ..plain }), [true, true, false]);
    }
}
