//! `hetu-plan replay`: predicts runs that others measured, and says how far off that is.
//!
//! A row of a file is a run: shape of the model, devices, how it was spread, and what a step took (`rows.rs`). It
//! becomes a model, a cluster and a plan (`run.rs`), which is compiled and simulated as the trainer of the row runs it
//! (`predict.rs`). What comes of all rows is summed up by source (`score.rs`, `intervals.rs`) and shown (`show.rs`). Numbers of a description may be fitted to the rows (`fit/`).

mod fit;
mod intervals;
mod predict;
mod rows;
mod run;
mod score;
mod show;

use std::path::{Path, PathBuf};

use ir::file::print_software;
use ir::parallel;
use ir::software::Software;
use serde_json::json;

use super::failure::Failure;
use super::input::read_text;
use super::output::{check_writable, complain, show as print, write_whole};
use crate::options::{FitName, ReplayOptions};
use fit::{Fit, LeftOut};
use intervals::residuals;
use predict::{Outcome, predict};
use rows::{Row, rows};
use score::scores;

/// A row with what was predicted, or why nothing was.
struct Replayed {
    file: String,
    row: Row,
    outcome: Result<Outcome, String>,
}

pub(crate) fn replay(options: &ReplayOptions) -> Result<(), Failure> {
    for output in options.output.iter().chain(&options.plot) {
        check_writable(output)?;
    }
    let Table { rows, mut wrong } = read(&options.runs)?;
    let mut software = options.software.as_deref().map(run::software).transpose().map_err(Failure::wrong)?;
    let fitted = options.fit.map(|to| fitted(to, &rows, software.as_ref())).transpose()?;
    if let Some(Fitted { fit, .. }) = &fitted {
        software = Some(fit.software.clone());
    }
    let replayed = replayed(rows, software.as_ref());
    wrong.extend(replayed.iter().filter_map(|replayed| replayed.outcome.as_ref().err().cloned()));
    if replayed.iter().all(|replayed| replayed.outcome.is_err()) {
        wrong.push("error: no row can be predicted".to_owned());
        return Err(Failure::wrong(wrong.join("\n").trim_start_matches("error: ")));
    }
    complain(&wrong.join("\n"));
    let scores = scores(&replayed);
    if let Some(output) = &options.output {
        let text = match &fitted {
            None => show::file(&replayed),
            Some(Fitted { fit, .. }) => print_software(&named(fit, output, &replayed)),
        };
        write_whole(output, &text)?;
    }
    if let Some(plot) = &options.plot {
        let points = show::points(&replayed);
        let picture = reports::scatter::svg(&points).map_err(Failure::wrong)?;
        write_whole(plot, &picture)?;
    }
    if options.json {
        let rows: Vec<_> = replayed.iter().map(show::data).collect();
        let sources: Vec<_> = scores.iter().map(show::score_data).collect();
        let residuals: Vec<_> = residuals(&replayed, software.as_ref()).iter().map(show::residuals_data).collect();
        let fit = fitted.map(|Fitted { fit, left_out }| fit::data(&fit, &left_out));
        let data = json!({ "format": 1, "fit": fit, "sources": sources, "residuals": residuals, "rows": rows, "wrong": wrong });
        return print(&format!("{data:#}\n"));
    }
    let head = fitted.map_or_else(String::new, |Fitted { fit, left_out }| fit::text(&fit, &left_out));
    print(&(head + &show::text(&replayed, &scores, wrong.len())))
}

/// The rows of all files, with the file of each, and what is wrong with others.
struct Table {
    rows: Vec<(String, Row)>,
    wrong: Vec<String>,
}

fn read(paths: &[PathBuf]) -> Result<Table, Failure> {
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        for row in rows(&read_text(path)?, &name)? {
            match row {
                Ok(row) => all.push((name.clone(), row)),
                Err(mistake) => wrong.push(mistake),
            }
        }
    }
    Ok(Table { rows: all, wrong })
}

fn replayed(rows: Vec<(String, Row)>, software: Option<&Software>) -> Vec<Replayed> {
    parallel::map(rows, |(file, row)| {
        let outcome = predict(&row, software).map_err(|why| format!("error: {file}:{}: {why}", row.line));
        Replayed { file, row, outcome }
    })
}

/// A fit, and how it does on sources that it has not seen.
struct Fitted {
    fit: Fit,
    left_out: Vec<LeftOut>,
}

fn fitted(to: FitName, rows: &[(String, Row)], given: Option<&Software>) -> Result<Fitted, Failure> {
    let rows = || rows.iter().map(|(_, row)| row);
    let base = fit::base(rows(), given)?;
    let runs = fit::compiled(rows(), &base);
    let fit = fit::fit(&base, &runs);
    let left_out = match to {
        FitName::All => Vec::new(),
        FitName::LeftOut => fit::left_out(&base, &runs, &fit),
    };
    Ok(Fitted { fit, left_out })
}

/// The description as a file of this name, with the residuals of what it predicts.
fn named(fit: &Fit, output: &Path, replayed: &[Replayed]) -> Software {
    let name = output.file_stem().map_or_else(|| "fitted".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let residuals = residuals(replayed, Some(&fit.software)).into_iter().map(|spread| spread.stated()).collect();
    Software { name, residuals, source: fit::described(fit), ..fit.software.clone() }
}
