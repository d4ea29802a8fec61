//! One training over several processes: the losses of one process, to the bit, and an end for all when one ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const MODEL: &str = "\
format: 1
name: speck
family: llama
layers: 2
hidden: 16
heads: 4
key_value_heads: 4
feed_forward: 24
vocabulary: 256
sequence: 8
training:
  batch: 8
  precision: f32
  learning_rate: 1.0e-2
";

const PLAN: &str = "\
format: 1
model: model.yaml
cluster: 4xCPU
batch: 8
microbatches: 2
";

/// What plans add, each for four ranks.
const PLANS: [(&str, &str); 6] = [
    ("data", "precision: f32\nstages: [0..4]\nlayers:\n  0..4: { data: 4 }\n"),
    ("sharded", "precision: f32\nstages: [0..4]\nlayers:\n  0..4: { data: 4, shard: parameters }\n"),
    ("tensor", "precision: f32\nstages: [0..4]\nlayers:\n  0..4: { tensor: 4, sequence: split }\n"),
    ("pipeline", "precision: f32\nstages: [0..2, 2..4]\nlayers:\n  0..4: { data: 2, shard: optimizer }\n"),
    // Parameters in 16 bits are whole on each rank, but what they are rounded from is on all processes.
    ("thrifty", "precision: bf16\nstages: [0..4]\nlayers:\n  0..4: { data: 4, shard: optimizer }\n"),
    ("half", "precision: bf16\nstages: [0..2, 2..4]\nlayers:\n  0..4: { tensor: 2, sequence: split }\n"),
];

const LINE: &str = "--text text.txt --steps 4 --evaluate-every 2 --trace-every 2 --json";
/// Whatever launchers of this test's own surroundings say must not be heard.
const LAUNCHERS: [&str; 10] = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "PMIX_RANK",
    "SLURM_STEP_NUM_TASKS",
    "TORCHELASTIC_USE_AGENT_STORE",
];

/// A folder with a model, plans and a text.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Place {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("processes-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.yaml"), MODEL).unwrap();
        for (name, rest) in PLANS {
            fs::write(folder.join(format!("{name}.yaml")), format!("{PLAN}{rest}")).unwrap();
        }
        let text = "It is a truth universally acknowledged, that a plan needs a text. ".repeat(40);
        fs::write(folder.join("text.txt"), text).unwrap();
        Place(folder)
    }

    fn command(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.0).args(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in LAUNCHERS {
            command.env_remove(name);
        }
        command
    }

    /// One process of so many, which meet at a port.
    fn process(&self, line: &str, [process, processes]: [u32; 2], port: u16) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_hetu-exec"), line);
        let numbers = [("RANK", process), ("WORLD_SIZE", processes), ("LOCAL_RANK", process)];
        for (name, number) in numbers {
            command.env(name, number.to_string());
        }
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        command
    }

    /// So many processes of one training.
    fn start(&self, line: &str, processes: u32) -> Vec<Child> {
        let port = port();
        (0..processes).map(|process| self.process(line, [process, processes], port).spawn().unwrap()).collect()
    }

    /// What process 0 of so many prints; all end well.
    #[track_caller]
    fn together(&self, line: &str, processes: u32) -> Vec<Value> {
        let children = self.start(line, processes);
        let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        for output in &outputs[1..] {
            objects(output);
            assert!(output.stdout.is_empty(), "{line}: process 0 alone prints");
        }
        objects(&outputs[0])
    }

    /// The names of what is in a folder of checkpoints.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What one process alone prints.
    fn alone(&self, line: &str) -> Vec<Value> {
        objects(&self.command(env!("CARGO_BIN_EXE_hetu-exec"), line).output().unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is in the build folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[track_caller]
fn objects(output: &Output) -> Vec<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// What must not depend on processes: losses, gradient norms, held-out losses.
fn numbers(objects: &[Value]) -> Vec<[Value; 4]> {
    let steps = objects.iter().filter(|object| object["kind"] == "step");
    steps.map(|step| ["step", "loss", "gradient_norm", "held_out_loss"].map(|name| step[name].clone())).collect()
}

#[test]
fn processes_have_the_losses_of_one() {
    let place = Place::new("losses");
    for (name, _) in PLANS {
        let line = format!("{name}.yaml {LINE}");
        let expected = numbers(&place.alone(&line));
        assert_eq!(expected.len(), 4);
        // One rank in each, and two in each.
        for processes in [4, 2] {
            let found = place.together(&line, processes);
            assert_eq!(numbers(&found), expected, "{name} in {processes} processes");
            assert_eq!(found[0]["processes"], processes);
        }
    }
}

#[track_caller]
fn assert_near(found: &[[Value; 4]], expected: &[[Value; 4]]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for (one, other) in found.iter().zip(expected) {
            let near = |one: f64, other: f64| (one - other).abs() <= 1e-4 * other.abs();
            let is_near = one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| near(one, other));
            assert!(is_near || one == other, "{found:?} but {expected:?}");
        }
    }
}

#[test]
fn any_number_of_processes_goes_on_from_what_others_saved() {
    const REST: &str = "--text text.txt --steps 6 --evaluate-every 2 --trace-every 0 --json";
    let place = Place::new("checkpoints");
    let expected = numbers(&place.alone(&format!("sharded.yaml {REST}")));
    for [second, third] in [["sharded"; 2], ["tensor", "pipeline"], ["pipeline", "data"]] {
        let mut children = place.start(&format!("sharded.yaml {REST} --checkpoint run --save-every 3"), 4);
        let mut lines = BufReader::new(children[0].stdout.take().unwrap()).lines();
        // When the fourth step is told, the third is saved.
        assert!(lines.any(|line| line.unwrap().contains("\"step\":4")));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // It may have ended before.
        let _ = fs::remove_dir_all(place.0.join("run/step-000006"));
        let pieces = (0..4).map(|process| format!("pieces-0000{process}.safetensors"));
        let whole: Vec<String> = ["manifest.json".to_owned()].into_iter().chain(pieces).collect();
        assert_eq!(place.names("run/step-000003"), whole);

        let resume = format!("{REST} --checkpoint run --resume --save-every 4");
        let found = numbers(&place.together(&format!("{second}.yaml {resume}"), 2));
        assert_eq!(place.names("run"), [".lock", "step-000004", "step-000006"]);
        assert_near(&found, &expected[3..]);
        fs::remove_dir_all(place.0.join("run/step-000006")).unwrap();
        let last = numbers(&place.alone(&format!("{third}.yaml {resume}")));
        assert_near(&last, &expected[4..]);
        if second == "sharded" {
            assert_eq!([&expected[..3], &found[..1], &last[..]].concat(), expected, "the same plan, to the bit");
            assert_eq!(found, expected[3..]);
        }
        fs::remove_dir_all(place.0.join("run")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_signal_to_one_process_saves_and_ends_all() {
    let place = Place::new("signal");
    let line = "tensor.yaml --text text.txt --steps 1000000 --json --evaluate-every 0 --checkpoint run --save-every 1h";
    let mut children = place.start(line, 4);
    let mut lines = BufReader::new(children[0].stdout.take().unwrap()).lines();
    assert!((&mut lines).take(3).all(|line| line.is_ok()));
    assert!(Command::new("kill").args(["-TERM", &children[2].id().to_string()]).status().unwrap().success());
    assert!(lines.all(|line| line.is_ok()));
    for (process, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(143), "process {process}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = place.names("run");
    assert!(names.len() == 2 && names[1].starts_with("step-"), "{names:?}");
    assert_eq!(place.names(&format!("run/{}", names[1])).len(), 5, "a manifest and four files of pieces");
}

#[test]
fn a_folder_that_holds_a_training_is_refused_by_all_processes() {
    let place = Place::new("refused");
    let line = "data.yaml --text text.txt --steps 4 --evaluate-every 0 --json --checkpoint run --save-every 2";
    place.together(line, 2);
    for child in place.start(line, 2) {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("run: there is a training of 4 steps already"), "{errors}");
    }
}

#[test]
fn process_0_reports_on_the_ranks_of_all() {
    let place = Place::new("report");
    let children = place.start(&format!("pipeline.yaml {LINE} --report out"), 4);
    for child in children {
        objects(&child.wait_with_output().unwrap());
    }
    let trace = fs::read_to_string(place.0.join("out/trace.json")).unwrap();
    for rank in 0..4 {
        assert!(trace.contains(&format!("rank {rank}")), "rank {rank} is in the trace");
    }
}

#[test]
fn a_killed_process_ends_the_others_and_is_named() {
    let place = Place::new("killed");
    let mut children = place.start("data.yaml --text text.txt --steps 1000000 --json --evaluate-every 0", 4);
    let mut lines = BufReader::new(children[0].stdout.take().unwrap()).lines();
    // The first lines: it trains.
    assert!((&mut lines).take(3).all(|line| line.is_ok()));
    children[2].kill().unwrap();
    let begin = Instant::now();
    // Read on, so that process 0 does not wait for its reader.
    assert!(lines.all(|line| line.is_ok()));
    for (process, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        if process != 2 {
            assert_eq!(output.status.code(), Some(1), "process {process}: {errors}");
            assert!(errors.contains("process 2 is lost: "), "process {process}: {errors}");
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(30), "nobody waits for who is gone");
}

#[test]
fn unlike_programs_and_options_are_refused_with_both_values() {
    let place = Place::new("unlike");
    let ends = |lines: [&str; 2]| {
        let port = port();
        let start = |(process, line): (usize, &str)| place.process(line, [process as u32, 2], port).spawn().unwrap();
        let children: Vec<Child> = lines.into_iter().enumerate().map(start).collect();
        let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
        outputs
            .map(|output| {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(matches!(output.status.code(), Some(1 | 2)) && output.stdout.is_empty(), "{errors}");
                errors
            })
            .collect::<Vec<String>>()
    };
    for errors in ends(["data.yaml --text text.txt", "sharded.yaml --text text.txt"]) {
        assert!(errors.contains("process 1 is lost: it has ") && errors.contains("but process 0 has "), "{errors}");
    }
    for errors in ends(["data.yaml --text text.txt", "data.yaml --text text.txt --seed 7"]) {
        assert!(errors.contains("--seed: 1 in process 0, but 7 in process 1"), "{errors}");
    }
}

#[test]
fn what_launchers_say_wrongly_is_told_before_anything_begins() {
    let place = Place::new("wrong");
    let mut command = place.command(env!("CARGO_BIN_EXE_hetu-exec"), "data.yaml --text text.txt");
    let output = command.env("RANK", "1").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.starts_with("error: RANK is set, but WORLD_SIZE is not\n  help: "), "{errors}");
    for child in place.start("data.yaml --text text.txt --steps 1", 3) {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("4 ranks cannot be shared out to 3 processes"), "{errors}");
    }
}

/// Where `mpirun` and the feature are missing, says so and tests nothing.
#[test]
fn processes_of_mpirun_have_the_losses_of_one() {
    if cfg!(not(feature = "mpi")) {
        eprintln!("skipped: built without --features mpi");
        return;
    }
    if Command::new("mpirun").arg("--version").output().is_err() {
        eprintln!("skipped: there is no mpirun");
        return;
    }
    let place = Place::new("mpirun");
    for (name, _) in PLANS {
        let line = format!("{name}.yaml {LINE}");
        let expected = numbers(&place.alone(&line));
        let program = env!("CARGO_BIN_EXE_hetu-exec");
        let output = place
            .command("mpirun", &format!("--allow-run-as-root --oversubscribe -n 4 {program} {line}"))
            .output()
            .unwrap();
        let found = objects(&output);
        assert_eq!(numbers(&found), expected, "{name}");
        assert_eq!(found[0]["processes"], 4);
    }
}
