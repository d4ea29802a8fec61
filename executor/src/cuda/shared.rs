//! What all ranks of a host know.

use std::ops::Range;
use std::sync::Arc;

use ir::program::{Action, Draft, Instr};
use ir::ways::Ways;

use crate::fault::Head;
use crate::meetings::Meetings;
use crate::session::Issue;

/// Programs, and how they are run.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) draft: Arc<Draft>,
    pub(crate) meetings: Meetings,
    pub(crate) issue: Issue,
    /// How products are computed.
    pub(crate) ways: Arc<Ways>,
    /// The ranks of this process, and the GPU of the first of them; the others follow.
    pub(crate) own: Range<u32>,
    pub(crate) first_device: usize,
}

impl Shared {
    /// The GPU of a rank of this process.
    pub(crate) fn device(&self, rank: u32) -> usize {
        self.first_device + (rank - self.own.start) as usize
    }

    /// An instruction of a rank, as faults name it.
    pub(crate) fn head(&self, rank: u32, instruction: usize) -> Head {
        let Instr { stream, span, action, .. } = self.draft.role(rank).code[instruction];
        let partner = match action {
            Action::Send(id) => Some(self.meetings.route(&self.draft, id, rank).to),
            Action::Receive(id) => Some(self.meetings.route(&self.draft, id, rank).from),
            Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => None,
        };
        Head { rank, instruction, stream, span, action, partner }
    }
}
