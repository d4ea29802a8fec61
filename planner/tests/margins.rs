//! What more of a resource would give, and how plans do where prices are wrong.

mod place;

use std::path::Path;

use place::{folder, run, status_and_texts};
use serde_json::Value;

fn planned(folder: &Path, arguments: &[&str]) -> String {
    let all: Vec<&str> = arguments.iter().copied().chain(["-o", "out/plan.yaml"]).collect();
    let (status, text, said) = status_and_texts(&run(folder, &all));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    text
}

fn document(folder: &Path, arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&planned(folder, &all)).expect("a document")
}

fn resource<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["shadow_prices"]["resources"].as_array().expect("resources");
    all.iter().find(|each| each["resource"] == name).unwrap_or_else(|| panic!("{name}: {document}"))
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key}: {value}"))
}

/// A cluster file of H100 whose memory is another.
fn cluster(folder: &Path, changes: &[(&str, &str)]) {
    let shipped = include_str!("../../examples/clusters/8xH100.yaml");
    let changed = changes.iter().fold(shipped.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    std::fs::write(folder.join("cluster.yaml"), changed).expect("the folder can be written");
}

#[test]
fn a_shadow_price_is_the_step_with_a_little_more() {
    let folder = folder("margins-price");
    cluster(&folder, &[("devices_per_node: 8", "devices_per_node: 2"), ("memory: 79.1 GiB", "memory: 16 GiB")]);
    let asked = ["llama-1b", "--cluster", "cluster.yaml", "--batch", "4", "--keep", "4"];
    let explained = document(&folder, &[&asked[..], &["--explain"]].concat());
    let best = number(&explained["candidates"][0], "step_seconds");
    let memory = resource(&explained, "memory of a device");
    assert!((number(memory, "more") - 0.8).abs() < 1e-6, "{memory}");
    let price = number(memory, "seconds_per_unit");
    // What lacks memory computes again: more of it makes the step shorter, and a search with it finds that step.
    assert!(price > 0.0, "{memory}");
    cluster(&folder, &[("devices_per_node: 8", "devices_per_node: 2"), ("memory: 79.1 GiB", "memory: 16.8 GiB")]);
    let more = document(&folder, &asked);
    let wanted = (best - number(&more["candidates"][0], "step_seconds")) / 0.8;
    assert!((price / wanted - 1.0).abs() < 0.05, "{price} beside {wanted}");
    assert!(number(resource(&explained, "rate of products"), "elasticity") > 0.3, "{explained}");
    assert_eq!(explained["shadow_prices"]["binding"], "rate of products");
    assert!(more["shadow_prices"].is_null());
}

#[test]
fn a_slow_link_binds_and_memory_in_plenty_gives_nothing() {
    let folder = folder("margins-link");
    cluster(&folder, &[("450 GB/s", "1 GB/s")]);
    let asked = ["model.yaml", "--cluster", "cluster.yaml", "--batch", "8", "--tensor", "2", "--keep", "2"];
    let explained = document(&folder, &[&asked[..], &["--explain"]].concat());
    assert_eq!(explained["shadow_prices"]["binding"], "link inside a node", "{explained}");
    assert!(number(resource(&explained, "memory of a device"), "seconds_per_unit").abs() < 1e-9);
    let text = planned(&folder, &[&asked[..], &["--explain"]].concat());
    assert!(text.contains("What more of a resource gives\n") && text.contains("binding: link inside a node; 1 % more"));
    let row = text.lines().find(|line| line.starts_with("  memory of a device ")).expect("a row");
    assert!(row.contains(" nothing ") && row.ends_with("stays"), "{row}");
}

#[test]
fn robust_plans_are_in_the_order_of_nine_of_ten_cases() {
    let folder = folder("robust");
    let asked = ["model.yaml", "--cluster", "4xH100", "--batch", "8", "--keep", "6"];
    let robust = document(&folder, &[&asked[..], &["--robust"]].concat());
    let plain = document(&folder, &asked);
    let candidates = robust["candidates"].as_array().expect("plans");
    let steps: Vec<f64> = candidates.iter().map(|each| number(&each["robust"], "step_seconds_90")).collect();
    assert!(steps.is_sorted() && steps.len() > 1, "{steps:?}");
    let shares: f64 = candidates.iter().map(|each| number(&each["robust"], "best_share")).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    let between = robust["robust"]["times_between"].as_array().expect("two ratios");
    let [low, high] = [0, 1].map(|end: usize| between[end].as_f64().expect("a number"));
    for each in candidates {
        // Kinds of work vary one by one, so a step varies less than each of them.
        let ratio = number(&each["robust"], "step_seconds_90") / number(each, "step_seconds");
        assert!((low..=high).contains(&ratio), "{low} {ratio} {high}");
    }
    assert_eq!(candidates.len(), plain["candidates"].as_array().map_or(0, Vec::len));
    assert!(plain["candidates"][0]["robust"].is_null());
    let text = planned(&folder, &[&asked[..], &["--robust"]].concat());
    assert!(text.contains("in 9 of 10") && text.contains("best in") && text.contains(" of 64 cases"), "{text}");
    assert_eq!(robust, document(&folder, &[&asked[..], &["--robust"]].concat()));
}
