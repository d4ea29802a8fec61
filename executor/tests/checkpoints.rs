//! Folders of checkpoints as a user meets them: what goes on, what is refused, and what happens when things break.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;
#[cfg(unix)]
use std::io::{BufRead, BufReader, Read};
#[cfg(unix)]
use std::process::{Command, Stdio};

#[cfg(unix)]
use place::started;
use place::{MODEL, Place};

#[test]
fn a_folder_of_checkpoints_belongs_to_one_training() {
    let place = Place::new("folder");
    place.refused("plan.yaml --text text.txt --resume", "--checkpoint");
    let line = "plan.yaml --text text.txt --steps 2 --checkpoint run";
    place.refused(&format!("{line} --resume"), "no checkpoint to go on from");
    place.good(line);
    place.refused(line, "there is a training of 2 steps already");
    place.refused(&format!("{line} --resume"), "2 of 2 steps are done");
    let longer = "plan.yaml --text text.txt --steps 3 --checkpoint run --resume";
    place.refused(longer, "steps was 2, is 3");
    let longer = &format!("{longer} --allow steps");
    place.refused(&format!("{longer} --seed 7"), "seed was 1, is 7");
    place.replace("text.txt", "truth", "lie");
    place.refused(longer, "text was of digest ");
    place.replace("text.txt", "lie", "truth");
    place.refused(&format!("{longer},hidden"), "hidden");
    assert_eq!(place.names("run"), [".lock", "step-000002"]);
}

#[test]
fn another_model_never_goes_on_and_another_training_only_where_it_is_allowed() {
    let place = Place::new("unlike");
    let line = "plan.yaml --text text.txt --steps 4 --checkpoint run";
    place.good("plan.yaml --text text.txt --steps 4 --checkpoint run --save-every 3");
    fs::remove_dir_all(place.0.join("run/step-000004")).unwrap();
    for (from, to, what) in [
        ("feed_forward: 24", "feed_forward: 32", "feed_forward was 24, is 32"),
        ("training:", "embeddings: tied\ntraining:", "embeddings was untied, is tied"),
        ("training:", "rotary_base: 20000\ntraining:", "rotary_base was 10000, is 20000"),
        ("training:", "norm_epsilon: 1.0e-3\ntraining:", "norm_epsilon was 0.00001, is 0.001"),
    ] {
        place.write("model.yaml", &MODEL.replace(from, to));
        let names = "learning-rate,warmup-steps,weight-decay,betas,gradient-norm-max,batch,steps,seed,text,tokenizer";
        place.refused(&format!("{line} --resume --allow {names}"), what);
    }
    for (change, name, what) in [
        ("learning_rate: 2.0e-2", "learning-rate", "learning-rate was 0.01, is 0.02"),
        ("learning_rate: 1.0e-2\n  betas: [0.9, 0.99]", "betas", "betas was [0.9, 0.95], is [0.9, 0.99]"),
        ("learning_rate: 1.0e-2\n  epsilon: 1.0e-6", "epsilon", "epsilon was 0.00000001, is 0.000001"),
        ("learning_rate: 1.0e-2\n  weight_decay: 0", "weight-decay", "weight-decay was 0.1, is 0"),
    ] {
        place.write("model.yaml", &MODEL.replace("learning_rate: 1.0e-2", change));
        place.refused(&format!("{line} --resume"), what);
        place.refused(&format!("{line} --resume"), &format!("--allow {name}"));
        place.good(&format!("{line} --resume --allow {name}"));
        fs::remove_dir_all(place.0.join("run/step-000004")).unwrap();
    }
}

#[test]
fn one_command_begins_and_goes_on() {
    let place = Place::new("auto");
    let line = "plan.yaml --text text.txt --steps 4 --checkpoint run --save-every 3 --resume auto";
    assert_eq!(place.losses(line).len(), 4);
    fs::remove_dir_all(place.0.join("run/step-000004")).unwrap();
    assert_eq!(place.losses(line).len(), 1);
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_is_taken() {
    let place = Place::new("damaged");
    let whole = place.losses("plan.yaml --text text.txt --steps 6 --checkpoint run --save-every 3");
    let path = place.0.join("run/step-000006/pieces-00000.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 64;
    fs::write(&path, bytes).unwrap();
    let output = place.run("plan.yaml --text text.txt --steps 6 --checkpoint run --resume --json");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(
        errors.starts_with("note: run/step-000006/pieces-00000.safetensors: damaged: the checksum of "),
        "{errors}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("\"kind\":\"step\"").count(), 3);
    assert_eq!(whole.len(), 6);
    assert_eq!(place.names("run"), [".lock", "damaged-step-000006", "step-000003", "step-000006"]);
}

#[test]
fn checkpoints_of_an_earlier_version_are_named() {
    let place = Place::new("earlier");
    fs::create_dir(place.0.join("run")).unwrap();
    place.write("run/step-000100.safetensors", "");
    let line = "plan.yaml --text text.txt --steps 2 --checkpoint run --resume";
    place.refused(line, "run/step-000100.safetensors: a checkpoint of an earlier version");
}

#[test]
fn what_a_killed_run_left_is_cleared_and_links_are_not_followed() {
    let place = Place::new("left");
    fs::create_dir_all(place.0.join("run/.saving-abc")).unwrap();
    place.write("run/.saving-abc/pieces-00000.safetensors", "half");
    place.good("plan.yaml --text text.txt --steps 1 --checkpoint run");
    assert_eq!(place.names("run"), [".lock", "step-000001"]);
}

#[cfg(unix)]
#[test]
fn two_trainings_in_one_folder_are_refused_at_once() {
    let place = Place::new("two");
    let (mut child, output) = started(&place);
    place.refused("plan.yaml --text text.txt --steps 2 --checkpoint run", "another training saves there now");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(output);
    place.good("plan.yaml --text text.txt --steps 2 --checkpoint run");
}

#[cfg(unix)]
#[test]
fn a_save_that_fails_is_told_and_the_training_goes_on() {
    let place = Place::new("gone");
    let line = "plan.yaml --text text.txt --steps 100000000 --checkpoint run --save-every 1 --json";
    let mut child = place.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut read_lines = |count: usize| {
        for _ in 0..count {
            output.read_line(&mut String::new()).unwrap();
        }
    };
    read_lines(3);
    let [run, gone] = ["run", "gone"].map(|name| place.0.join(name));
    fs::rename(&run, &gone).unwrap();
    let mut note = String::new();
    errors.read_line(&mut note).unwrap();
    assert!(note.starts_with("note: no checkpoint of step ") && note.contains("those before it stay"), "{note}");
    read_lines(3);
    fs::rename(&gone, &run).unwrap();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    output.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "the last save is good again");
    assert_eq!(place.names("run").iter().filter(|name| name.starts_with("step-")).count(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_does_not_end_a_training() {
    let place = Place::new("output");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        place.command("plan.yaml --text text.txt --steps 2 --checkpoint run --report out").stdout(full).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("the run goes on") && errors.contains("lines lost"), "{errors}");
    assert_eq!(place.names("run"), [".lock", "step-000002"]);
    assert!(place.names("out").contains(&"report.html".to_owned()));
}
