//! What `hetu-plan` is asked besides for the best plan: short lists, other plans of the list, own plans, costs.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;

use ir::file::parse_plan;
use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

#[test]
fn a_short_list_begins_with_the_plan_that_a_long_one_begins_with() {
    let folder = folder("keep");
    let first = |keep: &str| {
        let arguments = ["llama3-8b", "--cluster", "4xH100", "--keep", keep, "--json"];
        let (status, text, said) = status_and_texts(&run(&folder, &arguments));
        assert_eq!((status, said.as_str()), (0, ""), "--keep {keep}: {text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        assert!(document["candidates"].as_array().unwrap().len() <= keep.parse().unwrap());
        document["candidates"][0].clone()
    };
    assert_eq!(first("1"), first("16"));
}

#[test]
fn another_plan_of_the_list_can_be_written_and_checked() {
    let folder = folder("pick");
    let plan = |more: &[&str]| run(&folder, &[&["tiny-llama", "--cluster", "4xCPU", "--keep", "3"], more].concat());
    let (status, text, said) = status_and_texts(&plan(&["--pick", "2", "-o", "new/folder/second.yaml", "--json"]));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let file = parse_plan(&fs::read_to_string(folder.join("new/folder/second.yaml")).unwrap(), "p").unwrap();
    assert_eq!(document["candidates"][1]["programs"], file.predicted.unwrap().programs.to_string());
    assert_eq!((file.model.path.as_str(), file.devices.unwrap().device.as_str()), ("tiny-llama", "CPU"));
    let (status, text, said) = status_and_texts(&run(&folder, &["check", "new/folder/second.yaml"]));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    let said = status_and_texts(&plan(&["--pick", "4"])).2;
    assert!(said.starts_with("error: --pick 4: the list has 3 plans"), "{said}");
}

#[test]
fn a_plan_of_options_costs_what_its_file_costs() {
    let folder = folder("spread");
    let options = ["--cluster", "2x8xH100", "--tensor", "8", "--stages", "2", "--microbatches", "16", "--batch", "64"];
    let more = ["--sequence", "split", "--recompute", "full", "-o", "out/mine.yaml", "--json"];
    let arguments = [&["check", "llama3-8b"], &options[..], &more].concat();
    let (status, text, said) = status_and_texts(&run(&folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    let asked: Value = serde_json::from_str(&text).unwrap();
    let plan = &asked["candidate"]["plan"];
    assert_eq!((&plan["stages"], &plan["layers"][0]["tensor"]), (&serde_json::json!([[0, 17], [17, 34]]), &8.into()));
    assert_eq!(plan["layers_with_split_sequence"], 34);
    let (_, text, _) = status_and_texts(&run(&folder, &["check", "out/mine.yaml", "--json"]));
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["candidate"], asked["candidate"]);
    assert!(folder.join("out/mine.trace").exists());
    for (more, what) in [
        (&["--tensor", "3"][..], "does not divide the 8 devices"),
        (&["--stages", "8", "--microbatches", "3"], "has no 3 microbatches"),
    ] {
        let said = refused(&folder, &[&["check", "llama3-8b", "--cluster", "8xH100"], more].concat(), 2);
        assert!(said.contains(what) && said.contains("help: "), "{said}");
    }
    assert!(refused(&folder, &["check", "llama3-8b", "--tensor", "2"], 2).contains("--cluster"));
}

#[test]
fn days_and_money_are_told_if_asked() {
    let folder = folder("costs");
    let check = ["check", "llama3-8b", "--cluster", "8xH100", "--shard", "parameters", "--recompute", "full"];
    let asked = [&check[..], &["--tokens", "1T", "--price", "2/device-hour"]].concat();
    let (status, text, said) = status_and_texts(&run(&folder, &asked));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    for word in ["Speed ", " tokens/s, ", " a device", "Training ", "1.00 T tokens in ", " days, ", " device-hours, "] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (_, text, _) = status_and_texts(&run(&folder, &[&asked[..], &["--json"]].concat()));
    let speed = &serde_json::from_str::<Value>(&text).unwrap()["candidate"]["speed"];
    let number = |key: &str| speed[key].as_f64().unwrap();
    let hours = 1e12 / number("tokens_per_second_per_device") / 3600.0;
    assert!((number("training_device_hours") / hours - 1.0).abs() < 1e-12, "{speed}");
    assert!((number("training_price") / (2.0 * hours) - 1.0).abs() < 1e-12, "{speed}");
    for wrong in [["--tokens", "many"], ["--price", "2"]] {
        refused(&folder, &[&check[..], &wrong].concat(), 2);
    }
}

#[test]
fn shipped_models_and_devices_are_listed_and_near_names_offered() {
    let folder = folder("shipped");
    let of = |command: &str| status_and_texts(&run(&folder, &[command])).1;
    assert!(of("models").contains("llama3-70b") && of("clusters").contains("A100-80GB"));
    let said = refused(&folder, &["llama3-7b", "--cluster", "8xH100"], 2);
    assert!(said.contains("did you mean `llama"), "{said}");
}

#[test]
fn advice_to_measure_names_devices_ranks_and_what_to_do_then() {
    let folder = folder("advice");
    for (cluster, devices) in [("2x8xH100", "--devices cuda --ranks 8"), ("4xCPU", "--devices cpu --ranks 4")] {
        let (_, text, _) = status_and_texts(&run(&folder, &["tiny-llama", "--cluster", cluster, "--keep", "1"]));
        let advice = text.split("to measure").nth(1).unwrap_or_else(|| panic!("no advice in\n{text}"));
        assert!(advice.contains(devices) && advice.contains("--cluster-out cluster.yaml"), "{advice}");
        assert!(advice.contains("--cluster cluster.yaml --profile profile.yaml"), "{advice}");
        assert_eq!(advice.contains("nodes: 2"), cluster.starts_with("2x"), "{advice}");
    }
}
