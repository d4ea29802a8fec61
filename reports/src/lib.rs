//! Shows what was predicted and what was measured: a table, a page, pictures, and a trace for a viewer.
//!
//! [`write_report`] writes all of it into a folder; [`compare::compare`] is the table alone. Parts for which there
//! is nothing (no measured trace, no losses) are left out. Equal input gives equal bytes.

mod activity;
mod breakdown;
pub mod choice;
pub mod compare;
mod figure;
mod page;
pub mod perfetto;
mod plots;
mod quantity;
pub mod rate;
pub mod results;
/// Predictions of many runs beside what was measured.
pub mod scatter;
/// What several plans come to, each for another count of devices, batch, memory or sequence.
pub mod sweep;
mod table;
pub mod verdict;
mod work;

use std::fs;
use std::path::{Path, PathBuf};

use ir::plan::Plan;
use ir::program::Programs;
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use serde::Serialize;

pub use choice::{Card, Choice, Grid, Side};
pub use compare::{CompareError, Comparison, compare};
pub use rate::{device_peak, device_rate, model_flops};
pub use sweep::{Standard, SweepPoint, SweepReport, write_sweep};
pub use verdict::{Evidence, Measured, Verdict, verdict};

/// All that a report can show.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What the report is about, in a few words.
    pub title: &'a str,
    /// What is trained: names and values, with units.
    pub model: &'a [(String, String)],
    /// What it is trained on: names and values, with units.
    pub cluster: &'a [(String, String)],
    /// The chosen plan.
    pub plan: &'a Plan,
    /// The name of each layer of the plan.
    pub layers: &'a [String],
    /// The compiled plan.
    pub programs: &'a Programs,
    /// One step as it was simulated.
    pub predicted: Option<&'a Trace>,
    /// Between which times a measured step is expected.
    pub between: Option<[Seconds; 2]>,
    /// One step as it ran.
    pub measured: Option<&'a Trace>,
    /// Steps that ran, in order.
    pub steps: &'a [StepRecord],
    /// Plans among which this one was chosen.
    pub candidates: &'a [CandidatePoint],
    /// How it was chosen, for the report of a plan.
    pub choice: Option<&'a Choice>,
    /// What came of the prediction, for the report of a training.
    pub verdict: Option<&'a Verdict>,
    /// Memory of one device that a plan may use.
    pub capacity: Bytes,
    /// A sentence that says so if it was predicted for other devices than it was measured on.
    pub unlike: Option<&'a str>,
}

/// One step of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// Which step, from 1.
    pub step: u64,
    /// Mean loss of the step's tokens, in nats.
    pub loss: f64,
    /// Mean loss of tokens that are held out, in nats, if it was asked for after this step.
    #[serde(rename = "held_out_loss")]
    pub evaluation: Option<f64>,
    /// How long the step took.
    #[serde(rename = "step_seconds")]
    pub time: Seconds,
    /// Tokens of all ranks over that time.
    pub tokens_per_second: f64,
}

/// A plan that was considered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidatePoint {
    /// What stands beside its point: its number in a list, or the name of a recipe.
    pub mark: String,
    /// The plan in a few words.
    pub label: String,
    /// Its estimated or simulated step time.
    #[serde(rename = "step_seconds")]
    pub time: Seconds,
    /// Memory that its fullest rank needs.
    #[serde(rename = "peak_bytes")]
    pub peak: Bytes,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a plan that was considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It needs more memory than there is.
    TooLarge,
    /// It could have been chosen.
    Fits,
    /// It is what one would do without a search.
    Recipe,
    /// It was chosen.
    Chosen,
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Predicted and measured are not of the same programs.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A picture could not be drawn or written.
    #[error("cannot draw {path}: {reason}")]
    Picture {
        /// Which file.
        path: PathBuf,
        /// What the drawing says.
        reason: String,
    },
}

/// Writes `report.html`, a picture of each plot as `.svg` and `.png`, `trace.json` and `results.json` into `folder`,
/// which is made if there is none. Gives back the paths, in the order in which a reader wants them.
///
/// # Errors
/// Traces of other programs than the report's, and whatever the file system refuses.
pub fn write_report(folder: &Path, report: &Report<'_>) -> Result<Vec<PathBuf>, ReportError> {
    let comparison = report.comparison()?;
    let figures = plots::figures(report);
    fs::create_dir_all(folder).map_err(|source| ReportError::File { path: folder.to_owned(), source })?;
    let mut files = vec![
        ("report.html".to_owned(), page::html(report, comparison.as_ref(), &figures)),
        ("results.json".to_owned(), results::json(report, comparison.as_ref())),
    ];
    let traces: Vec<&Trace> = report.predicted.into_iter().chain(report.measured).collect();
    if !traces.is_empty() {
        files.push(("trace.json".to_owned(), perfetto::json(&traces, report.programs)));
    }
    let mut written = put_texts(folder, files)?;
    written.extend(put_figures(folder, &figures)?);
    Ok(written)
}

/// Writes texts by their names into a folder.
fn put_texts(folder: &Path, files: Vec<(String, String)>) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    for (name, content) in files {
        let path = folder.join(name);
        put(&path, |part| fs::write(part, &content).map_err(|source| file_error(&path, source)))?;
        written.push(path);
    }
    Ok(written)
}

/// Writes each figure into a folder, as SVG and as PNG.
fn put_figures(folder: &Path, figures: &[figure::Figure]) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    for each in figures {
        let path = folder.join(format!("{}.svg", each.name));
        let text = figure::draw::svg(each).map_err(|reason| ReportError::Picture { path: path.clone(), reason })?;
        put(&path, |part| fs::write(part, &text).map_err(|source| file_error(&path, source)))?;
        written.push(path);
        let path = folder.join(format!("{}.png", each.name));
        put(&path, |part| {
            figure::draw::png(each, part).map_err(|reason| ReportError::Picture { path: path.clone(), reason })
        })?;
        written.push(path);
    }
    Ok(written)
}

fn file_error(path: &Path, source: std::io::Error) -> ReportError {
    ReportError::File { path: path.to_owned(), source }
}

/// Lets a file be written in a new folder beside its place and moves it there: it appears whole or not at all.
fn put(path: &Path, write: impl FnOnce(&Path) -> Result<(), ReportError>) -> Result<(), ReportError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".report-").tempdir_in(folder);
    let beside = beside.map_err(|source| file_error(path, source))?;
    let part = beside.path().join(path.file_name().unwrap_or_default());
    write(&part)?;
    fs::rename(&part, path).map_err(|source| file_error(path, source))
}

impl Report<'_> {
    /// Predicted beside measured, if there are both.
    fn comparison(&self) -> Result<Option<Comparison>, CompareError> {
        match (self.predicted, self.measured) {
            (Some(predicted), Some(measured)) => compare(predicted, measured, self.programs).map(Some),
            (Some(_), None) | (None, Some(_) | None) => Ok(None),
        }
    }

    /// The traces that there are, with the word for where each is from.
    fn traces(&self) -> impl Iterator<Item = (&'static str, &Trace)> {
        self.predicted
            .map(|trace| ("predicted", trace))
            .into_iter()
            .chain(self.measured.map(|trace| ("measured", trace)))
    }

    /// The first rank of a stage: it stands for all of them.
    fn first_rank(&self, stage: u32) -> u32 {
        stage * self.programs.mesh().ranks_per_stage()
    }

    /// How to name a stage; the whole job, if there is but one.
    fn stage_name(&self, stage: u32) -> String {
        let count = self.programs.mesh().stages();
        if count == 1 { "all layers".to_owned() } else { format!("stage {} of {count}", stage + 1) }
    }
}
