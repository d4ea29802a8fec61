//! `hetu-plan memory`, and how tables fit a terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::process::{Command, Output};

use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

fn rows(arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["memory"], arguments, &["--json"]].concat();
    let (status, text, said) = status_and_texts(&run(&folder("memory-rows"), &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{arguments:?}");
    let document: Value = serde_json::from_str(&text).unwrap();
    document["memory"].as_array().unwrap().clone()
}

fn row(rows: &[Value], devices: u64, zero: u64, recompute: &str) -> [u64; 5] {
    let is_it = |row: &&Value| row["devices"] == devices && row["zero"] == zero && row["recompute"] == recompute;
    let row = rows.iter().find(is_it).unwrap();
    ["parameters_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "total_bytes"]
        .map(|name| row[name].as_u64().unwrap())
}

/// bf16 parameters take 2 bytes, gradients 4, master and moments 12; each ZeRO stage divides one of them further
/// (Rajbhandari et al. 2020, figure 1). Tied tables count once.
#[test]
fn each_stage_divides_what_it_says() {
    for model in ["llama3-8b", "gpt2-124m"] {
        let rows = rows(&[model, "--devices", "1,4"]);
        let near = |found: u64, wanted: f64| (found as f64 / wanted - 1.0).abs() < 0.01;
        let [parameters, gradients, optimizer, _, total] = row(&rows, 1, 0, "nothing");
        let count = parameters as f64 / 2.0;
        assert!(near(gradients, 4.0 * count) && near(optimizer, 12.0 * count), "{model}: {rows:?}");
        assert_eq!(row(&rows, 1, 0, "nothing").iter().take(4).sum::<u64>(), total);
        let parts = |zero: u64| -> [u64; 3] { row(&rows, 4, zero, "full")[..3].try_into().unwrap() };
        for (zero, divided) in [(0, [1.0, 1.0, 1.0]), (1, [1.0, 1.0, 4.0]), (2, [1.0, 4.0, 4.0]), (3, [4.0, 4.0, 4.0])]
        {
            let wanted = [2.0, 4.0, 12.0].map(|bytes| bytes * count);
            for part in 0..3 {
                assert!(near(parts(zero)[part], wanted[part] / divided[part]), "{model}, ZeRO-{zero}: {rows:?}");
            }
        }
        assert!(row(&rows, 4, 3, "full")[3] < row(&rows, 4, 3, "nothing")[3]);
    }
}

#[test]
fn what_memory_says_is_what_a_plan_takes() {
    let rows = rows(&["llama3-8b", "--cluster", "8xH100", "--devices", "8"]);
    let [.., total] = row(&rows, 8, 3, "full");
    let plan = ["check", "llama3-8b", "--cluster", "8xH100", "--batch", "16", "--microbatches", "2"];
    let more = ["--shard", "parameters", "--recompute", "full", "--json"];
    let (_, text, _) = status_and_texts(&run(&folder("memory-check"), &[&plan[..], &more].concat()));
    let checked: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(checked["candidate"]["peak_bytes"], total);
    assert!(rows.iter().all(|row| row["fits"] == (row["total_bytes"].as_u64() <= checked["capacity_bytes"].as_u64())));
    let said = refused(&folder("memory-wrong"), &["memory", "llama3-8b", "--devices", "0"], 2);
    assert!(said.contains("invalid value '0'"), "{said}");
    assert!(refused(&folder("memory-wrong"), &["memory", "none.yaml"], 2).contains("cannot read none.yaml"));
}

fn with(place: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hetu-plan"));
    command.args(arguments).current_dir(folder(place));
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

const PLAN: [&str; 7] = ["model.yaml", "--cluster", "4xCPU", "--batch", "8", "--keep", "6"];
const MEMORY: [&str; 2] = ["memory", "llama3-70b"];

#[test]
fn tables_fit_the_terminal() {
    for columns in [80, 100, 120] {
        for arguments in [&PLAN[..], &MEMORY] {
            let (_, text, _) =
                status_and_texts(&with("memory-columns", arguments, &[("COLUMNS", &columns.to_string())]));
            // Commands stay on one line, to be copied.
            let commands = ["hetu-profile", "then plan with", "Wrote "];
            let tables = text.lines().filter(|line| !commands.iter().any(|part| line.contains(part)));
            let wide: Vec<&str> = tables.filter(|line| line.chars().count() > columns).collect();
            assert!(wide.is_empty(), "{columns}: {}", wide.join("\n"));
        }
    }
    let (_, text, _) = status_and_texts(&with("memory-columns", &PLAN, &[("COLUMNS", "80")]));
    // Lines are cut between words.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!text.contains("estimate off") && text.contains("% compute, "), "{text}");
    let (_, text, _) = status_and_texts(&with("memory-columns", &PLAN, &[]));
    assert!(text.contains("estimate off  why"), "{text}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let escapes = |variables: &[(&str, &str)]| {
        let (plan, wrong) =
            (with("memory-colours", &PLAN, variables), with("memory-colours", &["none.yaml"], variables));
        [plan.stdout, wrong.stderr].map(|bytes| bytes.contains(&0x1b))
    };
    assert_eq!(escapes(&[]), [false, false]);
    assert_eq!(escapes(&[("CLICOLOR_FORCE", "1")]), [true, true]);
    assert_eq!(escapes(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), [false, false]);
    let (_, text, _) = status_and_texts(&with("memory-colours", &MEMORY, &[("CLICOLOR_FORCE", "1")]));
    assert!(!text.contains('\u{1b}'), "nothing is said to fit or not");
    let fits = [&MEMORY[..], &["--cluster", "8xH100"]].concat();
    let (_, text, _) = status_and_texts(&with("memory-colours", &fits, &[("CLICOLOR_FORCE", "1")]));
    assert!(text.contains("\u{1b}[33mdoes not fit\u{1b}[0m"), "{text}");
}
