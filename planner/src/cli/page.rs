//! The report of a plan: all that the terminal says, and pictures.

use std::path::{Path, PathBuf};

use cost_model::Interval;
use hetu_planner::{Baseline, Candidate};
use reports::{CandidatePoint, Card, Choice, Report, Standing, device_rate, model_flops, write_report};

use super::costs::Speed;
use super::explain::memory_table;
use super::failure::Failure;
use super::plan::{Planned, Question, layer_name};
use super::words::{one_line, plan_label, with_interval};
use super::{lists, text};

/// Writes the report; gives back its page.
pub(crate) fn write(question: &Question, outcome: &Planned, folder: &Path) -> Result<PathBuf, Failure> {
    let picked = &outcome.found.candidates[outcome.picked];
    let layers: Vec<String> =
        (0..question.graph.layers.len() as u32).map(|layer| layer_name(&question.graph, layer)).collect();
    let cluster = &question.devices.cluster;
    let row = |name: &str, value: String| (name.to_owned(), value);
    let Interval { low, high } = question.costs.interval(&outcome.picked_whole.trace);
    let report = Report {
        title: &format!("{} on {}", question.model.name, cluster.name),
        model: &[row("model", text::model_line(&question.model)), row("batch", question.batch.to_string())],
        cluster: &[row("cluster", text::cluster_line(cluster)), row("source", one_line(&cluster.device.source))],
        plan: &picked.plan,
        layers: &layers,
        programs: outcome.programs(),
        predicted: Some(&outcome.picked_whole.trace),
        between: Some([low, high]),
        measured: None,
        steps: &[],
        candidates: &points(outcome),
        choice: Some(&choice(question, outcome)),
        verdict: None,
        capacity: cluster.capacity(),
        unlike: None,
    };
    let paths = write_report(folder, &report).map_err(Failure::wrong)?;
    Ok(paths.into_iter().next().unwrap_or_else(|| folder.to_owned()))
}

/// All plans of the list, and recipes that fit.
fn points(outcome: &Planned) -> Vec<CandidatePoint> {
    let point = |mark: String, each: &Candidate, standing| CandidatePoint {
        mark,
        label: plan_label(&each.plan),
        time: each.trace.step,
        peak: each.peak,
        standing,
    };
    let listed = outcome.found.candidates.iter().enumerate().map(|(index, each)| {
        let standing = if index == outcome.picked { Standing::Chosen } else { Standing::Fits };
        point((index + 1).to_string(), each, standing)
    });
    let recipe = |Baseline { name, outcome }: &Baseline| {
        outcome.as_ref().ok().map(|each| point((*name).to_owned(), each, Standing::Recipe))
    };
    listed.chain(outcome.found.baselines.iter().filter_map(recipe)).collect()
}

fn choice(question: &Question, outcome: &Planned) -> Choice {
    let mut candidates = lists::candidates_table(question, outcome).grid(&["step", "peak", "tokens/s"], "why");
    candidates.chosen = Some(outcome.picked);
    candidates.notes = lists::candidates_notes(outcome);
    let mut memory = memory_table(question, outcome).grid(&[], "");
    memory.notes = vec![
        "parameters: with their master in 32 bits; moments: the optimizer states of AdamW; saved: activations that the \
         backward passes need; transient: what lives within a layer, gathered parameters, gaps."
            .to_owned(),
    ];
    Choice {
        cards: cards(question, outcome),
        candidates,
        recipes: lists::recipes_table(question, outcome).grid(&[], ""),
        memory,
        grounds: grounds(question, outcome),
    }
}

fn cards(question: &Question, outcome: &Planned) -> Vec<Card> {
    let (step, precision) = (outcome.picked_whole.trace.step, outcome.found.candidates[outcome.picked].plan.precision);
    let speed = Speed::of(&question.model, &question.devices.cluster, question.batch, step);
    let flops = model_flops(&question.graph, question.batch);
    let (rate, share) = device_rate(flops, step, &question.devices.cluster, precision);
    let card =
        |name: &str, value: String, detail: &str| Card { name: name.to_owned(), value, detail: detail.to_owned() };
    vec![
        card("Tokens per second", speed.cell(), &speed.words()),
        card("MFU", format!("{:.1} %", share * 100.0), &format!("{rate} of the model per device")),
    ]
}

/// What was searched and what the numbers rest on, in the order of the terminal.
fn grounds(question: &Question, outcome: &Planned) -> Vec<(String, String)> {
    let best = &outcome.found.candidates[outcome.picked];
    let speed = Speed::of(&question.model, &question.devices.cluster, question.batch, best.trace.step);
    let free = question.headroom.share > 0.0;
    let interval = with_interval(best.trace.step, question.costs.interval(&best.trace));
    let rows = [
        ("Memory", free.then(|| question.headroom.words(&question.devices.cluster))),
        ("Prices", Some(text::prices(question))),
        ("Searched", Some(text::searched(outcome))),
        ("Bound", text::proof(outcome)),
        ("Devices", text::idle(question, outcome)),
        ("Training", speed.training(question.training)),
        ("Uniform", text::uniform(question, outcome)),
        ("Trust", Some(text::trust(best))),
        ("Between", Some(format!("{interval}: {}", question.costs.interval_basis()))),
        ("Saves", text::saves(question, best)),
        ("Better prices", text::advice(question, best)),
    ];
    rows.into_iter().filter_map(|(name, words)| Some((name.to_owned(), one_line(&words?)))).collect()
}
