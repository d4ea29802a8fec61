//! The program of one role: instructions and the buffers they work on.

use super::{
    Access, Binding, Buffer, BufferId, CollectiveId, EventId, Fragment, FragmentId, RoleId, Span, StageId, Stream,
    TransferId,
};
use crate::units::Bytes;

/// What an instruction does. Its operands stand in the role's list, see [`Role::operands`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a fragment on its bindings, which are the operands.
    Compute(FragmentId),
    /// Takes part in a collective. Operands: source, destination; only one for an all-reduce, which is in place.
    Exchange(CollectiveId),
    /// Sends its operand to the rank at the same place of another role.
    Send(TransferId),
    /// Receives its operand from the rank at the same place of another role.
    Receive(TransferId),
    /// Ends the life of its operand.
    Free,
    /// Lets waits for the event go on.
    Signal(EventId),
    /// Holds this stream until the event was signalled.
    Wait(EventId),
}

/// How instructions use their operands. Whoever must know asks here: what is ordered, placed, priced and run follows
/// from it.
impl Instr {
    /// How it uses each of its operands, in their order. A `Free` updates what it ends, so that it comes after all
    /// reads and writes.
    pub fn accesses<'a>(&self, fragments: &'a [Fragment]) -> Accesses<'a> {
        let fixed = |accesses: &'static [Access]| Accesses::Fixed(accesses.iter());
        match self.action {
            Action::Compute(id) => Accesses::Bindings(fragments[id.index()].bindings.iter()),
            // An exchange in place has one operand.
            Action::Exchange(_) if self.operands.1 == 1 => fixed(&[Access::Update]),
            Action::Exchange(_) => fixed(&[Access::Read, Access::Write]),
            Action::Send(_) => fixed(&[Access::Read]),
            Action::Receive(_) => fixed(&[Access::Write]),
            Action::Free => fixed(&[Access::Update]),
            Action::Signal(_) | Action::Wait(_) => fixed(&[]),
        }
    }
}

/// See [`Instr::accesses`].
#[derive(Clone, Debug)]
pub enum Accesses<'a> {
    /// Those of a fragment's bindings.
    Bindings(std::slice::Iter<'a, Binding>),
    /// Those that all instructions of a sort have.
    Fixed(std::slice::Iter<'static, Access>),
}

impl Iterator for Accesses<'_> {
    type Item = Access;

    #[inline]
    fn next(&mut self) -> Option<Access> {
        match self {
            Accesses::Bindings(bindings) => bindings.next().map(|binding| binding.access),
            Accesses::Fixed(accesses) => accesses.next().copied(),
        }
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instr {
    /// Where it runs.
    pub stream: Stream,
    /// What it is part of.
    pub span: Span,
    /// What it does.
    pub action: Action,
    /// Its operands: start and count in the role's list.
    pub operands: (u32, u16),
}

/// The program of all ranks of one role. Equal if it does the same: where operands stand in the list is no part of it.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its place among the roles.
    pub id: RoleId,
    /// The stages that it plays.
    pub stages: Vec<StageId>,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// Instructions, in order of issue.
    pub code: Vec<Instr>,
    /// Operands of all instructions.
    pub operand_list: Vec<BufferId>,
    /// Memory that one rank allocates.
    pub arena: Bytes,
    /// The largest sum of live buffers at any instruction: no placement needs less.
    pub live_bound: Bytes,
}

impl Role {
    /// The buffers that one of its instructions uses, and how, in the order of its operands.
    #[inline]
    pub fn uses<'a>(&'a self, fragments: &'a [Fragment], instr: &Instr) -> impl Iterator<Item = (BufferId, Access)> {
        self.operands(instr).iter().copied().zip(instr.accesses(fragments))
    }

    /// The operands of one of its instructions.
    pub fn operands(&self, instr: &Instr) -> &[BufferId] {
        let (start, count) = instr.operands;
        &self.operand_list[start as usize..start as usize + count as usize]
    }
}

impl PartialEq for Role {
    fn eq(&self, other: &Role) -> bool {
        let operands = |role: &Role, (start, count): (u32, u16)| {
            let start = start as usize;
            role.operand_list.get(start..start + usize::from(count)).map(<[BufferId]>::to_vec)
        };
        let same = |(a, b): (&Instr, &Instr)| {
            (a.stream, a.span, a.action) == (b.stream, b.span, b.action)
                && operands(self, a.operands) == operands(other, b.operands)
        };
        (self.id, self.arena, self.live_bound) == (other.id, other.arena, other.live_bound)
            && self.stages == other.stages
            && self.buffers == other.buffers
            && self.code.len() == other.code.len()
            && self.code.iter().zip(&other.code).all(same)
    }
}
