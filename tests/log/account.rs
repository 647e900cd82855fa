//! What has become of numbered lines: each is in the journal and at every sink, or counted.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::Stage;
use serde_json::Value;

use crate::trial::Printer;
use crate::{fluentd, syslog};

/// Fails unless every line of `printers` is where it should be, or counted.
pub(crate) fn check(stage: &Stage, printers: &[Printer]) -> Result<()> {
    let at_syslog = syslog::Server::records(stage);
    let at_fluentd = fluentd::Server::records(stage)?;
    let mut wrong = Vec::new();
    for printer in printers {
        let account = Account::of(stage, printer)?;
        wrong.extend(account.of_journal().err());
        let name = Some(printer.name.as_str());
        let syslog = at_syslog.iter().filter(|record| record.split('|').nth(3) == name);
        let syslog = syslog.filter_map(|record| record.rsplit(['|', ' ']).next()?.parse().ok());
        wrong.extend(account.of_sink("syslog", &syslog.collect()).err());
        let fluentd = at_fluentd.iter().filter(|event| event["tag"].as_str() == name);
        let fluentd = fluentd.filter_map(|event| event["record"]["log"].as_str()?.parse().ok());
        wrong.extend(account.of_sink("fluentd", &fluentd.collect()).err());
    }
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// What is known of one container's lines.
struct Account<'a> {
    printer: &'a Printer,
    /// The last number.
    printed: usize,
    /// The numbers that `docker logs` gives.
    stored: Vec<usize>,
    /// How many the plugin says that no disk would take.
    lost: usize,
    sinks: Value,
}

impl<'a> Account<'a> {
    fn of(stage: &Stage, printer: &'a Printer) -> Result<Self> {
        let logs = printer.container.logs(&[])?;
        let end = String::from_utf8(logs.stderr)?;
        let mut status = printer.inspected(stage)?;
        Ok(Self {
            printer,
            printed: end.trim().trim_start_matches("end ").parse()?,
            stored: String::from_utf8(logs.stdout)?
                .lines()
                .map(str::parse)
                .collect::<Result<_, _>>()?,
            lost: count(&status["dropped"]["messages"])?,
            sinks: status["sinks"].take(),
        })
    }

    /// Once, in order, and what is missing is what is counted; where retention has taken the
    /// beginning, no more than that.
    fn of_journal(&self) -> Result<()> {
        let Self { printer, printed, stored, lost, .. } = self;
        ensure!(stored.is_sorted_by(|one, two| one < two), "{}: not in order", printer.name);
        let first = if printer.keeps_all() { 1 } else { *stored.first().context("a line")? };
        let missing = printed + 1 - first - stored.len();
        let right = if first == 1 { missing == *lost } else { missing <= *lost };
        ensure!(right, "{}: {missing} of {printed} missing, {lost} counted", printer.name);
        Ok(())
    }

    /// What did not come is what was never stored, and what the sink says that it has dropped.
    fn of_sink(&self, kind: &str, came: &BTreeSet<usize>) -> Result<()> {
        let sinks = self.sinks.as_array().context("sinks")?;
        let sink = sinks.iter().find(|sink| sink["sink"] == kind).context("a sink")?;
        let least = self.lost + count(&sink["dropped_lines"])?;
        let counted = least..=least + count(&sink["dropped_doubtful"])?;
        let (name, printed) = (&self.printer.name, self.printed);
        let missing: Vec<_> = (1..=printed).filter(|number| !came.contains(number)).collect();
        let right = counted.contains(&missing.len()) && sink["dropped_uncounted"] == false;
        // Where there is room for all, a sink drops nothing, whatever happens.
        let right = right && (!self.printer.keeps_all() || counted == (self.lost..=self.lost));
        ensure!(
            right,
            "{name}: {kind}: {} of {printed} missing, {counted:?} counted: {}; {sink}",
            missing.len(),
            ranges(&missing)
        );
        Ok(())
    }
}

fn count(value: &Value) -> Result<usize> {
    Ok(usize::try_from(value.as_u64().context("a count")?)?)
}

/// `numbers` as people write them: `3-7, 9`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|one, two| one + 1 == *two);
    let shown = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    shown.collect::<Vec<_>>().join(", ")
}
