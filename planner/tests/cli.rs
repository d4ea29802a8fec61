//! `hetu-plan` as a user meets it: good runs, and each kind of bad input with its message and exit status.

mod place;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ir::file::{parse_plan, parse_trace, print_profile};
use ir::profile::Profile;
use ir::units::Seconds;
use place::{MODEL, folder, refused, run, status_and_texts};
use serde_json::Value;
use solver::{Costs, Kind, Problem, Stage};

const CLUSTER: &str = include_str!("../../examples/clusters/4xCPU.yaml");

/// Plans for four ranks with few sequences, so that tests are fast.
const PLAN: [&str; 8] = ["model.yaml", "--cluster", "4xCPU", "--batch", "4", "--keep", "3", "--output"];

fn planned(folder: &Path, output: &str, more: &[&str]) -> String {
    let arguments: Vec<&str> = PLAN.into_iter().chain([output]).chain(more.iter().copied()).collect();
    let (status, text, said) = status_and_texts(&run(folder, &arguments));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    text
}

#[test]
fn a_plan_is_written_with_its_trace_and_passes_its_check() {
    let folder = folder("good");
    let text = planned(&folder, "plan.yaml", &["--explain", "--report", "report"]);
    for word in ["Model ", "Cluster ", "Prices ", "Searched ", "usual recipe", "Trust ", "Strategies", "Memory"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert!(text.lines().last().unwrap().starts_with("Wrote plan.yaml, plan.trace, report/report.html: "), "{text}");
    assert!(text.contains("modelled from the shipped description of CPU"), "{text}");
    let written = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let file = parse_plan(&written("plan.yaml"), "plan.yaml").unwrap();
    let trace = parse_trace(&written("plan.trace"), "plan.trace").unwrap();
    let predicted = file.predicted.unwrap();
    assert_eq!((trace.digest, trace.step), (predicted.programs.0, predicted.step));
    assert!(written("report/report.html").contains("tiny-llama on 4xCPU"));

    let (status, text, said) = status_and_texts(&run(&folder, &["check", "plan.yaml"]));
    assert_eq!((status, said.as_str()), (0, ""));
    assert!(text.ends_with("Checked plan.yaml: it is legal and fits\n"), "{text}");
    let (status, text, _) = status_and_texts(&run(&folder, &["check", "plan.yaml", "--json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &document["legal"]), (0, &Value::Bool(true)));
    assert_eq!(document["candidate"]["programs"], predicted.programs.to_string());

    let (status, text, _) = status_and_texts(&run(&folder, &["compile", "plan.yaml"]));
    assert_eq!((status, text.lines().next()), (0, Some("programs format 2")));
    let (status, said, _) = status_and_texts(&run(&folder, &["compile", "plan.yaml", "-o", "programs.txt"]));
    assert!(status == 0 && said.starts_with("Wrote programs.txt: "), "{said}");
    assert_eq!(written("programs.txt"), text);
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".hetu-plan-")), "{left:?}");
}

#[test]
fn equal_questions_give_equal_files_and_documents() {
    let folder = folder("equal");
    let first = planned(&folder, "first.yaml", &["--json"]);
    let second = planned(&folder, "second.yaml", &["--json"]);
    assert_eq!(first.replace("first.", "second."), second);
    let [first, second] = ["first.yaml", "second.yaml"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    assert_eq!(first, second);
    let last = planned(&folder, "third.yaml", &["--quiet"]);
    assert_eq!(last.lines().count(), 1, "{last}");
}

#[test]
fn references_are_relative_to_the_plan() {
    let folder = folder("relative");
    fs::create_dir_all(folder.join("out/deep")).unwrap();
    fs::write(folder.join("cluster.yaml"), CLUSTER).unwrap();
    let arguments = ["model.yaml", "--cluster", "cluster.yaml", "--batch", "4", "--keep", "1", "-o", "out/deep/p.yaml"];
    assert_eq!(run(&folder, &arguments).status.code(), Some(0));
    let file = parse_plan(&fs::read_to_string(folder.join("out/deep/p.yaml")).unwrap(), "p.yaml").unwrap();
    assert_eq!((file.model.path.as_str(), file.cluster.path.as_str()), ("../../model.yaml", "../../cluster.yaml"));
    assert_eq!(run(&folder, &["check", "out/deep/p.yaml"]).status.code(), Some(0));
    let plan = folder.join("out/deep/p.yaml");
    assert_eq!(run(Path::new("/"), &["check", plan.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn mistakes_in_a_model_are_told_at_their_line() {
    let folder = folder("models");
    for (from, to, expected) in [
        ("hidden: 256", "hidden: [256", "bad.yaml:"),
        ("hidden: 256", "hiden: 256", "bad.yaml:6: unknown key `hiden`\n  help: did you mean `hidden`?"),
        ("hidden: 256", "hidden: wide", "bad.yaml:6: `hidden` must be a whole number"),
        ("hidden: 256", "hidden: -256", "bad.yaml:6: `hidden` must be a whole number, 0 or more, not `-256`"),
        ("hidden: 256", "hidden: 99999999999999999999", "bad.yaml:6: `hidden` must be a whole number"),
        ("layers: 6", "layers: 0", "bad.yaml:5: `layers` must be at least 1"),
        ("heads: 8", "heads: 7", "bad.yaml:7: `heads` (7) does not divide `hidden` (256)"),
        ("hidden: 256", "hidden: 9007199254740992", "more parameters than 64 bits can count"),
        ("batch: 16", "batch: 0", "`training.batch` must be at least 1"),
        ("format: 1", "format: 2", "the first key must be `format: 1`"),
    ] {
        assert!(MODEL.contains(from));
        fs::write(folder.join("bad.yaml"), MODEL.replace(from, to)).unwrap();
        let said = refused(&folder, &["bad.yaml", "--cluster", "4xCPU"], 2);
        assert!(said.contains(expected), "{to}: {said}");
        assert!(!folder.join("plan.yaml").exists());
    }
    fs::write(folder.join("bad.yaml"), [0xff, 0x00, 0xfe]).unwrap();
    assert!(refused(&folder, &["bad.yaml", "--cluster", "4xCPU"], 2).contains("not UTF-8"));
    fs::write(folder.join("bad.yaml"), "").unwrap();
    assert!(refused(&folder, &["bad.yaml", "--cluster", "4xCPU"], 2).contains("the file is empty"));
}

#[test]
fn missing_files_are_named() {
    let folder = folder("missing");
    assert!(refused(&folder, &["none.yaml"], 2).starts_with("error: cannot read none.yaml: "));
    assert!(refused(&folder, &["check", "none.yaml"], 2).starts_with("error: cannot read none.yaml: "));
    assert!(refused(&folder, &["solve", "none.json"], 2).starts_with("error: cannot read none.json: "));
    assert!(refused(&folder, &["model.yaml", "--cluster", "c.yaml"], 2).contains("cannot read c.yaml"));
    assert!(refused(&folder, &["model.yaml", "--cluster", "8xH10"], 2).contains("did you mean `8xH100`?"));
    planned(&folder, "plan.yaml", &[]);
    fs::rename(folder.join("model.yaml"), folder.join("moved.yaml")).unwrap();
    let said = refused(&folder, &["check", "plan.yaml"], 2);
    assert!(said.contains("cannot read model.yaml") && said.contains("plan.yaml refers to `model.yaml`"), "{said}");
}

#[test]
fn places_that_cannot_be_written_are_told_before_the_search() {
    let folder = folder("unwritable");
    let with = |more: &[&'static str]| -> Vec<&'static str> {
        ["model.yaml", "--cluster", "4xCPU"].into_iter().chain(more.iter().copied()).collect()
    };
    for arguments in [with(&["-o", "model.yaml/p.yaml"]), with(&["-o", "."])] {
        assert!(refused(&folder, &arguments, 2).starts_with("error: cannot write "));
    }
    assert!(refused(&folder, &with(&["--report", "model.yaml/r"]), 2).contains("cannot write model.yaml/r"));
    assert!(!folder.join("plan.yaml").exists(), "nothing was searched");
}

#[test]
fn a_foreign_cluster_file_is_not_overwritten() {
    let folder = folder("foreign");
    fs::write(folder.join("cluster.yaml"), CLUSTER).unwrap();
    let said = refused(&folder, &["model.yaml"], 2);
    assert!(said.contains("cluster.yaml describes other devices"), "{said}");
    assert_eq!(fs::read_to_string(folder.join("cluster.yaml")).unwrap(), CLUSTER);
}

#[test]
fn when_nothing_fits_the_least_and_its_parts_are_told() {
    let folder = folder("memory");
    fs::write(folder.join("small.yaml"), CLUSTER.replace("memory: 2 GiB", "memory: 68 MiB")).unwrap();
    let arguments = ["model.yaml", "--cluster", "small.yaml"];
    let said = refused(&folder, &arguments, 1);
    assert!(said.starts_with("error: model.yaml: no plan fits 4.0 MiB\n  least found: "), "{said}");
    for word in ["too much", "state ", "saved ", "transient ", "  help: "] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (status, text, _) = status_and_texts(&run(&folder, &[&arguments[..], &["--json"]].concat()));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, document["least"]["capacity_bytes"].as_u64()), (1, Some(4 << 20)));
    assert!(!folder.join("plan.yaml").exists());
    // What cannot be spread over all devices is spread over fewer.
    let (status, text, said) =
        status_and_texts(&run(&folder, &["model.yaml", "--cluster", "7xCPU", "--batch", "3", "-o", "odd.yaml"]));
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    assert!(text.contains("of 7: nothing legal spreads a batch of 3"), "{text}");
}

#[test]
fn a_plan_is_refused_for_another_model_or_cluster() {
    let folder = folder("digests");
    planned(&folder, "plan.yaml", &[]);
    let model = fs::read_to_string(folder.join("model.yaml")).unwrap();
    fs::write(folder.join("model.yaml"), model.replace("hidden: 256", "hidden: 512")).unwrap();
    let said = refused(&folder, &["check", "plan.yaml"], 1);
    assert!(
        said.contains("plan.yaml: made for a model with digest ") && said.contains("`model.yaml` now has"),
        "{said}"
    );
    refused(&folder, &["compile", "plan.yaml"], 1);
    fs::write(folder.join("model.yaml"), &model).unwrap();
    // The plan's cluster is found as a file of this name before it is taken for a preset.
    fs::write(folder.join("4xCPU"), CLUSTER.replace("memory: 2 GiB", "memory: 3 GiB")).unwrap();
    assert!(refused(&folder, &["check", "plan.yaml"], 1).contains("made for a cluster with digest "));
}

/// The plan with `from` replaced, checked.
fn checked(folder: &Path, from: &str, to: &str) -> String {
    let plan = fs::read_to_string(folder.join("plan.yaml")).expect("the plan was written");
    assert!(plan.contains(from), "{from} is not in\n{plan}");
    fs::write(folder.join("changed.yaml"), plan.replace(from, to)).expect("the folder can be written");
    refused(folder, &["check", "changed.yaml"], 1)
}

const BY_HAND: &str = "\
format: 1
model: model.yaml
cluster: 4xCPU
batch: 8
microbatches: 2
precision: f32
stages: [0..4]
layers:
  0..4: { data: 4 }
";

#[test]
fn every_violation_of_a_plan_is_named() {
    let folder = folder("violations");
    fs::write(folder.join("plan.yaml"), BY_HAND).unwrap();
    assert_eq!(run(&folder, &["check", "plan.yaml"]).status.code(), Some(0));
    assert!(checked(&folder, "4xCPU", "2xCPU").contains("needs 4 devices, but the cluster has 2"));
    let said = checked(
        &folder,
        "0..4: { data: 4 }",
        "0..3: { tensor: 4, shard: optimizer }\n  3: { tensor: 4, shard: gradients }",
    );
    assert_eq!(said.matches("`shard` has no effect with `data: 1`").count(), 4, "{said}");
    assert!(checked(&folder, "0..4", "0..3").contains("strategies for 3 layers, but the model has 4"));
    fs::write(folder.join("small.yaml"), CLUSTER.replace("memory: 2 GiB", "memory: 68 MiB")).unwrap();
    let said = checked(&folder, "4xCPU", "small.yaml");
    assert!(said.contains("stage 0 needs ") && said.contains(" too much\n  help: "), "{said}");
    let (status, text, _) = status_and_texts(&run(&folder, &["check", "changed.yaml", "--json"]));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, document["violations"].as_array().map(Vec::len)), (1, Some(1)));
}

#[test]
fn a_stale_prediction_is_a_warning() {
    let folder = folder("stale");
    let predicted = "predicted: { step: 1 s, peak: 1 MiB, programs: \"0000000000000001\" }\n";
    fs::write(folder.join("plan.yaml"), format!("{BY_HAND}{predicted}")).unwrap();
    let (status, _, said) = status_and_texts(&run(&folder, &["check", "plan.yaml"]));
    assert_eq!(status, 0);
    assert!(said.starts_with("warning: plan.yaml: was predicted for programs 0000000000000001, but now "), "{said}");
}

fn profile(device: &str) -> String {
    print_profile(&Profile { sharing: vec![1.0, 1.0, 1.5, 2.0], issue: Seconds(2e-6), ..Profile::new(device) })
}

#[test]
fn a_plan_says_how_its_products_were_fastest_and_keeps_it_when_checked() {
    let folder = folder("ways");
    let plain = planned(&folder, "plan.yaml", &[]);
    assert!(!fs::read_to_string(folder.join("plan.yaml")).unwrap().contains("products:"), "{plain}");
    let model = fs::read_to_string(folder.join("model.yaml")).unwrap();
    let model = ir::file::parse_model(&model, "model.yaml").unwrap();
    let cluster = ir::cluster::Cluster::preset("4xCPU").unwrap();
    let file = parse_plan(&fs::read_to_string(folder.join("plan.yaml")).unwrap(), "plan.yaml").unwrap();
    let programs = compiler::compile(&model.graph(), &cluster, &file.plan).unwrap();
    let kernels = programs.draft().fragments.iter().flat_map(|fragment| &fragment.kernels);
    let product = kernels
        .map(ir::program::Kernel::work)
        .find(|work| matches!(work, ir::profile::Work::Kernel { op: ir::op::OpKind::MatMul, .. }))
        .unwrap();
    let sample = |work: &ir::profile::Work, way: &str| {
        let (median, spread, way) = (Seconds(1e-5), Seconds(0.0), way.parse().ok());
        let samples = vec![ir::profile::Sample { work: work.clone(), median, spread, runs: 3, way }];
        let profile = Profile { samples, library: "l".to_owned(), ..Profile::new("CPU") };
        print_profile(&profile).lines().last().map(str::to_owned).unwrap()
    };
    // One that the plan has, and one that no plan has.
    let text = profile("CPU").replace("samples: []", &format!("library: \"a library 1.0\"\nsamples:\n{}", [
        sample(&product, "42-0-ff"),
        "- { work: { kernel: { op: matmul, element: f32, shape: \"m3 n5 k7 nn\" } }, median: 1e-6, spread: 0.0, runs: 3, way: \"7\" }".to_owned(),
    ].join("\n")));
    fs::write(folder.join("ways.yaml"), text).unwrap();
    let ways = |plan: &str| parse_plan(&fs::read_to_string(folder.join(plan)).unwrap(), plan).unwrap().ways;
    assert_eq!(
        run(&folder, &["check", "plan.yaml", "--profile", "ways.yaml", "-o", "told.yaml"]).status.code(),
        Some(0)
    );
    let told = ways("told.yaml");
    assert_eq!((told.library.as_str(), told.products.len()), ("a library 1.0", 1));
    assert_eq!(told.products[&product].to_string(), "42-0-ff");
    assert_eq!(run(&folder, &["check", "told.yaml", "-o", "again.yaml"]).status.code(), Some(0));
    assert_eq!(ways("again.yaml"), told);
}

#[test]
fn a_profile_must_be_of_the_device() {
    let folder = folder("profile");
    fs::write(folder.join("cpu.yaml"), profile("CPU")).unwrap();
    fs::write(folder.join("other.yaml"), profile("H100")).unwrap();
    let said = refused(&folder, &["model.yaml", "--cluster", "4xCPU", "--profile", "other.yaml"], 2);
    assert!(said.contains("other.yaml: measured on `H100`, but the devices of cluster `4xCPU` are `CPU`"), "{said}");
    assert!(planned(&folder, "plan.yaml", &["--profile", "cpu.yaml"]).contains("0 measurements on CPU"));
    refused(&folder, &["check", "plan.yaml", "--profile", "other.yaml"], 2);
    assert_eq!(run(&folder, &["check", "plan.yaml", "--profile", "cpu.yaml"]).status.code(), Some(0));
}

fn problem(capacity_bytes: u64) -> Problem {
    let costs = |time_microbatch, bytes_state| Costs {
        time_microbatch,
        time_step: 0.5,
        bytes_state,
        bytes_saved: 1,
        bytes_transient: 1,
        layout: 0,
    };
    Problem {
        kinds: vec![Kind { strategies: vec![costs(1.0, 4), costs(2.0, 2)] }],
        layers: vec![0; 5],
        transitions: vec![vec![0.0]],
        boundary: vec![0.25],
        stages: vec![
            Stage { capacity_bytes, in_flight: 2, speed: 1.0 },
            Stage { capacity_bytes, in_flight: 1, speed: 1.0 },
        ],
        microbatches: 3,
        ties: Vec::new(),
    }
}

#[test]
fn all_methods_solve_a_problem_alike() {
    let folder = folder("solve");
    let write =
        |name: &str, problem: &Problem| fs::write(folder.join(name), serde_json::to_string(problem).unwrap()).unwrap();
    write("problem.json", &problem(14));
    let methods: &[&str] = if cfg!(feature = "ilp") { &["dp", "ilp", "exhaustive"] } else { &["dp", "exhaustive"] };
    let objective = |&method: &&str| {
        let (status, text, said) = status_and_texts(&run(&folder, &["solve", "problem.json", "--method", method]));
        assert_eq!(status, 0, "{said}");
        serde_json::from_str::<Value>(&text).unwrap()["objective"].as_f64().unwrap()
    };
    let objectives: Vec<f64> = methods.iter().map(objective).collect();
    assert!(objectives.iter().all(|objective| (objective - objectives[0]).abs() < 1e-6), "{objectives:?}");
    write("tight.json", &problem(3));
    assert!(refused(&folder, &["solve", "tight.json"], 1).contains("no assignment fits"));
    write("wrong.json", &Problem { microbatches: 0, boundary: Vec::new(), ..problem(14) });
    assert_eq!(refused(&folder, &["solve", "wrong.json"], 2).matches("error: ").count(), 2);
    write("huge.json", &Problem { layers: vec![0; 200], ..problem(14) });
    assert!(refused(&folder, &["solve", "huge.json", "--method", "exhaustive"], 2).contains("too many"));
    fs::write(folder.join("broken.json"), "{\n\"kinds\": 3}").unwrap();
    assert!(refused(&folder, &["solve", "broken.json"], 2).starts_with("error: broken.json:2: "));
}

#[cfg(not(feature = "ilp"))]
#[test]
fn a_method_that_was_left_out_names_its_feature() {
    let folder = folder("left-out");
    fs::write(folder.join("problem.json"), serde_json::to_string(&problem(14)).unwrap()).unwrap();
    let solve = refused(&folder, &["solve", "problem.json", "--method", "ilp"], 2);
    let plan = refused(&folder, &["model.yaml", "--cluster", "4xCPU", "--method", "ilp"], 2);
    for said in [solve, plan] {
        assert!(said.starts_with("error: this hetu-plan was built without the feature `ilp`\n  help: "), "{said}");
    }
}

#[test]
fn wrong_use_ends_with_status_two() {
    let folder = folder("use");
    fs::write(folder.join("whole.yaml"), MODEL).unwrap();
    for arguments in [
        &["model.yaml", "--batch", "0"][..],
        &["model.yaml", "--batch", "-1"],
        &["model.yaml", "--batch", "99999999999999999999"],
        &["model.yaml", "--batch", "9999999999999999999", "--cluster", "4xCPU"],
        &["model.yaml", "--keep", "0"],
        &["model.yaml", "--method", "magic"],
        &["model.yaml", "--json", "--quiet"],
        &["whole.yaml", "--cluster", "4xCPU", "--method", "exhaustive"],
        &["--nonsense"],
        &[],
    ] {
        refused(&folder, arguments, 2);
    }
}

#[test]
fn help_and_completions_are_complete() {
    let folder = folder("help");
    let (status, text, _) = status_and_texts(&run(&folder, &["--help"]));
    assert_eq!(status, 0);
    for word in
        ["EXAMPLES", "EXIT STATUS", "--cluster", "--profile", "--report", "--explain", "--json", "--completions"]
    {
        assert!(text.contains(word), "{word}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (status, text, _) = status_and_texts(&run(&folder, &["--completions", shell]));
        assert!(status == 0 && text.contains("hetu-plan") && text.contains("method"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder("pipe");
    fs::write(folder.join("plan.yaml"), BY_HAND).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hetu-plan"))
        .args(["solve", "-"])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    // The reader is gone before the problem is known, so nothing can have been printed.
    let text = serde_json::to_string(&problem(14)).unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
