//! Predicted beside measured: which parts of the step the prediction got wrong, and by how much.

use std::collections::BTreeMap;

use ir::program::{Action, Programs};
use ir::trace::{Totals, Trace, TraceEvent};
use ir::units::{Bytes, Seconds};
use serde::Serialize;

use crate::quantity::{Unit, phase_name, signed_percent};
use crate::table::Table;

/// Two traces of the same programs, side by side. Times are means over ranks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The whole step.
    pub step: ComparedTime,
    /// Compute, exchange, transfer, hidden and idle time of a rank.
    pub parts: Vec<ComparedTime>,
    /// Time of each kind of work on a rank; the largest error in seconds first.
    pub kinds: Vec<Kind>,
    /// Memory that the fullest rank allocated.
    pub peak: Peak,
}

/// A time, predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedTime {
    /// What took it.
    pub name: String,
    /// By the simulator.
    pub predicted: Seconds,
    /// By an executor.
    pub measured: Seconds,
    /// Predicted over measured, less one; none where nothing was measured.
    pub error: Option<f64>,
}

/// A kind of work: a fragment, a collective or a transfer, in one pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kind {
    /// The word of its stream.
    pub stream: &'static str,
    /// The word of its pass.
    pub phase: &'static str,
    /// How often it runs in a step, as the mean over the measured ranks.
    pub runs: f64,
    /// Its times.
    #[serde(flatten)]
    pub time: ComparedTime,
}

/// Memory, predicted and measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peak {
    /// By the simulator.
    pub predicted: Bytes,
    /// By an executor.
    pub measured: Bytes,
}

/// Why two traces cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// What was simulated is not what ran.
    #[error(
        "the traces are of different programs: predicted {predicted:016x}, measured {measured:016x}, \
         here {programs:016x}; predict and run the same plan again"
    )]
    Digests {
        /// Of the simulated programs.
        predicted: u64,
        /// Of those that ran.
        measured: u64,
        /// Of those that are at hand.
        programs: u64,
    },
}

/// Puts a predicted and a measured trace of `programs` side by side.
///
/// # Errors
/// Traces of other programs are refused.
pub fn compare(predicted: &Trace, measured: &Trace, programs: &Programs) -> Result<Comparison, CompareError> {
    let digests = [predicted.digest, measured.digest, programs.digest()];
    if digests[0] != digests[2] || digests[1] != digests[2] {
        return Err(CompareError::Digests { predicted: digests[0], measured: digests[1], programs: digests[2] });
    }
    let [left, right] = [predicted, measured].map(mean);
    let part = |name: &str, of: fn(&Totals) -> Seconds| ComparedTime::new(name, of(&left), of(&right));
    let parts = vec![
        part("compute", |totals| totals.compute),
        part("exchange", |totals| totals.exchange),
        part("transfer", |totals| totals.transfer),
        part("hidden", |totals| totals.hidden),
        part("idle", |totals| totals.idle),
    ];
    let peak = Peak { predicted: largest_arena(predicted), measured: largest_arena(measured) };
    let step = ComparedTime::new("step", predicted.step, measured.step);
    Ok(Comparison { step, parts, kinds: kinds(predicted, measured, programs), peak })
}

impl ComparedTime {
    fn new(name: &str, predicted: Seconds, measured: Seconds) -> ComparedTime {
        let error = (measured.0 > 0.0).then(|| predicted.0 / measured.0 - 1.0);
        ComparedTime { name: name.to_owned(), predicted, measured, error }
    }

    /// By how much time they differ.
    pub fn gap(&self) -> Seconds {
        Seconds((self.predicted.0 - self.measured.0).abs())
    }

    fn cells(&self, unit: Unit) -> Vec<String> {
        let error = match self.error {
            Some(error) => signed_percent(error),
            None => "–".to_owned(),
        };
        vec![self.name.clone(), unit.show_time(self.predicted), unit.show_time(self.measured), error]
    }
}

impl Kind {
    /// What it is, with its pass.
    pub fn label(&self) -> String {
        format!("{}, {}", self.time.name, self.phase)
    }
}

impl Comparison {
    /// The table of the whole step, as the tools print it: step, its parts, memory.
    pub fn text(&self) -> String {
        self.summary().text()
    }

    /// The table of all kinds of work, largest error first, as the tools print it.
    pub fn kinds_text(&self) -> String {
        self.kinds_table(self.kinds.len()).text()
    }

    /// The same as data, for machines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and words have a JSON form")
    }

    pub(crate) fn summary(&self) -> Table {
        let mut table = Table::new(&["mean of ranks", "predicted", "measured", "error"]);
        let largest = self.step.predicted.max(self.step.measured);
        let unit =
            Unit::of_times(self.parts.iter().fold(largest, |most, row| most.max(row.predicted.max(row.measured))));
        table.push(0, self.step.cells(unit));
        for row in &self.parts {
            table.push(1, row.cells(unit));
        }
        let Peak { predicted, measured } = self.peak;
        let unit = Unit::of_sizes(predicted.max(measured));
        let error = match measured {
            Bytes::ZERO => "–".to_owned(),
            Bytes(_) => signed_percent(predicted.as_f64() / measured.as_f64() - 1.0),
        };
        table.push(0, vec!["peak".to_owned(), unit.show_size(predicted), unit.show_size(measured), error]);
        table
    }

    /// The first `limit` kinds.
    pub(crate) fn kinds_table(&self, limit: usize) -> Table {
        let mut table = Table::new(&["kind of work", "predicted", "measured", "error", "runs a step"]);
        let times = self.kinds.iter().flat_map(|kind| [kind.time.predicted, kind.time.measured]);
        let unit = Unit::of_times(times.fold(Seconds::ZERO, Seconds::max));
        for kind in self.kinds.iter().take(limit) {
            let mut cells = kind.time.cells(unit);
            cells[0] = kind.label();
            cells.push(format!("{:.0}", kind.runs));
            table.push(0, cells);
        }
        table
    }
}

/// The mean rank of a trace.
fn mean(trace: &Trace) -> Totals {
    let count = trace.totals.len().max(1) as f64;
    let mean = |of: fn(&Totals) -> Seconds| Seconds(trace.totals.iter().map(of).sum::<Seconds>().0 / count);
    Totals {
        rank: 0,
        compute: mean(|totals| totals.compute),
        exchange: mean(|totals| totals.exchange),
        transfer: mean(|totals| totals.transfer),
        hidden: mean(|totals| totals.hidden),
        idle: mean(|totals| totals.idle),
        arena: largest_arena(trace),
    }
}

/// Memory of the fullest rank.
pub(crate) fn largest_arena(trace: &Trace) -> Bytes {
    trace.totals.iter().map(|totals| totals.arena).max().unwrap_or(Bytes::ZERO)
}

type Key = (usize, String, &'static str);

fn kinds(predicted: &Trace, measured: &Trace, programs: &Programs) -> Vec<Kind> {
    if predicted.events.is_empty() {
        // Of long steps only totals are kept.
        return Vec::new();
    }
    let [left, right] = [predicted, measured].map(|trace| times_by_kind(trace, programs));
    let keys: std::collections::BTreeSet<&Key> = left.keys().chain(right.keys()).collect();
    let mut kinds: Vec<Kind> = keys
        .into_iter()
        .map(|key @ (stream, name, phase)| {
            let side = |times: &BTreeMap<Key, (Seconds, f64)>| times.get(key).copied().unwrap_or((Seconds::ZERO, 0.0));
            let [(predicted, _), (measured, runs)] = [side(&left), side(&right)];
            let stream = ir::program::Stream::ALL[*stream].name();
            Kind { stream, phase, runs, time: ComparedTime::new(name, predicted, measured) }
        })
        .collect();
    kinds.sort_by(|a, b| b.time.gap().0.total_cmp(&a.time.gap().0));
    kinds
}

/// Time and runs of each kind of work, as means over the ranks of a trace.
fn times_by_kind(trace: &Trace, programs: &Programs) -> BTreeMap<Key, (Seconds, f64)> {
    let mut times: BTreeMap<Key, (Seconds, f64)> = BTreeMap::new();
    let share = 1.0 / trace.totals.len().max(1) as f64;
    for event in &trace.events {
        let key = (event.stream.index(), action_name(event, programs), phase_name(event.span.phase));
        let entry = times.entry(key).or_default();
        entry.0 += (event.end - event.start) * share;
        entry.1 += share;
    }
    times
}

/// What an event did, in words.
pub(crate) fn action_name(event: &TraceEvent, programs: &Programs) -> String {
    match event.action {
        Action::Compute(id) => programs.fragment(id).name.clone(),
        Action::Exchange(id) => {
            let collective = programs.collective(id);
            format!("{} over {}", collective.exchange.name(), collective.axis.name())
        }
        Action::Send(id) => format!("send to stage {}", programs.transfer(id).to.0),
        Action::Receive(id) => format!("receive from stage {}", programs.transfer(id).from.0),
        Action::Free => "free".to_owned(),
        Action::Signal(_) => "signal".to_owned(),
        Action::Wait(_) => "wait".to_owned(),
    }
}
