//! What a rank keeps in memory.

use super::BlockId;
use crate::graph::Init;
use crate::units::Bytes;

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
    /// The same as numbers, for models of images.
    Patches {
        /// Which sequences.
        rows: Rows,
        /// Numbers of a sequence.
        numbers: u64,
    },
    /// Tokens that an encoder reads, where a decoder has `Tokens` of its own.
    Source {
        /// Which sequences.
        rows: Rows,
        /// Tokens of a sequence.
        numbers: u64,
    },
    /// What should follow them.
    Targets(Rows),
    /// What another role would bring, in a program of one layer alone.
    Boundary,
    /// Two numbers in 32 bits: the sum of losses, and the sum of squared gradients. The last instructions of a step
    /// make them sums over all ranks.
    Scalars,
    /// [`crate::op::UPDATE_CONSTANTS`] numbers in 32 bits that the host writes before a step, as a step only reads
    /// them: so the same instructions serve every step.
    Constants,
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
