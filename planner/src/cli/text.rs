//! The answer of a search as text.

use std::fmt::Write as _;

use hetu_planner::{Candidate, Found, Mix, OnAll, Unusable};
use ir::cluster::{Cluster, Execution};
use ir::model::{Model, Precision};
use ir::units::Seconds;
use reports::{device_rate, model_flops};

use super::costs::Speed;
use super::input::Origin;
use super::lists::{candidates, recipes};
use super::output::columns;
use super::plan::{Planned, Question};
use super::why_not;
use super::words::{TimeUnit, counted, duration, one_line, percent, short_count, signed_percent, thousands};

/// All that is said of a search but its last line.
pub(crate) fn answer(question: &Question, outcome: &Planned) -> String {
    let best = &outcome.found.candidates[outcome.picked];
    let speed = |step| Speed::of(&question.model, &question.devices.cluster, question.batch, step);
    let mut text = String::new();
    let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
    line("Model", model_line(&question.model));
    line("Cluster", fitted(cluster_line(&question.devices.cluster)));
    if question.headroom.share > 0.0 {
        line("Memory", fitted(question.headroom.words(&question.devices.cluster)));
    }
    line("Prices", wrapped(&prices(question)));
    line("Searched", fitted(format!("{}, in {:.2} s", searched(outcome), outcome.elapsed.0)));
    if let Some(words) = proof(outcome) {
        line("Bound", wrapped(&words));
    }
    text += &format!("\n{}\n{}\n", candidates(question, outcome), recipes(question, outcome));
    if !outcome.why_not.is_empty() {
        text += &format!("{}\n", why_not::table(&outcome.found.candidates[0], &outcome.why_not));
    }
    let mut line = |key: &str, value: String| writeln!(text, "{key:<9} {value}").expect("a string can grow");
    if let Some(words) = idle(question, outcome) {
        line("Devices", wrapped(&words));
    }
    if outcome.picked > 0 {
        line("Picked", format!("number {}", outcome.picked + 1));
    }
    line("Speed", speed(best.trace.step).words());
    line("Rate", rate_line(question, best.trace.step, best.plan.precision));
    if let Some(cost) = question.cost(best) {
        line("Cost", cost.words());
    }
    if let Some(words) = speed(best.trace.step).training(question.training) {
        line("Training", fitted(words));
    }
    if let Some(words) = uniform(question, outcome) {
        line("Uniform", fitted(words));
    }
    line("Trust", fitted(trust(best)));
    line("Between", wrapped(&question.costs.interval_basis()));
    if let Some(words) = saves(question, best) {
        line("Saves", words);
    }
    if let Some(advice) = advice(question, best) {
        line("", advice);
    }
    text
}

/// What one strategy for all layers costs beside unlike ones, if that was asked.
pub(crate) fn uniform(question: &Question, outcome: &Planned) -> Option<String> {
    if question.rules.mix == Mix::Free {
        return None;
    }
    let Some(free) = outcome.free else { return Some("beside the best plan with unlike layers: –".to_owned()) };
    let step = outcome.found.candidates[0].trace.step;
    let unit = TimeUnit::of(step);
    let change = signed_percent(step.0 / free.0 - 1.0);
    Some(format!(
        "{} of the first is {change} beside the best plan with unlike layers, {}",
        unit.show(step),
        unit.show(free)
    ))
}

/// How much of what devices could do is done, of the operations of the model (MFU).
pub(crate) fn rate_line(question: &Question, step: Seconds, precision: Precision) -> String {
    let flops = model_flops(&question.graph, question.batch);
    let (rate, share) = device_rate(flops, step, &question.devices.cluster, precision);
    format!("{rate} of the model per device, {:.1} % of its peak", share * 100.0)
}

pub(crate) fn model_line(model: &Model) -> String {
    let parameters = short_count(model.graph().parameter_count() as f64);
    let blocks = counted(u64::from(model.blocks()), "block");
    let rows = if model.images.is_some() { "images" } else { "sequences" };
    let parts = if model.images.is_some() { "patches" } else { "tokens" };
    format!("{}: {blocks}, {parameters} parameters, {rows} of {} {parts}", model.name, thousands(model.sequence))
}

pub(crate) fn cluster_line(cluster: &Cluster) -> String {
    let device = &cluster.device;
    let mut text = format!("{}: ", cluster.name);
    if cluster.nodes > 1 {
        text += &format!("{} nodes of ", cluster.nodes);
    }
    text += &format!("{} × {}, {} each", cluster.devices_per_node, device.name, cluster.capacity());
    match device.execution {
        Execution::Concurrent => text += &format!(", {} inside", cluster.inside.rate),
        Execution::Shared { cores } => text += &format!(", on {}", counted(u64::from(cores), "core")),
    }
    if cluster.nodes > 1 {
        text += &format!(", {} between", cluster.between.rate);
    }
    text
}

/// In lines that fit the terminal, where there is one.
pub(crate) fn fitted(text: String) -> String {
    if columns().is_some() { wrapped(&text) } else { text }
}

/// Columns of a long text behind the word that begins it, and of that word.
const WIDTH: usize = 110;
const INDENT: usize = 10;

/// A long text in lines that stand below each other, behind the word that begins the first.
pub(crate) fn wrapped(text: &str) -> String {
    let width = columns().map_or(WIDTH, |columns| columns.clamp(40, WIDTH + INDENT) - INDENT);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if lines[last].chars().count() + word.chars().count() >= width {
            lines.push(word.to_owned());
        } else {
            let space = if lines[last].is_empty() { "" } else { " " };
            lines[last].extend([space, word]);
        }
    }
    lines.join("\n          ")
}

/// Where prices come from.
pub(crate) fn prices(question: &Question) -> String {
    if let Some(profile) = &question.profile {
        let samples = counted(profile.samples.len() as u64, "measurement");
        return format!("{samples} on {}; the rest by formula", profile.device);
    }
    let device = &question.devices.cluster.device;
    let source = one_line(&device.source);
    match &question.devices.origin {
        Origin::Preset(_) => format!("modelled from the shipped description of {}. {source}", device.name),
        Origin::File(path) => format!("modelled from {}. {source}", path.display()),
        Origin::Published => unreachable!("models are published, not clusters"),
        Origin::Detected => "guessed: cores and memory were detected, but nothing was measured".to_owned(),
    }
}

/// What was looked at.
pub(crate) fn searched(outcome: &Planned) -> String {
    let effort = outcome.found.effort;
    format!(
        "{} (stages, microbatches, degrees), {} simulated, {} plans solved, {} simulated",
        counted(effort.outer as u64, "choice"),
        counted(effort.costs as u64, "layer"),
        thousands(effort.fitting as u64),
        thousands(effort.simulated as u64)
    )
}

/// What is proven of the answer by sums of costs, and how far such sums are off.
pub(crate) fn proof(outcome: &Planned) -> Option<String> {
    let Found { sums, candidates, .. } = &outcome.found;
    let off = |each: &Candidate| Some(each.estimated?.0 / each.trace.step.0 - 1.0);
    let off: Vec<f64> = candidates.iter().filter_map(off).collect();
    if off.is_empty() {
        return None;
    }
    let time = TimeUnit::of(sums.best);
    let [least, most] = [f64::min, f64::max].map(|of: fn(f64, f64) -> f64| off.iter().copied().reduce(of));
    Some(format!(
        "by sums of layer costs no plan is below {}, the best found has {} (gap {:.2} %); simulated whole, sums of the \
         plans below are off by {} to {}",
        time.show(sums.bound),
        time.show(sums.best),
        sums.gap() * 100.0,
        signed_percent(least?),
        signed_percent(most?),
    ))
}

/// Why devices are left idle.
pub(crate) fn idle(question: &Question, outcome: &Planned) -> Option<String> {
    let best = &outcome.found.candidates[0];
    let (used, all) = (best.plan.rank_count(), question.devices.cluster.device_count());
    if used >= all {
        return None;
    }
    let why = match outcome.found.on_all {
        OnAll::Best(step) => {
            let shown = TimeUnit::of(step).show(step);
            let longer = signed_percent(step.0 / best.trace.step.0 - 1.0);
            format!("the best plan found for all of them takes {shown} ({longer})")
        }
        OnAll::Illegal => {
            format!("nothing legal spreads a batch of {} and the sizes of the model over all of them", question.batch)
        }
        OnAll::NothingFits => "no plan for all of them fits".to_owned(),
    };
    Some(format!("the first plan uses {used} of {all}: {why}"))
}

/// To a tenth of a percent: where failures are rare, the rest is what counts.
pub(crate) fn share_words(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How often to save, and what that and failures leave.
pub(crate) fn saves(question: &Question, best: &Candidate) -> Option<String> {
    let (failures, goodput) = (question.failures?, question.goodput(best)?);
    let [mtbf, save, interval] = [goodput.mtbf, goodput.save, goodput.interval].map(duration);
    let steps = (goodput.interval.0 / best.trace.step.0).ceil().max(1.0);
    Some(wrapped(&format!(
        "every {interval} ({steps:.0} steps: --save-every {steps:.0}), if one of {} fails every {mtbf} and a save takes \
         {save} at {}: {} of the time counts",
        counted(best.plan.rank_count().into(), "device"),
        failures.save_rate,
        share_words(goodput.share)
    )))
}

/// What the time of a plan rests on.
pub(crate) fn trust(candidate: &Candidate) -> String {
    let total: f64 = candidate.trace.shares.iter().map(|share| share.0).sum();
    let [measured, interpolated, modelled] =
        candidate.trace.shares.map(|share| percent(if total > 0.0 { share.0 / total } else { 0.0 }));
    format!("{measured} of the step rests on measured, {interpolated} on interpolated, {modelled} on modelled prices")
}

/// How to replace formulas by measurements, on a machine with these devices.
pub(crate) fn advice(question: &Question, best: &Candidate) -> Option<String> {
    if best.trace.shares[2] == Seconds::ZERO || question.profile.is_some() {
        return None;
    }
    let cluster = &question.devices.cluster;
    let model = question.model_path.display();
    let devices = match cluster.device.execution {
        Execution::Concurrent => "cuda",
        Execution::Shared { .. } => "cpu",
    };
    let place = match question.devices.origin {
        Origin::Detected => String::new(),
        Origin::File(_) | Origin::Preset(_) | Origin::Published => {
            format!(" on a machine with {} of these", cluster.devices_per_node)
        }
    };
    let nodes =
        if cluster.nodes > 1 { format!(", write `nodes: {}` into cluster.yaml", cluster.nodes) } else { String::new() };
    Some(format!(
        "to measure{place}: hetu-profile cluster --devices {devices} --ranks {} --model {model} --cluster-out \
         cluster.yaml -o profile.yaml\n          {nodes}then plan with --cluster cluster.yaml --profile profile.yaml",
        cluster.devices_per_node,
        nodes = nodes.trim_start_matches(", ").to_owned() + if nodes.is_empty() { "" } else { ", " },
    ))
}

/// The last line: what was written, and how good the plan is beside what one would do without a search.
pub(crate) fn last_line(outcome: &Planned) -> String {
    let best = &outcome.found.candidates[outcome.picked];
    let baselines = &outcome.found.baselines;
    let named = |name: &str| baselines.iter().find(|baseline| baseline.name == name);
    let sharded = named("fully sharded").and_then(|baseline| baseline.outcome.as_ref().ok());
    let fastest = || {
        let fitting = baselines.iter().filter_map(|each| Some((each.name, each.outcome.as_ref().ok()?)));
        fitting.min_by(|a, b| a.1.trace.step.0.total_cmp(&b.1.trace.step.0))
    };
    let compared = sharded.map(|found| ("fully sharded data parallelism", found)).or_else(fastest);
    let mut text = format!("Wrote {}: ", outcome.written.join(", "));
    let is_illegal = baselines.iter().all(|each| matches!(each.outcome, Err(Unusable::Illegal(_))));
    text += &match compared {
        None if is_illegal => "no usual recipe is legal for these devices and this batch".to_owned(),
        None => "no usual recipe fits".to_owned(),
        Some((name, found)) => {
            let ratio = found.trace.step.0 / best.trace.step.0;
            let step = TimeUnit::of(found.trace.step).show(found.trace.step);
            if ratio < 1.005 {
                format!("as fast as {name} ({step})")
            } else {
                format!("{ratio:.2} × faster than {name} ({step})")
            }
        }
    };
    let plain = named("data parallel").map(|baseline| &baseline.outcome);
    if let Some(Err(Unusable::Memory { .. })) = plain {
        text += "; plain data parallelism does not fit";
    }
    text + "\n"
}
