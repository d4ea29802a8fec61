//! `hetu-exec` as a user meets it: what it prints and writes, and what it says to wrong input.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;
use std::io::BufRead;
use std::process::Command;

#[cfg(unix)]
use place::started;
use place::{MODEL, PLAN, Place};

use ir::cluster::Cluster;
use ir::file::{Digest, parse_model, parse_plan, print_trace};
use ir::trace::{Origin, Totals, Trace};
use ir::units::Seconds;
use serde_json::Value;

#[test]
fn missing_gpus_are_told_in_a_sentence_with_a_way_out() {
    if kernels::cuda::Device::count().is_ok() {
        return;
    }
    let place = Place::new("gpus");
    let output = place.run("plan.yaml --text text.txt --steps 1 --backend cuda");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("libcuda.so.1 cannot be loaded: install the NVIDIA driver"), "{errors}");
    assert!(errors.contains("--backend threads"), "{errors}");
}

#[test]
fn a_plan_of_a_person_trains_and_says_so() {
    let place = Place::new("trains");
    let text = place.good("plan.yaml --text text.txt --steps 3 --report out");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].contains("4 ranks on") && lines[1].contains("2 stages, 2 microbatches of 4 sequences"), "{text}");
    assert!(lines[4].ends_with("held-out loss") && lines[7].ends_with("  traced"), "{text}");
    let columns = |line: &str| line.chars().count();
    assert!(columns(lines[4]) == columns(lines[5]) && columns(lines[5]) == columns(lines[6]), "{text}");
    assert!(lines[lines.len() - 1].starts_with("Wrote   out/report.html"), "{text}");
    assert!(place.names("out").iter().any(|name| name == "trace.json"));
    assert_eq!(place.names("."), ["model.yaml", "out", "plan.yaml", "text.txt"]);
}

#[test]
fn json_has_a_line_a_step_and_both_ends() {
    let place = Place::new("json");
    let objects = place.objects("plan.yaml --text text.txt --steps 4 --evaluate-every 2 --trace-every 2");
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["run", "step", "step", "step", "step", "summary"]);
    let evaluated: Vec<bool> = objects[1..5].iter().map(|object| object["held_out_loss"].is_number()).collect();
    assert_eq!(evaluated, [false, true, false, true]);
    assert_eq!(objects[5]["held_out_loss"], objects[4]["held_out_loss"]);
    assert_eq!(objects[5]["comparison"], Value::Null);
    let last = objects[4]["loss"].as_f64().unwrap();
    assert!(last < objects[1]["loss"].as_f64().unwrap(), "it learns");
    let quiet = place.good("plan.yaml --text text.txt --steps 2 --quiet --held-out 0");
    assert!(quiet.starts_with("Step ") && !quiet.contains("held out"), "{quiet}");
}

#[test]
fn a_training_that_goes_on_has_the_losses_of_one_that_never_stopped() {
    let place = Place::new("resume");
    let whole = place.losses("plan.yaml --text text.txt --steps 6");
    let saved = place.losses("plan.yaml --text text.txt --steps 6 --checkpoint run --save-every 2");
    assert_eq!(saved, whole, "saving changes nothing");
    assert_eq!(place.names("run"), [".lock", "step-000004", "step-000006"]);
    fs::remove_dir_all(place.0.join("run/step-000006")).unwrap();
    let resumed = place.losses("plan.yaml --text text.txt --steps 6 --checkpoint run --resume --backend shuffle");
    assert_eq!(resumed, whole[4..], "to the bit");

    fs::remove_dir_all(place.0.join("run/step-000006")).unwrap();
    place.write("other.yaml", &PLAN.replace("data: 2, shard: parameters", "tensor: 2, recompute: full"));
    let resumed = place.losses("other.yaml --text text.txt --steps 6 --checkpoint run --resume");
    assert_eq!(resumed.len(), 2);
    for ((_, found, _), (_, expected, _)) in resumed.iter().zip(&whole[4..]) {
        assert!((found - expected).abs() < 1e-5 * expected, "{found} is not {expected}");
    }
}

/// As the planner would write it, with a step that is wrong but of the right programs.
fn predict(place: &Place) {
    let plan = parse_plan(PLAN, "plan.yaml").unwrap().plan;
    let graph = parse_model(MODEL, "model.yaml").unwrap().graph();
    let cluster = Cluster::preset("4xCPU").unwrap();
    let programs = compiler::compile(&graph, &cluster, &plan).unwrap();
    let totals = |rank| Totals { rank, compute: Seconds(0.5), arena: programs.peak(), ..Totals::default() };
    let trace = Trace {
        origin: Origin::Predicted,
        digest: programs.digest(),
        step: Seconds(0.75),
        events: Vec::new(),
        memory: Vec::new(),
        totals: vec![totals(0), totals(2)],
        shares: [Seconds(0.5), Seconds::ZERO, Seconds::ZERO],
    };
    place.write("plan.trace", &print_trace(&trace));
    let digest = Digest(programs.digest());
    place.write(
        "plan.yaml",
        &format!("{PLAN}predicted: {{ step: 750 ms, peak: {} B, programs: \"{digest}\" }}\n", programs.peak().0),
    );
}

#[test]
fn predicted_stands_beside_measured() {
    let place = Place::new("predicted");
    predict(&place);
    let text = place.good("plan.yaml --text text.txt --steps 3 --report out");
    assert!(
        text.contains("mean of ranks") && text.contains("750.000 ms") && text.contains("; predicted 750"),
        "{text}"
    );
    assert!(fs::read_to_string(place.0.join("out/results.json")).unwrap().contains("\"comparison\""));
    let summary = place.objects("plan.yaml --text text.txt --steps 3").pop().unwrap();
    assert_eq!(summary["comparison"]["step"]["predicted"], 0.75);
    assert_eq!(summary["predicted_step_time"], 0.75);
    fs::remove_file(place.0.join("plan.trace")).unwrap();
    let text = place.good("plan.yaml --text text.txt --steps 3");
    assert!(text.contains("predicted      measured     error") && !text.contains("mean of ranks"), "{text}");
}

#[test]
fn a_prediction_of_other_programs_is_refused_or_left_out() {
    let place = Place::new("digest");
    predict(&place);
    place.replace("plan.yaml", "microbatches: 2", "microbatches: 1");
    place.refused("plan.yaml --text text.txt", "make the plan again");
    let output = place.run("plan.yaml --text text.txt --steps 2 --ignore-prediction");
    assert_eq!(output.status.code(), Some(0));
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("the prediction is left out") && notes.contains("plan.trace is of other"), "{notes}");
}

#[test]
fn wrong_input_is_refused_with_its_place_and_a_remedy() {
    let place = Place::new("wrong");
    place.refused("", "PLAN");
    place.refused("plan.yaml", "no text to train on");
    place.refused("no.yaml --text text.txt", "no.yaml: cannot be read");
    place.refused("plan.yaml --text no.txt", "no.txt: the text cannot be read");
    place.refused("plan.yaml --text text.txt --steps 0", "--steps");
    place.refused("plan.yaml --text text.txt --held-out 1.5", "from 0 to below 1");
    place.refused("plan.yaml --text text.txt --tokenizer no.json", "no.json: the tokenizer file cannot be read");
    place.refused("plan.yaml --text text.txt --report text.txt/out", "text.txt/out: cannot be written");
    place.refused("plan.yaml --text text.txt --checkpoint text.txt", "text.txt: cannot be written");
    place.write("short.txt", "too short");
    place.refused("plan.yaml --text short.txt", "the text is too short");
    assert_eq!(place.names("."), ["model.yaml", "plan.yaml", "short.txt", "text.txt"]);
}

#[test]
fn a_plan_in_bf16_trains_and_goes_on_in_f32() {
    let place = Place::new("bf16");
    place.replace("model.yaml", "precision: f32", "precision: bf16");
    place.replace("plan.yaml", "precision: f32", "precision: bf16");
    place.good("plan.yaml --text text.txt --steps 3 --checkpoint run --save-every 0 --evaluate-every 2");
    place.replace("plan.yaml", "precision: bf16", "precision: f32");
    place.good("plan.yaml --text text.txt --steps 5 --checkpoint run --resume --allow steps");
}

#[test]
fn a_wrong_plan_is_refused() {
    let cases = [
        ("plan.yaml", "batch: 8", "batches: 8", "unknown key `batches`"),
        ("plan.yaml", "model.yaml", "other.yaml", "refers to it as its model"),
        ("plan.yaml", "4xCPU", "cluster.yaml", "refers to it as its cluster"),
        ("plan.yaml", "4xCPU", "4xCPUs", "no preset with this device"),
        (
            "plan.yaml",
            "model.yaml",
            "{ path: model.yaml, digest: \"0000000000000001\" }",
            "made for a model with digest",
        ),
        ("plan.yaml", "4xCPU", "{ path: 4xCPU, digest: \"0000000000000001\" }", "made for a cluster with digest"),
        ("plan.yaml", "data: 2", "data: 4", "needs 8 devices, but the cluster has 4"),
        ("plan.yaml", "0..4: {", "0..4: { sequence: split,", "layer 0: `sequence: split` has no effect"),
        ("model.yaml", "layers: 2", "layers: 3", "strategies for 4 layers, but the model has 5"),
        ("model.yaml", "vocabulary: 256", "vocabulary: 128", "bytes: has ids up to 255"),
    ];
    for (file, from, to, what) in cases {
        let place = Place::new("plan");
        place.replace(file, from, to);
        place.refused("plan.yaml --text text.txt --steps 1", what);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn files_without_end_are_refused_at_once() {
    let place = Place::new("endless");
    place.refused("plan.yaml --text /dev/zero", "it is a device");
    place.refused("/dev/zero --text text.txt", "too many");
    place.refused("plan.yaml --text text.txt --tokenizer /dev/zero", "too many for a tokenizer");
    place.replace("plan.yaml", "model.yaml", "/dev/zero");
    place.refused("plan.yaml --text text.txt", "too many");
}

#[test]
fn a_predicted_trace_that_cannot_be_is_left_out_before_the_training() {
    let place = Place::new("trace");
    predict(&place);
    let text = fs::read_to_string(place.0.join("plan.trace")).unwrap();
    for (line, what) in [
        (r#"{"event":[0,"compute","m0 L0 F","run 9999","0 s","1 ms","measured"]}"#, "no instruction"),
        (r#"{"event":[0,"compute","m0 L0 F","run 0","2 ms","1 ms","measured"]}"#, "not a time"),
        (r#"{"memory":[4294967295,"1 ms","1 MiB"]}"#, "rank 4294967295"),
    ] {
        place.write("plan.trace", &format!("{text}{line}\n"));
        let output = place.run("plan.yaml --text text.txt --steps 2 --report out");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(errors.contains("plan.trace is left out: ") && errors.contains(what), "{errors}");
    }
}

#[test]
fn a_training_that_diverges_is_a_failure() {
    let place = Place::new("diverges");
    place.replace("model.yaml", "learning_rate: 1.0e-2", "learning_rate: 1.0e30");
    let output = place.run("plan.yaml --text text.txt --steps 9 --checkpoint run --save-every 0");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("the training diverged"), "{errors}");
    assert_eq!(place.names("run"), [".lock"], "no checkpoint of a broken state");
}

#[cfg(unix)]
#[test]
fn a_training_that_a_signal_ends_is_saved_and_reported() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129), ("-USR1", 138)] {
        let place = Place::new("signal");
        let (child, output) = started(&place);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let last = output.lines().last().unwrap().unwrap();
        let summary: Value = serde_json::from_str(&last).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(summary["ended"], "interrupted");
        let saved = format!("step-{:06}", summary["steps"].as_u64().unwrap());
        assert!(place.names("run").contains(&saved), "{:?} of {summary}", place.names("run"));
        assert!(place.names("out").contains(&"report.html".to_owned()));
    }
}

#[cfg(unix)]
#[test]
fn output_that_nobody_reads_ends_the_training_quietly() {
    let place = Place::new("unread");
    let (child, output) = started(&place);
    drop(output);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(141), ""));
    assert!(place.names("run").len() > 1, "it is saved");
}

#[test]
fn help_and_completions_name_every_option() {
    let place = Place::new("help");
    let help = place.good("--help");
    let completions = place.good("--completions bash");
    let options = [
        "--steps",
        "--text",
        "--tokenizer",
        "--seed",
        "--report",
        "--evaluate-every",
        "--evaluate-windows",
        "--held-out",
    ];
    let more =
        ["--trace-every", "--checkpoint", "--save-every", "--resume", "--allow", "--backend", "--ignore-prediction"];
    for option in options.into_iter().chain(more).chain(["--json", "--quiet", "--completions"]) {
        assert!(help.contains(option) && completions.contains(option), "{option}");
    }
    assert!(help.contains("EXAMPLES"));
    for word in
        ["cosine to a tenth", "1/n", "learning_rate", "warmup_steps", "weight_decay", "betas", "epsilon", "0.02"]
    {
        assert!(help.contains(word), "the recipe says nothing of {word}");
    }
}
