//! The table of steps and outcomes, printed at the end of a run and shown in README.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};

use crate::operations::{OPERATIONS, Operation};
use crate::play::{Event, Outcome};

const README: &str = include_str!("../../README.md");

/// What was found in this run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Arc<Mutex<BTreeMap<(String, String), Outcome>>>);

impl Table {
    /// Adds one that has passed.
    pub(crate) fn add(&self, operation: &Operation, step: &str, event: Event, outcome: Outcome) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert((row(operation, step), event.to_string()), outcome);
    }

    /// Prints it.
    #[expect(clippy::print_stdout, reason = "this is what the run is for")]
    pub(crate) fn print(&self) {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_empty() {
            return;
        }
        let heads = Event::ALL.map(|event| format!(" {event} |")).concat();
        println!("\n| operation | ended after |{heads}\n|---|---|---|---|---|---|");
        for operation in OPERATIONS {
            for step in operation.steps {
                let cell = |event: Event| {
                    let outcome = found.get(&(row(operation, step), event.to_string()));
                    match outcome {
                        Some(Outcome::AsBefore) => " as before |",
                        Some(Outcome::AsAsked) => " as asked |",
                        None if event.applies_to(operation, step) => " not played |",
                        None => " - |",
                    }
                };
                let cells = Event::ALL.map(cell).concat();
                println!("{}{cells}", row(operation, step));
            }
        }
    }
}

/// How the row of a step begins: several operations may have one of the same name.
fn row(operation: &Operation, step: &str) -> String {
    format!("| {} | `{step}` |", operation.name)
}

/// README's table has a row for each step.
pub(crate) fn in_readme() -> Result<()> {
    for operation in OPERATIONS {
        for step in operation.steps {
            let row = row(operation, step);
            ensure!(README.contains(&row), "README has no row {row}");
        }
    }
    Ok(())
}
