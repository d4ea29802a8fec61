//! `--save background`: checkpoints that are written beside the training are those of its steps.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;

use place::Place;

#[test]
fn what_is_saved_beside_the_training_is_what_is_saved_between_steps() {
    let place = Place::new("background");
    let line = "plan.yaml --text text.txt --steps 5 --evaluate-every 0 --save-every 2";
    place.good(&format!("{line} --checkpoint waiting"));
    place.good(&format!("{line} --checkpoint background --save background"));
    let names = [".lock", "step-000004", "step-000005"];
    assert_eq!(
        (place.names("waiting"), place.names("background")),
        (names.map(str::to_owned).to_vec(), names.map(str::to_owned).to_vec())
    );
    for file in ["step-000004/pieces-00000.safetensors", "step-000004/manifest.json", "step-000005/manifest.json"] {
        let [waiting, background] =
            ["waiting", "background"].map(|folder| fs::read(place.0.join(folder).join(file)).unwrap());
        assert!(waiting == background, "{file} is the same to the byte");
    }
}

#[test]
fn a_training_that_diverges_keeps_what_was_begun() {
    let place = Place::new("background-diverges");
    place.replace("model.yaml", "learning_rate: 1.0e-2", "learning_rate: 1.0e+30");
    let output =
        place.run("plan.yaml --text text.txt --steps 40 --save-every 1 --checkpoint run --save background --json");
    let steps = String::from_utf8_lossy(&output.stdout).matches("\"kind\":\"step\"").count();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(steps > 0, "the first step is good");
    assert!(place.names("run").contains(&format!("step-{steps:06}")), "{:?} of {steps} steps", place.names("run"));
}
