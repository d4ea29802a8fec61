//! Five compiled programs with their predicted steps, held still: what a change of the compiler changes can be read in
//! the difference. `UPDATE=1 cargo test -p hetu-tests --test golden` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use cost_model::{CostModel, Detail, simulate};
use hetu_tests::notation::plan;
use hetu_tests::specimen::{gpt, llama};
use ir::cluster::Cluster;
use ir::model::Model;

/// Compares a program with the one that is kept, or keeps it.
fn check(name: &str, model: &Model, text: &str) {
    let graph = model.graph();
    let plan = plan(8, text);
    let cluster = Cluster::preset("8xH100").expect("a shipped description");
    let programs = compiler::compile(&graph, &cluster, &plan).expect("the plan is legal");
    let trace = simulate(&programs, &CostModel::new(&cluster, None), Detail::Totals).expect("it comes to its end");
    let mut found = format!("# {}: {text}\n", model.name);
    writeln!(found, "# predicted step on {}: {:.3} us", cluster.name, trace.step.0 * 1e6).expect("a string takes all");
    // Fragments and blocks follow from the model; what compiling a plan is about is who does what, and when.
    let all = ir::text::print(programs.draft());
    let kept = |line: &&str| !["  kernel", "  binding", "  parameter"].iter().any(|start| line.starts_with(start));
    for line in all.lines().filter(kept) {
        writeln!(found, "{line}").expect("a string takes all");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &found).expect("the folder of cases can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    if let Some(line) = differs {
        let [found, expected] = [&found, &expected].map(|text| text.lines().nth(line).unwrap_or_default().to_owned());
        panic!("{name}.txt, line {}:\n  now  {found}\n  kept {expected}\nsee the head of this file", line + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{name}.txt has another length");
}

#[test]
fn sharded_parameters_are_gathered_ahead() {
    check("sharded", &llama(), "5 m2 ahead2: d2 parameters");
}

#[test]
fn a_split_sequence_beside_a_sharded_optimizer() {
    check("split", &llama(), "5 m1: d2 t2 split optimizer");
}

#[test]
fn one_forward_one_backward_over_two_stages() {
    check("pipeline", &llama(), "2+3 m4: d2 gradients full");
}

#[test]
fn unlike_layers_in_one_stage() {
    check("unlike", &llama(), "5 m1: d4 / d4 selective / d2 t2 split / d2 t2 / t4");
}

#[test]
fn tied_matrices_on_two_stages() {
    check("tied", &gpt(), "2+3 m2 gpipe: d2 optimizer");
}
