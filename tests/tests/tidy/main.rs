//! What a reviewer would otherwise have to look for in each change.

mod source;

use std::collections::BTreeMap;

use ir::file::{parse_machines, parse_model, parse_plan, parse_profile, parse_software};
use source::{Source, files, functions, identifiers, read, root, sources, words};

/// What each crate may link; every crate stands behind all that it may link.
const CRATES: [(&str, &[&str]); 11] = [
    ("ir", &[]),
    ("compiler", &["ir"]),
    ("machine", &["ir"]),
    ("reports", &["ir"]),
    ("cost-model", &["ir"]),
    ("solver", &[]),
    ("planner", &["ir", "compiler", "machine", "reports", "cost-model", "solver"]),
    ("kernels", &["ir"]),
    ("executor", &["ir", "compiler", "machine", "reports", "kernels"]),
    ("profiler", &["ir", "compiler", "machine", "reports", "kernels", "executor"]),
    (
        "tests",
        &["ir", "compiler", "machine", "reports", "cost-model", "solver", "planner", "kernels", "executor", "profiler"],
    ),
];

/// Crates whose libraries read nothing but their arguments.
const PURE: [&str; 5] = ["ir", "compiler", "cost-model", "solver", "planner"];

/// What belongs to binaries of pure crates.
const BINARIES: [&str; 4] =
    ["planner/src/main.rs", "planner/src/options.rs", "planner/src/options/", "planner/src/cli/"];

/// Where memory is touched past the rules of the language.
const UNSAFE: [&str; 17] = [
    "executor/src/cpu/arena.rs",
    "executor/src/cpu/exchange.rs",
    "executor/src/cpu/kernel.rs",
    "executor/src/cuda/nccl.rs",
    "executor/tests/allocation.rs",
    "kernels/src/cuda/compile.rs",
    "kernels/src/cuda/device.rs",
    "kernels/src/cuda/driver.rs",
    "kernels/src/cuda/graph.rs",
    "kernels/src/cuda/library.rs",
    "kernels/src/cuda/prepared.rs",
    "kernels/src/cuda/product.rs",
    "kernels/src/cuda/shim/mod.rs",
    "kernels/src/cuda/vitals.rs",
    "kernels/src/cuda/window.rs",
    "kernels/tests/allocation.rs",
    "tests/tests/memory.rs",
];

/// Files that may be longer than others, and how long: lists, and stories that would not be clearer in two parts.
const LONG: [(&str, usize); 10] = [
    ("compiler/src/layer/block.rs", 445),
    ("compiler/src/layer/fragment.rs", 430),
    ("cost-model/tests/simulate.rs", 420),
    ("ir/src/file/plan.rs", 475),
    ("ir/src/text/parse.rs", 445),
    ("ir/tests/verify.rs", 570),
    ("planner/tests/cli.rs", 410),
    ("profiler/src/catalogue.rs", 415),
    ("profiler/src/measure.rs", 450),
    ("solver/src/problem.rs", 430),
];
const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Papers and products after which nothing is named.
const NAMES: [&str; 34] = [
    "alpa",
    "angel",
    "autopipe",
    "bmw",
    "cafe",
    "colossal",
    "cuwide",
    "deepspeed",
    "dapple",
    "evomoe",
    "flexflow",
    "flexmoe",
    "fsdp",
    "galvatron",
    "gshard",
    "hetu",
    "hotspa",
    "hetumoe",
    "malleus",
    "megatron",
    "memo",
    "merak",
    "mesh_tensorflow",
    "metis",
    "osdp",
    "piper",
    "pipedream",
    "ptm",
    "sdpipe",
    "tofu",
    "tsplit",
    "unity",
    "whale",
    "zero3",
];

fn folders() -> Vec<String> {
    CRATES.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Fails with all that is wrong, each on its line.
#[track_caller]
fn assert_none(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

/// Paths of sources of which `is_wrong` says so.
fn paths_where(is_wrong: impl Fn(&Source) -> bool) -> Vec<String> {
    sources(&folders()).into_iter().filter(|source| is_wrong(source)).map(|source| source.path).collect()
}

#[test]
fn crates_link_only_what_stands_before_them() {
    let members = read("Cargo.toml");
    let members = members.lines().find(|line| line.starts_with("members")).expect("the workspace has members");
    let mut wrong = Vec::new();
    for (name, allowed) in CRATES {
        let manifest = read(&format!("{name}/Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let linked = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let is_ours = CRATES.iter().any(|(other, _)| *other == linked);
            if ["[dependencies]", "[build-dependencies]"].contains(&section) && is_ours && !allowed.contains(&linked) {
                wrong.push(format!("{name} links {linked}"));
            }
        }
        if !members.contains(&format!("\"{name}\"")) {
            wrong.push(format!("{name} is not in the workspace"));
        }
    }
    assert_eq!(members.matches('"').count(), 2 * CRATES.len(), "a crate is not in the list of this test: {members}");
    assert_none("crates link others that they must not know", &wrong);
}

#[test]
fn unsafe_stands_in_named_places_only() {
    let uses = |source: &Source| identifiers(&source.code).any(|word| word == "unsafe");
    let wrong = paths_where(|source| uses(source) && !UNSAFE.contains(&source.path.as_str()));
    assert_none("unsafe code outside its places", &wrong);
    let gone: Vec<String> = UNSAFE.into_iter().filter(|path| !root().join(path).exists()).map(str::to_owned).collect();
    assert_none("these are no more; take them off the list", &gone);
}

#[test]
fn nothing_is_kept_in_an_order_that_varies() {
    let varies = |word: &str| ["HashMap", "HashSet", "RandomState"].contains(&word);
    assert_none("use sorted maps", &paths_where(|source| identifiers(&source.code).any(varies)));
}

#[test]
fn pure_crates_read_no_file_clock_or_environment() {
    let is_pure = |path: &str| {
        PURE.iter().any(|name| path.starts_with(&format!("{name}/src/")))
            && !BINARIES.iter().any(|binary| path.starts_with(binary))
    };
    let outer = ["std::fs", "std::env", "std::time", "std::net", "std::process", "std::io::stdin"];
    let reads = |source: &Source| outer.iter().any(|module| source.code.contains(module));
    assert_none("they read more than their arguments", &paths_where(|it| is_pure(&it.path) && reads(it)));
}

#[test]
fn every_source_says_first_what_it_is_for() {
    assert_none("the first line is no `//!`", &paths_where(|source| !source.text.starts_with("//! ")));
}

#[test]
fn nothing_is_named_after_a_paper_or_product() {
    let mut wrong = Vec::new();
    for source in sources(&folders()) {
        let is_name = |word: &String| NAMES.contains(&word.as_str());
        let crates = ["hetu_", "hetu-"];
        let named = identifiers(&source.code)
            .filter(|word| !crates.iter().any(|prefix| word.starts_with(prefix)))
            .chain(source.path.split('/'))
            .filter(|word| words(word).iter().any(is_name));
        wrong.extend(named.map(|word| format!("{}: {word}", source.path)));
    }
    assert_none("papers and products stand in comments only", &wrong);
}

#[test]
fn functions_and_files_are_short() {
    let long: BTreeMap<&str, usize> = LONG.into();
    let mut wrong = Vec::new();
    for source in sources(&folders()) {
        let lines = source.text.lines().count();
        let most = long.get(source.path.as_str()).copied().unwrap_or(FILE_LINES_MAX);
        if lines > most {
            wrong.push(format!("{}: {lines} lines, at most {most}", source.path));
        }
        let too_long = functions(&source.code).into_iter().filter(|&(_, lines)| lines > FUNCTION_LINES_MAX);
        wrong.extend(too_long.map(|(line, lines)| format!("{}:{line}: a function of {lines} lines", source.path)));
    }
    assert_none("look again whether it is one thing", &wrong);
}

/// The first line of a file that is neither empty nor a comment.
fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default()
}

#[test]
fn every_example_is_read() {
    let mut read_count = 0;
    for path in files("examples", ".yaml") {
        let text = read(&path);
        assert_eq!(first_line(&text), "format: 1", "{path}");
        let mistakes = if path.contains("/models/") {
            parse_model(&text, &path).err()
        } else if path.contains("/clusters/") {
            parse_machines(&text, &path).err()
        } else if path.contains("/profiles/") {
            parse_profile(&text, &path).err()
        } else if path.contains("/software/") {
            parse_software(&text, &path).err()
        } else if path.contains("/plans/") {
            parse_plan(&text, &path).err()
        } else {
            panic!("{path}: nobody says what this is an example of");
        };
        assert!(mistakes.is_none(), "{}", mistakes.expect("there are some"));
        read_count += 1;
    }
    assert!(read_count > 10, "only {read_count} examples were found");
}

#[test]
fn files_that_are_shipped_say_their_form_first() {
    let shipped = folders().into_iter().flat_map(|folder| files(&folder, ".yaml"));
    let wrong: Vec<String> = shipped.filter(|path| first_line(&read(path)) != "format: 1").collect();
    assert_none("`format: 1` does not come first", &wrong);
}

#[test]
fn the_architecture_names_every_crate() {
    let text = read("ARCHITECTURE.md");
    let wrong: Vec<String> = folders().into_iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert_none("ARCHITECTURE.md does not name them", &wrong);
}

/// Each "`name` (`path`)" and "`path`" of the walk through the code is there.
#[test]
fn the_walk_through_the_code_can_be_walked() {
    let text = read("ARCHITECTURE.md");
    let walk = text.split("## One microbatch").nth(1).and_then(|rest| rest.split("## Invariants").next());
    let quoted: Vec<&str> = walk.expect("ARCHITECTURE.md has the walk").split('`').skip(1).step_by(2).collect();
    let is_path = |word: &str| word.contains("/src/") && !word.contains(' ');
    let mut wrong = Vec::new();
    for (index, &path) in quoted.iter().enumerate().filter(|(_, word)| is_path(word)) {
        if !root().join(path).exists() {
            wrong.push(format!("{path} is not there"));
            continue;
        }
        let name = index.checked_sub(1).map(|before| quoted[before]);
        let is_named = |name: &&str| text.contains(&format!("`{name}` (`{path}`)"));
        if let Some(name) =
            name.filter(|name| !is_path(name) && name.chars().all(|c| c.is_lowercase() || c == '_')).filter(is_named)
            && !read(path).contains(&format!("fn {name}"))
        {
            wrong.push(format!("{path} has no `fn {name}`"));
        }
    }
    assert_none("the walk in ARCHITECTURE.md names what is not there", &wrong);
}
