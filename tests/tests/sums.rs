//! Residual sums that kernels take over give what sums of their own give: to the bit in 32 bits, and in 16 but for the
//! roundings that are left out.

use std::collections::BTreeMap;

use executor::Backend;
use hetu_tests::notation::plan;
use hetu_tests::specimen;
use hetu_tests::tensors;
use hetu_tests::training::{compiled, trained};
use ir::model::{Model, Precision};
use ir::plan::Plan;
use ir::program::Programs;
use ir::software::{ResidualSums, Software};

/// Plans in which all sums, those of the gradient, and none go to other kernels: of a tensor degree above one, products
/// in front of sums are partial.
const PLANS: [&str; 5] = [
    "5 m2: d1",
    "2+3 m2: d2 parameters full",
    "5 m2: d2 t2 split selective",
    "5 m1: t4",
    "5 m2: d2 / t2 / d2 full / t2 split / d2",
];

const STEPS: usize = 5;

/// The programs with all sums apart.
fn apart(model: &Model, plan: &Plan) -> Programs {
    let software = Software { residual_sums: ResidualSums::Apart, ..Software::preset("hetu").expect("it is shipped") };
    compiler::compile_as(&model.graph(), plan, &software).expect("the plan is legal")
}

/// How many kernels of a step are of each name, and how many have an addend.
fn kernels(programs: &Programs) -> (BTreeMap<&str, usize>, usize) {
    let all = programs.draft().fragments.iter().flat_map(|fragment| &fragment.kernels);
    let mut names = BTreeMap::new();
    all.clone().for_each(|kernel| *names.entry(kernel.op.name()).or_default() += 1);
    (names, all.filter(|kernel| kernel.addend().is_some()).count())
}

fn check(model: &Model) {
    for (seed, text) in (0..).zip(PLANS) {
        let plan = Plan { precision: model.training.precision, ..plan(model.training.batch, text) };
        let programs = [compiled(&model.graph(), &plan), apart(model, &plan)];
        let [(fused, taken), (sums, none)] = programs.each_ref().map(kernels);
        assert!(taken > 0 && none == 0, "`{text}`: {taken} sums are taken over, {none} where none should");
        assert_eq!(fused["add"] + taken, sums["add"], "`{text}`");
        let [(ours, course), (theirs, expected)] =
            programs.each_ref().map(|programs| trained(model, programs, Backend::Shuffle { seed }, STEPS));
        if plan.precision == Precision::Full {
            assert_eq!((course.bits(), ours.tensors()), (expected.bits(), theirs.tensors()), "`{text}`");
            continue;
        }
        let [losses, norms] = course.distance(&expected);
        let counts = |name: &str| !name.ends_with("attention in bias");
        let (farthest, parameter) = tensors::farthest(&ours.tensors(), &theirs.tensors(), counts);
        assert!(losses < 1e-2 && norms < 5e-2, "`{text}`: losses differ by {losses:.1e}, norms by {norms:.1e}");
        assert!(parameter < 0.2, "`{text}`: `{farthest}` differs by {parameter:.1e}");
    }
}

#[test]
fn sums_that_kernels_take_over_change_no_bit_in_f32() {
    check(&specimen::llama());
    check(&specimen::gpt());
}

#[test]
fn sums_that_kernels_take_over_are_rounded_once_in_bf16() {
    for mut model in [specimen::llama(), specimen::gpt()] {
        model.training.precision = Precision::Mixed;
        check(&model);
    }
}
