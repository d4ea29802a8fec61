//! The best plan in detail: strategies by layer, exchanges by layer, memory by class.

use std::collections::BTreeMap;

use cost_model::Prices;
use ir::graph::Graph;
use ir::plan::Plan;
use ir::program::{Action, CollectiveId};
use ir::trace::Confidence;
use ir::units::Seconds;

use super::classes::{Classes, layers_of};
use super::margins;
use super::plan::{Planned, Question, layer_name};
use super::table::{Side, Table};
use super::words::{SizeUnit, TimeUnit, recompute_word, sequence_word, shard_word};

/// Tables.
pub(crate) fn explain(question: &Question, outcome: &Planned) -> String {
    let plan = &outcome.found.candidates[outcome.picked].plan;
    let (layers, exchanges, memory) =
        (strategies(&question.graph, plan), exchanges(question, outcome), memory_table(question, outcome).text());
    let margins = outcome.margins.as_deref().map_or(String::new(), |known| format!("\n{}", margins::text(known)));
    format!(
        "\nStrategies\n{layers}\nExchanges of the ranks of a stage, in one step\n{exchanges}\nMemory\n{memory}{margins}\n"
    )
}

fn strategies(graph: &Graph, plan: &Plan) -> String {
    let mut table = Table::new(&[
        ("layers", Side::Left),
        ("", Side::Left),
        ("stages", Side::Right),
        ("data", Side::Right),
        ("tensor", Side::Right),
        ("sequence", Side::Left),
        ("shard", Side::Left),
        ("recompute", Side::Left),
    ]);
    for (layers, strategy) in plan.runs() {
        let last = layers.end - 1;
        let span = |first: String, last: String| if first == last { first } else { format!("{first}–{last}") };
        table.push(vec![
            span(layers.start.to_string(), last.to_string()),
            span(layer_name(graph, layers.start), layer_name(graph, last)),
            span(plan.stage_of(layers.start).to_string(), plan.stage_of(last).to_string()),
            strategy.data.to_string(),
            strategy.tensor.to_string(),
            sequence_word(strategy.sequence).to_owned(),
            shard_word(strategy.shard).to_owned(),
            recompute_word(strategy.recompute).to_owned(),
        ]);
    }
    table.text()
}

/// Exchanges that are told in one row: of layers of one strategy, alike in all that is shown.
type Alike = (u32, Option<usize>, char, CollectiveId);

fn exchanges(question: &Question, outcome: &Planned) -> String {
    let programs = outcome.programs();
    let plan = &outcome.found.candidates[outcome.picked].plan;
    let runs = plan.runs();
    let run_of = |layer: u16| runs.iter().position(|(layers, _)| layers.contains(&u32::from(layer)));
    let mut counts: BTreeMap<Alike, u64> = BTreeMap::new();
    for role in programs.roles() {
        for instr in &role.code {
            if let Action::Exchange(id) = instr.action {
                let key = (role.id.0, instr.span.layer.and_then(run_of), instr.span.phase.letter(), id);
                *counts.entry(key).or_insert(0) += 1;
            }
        }
    }
    let prices = Prices::of(programs, &question.costs);
    let time_of = |stage, id| prices.collective(stage, id).map_or((Seconds::ZERO, Confidence::Modelled), |price| price);
    let longest = counts.iter().map(|((stage, _, _, id), &count)| time_of(*stage, *id).0 * count as f64);
    let unit = TimeUnit::of(longest.fold(Seconds::ZERO, Seconds::max));
    let mut table = Table::new(&[
        ("stage", Side::Right),
        ("layers", Side::Left),
        ("pass", Side::Left),
        ("exchange", Side::Left),
        ("for", Side::Left),
        ("ranks", Side::Right),
        ("whole", Side::Right),
        ("times", Side::Right),
        ("each", Side::Right),
        ("together", Side::Right),
        ("price", Side::Left),
    ]);
    for ((stage, run, phase, id), count) in counts {
        let collective = programs.collective(id);
        let ranks: u32 = collective.exchange.axes().iter().map(|&axis| programs.mesh().sizes()[axis]).product();
        let (time, confidence) = time_of(stage, id);
        let layers = run.map_or("all".to_owned(), |run| format!("{}..{}", runs[run].0.start, runs[run].0.end));
        table.push(vec![
            stage.to_string(),
            layers,
            phase.to_string(),
            collective.exchange.name().to_owned(),
            collective.axis.name().to_owned(),
            ranks.to_string(),
            collective.whole_bytes(ranks).to_string(),
            count.to_string(),
            TimeUnit::of(time).show(time),
            unit.show(time * count as f64),
            confidence_word(confidence).to_owned(),
        ]);
    }
    table.text()
}

fn confidence_word(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Measured => "measured",
        Confidence::Interpolated => "interpolated",
        Confidence::Modelled => "modelled",
    }
}

/// What each stage holds.
pub(crate) fn memory_table(question: &Question, outcome: &Planned) -> Table {
    let plan = &outcome.found.candidates[outcome.picked].plan;
    let programs = outcome.programs();
    let unit = SizeUnit::of(programs.peak());
    let mut table = Table::new(&[
        ("stage", Side::Right),
        ("layers", Side::Left),
        ("parameters", Side::Right),
        ("moments", Side::Right),
        ("gradients", Side::Right),
        ("saved", Side::Right),
        ("transient", Side::Right),
        ("peak", Side::Right),
        ("of", Side::Right),
    ]);
    for role in programs.roles() {
        let classes = Classes::of(&question.graph, plan, role);
        let layers = layers_of(plan, role);
        let sizes =
            [classes.parameters + classes.master, classes.moments, classes.gradients, classes.saved, classes.transient];
        let numbers = sizes.into_iter().chain([role.arena, question.devices.cluster.capacity()]);
        let cells = [role.id.0.to_string(), format!("{}..{}", layers.start, layers.end)];
        table.push(cells.into_iter().chain(numbers.map(|size| unit.show(size))).collect());
    }
    table
}
