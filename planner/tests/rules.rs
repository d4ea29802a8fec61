//! Searches that are told what plans may be: fixed dimensions, one strategy for all layers, memory that stays free,
//! other sequences.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;

use cost_model::CostModel;
use hetu_planner::{Known, Mix, Request, Rules, Setting, Space, candidate, outer_choices_within, search};
use ir::cluster::Cluster;
use ir::file::{parse_model, parse_plan};
use ir::plan::{Plan, Recompute};
use place::{MODEL, folder, refused, run, status_and_texts};
use serde_json::Value;

fn answer(name: &str, arguments: &[&str]) -> Value {
    let folder = folder(name);
    let arguments = [arguments, &["--json"]].concat();
    let (status, text, said) = status_and_texts(&run(&folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// All uniform plans of two blocks on four ranks, every cut of every one simulated: none is faster than the first found
/// by more than estimates of cuts are off (0.6 % is the most that was seen).
#[test]
fn the_first_uniform_plan_is_hardly_slower_than_the_best_of_all() {
    let model = parse_model(&MODEL.replace("layers: 6", "layers: 2"), "m").unwrap();
    for cluster in ["4xCPU", "4xA100-40GB"] {
        let (graph, cluster) = (model.graph(), Cluster::preset(cluster).unwrap());
        let costs = CostModel::new(&cluster, None);
        let setting = Setting {
            graph: &graph,
            cluster: &cluster,
            costs: &costs,
            precision: model.training.precision,
            line: None,
        };
        let rules = Rules { mix: Mix::Uniform, ..Rules::default() };
        let request = Request { setting, batch: 8, method: solver::Method::DYNAMIC, keep: 4, rules: rules.clone() };
        let found = search(&request, &|_, _| {}).unwrap();
        for each in &found.candidates {
            assert!(is_uniform(&each.plan), "{:?}", each.plan);
        }
        let mut best = f64::INFINITY;
        for outer in outer_choices_within(&graph, &cluster, 8, &rules) {
            let Some(space) = Space::new(setting, &Known::default(), &outer) else { continue };
            for cuts in cuts(outer.stages as usize, graph.layers.len()) {
                let assignment = solver::Assignment { cuts, strategies: vec![0; graph.layers.len()] };
                let plan = space.plan(&assignment, setting.precision);
                best = candidate(setting, &plan).map_or(best, |found| best.min(found.trace.step.0));
            }
        }
        let step = found.candidates[0].trace.step.0;
        assert!(step <= best * 1.01, "{}: {step} beside {best}", cluster.name);
    }
}

/// First layers of so many stages, in all ways.
fn cuts(stages: usize, layers: usize) -> Vec<Vec<usize>> {
    (0..1_usize << (layers - 1))
        .filter(|set| set.count_ones() as usize + 1 == stages)
        .map(|set| std::iter::once(0).chain((1..layers).filter(|layer| set >> (layer - 1) & 1 == 1)).collect())
        .collect()
}

fn is_uniform(plan: &Plan) -> bool {
    let last = plan.strategies.len() - 1;
    let blocks = &plan.strategies[1..last];
    let parts = |layer: usize| {
        let of = &plan.strategies[layer];
        (of.data, of.tensor, of.sequence, of.shard)
    };
    blocks.iter().all(|block| *block == blocks[0])
        && parts(0) == parts(1)
        && parts(last) == parts(1)
        && plan.strategies[last].recompute == Recompute::Nothing
}

#[test]
fn uniform_plans_say_what_they_cost_and_are_exported_whole() {
    let model = ["model.yaml", "--cluster", "4xCPU", "--batch", "8", "--uniform"];
    let document = answer("rules-uniform", &model);
    let free = document["best_with_unlike_layers_seconds"].as_f64().unwrap();
    assert!(document["candidates"][0]["step_seconds"].as_f64().unwrap() >= free);
    let (_, text, _) = status_and_texts(&run(&folder("rules-uniform"), &model));
    assert!(text.contains("\nUniform   ") && text.contains("beside the best plan with unlike layers, "), "{text}");
    let place = folder("rules-export");
    let (status, ..) = status_and_texts(&run(&place, &[&model[..], &["--recompute", "full"]].concat()));
    assert_eq!(status, 0);
    let (status, _, said) = status_and_texts(&run(&place, &["export", "plan.yaml", "--to", "megatron"]));
    assert_eq!((status, said.as_str()), (0, ""));
    let exhaustive = [&model[..], &["--method", "exhaustive", "--json"]].concat();
    let (status, text, _) = status_and_texts(&run(&place, &exhaustive));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(status == 0 && document["best_with_unlike_layers_seconds"].is_null(), "{text}");
}

#[test]
fn what_is_fixed_is_so_in_every_plan() {
    let model = ["model.yaml", "--cluster", "4xCPU", "--batch", "8"];
    let fixed = ["--tensor", "2", "--stages", "2", "--microbatches", "4", "--recompute", "full", "--schedule", "gpipe"];
    let document = answer("rules-fixed", &[&model[..], &fixed].concat());
    for each in document["candidates"].as_array().unwrap() {
        let plan = &each["plan"];
        assert_eq!((plan["stages"].as_array().unwrap().len(), plan["microbatches"].as_u64()), (2, Some(4)), "{plan}");
        assert_eq!(plan["schedule"], "gpipe");
        let layers = plan["layers"].as_array().unwrap();
        assert!(layers.iter().all(|layers| layers["tensor"] == 2), "{plan}");
        // Layers 1 and 2 are the blocks.
        let is_block =
            |layers: &&Value| layers["layers"][0].as_u64() < Some(3) && layers["layers"][1].as_u64() > Some(1);
        assert!(layers.iter().filter(is_block).all(|layers| layers["recompute"] == "full"), "{plan}");
    }
    let document = answer("rules-fixed", &[&model[..], &["--shard", "parameters", "--stages", "1"]].concat());
    let layers = |each: &Value| each["plan"]["layers"].as_array().unwrap().clone();
    let all: Vec<Value> = document["candidates"].as_array().unwrap().iter().flat_map(layers).collect();
    assert!(all.iter().all(|layers| layers["shard"] == "parameters" || layers["data"] == 1), "{all:?}");
    assert!(all.iter().any(|layers| layers["shard"] == "parameters"), "{all:?}");
}

#[test]
fn what_does_not_go_together_is_one_sentence() {
    let folder = folder("rules-wrong");
    for (options, what) in [
        (&["--tensor", "3"][..], "--tensor 3 does not divide the 4 devices"),
        (&["--tensor", "4", "--stages", "2"], "--tensor 4 times --stages 2 do not divide the 4 devices"),
        (&["--microbatches", "3"], "--microbatches 3 does not divide the batch of 8 sequences"),
        (
            &["--tensor", "1", "--stages", "1", "--microbatches", "4"],
            "--tensor 1 times --stages 1 leaves 4 ranks to share the 2 sequences of a microbatch",
        ),
        (&["--tensor", "4", "--stages", "1", "--shard", "optimizer"], "--shard has no effect: "),
        (&["--sequence-length", "0"], "invalid value '0'"),
        (&["--memory-headroom", "95%"], "give a percentage from 0% to 90%"),
    ] {
        let arguments = [&["model.yaml", "--cluster", "4xCPU", "--batch", "8"], options].concat();
        let said = refused(&folder, &arguments, 2);
        assert!(said.contains(what), "{options:?}: {said}");
    }
    let arguments = ["model.yaml", "--cluster", "8xCPU", "--batch", "8", "--stages", "8"];
    assert!(refused(&folder, &arguments, 2).contains("--stages 8 is more than the 4 layers of the model"));
    let arguments = ["gpt2-124m", "--cluster", "5xH100", "--tensor", "5"];
    assert!(refused(&folder, &arguments, 2).contains("--tensor 5 does not divide the sizes of layers"));
}

#[test]
fn headroom_is_left_free_and_told() {
    let planned = |name: &str, more: &[&str]| {
        answer(name, &[&["llama3-8b", "--cluster", "8xH100", "--batch", "64", "--stages", "1"], more].concat())
    };
    let bytes = |of: &Value| of.as_u64().unwrap();
    for (share, more) in [(0.02, &[][..]), (0.2, &["--memory-headroom", "20%"]), (0.0, &["--memory-headroom", "0"])] {
        let document = planned("rules-headroom", more);
        let (capacity, headroom) =
            (bytes(&document["cluster"]["capacity_bytes"]), bytes(&document["cluster"]["headroom_bytes"]));
        let memory = capacity as f64 + (2_u64 << 30) as f64;
        assert!((headroom as f64 - memory * share).abs() < 1e6, "{share}: {headroom}");
        for each in document["candidates"].as_array().unwrap() {
            assert!(bytes(&each["peak_bytes"]) <= capacity - headroom, "{share}: {each}");
        }
    }
    let document = answer("rules-headroom", &["model.yaml", "--cluster", "4xCPU", "--batch", "4", "--stages", "1"]);
    assert_eq!(document["cluster"]["headroom_bytes"], 0);
}

#[test]
fn other_sequences_are_a_model_beside_the_plan() {
    let place = folder("rules-sequence");
    let arguments = ["model.yaml", "--cluster", "4xCPU", "--batch", "4", "--sequence-length", "64", "-o", "out/p.yaml"];
    let (status, text, said) = status_and_texts(&run(&place, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    assert!(text.contains("sequences of 64 tokens") && text.contains("out/tiny-llama-64.yaml"), "{text}");
    let file = parse_plan(&fs::read_to_string(place.join("out/p.yaml")).unwrap(), "p").unwrap();
    assert_eq!(file.model.path, "tiny-llama-64.yaml");
    let (status, text, said) = status_and_texts(&run(&place, &["check", "out/p.yaml"]));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    fs::write(place.join("out/tiny-llama-64.yaml"), MODEL).unwrap();
    assert!(refused(&place, &arguments, 2).contains("out/tiny-llama-64.yaml is another model"));
}
