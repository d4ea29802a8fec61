//! Problems as files: what docs/problem.md says to type, what is dumped, imported and written back.

mod place;

use std::fs;
use std::path::{Path, PathBuf};

use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in a folder of the root").to_owned()
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be made");
    for entry in fs::read_dir(from).expect("there are files") {
        let path = entry.expect("it can be read").path();
        fs::copy(&path, to.join(path.file_name().expect("a file has a name"))).expect("it can be copied");
    }
}

#[track_caller]
fn typed(folder: &Path, arguments: &[&str]) -> String {
    let (status, text, said) = status_and_texts(&run(folder, arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{arguments:?}: {text}");
    text
}

#[track_caller]
fn solved(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&typed(folder, &[&["solve"], arguments].concat())).expect("answers are JSON")
}

#[test]
fn the_commands_of_the_description_work_in_their_order() {
    let folder = folder("problem-description");
    copy(&root().join("examples/problems"), &folder.join("examples/problems"));
    let text = fs::read_to_string(root().join("docs/problem.md")).unwrap();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("$ hetu-plan ")).collect();
    assert!(lines.len() >= 5, "only {lines:?} were found");
    for line in lines {
        typed(&folder, &line.split(' ').collect::<Vec<&str>>());
    }
}

#[test]
fn the_example_has_one_optimum_by_all_methods() {
    let folder = folder("problem-example");
    copy(&root().join("examples/problems"), &folder);
    let methods: &[&str] =
        if cfg!(feature = "ilp") { &["dynamic", "integer", "exhaustive"] } else { &["dynamic", "exhaustive"] };
    let answers: Vec<Value> =
        methods.iter().map(|method| solved(&folder, &["two-choices.json", "--method", method, "--gap", "0"])).collect();
    for answer in &answers {
        let number = |key: &str| answer[key].as_f64().unwrap();
        assert!((number("objective") - answers[0]["objective"].as_f64().unwrap()).abs() < 1e-9, "{answers:?}");
        assert!(number("gap") < 1e-6 && number("bound") <= number("objective"), "{answer}");
        assert_eq!((&answer["choice"], &answer["choices"]), (&answers[0]["choice"], &Value::from(2)));
        assert!((number("sequences_per_second") * number("objective") - 32.0).abs() < 1e-9);
        assert!(answer["strategies"].as_str().unwrap().contains(" × "), "{answer}");
    }
    assert_eq!(answers[0]["status"], "optimal");
}

#[test]
fn a_dumped_problem_is_the_one_that_was_solved() {
    let folder = folder("problem-dump");
    let arguments = ["dump", "model.yaml", "--cluster", "4xCPU", "--batch", "4", "-o", "out/problem.json"];
    let said = typed(&folder, &arguments);
    let document: Value = serde_json::from_str(&fs::read_to_string(folder.join("out/problem.json")).unwrap()).unwrap();
    assert_eq!(document["format"], 1);
    let answer = solved(&folder, &["out/problem.json"]);
    let kept = document["choices"][0]["least_sum"].as_f64().unwrap();
    assert_eq!(answer["objective"].as_f64().unwrap().to_bits(), kept.to_bits(), "{said}");
    // Behind `--` stand options of planning.
    typed(&folder, &[&arguments[..], &["--", "--stages", "2"]].concat());
    let document: Value = serde_json::from_str(&fs::read_to_string(folder.join("out/problem.json")).unwrap()).unwrap();
    assert_eq!(document["choices"][0]["problem"]["stages"].as_array().unwrap().len(), 2);
    refused(&folder, &[&arguments[..], &["--", "--nonsense"]].concat(), 2);
}

fn case(name: &str, folder: &Path) {
    copy(&root().join("planner/tests/import").join(name), folder);
}

#[test]
fn an_imported_problem_is_solved_and_written_back() {
    let folder = folder("problem-import");
    case("llama-28-layers", &folder.join("profiles"));
    let said = typed(&folder, &["import", "galvatron", "profiles"]);
    assert!(said.starts_with("Wrote problem.json: 11 outer choices."), "{said}");
    let answer = solved(&folder, &["problem.json", "--strategy", "strategy.json"]);
    assert_eq!(answer["status"], "optimal");
    assert!((answer["objective"].as_f64().unwrap() - 24.041_282_813).abs() < 1e-6, "{answer}");
    let strategy: Value = serde_json::from_str(&fs::read_to_string(folder.join("strategy.json")).unwrap()).unwrap();
    assert_eq!((&strategy["vtp"], &strategy["embed_sdp"], &strategy["vocab_sdp"]), (&8.into(), &0.into(), &0.into()));
    assert_eq!(strategy["tp_sizes_enc"].as_str().unwrap().split(',').count(), 28);
    // With memory without end, and in another batch: other settings, other answers.
    typed(&folder, &["import", "galvatron", "profiles", "--memory", "80", "--batch", "32", "--microbatches", "16"]);
    let roomy = solved(&folder, &["problem.json"]);
    assert!(roomy["choice"].as_str().unwrap().starts_with("batch 32, 16 microbatches"), "{roomy}");
    typed(&folder, &["import", "galvatron", "profiles", "--memory", "2"]);
    assert!(refused(&folder, &["solve", "problem.json"], 1).contains("no assignment fits: stage "));
    typed(&folder, &["import", "galvatron", "profiles", "--memory", "80", "--batch", "32", "--microbatches", "16"]);
    // A little time is enough for an answer with a bound.
    let hasty = solved(&folder, &["problem.json", "--time-limit", "0.001"]);
    assert!(hasty["bound"].as_f64().unwrap() <= roomy["objective"].as_f64().unwrap(), "{hasty}");
}

#[test]
fn what_profiles_lack_is_named_by_file_and_key() {
    let folder = folder("problem-lacks");
    let profiles = folder.join("profiles");
    case("llama-28-layers", &profiles);
    let import = ["import", "galvatron", "profiles"];
    fs::remove_file(profiles.join("overlap_coefficient.json")).unwrap();
    fs::write(profiles.join("p2p_bandwidth_1nodes_8gpus_per_node.json"), "{\"pp_size_2\": 147.32, \"pp_size_4\": -3}")
        .unwrap();
    let said = refused(&folder, &import, 2);
    for lack in [
        "profiles/overlap_coefficient*.json: there is no such file",
        "p2p_bandwidth_1nodes_8gpus_per_node.json: pp_size_8 is missing; profile it",
        "p2p_bandwidth_1nodes_8gpus_per_node.json: pp_size_4 is -3; expected a number",
        "help: profile again",
    ] {
        assert!(said.contains(lack), "{lack} is missing in\n{said}");
    }
    fs::write(profiles.join("overlap_coefficient.json"), "{\n\"overlap_coe\" 1}").unwrap();
    assert!(refused(&folder, &import, 2).contains("overlap_coefficient.json:2: "));
    fs::write(profiles.join("case.json"), "{\"model_layer_configs\": []}").unwrap();
    assert!(refused(&folder, &import, 2).contains("case.json: model_layer_configs is empty"));
    fs::remove_file(profiles.join("case.json")).unwrap();
    assert!(refused(&folder, &import, 2).contains("give --settings FILE"));
}

#[test]
fn what_problems_cannot_be_is_named() {
    let folder = folder("problem-wrong");
    let text = fs::read_to_string(root().join("examples/problems/two-choices.json")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("cuts.json", &text.replace("\"cuts\": [0]", "\"cuts\": [0, 0]"));
    assert!(
        refused(&folder, &["solve", "cuts.json"], 2).contains("cuts.json: choices[1]: cuts has 2 entries; expected 1")
    );
    write("format.json", &text.replace("\"format\": 1", "\"format\": 7"));
    assert!(refused(&folder, &["solve", "format.json"], 2).contains("format is 7; expected 1"));
    write("key.json", &text.replace("\"sequences\"", "\"sequence\""));
    assert!(refused(&folder, &["solve", "key.json"], 2).contains("unknown field `sequence`"));
    write("good.json", &text);
    let said = refused(&folder, &["solve", "good.json", "--strategy", "strategy.json"], 2);
    assert!(said.contains("needs choices with a meaning"), "{said}");
}
