//! Orders: any that a program allows gives the same; one that a missing wait allows does not; and none is a fault.

use ir::mesh::{Axis, Mesh};
use ir::op::Op;
use ir::program::{Action, Content, Direction, Draft, EventId, StepSize, Stream};
use ir::seed::Seed;
use ir::trace::Origin;
use ir::units::{Bytes, Seconds};

use super::builder::Builder;
use super::prefetch::{ELEMENTS, Prefetch, prefetch};
use super::{TOKEN, bits, random, read, settings, verified, write};
use crate::fault::Fault;
use crate::session::{Backend, Session, Settings};

const RANKS: u32 = 2;

fn fill(session: &mut Session, prefetch: &Prefetch) {
    for rank in 0..RANKS {
        for (layer, &id) in prefetch.shares.iter().enumerate() {
            let seed = Seed(9).derive(u64::from(rank)).derive(layer as u64);
            write(session, rank, id, &random(seed, ELEMENTS / u64::from(RANKS)));
        }
    }
}

fn sums(prefetch: &Prefetch, session: &mut Session) -> Vec<u32> {
    fill(session, prefetch);
    session.step(TOKEN).unwrap();
    (0..RANKS).flat_map(|rank| bits(&read(session, rank, prefetch.sum, ELEMENTS))).collect()
}

#[test]
fn any_legal_order_gives_the_same_bits() {
    let prefetch = prefetch(RANKS);
    let expected = sums(&prefetch, &mut verified(&prefetch.draft, Backend::Threads));
    assert!(expected.iter().all(|&bits| !f32::from_bits(bits).is_nan()));
    for seed in 0..200 {
        let found = sums(&prefetch, &mut verified(&prefetch.draft, Backend::Shuffle { seed }));
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn a_missing_wait_shows_under_some_seed() {
    let whole = prefetch(RANKS);
    let expected = sums(&whole, &mut verified(&whole.draft, Backend::Threads));
    let is_wait = |action| matches!(action, Action::Wait(_));
    // The last wait orders the sum of losses behind the kernels; here it guards nothing.
    let count = whole.draft.roles[0].code.iter().filter(|instr| is_wait(instr.action)).count() - 1;
    for missing in 0..count {
        let mut draft = whole.draft.clone();
        let code = &mut draft.roles[0].code;
        let (place, _) = code.iter().enumerate().filter(|(_, instr)| is_wait(instr.action)).nth(missing).unwrap();
        let removed = code.remove(place);
        let differs = |seed: &u64| {
            let settings = settings(Backend::Shuffle { seed: *seed });
            let mut session = Session::of_draft(draft.clone(), 0, &settings, Seed(1)).unwrap();
            sums(&whole, &mut session) != expected
        };
        let seed = (0..200).find(differs);
        assert!(seed.is_some(), "without {:?} on {}, all seeds give the same", removed.action, removed.stream.name());
    }
}

/// Rank 1 waits for an event that is never signalled, and rank 0 for rank 1.
fn stuck() -> Draft {
    let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
    let mut builder = Builder::new(&Mesh::new(2, &[]), step);
    let x = [0, 1].map(|role| builder.buffer(role, 4, Content::Boundary));
    let never = builder.transfer([1, 0], Direction::Forward);
    builder.push(0, Stream::Receive(Direction::Forward), Action::Receive(never), &[x[0]]);
    builder.wait(1, Stream::Exchange(Axis::Data), EventId(7));
    builder.finish()
}

#[test]
fn a_step_that_cannot_end_names_what_every_rank_waits_for() {
    for (backend, after) in [(Backend::Shuffle { seed: 3 }, ""), (Backend::Threads, " for 20 ms")] {
        let settings = Settings { patience: Seconds(0.02), ..settings(backend) };
        let mut session = Session::of_draft(stuck(), 0, &settings, Seed(1)).unwrap();
        let fault = session.step(TOKEN).unwrap_err();
        let expected = format!(
            "no rank made progress{after}\
             \n  rank 0 on receive(forward): instruction 0 (m0 L3 F) waits for rank 1 to send\
             \n  rank 1 on exchange(data): instruction 0 (m0 L3 F) waits for event 7"
        );
        assert_eq!(fault.to_string(), expected);
        assert_eq!(session.step(TOKEN), Err(Fault::Ended));
    }
}

#[test]
fn a_rank_that_breaks_ends_the_step_for_all() {
    let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
    let mut builder = Builder::new(&Mesh::new(2, &[]), step);
    let [x, y] = [0, 1].map(|role| builder.buffer(role, 4, Content::Value));
    let zero = builder.fragment(Op::Zero, 0, 1, 4);
    let never = builder.transfer([1, 0], Direction::Forward);
    builder.push(0, Stream::Receive(Direction::Forward), Action::Receive(never), &[x]);
    builder.push(1, Stream::Compute, Action::Compute(zero), &[y]);
    let mut draft = builder.finish();
    draft.roles[1].buffers[y.index()].address = draft.roles[1].arena.0;
    let mut session = Session::of_draft(draft, 0, &settings(Backend::Threads), Seed(1)).unwrap();
    assert_eq!(session.step(TOKEN), Err(Fault::Broken { rank: 1 }));
}

#[test]
fn a_traced_step_says_what_ran_and_what_was_alive() {
    let prefetch = prefetch(RANKS);
    let role = &prefetch.draft.roles[0];
    for backend in [Backend::Threads, Backend::Shuffle { seed: 1 }] {
        let mut session = verified(&prefetch.draft, backend);
        fill(&mut session, &prefetch);
        assert_eq!(session.step(TOKEN).unwrap().trace, None);
        let result = session.step_traced(TOKEN).unwrap();
        let trace = result.trace.unwrap();
        assert_eq!((trace.origin, trace.step), (Origin::Measured, result.time));
        let takes_time = |action| matches!(action, Action::Compute(_) | Action::Exchange(_));
        let count = role.code.iter().filter(|instr| takes_time(instr.action)).count();
        for rank in 0..RANKS {
            let events: Vec<_> = trace.events.iter().filter(|event| event.rank == rank).collect();
            assert_eq!(events.len(), count);
            assert!(events.iter().all(|event| event.start.0 <= event.end.0 && event.end.0 <= trace.step.0));
            let live: Vec<Bytes> = trace.memory.iter().filter(|s| s.rank == rank).map(|sample| sample.live).collect();
            assert_eq!(live.first(), live.last(), "after a step only resident buffers are alive");
            assert!(live.iter().all(|&live| live <= role.arena) && live.iter().max() > live.first());
            assert_eq!(trace.totals[rank as usize].arena, role.arena);
        }
    }
}
