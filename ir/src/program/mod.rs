//! Programs: what happens when. One for each role, on named streams, read by the simulator and the executors alike.
//!
//! The exact meaning, which every interpreter must keep:
//! - A stream does its instructions one after the other, in the order of the code. Different streams are ordered
//!   only by `Signal` and `Wait`: a wait ends once the signal of its event was reached on the signal's own stream.
//! - Instructions are issued in the order of the code.
//! - An exchange begins when every member of its group has come to it, and ends for all at once; members come to the
//!   exchanges of one group on one stream in the same order. So with a send and its receive: what one role sends to
//!   another on the forward (backward) stream, the other receives on its stream of that direction in the same order.
//!   Both name the transfer, and each transfer is sent once and received once.
//! - A buffer lives from the first instruction that writes it to its `Free`, which takes effect in its stream's
//!   order and is the last access. Resident buffers live always. Buffers that share addresses never live at once.
//! - Events are used once: one signal, any number of waits.
//! - After the last instruction of every stream the step is over.

mod buffer;
mod collective;
mod kernel;
mod role;
mod stream;
mod transfer;

use crate::graph::index;
use crate::mesh::Mesh;
use crate::units::Bytes;

pub use buffer::{Block, BlockParameter, Buffer, Content, Part, Rows};
pub use collective::Collective;
pub use kernel::{Access, Binding, Fragment, Kernel, Offset, Operand, Output};
pub use role::{Accesses, Action, Instr, Role};
pub use stream::{Direction, PerStream, Phase, Span, Stream, Streams};

pub use transfer::Transfer;

/// Addresses and sizes of buffers are multiples of this.
pub const ALIGNMENT: u64 = 256;

index!(
    /// A buffer of a role.
    BufferId
);
index!(
    /// A fragment of the programs.
    FragmentId
);
index!(
    /// A collective of the programs.
    CollectiveId
);
index!(
    /// A transfer of the programs.
    TransferId
);
index!(
    /// A role: ranks that run the same program.
    RoleId
);
index!(
    /// A stage of the pipeline: consecutive layers. A role plays one or more of them.
    StageId
);
index!(
    /// A block of parameters of the programs.
    BlockId
);
index!(
    /// An event of a role.
    EventId
);

/// Numbers of the step that kernels need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    /// Passes through the pipeline.
    pub microbatches: u32,
    /// Sequences of a microbatch, over all ranks of a stage.
    pub sequences: u64,
    /// Tokens of a sequence.
    pub sequence: u64,
}

impl StepSize {
    /// Tokens of a step, over all ranks: the loss is their mean.
    pub fn tokens(&self) -> u64 {
        u64::from(self.microbatches) * self.sequences * self.sequence
    }
}

/// Programs before they are verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// All ranks.
    pub mesh: Mesh,
    /// The step.
    pub step: StepSize,
    /// What compute instructions run.
    pub fragments: Vec<Fragment>,
    /// What exchange instructions take part in.
    pub collectives: Vec<Collective>,
    /// Blocks of parameters.
    pub blocks: Vec<Block>,
    /// What roles send each other.
    pub transfers: Vec<Transfer>,
    /// The programs, each at the place that its id names.
    pub roles: Vec<Role>,
    /// The role that each rank plays. All roles have as many ranks, and the ranks of a group that spans the pipeline
    /// each play another.
    pub role_of: Vec<RoleId>,
}

impl Draft {
    /// The role of a rank.
    pub fn role(&self, rank: u32) -> &Role {
        &self.roles[self.role_of[rank as usize].index()]
    }

    /// The ranks that play a role, in order.
    pub fn ranks_of(&self, role: RoleId) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.role_of).filter(move |&(_, &other)| other == role).map(|(rank, _)| rank)
    }

    /// The largest arena of all roles.
    pub fn peak(&self) -> Bytes {
        self.roles.iter().map(|role| role.arena).max().unwrap_or(Bytes::ZERO)
    }

    /// The role of each rank where roles stand along the mesh's pipeline axis in their order.
    pub fn roles_along(mesh: &Mesh) -> Vec<RoleId> {
        (0..mesh.rank_count()).map(|rank| RoleId(mesh.coordinate(rank, Mesh::PIPELINE))).collect()
    }
}

/// One program for each role. Made only by `Programs::verified`, so holding them is proof that they were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Programs {
    pub(crate) draft: Draft,
    pub(crate) digest: u64,
}

impl Programs {
    /// What was verified.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Equal for equal programs: what was simulated is what is run.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// All ranks.
    pub fn mesh(&self) -> &Mesh {
        &self.draft.mesh
    }

    /// The program of each role.
    pub fn roles(&self) -> &[Role] {
        &self.draft.roles
    }

    /// The role of a rank.
    pub fn role_of(&self, rank: u32) -> &Role {
        self.draft.role(rank)
    }

    /// A fragment.
    pub fn fragment(&self, id: FragmentId) -> &Fragment {
        &self.draft.fragments[id.index()]
    }

    /// A collective.
    pub fn collective(&self, id: CollectiveId) -> &Collective {
        &self.draft.collectives[id.index()]
    }

    /// A transfer.
    pub fn transfer(&self, id: TransferId) -> &Transfer {
        &self.draft.transfers[id.index()]
    }

    /// A block of parameters.
    pub fn block(&self, id: BlockId) -> &Block {
        &self.draft.blocks[id.index()]
    }

    /// The largest arena of all roles.
    pub fn peak(&self) -> Bytes {
        self.draft.peak()
    }

    /// The most that lives at once in any role: no arena can be smaller.
    pub fn live_bound(&self) -> Bytes {
        self.draft.roles.iter().map(|role| role.live_bound).max().unwrap_or(Bytes::ZERO)
    }
}
