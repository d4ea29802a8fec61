//! What the tool prints while it trains: a line a step on standard output, and a bar on a terminal's standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use ir::units::{Bytes, FlopsPerSecond, Seconds};
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::together::Voice;
use super::words::counted;
use crate::options::Options;

/// One step, as it is printed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) tokens_per_second: f64,
    /// Operations of the model that each device does.
    #[serde(rename = "model_flops_per_second_per_device")]
    pub(crate) rate: FlopsPerSecond,
    /// Which share of the device's peak that is, if its peak is known.
    pub(crate) share_of_peak: Option<f64>,
    #[serde(rename = "step_seconds")]
    pub(crate) time: Seconds,
    #[serde(rename = "predicted_step_seconds")]
    pub(crate) predicted: Option<Seconds>,
    #[serde(rename = "peak_bytes")]
    pub(crate) peak: Bytes,
    pub(crate) learning_rate: f64,
    pub(crate) gradient_norm: f64,
    #[serde(rename = "held_out_loss")]
    pub(crate) evaluation: Option<f64>,
    pub(crate) traced: bool,
}

/// Nobody reads the output any more: the reader of a pipe is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Standard output, with a bar beside it.
pub(crate) struct Screen {
    form: Form,
    lines: Lines,
    bar: ProgressBar,
    unit: Option<Unit>,
    /// Which steps have a line.
    log_every: u64,
    steps: u64,
    /// Lines that could not be written, and why the first could not.
    lost: Option<(u64, io::Error)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    All,
    Summary,
    /// Another process prints.
    Nothing,
}

impl Screen {
    pub(crate) fn new(options: &Options, voice: Voice) -> Screen {
        let form = if options.json { Form::Json } else { Form::Text };
        let lines = match voice {
            Voice::Silent => Lines::Nothing,
            Voice::Heard if options.quiet => Lines::Summary,
            Voice::Heard => Lines::All,
        };
        let is_shown = io::stderr().is_terminal() && lines == Lines::All;
        let bar = if is_shown { ProgressBar::new(options.steps) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} step {pos} of {len}, {eta} left");
        bar.set_style(style.expect("the template is right"));
        Screen { form, lines, bar, unit: None, log_every: options.log_every, steps: options.steps, lost: None }
    }

    /// So many steps were done before; how long the rest takes is judged by what follows.
    pub(crate) fn begin(&self, steps_done: u64) {
        self.bar.set_position(steps_done);
        self.bar.reset_eta();
    }

    /// What is about to run: names and values for people, the same as data for machines.
    pub(crate) fn head(&mut self, facts: &[(&str, String)], data: Value) -> Result<(), Closed> {
        match (self.lines, self.form) {
            (Lines::Summary | Lines::Nothing, _) => Ok(()),
            (Lines::All, Form::Json) => self.json("run", data),
            (Lines::All, Form::Text) => {
                facts.iter().try_for_each(|(name, value)| self.print(&format!("{name:<8}{value}")))
            }
        }
    }

    /// A step, if it has a line: every so many, those with a held-out loss, and the first and the last of all.
    pub(crate) fn row(&mut self, row: &Row) -> Result<(), Closed> {
        self.bar.set_position(row.step);
        let is_end = row.step == 1 || row.step == self.steps;
        if !(row.step.is_multiple_of(self.log_every) || is_end || row.evaluation.is_some()) {
            return Ok(());
        }
        match (self.lines, self.form) {
            (Lines::Summary | Lines::Nothing, _) => Ok(()),
            (Lines::All, Form::Json) => self.json("step", json!(row)),
            (Lines::All, Form::Text) => {
                if self.unit.is_none() {
                    self.print("")?;
                    self.print(&titles())?;
                }
                // One unit for the whole column.
                let unit = *self.unit.get_or_insert_with(|| Unit::of(row.predicted.unwrap_or(row.time)));
                self.print(&line(row, unit))
            }
        }
    }

    /// What came of it: text for people, the same as data for machines.
    pub(crate) fn summary(&mut self, text: &str, data: Value) -> Result<(), Closed> {
        self.bar.finish_and_clear();
        match (self.lines, self.form) {
            (Lines::Nothing, _) => Ok(()),
            (_, Form::Json) => self.json("summary", data),
            (_, Form::Text) => {
                if self.unit.is_some() {
                    self.print("")?;
                }
                self.print(text.trim_end())
            }
        }
    }

    /// Something that the user should know, on standard error.
    pub(crate) fn note(&self, text: &str) {
        if self.lines == Lines::Nothing {
            return;
        }
        // If nobody listens, it is lost.
        self.bar.suspend(|| drop(writeln!(io::stderr(), "note: {text}")));
    }

    /// An error if lines were lost.
    pub(crate) fn check_lost(&self) -> Outcome<()> {
        let Some((count, error)) = &self.lost else { return Ok(()) };
        Err(Failure::run(format!("standard output: {error}; {} lost", counted(*count, "line"))))
    }

    fn json(&mut self, kind: &str, data: Value) -> Result<(), Closed> {
        let mut object = json!({ "format": 1, "kind": kind, "unix_seconds": now() });
        if let (Value::Object(object), Value::Object(data)) = (&mut object, data) {
            object.extend(data);
        }
        self.print(&object.to_string())
    }

    /// A training is worth more than its output: it ends only where nobody can read it.
    fn print(&mut self, line: &str) -> Result<(), Closed> {
        let written = self.bar.suspend(|| {
            let mut output = io::stdout().lock();
            writeln!(output, "{line}").and_then(|()| output.flush())
        });
        let Err(error) = written else { return Ok(()) };
        if error.kind() == ErrorKind::BrokenPipe {
            return Err(Closed);
        }
        match &mut self.lost {
            Some((count, _)) => *count += 1,
            None => {
                self.note(&format!("standard output: {error}; the run goes on, and lines are lost"));
                self.lost = Some((1, error));
            }
        }
        Ok(())
    }
}

/// Seconds since 1970, for lines that others put beside theirs.
pub(crate) fn now() -> f64 {
    // A clock that stands before 1970 says nothing.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

const WIDTHS: [usize; 11] = [7, 9, 11, 16, 8, 12, 12, 12, 15, 15, 15];
const NONE: &str = "–";

fn titles() -> String {
    let speed = ["step", "loss", "tokens/s", "per device", "MFU", "step time", "predicted", "memory"];
    let others = ["learning rate", "gradient norm", "held-out loss"];
    aligned(speed.into_iter().chain(others).map(str::to_owned))
}

fn line(row: &Row, unit: Unit) -> String {
    let cells = [
        row.step.to_string(),
        format!("{:.4}", row.loss),
        format!("{:.0}", row.tokens_per_second),
        row.rate.to_string(),
        row.share_of_peak.map_or(NONE.to_owned(), |share| format!("{:.1} %", share * 100.0)),
        unit.show(row.time),
        row.predicted.map_or(NONE.to_owned(), |time| unit.show(time)),
        format!("{:.1}", row.peak),
        format!("{:.2e}", row.learning_rate),
        format!("{:.4}", row.gradient_norm),
        row.evaluation.map_or(NONE.to_owned(), |loss| format!("{loss:.4}")),
    ];
    aligned(cells.into_iter()) + if row.traced { "  traced" } else { "" }
}

fn aligned(cells: impl Iterator<Item = String>) -> String {
    cells.zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$}")).collect()
}

/// The unit of a column of times.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    scale: f64,
    name: &'static str,
}

impl Unit {
    /// In which `time` has one to three digits before the point.
    pub(crate) fn of(time: Seconds) -> Unit {
        match time.0 {
            time if time >= 1.0 => Unit { scale: 1.0, name: "s" },
            time if time >= 1e-3 => Unit { scale: 1e3, name: "ms" },
            _ => Unit { scale: 1e6, name: "µs" },
        }
    }

    /// A time with its unit.
    pub(crate) fn show(self, time: Seconds) -> String {
        format!("{:.3} {}", time.0 * self.scale, self.name)
    }
}
