//! What has become of numbered lines: each is in the journal and at every sink, or counted.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::{Plugin, Stage, eventually};
use serde_json::Value;

use crate::trial::{LIMIT, Printer};
use crate::{fluentd, syslog};

/// Fails unless every line of `printers`, which have been told to end, is where it should be, or
/// counted.
pub(crate) fn check(stage: &Stage, printers: &[Printer]) -> Result<()> {
    let plugin = stage.plugin()?;
    let all = printers.iter().map(Printed::by).collect::<Result<Vec<_>>>()?;
    let sinks = delivered(plugin, printers)?;
    let list = plugin.call("/Pglog.List", "{}")?.1;
    let at_syslog = syslog::Server::records(stage);
    let at_fluentd = fluentd::Server::records(stage)?;
    let mut wrong = Vec::new();
    for (printer, numbers) in printers.iter().zip(all) {
        let account = Account::of(printer, numbers, &list, &sinks)?;
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

/// The sinks, once they have delivered all that there is of `printers`.
fn delivered(plugin: &Plugin, printers: &[Printer]) -> Result<Vec<Value>> {
    eventually(LIMIT, || {
        let status = plugin.call("/Pglog.Status", "{}")?.1;
        let sinks = status["sinks"].as_array().context("sinks")?;
        for Printer { name, id, .. } in printers {
            let own: Vec<_> = sinks.iter().filter(|sink| sink["container"] == **id).collect();
            let right = own.len() == 2 && own.iter().all(|sink| sink["lag_bytes"] == 0);
            ensure!(right, "{name}: {own:#?}");
        }
        Ok(sinks.clone())
    })
}

/// What `docker logs` has of a container that prints no more.
struct Printed {
    /// The last number.
    last: usize,
    /// The numbers that there are.
    stored: Vec<usize>,
}

impl Printed {
    /// Once it is all there: stderr, which tells the last number, may come before the last lines.
    fn by(printer: &Printer) -> Result<Self> {
        eventually(LIMIT, || {
            let logs = printer.container.logs(&[])?;
            let end = String::from_utf8(logs.stderr)?;
            let end =
                end.strip_prefix("end ").with_context(|| format!("{} prints on", printer.name))?;
            let numbers = String::from_utf8(logs.stdout)?;
            let stored = numbers.lines().map(str::parse).collect::<Result<Vec<_>, _>>()?;
            let last = end.trim().parse()?;
            ensure!(stored.last() == Some(&last), "{:?} is not {last}", stored.last());
            Ok(Self { last, stored })
        })
    }
}

/// What is known of one container's lines.
struct Account<'a> {
    printer: &'a Printer,
    /// The last number.
    printed: usize,
    /// The numbers that `docker logs` gives.
    stored: Vec<usize>,
    /// How many the plugin says that no disk would take,
    lost: usize,
    /// and how many more went to make room on a full one.
    removed: usize,
    sinks: &'a [Value],
}

impl<'a> Account<'a> {
    fn of(
        printer: &'a Printer,
        numbers: Printed,
        list: &Value,
        sinks: &'a [Value],
    ) -> Result<Self> {
        let containers = list["containers"].as_array().context("containers")?;
        let own = containers.iter().find(|one| one["id"] == *printer.id).context("its log")?;
        Ok(Self {
            printer,
            printed: numbers.last,
            stored: numbers.stored,
            lost: count(&own["dropped"]["messages"])?,
            removed: count(&own["dropped"]["removed"])?,
            sinks,
        })
    }

    /// Once, in order, and what is missing is what is counted; where retention has taken the
    /// beginning, no more than that.
    fn of_journal(&self) -> Result<()> {
        let Self { printer, printed, stored, .. } = self;
        let lost = self.lost + self.removed;
        ensure!(stored.is_sorted_by(|one, two| one < two), "{}: not in order", printer.name);
        let first = if printer.keeps_all() { 1 } else { *stored.first().context("a line")? };
        let missing = printed + 1 - first - stored.len();
        let right = if first == 1 { missing == lost } else { missing <= lost };
        ensure!(right, "{}: {missing} of {printed} missing, {lost} counted", printer.name);
        Ok(())
    }

    /// What did not come is what was never stored, and what the sink says that it has dropped.
    fn of_sink(&self, kind: &str, came: &BTreeSet<usize>) -> Result<()> {
        let own = |sink: &&Value| sink["container"] == *self.printer.id && sink["sink"] == kind;
        let sink = self.sinks.iter().find(own).context("a sink")?;
        let least = self.lost + count(&sink["dropped_lines"])?;
        let counted = least..=least + count(&sink["dropped_doubtful"])?;
        let (name, printed) = (&self.printer.name, self.printed);
        let missing: Vec<_> = (1..=printed).filter(|number| !came.contains(number)).collect();
        let right = counted.contains(&missing.len()) && sink["dropped_uncounted"] == false;
        // Where there is room for all, a sink drops nothing, whatever happens.
        let room = self.printer.keeps_all() && self.removed == 0;
        let right = right && (!room || counted == (self.lost..=self.lost));
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
