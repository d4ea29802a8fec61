//! Sends and receives between stages.

use ir::mesh::Mesh;
use ir::op::Op;
use ir::program::{Action, BufferId, Content, Direction, Draft, StepSize, Stream};
use ir::seed::Seed;

use super::builder::Builder;
use super::{TOKEN, bits, random, read, verified, write};
use crate::session::Backend;

const ELEMENTS: u64 = 40;
const MICROBATCHES: u32 = 5;

/// Stage 0 sends what it has for each microbatch; stage 1 adds zero to it and sends it back.
fn there_and_back() -> (Draft, Vec<BufferId>, Vec<BufferId>) {
    let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
    let mut builder = Builder::new(&Mesh::new(2, &[2]), step);
    let add = builder.fragment(Op::Add, 2, 1, ELEMENTS);
    let of = |builder: &mut Builder, role| -> Vec<BufferId> {
        (0..MICROBATCHES).map(|_| builder.buffer(role, ELEMENTS, Content::Boundary)).collect()
    };
    let sent = of(&mut builder, 0);
    let returned = of(&mut builder, 0);
    let there = [(); MICROBATCHES as usize].map(|()| builder.transfer([0, 1], Direction::Forward));
    let back = [(); MICROBATCHES as usize].map(|()| builder.transfer([1, 0], Direction::Backward));
    for (&id, &transfer) in sent.iter().zip(&there) {
        builder.push(0, Stream::Send(Direction::Forward), Action::Send(transfer), &[id]);
    }
    for (&id, &transfer) in returned.iter().zip(&back) {
        builder.push(0, Stream::Receive(Direction::Backward), Action::Receive(transfer), &[id]);
    }
    let zero = builder.fragment(Op::Zero, 0, 1, ELEMENTS);
    for (&there, &back) in there.iter().zip(&back) {
        let [x, other, y] = [(); 3].map(|()| builder.buffer(1, ELEMENTS, Content::Value));
        builder.push(1, Stream::Receive(Direction::Forward), Action::Receive(there), &[x]);
        let arrived = builder.signal(1, Stream::Receive(Direction::Forward));
        builder.wait(1, Stream::Compute, arrived);
        builder.push(1, Stream::Compute, Action::Compute(zero), &[other]);
        builder.push(1, Stream::Compute, Action::Compute(add), &[x, other, y]);
        builder.push(1, Stream::Compute, Action::Free, &[other]);
        builder.push(1, Stream::Compute, Action::Free, &[x]);
        let made = builder.signal(1, Stream::Compute);
        builder.wait(1, Stream::Send(Direction::Backward), made);
        builder.push(1, Stream::Send(Direction::Backward), Action::Send(back), &[y]);
        builder.push(1, Stream::Send(Direction::Backward), Action::Free, &[y]);
    }
    (builder.finish(), sent, returned)
}

#[test]
fn what_is_sent_comes_back_in_order() {
    let (draft, sent, returned) = there_and_back();
    let backends = (0..40).map(|seed| Backend::Shuffle { seed }).chain([Backend::Threads]);
    for backend in backends {
        let mut session = verified(&draft, backend);
        for step in 0..3 {
            let values =
                |rank: u32, id: BufferId| random(Seed(step).derive(u64::from(rank)).derive(u64::from(id.0)), ELEMENTS);
            for rank in 0..2 {
                sent.iter().for_each(|&id| write(&mut session, rank, id, &values(rank, id)));
            }
            session.step(TOKEN).unwrap();
            for rank in 0..2 {
                for (&id, &back) in sent.iter().zip(&returned) {
                    let found = read(&session, rank, back, ELEMENTS);
                    assert_eq!(bits(&found), bits(&values(rank, id)), "{backend:?}, step {step}");
                }
            }
        }
    }
}
