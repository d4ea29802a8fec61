//! What a fit found, in words, as data, and as the source of a description.

use std::fmt::Write as _;

use ir::units::Seconds;
use serde_json::{Value, json};

use super::{Fit, LeftOut, Said};
use crate::cli::table::{Side, Table};
use crate::cli::words::TimeUnit;

/// Numbers that move no step by more than this, if they are a tenth more, move none.
const MOVES_MIN: f64 = 1e-4;

/// The numbers, and what each source is off by if it is left out.
pub(crate) fn text(fit: &Fit, left_out: &[LeftOut]) -> String {
    let columns = [("number", Side::Left), ("value", Side::Right), ("within", Side::Right), ("rests on", Side::Left)];
    let mut table = Table::new(&columns);
    for said in &fit.numbers {
        let within = said.deviation.map_or("-".to_owned(), |deviation| format!("{:.1} %", deviation * 100.0));
        table.push(vec![said.number.key().to_owned(), value(said), within, basis(said)]);
    }
    let mut text = table.text();
    if !left_out.is_empty() {
        let columns =
            [("source", Side::Left), ("runs", Side::Right), ("fitted to", Side::Right), ("left out", Side::Right)];
        let mut table = Table::new(&columns);
        for LeftOut { source, runs, with, without } in left_out {
            let [with, without] =
                [with, without].map(|[mean, bias]| format!("{:.1} % ({:+.1} %)", mean * 100.0, bias * 100.0));
            table.push(vec![source.clone(), runs.to_string(), with, without]);
        }
        text += &table.text();
    }
    text
}

fn value(said: &Said) -> String {
    if said.number.is_time() {
        let time = Seconds(said.value);
        return TimeUnit::of(time).show(time);
    }
    format!("{:.3}", said.value)
}

fn basis(said: &Said) -> String {
    let [low, high] = said.number.range();
    let moves = format!("a tenth more moves steps by {:.1} %, most that of {}", said.moves * 100.0, said.most);
    match said.deviation {
        None if said.moves < MOVES_MIN => "not determined, stays as described: no step moves with it".to_owned(),
        None => format!("not determined, stays as described: {moves}, as other numbers do"),
        Some(_) if said.value <= low * 1.001 || said.value >= high * 0.999 => {
            format!("at the end of what is possible, so something else is missing: {moves}")
        }
        Some(_) => moves,
    }
}

/// What the description says of its numbers.
pub(crate) fn described(fit: &Fit) -> String {
    let sources: Vec<String> = fit.sources.iter().map(|(source, runs)| format!("{source} ({runs} runs)")).collect();
    let mut text = format!("Least squares of log errors over {}.", sources.join(", "));
    for said in &fit.numbers {
        let within = said.deviation.map_or(String::new(), |deviation| format!(" within {:.1} %", deviation * 100.0));
        write!(text, " {}: {}{within}; {}.", said.number.key(), value(said), basis(said)).expect("a string can grow");
    }
    write!(text, " All else as {}: {}", fit.software.name, fit.software.source).expect("a string can grow");
    text
}

/// The same as data.
pub(crate) fn data(fit: &Fit, left_out: &[LeftOut]) -> Value {
    let numbers = fit.numbers.iter().map(|said| {
        json!({
            "number": said.number.key(),
            "value": said.value,
            "relative_deviation": said.deviation,
            "is_determined": said.deviation.is_some(),
            "moves": said.moves,
            "moves_most": said.most,
        })
    });
    let left_out = left_out.iter().map(|LeftOut { source, runs, with, without }| {
        json!({
            "source": source,
            "runs": runs,
            "fitted_mean_absolute": with[0],
            "fitted_bias": with[1],
            "left_out_mean_absolute": without[0],
            "left_out_bias": without[1],
        })
    });
    json!({ "numbers": numbers.collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>() })
}
