//! What verified programs can not do.

use std::collections::BTreeMap;

use ir::cluster::{Cluster, Device, Execution, Link};
use ir::mesh::Mesh;
use ir::program::{
    Action, Buffer, BufferId, Content, Direction, Draft, EventId, Instr, Phase, Role, RoleId, Span, StageId, StepSize,
    Stream, Transfer, TransferId,
};
use ir::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

use super::{Detail, Regime, play};
use crate::fleet::Seats;
use crate::model::CostModel;

fn model() -> CostModel {
    let link = Link {
        name: "link".to_owned(),
        rate: BytesPerSecond(1e9),
        latency: Seconds(0.0),
        efficiency: 1.0,
        efficiency_of: BTreeMap::new(),
        start: Seconds::ZERO,
    };
    let device = Device {
        name: "device".to_owned(),
        execution: Execution::Concurrent,
        memory: Bytes(1 << 30),
        reserved: Bytes::ZERO,
        f32_rate: FlopsPerSecond(1e12),
        bf16_rate: FlopsPerSecond(1e12),
        memory_rate: BytesPerSecond(1e12),
        issue: Seconds(0.0),
        product_efficiency: 1.0,
        memory_efficiency: 1.0,
        residuals: None,
        price_per_hour: None,
        currency: None,
        source: "made up".to_owned(),
    };
    let name = "one node".to_owned();
    let cluster =
        Cluster { format: 1, name, nodes: 1, devices_per_node: 8, device, inside: link.clone(), between: link };
    CostModel::new(&cluster, None)
}

fn role(id: u32, code: &[(Stream, Action)]) -> Role {
    let span = Span { microbatch: Some(3), layer: Some(7), phase: Phase::Backward };
    let code = code.iter().map(|&(stream, action)| Instr { stream, span, action, operands: (0, 1) }).collect();
    let (id, stages) = (RoleId(id), vec![StageId(id)]);
    Role {
        id,
        stages,
        buffers: vec![Buffer { bytes: Bytes(8), address: 0, content: Content::Boundary }],
        code,
        operand_list: vec![BufferId(0)],
        arena: Bytes::ZERO,
        live_bound: Bytes::ZERO,
    }
}

fn transfer([from, to]: [u32; 2], direction: Direction) -> Transfer {
    Transfer { from: RoleId(from), to: RoleId(to), direction, microbatch: Some(3), layer: 7 }
}

/// Two stages with a transfer each way: from the second to the first, and back.
fn draft(roles: [Role; 2]) -> Draft {
    Draft {
        mesh: Mesh::new(2, &[1]),
        step: StepSize { microbatches: 1, sequences: 1, sequence: 1 },
        fragments: Vec::new(),
        collectives: Vec::new(),
        blocks: Vec::new(),
        transfers: vec![transfer([1, 0], Direction::Backward), transfer([0, 1], Direction::Forward)],
        role_of: vec![RoleId(0), RoleId(1)],
        roles: roles.into(),
    }
}

#[test]
fn a_deadlock_names_what_stands_and_what_it_waits_for() {
    let send = Stream::Send(Direction::Backward);
    let draft = draft([
        role(0, &[(Stream::Compute, Action::Wait(EventId(5)))]),
        role(
            1,
            &[
                (Stream::Compute, Action::Wait(EventId(0))),
                (send, Action::Send(TransferId(0))),
                (send, Action::Signal(EventId(0))),
            ],
        ),
    ]);
    let deadlock = play(&draft, Seats::alike(&model()), Detail::Totals, Regime::Concurrent).expect_err("both stand");
    let expected = "\
the programs wait for each other
  stage 0, instruction 0 on compute (m3 L7 B) waits for event 5, which nothing signals
  stage 1, instruction 0 on compute (m3 L7 B) waits for event 0, which instruction 2 on send(backward) would signal
  stage 1, instruction 1 on send(backward) (m3 L7 B) waits for stage 0 to receive";
    assert_eq!(deadlock.to_string(), expected);
}

#[test]
fn a_circle_of_waiting_is_named_from_end_to_end() {
    // Each stage sends only what it has received before.
    let passes_on = |stage, [first, second]: [u32; 2], [receive, send]: [Direction; 2]| {
        let (receive, send) = (Stream::Receive(receive), Stream::Send(send));
        role(
            stage,
            &[
                (receive, Action::Receive(TransferId(first))),
                (receive, Action::Signal(EventId(0))),
                (send, Action::Wait(EventId(0))),
                (send, Action::Send(TransferId(second))),
            ],
        )
    };
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    let roles = [passes_on(0, [0, 1], [backward, forward]), passes_on(1, [1, 0], [forward, backward])];
    let deadlock =
        play(&draft(roles), Seats::alike(&model()), Detail::Totals, Regime::Concurrent).expect_err("a circle");
    let expected = "  in a circle: stage 0, instruction 0 on receive(backward) (m3 L7 B) \
                    waits for stage 1, instruction 2 on send(backward) (m3 L7 B), \
                    which waits for stage 1, instruction 0 on receive(forward) (m3 L7 B), \
                    which waits for stage 0, instruction 2 on send(forward) (m3 L7 B), \
                    which waits for stage 0, instruction 0 on receive(backward) (m3 L7 B)";
    assert_eq!(deadlock.to_string().lines().last(), Some(expected));
}
