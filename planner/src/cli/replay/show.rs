//! Predictions beside measurements, as a table, a file and a document.

use std::fmt::Write as _;

use reports::scatter::Beside;
use serde_json::{Value, json};

use super::Replayed;
use super::intervals::{Spread, is_inside};
use super::score::{Errors, Far, Score, memory_error, step_error};
use crate::cli::table::{Side, Table};
use crate::cli::words::TimeUnit;

/// The table of all sources, and their farthest rows.
pub(super) fn text(replayed: &[Replayed], scores: &[Score], wrong: usize) -> String {
    let mut table = Table::new(&[
        ("source", Side::Left),
        ("runs", Side::Right),
        ("mean", Side::Right),
        ("median", Side::Right),
        ("bias", Side::Right),
        ("worst", Side::Right),
        ("pairs in order", Side::Right),
        ("regret", Side::Right),
        ("memory", Side::Right),
        ("in 90 %", Side::Right),
        ("left out", Side::Right),
    ]);
    for score in scores {
        let Errors { count, mean_absolute, median_absolute, bias, worst } = score.step;
        let [pairs, right] = score.pairs;
        let pairs_words = if pairs > 0 { format!("{right} of {pairs}") } else { "-".to_owned() };
        let regret = if score.groups > 0 { percent(score.regret[0]) } else { "-".to_owned() };
        let memory = score.memory.map_or("-".to_owned(), |memory| {
            format!("{} (bias {}, {})", percent(memory.mean_absolute), signed(memory.bias), memory.count)
        });
        table.push(vec![
            score.source.clone(),
            count.to_string(),
            percent(mean_absolute),
            percent(median_absolute),
            signed(bias),
            percent(worst),
            pairs_words,
            regret,
            memory,
            percent(score.inside),
            score.inside_left_out.map_or("-".to_owned(), percent),
        ]);
    }
    let mut text = table.text();
    let mut line = |words: String| writeln!(text, "{words}").expect("a string can grow");
    for score in scores {
        for Far { id, error, measured, interval, reason } in &score.worst {
            let unit = TimeUnit::of(*measured);
            let [measured, between] = [unit.show(*measured), unit.range(*interval)];
            line(format!("  {id}: {}, {measured} measured ({between} expected); {reason}", signed(*error)));
        }
    }
    let predicted = replayed.iter().filter(|replayed| replayed.outcome.is_ok()).count();
    line(format!("Predicted {predicted} runs; {wrong} rows could not be"));
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn signed(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// One line for each row.
pub(super) fn file(replayed: &[Replayed]) -> String {
    let mut text =
        "source,id,measured_seconds,predicted_seconds,low_seconds,high_seconds,inside,error,micro_batch,measured_gib,predicted_gib,compute,moves,idle,why\n"
            .to_owned();
    for Replayed { row, outcome, .. } in replayed {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let measured = [row.source.clone(), row.id.clone(), row.step.to_string()];
        let rest = match outcome {
            Ok(outcome) => {
                let [compute, moves, idle] = outcome.parts.map(|part| format!("{part:.3}"));
                let memory = row.memory.map_or(String::new(), |memory| memory.to_string());
                let error = memory_error(row, outcome);
                let predicted = row.memory.zip(error).map_or_else(
                    || format!("{:.2}", outcome.shown.as_f64() / f64::from(1 << 30)),
                    |(memory, error)| format!("{:.2}", memory * (1.0 + error)),
                );
                [
                    format!("{:.5}", outcome.step.0),
                    format!("{:.5}", outcome.interval.low.0),
                    format!("{:.5}", outcome.interval.high.0),
                    is_inside(row, outcome).to_string(),
                    format!("{:.4}", step_error(row, outcome)),
                    outcome.micro_batch.to_string(),
                    memory,
                    predicted,
                    compute,
                    moves,
                    idle,
                    String::new(),
                ]
            }
            Err(why) => {
                let mut cells: [String; 12] = Default::default();
                cells[11].clone_from(why);
                cells
            }
        };
        writer.write_record(measured.iter().chain(&rest)).expect("a list can grow");
        text += &String::from_utf8_lossy(&writer.into_inner().expect("a list can grow"));
    }
    text
}

/// What a scatter plot shows.
pub(super) fn points(replayed: &[Replayed]) -> Vec<Beside> {
    let point = |replayed: &Replayed| {
        let outcome = replayed.outcome.as_ref().ok()?;
        Some(Beside {
            series: replayed.row.source.clone(),
            name: replayed.row.id.clone(),
            measured: replayed.row.step,
            predicted: outcome.step.0,
        })
    };
    replayed.iter().filter_map(point).collect()
}

/// One row as data.
pub(super) fn data(replayed: &Replayed) -> Value {
    let Replayed { file, row, outcome } = replayed;
    let mut data =
        json!({ "file": file, "line": row.line, "source": row.source, "id": row.id, "measured_seconds": row.step });
    match outcome {
        Ok(outcome) => {
            data["predicted_seconds"] = json!(outcome.step.0);
            data["predicted_seconds_between"] = json!([outcome.interval.low, outcome.interval.high]);
            data["inside"] = json!(is_inside(row, outcome));
            data["error"] = json!(step_error(row, outcome));
            data["micro_batch"] = json!(outcome.micro_batch);
            data["allocated_bytes"] = json!(outcome.allocated);
            data["memory_error"] = json!(memory_error(row, outcome));
            data["parts"] = json!(outcome.parts);
        }
        Err(why) => data["wrong"] = json!(why),
    }
    data
}

/// One source as data.
pub(super) fn score_data(score: &Score) -> Value {
    let errors = |errors: Errors| {
        json!({
            "count": errors.count,
            "mean_absolute": errors.mean_absolute,
            "median_absolute": errors.median_absolute,
            "bias": errors.bias,
            "worst": errors.worst,
        })
    };
    let worst: Vec<Value> =
        score.worst.iter().map(|far| json!({ "id": far.id, "error": far.error, "reason": far.reason })).collect();
    json!({
        "source": score.source,
        "step": errors(score.step),
        "memory": score.memory.map(errors),
        "inside": score.inside,
        "inside_left_out": score.inside_left_out,
        "pairs": score.pairs[0],
        "pairs_in_order": score.pairs[1],
        "groups": score.groups,
        "regret_mean": score.regret[0],
        "regret_worst": score.regret[1],
        "worst": worst,
    })
}

/// What a description may state of its residuals, as data.
pub(super) fn residuals_data(spread: &Spread) -> Value {
    json!({
        "software": spread.software,
        "device": spread.device,
        "sources": spread.sources,
        "runs": spread.runs,
        "low": spread.ends[0],
        "high": spread.ends[1],
    })
}
