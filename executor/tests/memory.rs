//! What a training takes of this machine's memory, as the system counts it: hardly more than its arenas, also while it
//! saves and resumes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use ir::cluster::Cluster;
use ir::file::{parse_model, parse_plan};
use ir::units::Bytes;
use place::Place;

/// What the program, its threads, the text and the chunks of a save take beside the arenas, and what pages round up.
const BESIDE: Bytes = Bytes(64 << 20);
const ROUNDING: f64 = 0.05;
/// What a save or a resume may have in its hands, and as much again for the allocator. All parameters and moments of
/// the model are more than twice of it.
const CHUNKS: Bytes = Bytes(24 << 20);

const PLANS: [(&str, &str); 3] = [
    ("one", "stages: [0..8]\nlayers:\n  0..8: { data: 1 }\n"),
    ("sharded", "stages: [0..8]\nlayers:\n  0..8: { data: 4, shard: parameters }\n"),
    ("pipeline", "stages: [0..4, 4..8]\nlayers:\n  0..8: { tensor: 2, sequence: split }\n"),
];

/// Arenas of all ranks of a plan.
fn arenas(place: &Place, plan: &str) -> Bytes {
    let read = |name: &str| fs::read_to_string(place.0.join(name)).unwrap();
    let model = parse_model(&read("model.yaml"), "model.yaml").unwrap();
    let plan = parse_plan(&read(plan), plan).unwrap().plan;
    let cluster = Cluster::preset("4xCPU").unwrap();
    let programs = compiler::compile(&model.graph(), &cluster, &plan).unwrap();
    let ranks = u64::from(programs.mesh().ranks_per_stage());
    programs.roles().iter().map(|role| role.arena * ranks).sum()
}

/// The most memory that a training had until it printed so many lines; then it is killed.
fn peak(place: &Place, line: &str, lines: usize) -> Bytes {
    let mut child = place.command(line).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..lines {
        output.next().unwrap_or_else(|| panic!("{line} ended early")).unwrap();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    Bytes(peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10)
}

#[test]
fn the_peak_is_that_of_the_arenas_also_while_it_saves_and_resumes() {
    let place = Place::new("memory");
    place.write("model.yaml", include_str!("../../examples/models/tiny-llama.yaml"));
    place.write("text.txt", &"It is a truth universally acknowledged, that a plan needs a text. ".repeat(400));
    for (name, rest) in PLANS {
        let file = format!("{name}.yaml");
        let head = "format: 1\nmodel: model.yaml\ncluster: 4xCPU\nbatch: 4\nmicrobatches: 1\nprecision: f32\n";
        place.write(&file, &format!("{head}{rest}"));
        let line = format!("{file} --text text.txt --steps 100000000 --evaluate-every 0 --trace-every 0 --json");
        let saving = format!("{line} --checkpoint {name} --save-every 1 --resume auto");
        // The head, and steps; behind each but the first one, a step was saved.
        let bare = peak(&place, &line, 3);
        let saved = peak(&place, &saving, 4);
        let resumed = peak(&place, &saving, 2);
        let arenas = arenas(&place, &file);
        let most = Bytes((arenas.0 as f64 * (1.0 + ROUNDING)) as u64) + BESIDE;
        eprintln!("{name}: arenas {arenas}, peak {bare}, saving {saved}, resumed {resumed}, allowed {most}");
        for (what, peak) in [("bare", bare), ("saving", saved), ("resumed", resumed)] {
            assert!(peak <= most, "{name}, {what}: {peak} for arenas of {arenas}");
            assert!(peak <= bare + CHUNKS, "{name}, {what}: {peak}, but {bare} of a training that does not save");
        }
    }
}
