//! Planning for a config.json: what is written beside the plan, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;
use std::path::{Path, PathBuf};

use ir::file::{parse_model, parse_plan};
use place::{folder, refused, run, status_and_texts};

/// A folder with a published one in it, named `hub`.
fn published(name: &str) -> PathBuf {
    let folder = folder(name);
    fs::remove_file(folder.join("model.yaml")).unwrap();
    fs::create_dir(folder.join("hub")).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/published/tiny-llama/config.json");
    fs::copy(from, folder.join("hub/config.json")).unwrap();
    folder
}

#[track_caller]
fn good(folder: &Path, line: &str) -> String {
    let (status, text, errors) = status_and_texts(&run(folder, &line.split(' ').collect::<Vec<_>>()));
    assert_eq!(status, 0, "{line}: {errors}");
    text
}

#[test]
fn a_published_model_is_written_beside_its_plan_with_a_recipe() {
    let folder = published("published");
    let text = good(&folder, "hub --cluster 4xCPU --batch 8 --sequence-length 32 --keep 1");
    assert!(text.contains("hub: 2 blocks") && text.contains("sequences of 32 tokens"), "{text}");
    assert!(text.contains("model.yaml"), "{text}");
    let model = fs::read_to_string(folder.join("model.yaml")).unwrap();
    let model = parse_model(&model, "model.yaml").unwrap();
    assert_eq!((model.name.as_str(), model.sequence, model.groups()), ("hub", 32, 2));
    let plan = parse_plan(&fs::read_to_string(folder.join("plan.yaml")).unwrap(), "plan.yaml").unwrap();
    assert_eq!((plan.model.path.as_str(), plan.plan.batch), ("model.yaml", 8));
    good(&folder, "check plan.yaml");
    good(&folder, "hub/config.json --cluster 4xCPU --batch 8 --sequence-length 32 --keep 1");
}

#[test]
fn a_model_file_that_is_there_is_not_overwritten() {
    let folder = published("published-kept");
    good(&folder, "check hub --cluster 4xCPU --tensor 2 --batch 8 --sequence-length 32 -o plan.yaml");
    good(&folder, "check plan.yaml");
    let line = "hub --cluster 4xCPU --batch 8";
    let said = refused(&folder, &line.split(' ').collect::<Vec<_>>(), 2);
    assert!(said.contains("model.yaml is there already, and is another model"), "{said}");
    let said = refused(&folder, &["check", "model.yaml", "--cluster", "4xCPU", "--sequence-length", "16"], 2);
    assert!(said.contains("--sequence-length 16 is for a config.json"), "{said}");
}

#[test]
fn what_cannot_be_said_is_an_error_of_its_line() {
    let folder = published("published-refused");
    let path = folder.join("hub/config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"silu\"", "\"relu\"")).unwrap();
    let said = refused(&folder, &["hub", "--cluster", "4xCPU"], 2);
    let line = text.lines().position(|line| line.contains("hidden_act")).unwrap() + 1;
    assert!(said.starts_with(&format!("error: hub/config.json:{line}: `hidden_act`: \"relu\": ")), "{said}");
    fs::remove_file(path).unwrap();
    let said = refused(&folder, &["hub", "--cluster", "4xCPU"], 2);
    assert!(said.contains("cannot read hub/config.json"), "{said}");
}
