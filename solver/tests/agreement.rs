//! Three solvers that share no search must agree: on random problems of every shape, and on specimens by hand.

use hetu_solver::{Answer, Method, Solved, lower_bound, quick_bound, solve};
use hetu_solver::{Assignment, Costs, Kind, Mistake, Problem, Stage, Violation};

const DYNAMIC: Method = Method::EXACT;
const INTEGER: Method = Method::IntegerProgram { time_limit: f64::INFINITY };

/// The generator of Steele, Lea and Flood 2014 ("SplitMix"), for small reproducible draws.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..count`.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// Seconds: now and then 0, now and then round, so that ties between solutions are common.
    fn seconds(&mut self) -> f64 {
        match self.below(6) {
            0 => 0.0,
            1 | 2 => self.below(5) as f64,
            _ => self.below(10_000) as f64 / 1000.0,
        }
    }

    fn bytes(&mut self, most: usize) -> u64 {
        self.below(most + 1) as u64
    }
}

/// A small random problem: few enough assignments to enumerate, memory from loose to hopeless.
fn random_problem(random: &mut Random) -> Problem {
    let layouts = 1 + random.below(3);
    let kinds: Vec<Kind> = (0..1 + random.below(3)).map(|_| random_kind(random, layouts)).collect();
    let stage_count = 1 + random.below(4);
    let layer_count = (1 + random.below(7)).max(stage_count);
    let layers: Vec<usize> = (0..layer_count).map(|_| random.below(kinds.len())).collect();
    let transitions = (0..layouts)
        .map(|from| (0..layouts).map(|to| if from == to { 0.0 } else { random.seconds() / 2.0 }).collect())
        .collect();
    let boundary = (0..layouts).map(|_| random.seconds() / 4.0).collect();
    let most = 20 + random.below(200);
    let alike = random.below(2) == 0;
    let microbatches = 1 + random.below(6) as u32;
    let stages = (0..stage_count)
        .map(|index| Stage {
            capacity_bytes: if alike { most as u64 } else { random.bytes(most) },
            in_flight: if alike { microbatches.min((stage_count - index) as u32) } else { 1 + random.below(4) as u32 },
            speed: if alike { 1.0 } else { [1.0, 0.5, 1.5][random.below(3)] },
        })
        .collect();
    let mut problem = Problem { kinds, layers, transitions, boundary, stages, microbatches, ties: Vec::new() };
    for _ in 0..random.below(3) {
        let tie = (random.below(layer_count), random.below(layer_count));
        if problem.strategies(tie.0).len() == problem.strategies(tie.1).len() {
            problem.ties.push(tie);
        }
    }
    problem
}

fn random_kind(random: &mut Random, layouts: usize) -> Kind {
    let strategies = (0..1 + random.below(4))
        .map(|_| Costs {
            time_microbatch: random.seconds(),
            time_step: random.seconds(),
            bytes_state: random.bytes(20),
            bytes_saved: random.bytes(10),
            bytes_transient: random.bytes(15),
            layout: random.below(layouts),
        })
        .collect();
    Kind { strategies }
}

/// How many assignments a problem has, roughly.
fn assignments(problem: &Problem) -> f64 {
    let strategies: f64 = (0..problem.layers.len()).map(|layer| problem.strategies(layer).len() as f64).product();
    strategies * (problem.layers.len() as f64).powi(problem.stages.len() as i32 - 1)
}

fn near(one: f64, other: f64, tolerance: f64) -> bool {
    (one - other).abs() <= tolerance * one.abs().max(other.abs()).max(1e-9)
}

/// The answer's own claims hold: it scores what it says, and the bounds lie below it.
fn check_answer(problem: &Problem, answer: &Answer, seed: u64) {
    let score = problem.score(&answer.assignment).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
    assert!(near(score.objective, answer.objective, 1e-12), "seed {seed}");
    assert!(answer.bound <= answer.objective, "seed {seed}");
    assert!(lower_bound(problem) <= answer.objective, "seed {seed}: the cheap bound is above an answer");
    assert!(quick_bound(problem) <= answer.objective, "seed {seed}: the quick bound is above an answer");
}

fn check_agreement(problem: &Problem, method: &Method, tolerance: f64, seed: u64) -> Option<f64> {
    let exhaustive = solve(problem, &Method::Exhaustive);
    let other = solve(problem, method);
    match (exhaustive, other) {
        (Solved::Found(truth), Solved::Found(answer)) => {
            check_answer(problem, &answer, seed);
            let (best, found) = (truth.objective, answer.objective);
            assert!(near(best, found, tolerance), "seed {seed}: {found} is not the optimum {best} of {problem:?}");
            Some(best)
        }
        (Solved::Infeasible(truth), Solved::Infeasible(shortage)) => {
            assert_eq!(truth, shortage, "seed {seed}");
            assert!(truth.excess_bytes() > 0 || !problem.ties.is_empty(), "seed {seed}");
            None
        }
        (truth, answer) => panic!("seed {seed}: {answer:?} instead of {truth:?} for {problem:?}"),
    }
}

fn random_problems(seeds: std::ops::Range<u64>, most: f64) -> impl Iterator<Item = (u64, Problem)> {
    seeds.map(|seed| (seed, random_problem(&mut Random(seed)))).filter(move |(_, problem)| assignments(problem) <= most)
}

#[test]
fn the_dynamic_program_finds_the_optimum_of_every_small_problem() {
    let mut feasible = 0;
    let mut infeasible = 0;
    for (seed, problem) in random_problems(0..3000, 20_000.0) {
        match check_agreement(&problem, &DYNAMIC, 1e-9, seed) {
            Some(_) => feasible += 1,
            None => infeasible += 1,
        }
    }
    assert!(feasible > 1000 && infeasible > 500, "{feasible} feasible and {infeasible} infeasible problems");
}

#[test]
fn the_integer_program_finds_the_optimum_of_every_small_problem() {
    let mut count = 0;
    for (seed, problem) in random_problems(0..800, 5_000.0) {
        check_agreement(&problem, &INTEGER, 1e-6, seed);
        count += 1;
    }
    assert!(count > 500, "only {count} problems");
}

#[test]
fn more_memory_never_makes_the_step_slower() {
    for (seed, mut problem) in random_problems(5000..5400, f64::INFINITY) {
        let mut last = f64::INFINITY;
        for _ in 0..4 {
            let value = solve(&problem, &DYNAMIC).found().map_or(f64::INFINITY, |answer| answer.objective);
            assert!(value <= last * (1.0 + 1e-11), "seed {seed}: {value} after {last}");
            last = value;
            problem.stages.iter_mut().for_each(|stage| stage.capacity_bytes += 15);
        }
    }
}

#[test]
fn an_upper_value_stops_the_search_only_when_nothing_is_better() {
    for (seed, problem) in random_problems(6000..6300, 20_000.0) {
        let Some(best) = solve(&problem, &DYNAMIC).found() else { continue };
        let above = solve(&problem, &exact_below(best.objective * 1.01 + 1e-6));
        let found = above.found().unwrap_or_else(|| panic!("seed {seed}: an answer below the upper value is missed"));
        assert!(near(found.objective, best.objective, 1e-9), "seed {seed}");
        let at = solve(&problem, &exact_below(best.objective));
        assert!(matches!(at, Solved::Stopped { .. }), "seed {seed}: {at:?} beats {best:?}");
    }
}

fn exact_below(upper: f64) -> Method {
    Method::DynamicProgram { upper, gap: 0.0, effort: u64::MAX }
}

#[test]
fn little_effort_gives_an_answer_and_says_how_good_it_is() {
    let mut inexact = 0;
    for (seed, problem) in random_problems(7000..9000, 20_000.0) {
        let best = solve(&problem, &DYNAMIC);
        for (gap, effort) in [(0.0, 0), (0.0, 30), (0.01, 100), (0.1, u64::MAX)] {
            let quick = solve(&problem, &Method::DynamicProgram { upper: f64::INFINITY, gap, effort });
            match (&best, quick) {
                (Solved::Found(best), Solved::Found(quick)) => {
                    check_answer(&problem, &quick, seed);
                    assert!(quick.bound <= best.objective * (1.0 + 1e-9), "seed {seed}: {quick:?} excludes {best:?}");
                    assert!(quick.objective >= best.objective * (1.0 - 1e-9), "seed {seed}: {quick:?} beats {best:?}");
                    assert!(effort < u64::MAX || quick.gap() <= gap + 1e-9, "seed {seed}: {quick:?}");
                    inexact += usize::from(!near(quick.objective, best.objective, 1e-9));
                }
                (Solved::Found(best), Solved::Stopped { bound }) => {
                    assert!(effort < u64::MAX && !problem.ties.is_empty(), "seed {seed}: no answer");
                    assert!(bound <= best.objective * (1.0 + 1e-9), "seed {seed}");
                }
                (Solved::Infeasible(one), Solved::Infeasible(other)) => assert_eq!(*one, other, "seed {seed}"),
                (Solved::Infeasible(_), Solved::Stopped { .. }) => assert!(!problem.ties.is_empty(), "seed {seed}"),
                (best, quick) => panic!("seed {seed}: {quick:?} instead of {best:?}"),
            }
        }
    }
    assert!(inexact > 100, "only {inexact} answers were worse than the best: the effort limits nothing");
}

/// A run of equal layers between an embedding and a head, with strategies that trade time for memory.
fn random_model(random: &mut Random) -> Problem {
    let layouts = 1 + random.below(2);
    let kinds = (0..3).map(|_| random_trades(random, layouts)).collect();
    let layer_count = 8 + random.below(5);
    let mut layers = vec![1; layer_count];
    (layers[0], layers[layer_count - 1]) = (0, 2);
    let stage_count = 1 + random.below(3);
    let microbatches = 1 + random.below(8) as u32;
    let capacity_bytes = ((layer_count / stage_count) * (90 + random.below(60))) as u64;
    let in_flight = |index: usize| microbatches.min((stage_count - index) as u32);
    let stage = |index: usize| Stage { capacity_bytes, in_flight: in_flight(index), speed: 1.0 };
    Problem {
        kinds,
        layers,
        transitions: (0..layouts)
            .map(|from| (0..layouts).map(|to| 0.05 * from.abs_diff(to) as f64).collect())
            .collect(),
        boundary: vec![0.125; layouts],
        stages: (0..stage_count).map(stage).collect(),
        microbatches,
        ties: Vec::new(),
    }
}

fn random_trades(random: &mut Random, layouts: usize) -> Kind {
    let strategies = (0..2 + random.below(4))
        .map(|_| {
            let bytes = 20 + random.below(100);
            Costs {
                time_microbatch: (200 - bytes) as f64 / 100.0 + random.below(100) as f64 / 300.0,
                time_step: random.below(100) as f64 / 100.0,
                bytes_state: (bytes / 2) as u64,
                bytes_saved: (bytes / 2) as u64,
                bytes_transient: random.bytes(40),
                layout: random.below(layouts),
            }
        })
        .collect();
    Kind { strategies }
}

#[test]
fn longer_runs_of_equal_layers_are_solved_as_well() {
    let mut feasible = 0;
    for seed in 0..20 {
        let problem = random_model(&mut Random(seed));
        let (Some(exact), Some(other)) = (solve(&problem, &DYNAMIC).found(), solve(&problem, &INTEGER).found()) else {
            continue;
        };
        check_answer(&problem, &exact, seed);
        let (exact, other) = (exact.objective, other.objective);
        assert!(near(exact, other, 1e-6), "seed {seed}: {exact} instead of {other} for {problem:?}");
        feasible += 1;
        let quick = solve(&problem, &Method::DYNAMIC).found().expect("an exact answer fits");
        check_answer(&problem, &quick, seed);
        assert!(quick.gap() <= 1.1e-4 && quick.objective <= exact * (1.0 + 1e-4), "seed {seed}: {quick:?}");
    }
    assert!(feasible > 10, "only {feasible} problems have an answer");
}

#[test]
fn a_problem_survives_json() {
    let problem = random_problem(&mut Random(7));
    let text = serde_json::to_string(&problem).unwrap();
    assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
}

/// A strategy that takes `time` seconds and keeps `bytes` of state.
fn costs(time: f64, bytes: u64) -> Costs {
    let (time_microbatch, time_step) = (time, 0.0);
    Costs { time_microbatch, time_step, bytes_state: bytes, bytes_saved: 0, bytes_transient: 0, layout: 0 }
}

/// Four equal layers that can be fast and large or slow and small, on two stages.
fn specimen() -> Problem {
    Problem {
        kinds: vec![Kind { strategies: vec![costs(1.0, 10), costs(2.0, 4)] }],
        layers: vec![0; 4],
        transitions: vec![vec![0.0]],
        boundary: vec![0.0],
        stages: vec![Stage { capacity_bytes: 100, in_flight: 1, speed: 1.0 }; 2],
        microbatches: 8,
        ties: Vec::new(),
    }
}

/// All three methods give this value.
fn check_value(problem: &Problem, expected: f64) -> Assignment {
    for method in [INTEGER, Method::Exhaustive] {
        let answer = solve(problem, &method).found().expect("the specimen fits");
        assert!(near(answer.objective, expected, 1e-6), "{method:?} gives {}", answer.objective);
    }
    let answer = solve(problem, &DYNAMIC).found().expect("the specimen fits");
    assert!(near(answer.objective, expected, 1e-12), "{} instead of {expected}", answer.objective);
    assert!(answer.gap() <= 0.0);
    answer.assignment
}

#[test]
fn equal_stages_take_the_time_of_a_flushed_pipeline() {
    // (m + p − 1) · T of Narayanan et al. 2021, §2.2, with T = 2.
    let assignment = check_value(&specimen(), (8.0 + 2.0 - 1.0) * 2.0);
    assert_eq!(assignment.cuts, [0, 2]);
}

#[test]
fn memory_forces_one_layer_to_be_slow() {
    let mut problem = specimen();
    problem.stages[1].capacity_bytes = 14;
    // Stage 1 fits one fast and one slow layer, or a fast one alone; the slower stage takes 3 either way.
    let assignment = check_value(&problem, (3.0 + 1.0) + 7.0 * 3.0);
    assert_eq!(assignment.cuts, [0, 3]);
}

#[test]
fn saved_tensors_count_once_for_each_microbatch_in_flight() {
    let mut problem = specimen();
    for strategy in &mut problem.kinds[0].strategies {
        strategy.bytes_saved = strategy.bytes_state;
        strategy.bytes_state = 0;
    }
    problem.stages[0] = Stage { capacity_bytes: 28, in_flight: 2, speed: 1.0 };
    let score = problem.score(&Assignment { cuts: vec![0, 2], strategies: vec![0, 1, 0, 0] }).unwrap();
    assert_eq!(score.stages[0].bytes(), 28);
    problem.stages[0].capacity_bytes = 27;
    let broken = problem.score(&Assignment { cuts: vec![0, 2], strategies: vec![0, 1, 0, 0] }).unwrap_err();
    assert_eq!(broken, [Violation::Memory { stage: 0, bytes: 28, capacity_bytes: 27 }]);
}

#[test]
fn only_the_largest_transient_counts() {
    let mut problem = specimen();
    problem.kinds[0].strategies[0].bytes_transient = 7;
    problem.stages.iter_mut().for_each(|stage| stage.capacity_bytes = 27);
    check_value(&problem, 18.0);
    problem.stages.iter_mut().for_each(|stage| stage.capacity_bytes = 26);
    check_value(&problem, 27.0);
}

#[test]
fn tied_layers_agree() {
    let mut problem = specimen();
    problem.stages[1].capacity_bytes = 14;
    problem.ties = vec![(0, 3), (1, 3)];
    let assignment = check_value(&problem, solve(&problem, &Method::Exhaustive).found().unwrap().objective);
    assert_eq!(assignment.strategies[0], assignment.strategies[3]);
    assert_eq!(assignment.strategies[1], assignment.strategies[3]);
}

#[test]
fn the_sender_converts_and_both_sides_pay_for_the_cut() {
    let mut problem = specimen();
    problem.kinds.push(Kind { strategies: vec![Costs { layout: 1, ..costs(1.0, 10) }] });
    problem.kinds[0].strategies.truncate(1);
    problem.layers = vec![0, 1];
    problem.transitions = vec![vec![0.0, 0.25], vec![4.0, 0.0]];
    problem.boundary = vec![8.0, 0.5];
    check_value(&problem, (1.75 + 1.5) + 7.0 * 1.75);
}

#[test]
fn the_shortage_names_the_stage_and_the_bytes() {
    let mut problem = specimen();
    problem.stages.iter_mut().for_each(|stage| stage.capacity_bytes = 7);
    let Solved::Infeasible(shortage) = solve(&problem, &DYNAMIC) else { panic!("8 bytes do not fit into 7") };
    assert_eq!((shortage.stage, shortage.start, shortage.end), (0, 0, 2));
    assert_eq!((shortage.need.bytes_state, shortage.excess_bytes()), (8, 1));
}

#[test]
fn all_mistakes_are_found_at_once() {
    let mut problem = specimen();
    problem.layers[2] = 5;
    problem.boundary.clear();
    problem.kinds[0].strategies[0].time_step = f64::NAN;
    problem.stages[1].speed = 0.0;
    // More than solvers can bear.
    problem.stages[0].speed = 1e308;
    problem.kinds[0].strategies[0].time_microbatch = 1e18;
    let mistakes = problem.check().unwrap_err();
    assert_eq!(mistakes.len(), 6, "{mistakes:?}");
    assert!(matches!(&mistakes[0], Mistake::Length { place, .. } if place == "boundary"));
    assert!(matches!(&mistakes[1], Mistake::Index { index: 5, count: 1, .. }));
}

#[test]
fn a_broken_assignment_has_no_score() {
    let problem = specimen();
    let broken = problem.score(&Assignment { cuts: vec![0, 4], strategies: vec![0, 0, 9, 0] }).unwrap_err();
    assert_eq!(broken.len(), 2, "{broken:?}");
}
