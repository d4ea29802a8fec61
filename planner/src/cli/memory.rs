//! `hetu-plan memory`: whether a model fits, at once: what each of so many devices holds.

use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::model::Model;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::units::Bytes;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::classes::Classes;
use super::failure::Failure;
use super::input::{devices, read_model};
use super::output::{columns, show, show_painted};
use super::table::{Side, Table};
use super::text::{cluster_line, fitted, model_line};
use super::words::{SizeUnit, precision_word, recompute_word};
use crate::options::MemoryOptions;

/// Microbatches of the plans that are compiled: with two of them gradients are kept from one to the next.
const MICROBATCHES: u32 = 2;

/// One way to spread the model.
struct Case {
    devices: u32,
    zero: usize,
    shard: Shard,
    recompute: Recompute,
}

/// What one device holds of it.
struct Held {
    parameters: Bytes,
    gradients: Bytes,
    optimizer: Bytes,
    activations: Bytes,
    total: Bytes,
}

pub(crate) fn memory(options: &MemoryOptions) -> Result<(), Failure> {
    let model = read_model(&options.model)?.model;
    let cluster = match &options.cluster {
        Some(name) => Some(devices(Some(name))?.cluster),
        None => None,
    };
    let graph = model.graph();
    let cases = cases(&counts(options, cluster.as_ref()));
    let held: Vec<Held> = cases.par_iter().map(|case| held(&model, &graph, case)).collect();
    if options.json {
        let rows = cases.iter().zip(&held).map(|(case, held)| data(case, held, cluster.as_ref()));
        let rows: Vec<Value> = rows.collect();
        return show(&format!("{:#}\n", json!({ "format": 1, "model": model.name, "memory": rows })));
    }
    let mut text = format!("Model     {}\n", model_line(&model));
    if let Some(cluster) = &cluster {
        text += &format!("Cluster   {}\n", fitted(cluster_line(cluster)));
    }
    let devices = format!(
        "share the batch, one sequence at a time each, in {}; sizes in {} a device",
        precision_word(model.training.precision),
        unit(&held).name
    );
    text += &format!("Devices   {}\n\n", fitted(devices));
    text += &table(&cases, &held, cluster.as_ref())?;
    text += "  Tensor parallelism and pipelines divide further:\n  hetu-plan MODEL --cluster NAME looks for the fastest plan \
             that fits.\n";
    show_painted(&text)
}

/// As asked; else powers of two, up to all devices of the cluster.
fn counts(options: &MemoryOptions, cluster: Option<&Cluster>) -> Vec<u32> {
    if !options.devices.is_empty() {
        return options.devices.clone();
    }
    let most = cluster.map_or(8, Cluster::device_count);
    let mut counts: Vec<u32> = (0..31).map(|power| 1 << power).take_while(|count| *count < most).collect();
    counts.push(most);
    counts
}

fn cases(counts: &[u32]) -> Vec<Case> {
    let shards = [Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters];
    let of_count = |&devices: &u32| {
        let levels = if devices == 1 { 1 } else { shards.len() };
        (0..levels).flat_map(move |zero| {
            let case = move |recompute| Case { devices, zero, shard: shards[zero], recompute };
            [Recompute::Nothing, Recompute::Full].map(case)
        })
    };
    counts.iter().flat_map(of_count).collect()
}

fn held(model: &Model, graph: &Graph, case: &Case) -> Held {
    let Case { devices, shard, recompute, .. } = *case;
    let strategy = Strategy { data: devices, tensor: 1, sequence: Sequence::Whole, shard, recompute };
    let plan = Plan {
        batch: u64::from(devices) * u64::from(MICROBATCHES),
        microbatches: MICROBATCHES,
        schedule: Schedule::OneForwardOneBackward,
        precision: model.training.precision,
        stages: std::iter::once(0..graph.layers.len() as u32).collect(),
        strategies: vec![strategy; graph.layers.len()],
        prefetch: 1,
    };
    let programs = compiler::compile_unlimited(graph, &plan).expect("data parallelism is always legal");
    let role = &programs.roles()[0];
    let Classes { parameters, master, moments, gradients, saved, transient } = Classes::of(graph, &plan, role);
    Held { parameters, gradients, optimizer: master + moments, activations: saved + transient, total: role.arena }
}

fn table(cases: &[Case], held: &[Held], cluster: Option<&Cluster>) -> Result<String, Failure> {
    let last = if cluster.is_some() { "fits" } else { "least device" };
    // Full names of parts need 100 columns.
    let parts = match columns() {
        Some(..100) => ["param.", "grad.", "optim.", "activ."],
        Some(100..) | None => ["parameters", "gradients", "optimizer", "activations"],
    };
    let first = [("devices", Side::Right), ("ZeRO", Side::Right), ("recompute", Side::Left)];
    let sizes = parts.into_iter().chain(["total"]).map(|name| (name, Side::Right));
    let all: Vec<(&str, Side)> = first.into_iter().chain(sizes).chain([(last, Side::Left)]).collect();
    let mut table = Table::new(&all);
    let shipped = shipped()?;
    let unit = unit(held);
    for (case, held) in cases.iter().zip(held) {
        let fits = match cluster {
            Some(cluster) if held.total <= cluster.capacity() => "yes".to_owned(),
            Some(_) => "does not fit".to_owned(),
            None => {
                let least = shipped.iter().find(|(_, capacity)| held.total <= *capacity);
                least.map_or("–".to_owned(), |(name, _)| name.clone())
            }
        };
        let sizes = [held.parameters, held.gradients, held.optimizer, held.activations, held.total];
        let words = [case.devices.to_string(), case.zero.to_string(), recompute_word(case.recompute).to_owned()];
        table.push(words.into_iter().chain(sizes.map(|size| unit.number(size))).chain([fits]).collect());
    }
    Ok(table.text())
}

/// That of the largest.
fn unit(held: &[Held]) -> SizeUnit {
    SizeUnit::of(held.iter().map(|held| held.total).max().unwrap_or(Bytes::ZERO))
}

/// Shipped GPUs and what an arena on them may take, the smallest first.
fn shipped() -> Result<Vec<(String, Bytes)>, Failure> {
    let mut all = Vec::new();
    for name in Cluster::preset_devices() {
        let cluster = Cluster::preset(name)?;
        if cluster.device.execution == ir::cluster::Execution::Concurrent {
            all.push((cluster.device.name.clone(), cluster.capacity()));
        }
    }
    all.sort_by_key(|(_, capacity)| *capacity);
    Ok(all)
}

fn data(case: &Case, held: &Held, cluster: Option<&Cluster>) -> Value {
    json!({
        "devices": case.devices,
        "zero": case.zero,
        "recompute": recompute_word(case.recompute),
        "parameters_bytes": held.parameters,
        "gradients_bytes": held.gradients,
        "optimizer_bytes": held.optimizer,
        "activations_bytes": held.activations,
        "total_bytes": held.total,
        "fits": cluster.map(|cluster| held.total <= cluster.capacity()),
    })
}
