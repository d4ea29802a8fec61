//! `hetu-plan --sweep`: one plan for each value, side by side.

mod place;

use std::fs;
use std::path::Path;
use std::process::Command;

use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

fn swept(folder: &Path, sweep: &str, more: &[&str]) -> String {
    let begin = ["model.yaml", "--cluster", "4xH100", "--batch", "8", "--keep", "1", "--sweep", sweep];
    let arguments: Vec<&str> = begin.into_iter().chain(more.iter().copied()).collect();
    let (status, text, said) = status_and_texts(&run(folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    text
}

fn document(folder: &Path, sweep: &str, more: &[&str]) -> Value {
    let more: Vec<&str> = more.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&swept(folder, sweep, &more)).expect("a document")
}

/// The best step of one plan, asked for by itself.
fn step(folder: &Path, cluster: &str, more: &[&str]) -> Value {
    let begin = ["model.yaml", "--cluster", cluster, "--json", "--keep", "1", "-o", "one/plan.yaml"];
    let arguments: Vec<&str> = begin.into_iter().chain(more.iter().copied()).collect();
    let (status, text, said) = status_and_texts(&run(folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    let document: Value = serde_json::from_str(&text).expect("a document");
    document["candidates"][0]["step_seconds"].clone()
}

#[test]
fn each_point_is_the_plan_that_is_found_by_itself() {
    let folder = folder("sweep-points");
    let swept = document(&folder, "devices=2,4,6", &[]);
    assert_eq!(swept["sweep"], "devices");
    let points = swept["points"].as_array().expect("points");
    for (point, (nodes, cluster)) in points.iter().zip([(1, "2xH100"), (1, "4xH100"), (2, "2x3xH100")]) {
        assert_eq!(point["nodes"], nodes);
        assert_eq!(point["step_seconds"], step(&folder, cluster, &["--batch", "8"]), "{cluster}");
    }
    let [first, second] =
        [0, 1].map(|index: usize| points[index]["speed"]["tokens_per_second_per_device"].as_f64().unwrap());
    assert!((points[1]["efficiency"].as_f64().unwrap() - second / first).abs() < 1e-12);
    let batches = document(&folder, "batch=4,8", &[]);
    assert_eq!(batches["points"][0]["step_seconds"], step(&folder, "4xH100", &["--batch", "4"]));
    let sequences = document(&folder, "sequence=64,128", &[]);
    let longer = step(&folder, "4xH100", &["--batch", "8", "--sequence-length", "64"]);
    assert_eq!(sequences["points"][0]["step_seconds"], longer);
}

#[test]
fn any_count_of_threads_gives_the_same_bytes() {
    let folder = folder("sweep-threads");
    let with = |threads: &str| {
        let program = env!("CARGO_BIN_EXE_hetu-plan");
        let arguments = ["model.yaml", "--cluster", "4xH100", "--keep", "2", "--sweep", "devices=1..8", "--json"];
        let run = Command::new(program).args(arguments).env("RAYON_NUM_THREADS", threads).current_dir(&folder).output();
        run.expect("the program starts").stdout
    };
    let first = with("1");
    assert!(!first.is_empty() && first == with("3"));
}

#[test]
fn points_without_a_plan_say_why_and_the_others_go_on() {
    let folder = folder("sweep-nothing");
    let arguments = ["llama-1b", "--cluster", "2xH100", "--batch", "2", "--keep", "1", "--sweep", "memory=1,3,80"];
    let (status, text, said) = status_and_texts(&run(&folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    assert!(
        text.contains("  memory=1: `device.reserved` (2.0 GiB) leaves nothing of `device.memory` (1.0 GiB)"),
        "{text}"
    );
    assert!(text.contains("  no plan fits 962.6 MiB: the least found needs "), "{text}");
    assert!(text.contains("fastest with memory 80 "), "{text}");
    let document = document(&folder, "batch=8,16", &["--microbatches", "16"]);
    let why = document["points"][0]["failure"].as_str().expect("a reason");
    assert_eq!(why, "--microbatches 16 does not divide the batch of 8 sequences");
    assert!(document["points"][1]["failure"].is_null());
    let arguments = ["model.yaml", "--cluster", "4xH100", "--sweep", "memory=1"];
    let (status, text, said) = status_and_texts(&run(&folder, &arguments));
    assert_eq!((status, said.as_str()), (1, ""));
    assert!(text.ends_with("no point has a plan\n"), "{text}");
}

#[test]
fn a_sweep_is_a_table_and_a_page_and_no_plan() {
    let folder = folder("sweep-files");
    let text = swept(
        &folder,
        "devices=2..4",
        &["--csv", "out/sweep.csv", "--report", "page", "--tokens", "1B", "--price", "2"],
    );
    assert!(text.contains("Wrote out/sweep.csv, page/sweep.html: fastest with devices "), "{text}");
    let table = fs::read_to_string(folder.join("out/sweep.csv")).expect("the table");
    let mut lines = csv::Reader::from_reader(table.as_bytes());
    let header = lines.headers().expect("a header").clone();
    let at = |name: &str| header.iter().position(|found| found == name).unwrap_or_else(|| panic!("{name}: {header:?}"));
    let rows: Vec<csv::StringRecord> = lines.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.iter().map(|row| &row[at("devices")]).collect::<Vec<_>>(), ["2", "4"]);
    let number = |row: &csv::StringRecord, name: &str| row[at(name)].parse::<f64>().expect("a number");
    for row in &rows {
        // A billion tokens cost what their device-hours cost.
        let cost = 2.0 * number(row, "device_hours_per_billion_tokens");
        assert!((number(row, "training_price") - cost).abs() < 1e-9 * cost);
        assert!(number(row, "share_of_peak") > 0.0 && number(row, "peak_bytes") > 0.0);
    }
    assert!(rows.iter().any(|row| &row[at("efficient")] == "true"));
    let page = fs::read_to_string(folder.join("page/sweep.html")).expect("the page");
    assert!(page.contains("tiny-llama on H100, by devices"), "{page}");
    assert!(["throughput.svg", "cost.svg", "frontier.png"].iter().all(|name| folder.join("page").join(name).exists()));
    assert!(!folder.join("plan.yaml").exists());
}

#[test]
fn wrong_sweeps_are_refused() {
    let folder = folder("sweep-wrong");
    let wrong = |arguments: &[&str]| {
        let begin = ["model.yaml", "--cluster", "4xCPU"];
        refused(&folder, &begin.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>(), 2)
    };
    assert!(wrong(&["--sweep", "devices=8..4"]).contains("8..4 is empty"));
    assert!(wrong(&["--sweep", "nodes=8"]).contains("`nodes` is none of devices, batch, memory, sequence"));
    assert!(wrong(&["--sweep", "devices=2", "--pick", "2"]).contains("cannot be used with"));
    assert!(wrong(&["--csv", "x.csv"]).contains("--sweep"));
    assert!(wrong(&["--sweep", "devices=2", "--method", "exhaustive"]).contains("use --method dp"));
}
