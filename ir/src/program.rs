//! Programs: what happens when. One for each role, on named streams, read by the simulator and the executors alike.
//!
//! The exact meaning, which every interpreter must keep:
//! - A stream does its instructions one after the other, in the order of the code. Different streams are ordered
//!   only by `Signal` and `Wait`: a wait ends once the signal of its event was reached on the signal's own stream.
//! - Instructions are issued in the order of the code.
//! - An exchange begins when every member of its group has come to it, and ends for all at once; members come to the
//!   exchanges of one group on one stream in the same order. So with a send and its receive: the n-th send from a
//!   role to another on the forward (backward) stream is the n-th receive of that pair on that stream.
//! - A buffer lives from the first instruction that writes it to its `Free`, which takes effect in its stream's
//!   order and is the last access. Resident buffers live always. Buffers that share addresses never live at once.
//! - Events are used once: one signal, any number of waits.
//! - After the last instruction of every stream the step is over.

use std::fmt;

use crate::graph::{Element, Init, Sizes, index};
use crate::layout::Exchange;
use crate::mesh::{Axis, Mesh};
use crate::op::{Op, Write};
use crate::profile::Work;
use crate::units::{Bytes, Flops};

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
    /// A block of parameters of the programs.
    BlockId
);
index!(
    /// An event of a role.
    EventId
);

/// Which pass work belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// From tokens to loss.
    Forward,
    /// From loss to gradients.
    Backward,
    /// Once a step.
    Update,
}

impl Phase {
    /// Its letter in programs.
    pub fn letter(self) -> char {
        match self {
            Phase::Forward => 'F',
            Phase::Backward => 'B',
            Phase::Update => 'U',
        }
    }
}

/// A queue of instructions of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Kernels.
    Compute,
    /// Collectives along one axis.
    Exchange(Axis),
    /// To another stage: activations (forward) or their gradients (backward).
    Send(Phase),
    /// From another stage.
    Receive(Phase),
}

impl Stream {
    /// All streams, in a fixed order.
    pub const ALL: [Stream; 8] = [
        Stream::Compute,
        Stream::Exchange(Axis::Data),
        Stream::Exchange(Axis::Tensor),
        Stream::Exchange(Axis::Pipeline),
        Stream::Send(Phase::Forward),
        Stream::Send(Phase::Backward),
        Stream::Receive(Phase::Forward),
        Stream::Receive(Phase::Backward),
    ];

    /// Its place in [`Stream::ALL`].
    pub fn index(self) -> usize {
        match self {
            Stream::Compute => 0,
            Stream::Exchange(Axis::Data) => 1,
            Stream::Exchange(Axis::Tensor) => 2,
            Stream::Exchange(Axis::Pipeline) => 3,
            Stream::Send(Phase::Backward) => 5,
            Stream::Send(Phase::Forward | Phase::Update) => 4,
            Stream::Receive(Phase::Backward) => 7,
            Stream::Receive(Phase::Forward | Phase::Update) => 6,
        }
    }

    /// Its word in programs and profiles.
    pub fn name(self) -> &'static str {
        [
            "compute",
            "exchange(data)",
            "exchange(tensor)",
            "exchange(pipeline)",
            "send(forward)",
            "send(backward)",
            "receive(forward)",
            "receive(backward)",
        ][self.index()]
    }
}

/// Names a piece of work, for tables and timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The microbatch; none for what happens once a step.
    pub microbatch: Option<u16>,
    /// The layer; none for what belongs to all.
    pub layer: Option<u16>,
    /// The pass.
    pub phase: Phase,
}

impl fmt::Display for Span {
    /// `m0 L12 F`, without what it has not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(microbatch) = self.microbatch {
            write!(f, "m{microbatch} ")?;
        }
        if let Some(layer) = self.layer {
            write!(f, "L{layer} ")?;
        }
        write!(f, "{}", self.phase.letter())
    }
}

/// What an instruction does. Its operands stand in the role's list, see [`Role::operands`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a fragment on its bindings, which are the operands.
    Compute(FragmentId),
    /// Takes part in a collective. Operands: source, destination; only one for an all-reduce, which is in place.
    Exchange(CollectiveId),
    /// Sends its operand to the rank at the same place of another stage.
    Send {
        /// That stage.
        to: u16,
    },
    /// Receives its operand from the rank at the same place of another stage.
    Receive {
        /// That stage.
        from: u16,
    },
    /// Ends the life of its operand.
    Free,
    /// Lets waits for the event go on.
    Signal(EventId),
    /// Holds this stream until the event was signalled.
    Wait(EventId),
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

/// What a buffer holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Something that lives within a step.
    Value,
    /// Parameters as they are computed with.
    Parameters {
        /// Which.
        block: BlockId,
        /// All of the block, or this rank's share.
        part: Part,
    },
    /// Parameters in 32 bits, where those computed with are shorter.
    Master {
        /// Which.
        block: BlockId,
        /// All of the block, or this rank's share.
        part: Part,
    },
    /// Running mean of gradients.
    FirstMoment {
        /// Of which parameters.
        block: BlockId,
        /// All of the block, or this rank's share.
        part: Part,
    },
    /// Running mean of squared gradients.
    SecondMoment {
        /// Of which parameters.
        block: BlockId,
        /// All of the block, or this rank's share.
        part: Part,
    },
    /// Inputs of one microbatch: `sequences` × sequence tokens.
    Tokens(Rows),
    /// What should follow them.
    Targets(Rows),
    /// What another role would bring, in a program of one layer alone.
    Boundary,
    /// Two numbers in 32 bits: the sum of losses, and the sum of squared gradients. The last instructions of a step
    /// make them sums over all ranks.
    Scalars,
}

/// All of a flat block, or one rank's share of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    Whole,
    /// The share at this rank's index along the block's shard axes.
    Share,
}

/// Which sequences of a microbatch a rank has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The microbatch.
    pub microbatch: u16,
    /// Axes that split its sequences.
    pub axes: Vec<usize>,
    /// Sequences that one rank has.
    pub sequences: u64,
}

/// A piece of a rank's arena.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Its size, a multiple of [`ALIGNMENT`].
    pub bytes: Bytes,
    /// Where it begins.
    pub address: u64,
    /// What it holds.
    pub content: Content,
}

impl Buffer {
    /// Whether it lives longer than a step.
    pub fn is_resident(&self) -> bool {
        !matches!(self.content, Content::Value)
    }
}

/// The program of all ranks of one stage. Equal if it does the same: where operands stand in the list is no part of it.
#[derive(Clone, Debug)]
pub struct Role {
    /// The stage.
    pub stage: u32,
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
        (self.stage, self.arena, self.live_bound) == (other.stage, other.arena, other.live_bound)
            && self.buffers == other.buffers
            && self.code.len() == other.code.len()
            && self.code.iter().zip(&other.code).all(same)
    }
}

/// How a fragment uses one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written; what was there is lost.
    Write,
    /// Read and written.
    Update,
}

/// A part of a binding, with named dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Which binding of the fragment.
    pub binding: u16,
    /// Where in it the operand begins, in bytes.
    pub offset: u64,
    /// How numbers are stored.
    pub element: Element,
    /// Letters and local sizes, slowest first; dense.
    pub dimensions: Vec<(char, u64)>,
}

impl Operand {
    /// How many numbers it has.
    pub fn elements(&self) -> u64 {
        self.dimensions.iter().map(|&(_, size)| size).product()
    }

    /// What it takes.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.elements() * self.element.bytes())
    }
}

/// Where a rank's part of a dimension begins: its index along `axes` times `step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The dimension.
    pub letter: char,
    /// The axes that split it, coarsest first.
    pub axes: Vec<usize>,
    /// Local size.
    pub step: u64,
}

/// One operation on parts of bindings.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// What is computed.
    pub op: Op,
    /// What is read.
    pub inputs: Vec<Operand>,
    /// What is written; may overlap inputs only where the operation says that it works in place.
    pub outputs: Vec<Operand>,
    /// How a product and sums over the batch (gradients of parameters, the loss) are written. Other outputs are
    /// always replaced.
    pub write: Write,
    /// For each letter of `Op::offsets`, where this rank's part begins.
    pub offsets: Vec<Offset>,
    /// Memory that the kernel may use while it runs, as a binding; none if it needs none.
    pub workspace: Option<Operand>,
}

impl Kernel {
    /// Local sizes of all letters.
    pub fn sizes(&self) -> Sizes {
        self.inputs.iter().chain(&self.outputs).flat_map(|operand| operand.dimensions.iter().copied()).collect()
    }

    /// Floating-point operations.
    pub fn flops(&self) -> Flops {
        self.op.flops(&self.sizes())
    }

    /// Bytes that are read and written at least.
    pub fn bytes(&self) -> Bytes {
        let operands: Bytes = self.inputs.iter().chain(&self.outputs).map(Operand::bytes).sum();
        let again: Bytes = match self.write {
            Write::Replace => Bytes::ZERO,
            Write::Accumulate => self.outputs.iter().map(Operand::bytes).sum(),
        };
        operands + again
    }

    /// For a product, the sizes of rows, columns and what is summed over; and whether each factor's summed letters
    /// come last (`n`: as stored) or first (`t`: transposed).
    pub fn product(&self) -> Product {
        let [a, b] = [&self.inputs[0].dimensions, &self.inputs[1].dimensions];
        let out = &self.outputs[0].dimensions;
        let has = |list: &[(char, u64)], letter: char| list.iter().any(|&(other, _)| other == letter);
        let size = |keep: &dyn Fn(char) -> bool, list: &[(char, u64)]| {
            list.iter().filter(|(letter, _)| keep(*letter)).map(|&(_, size)| size).product()
        };
        let summed_last = |list: &[(char, u64)]| list.last().is_none_or(|&(letter, _)| !has(out, letter));
        Product {
            rows: size(&|letter| has(out, letter), a),
            columns: size(&|letter| has(out, letter), b),
            inner: size(&|letter| !has(out, letter), a),
            a: if summed_last(a) { Storage::InnerLast } else { Storage::InnerFirst },
            b: if summed_last(b) { Storage::InnerLast } else { Storage::InnerFirst },
        }
    }

    /// What to look up in a profile.
    pub fn work(&self) -> Work {
        let element = self.outputs.first().or(self.inputs.first()).map_or("f32", |operand| operand.element.name());
        let shape = if self.op == Op::MatMul {
            let product = self.product();
            let form = |storage| if storage == Storage::InnerLast { 'n' } else { 't' };
            format!("m{} n{} k{} {}{}", product.rows, product.columns, product.inner, form(product.a), form(product.b))
        } else {
            let sizes = self.sizes();
            let parts: Vec<String> = sizes.iter().map(|(letter, size)| format!("{letter}{size}")).collect();
            parts.join(" ")
        };
        Work::Kernel { op: self.op.name().to_owned(), element: element.to_owned(), shape }
    }
}

/// A product of matrices: rows × inner times inner × columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the first factor and of the result.
    pub rows: u64,
    /// Columns of the second factor and of the result.
    pub columns: u64,
    /// What is summed over.
    pub inner: u64,
    /// How the first factor is stored.
    pub a: Storage,
    /// How the second factor is stored.
    pub b: Storage,
}

/// Whether what is summed over varies fastest in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// It does.
    InnerLast,
    /// It varies slowest.
    InnerFirst,
}

/// A binding of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The least size of the buffer.
    pub bytes: Bytes,
    /// How it is used.
    pub access: Access,
}

/// Kernels that run one after the other, without an exchange in between. Layers of one kind share fragments.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// What it does, for tables.
    pub name: String,
    /// Buffers that an instruction brings.
    pub bindings: Vec<Binding>,
    /// What runs, in order.
    pub kernels: Vec<Kernel>,
    /// Values that live only inside are placed in this binding; none if there are none.
    pub scratch: Option<u16>,
    /// The largest sum of values alive inside at once: no placement of the scratch needs less.
    pub scratch_bound: Bytes,
}

/// A collective: an exchange of a tensor of known shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Collective {
    /// What moves.
    pub exchange: Exchange,
    /// What it is for; with the exchange's axes, this names the communicator.
    pub axis: Axis,
    /// Local sizes of each member's source, slowest first.
    pub shape: Vec<u64>,
    /// How numbers are stored.
    pub element: Element,
}

impl Collective {
    /// Bytes of a member's source.
    pub fn source_bytes(&self) -> Bytes {
        Bytes(self.shape.iter().product::<u64>() * self.element.bytes())
    }

    /// Bytes of a member's destination, in a group of `ranks`.
    pub fn destination_bytes(&self, ranks: u32) -> Bytes {
        let ranks = u64::from(ranks);
        let source = self.source_bytes();
        match self.exchange {
            Exchange::AllReduce { .. } | Exchange::AllToAll { .. } => source,
            Exchange::ReduceScatter { .. } | Exchange::Slice { .. } => Bytes(source.0 / ranks),
            Exchange::AllGather { .. } => source * ranks,
        }
    }

    /// Bytes of the whole operand, as profiles count them.
    pub fn whole_bytes(&self, ranks: u32) -> Bytes {
        self.source_bytes().max(self.destination_bytes(ranks))
    }
}

/// Parameters of one layer that are reduced, updated and gathered together: a flat list of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Its layer.
    pub layer: u32,
    /// Parameters in order; those that decay come first.
    pub parameters: Vec<BlockParameter>,
    /// Elements that decay.
    pub decayed: u64,
    /// Elements of all parameters.
    pub length: u64,
    /// Elements with padding: a multiple of the shares.
    pub padded: u64,
    /// Axes over which shares of it are kept; empty if every rank keeps all.
    pub shard: Vec<usize>,
}

/// A parameter in a block: this rank's part of it is dense from `first`.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockParameter {
    /// Its name, with its layer unique in the model: the key of its initial values and of checkpoints.
    pub name: String,
    /// The first of its elements in the block.
    pub first: u64,
    /// How it starts.
    pub init: Init,
    /// Whole size of each dimension, and the axes that split it.
    pub dimensions: Vec<(u64, Vec<usize>)>,
}

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
    /// One program a stage, in order.
    pub roles: Vec<Role>,
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

    /// One program a stage, in order.
    pub fn roles(&self) -> &[Role] {
        &self.draft.roles
    }

    /// The role of a rank.
    pub fn role_of(&self, rank: u32) -> &Role {
        &self.draft.roles[self.draft.mesh.coordinate(rank, 0) as usize]
    }

    /// A fragment.
    pub fn fragment(&self, id: FragmentId) -> &Fragment {
        &self.draft.fragments[id.index()]
    }

    /// A collective.
    pub fn collective(&self, id: CollectiveId) -> &Collective {
        &self.draft.collectives[id.index()]
    }

    /// A block of parameters.
    pub fn block(&self, id: BlockId) -> &Block {
        &self.draft.blocks[id.index()]
    }

    /// The largest arena of all roles.
    pub fn peak(&self) -> Bytes {
        self.draft.roles.iter().map(|role| role.arena).max().unwrap_or(Bytes::ZERO)
    }

    /// The most that lives at once in any role: no arena can be smaller.
    pub fn live_bound(&self) -> Bytes {
        self.draft.roles.iter().map(|role| role.live_bound).max().unwrap_or(Bytes::ZERO)
    }
}
