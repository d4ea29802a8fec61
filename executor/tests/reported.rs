//! What `hetu-exec` reports is of what it says it is of: held-out losses, and predictions.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use place::{PLAN, Place};

#[test]
fn a_plan_for_other_devices_says_so_before_and_after() {
    let place = Place::new("devices");
    place.replace("plan.yaml", "4xCPU", "4xH100");
    place.replace(
        "plan.yaml",
        "batch: 8",
        "predicted: { step: 1 ms, peak: 1 MiB, programs: \"0000000000000001\" }\nbatch: 8",
    );
    let digest = {
        let output = place.run("plan.yaml --text text.txt --steps 1 --backend threads");
        let errors = String::from_utf8(output.stderr).unwrap();
        errors.split("compiles to ").nth(1).unwrap()[..16].to_owned()
    };
    place.replace("plan.yaml", "0000000000000001", &digest);
    let output = place.run("plan.yaml --text text.txt --steps 2 --backend threads");
    let [said, told] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let sentence = "plan.yaml is for H100 (cluster 4xH100), but runs here on CPU ranks of ";
    assert!(told.starts_with("note: ") && told.matches(sentence).count() == 1 && told.lines().count() == 1, "{told}");
    assert!(said.contains(&format!("Devices {sentence}")) && said.contains("(for other devices)"), "{said}");
    // Whoever wrote the plan knows best what it is for.
    place.replace("plan.yaml", "batch: 8", "devices: { cluster: mine, device: CPU }\nbatch: 8");
    place.replace("plan.yaml", "4xH100", "4xCPU");
    place.good("plan.yaml --text text.txt --steps 2 --ignore-prediction --quiet");
}

#[test]
fn every_held_out_window_counts_once_whatever_the_batch() {
    let place = Place::new("held-out");
    // Parameters stay what they were, so that all batches see the same ones.
    place.replace("model.yaml", "learning_rate: 1.0e-2", "learning_rate: 0.0");
    place.write(
        "text.txt",
        &(0..40).map(|line| format!("{line} plans for {} ranks. ", line * line)).collect::<String>(),
    );
    let loss = |batch: u64, windows: u64| {
        place.write(
            "alone.yaml",
            &PLAN
                .replace("data: 2, shard: parameters", "data: 1")
                .replace("4xCPU", "1xCPU")
                .replace("batch: 8\nmicrobatches: 2", &format!("batch: {batch}\nmicrobatches: 1"))
                .replace("[0..2, 2..4]", "[0..4]"),
        );
        let line = format!("alone.yaml --text text.txt --steps 1 --held-out 0.08 --evaluate-windows {windows}");
        let objects = place.objects(&line);
        let summary = objects.last().unwrap();
        (objects[0]["held_out_windows"].as_u64().unwrap(), summary["held_out_loss"].as_f64().unwrap())
    };
    let (all, _) = loss(1, 1);
    assert!(all > 5, "{all} windows");
    for windows in [1, 3, all] {
        let (_, expected) = loss(1, windows);
        for batch in [2, 3, 5, 8, 64] {
            let (_, found) = loss(batch, windows);
            assert!((found / expected - 1.0).abs() < 1e-6, "{windows} windows, batch {batch}: {found}, not {expected}");
        }
    }
    let text = place.good("alone.yaml --text text.txt --steps 1 --held-out 0.08 --evaluate-windows 2");
    assert!(text.contains(&format!("{all} held out, of which the held-out loss reads 2; ")), "{text}");
    let text = place.good("alone.yaml --text text.txt --steps 1 --held-out 0.08");
    assert!(text.contains(&format!("{all} held out\n")), "{text}");
}
