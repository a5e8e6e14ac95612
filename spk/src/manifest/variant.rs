//! Several packages from one manifest: each variant is the whole with some of its keys replaced.
//!
//! Tables are merged key by key, everything else (lists too) is replaced as a whole. A package's
//! name is its identity, so every variant names its own.

use super::{ManifestError, wrong};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// More packages than anybody makes of one source.
pub const VARIANTS_MAX: usize = 50;

/// The variants of a manifest, each as a whole manifest without variants.
pub(super) fn tables(mut base: Table) -> Result<Vec<Table>, ManifestError> {
    let Some(Value::Array(variants)) = base.remove("variant") else { return Ok(vec![base]) };
    if variants.len() > VARIANTS_MAX {
        let remedy = "split them over several files";
        return Err(wrong("variant", &variants.len().to_string(), "too many variants", remedy));
    }
    let mut names = BTreeSet::new();
    let mut tables = Vec::new();
    for variant in variants {
        let Value::Table(changes) = variant else { continue };
        let own = changes.get("package").and_then(|package| package.get("name"));
        if own.is_none() {
            let remedy = "write package.name = \"…\" in each [[variant]]";
            return Err(wrong("variant", "", "a variant has no name of its own", remedy));
        }
        let mut whole = base.clone();
        merge(&mut whole, changes);
        if !names.insert(name_of(&whole)) {
            let remedy = "give each variant a package.name of its own";
            return Err(wrong("variant", &name_of(&whole), "two have one name", remedy));
        }
        tables.push(whole);
    }
    Ok(tables)
}

/// The package's name in a manifest's table.
pub(super) fn name_of(table: &Table) -> String {
    let name = table.get("package").and_then(|package| package.get("name"));
    name.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Puts the keys of `changes` into `base`; no deeper than TOML's own parser let them nest.
fn merge(base: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (base.get_mut(&key), change) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, change) => {
                base.insert(key, change);
            }
        }
    }
}
