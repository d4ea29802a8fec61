//! The strategy of each layer at a glance: a strip for each choice, a cell for each run of equal layers.

use std::fmt::Write as _;

use ir::plan::{Plan, Recompute, Sequence, Shard};

use super::escape;
use crate::Report;
use crate::quantity::counted;
use crate::table::Table;

/// One choice over all layers.
struct Strip {
    name: &'static str,
    /// The hue of its cells.
    hue: &'static str,
    /// For each layer how strong the colour is, from 0 to 4, and the value.
    cells: Vec<(u32, String)>,
}

/// Strips of colours, and the same as a table.
pub(super) fn html(report: &Report<'_>) -> String {
    let mut html = String::from("<div class=\"strips\">\n");
    let plan = report.plan;
    for strip in strips(plan) {
        let _ = write!(html, "<span>{}</span><div class=\"strip {}\">", strip.name, strip.hue);
        for (first, count, level, value) in runs(&strip.cells) {
            let long = if value.chars().count() > 3 { " long" } else { "" };
            let title = format!("{}: {} {value}", layers(report, first, count), strip.name);
            let _ = write!(
                html,
                "<div class=\"l{level}{long}\" style=\"flex-grow:{count}\" title=\"{}\"><b>{}</b></div>",
                escape(&title),
                escape(&value)
            );
        }
        html.push_str("</div>\n");
    }
    let count = plan.strategies.len();
    let _ =
        writeln!(html, "<span>layer</span><div class=\"ends\"><i>0</i><i>{}</i></div></div>", count.saturating_sub(1));
    html.push_str("<p class=\"note\">Stronger colours split or save more; point at a cell for its layers.</p>\n");
    html.push_str(&table(report).html());
    html
}

fn strips(plan: &Plan) -> Vec<Strip> {
    let each = |name, hue, of: &dyn Fn(usize) -> (u32, String)| Strip {
        name,
        hue,
        cells: (0..plan.strategies.len()).map(of).collect(),
    };
    let mut strips = Vec::new();
    if plan.stages.len() > 1 {
        strips.push(each("stage", "purple", &|layer| {
            let stage = plan.stage_of(layer as u32) as u32;
            (1 + stage % 2 * 2, (stage + 1).to_string())
        }));
    }
    let degree = |degree: u32| (degree.ilog2().min(4), degree.to_string());
    strips.push(each("data", "orange", &|layer| degree(plan.strategies[layer].data.max(1))));
    strips.push(each("tensor", "gold", &|layer| degree(plan.strategies[layer].tensor.max(1))));
    if plan.strategies.iter().any(|strategy| strategy.tensor > 1) {
        strips.push(each("sequence", "pink", &|layer| sequence(plan.strategies[layer].sequence)));
    }
    strips.push(each("shard", "blue", &|layer| shard(plan.strategies[layer].shard)));
    strips.push(each("recompute", "teal", &|layer| recompute(plan.strategies[layer].recompute)));
    strips
}

fn sequence(sequence: Sequence) -> (u32, String) {
    let (level, name) = match sequence {
        Sequence::Whole => (0, "whole"),
        Sequence::Split => (3, "split"),
    };
    (level, name.to_owned())
}

fn shard(shard: Shard) -> (u32, String) {
    let (level, name) = match shard {
        Shard::Nothing => (0, "nothing"),
        Shard::Optimizer => (1, "optimizer"),
        Shard::Gradients => (2, "gradients"),
        Shard::Parameters => (4, "parameters"),
    };
    (level, name.to_owned())
}

fn recompute(recompute: Recompute) -> (u32, String) {
    let (level, name) = match recompute {
        Recompute::Nothing => (0, "nothing"),
        Recompute::Selective => (2, "selective"),
        Recompute::Full => (4, "full"),
    };
    (level, name.to_owned())
}

/// Runs of equal cells: first layer, how many, colour, value.
fn runs(cells: &[(u32, String)]) -> Vec<(usize, usize, u32, String)> {
    let mut runs: Vec<(usize, usize, u32, String)> = Vec::new();
    for (layer, (level, value)) in cells.iter().enumerate() {
        match runs.last_mut() {
            Some((_, count, _, last)) if last == value => *count += 1,
            Some(_) | None => runs.push((layer, 1, *level, value.clone())),
        }
    }
    runs
}

/// Some layers, by number and name.
fn layers(report: &Report<'_>, first: usize, count: usize) -> String {
    let name = |layer: usize| match report.layers.get(layer) {
        Some(name) => format!("{layer} ({name})"),
        None => layer.to_string(),
    };
    if count == 1 {
        format!("layer {}", name(first))
    } else {
        format!("layers {} to {}", name(first), name(first + count - 1))
    }
}

fn table(report: &Report<'_>) -> Table {
    let mut table = Table::new(&["layers", "data", "tensor", "sequence", "shard", "recompute", "count"]);
    for (range, strategy) in report.plan.runs() {
        let count = range.len();
        table.push(
            0,
            vec![
                layers(report, range.start as usize, count),
                strategy.data.to_string(),
                strategy.tensor.to_string(),
                sequence(strategy.sequence).1,
                shard(strategy.shard).1,
                recompute(strategy.recompute).1,
                counted(count, "layer"),
            ],
        );
    }
    table
}
