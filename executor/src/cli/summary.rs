//! What the tool says at the end: predicted beside measured, losses, and what was written.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use reports::{Comparison, Evidence, Measured, Verdict, verdict};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::inputs::Inputs;
use super::show::{Row, Unit};
use super::statistics::{Middle, middle};
use super::train::{Ending, History};

/// Everything about a training that is over.
pub(crate) struct Summary<'a> {
    inputs: &'a Inputs,
    history: &'a History,
    /// Steps without a trace.
    plain: Option<Middle>,
    traced: Option<Middle>,
    comparison: Option<Comparison>,
    verdict: Option<Verdict>,
    written: Vec<PathBuf>,
}

impl<'a> Summary<'a> {
    /// Sums up, and compares if a step was simulated and one traced.
    pub(crate) fn new(inputs: &'a Inputs, history: &'a History) -> Outcome<Summary<'a>> {
        // The first step touches its memory for the first time; if it is the only one of its kind, it must do.
        let times = |wanted: fn(&&Row) -> bool| {
            let of = |rows: &[Row]| middle(rows.iter().filter(wanted).map(|row| row.time));
            history.rows.get(1..).and_then(of).or_else(|| of(&history.rows))
        };
        let comparison = match (&inputs.predicted_trace, history.trace()) {
            (Some(predicted), Some(measured)) => {
                Some(reports::compare(predicted, measured, &inputs.programs).map_err(Failure::run)?)
            }
            (Some(_), None) | (None, Some(_) | None) => None,
        };
        let (plain, traced) = (times(|row| !row.traced), times(|row| row.traced));
        let verdict = plain.or(traced).and_then(|measured| of_prediction(inputs, measured, comparison.as_ref()));
        Ok(Summary { inputs, history, plain, traced, comparison, verdict, written: Vec::new() })
    }

    /// What came of the prediction, if there was one.
    pub(crate) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Notes files that were written.
    pub(crate) fn wrote(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.written.extend(files);
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, words: String| writeln!(text, "{name:<8}{words}").expect("a string can grow");
        if let Some(comparison) = &self.comparison {
            line(comparison.text().trim_end(), "\n".to_owned());
        } else if let Some(table) = self.table() {
            line(&table, String::new());
        }
        if let Some(unlike) = &self.inputs.unlike {
            line("Devices", unlike.clone());
        }
        self.steps(&mut line);
        if let [Some(first), Some(last)] = [self.history.rows.first(), self.history.rows.last()] {
            let held_out = self.evaluation().map_or(String::new(), |(step, loss)| {
                if step == last.step {
                    format!("; held out {loss:.4}")
                } else {
                    format!("; held out {loss:.4} at step {step}")
                }
            });
            line(
                "Loss",
                format!("{:.4} at step {}, {:.4} at step {}{held_out}", first.loss, first.step, last.loss, last.step),
            );
        }
        match self.history.ending {
            Ending::Done => {}
            Ending::Interrupted { .. } | Ending::Unread => {
                line("Ended", format!("early, {} steps done here", self.history.rows.len()))
            }
        }
        if let Some(verdict) = &self.verdict {
            line("Verdict", verdict.sentence.clone());
        }
        line("Wrote", self.files());
        text
    }

    /// For machines.
    pub(crate) fn data(&self) -> Value {
        let rows = &self.history.rows;
        let predicted = self.inputs.predicted.as_ref();
        let seconds = |middle: Option<Middle>| middle.map(|middle| middle.median);
        json!({
            "ended": match self.history.ending {
                Ending::Done => "done",
                Ending::Interrupted { .. } => "interrupted",
                Ending::Unread => "unread",
            },
            "steps": rows.len(),
            "step_seconds": seconds(self.plain),
            "step_seconds_spread": self.plain.map(|middle| middle.spread),
            "traced_step_seconds": seconds(self.traced),
            "predicted_step_seconds": predicted.map(|predicted| predicted.step),
            "step_seconds_between": predicted.and_then(|predicted| predicted.between),
            "peak_bytes": self.inputs.programs.peak(),
            "predicted_peak_bytes": predicted.map(|predicted| predicted.peak),
            "first_loss": rows.first().map(|row| row.loss),
            "last_loss": rows.last().map(|row| row.loss),
            "held_out_loss": self.evaluation().map(|(_, loss)| loss),
            "unlike_devices": self.inputs.unlike,
            "comparison": self.comparison,
            "verdict": self.verdict,
            "written": self.written,
        })
    }

    /// Step and memory, where no simulated step is at hand.
    fn table(&self) -> Option<String> {
        let predicted = self.inputs.predicted.as_ref()?;
        let measured = self.plain.or(self.traced)?;
        let unit = Unit::of(measured.median);
        let size = |bytes: Bytes| format!("{bytes:.1}");
        let peak = self.inputs.programs.peak();
        let rows = [
            ["".to_owned(), "predicted".to_owned(), "measured".to_owned(), "error".to_owned()],
            [
                "step".to_owned(),
                unit.show(predicted.step),
                unit.show(measured.median),
                percent(predicted.step.0 / measured.median.0 - 1.0),
            ],
            [
                "peak".to_owned(),
                size(predicted.peak),
                size(peak),
                percent(predicted.peak.as_f64() / peak.as_f64() - 1.0),
            ],
        ];
        let line = |[name, cells @ ..]: &[String; 4]| -> String {
            format!("{name:<6}{:>14}{:>14}{:>10}\n", cells[0], cells[1], cells[2])
        };
        Some(rows.iter().map(line).collect())
    }

    /// How long steps took, with and without a trace.
    fn steps(&self, line: &mut impl FnMut(&str, String)) {
        let Some(main) = self.plain.or(self.traced) else { return };
        let unit = Unit::of(main.median);
        let Middle { median, spread, count } = main;
        let kind = if self.plain.is_some() { "untraced" } else { "traced" };
        let mut words = format!("{} ± {}, median of {count} {kind}", unit.show(median), unit.show(spread));
        if let Some(predicted) = &self.inputs.predicted {
            let error = match self.inputs.unlike {
                None => percent(predicted.step.0 / median.0 - 1.0),
                Some(_) => "for other devices".to_owned(),
            };
            write!(words, "; predicted {} ({error})", unit.show(predicted.step)).expect("a string can grow");
        }
        line("Step", words);
        if let (Some(plain), Some(traced)) = (self.plain, self.traced) {
            let cost = percent(traced.median.0 / plain.median.0 - 1.0);
            let Middle { median, spread, count } = traced;
            line("", format!("{} ± {}, median of {count} traced ({cost})", unit.show(median), unit.show(spread)));
        }
    }

    /// The last held-out loss, with its step.
    fn evaluation(&self) -> Option<(u64, f64)> {
        self.history.rows.iter().rev().find_map(|row| Some((row.step, row.evaluation?)))
    }

    fn files(&self) -> String {
        let name = |path: &Path| path.display().to_string();
        match &self.written[..] {
            [] => "nothing; ask for --report DIR or --checkpoint DIR".to_owned(),
            [one] => name(one),
            [one, other] => format!("{}, {}", name(one), name(other)),
            [one, .., last] => format!("{}, {} more and {}", name(one), self.written.len() - 2, name(last)),
        }
    }
}

impl History {
    /// The traced step that took the median time.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        let Middle { median, .. } = middle(self.traces.iter().map(|trace| trace.step))?;
        let distance = |trace: &&Trace| Seconds((trace.step.0 - median.0).abs());
        self.traces.iter().min_by(|a, b| distance(a).0.total_cmp(&distance(b).0))
    }
}

/// The verdict on what the plan says of these programs.
fn of_prediction(inputs: &Inputs, measured: Middle, comparison: Option<&Comparison>) -> Option<Verdict> {
    let predicted = inputs.predicted.as_ref()?;
    let Middle { median, spread, count } = measured;
    Some(verdict(&Evidence {
        plan: &inputs.plan,
        predicted: predicted.step,
        between: predicted.between,
        measured: Measured { median, spread, count },
        comparison,
        shares: inputs.predicted_trace.as_ref().map(|trace| trace.shares),
        unlike: inputs.unlike.as_deref(),
    }))
}

/// A ratio less one, with its sign.
fn percent(part: f64) -> String {
    let text = format!("{:.1} %", part.abs() * 100.0);
    match text.as_str() {
        "0.0 %" => text,
        _ if part < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}
