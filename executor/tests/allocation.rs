//! A step allocates nothing: all memory is placed by the compiler and allocated at load.
#![allow(unsafe_code, reason = "counts what the global allocator gives")]

#[allow(dead_code, reason = "shared with the tests inside the crate, which use all of it")]
#[path = "../src/tests/builder.rs"]
mod builder;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use builder::{Builder, SCALARS};
use hetu_executor::{Backend, Batch, Session, Settings};
use ir::layout::{Exchange, Reduce};
use ir::mesh::{Axis, Mesh};
use ir::model::{Precision, Training};
use ir::op::Op;
use ir::program::{Action, Content, Phase, Programs, StepSize, Stream};
use ir::seed::Seed;
use ir::units::{Bytes, Seconds};

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

/// Two stages of two ranks: each zeroes its scalars, all add them up, and one stage sends them to the other.
fn programs() -> Programs {
    let mut builder = Builder::new(&Mesh::new(2, &[2]), StepSize { microbatches: 1, sequences: 1, sequence: 1 });
    let zero = builder.fragment(Op::Zero, 0, 1, 2);
    let reduce = Exchange::AllReduce { axes: vec![0, 1], reduce: Reduce::Sum };
    let reduce = builder.collective(reduce, Axis::Pipeline, &[2]);
    let exchange = Stream::Exchange(Axis::Pipeline);
    let transfers = [
        (Stream::Send(Phase::Forward), Action::Send { to: 1 }),
        (Stream::Receive(Phase::Forward), Action::Receive { from: 0 }),
    ];
    for (role, (stream, transfer)) in transfers.into_iter().enumerate() {
        let moved = builder.buffer(role, 64, Content::Boundary);
        builder.push(role, Stream::Compute, Action::Compute(zero), &[SCALARS]);
        let zeroed = builder.signal(role, Stream::Compute);
        builder.wait(role, exchange, zeroed);
        builder.push(role, exchange, Action::Exchange(reduce), &[SCALARS]);
        builder.push(role, stream, transfer, &[moved]);
    }
    Programs::verified(builder.finish(), Bytes(u64::MAX)).expect("the draft is right")
}

#[test]
fn a_step_allocates_nothing() {
    let training = Training {
        batch: 1,
        precision: Precision::Full,
        learning_rate: 1e-3,
        warmup_steps: 0,
        weight_decay: 0.1,
        gradient_norm_max: 1.0,
        betas: [0.9, 0.95],
    };
    for backend in [Backend::Shuffle { seed: 1 }, Backend::Threads] {
        let settings = Settings { training: training.clone(), steps: 10, backend, patience: Seconds(20.0) };
        let mut session = Session::load(&programs(), &settings, Seed(1)).expect("the programs load");
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for _ in 0..20 {
            assert!(session.step(Batch { inputs: &[0], targets: &[0] }).is_ok());
        }
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "{backend:?}");
    }
}
