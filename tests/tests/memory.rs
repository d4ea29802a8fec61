//! Memory is placed, not discovered: what was predicted is what a rank allocates, byte for byte.
#![allow(unsafe_code, reason = "sees what the global allocator is asked for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cost_model::{CostModel, Detail, simulate};
use executor::{Backend, Batch, Session};
use hetu_tests::arbitrary::{Case, cluster};
use hetu_tests::training::{compiled, load, tokens};
use ir::model::Model;
use ir::program::{ALIGNMENT, Programs};
use ir::trace::Trace;
use ir::units::Bytes;

/// Notes allocations of arenas: nothing else asks for memory so aligned.
struct Counting;

static ARENA_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Sizes of the arenas since the count was zero, in order; no case has more.
static ARENA_BYTES: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

impl Counting {
    fn note(layout: Layout) {
        if layout.align() as u64 >= ALIGNMENT {
            let index = ARENA_COUNT.fetch_add(1, Ordering::SeqCst);
            ARENA_BYTES[index].store(layout.size() as u64, Ordering::SeqCst);
        }
    }
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::note(layout);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::note(layout);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One session at a time is loaded while allocations are counted.
static LOADING: Mutex<()> = Mutex::new(());

/// A session, and the sizes of the arenas that its load allocated: one a rank, in order.
fn loaded(model: &Model, programs: &Programs) -> (Session, Vec<Bytes>) {
    let _alone = LOADING.lock().expect("no test panics while it loads");
    ARENA_COUNT.store(0, Ordering::SeqCst);
    let session = load(model, programs, Backend::Shuffle { seed: 1 });
    let sizes = ARENA_BYTES[..ARENA_COUNT.load(Ordering::SeqCst)].iter();
    (session, sizes.map(|bytes| Bytes(bytes.load(Ordering::SeqCst))).collect())
}

/// The largest live memory of each rank that a trace tells of.
fn most_alive(trace: &Trace) -> Vec<(u32, Bytes)> {
    let of = |rank: u32| {
        let own = trace.memory.iter().filter(move |sample| sample.rank == rank);
        own.map(|sample| sample.live).max().unwrap_or_default()
    };
    trace.totals.iter().map(|totals| (totals.rank, of(totals.rank))).collect()
}

const CASES: std::ops::Range<u64> = 1000..1040;

#[test]
fn a_session_allocates_the_predicted_arenas() {
    for seed in CASES {
        let case = Case::new(seed);
        let programs = compiled(&case.model.graph(), &case.plan);
        let (_session, allocated) = loaded(&case.model, &programs);
        let costs = CostModel::new(&cluster(), None);
        let predicted = simulate(&programs, &costs, Detail::Totals).expect("no deadlock");
        // A prediction is of the first rank of each stage, of which all others are alike.
        let stage = |rank| programs.mesh().coordinate(rank, 0) as usize;
        let expected = (0..programs.mesh().rank_count()).map(|rank| predicted.totals[stage(rank)].arena);
        assert_eq!(allocated, expected.collect::<Vec<Bytes>>(), "{case}");
        assert_eq!(allocated.iter().max(), Some(&programs.peak()), "{case}");
    }
}

#[test]
fn live_memory_stays_inside_the_arena_predicted_and_measured() {
    for seed in CASES {
        let case = Case::new(seed);
        let programs = compiled(&case.model.graph(), &case.plan);
        let costs = CostModel::new(&cluster(), None);
        let predicted = simulate(&programs, &costs, Detail::Events).expect("no deadlock");
        let (mut session, ..) = loaded(&case.model, &programs);
        let tokens = tokens(&case.model, 0);
        let batch = Batch { inputs: &tokens[1..], patches: &[], source: &[], targets: &tokens[1..] };
        let measured = session.step_traced(batch).expect("the step succeeds").trace.expect("the step was traced");
        assert_eq!(measured.totals.len(), programs.mesh().rank_count() as usize, "{case}");
        for (rank, live) in most_alive(&predicted).into_iter().chain(most_alive(&measured)) {
            let role = programs.role_of(rank);
            assert!(live > Bytes::ZERO && live <= role.arena, "rank {rank}: {live} of {}\n{case}", role.arena);
            if case.plan.rank_count() == 1 {
                assert_eq!(live, role.live_bound, "one stream runs in the order of the code\n{case}");
            }
        }
    }
}
