//! A plan changes where a model is trained, not what comes of it: any two plans give the same losses, to the bit where
//! they add the same numbers in the same order.
//!
//! This is the strongest test of the whole: layouts, backward passes, schedules, recomputation, placement and
//! synchronization all have to be right, and no value is written down here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use executor::Backend;
use hetu_tests::arbitrary::{Case, printed};
use hetu_tests::notation::{alone, plan};
use hetu_tests::specimen;
use hetu_tests::training::{Course, compiled, course};
use ir::graph::Graph;
use ir::model::Model;
use ir::plan::{Plan, Recompute, Schedule};

const STEPS: usize = 20;
/// Relative difference of losses of plans that add the same numbers in other orders.
const LOSS_TOLERANCE: f64 = 1e-5;
/// The same of gradient norms, which differ more than losses do.
const NORM_TOLERANCE: f64 = 1e-4;

/// Every pair of techniques, on one to eight ranks; the specimens have five layers.
const PLANS: [&str; 66] = [
    // Microbatches alone, and what is recomputed.
    "5 m1: d1 selective",
    "5 m4: d1",
    "5 m8: d1 full",
    // Data alone, with each shard and depth of prefetch.
    "5 m1: d2",
    "5 m2: d4 selective",
    "5 m1: d8 full",
    "5 m2: d2 optimizer",
    "5 m2: d4 gradients full",
    "5 m2 ahead0: d4 parameters",
    "5 m2 ahead1: d4 parameters selective",
    "5 m2 ahead2: d2 parameters full",
    "5 m1 ahead2: d8 parameters",
    // Tensor alone, with the sequence whole and split.
    "5 m1: t2",
    "5 m2: t2 split",
    "5 m2: t4 selective",
    "5 m4: t4 split full",
    "5 m1: t4 split selective",
    "5 m2: t2 full",
    // Data and tensor, with each shard.
    "5 m1: d2 t2",
    "5 m2: d2 t2 split selective",
    "5 m2: d2 t2 optimizer",
    "5 m2: d2 t2 split gradients",
    "5 m2: d2 t2 parameters full",
    "5 m2: d4 t2 split parameters",
    "5 m2 ahead0: d2 t4 split parameters full",
    "5 m1: d4 t2 gradients selective",
    "5 m1: d2 t4 split optimizer",
    // Pipelines alone: both schedules, fewer and more microbatches than stages, uneven stages.
    "3+2 m1: d1",
    "2+3 m4 gpipe: d1",
    "1+4 m2: d1 full",
    "1+1+3 m4: d1 selective",
    "2+2+1 m8 gpipe: d1 full",
    "1+2+1+1 m2: d1",
    "1+1+1+1+1 m8: d1",
    "1+1+1+1+1 m2 gpipe: d1 selective",
    // Pipelines of data.
    "2+3 m2: d2",
    "3+2 m4: d2 optimizer full",
    "1+4 m4 gpipe: d2 gradients",
    "4+1 m2: d4 parameters",
    "2+3 m2 gpipe ahead2: d4 parameters selective",
    "1+2+2 m4 ahead0: d2 parameters full",
    "2+1+1+1 m4: d2 gradients selective",
    // Pipelines of tensor.
    "3+2 m2: t2",
    "2+3 m4 gpipe: t2 split",
    "1+3+1 m4: t2 split full",
    "4+1 m8: t4 selective",
    "1+4 m2 gpipe: t4 split selective",
    "1+1+2+1 m4: t2 full",
    // All three.
    "3+2 m2: d2 t2",
    "2+3 m4 gpipe: d2 t2 split optimizer",
    "1+4 m4: d2 t2 gradients full",
    "4+1 m2 ahead2: d2 t2 split parameters selective",
    "2+3 m2 gpipe ahead0: d2 t2 parameters full",
    // Layers with unlike strategies on one mesh.
    "5 m2: d2 / d1 t2 / d2 / d1 t2 split / d2",
    "5 m2: d4 / d2 t2 / t4 / d2 t2 split / d4",
    "5 m2: t4 split / d4 parameters / t4 / d2 t2 gradients full / t4 split",
    "5 m2: d2 t2 / 3* d4 optimizer / d2 t2",
    "5 m1: d8 / t4 d2 / d4 t2 split parameters / d8 gradients / d8",
    "5 m2: d2 parameters / d2 / d2 gradients full / d2 optimizer / d2 parameters selective",
    // The same, in pipelines: a boundary where strategies change.
    "2+3 m2: d2 / t2 split / d2 full / t2 / d2",
    "3+2 m2 gpipe: d4 / d2 t2 split / t4 / d4 parameters / d4",
    "1+4 m2: d2 t2 split optimizer / t4 / d4 parameters full / d2 t2 / d2 t2 split optimizer",
    "1+2+2 m4 ahead2: t2 / d2 parameters / t2 split / d2 gradients selective / t2 full",
    "2+1+2 m2: d2 / t2 / d2 full / t2 split selective / d2",
    // Microbatches of one sequence.
    "2+3 m8: t2 split selective",
    "1+2+2 m8 gpipe: d1",
];

struct Reference {
    model: Model,
    graph: Graph,
    course: Course,
}

impl Reference {
    /// A model, and what comes of its training on a single rank.
    fn new(model: Model) -> Reference {
        let graph = model.graph();
        let plan = alone(model.training.batch, graph.layers.len());
        let course = course(&model, &compiled(&graph, &plan), Backend::Threads, STEPS);
        Reference { model, graph, course }
    }

    fn train(&self, plan: &Plan, seed: u64) -> Course {
        course(&self.model, &compiled(&self.graph, plan), Backend::Shuffle { seed }, STEPS)
    }

    /// What is wrong with a plan's losses and norms, if anything. A panic is an answer, too, so that whoever asks can
    /// say of which plan.
    fn difference(&self, plan: &Plan, seed: u64) -> Option<String> {
        let Ok(found) = catch_unwind(AssertUnwindSafe(|| self.train(plan, seed))) else {
            return Some("panicked, as said above".to_owned());
        };
        let [losses, norms] = found.distance(&self.course);
        let near = losses <= LOSS_TOLERANCE && norms <= NORM_TOLERANCE;
        let expected = &self.course;
        (!near).then(|| format!("losses differ by {losses:.1e}, norms by {norms:.1e}:\n{found:?}\n{expected:?}"))
    }
}

#[track_caller]
fn assert_all_agree(model: Model) {
    let reference = Reference::new(model);
    let tried = PLANS.iter().enumerate();
    let wrong: Vec<String> = tried
        .filter_map(|(index, text)| {
            let plan = plan(reference.model.training.batch, text);
            assert_eq!(compiler::check(&reference.graph, &hetu_tests::arbitrary::cluster(), &plan), [], "{text}");
            reference.difference(&plan, index as u64).map(|difference| format!("`{text}`: {difference}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} plans:\n{}", wrong.len(), PLANS.len(), wrong.join("\n"));
}

#[test]
fn sixty_six_plans_train_a_llama_as_one_rank_does() {
    assert_all_agree(specimen::llama());
}

#[test]
fn sixty_six_plans_train_a_gpt_as_one_rank_does() {
    assert_all_agree(specimen::gpt());
}

#[test]
fn the_reference_learns_and_is_clipped() {
    for model in [specimen::llama(), specimen::gpt()] {
        let most = model.training.gradient_norm_max;
        let Course { losses, norms } = Reference::new(model).course;
        assert!(losses[STEPS - 1] < losses[0] - 0.05, "{losses:?}");
        assert!(norms.iter().any(|&norm| norm > most), "{norms:?}");
    }
}

#[test]
fn what_is_recomputed_how_far_is_prefetched_and_when_passes_run_change_no_bit() {
    let plans =
        ["5: d2 t2 split parameters", "2+3 m4: d2 parameters", "1+2+2 m4: t2", "3+2: d2 / t2 / t2 split / d2 / d2"];
    for model in [specimen::llama(), specimen::gpt()] {
        let reference = Reference::new(model);
        for (index, text) in plans.iter().enumerate() {
            let plan = plan(reference.model.training.batch, text);
            let expected = reference.train(&plan, index as u64).bits();
            for (seed, variant) in variants(&plan).into_iter().enumerate() {
                assert_eq!(reference.train(&variant, seed as u64).bits(), expected, "`{text}`:\n{}", printed(&variant));
            }
        }
    }
}

/// Plans that add the same numbers in the same order.
fn variants(plan: &Plan) -> Vec<Plan> {
    let recompute = |recompute| {
        let mut plan = plan.clone();
        plan.strategies.iter_mut().for_each(|strategy| strategy.recompute = recompute);
        plan
    };
    let mut variants = vec![recompute(Recompute::Selective), recompute(Recompute::Full)];
    variants.extend([0, 2].map(|prefetch| Plan { prefetch, ..plan.clone() }));
    variants.push(Plan { schedule: Schedule::AllForward, ..plan.clone() });
    variants
}

/// As many random cases, from this seed on.
const CASES: std::ops::Range<u64> = 0..60;

#[test]
fn random_legal_plans_train_as_one_rank_does() {
    let wrong: Vec<String> = CASES
        .filter_map(|seed| {
            let case = Case::new(seed);
            let reference = Reference::new(case.model.clone());
            reference.difference(&case.plan, seed).map(|difference| format!("{case}\n{difference}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {CASES:?}:\n{}", wrong.len(), wrong.join("\n"));
}
