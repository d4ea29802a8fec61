//! A plan changes where a model is trained, not what comes of it: any two plans give the same losses, to the bit where
//! they add the same numbers in the same order.
//!
//! This is the strongest test of the whole: layouts, backward passes, schedules, recomputation, placement and
//! synchronization all have to be right, and no value is written down here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use executor::{Backend, Session, Tensors};
use hetu_tests::arbitrary::{Case, printed};
use hetu_tests::notation::{alone, plan};
use hetu_tests::specimen;
use hetu_tests::tensors;
use hetu_tests::training::{Course, compiled, trained};
use ir::graph::Graph;
use ir::model::{Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule};

const STEPS: usize = 20;

/// How far results may differ of plans that add the same numbers in other orders.
struct Tolerance {
    /// Relative, of losses.
    loss: f64,
    /// The same of gradient norms, which differ more than losses do.
    norm: f64,
    /// Of a parameter after all steps, as a part of its largest element.
    parameter: f64,
}

fn tolerance(precision: Precision) -> Tolerance {
    match precision {
        Precision::Full => Tolerance { loss: 1e-5, norm: 1e-4, parameter: 1e-3 },
        // Sums of other parts are rounded to other numbers of 8 bits.
        Precision::Mixed => Tolerance { loss: 1e-2, norm: 5e-2, parameter: 0.2 },
    }
}

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
    steps: usize,
    course: Course,
    parameters: Tensors,
}

impl Reference {
    /// A model, and what comes of its training on a single rank.
    fn new(model: Model, steps: usize) -> Reference {
        let graph = model.graph();
        let plan = Plan { precision: model.training.precision, ..alone(model.training.batch, graph.layers.len()) };
        let (session, course) = trained(&model, &compiled(&graph, &plan), Backend::Threads, steps);
        Reference { model, graph, steps, course, parameters: session.tensors() }
    }

    /// The plan that a line writes, in the precision of the model.
    fn plan(&self, text: &str) -> Plan {
        let Training { batch, precision, .. } = self.model.training;
        Plan { precision, ..plan(batch, text) }
    }

    fn train(&self, plan: &Plan, seed: u64) -> (Session, Course) {
        trained(&self.model, &compiled(&self.graph, plan), Backend::Shuffle { seed }, self.steps)
    }

    /// The bits of all losses, norms, parameters and moments.
    fn bits(&self, plan: &Plan, seed: u64) -> (Vec<u64>, Vec<u32>) {
        let (session, course) = self.train(plan, seed);
        let parameters = session.tensors().into_values().flat_map(|tensor| tensor.values);
        (course.bits(), parameters.map(f32::to_bits).collect())
    }

    /// What is wrong with what comes of a plan, if anything. A panic is an answer, too, so that whoever asks can say of
    /// which plan.
    fn difference(&self, plan: &Plan, seed: u64) -> Option<String> {
        let train = || self.train(plan, seed);
        let Ok((session, found)) = catch_unwind(AssertUnwindSafe(train)) else {
            return Some("panicked, as said above".to_owned());
        };
        let [losses, norms] = found.distance(&self.course);
        // A softmax sees no constant, so the gradient of a key's bias is nothing but rounding; an update makes it as
        // large as any other. In 32 bits it is too small even for that.
        let counts = |name: &str| plan.precision == Precision::Full || !name.ends_with("attention in bias");
        let (farthest, parameter) = tensors::farthest(&session.tensors(), &self.parameters, counts);
        let most = tolerance(plan.precision);
        let near = losses <= most.loss && norms <= most.norm && parameter <= most.parameter;
        let expected = &self.course;
        (!near).then(|| {
            format!(
                "losses differ by {losses:.1e}, norms by {norms:.1e}, `{farthest}` by {parameter:.1e}:\n{found:?}\n\
                 {expected:?}"
            )
        })
    }
}

#[track_caller]
fn assert_all_agree(model: Model, steps: usize) {
    let reference = Reference::new(model, steps);
    let tried = PLANS.iter().enumerate();
    let wrong: Vec<String> = tried
        .filter_map(|(index, text)| {
            let plan = reference.plan(text);
            assert_eq!(compiler::check(&reference.graph, &hetu_tests::arbitrary::cluster(), &plan), [], "{text}");
            reference.difference(&plan, index as u64).map(|difference| format!("`{text}`: {difference}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} plans:\n{}", wrong.len(), PLANS.len(), wrong.join("\n"));
}

#[test]
fn sixty_six_plans_train_a_llama_as_one_rank_does() {
    assert_all_agree(specimen::llama(), STEPS);
}

#[test]
fn sixty_six_plans_train_a_gpt_as_one_rank_does() {
    assert_all_agree(specimen::gpt(), STEPS);
}

/// The model, in mixed precision.
fn mixed(mut model: Model) -> Model {
    model.training.precision = Precision::Mixed;
    model
}

/// Rounding adds up, so these are fewer.
const MIXED_STEPS: usize = 6;

#[test]
fn sixty_six_plans_train_a_llama_in_bf16_as_one_rank_does() {
    assert_all_agree(mixed(specimen::llama()), MIXED_STEPS);
}

#[test]
fn sixty_six_plans_train_a_gpt_in_bf16_as_one_rank_does() {
    assert_all_agree(mixed(specimen::gpt()), MIXED_STEPS);
}

#[test]
fn a_training_in_bf16_goes_as_one_in_f32_but_for_roundings() {
    for model in [specimen::llama(), specimen::gpt()] {
        let full = Reference::new(model.clone(), STEPS).course;
        let mixed = Reference::new(mixed(model), STEPS).course;
        let [losses, norms] = mixed.distance(&full);
        assert!(losses < 1e-2 && norms < 5e-2, "losses differ by {losses}, norms by {norms}:\n{mixed:?}\n{full:?}");
        assert!(losses > 1e-6, "something was rounded: {losses}");
        assert!(mixed.losses[STEPS - 1] < mixed.losses[0] - 0.05, "{mixed:?}");
    }
}

#[test]
fn the_reference_learns_and_is_clipped() {
    for model in [specimen::llama(), specimen::gpt()] {
        let most = model.training.gradient_norm_max;
        let Course { losses, norms } = Reference::new(model, STEPS).course;
        assert!(losses[STEPS - 1] < losses[0] - 0.05, "{losses:?}");
        assert!(norms.iter().any(|&norm| norm > most), "{norms:?}");
    }
}

#[test]
fn what_is_recomputed_how_far_is_prefetched_and_when_passes_run_change_no_bit() {
    let plans =
        ["5: d2 t2 split parameters", "2+3 m4: d2 parameters", "1+2+2 m4: t2", "3+2: d2 / t2 / t2 split / d2 / d2"];
    let models = [specimen::llama(), specimen::gpt()];
    for model in models.clone().into_iter().chain(models.map(mixed)) {
        let reference = Reference::new(model, MIXED_STEPS);
        for (index, text) in plans.iter().enumerate() {
            let plan = reference.plan(text);
            let expected = reference.bits(&plan, index as u64);
            for (seed, variant) in variants(&plan).into_iter().enumerate() {
                let same = reference.bits(&variant, seed as u64) == expected;
                assert!(same, "`{text}` in {:?}:\n{}", plan.precision, printed(&variant));
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
            let reference = Reference::new(case.model.clone(), STEPS);
            reference.difference(&case.plan, seed).map(|difference| format!("{case}\n{difference}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {CASES:?}:\n{}", wrong.len(), wrong.join("\n"));
}

/// As many random plans of each, from this seed on.
const UNLIKE_CASES: std::ops::Range<u64> = 0..30;

#[test]
fn encoders_and_models_of_images_train_as_one_rank_does() {
    let models = [specimen::bert(), specimen::vit(), specimen::swin(), mixed(specimen::swin()), specimen::t5()];
    let cases = models.iter().flat_map(|model| UNLIKE_CASES.map(|seed| Case::of(seed, model.clone())));
    let wrong: Vec<String> = cases
        .filter_map(|case| {
            let precision = case.model.training.precision;
            let reference = Reference::new(case.model.clone(), MIXED_STEPS);
            let plan = Plan { precision, ..case.plan.clone() };
            reference.difference(&plan, case.seed).map(|difference| format!("{case}\n{difference}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {UNLIKE_CASES:?}:\n{}", wrong.len(), wrong.join("\n"));
}
