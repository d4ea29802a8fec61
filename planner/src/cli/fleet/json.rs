//! The answer on unlike devices as JSON.

use hetu_planner::Seated;
use ir::cluster::Cluster;
use serde_json::{Value, json};

use super::Question;
use super::pool::{Offer, Pool};
use super::text::Answer;
use crate::cli::costs::Speed;
use crate::cli::json;

/// The whole answer. Equal questions give equal documents.
pub(super) fn answer(answer: &Answer<'_>) -> Value {
    let Answer { question, pool, picked, written, .. } = answer;
    let model = &question.asked.model;
    json!({
        "format": 1,
        "model": {
            "name": model.name,
            "digest": model.digest().to_string(),
            "layers": model.layers,
            "parameters": question.graph.parameter_count(),
            "batch": question.batch,
        },
        "cluster": {
            "name": question.fleet.name,
            "devices": question.fleet.device_count(),
            "parts": question.fleet.parts.iter().zip(&question.roomy).map(part).collect::<Vec<_>>(),
        },
        "searched": searched(question, pool),
        "candidates": pool.offers.iter().map(|offer| candidate(question, offer)).collect::<Vec<_>>(),
        "alone": pool.alone.iter().zip(&question.fleet.parts).map(|(found, part)| match found {
            Ok(offer) => json!({
                "part": part.name,
                "step_seconds": offer.step(),
                "devices": offer.seated.candidate.plan.rank_count(),
                "cost": offer.cost.as_ref().map(|cost| cost.data()),
            }),
            Err(failure) => json!({ "part": part.name, "failure": failure }),
        }).collect::<Vec<_>>(),
        "picked": picked + 1,
        "written": written,
    })
}

fn part((part, roomy): (&Cluster, &Cluster)) -> Value {
    json!({
        "name": part.name,
        "device": part.device.name,
        "devices": part.device_count(),
        "capacity_bytes": roomy.capacity(),
        "price_per_hour": part.device.price_per_hour,
        "currency": part.device.currency,
    })
}

fn searched(question: &Question, pool: &Pool) -> Value {
    let counts = question.fleet.parts.iter().zip(&pool.counts);
    json!({
        "outer_choices": pool.choices[0],
        "simulated": pool.choices[1] + pool.mixed.simulated,
        "pipelines_over_parts": pool.mixed.ways,
        "pipelines_over_parts_solved": pool.mixed.solved,
        "devices_alone": counts.map(|(part, counts)| json!({ "part": part.name, "counts": counts })).collect::<Vec<_>>(),
    })
}

fn candidate(question: &Question, offer: &Offer) -> Value {
    let mut value = seated(question, &offer.seated);
    let devices = offer.seated.candidate.plan.rank_count();
    let speed = Speed::on(devices, question.tokens(), offer.step());
    value["tokens_per_second"] = json!(speed.tokens_per_second());
    value["cost"] = json!(offer.cost.as_ref().map(|cost| cost.data()));
    value
}

/// A plan with the part of each stage.
fn seated(question: &Question, Seated { candidate, parts }: &Seated) -> Value {
    let mut value = json::candidate(candidate, question.costs.part(parts[0]));
    let interval = question.costs.interval(&candidate.trace, parts);
    value["step_seconds_between"] = json!([interval.low, interval.high]);
    value["parts"] = json!(parts.iter().map(|&part| &question.fleet.parts[part].name).collect::<Vec<_>>());
    value
}
