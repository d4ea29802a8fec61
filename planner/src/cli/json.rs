//! Results as JSON: times in seconds, sizes in bytes, under names that say so.

use cost_model::CostModel;
use hetu_planner::{Baseline, Candidate, Extent, Mix, NoPlan, OnAll, Robustness, SAMPLES, Sums, Unusable};
use ir::file::Digest;
use ir::plan::{Plan, Strategy};
use ir::trace::Totals;
use reports::{device_rate, model_flops};
use serde_json::{Value, json};

use super::costs::Speed;
use super::input::Origin;
use super::losers::{Parts, reason};
use super::margins;
use super::plan::{Planned, Question};
use super::why_not;
use super::words::{precision_word, recompute_word, schedule_word, sequence_word, shard_word, split_layers};

/// The whole answer of a search. Equal questions give equal documents.
pub(crate) fn answer(question: &Question, outcome: &Planned) -> Value {
    let best = &outcome.found.candidates[0];
    let effort = outcome.found.effort;
    let cluster = &question.devices.cluster;
    let flops = model_flops(&question.graph, question.batch);
    let (rate, share) = device_rate(flops, best.trace.step, cluster, best.plan.precision);
    json!({
        "format": 1,
        "model": {
            "name": question.model.name,
            "digest": question.model.digest().to_string(),
            "layers": question.model.blocks(),
            "parameters": question.graph.parameter_count(),
            "batch": question.batch,
        },
        "cluster": {
            "name": cluster.name,
            "digest": cluster.digest().to_string(),
            "devices": cluster.device_count(),
            "device": cluster.device.name,
            "capacity_bytes": cluster.capacity(),
            "headroom_bytes": question.headroom.bytes,
            "origin": origin(&question.devices.origin),
            "source": cluster.device.source,
        },
        "profile": question.profile.as_ref().map(|profile| profile.samples.len()),
        "searched": {
            "outer_choices": effort.outer,
            "fitting": effort.fitting,
            "layer_costs": effort.costs,
            "simulated": effort.simulated,
        },
        "sums": sums(outcome.found.sums),
        "on_all_devices": on_all(outcome.found.on_all),
        "model_flops_per_second_per_device": rate.0,
        "share_of_peak": share,
        "candidates": candidates(question, outcome),
        "picked": outcome.picked + 1,
        "uniform": question.rules.mix == Mix::Uniform,
        "best_with_unlike_layers_seconds": outcome.free,
        "recipes": outcome.found.baselines.iter().map(|each| recipe(each, &question.costs)).collect::<Vec<_>>(),
        "robust": outcome.robust.as_ref().map(|robust| json!({ "cases": SAMPLES, "times_between": robust.ratios })),
        "shadow_prices": outcome.margins.as_deref().map(margins::document),
        "why_not": why_not::documents(question, best, &outcome.why_not),
        "written": outcome.written,
    })
}

/// The list of plans.
fn candidates(question: &Question, outcome: &Planned) -> Vec<Value> {
    let best = &outcome.found.candidates[0];
    outcome
        .found
        .candidates
        .iter()
        .enumerate()
        .map(|(index, each)| {
            let mut value = candidate(each, &question.costs);
            if let Some(goodput) = question.goodput(each) {
                value["failures"] = json!({
                    "mtbf_seconds": goodput.mtbf,
                    "save_seconds": goodput.save,
                    "save_interval_seconds": goodput.interval,
                    "goodput": goodput.share,
                });
            }
            let speed = Speed::of(&question.model, &question.devices.cluster, question.batch, each.trace.step);
            value["speed"] = speed.data(question.training);
            value["cost"] = json!(question.cost(each).map(|cost| cost.data()));
            value["tie"] = json!(index > 0 && best.ties_with(each));
            value["robust"] = json!(outcome.robust.as_ref().map(|robust| {
                let Robustness { step_90, best_share } = robust.plans[index];
                json!({ "step_seconds_90": step_90, "best_share": best_share })
            }));
            value["strategies"] = json!(each.plan.counts().len());
            if index > 0 {
                value["slower_because"] = json!(reason(best, each));
            }
            value
        })
        .collect()
}

/// What sums of layer costs prove.
fn sums(sums: Sums) -> Value {
    if !sums.best.0.is_finite() {
        return Value::Null;
    }
    json!({ "best_seconds": sums.best, "bound_seconds": sums.bound, "gap": sums.gap() })
}

/// What comes of using all devices.
fn on_all(on_all: OnAll) -> Value {
    match on_all {
        OnAll::Best(step) => json!({ "step_seconds": step }),
        OnAll::Illegal => json!({ "failure": "no plan is legal" }),
        OnAll::NothingFits => json!({ "failure": "no plan fits" }),
    }
}

/// That there is no plan.
pub(crate) fn no_plan(reason: &NoPlan) -> Value {
    let shortage = match reason {
        NoPlan::NothingLegal { .. } => Value::Null,
        NoPlan::NothingFits { outer, shortage } => json!({
            "stages": outer.stages,
            "microbatches": outer.microbatches,
            "stage": shortage.stage,
            "state_bytes": shortage.need.bytes_state,
            "saved_bytes": shortage.need.bytes_saved,
            "transient_bytes": shortage.need.bytes_transient,
            "capacity_bytes": shortage.capacity_bytes,
            "missing_bytes": shortage.excess_bytes(),
        }),
    };
    json!({ "format": 1, "no_plan": reason.to_string(), "least": shortage })
}

fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::File(_) => "file",
        Origin::Preset(_) => "preset",
        Origin::Detected => "detected",
        Origin::Published => "published",
    }
}

/// A plan with its costs.
pub(crate) fn candidate(candidate: &Candidate, costs: &CostModel) -> Value {
    let interval = costs.interval(&candidate.trace);
    let parts = Parts::of(candidate);
    let [measured, interpolated, modelled] = candidate.trace.shares;
    json!({
        "plan": plan(&candidate.plan),
        "step_seconds": candidate.trace.step,
        "step_seconds_between": [interval.low, interval.high],
        "estimated_seconds": candidate.estimated,
        "simulated": match candidate.extent {
            Extent::Whole => "whole",
            Extent::Extended => "in part",
        },
        "devices": candidate.plan.rank_count(),
        "peak_bytes": candidate.peak,
        "programs": Digest(candidate.digest).to_string(),
        "compute_seconds": parts.compute,
        "exposed_exchange_seconds": parts.exchange,
        "idle_seconds": parts.idle,
        "totals": candidate.trace.totals.iter().map(totals).collect::<Vec<_>>(),
        "trust": {
            "measured_seconds": measured,
            "interpolated_seconds": interpolated,
            "modelled_seconds": modelled,
        },
    })
}

fn totals(totals: &Totals) -> Value {
    let Totals { rank, compute, exchange, transfer, hidden, idle, arena } = *totals;
    json!({
        "rank": rank,
        "compute_seconds": compute,
        "exchange_seconds": exchange,
        "transfer_seconds": transfer,
        "hidden_seconds": hidden,
        "idle_seconds": idle,
        "arena_bytes": arena,
    })
}

/// A plan in the words of its file.
pub(crate) fn plan(plan: &Plan) -> Value {
    let stages: Vec<[u32; 2]> = plan.stages.iter().map(|stage| [stage.start, stage.end]).collect();
    let runs = plan.runs();
    let layers: Vec<Value> = runs
        .iter()
        .map(|(layers, strategy)| {
            let Strategy { data, tensor, sequence, shard, recompute } = strategy;
            json!({
                "layers": [layers.start, layers.end],
                "data": data,
                "tensor": tensor,
                "sequence": sequence_word(*sequence),
                "shard": shard_word(*shard),
                "recompute": recompute_word(*recompute),
            })
        })
        .collect();
    json!({
        "batch": plan.batch,
        "microbatches": plan.microbatches,
        "schedule": schedule_word(plan.schedule),
        "precision": precision_word(plan.precision),
        "prefetch": plan.prefetch,
        "stages": stages,
        "layers": layers,
        "layers_with_split_sequence": split_layers(plan).0,
        "layer_count": split_layers(plan).1,
    })
}

fn recipe(baseline: &Baseline, costs: &CostModel) -> Value {
    match &baseline.outcome {
        Ok(found) => json!({
            "name": baseline.name,
            "step_seconds": found.trace.step,
            "step_seconds_between": [costs.interval(&found.trace).low, costs.interval(&found.trace).high],
            "peak_bytes": found.peak,
            "microbatches": found.plan.microbatches,
        }),
        Err(failure) => {
            let needed = match failure {
                Unusable::Memory { needed, .. } => Some(*needed),
                Unusable::Illegal(_) => None,
            };
            json!({ "name": baseline.name, "failure": failure.to_string(), "needed_bytes": needed })
        }
    }
}
