//! `--mtbf`: what is said of saves and goodput, and which numbers are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const MODEL: &str = include_str!("../../examples/models/tiny-llama.yaml");
const LINE: &str = "model.yaml --cluster 4xCPU --batch 4 --keep 2";

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hetu-plan").join(name);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    fs::write(folder.join("model.yaml"), MODEL.replace("layers: 6", "layers: 2")).expect("the folder is ours");
    folder
}

fn run(folder: &Path, more: &str) -> Output {
    let line = format!("{LINE} {more}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hetu-plan"));
    command.args(line.split_whitespace()).current_dir(folder).output().expect("the program starts")
}

#[test]
fn a_plan_says_how_often_to_save_and_which_part_of_the_time_counts() {
    let folder = folder("failures");
    let output = run(&folder, "--mtbf 4h --save-rate 10MB/s");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in ["goodput", "step with failures", "Saves     every ", "one of 2 devices fails every 2.0 h"] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
    let output = run(&folder, "--mtbf 4h --save-rate 10MB/s --json");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("a document");
    let parameters = answer["model"]["parameters"].as_f64().unwrap();
    let failures = &answer["candidates"][0]["failures"];
    assert_eq!(failures["mtbf_seconds"], 7200.0);
    let save = failures["save_seconds"].as_f64().unwrap();
    assert!((save - 12.0 * parameters / 10e6).abs() < 1e-9, "{failures}");
    let [interval, share] = ["save_interval_seconds", "goodput"].map(|name| failures[name].as_f64().unwrap());
    assert!((interval / (2.0 * save * 7200.0).sqrt() - 1.0).abs() < 0.05 && share > 0.9 && share < 1.0, "{failures}");
    let output = run(&folder, "--json");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert!(answer["candidates"][0].get("failures").is_none(), "nothing is said of what was not asked");
}

#[test]
fn numbers_without_units_are_refused_with_an_example() {
    let folder = folder("failures-refused");
    for (more, words) in [
        ("--mtbf 4 --save-rate 2GB/s", "such as 4h"),
        ("--mtbf 0h --save-rate 2GB/s", "such as 4h"),
        ("--mtbf 4h --save-rate 2Gb/s", "such as 2GB/s"),
        ("--mtbf 4h --save-rate infGB/s", "such as 2GB/s"),
        ("--mtbf 4h", "--save-rate"),
        ("--save-rate 2GB/s", "--mtbf"),
    ] {
        let output = run(&folder, more);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more}: {errors}");
        assert!(errors.contains(words), "{more}: no `{words}` in\n{errors}");
    }
}
