//! What the keys promise, for all kinds of step at once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

use super::recipe::Recipe;
use super::*;

/// The values of a field, by its name; it may occur more than once.
fn values(recipe: &Recipe) -> BTreeMap<&'static str, Vec<String>> {
    let mut values: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (name, value) in recipe.fields() {
        values.entry(name).or_default().push(format!("{value:?}"));
    }
    values
}

/// Every input of every kind of step makes another key: no two examples of a kind have the same key, and
/// for each field of a kind's keys two of them differ in it.
#[test]
fn every_field_of_every_key_counts() {
    for (kind, families) in all_example_keys() {
        let mut names = BTreeSet::new();
        let mut differing = BTreeSet::new();
        for family in families {
            let keys: HashSet<_> = family.iter().map(Recipe::key).collect();
            assert_eq!(keys.len(), family.len(), "{kind}: two examples have the same key");
            let base = values(&family[0]);
            names.extend(base.keys().copied());
            for other in family[1..].iter().map(values) {
                differing.extend(
                    base.iter()
                        .filter(|(name, value)| other.get(*name) != Some(value))
                        .map(|(name, _)| *name),
                );
            }
        }
        // The profile and tier of a contract follow from what else is in the key, and versions are the program's.
        let follows = |name: &str| matches!(name, "profile" | "tier") && kind == "EncodeChunk";
        let missing: Vec<&str> = names
            .difference(&differing)
            .copied()
            .filter(|name| !follows(name) && !name.ends_with(" version"))
            .collect();
        assert!(missing.is_empty(), "{kind}: no example differs in {missing:?}");
    }
}

/// `docs/keys.md` lists every kind of key with its version and fields: what it does not say is in no key.
/// To write it anew: `RIVET_WRITE_DOCS=1 cargo test --lib keys_are_documented`.
#[test]
fn keys_are_documented() {
    let mut page = include_str!("keys_head.md").to_owned();
    let mut listed: BTreeMap<(String, u32), BTreeSet<Vec<&'static str>>> = BTreeMap::new();
    let title = crate::build::title_cache::example_key();
    let families = all_example_keys().into_iter().flat_map(|(_, families)| families);
    for recipe in families.flatten().chain([title]) {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in recipe.fields() {
            if !names.contains(name) {
                names.push(name);
            }
        }
        listed.entry((recipe.kind().to_owned(), recipe.version())).or_default().insert(names);
    }
    for ((kind, version), forms) in listed {
        for fields in forms {
            let fields: Vec<String> = fields.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(page, "| `{kind}` | {version} | {} |", fields.join(", "));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/keys.md");
    if std::env::var_os("RIVET_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        written, page,
        "docs/keys.md is not what the code says; the comment above tells how to write it"
    );
}
