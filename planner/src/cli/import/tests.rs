//! Formulas against vectors of the planner whose they are, and optima against those of an integer program on its score.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;
use solver::{Assignment, Method, StepRule};

use super::super::problems::{Choice, Problems, Recompute, Shard, Way};
use super::super::strategy::strategy;
use super::costs::{CONTEXT, End, Formulas, Outer, Sizes};
use super::profile::Profile;
use super::settings::Settings;
use super::{Partition, problems, profile};

const CASES: [&str; 4] = ["llama2-7b", "t5-3b", "bert-large", "llama-28-layers"];

fn folder(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(case)
}

fn read<T: DeserializeOwned>(case: &str, file: &str) -> T {
    let text = std::fs::read_to_string(folder(case).join(file)).expect("the case has the file");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{case}/{file}: {error}"))
}

fn inputs(case: &str) -> (Settings, Profile) {
    let settings: Settings = read(case, "case.json");
    let profile = profile(&folder(case), &settings).unwrap_or_else(|failure| panic!("{}", failure.text));
    (settings, profile)
}

fn assert_near(one: f64, other: f64, place: &dyn Fn() -> String) {
    assert!((one - other).abs() <= 1e-6 * other.abs(), "{}: {one} instead of {other}", place());
}

fn count(value: &Value) -> u32 {
    u32::try_from(value.as_u64().expect("a count")).expect("a small count")
}

/// A row's `tensor, sequence, data, type, recomputed` from a place on.
fn way(values: &[Value]) -> Way {
    let [tensor, sequence, data] = [0, 1, 2].map(|index| count(&values[index]));
    let shard = match values[3].as_str() {
        Some("zero2") => Shard::Gradients,
        Some("zero3") => Shard::Parameters,
        _ => Shard::Nothing,
    };
    let is_recomputed = values.get(4).is_some_and(|value| value.as_u64() == Some(1));
    let recompute = if is_recomputed { Recompute::Full } else { Recompute::Nothing };
    Way { tensor, sequence, data, shard, recompute }
}

/// Checks a row of vectors of a layer, embedding and head, or the buffer.
fn check(formulas: &Formulas<'_>, row: &[Value]) {
    let outer = Outer { batch: count(&row[1]), microbatches: count(&row[2]), stages: count(&row[3]) };
    let numbers = |value: &Value| -> Vec<f64> {
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        list.iter().map(|it| it.as_f64().expect("a number")).collect()
    };
    let seconds = |milliseconds: f64| milliseconds / 1e3;
    let place = || format!("{row:?}");
    match row[0].as_str() {
        Some("layer") => {
            let (way, kind) = (way(&row[4..9]), count(&row[9]) as usize);
            let times = formulas.layer(outer, kind, &way);
            assert_near(seconds(times.with_exchange), numbers(&row[10])[0], &place);
            assert_near(seconds(times.without), numbers(&row[11])[0], &place);
            let Sizes { states, kept } = formulas.layer_sizes(outer, kind, &way);
            for (stage, expected) in (0..).zip(numbers(&row[12])) {
                assert_near(states + kept * f64::from(formulas.in_flight(outer, stage)), expected, &place);
            }
        }
        Some("end") => {
            let way = way(&row[4..8]);
            let [with_exchange, without, sizes] = [10, 11, 12].map(|column| numbers(&row[column]));
            let last = outer.stages as usize - 1;
            let ends = if last == 0 { vec![(End::Both, 0)] } else { vec![(End::First, 0), (End::Last, last)] };
            for (end, stage) in ends {
                let times = formulas.end(outer, end, &way);
                assert_near(seconds(times.with_exchange), with_exchange[stage], &place);
                assert_near(seconds(times.without), without[stage], &place);
                let Sizes { states, kept } = formulas.end_sizes(outer, end, &way);
                let in_flight = if end == End::First { f64::from(outer.stages) } else { 1.0 };
                assert_near(CONTEXT + states + kept * in_flight, sizes[stage], &place);
            }
        }
        Some("buffer") => assert_near(formulas.gather_buffer(outer, count(&row[4])), numbers(&row[5])[0], &place),
        _ => check_step(formulas.settings, outer, row),
    }
}

/// Checks the time of a step of strategies drawn at random, which need not fit, through the problem that is written.
fn check_step(settings: &Settings, outer: Outer, row: &[Value]) {
    let list = |column: usize| row[column].as_array().expect("a list");
    let layers: Vec<Way> = list(5).iter().map(|layer| way(layer.as_array().expect("a list"))).collect();
    let end = way(list(6));
    let case = CASES
        .iter()
        .find(|case| read::<Settings>(case, "case.json").model_layer_configs == settings.model_layer_configs);
    let mut settings = settings.clone();
    settings.search_engine.batch_size_info.settle_bsz = i64::from(outer.batch);
    settings.search_engine.batch_size_info.settle_chunk = i64::from(outer.microbatches);
    let all = problems(&folder(case.expect("a case")), &settings, Partition::Even).expect("the profiles are whole");
    let is_it = |choice: &&Choice| choice.problem.stages.len() == outer.stages as usize;
    let mut choice = all.choices.iter().rfind(is_it).expect("the last choice has all ways").clone();
    choice.problem.stages.iter_mut().for_each(|stage| stage.capacity_bytes = u64::MAX);
    let ways = [vec![end], layers, vec![end]].concat();
    let meaning = choice.meaning.as_ref().expect("imported problems have one");
    let strategies = choice.problem.layers.iter().zip(&ways).map(|(&kind, way)| {
        meaning.ways[kind].iter().position(|other| other == way).expect("the strategy is looked at")
    });
    let assignment =
        Assignment { cuts: choice.cuts.clone().expect("cuts are given"), strategies: strategies.collect() };
    let score = choice.posed().score(&assignment).expect("memory has no end");
    assert_near(score.objective, row[7].as_f64().expect("a number"), &|| format!("step of {outer:?}"));
}

#[test]
fn formulas_agree_with_vectors_of_the_planner_whose_they_are() {
    for case in ["t5-3b", "bert-large", "llama-28-layers"] {
        let (settings, profile) = inputs(case);
        let formulas = Formulas { settings: &settings, profile: &profile };
        let rows: Vec<Vec<Value>> = read(case, "vectors.json");
        assert!(rows.len() > 80, "{case} has {} rows", rows.len());
        rows.iter().for_each(|row| check(&formulas, row));
    }
}

/// The best of choices of some batch, microbatches and stages, and its seconds.
fn best<'c>(choices: impl Iterator<Item = &'c Choice>, method: &Method) -> Option<(f64, &'c Choice, Assignment)> {
    let mut best: Option<(f64, &Choice, Assignment)> = None;
    for choice in choices {
        let least = best.as_ref().map_or(f64::INFINITY, |(seconds, ..)| *seconds);
        let Some(answer) = choice.posed().solve(&method.below(least)).found() else { continue };
        assert!(answer.gap() <= 1e-9, "{}: {answer:?}", choice.name);
        if answer.objective < least {
            best = Some((answer.objective, choice, answer.assignment));
        }
    }
    best
}

#[test]
fn optima_are_those_of_an_integer_program_on_the_other_planners_score() {
    for case in CASES {
        let settings: Settings = read(case, "case.json");
        let answers: Value = read(case, "answers.json");
        let all = problems(&folder(case), &settings, Partition::Even).expect("the profiles are whole");
        let (seconds, choice, assignment) = best(all.choices.iter(), &Method::EXACT).expect("a plan fits");
        let number = |key: &str| answers[key].as_f64().expect("a number");
        assert_near(seconds, number("best"), &|| case.to_owned());
        assert!(seconds <= number("chosen") * (1.0 + 1e-9), "{case}: {seconds} is worse than {}", number("chosen"));
        let by_choice: BTreeMap<String, f64> = read::<Value>(case, "answers.json")["by_choice"]
            .as_object()
            .expect("an object")
            .iter()
            .map(|(key, value)| (key.clone(), value.as_f64().expect("a number")))
            .collect();
        for (key, expected) in by_choice {
            let of_key = all.choices.iter().filter(|it| {
                let (microbatches, stages) = (it.problem.microbatches, it.problem.stages.len());
                key == format!("{} {microbatches} {stages}", it.sequences)
            });
            let (seconds, ..) = best(of_key, &Method::EXACT).unwrap_or_else(|| panic!("{case}: nothing fits {key}"));
            // The integer program itself stops at a gap of 1e-6.
            assert!((seconds - expected).abs() <= 2e-6 * expected, "{case} {key}: {seconds} instead of {expected}");
        }
        check_strategy(case, choice, &assignment);
    }
}

/// The strategy file has the keys and the counts of the one that is known; ties may be broken otherwise.
fn check_strategy(case: &str, choice: &Choice, assignment: &Assignment) {
    let written: Value = serde_json::from_str(&strategy(choice, assignment)).expect("it is JSON");
    let known: BTreeMap<String, Value> = read(case, "strategy.json");
    for (key, known) in known {
        let sorted = |value: &Value| {
            let mut parts: Vec<String> = value.to_string().trim_matches('"').split(',').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        assert_eq!(sorted(&written[&key]), sorted(&known), "{case}: {key}");
    }
}

#[test]
fn free_stages_are_never_worse_where_one_stage_is_best() {
    for case in CASES {
        let settings: Settings = read(case, "case.json");
        let answers: Value = read(case, "answers.json");
        let free = problems(&folder(case), &settings, Partition::Free).expect("the profiles are whole");
        assert!(free.choices.iter().any(|choice| choice.cuts.is_none() && choice.step == StepRule::Slowest), "{case}");
        let (mut least, mut bounded): (f64, Vec<(f64, &Choice)>) =
            (f64::INFINITY, free.choices.iter().map(|choice| (choice.posed().lower_bound(), choice)).collect());
        bounded.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        for (bound, choice) in bounded {
            if bound < least
                && let Some(answer) = choice.posed().solve(&Method::DYNAMIC.below(least)).found()
            {
                least = least.min(answer.objective);
            }
        }
        assert!(least <= answers["best"].as_f64().expect("a number") * (1.0 + 1e-6), "{case}: {least}");
    }
}

#[test]
fn a_written_problem_reads_as_it_was() {
    let settings: Settings = read("llama-28-layers", "case.json");
    let all = problems(&folder("llama-28-layers"), &settings, Partition::Even).expect("the profiles are whole");
    let again = Problems::parse(&all.print(), "problem.json").unwrap_or_else(|failure| panic!("{}", failure.text));
    assert_eq!(again, all);
}
