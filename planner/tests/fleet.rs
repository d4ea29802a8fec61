//! `hetu-plan` for unlike devices and by money, as a user meets it.

mod place;

use std::fs;

use ir::file::{parse_plan, parse_trace};
use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

/// One fast device, and two that are half as fast and cost a quarter.
const MIXED: &str = "\
format: 1
name: mixed
parts:
  - name: fast
    nodes: 1
    devices_per_node: 1
    device:
      name: F
      execution: concurrent
      memory: 20 GiB
      reserved: 1 GiB
      f32_rate: 20 TFLOP/s
      bf16_rate: 40 TFLOP/s
      memory_rate: 800 GB/s
      issue: 3 µs
      product_efficiency: 0.8
      memory_efficiency: 0.8
      price_per_hour: 4
      currency: EUR
      source: invented
    inside: { name: wire, rate: 50 GB/s, latency: 5 µs, efficiency: 0.8 }
  - name: slow
    nodes: 1
    devices_per_node: 2
    device:
      name: S
      execution: concurrent
      memory: 12 GiB
      reserved: 1 GiB
      f32_rate: 10 TFLOP/s
      bf16_rate: 20 TFLOP/s
      memory_rate: 400 GB/s
      issue: 6 µs
      product_efficiency: 0.8
      memory_efficiency: 0.8
      price_per_hour: 1
      currency: EUR
      source: invented
    inside: { name: wire, rate: 50 GB/s, latency: 5 µs, efficiency: 0.8 }
between: { name: wire, rate: 50 GB/s, latency: 5 µs, efficiency: 0.8 }
";

const PLAN: [&str; 7] = ["gpt2-124m", "--cluster", "mixed.yaml", "--batch", "8", "--keep", "4"];

fn answer(folder: &std::path::Path, more: &[&str]) -> Value {
    let arguments: Vec<&str> = PLAN.into_iter().chain(["--json"]).chain(more.iter().copied()).collect();
    let (status, text, said) = status_and_texts(&run(folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn a_plan_over_parts_is_written_told_and_checked() {
    let folder = folder("fleet");
    fs::write(folder.join("mixed.yaml"), MIXED).unwrap();
    let (status, text, said) = status_and_texts(&run(&folder, &PLAN));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    for words in
        ["Stages of the first plan", "one part alone", "cost of a step", "EUR a step", "1 of 1 fast, 2 of 2 slow"]
    {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    assert!(text.contains("× faster than the best plan on"), "{text}");
    let written = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let file = parse_plan(&written("plan.yaml"), "plan.yaml").unwrap();
    assert_eq!(file.parts.len(), file.plan.stages.len());
    assert!(["fast", "slow"].iter().all(|name| file.parts.iter().any(|part| part == name)), "{:?}", file.parts);
    let predicted = file.predicted.unwrap();
    let trace = parse_trace(&written("plan.trace"), "plan.trace").unwrap();
    assert_eq!((trace.digest, trace.step), (predicted.programs.0, predicted.step));

    let (status, text, _) = status_and_texts(&run(&folder, &["check", "plan.yaml"]));
    assert!(status == 0 && text.ends_with("Checked plan.yaml: it is legal and fits\n"), "{text}");
    let first = file.parts[0].clone();
    fs::write(folder.join("wrong.yaml"), written("plan.yaml").replacen(&format!("parts: [{first}"), "parts: [none", 1))
        .unwrap();
    let said = refused(&folder, &["check", "wrong.yaml"], 1);
    assert!(said.contains("stage 0 lies on `none`, which is no part of the cluster"), "{said}");
    fs::write(folder.join("mixed.yaml"), MIXED.replace("12 GiB", "1100 MiB")).unwrap();
    let digest = |line: &str| line.split(", digest").next().unwrap().to_owned() + " }";
    let text = written("plan.yaml");
    let undigested = text.lines().map(|line| if line.starts_with("cluster:") { digest(line) } else { line.to_owned() });
    fs::write(folder.join("small.yaml"), undigested.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let said = refused(&folder, &["check", "small.yaml"], 1);
    assert!(said.contains("small.yaml: on slow: stage "), "{said}");
    let said = refused(&folder, &["compile", "small.yaml"], 2);
    assert!(said.contains("mixed.yaml:3: this is a cluster of unlike parts"), "{said}");
}

#[test]
fn the_cheapest_plan_and_those_within_limits_are_found() {
    let folder = folder("money");
    fs::write(folder.join("mixed.yaml"), MIXED).unwrap();
    let number = |value: &Value| value.as_f64().expect("a number");
    let step = |answer: &Value| number(&answer["candidates"][0]["step_seconds"]);
    let cost = |answer: &Value| number(&answer["candidates"][0]["cost"]["cost_of_step"]);
    let fastest = answer(&folder, &[]);
    let cheapest = answer(&folder, &["--objective", "money"]);
    assert!(cost(&cheapest) < cost(&fastest) && step(&cheapest) > step(&fastest));
    assert!(cheapest["candidates"][0]["parts"].as_array().unwrap().iter().all(|part| part == "slow"));
    let first = &cheapest["candidates"][0];
    let of_hour = number(&first["devices"]) * 1.0;
    assert!((cost(&cheapest) / (of_hour * step(&cheapest) / 3600.0) - 1.0).abs() < 1e-9);

    let between = (step(&fastest) + step(&cheapest)) / 2.0;
    let limited = answer(&folder, &["--objective", "money", "--max-step", &format!("{between}s")]);
    assert!(step(&limited) <= between && cost(&limited) >= cost(&cheapest));
    let most = (cost(&fastest) + cost(&cheapest)) / 2.0;
    let limited = answer(&folder, &["--max-cost", &most.to_string()]);
    assert!(cost(&limited) <= most && step(&limited) >= step(&fastest));

    let arguments: Vec<&str> = PLAN.into_iter().chain(["--max-step", "1ms"]).collect();
    let said = refused(&folder, &arguments, 1);
    assert!(said.contains("no plan was found within --max-step 1.000 ms: the fastest plan takes"), "{said}");
    let said = refused(&folder, &["gpt2-124m", "--cluster", "2xH100", "--objective", "money"], 2);
    assert!(said.contains("nothing says what a H100 costs"), "{said}");
    let arguments: Vec<&str> = PLAN.into_iter().chain(["--explain"]).collect();
    assert!(refused(&folder, &arguments, 2).contains("--explain is not there where devices are unlike"));
}

#[test]
fn prices_of_alike_devices_are_told_too() {
    let folder = folder("priced");
    let cluster = ir::file::print_cluster(&ir::cluster::Cluster::preset("4xCPU").unwrap());
    fs::write(folder.join("priced.yaml"), cluster.replace("  source:", "  price_per_hour: 0.5\n  source:")).unwrap();
    let (status, text, said) =
        status_and_texts(&run(&folder, &["model.yaml", "--cluster", "priced.yaml", "--batch", "4"]));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    assert!(text.contains("\nCost      ") && text.contains(" a step, "), "{text}");
}
