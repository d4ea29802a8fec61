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
const PLANS: [(&str, &str); 5] = [
    ("data", "precision: f32\nstages: [0..4]\nlayers:\n  0..4: { data: 4 }\n"),
    ("sharded", "precision: f32\nstages: [0..4]\nlayers:\n  0..4: { data: 4, shard: parameters }\n"),
    ("tensor", "precision: f32\nstages: [0..4]\nlayers:\n  0..4: { tensor: 4, sequence: split }\n"),
    ("pipeline", "precision: f32\nstages: [0..2, 2..4]\nlayers:\n  0..4: { data: 2, shard: optimizer }\n"),
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
            let children = place.start(&line, processes);
            let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
            for output in &outputs[1..] {
                objects(output);
                assert!(output.stdout.is_empty(), "{name}: process 0 alone prints");
            }
            let found = objects(&outputs[0]);
            assert_eq!(numbers(&found), expected, "{name} in {processes} processes");
            assert_eq!(found[0]["processes"], processes);
        }
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
