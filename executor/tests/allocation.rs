//! A step allocates nothing: all memory is placed by the compiler and allocated at load.
#![allow(unsafe_code, reason = "counts what the global allocator gives")]

#[allow(unreachable_pub, reason = "a module of each test that uses it")]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{model, plan, single};
use hetu_executor::{Backend, Batch, Session, Settings};
use ir::model::{Embeddings, Family, Precision};
use ir::plan::{Plan, Recompute, Shard, Strategy};
use ir::seed::Seed;
use ir::units::Seconds;
use ir::ways::Ways;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let strategy = Strategy { data: 2, tensor: 2, shard: Shard::Parameters, recompute: Recompute::Full, ..single() };
    let cases = [(Family::Llama, Precision::Full), (Family::Gpt, Precision::Full), (Family::Llama, Precision::Mixed)];
    for (family, precision) in cases {
        let model = model(family, Embeddings::Tied);
        let plan = Plan { precision, ..plan(&[2, 2], vec![strategy.clone(); 4]) };
        let programs = compiler::compile_unlimited(&model.graph(), &plan).expect("the plan is right");
        let tokens = vec![3; (model.training.batch * model.sequence) as usize];
        for backend in [Backend::Shuffle { seed: 1 }, Backend::Threads] {
            let training = model.training.clone();
            let settings = Settings { training, steps: 10, backend, ways: Ways::default(), patience: Seconds(60.0) };
            let mut session = Session::load(&programs, &settings, Seed(1)).expect("the programs load");
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            for _ in 0..3 {
                assert!(session.step(Batch { inputs: &tokens, patches: &[], source: &[], targets: &tokens }).is_ok());
            }
            assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "{family:?}, {precision:?}, {backend:?}");
        }
    }
}
