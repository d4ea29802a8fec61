//! Trainings that begin with published weights, against losses that transformers computed (see
//! `tests/peers/transformers_loss.py`); and the way back.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ir::file::{parse_config, print_model};
use ir::model::Training;
use place::Place;
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Relative; the losses of both differ by roundings of 32 bits.
const TOLERANCE: f64 = 1e-5;

const KINDS: [&str; 6] = ["tiny-llama", "tiny-llama3", "tiny-mistral", "tiny-qwen2", "tiny-phi3", "tiny-gpt2"];

/// Under other plans the losses are the same.
const SPREAD: &str = "stages: [0..2, 2..4]\nlayers:\n  0..4: { tensor: 2, sequence: split, recompute: full }\n";
const SHARDED: &str = "stages: [0..4]\nlayers:\n  0..4: { data: 4, shard: parameters }\n";

fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/published")
}

/// A folder with a copy of the published model as `hub`, its model file, a plan and the text; and what transformers
/// found.
fn place(test: &str, kind: &str, layers: &str) -> (Place, Value) {
    let place = Place::new(&format!("published-{test}-{kind}"));
    fs::create_dir_all(place.0.join("hub")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(published().join(kind).join(name), place.0.join("hub").join(name)).unwrap();
    }
    fs::copy(published().join("text.txt"), place.0.join("text.txt")).unwrap();
    let found: Value = serde_json::from_slice(&fs::read(published().join(kind).join("losses.json")).unwrap()).unwrap();
    let text = fs::read_to_string(place.0.join("hub/config.json")).unwrap();
    let mut model = parse_config(&text, "config.json", found["sequence"].as_u64()).unwrap();
    let recipe = &found["training"];
    let number = |key: &str| recipe[key].as_f64().unwrap();
    model.training = Training {
        precision: model.training.precision,
        learning_rate: number("learning_rate"),
        warmup_steps: recipe["warmup_steps"].as_u64().unwrap(),
        weight_decay: number("weight_decay"),
        gradient_norm_max: number("gradient_norm_max"),
        epsilon: number("epsilon"),
        ..Training::of_batch(found["batch"].as_u64().unwrap())
    };
    place.write("model.yaml", &print_model(&model));
    let head = "format: 1\nmodel: model.yaml\ncluster: 4xCPU\nbatch: 4\nmicrobatches: 1\nprecision: f32\n";
    let microbatches = if layers == SPREAD { "microbatches: 2" } else { "microbatches: 1" };
    place.write("plan.yaml", &(head.replace("microbatches: 1", microbatches) + layers));
    (place, found)
}

const LINE: &str = "plan.yaml --text text.txt --held-out 0 --from hub";

#[test]
fn losses_are_those_of_transformers_under_any_plan() {
    for kind in KINDS {
        for layers in [SPREAD, SHARDED] {
            let (place, found) = place("losses", kind, layers);
            let losses = place.losses(&format!("{LINE} --steps 20"));
            let [expected, norms] = ["losses", "gradient_norms"].map(|key| found[key].as_array().unwrap());
            assert_eq!((losses.len(), expected.len()), (20, 20));
            for ((step, loss, norm), (expected, expected_norm)) in losses.into_iter().zip(expected.iter().zip(norms)) {
                for (found, expected) in [(loss, expected), (norm, expected_norm)] {
                    let expected = expected.as_f64().unwrap();
                    assert!(
                        (found - expected).abs() < TOLERANCE * expected,
                        "{kind}, step {step}: {found} is not {expected}\n{layers}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_exported_begins_the_same_training_again() {
    for kind in KINDS {
        let (place, _) = place("export", kind, SPREAD);
        place.good(&format!("{LINE} --steps 3 --checkpoint run --quiet"));
        let said = place.good("export run --to out");
        assert!(said.starts_with("Wrote out: ") && said.contains("in f32, of run/step-000003 after 3 steps"), "{said}");
        assert_eq!(place.names("out"), ["config.json", "model.safetensors"]);
        // A step of rate 0 changes nothing.
        place.replace("model.yaml", "learning_rate: 0.01", "learning_rate: 0");
        let again = LINE.replace("--from hub", "--from out");
        place.good(&format!("{again} --steps 1 --checkpoint still --quiet"));
        place.good("export still/step-000001 --to back");
        for name in ["config.json", "model.safetensors"] {
            let [out, back] = ["out", "back"].map(|folder| fs::read(place.0.join(folder).join(name)).unwrap());
            assert!(out == back, "{kind}: {name} is the same, byte for byte");
        }
        place.good("export run --to short --dtype bf16");
        let [exact, short] = ["out", "short"].map(|folder| {
            place.losses(&format!("{} --steps 1", LINE.replace("--from hub", &format!("--from {folder}"))))[0].1
        });
        let difference = (exact - short).abs();
        assert!(difference > 0.0 && difference < 0.01 * exact, "{kind}: {exact} and {short}");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_half_done_stays() {
    let (place, _) = place("kept", "tiny-llama", SPREAD);
    place.good(&format!("{LINE} --steps 1 --checkpoint run --quiet"));
    place.good("export run --to out");
    place.refused("export run --to out", "out: it is there already, and is not overwritten");
    place.refused("export hub --to other", "hub: there is no checkpoint");
    place.refused("export nowhere --to other", "nowhere: there is no checkpoint");
    let pieces = place.0.join("run/step-000001/pieces-00000.safetensors");
    let mut bytes = fs::read(&pieces).unwrap();
    let last = bytes.len() / 3;
    bytes[last - 1] ^= 1;
    fs::write(&pieces, bytes).unwrap();
    place.refused("export run --to other", "the checksum of `");
    assert_eq!(place.names("."), ["hub", "model.yaml", "out", "plan.yaml", "run", "text.txt"]);
    place.refused(&format!("{LINE} --checkpoint run --resume --steps 2 --allow steps"), "--from begins a training");
}

/// Writes the weights of `hub` into two files with an index.
fn shard(place: &Place) {
    let whole = place.0.join("hub/model.safetensors");
    let bytes = fs::read(&whole).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut map = BTreeMap::new();
    for (index, file) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        let own: Vec<_> = tensors.iter().enumerate().filter(|(at, _)| at % 2 == index).map(|(_, own)| own).collect();
        map.extend(own.iter().map(|(name, _)| (name.to_string(), file)));
        safetensors::serialize_to_file(own, None, &place.0.join("hub").join(file)).unwrap();
    }
    fs::remove_file(whole).unwrap();
    place.write("hub/model.safetensors.index.json", &json!({ "metadata": {}, "weight_map": map }).to_string());
}

#[test]
fn weights_in_several_files_are_the_same_weights() {
    let (place, _) = place("sharded", "tiny-qwen2", SPREAD);
    let line = &format!("{LINE} --steps 2");
    let whole = place.losses(line);
    shard(&place);
    assert_eq!(place.losses(line), whole, "to the bit");
    let index = fs::read_to_string(place.0.join("hub/model.safetensors.index.json")).unwrap();
    place.write("hub/model.safetensors.index.json", &index.replacen("a.safetensors", "../a.safetensors", 1));
    place.refused(line, "is in no file of this folder");
    place.write("hub/model.safetensors.index.json", &index.replacen("b.safetensors", "a.safetensors", 1));
    place.refused(line, "b.safetensors: model.safetensors.index.json does not say that `");
    place.write("hub/model.safetensors.index.json", &index);
    fs::remove_file(place.0.join("hub/b.safetensors")).unwrap();
    place.refused(line, "hub: `b.safetensors` is not there, but model.safetensors.index.json names it");
    fs::remove_file(place.0.join("hub/model.safetensors.index.json")).unwrap();
    place.refused(line, "hub: there is no model.safetensors and no model.safetensors.index.json");
}

/// Changes the header of `hub/model.safetensors` to text of the same length.
fn change_header(place: &Place, from: &str, to: &str) {
    let path = place.0.join("hub/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("the header has it");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn weights_of_another_model_or_damaged_ones_are_refused_in_a_sentence() {
    let (place, _) = place("wrong", "tiny-llama", SPREAD);
    let good = fs::read(place.0.join("hub/model.safetensors")).unwrap();
    let reset = || fs::write(place.0.join("hub/model.safetensors"), &good).unwrap();
    for (from, to, what) in [
        ("model.norm.weight", "model.norm.weighs", "hub: tensor `model.norm.weight` is missing"),
        ("\"dtype\":\"F32\"", "\"dtype\":\"F64\"", "stored as F64, which cannot be read here: F32, BF16 and F16 can"),
        ("\"shape\":[256,16]", "\"shape\":[16,256]", "is of shape [16, 256], but the model has [256, 16]"),
        ("\"F32\"", "\"BF16", "no safetensors: its header"),
        ("\"data_offsets\":[0,", "\"data_offsets\":[9,", "are not the bytes of"),
    ] {
        change_header(&place, from, to);
        place.refused(LINE, what);
        reset();
    }
    let mut nan = good.clone();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(place.0.join("hub/model.safetensors"), &nan).unwrap();
    place.refused(LINE, "has a number that is NaN");
    fs::write(place.0.join("hub/model.safetensors"), &good[..good.len() - 1]).unwrap();
    place.refused(LINE, "it ends behind the file");
    fs::write(place.0.join("hub/model.safetensors"), &good[..99]).unwrap();
    place.refused(LINE, "no safetensors: 99 bytes are fewer than its header has");
    reset();
    place.replace("hub/config.json", "\"rope_theta\": 50000.0", "\"rope_theta\": 10000.0");
    place.refused(LINE, "another model: rotary_base is 10000.0, but 50000.0 in the plan's model");
    place.replace("hub/config.json", "\"silu\"", "\"gelu\"");
    place.refused(LINE, "`hidden_act`: \"gelu\"");
    fs::remove_file(place.0.join("hub/config.json")).unwrap();
    place.refused(LINE, "hub/config.json");
}
