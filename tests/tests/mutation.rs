//! Every wait, signal and free of a compiled program is needed, and the verifier knows: without any one of them a
//! program is refused. So a compiler that forgot one would be found out before anything runs.

use hetu_tests::notation::plan;
use hetu_tests::specimen;
use hetu_tests::training::compiled;
use ir::model::Model;
use ir::program::{Action, Programs};
use ir::units::Bytes;

/// Deletes each instruction that `wanted` names, alone, and says how many there were.
fn assert_each_is_missed(model: &Model, text: &str, wanted: fn(&Action) -> bool) -> usize {
    let programs = compiled(&model.graph(), &plan(model.training.batch, text));
    let mut tried = 0;
    for role in 0..programs.roles().len() {
        for place in 0..programs.roles()[role].code.len() {
            let instr = programs.roles()[role].code[place];
            if wanted(&instr.action) {
                tried += 1;
                let mut draft = programs.draft().clone();
                draft.roles[role].code.remove(place);
                let verified = Programs::verified(draft, Bytes(u64::MAX));
                assert!(verified.is_err(), "`{text}` is valid without instruction {place} of role {role}: {instr:?}");
            }
        }
    }
    tried
}

const PLANS: [&str; 6] = [
    "5: d2",
    "5: d2 t2 split parameters full",
    "5 ahead2: d4 parameters selective",
    "2+3: t2",
    "1+2+2 m4 gpipe: d2 gradients",
    "2+3 m4: d2 / t2 split / d2 parameters full / t2 / d2",
];

fn assert_each_is_missed_in_all(model: &Model, wanted: fn(&Action) -> bool) {
    let tried: usize = PLANS.iter().map(|text| assert_each_is_missed(model, text, wanted)).sum();
    assert!(tried > 100, "only {tried} instructions were deleted");
}

#[test]
fn a_missing_wait_is_caught() {
    assert_each_is_missed_in_all(&specimen::llama(), |action| matches!(action, Action::Wait(_)));
    assert_each_is_missed_in_all(&specimen::gpt(), |action| matches!(action, Action::Wait(_)));
}

#[test]
fn a_missing_signal_or_free_is_caught() {
    assert_each_is_missed_in_all(&specimen::gpt(), |action| matches!(action, Action::Signal(_) | Action::Free));
}

#[test]
fn a_program_is_valid_as_it_was_compiled() {
    for text in PLANS {
        let programs = compiled(&specimen::llama().graph(), &plan(8, text));
        assert!(Programs::verified(programs.draft().clone(), programs.peak()).is_ok(), "`{text}`");
        let less = Bytes(programs.peak().0 - 1);
        assert!(Programs::verified(programs.draft().clone(), less).is_err(), "`{text}` fits less than its peak");
    }
}
