//! Trainings that are killed at random moments and go on with `--resume auto`, under the same plan or another one: no
//! checkpoint is torn, and losses are those of a training that nobody killed.
//!
//! `HETU_KILLS=300 HETU_SEED=7 cargo test -p hetu-executor --test kills -- --nocapture` kills oftener, from another seed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ir::seed::{Draws, Seed};
use place::Place;
use serde_json::Value;

/// Kills of each of the two tests, unless the environment says otherwise.
const KILLS: u64 = 6;
const SEED: u64 = 1;
/// Steps of one training; when they are done, another begins.
const STEPS: u64 = 60;
/// The longest wait for a moment to kill: some steps with their saves.
const WAIT_MICROSECONDS: u64 = 60_000;
/// Between plans, which add the same numbers in other orders.
const TOLERANCE: f64 = 1e-4;

/// One after another: every other one leaves no time to save.
const SIGNALS: [&str; 6] = ["KILL", "TERM", "KILL", "INT", "KILL", "HUP"];

/// How checkpoints are written.
const SAVES: [&str; 2] = ["waiting", "background"];

/// Plans, and in how many processes each is run.
const PLANS: [(&str, u32, &str); 5] = [
    ("pipeline", 1, "stages: [0..2, 2..4]\nlayers:\n  0..4: { data: 2, shard: parameters }\n"),
    ("one", 1, "stages: [0..4]\nlayers:\n  0..4: { data: 1 }\n"),
    ("data", 2, "stages: [0..4]\nlayers:\n  0..4: { data: 4, shard: optimizer }\n"),
    ("tensor", 1, "stages: [0..4]\nlayers:\n  0..4: { tensor: 2, sequence: split }\n"),
    ("stages", 2, "stages: [0..2, 2..4]\nlayers:\n  0..4: { data: 2, shard: optimizer }\n"),
];

/// Loss and gradient norm by step.
type Numbers = BTreeMap<u64, [f64; 2]>;

fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn place(test: &str) -> Place {
    let place = Place::new(test);
    for (name, _, rest) in PLANS {
        let head = "format: 1\nmodel: model.yaml\ncluster: 4xCPU\nbatch: 8\nmicrobatches: 2\nprecision: f32\n";
        place.write(&format!("{name}.yaml"), &format!("{head}{rest}"));
    }
    place
}

/// All processes of a training, which saves after each step.
fn start(place: &Place, (plan, processes): (&str, u32), (folder, save): (&str, &str)) -> Vec<Child> {
    let line = format!(
        "{plan}.yaml --text text.txt --steps {STEPS} --evaluate-every 0 --trace-every 0 --json \
         --checkpoint {folder} --save-every 1 --resume auto --save {save}"
    );
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let process = |process: u32| {
        let mut command = place.command(&line);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if processes > 1 {
            let numbers = [("RANK", process), ("WORLD_SIZE", processes), ("LOCAL_RANK", process)];
            command.envs(numbers.map(|(name, number)| (name, number.to_string())));
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        }
        command.spawn().unwrap()
    };
    (0..processes).map(process).collect()
}

/// How one start ended.
struct Ended {
    numbers: Numbers,
    /// Of process 0.
    code: Option<i32>,
    errors: String,
}

/// Reads on until all processes have ended; kills one of them, if it is told how, some time after the head is printed.
fn end(mut children: Vec<Child>, kill: Option<(usize, &str, Duration)>) -> Ended {
    let mut output = BufReader::new(children[0].stdout.take().unwrap());
    let mut text = String::new();
    if let Some((victim, signal, wait)) = kill {
        output.read_line(&mut text).unwrap();
        // Not to let something happen, but to be somewhere in it.
        thread::sleep(wait);
        // One that has ended already is not killed.
        let _ = Command::new("kill").args([format!("-{signal}"), children[victim].id().to_string()]).output();
    }
    output.read_to_string(&mut text).unwrap();
    let ended: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let errors = ended.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
    // The last line may be cut.
    let objects = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let numbers = objects.filter(|object| object["kind"] == "step").map(|step| {
        let number = |name: &str| step[name].as_f64().unwrap();
        (step["step"].as_u64().unwrap(), [number("loss"), number("gradient_norm")])
    });
    Ended { numbers: numbers.collect(), code: ended[0].status.code(), errors }
}

fn is_near(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs()
}

/// Kills trainings, each start under a plan that `choose` gives, and compares every loss that was ever printed.
fn kill(test: &str, choose: impl Fn(&mut Draws) -> usize, tolerance: f64) {
    let (kills, seed) = (given("HETU_KILLS", KILLS), given("HETU_SEED", SEED));
    eprintln!("{test}: HETU_KILLS={kills} HETU_SEED={seed}");
    let place = place(test);
    let (plan, processes, _) = PLANS[0];
    let whole = end(start(&place, (plan, processes), ("whole", SAVES[0])), None);
    assert_eq!((whole.code, whole.numbers.len() as u64), (Some(0), STEPS), "{}", whole.errors);

    let mut draws = Draws::new(Seed(seed));
    let (mut training, mut killed, mut starts, mut steps) = (0, BTreeMap::new(), 0, 0);
    while killed.values().sum::<u64>() < kills {
        let (plan, processes, _) = PLANS[choose(&mut draws)];
        let victim = draws.below(processes.into()) as usize;
        let signal = SIGNALS[starts % SIGNALS.len()];
        starts += 1;
        let wait = Duration::from_micros(draws.below(WAIT_MICROSECONDS));
        let folder = format!("run-{training}");
        let save = SAVES[draws.below(SAVES.len() as u64) as usize];
        let found = end(start(&place, (plan, processes), (&folder, save)), Some((victim, signal, wait)));
        let what =
            format!("{folder}, {plan}, {save}, SIG{signal} to process {victim} after {wait:?}: {}", found.errors);
        assert!(!found.errors.contains("damaged") && !found.errors.contains("panicked"), "{what}");
        assert_ne!(found.code, Some(2), "{what}");
        for (step, numbers) in &found.numbers {
            let expected = whole.numbers[step];
            let near = numbers.iter().zip(expected).all(|(&found, expected)| is_near(found, expected, tolerance));
            assert!(near, "step {step}: {numbers:?} is not {expected:?}: {what}");
        }
        steps += found.numbers.len();
        if found.code == Some(0) {
            training += 1;
        } else {
            *killed.entry((signal, plan)).or_default() += 1;
        }
    }
    let last = format!("run-{training}");
    let found = end(start(&place, (plan, processes), (&last, SAVES[1])), None);
    assert_eq!(found.code, Some(0), "what was killed last comes to its end: {}", found.errors);
    eprintln!("{test}: {steps} steps compared, {training} trainings ended under way; killed: {killed:?}");
}

#[test]
fn a_killed_training_goes_on_to_the_bit() {
    kill("kills-same", |_| 0, 0.0);
}

#[test]
fn a_killed_training_goes_on_under_any_plan() {
    kill("kills-other", |draws| draws.below(PLANS.len() as u64) as usize, TOLERANCE);
}
