//! `tests/conformance/BEHAVIOURS.md` names scenarios that exist, and all those of its suite.

use std::collections::BTreeSet;

use super::{root, sources};

const TABLE: &str = include_str!("../conformance/BEHAVIOURS.md");

/// The scenarios that the sources of a suite make, by the text of their names.
fn scenarios(suite: &str) -> BTreeSet<String> {
    let place = format!("tests/{suite}/");
    let mut found = BTreeSet::new();
    for (_, text) in sources().iter().filter(|(name, _)| name.starts_with(&place)) {
        // Names stand where a scenario is made, perhaps on the next line.
        for maker in ["Scenario::new(", "Scenario::for_drivers(", "scenario("] {
            let names = text.split(maker).skip(1).filter_map(|rest| {
                rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned)
            });
            found.extend(names);
        }
    }
    assert!(found.len() > 3, "the scenarios of {suite} are not made as they were: {found:?}");
    found
}

/// `suite::scenario` in backticks.
fn named() -> BTreeSet<(String, String)> {
    let words = TABLE.split('`').skip(1).step_by(2);
    words
        .filter_map(|word| word.split_once("::"))
        .map(|(suite, name)| (suite.to_owned(), name.to_owned()))
        .collect()
}

#[test]
fn behaviours_name_scenarios_that_exist() {
    let named = named();
    assert!(named.len() > 40, "the table is not written as it was: {}", named.len());
    for (suite, name) in named {
        assert!(root().join("tests").join(&suite).is_dir(), "there is no suite {suite}");
        assert!(scenarios(&suite).contains(&name), "BEHAVIOURS.md: no scenario {suite}::{name}");
    }
}

#[test]
fn scenarios_of_the_conformance_suite_have_their_behaviour() {
    let named = named();
    for name in scenarios("conformance") {
        let named = named.contains(&("conformance".to_owned(), name.clone()));
        assert!(named, "BEHAVIOURS.md does not say what {name} is for");
    }
}
