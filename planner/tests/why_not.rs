//! `hetu-plan --why-not`: what a plan that one had in mind would take, or what forbids it.

mod place;

use std::path::Path;

use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

fn asked(folder: &Path, model: &str, fixed: &[&str], more: &[&str]) -> String {
    let mut arguments = vec![model, "--batch", "8", "--keep", "1", "-o", "out/plan.yaml"];
    arguments.extend(fixed.iter().flat_map(|fixed| ["--why-not", fixed]));
    arguments.extend(more);
    let (status, text, said) = status_and_texts(&run(folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    text
}

fn documents(folder: &Path, fixed: &[&str]) -> Value {
    let text = asked(folder, "model.yaml", fixed, &["--cluster", "4xH100", "--json"]);
    serde_json::from_str::<Value>(&text).expect("a document")["why_not"].clone()
}

#[test]
fn a_fixed_plan_is_the_best_that_has_what_is_fixed() {
    let folder = folder("why-not-found");
    let found = documents(&folder, &["tensor=2 stages=2", "data=2", "recompute=full"]);
    let [fixed, data, again] = [0, 1, 2].map(|index: usize| &found[index]);
    let plan = &fixed["best"]["plan"];
    assert_eq!((fixed["standing"].as_str(), plan["stages"].as_array().map(Vec::len)), (Some("fits"), Some(2)));
    let layers = |each: &Value, key: &str| -> Vec<u64> {
        let layers = each["best"]["plan"]["layers"].as_array().expect("layers").iter();
        layers.map(|layer| layer[key].as_u64().expect("a degree")).collect()
    };
    assert!(layers(fixed, "tensor").iter().all(|degree| *degree == 2), "{fixed}");
    assert!(layers(data, "data").iter().all(|degree| *degree == 2), "{data}");
    assert!(again["why"].as_str().is_some_and(|why| why.contains("computes again")), "{again}");
    // The same search that options make.
    let arguments = [
        "model.yaml",
        "--cluster",
        "4xH100",
        "--batch",
        "8",
        "--keep",
        "1",
        "--tensor",
        "2",
        "--stages",
        "2",
        "--json",
    ];
    let (_, text, _) = status_and_texts(&run(&folder, &arguments));
    let alone: Value = serde_json::from_str(&text).expect("a document");
    assert_eq!(fixed["best"]["step_seconds"], alone["candidates"][0]["step_seconds"]);
    let text = asked(&folder, "model.yaml", &["tensor=2   stages=2"], &["--cluster", "4xH100"]);
    assert!(text.contains("  (the first plan)") && text.contains("\n  tensor=2 stages=2 "), "{text}");
}

#[test]
fn what_forbids_a_plan_is_named_with_its_numbers() {
    let folder = folder("why-not-illegal");
    for (fixed, why) in [
        ("tensor=3", "not legal: tensor 3 does not divide the 4 devices"),
        ("stages=4 tensor=2", "not legal: tensor 2 times stages 4 do not divide the 4 devices"),
        ("microbatches=3", "not legal: microbatches 3 does not divide the batch of 8 sequences"),
        ("data=3", "not legal: data 3 does not divide the 8 sequences that go together"),
        (
            "data=8 stages=2",
            "not legal: data 8 times 1 of a product times 2 stages are 16 ranks, more than the 4 devices",
        ),
        ("tensor=4 stages=1 shard=parameters", "not legal: shard has no effect: tensor times stages are all devices"),
    ] {
        let found = documents(&folder, &[fixed]);
        let said = found[0]["why"].as_str().expect("a reason");
        assert!(said.starts_with(why) && found[0]["standing"] == "not-legal", "{fixed}: {said}");
    }
}

#[test]
fn a_size_that_cannot_be_cut_is_named() {
    let folder = folder("why-not-uneven");
    let more = ["--cluster", "4xH100", "--sequence-length", "63", "--json"];
    let text = asked(&folder, "model.yaml", &["tensor=2 sequence=split"], &more);
    let document: Value = serde_json::from_str(&text).expect("a document");
    let said = document["why_not"][0]["why"].as_str().expect("a reason").to_owned();
    assert!(
        said.starts_with("not legal: layer 0: ") && said.ends_with(" 63 cannot be cut into 2 equal parts"),
        "{said}"
    );
}

#[test]
fn a_plan_that_does_not_fit_says_what_it_needs_and_would_take() {
    let folder = folder("why-not-memory");
    let fixed = ["shard=nothing data=2 recompute=nothing"];
    let cluster = include_str!("../../examples/clusters/8xH100.yaml");
    let small =
        cluster.replace("devices_per_node: 8", "devices_per_node: 2").replace("memory: 79.1 GiB", "memory: 16 GiB");
    assert_ne!(small, cluster);
    std::fs::write(folder.join("small.yaml"), small).expect("the folder can be written");
    let text = asked(&folder, "llama-1b", &fixed, &["--cluster", "small.yaml", "--json"]);
    let document: Value = serde_json::from_str(&text).expect("a document");
    let found = &document["why_not"][0];
    assert_eq!(found["standing"], "too-large", "{found}");
    let bytes = |name: &str| found["shortage"][name].as_u64().expect("bytes");
    let needed = bytes("state_bytes") + bytes("saved_bytes") + bytes("transient_bytes");
    assert!(needed > bytes("capacity_bytes") && found["best"]["peak_bytes"].as_u64() > Some(bytes("capacity_bytes")));
    assert!(found["why"].as_str().is_some_and(|why| why.contains("the step is that with memory enough")), "{found}");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = folder("why-not-wrong");
    for (fixed, why) in [("tp=2", "`tp` is none of tensor"), ("tensor", "has no value"), ("", "nothing is fixed")] {
        assert!(refused(&folder, &["model.yaml", "--cluster", "4xCPU", "--why-not", fixed], 2).contains(why));
    }
}
