//! Whatever order of instructions a program allows, its result is the same to the bit: two hundred orders of each plan,
//! in which freed memory is not a number, beside threads in real time.

use executor::Backend;
use hetu_tests::notation::plan;
use hetu_tests::specimen;
use hetu_tests::training::{compiled, course};
use ir::model::Model;

const SEEDS: u64 = 200;
const STEPS: usize = 2;

fn assert_one_result(model: &Model, text: &str) {
    let programs = compiled(&model.graph(), &plan(model.training.batch, text));
    let expected = course(model, &programs, Backend::Threads, STEPS);
    for seed in 0..SEEDS {
        let found = course(model, &programs, Backend::Shuffle { seed }, STEPS);
        assert_eq!(found.bits(), expected.bits(), "`{text}`, seed {seed}: {found:?} is not {expected:?}");
    }
}

#[test]
fn orders_of_one_stage_give_one_result() {
    for text in [
        "5: d1",
        "5 ahead2: d4 parameters selective",
        "5 ahead0: d2 t2 split gradients full",
        "5: d2 / t2 / d2 optimizer / t2 split / d2",
    ] {
        assert_one_result(&specimen::llama(), text);
    }
}

#[test]
fn orders_of_several_stages_give_one_result() {
    for text in [
        "2+3 m4 ahead2: d2 parameters",
        "1+2+2 m4 gpipe: t2 split",
        "1+4 m2: d2 t2 split parameters full",
        "1+1+1+1+1 m8: d1 selective",
    ] {
        assert_one_result(&specimen::gpt(), text);
    }
}
