//! `hetu-plan replay`: predicts runs that others measured, and says how far off that is.
//!
//! A row of a file is a run: shape of the model, devices, how it was spread, and what a step took (`rows.rs`). It
//! becomes a model, a cluster and a plan (`run.rs`), which is compiled and simulated as the trainer of the row runs it
//! (`predict.rs`). What comes of all rows is summed up by source (`score.rs`) and shown (`show.rs`).

mod intervals;
mod predict;
mod rows;
mod run;
mod score;
mod show;

use ir::parallel;
use serde_json::json;

use super::failure::Failure;
use super::input::read_text;
use super::output::{check_writable, complain, show as print, write_whole};
use crate::options::ReplayOptions;
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
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for path in &options.runs {
        let name = path.display().to_string();
        for row in rows(&read_text(path)?, &name)? {
            match row {
                Ok(row) => all.push((name.clone(), row)),
                Err(mistake) => wrong.push(mistake),
            }
        }
    }
    let software = options.software.as_deref().map(run::software).transpose().map_err(Failure::wrong)?;
    let replayed = parallel::map(all, |(file, row)| {
        let outcome = predict(&row, software.as_ref()).map_err(|why| format!("error: {file}:{}: {why}", row.line));
        Replayed { file, row, outcome }
    });
    wrong.extend(replayed.iter().filter_map(|replayed| replayed.outcome.as_ref().err().cloned()));
    if replayed.iter().all(|replayed| replayed.outcome.is_err()) {
        wrong.push("error: no row can be predicted".to_owned());
        return Err(Failure::wrong(wrong.join("\n").trim_start_matches("error: ")));
    }
    complain(&wrong.join("\n"));
    let scores = scores(&replayed);
    if let Some(output) = &options.output {
        write_whole(output, &show::file(&replayed))?;
    }
    if let Some(plot) = &options.plot {
        let points = show::points(&replayed);
        let picture = reports::scatter::svg(&points).map_err(Failure::wrong)?;
        write_whole(plot, &picture)?;
    }
    if options.json {
        let rows: Vec<_> = replayed.iter().map(show::data).collect();
        let sources: Vec<_> = scores.iter().map(show::score_data).collect();
        return print(&format!(
            "{:#}\n",
            json!({ "format": 1, "sources": sources, "residuals": intervals::residuals(&replayed, software.as_ref()), "rows": rows, "wrong": wrong })
        ));
    }
    print(&show::text(&replayed, &scores, wrong.len()))
}
