//! Problems whose stages are given: three ways to solve them agree on random ones, and specimens are as by hand.

use hetu_solver::{Costs, Kind, Method, Posed, Problem, Solved, Stage, StepRule};

/// The generator of Steele, Lea and Flood 2014 ("SplitMix"), for small reproducible draws.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % count as u64) as usize
    }
}

fn random_posed(random: &mut Random) -> Posed {
    let mut kind = |strategies: usize| {
        let strategies = (0..strategies).map(|_| Costs {
            time_microbatch: random.below(2000) as f64 / 100.0,
            time_step: random.below(1500) as f64 / 100.0,
            bytes_state: random.below(30) as u64,
            bytes_saved: random.below(10) as u64,
            bytes_transient: 0,
            layout: 0,
        });
        Kind { strategies: strategies.collect() }
    };
    let kinds = vec![kind(3), kind(4), kind(3)];
    let stage_count = 1 + random.below(4);
    let inner = stage_count + random.below(3);
    let is_tied = random.below(3) > 0;
    let mut layers: Vec<usize> = (0..inner).map(|_| random.below(2)).collect();
    if is_tied {
        layers.insert(0, 2);
        layers.push(2);
    }
    let most = 40 + random.below(200);
    let stages: Vec<Stage> = (0..stage_count)
        .map(|index| Stage {
            capacity_bytes: most as u64,
            in_flight: (stage_count - index) as u32,
            speed: [1.0, 1.5][random.below(2)],
        })
        .collect();
    let ties = if is_tied { vec![(0, layers.len() - 1)] } else { Vec::new() };
    let mut starts: Vec<usize> = (1..layers.len()).collect();
    while starts.len() > stage_count - 1 {
        starts.remove(random.below(starts.len()));
    }
    let microbatches = 1 + random.below(6) as u32;
    let problem =
        Problem { kinds, layers, transitions: vec![vec![0.0]], boundary: vec![0.0], stages, microbatches, ties };
    let step = [StepRule::Slowest, StepRule::Ends][random.below(2)];
    Posed { problem, cuts: Some([vec![0], starts].concat()), step }
}

#[test]
fn all_methods_agree_where_stages_are_given() {
    let mut found = [0; 2];
    for seed in 0..1500 {
        let posed = random_posed(&mut Random(seed));
        posed.check().unwrap_or_else(|mistakes| panic!("seed {seed}: {mistakes:?}"));
        let exact = posed.solve(&Method::EXACT);
        let all = posed.solve(&Method::Exhaustive);
        match (&exact, &all) {
            (Solved::Found(exact), Solved::Found(all)) => {
                found[0] += 1;
                assert!(posed.lower_bound() <= all.objective * (1.0 + 1e-9), "seed {seed}: {}", posed.lower_bound());
                assert!(exact.bound <= all.objective * (1.0 + 1e-9), "seed {seed}: {exact:?} {all:?}");
                assert!(exact.objective >= all.objective * (1.0 - 1e-9), "seed {seed}: {exact:?} {all:?}");
                if exact.gap() < 1e-9 {
                    found[1] += 1;
                    assert!(exact.objective <= all.objective * (1.0 + 1e-9), "seed {seed}: {exact:?} {all:?}");
                }
            }
            (Solved::Infeasible(one), Solved::Infeasible(other)) => assert_eq!(one, other, "seed {seed}"),
            _ => panic!("seed {seed}: {exact:?} {all:?}"),
        }
        agrees_with_the_integer_program(&posed, &all, seed);
    }
    assert!(found[0] > 700 && found[1] * 4 > found[0] * 3, "too few with an answer, or proven: {found:?}");
}

#[cfg(feature = "ilp")]
fn agrees_with_the_integer_program(posed: &Posed, all: &Solved, seed: u64) {
    if !seed.is_multiple_of(5) {
        return;
    }
    match (posed.solve(&Method::IntegerProgram { time_limit: f64::INFINITY }), all) {
        (Solved::Found(one), Solved::Found(all)) => {
            assert!((one.objective - all.objective).abs() <= 1e-6 * all.objective, "seed {seed}: {one:?} {all:?}");
            assert!(one.bound <= all.objective * (1.0 + 1e-6), "seed {seed}: {one:?} {all:?}");
        }
        (Solved::Infeasible(_), Solved::Infeasible(_)) => (),
        (one, all) => panic!("seed {seed}: {one:?} {all:?}"),
    }
}

#[cfg(not(feature = "ilp"))]
fn agrees_with_the_integer_program(_: &Posed, _: &Solved, _: u64) {}

/// Two stages of one layer each, with the times 2 and 3 and once a step 9 and 4, and three microbatches.
fn specimen(step: StepRule) -> Posed {
    let costs = |time_microbatch, time_step| Costs {
        time_microbatch,
        time_step,
        bytes_state: 1,
        bytes_saved: 0,
        bytes_transient: 0,
        layout: 0,
    };
    let kinds = [costs(2.0, 9.0), costs(3.0, 4.0)].map(|costs| Kind { strategies: vec![costs] });
    let stage = Stage { capacity_bytes: 1, in_flight: 1, speed: 1.0 };
    let problem = Problem {
        kinds: kinds.to_vec(),
        layers: vec![0, 1],
        transitions: vec![vec![0.0]],
        boundary: vec![0.0],
        stages: vec![stage.clone(), stage],
        microbatches: 3,
        ties: Vec::new(),
    };
    Posed { problem, cuts: Some(vec![0, 1]), step }
}

#[test]
fn rules_are_as_written() {
    let objective = |step| specimen(step).solve(&Method::EXACT).found().expect("it fits").objective;
    // Σ T = 5, (m − 1) · 3 = 6, max U = 9.
    assert!((objective(StepRule::Slowest) - 20.0).abs() < 1e-12);
    // A = 5 + 2 · 3 = 11 and B = max(2, 3) + 2 · 2 = 7; exposed: 9 of the first, 4 − 2 of the second.
    assert!((objective(StepRule::Ends) - 20.0).abs() < 1e-12);
    let mut tied = specimen(StepRule::Ends);
    tied.problem.ties = vec![(0, 1)];
    // The work of tied layers hides: max(9 − 2, 4 − 3 − 2).
    assert!((tied.solve(&Method::EXACT).found().expect("it fits").objective - 18.0).abs() < 1e-12);
}

#[test]
fn what_given_cuts_cannot_have_is_named() {
    let mut posed = specimen(StepRule::Ends);
    posed.problem.boundary = vec![1.0];
    posed.problem.kinds[0].strategies[0].bytes_transient = 3;
    posed.cuts = Some(vec![0, 2]);
    let mistakes = posed.check().expect_err("three things are wrong");
    let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(specimen(StepRule::Slowest).check().is_ok());
    assert!(Posed { cuts: None, ..specimen(StepRule::Ends) }.check().is_err());
}
