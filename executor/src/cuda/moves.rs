//! What each instruction of a rank is issued as: its launches, its exchanges and transfers, and the memory that they
//! need beside the arena.

use ir::layout::Exchange;
use ir::program::{Action, CollectiveId, EventId, Instr, PerStream, Role, TransferId};
use ir::units::Bytes;
use kernels::cuda::{Device, Error, Prepared};

use super::flat::{Call, Flat};
use super::launch::Launches;
use super::shared::Shared;

/// What an exchange or a transfer needs, with all but the stream decided.
#[derive(Debug)]
pub(crate) enum Move {
    Exchange { communicator: Option<usize>, flat: Flat, copies: [Option<usize>; 2], at: [u64; 2] },
    Send { communicator: usize, at: u64, bytes: u64 },
    Receive { communicator: usize, at: u64, bytes: u64 },
}

/// What an instruction is issued as.
#[derive(Debug)]
pub(crate) enum Command {
    Compute(Launches),
    Move(Box<Move>),
    Signal(EventId),
    Wait(EventId),
    /// Freed memory stays as it is: its addresses were decided by the compiler.
    Free,
}

/// Whether an instruction does something that takes time.
pub(crate) fn takes_time(instr: &Instr) -> bool {
    match instr.action {
        Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) => true,
        Action::Free | Action::Signal(_) | Action::Wait(_) => false,
    }
}

/// What each instruction is issued as, and the copies that exchanges need.
pub(crate) fn commands(
    device: &Device,
    role: &Role,
    launches: Vec<Launches>,
    moves: Vec<Option<Move>>,
) -> Result<(Vec<Command>, Vec<Prepared>), Error> {
    let mut copies = Vec::new();
    let mut commands = Vec::with_capacity(role.code.len());
    for ((instr, launches), moved) in role.code.iter().zip(launches).zip(moves) {
        commands.push(match (instr.action, moved) {
            (Action::Compute(_), _) => Command::Compute(launches),
            (_, Some(mut moved)) => {
                if let Move::Exchange { flat, copies: places, .. } = &mut moved {
                    for (place, reorder) in places.iter_mut().zip([flat.pack, flat.unpack]) {
                        if let Some(reorder) = reorder {
                            *place = Some(copies.len());
                            copies.push(device.prepare_reorder(&reorder)?);
                        }
                    }
                }
                Command::Move(Box::new(moved))
            }
            (Action::Signal(event), _) => Command::Signal(event),
            (Action::Wait(event), _) => Command::Wait(event),
            (Action::Free, _) => Command::Free,
            (Action::Exchange(_) | Action::Send(_) | Action::Receive(_), None) => {
                unreachable!("every move has its command")
            }
        });
    }
    Ok((commands, copies))
}

pub(crate) fn event_count(role: &Role) -> usize {
    let events = role.code.iter().map(|instr| match instr.action {
        Action::Signal(event) | Action::Wait(event) => event.index() + 1,
        Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) | Action::Free => 0,
    });
    events.max().unwrap_or(0)
}

/// Bytes of a buffer as the library of collectives counts them: sizes of buffers are multiples of a word.
pub(crate) fn words(bytes: u64) -> (u64, ir::graph::Element) {
    let element = ir::graph::Element::F32;
    (bytes / element.bytes(), element)
}

/// What each instruction moves, if it does.
pub(crate) fn moves(shared: &Shared, number: u32, base: u64) -> Vec<Option<Move>> {
    let role = shared.draft.role(number);
    let of = |instr: &Instr| {
        let address = |place: usize| base + role.buffers[role.operands(instr)[place].index()].address;
        match instr.action {
            Action::Exchange(id) => Some(exchange(shared, number, id, role.operands(instr).len(), &address)),
            Action::Send(id) => {
                let (communicator, bytes) = transfer(shared, number, id, instr);
                Some(Move::Send { communicator, at: address(0), bytes })
            }
            Action::Receive(id) => {
                let (communicator, bytes) = transfer(shared, number, id, instr);
                Some(Move::Receive { communicator, at: address(0), bytes })
            }
            Action::Compute(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => None,
        }
    };
    role.code.iter().map(of).collect()
}

fn exchange(shared: &Shared, number: u32, id: CollectiveId, operands: usize, address: &dyn Fn(usize) -> u64) -> Move {
    let collective = &shared.draft.collectives[id.index()];
    let meeting = shared.meetings.of(number, id);
    let members = &shared.meetings.all[meeting].members;
    let position = members.iter().position(|&member| member == number).expect("a rank is a member of its meetings");
    let mut flat = Flat::new(collective, members.len() as u64, position as u64);
    let is_empty = collective.source_bytes() == Bytes::ZERO;
    if is_empty {
        flat = Flat { pack: None, call: Call::Local, unpack: None };
    }
    let meets = members.len() > 1 && !is_empty && !matches!(collective.exchange, Exchange::Slice { .. });
    Move::Exchange {
        communicator: meets.then_some(meeting),
        flat,
        copies: [None, None],
        at: [address(0), address(operands - 1)],
    }
}

/// The communicator of a transfer, and its bytes.
fn transfer(shared: &Shared, number: u32, id: TransferId, instr: &Instr) -> (usize, u64) {
    let role = shared.draft.role(number);
    let route = shared.meetings.route(&shared.draft, id, number);
    let place = shared.meetings.routes.iter().position(|&other| other == route).expect("a transfer has its route");
    let bytes = role.buffers[role.operands(instr)[0].index()].bytes;
    (shared.meetings.all.len() + place, bytes.0)
}

/// What lies beside the arena, in bytes from its begin.
pub(crate) struct Beside {
    pub(crate) bytes: Bytes,
    pub(crate) workspace: u64,
    pub(crate) staging: PerStream<Option<[u64; 2]>>,
}

impl Beside {
    pub(crate) fn new(role: &Role, workspace: Bytes, moves: &[Option<Move>]) -> Beside {
        let mut sizes: PerStream<[u64; 2]> = PerStream::all([0, 0]);
        for (instr, moved) in role.code.iter().zip(moves) {
            if let Some(Move::Exchange { flat, .. }) = moved {
                for (size, needed) in sizes[instr.stream].iter_mut().zip(flat.staging()) {
                    *size = (*size).max(needed);
                }
            }
        }
        let mut end = 0;
        let mut place = |bytes: u64| {
            let begin = end;
            end += Bytes(bytes).round_up(ir::program::ALIGNMENT).0;
            begin
        };
        let workspace = place(workspace.0);
        let staging = PerStream::from_fn(|stream| {
            let sizes = sizes[stream];
            (sizes != [0, 0]).then(|| sizes.map(&mut place))
        });
        Beside { bytes: Bytes(end), workspace, staging }
    }
}
