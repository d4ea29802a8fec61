//! What a session is fed, and which of it a rank has.

use ir::program::{Draft, Rows};

/// The rows of one step: `microbatches · sequences` of them, microbatch by microbatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch<'a> {
    /// Tokens, row after row; none for models of images.
    pub inputs: &'a [i32],
    /// Numbers of patches, row after row; none for models of text.
    pub patches: &'a [f32],
    /// Tokens that an encoder reads, row after row; none where no decoder looks at it.
    pub source: &'a [i32],
    /// What should follow each of them.
    pub targets: &'a [i32],
}

/// A rank's rows of a microbatch, in the batch, where a sequence has so many numbers.
pub(crate) fn range(draft: &Draft, rank: u32, rows: &Rows, sequence: u64) -> std::ops::Range<usize> {
    let first = u64::from(draft.mesh.index(rank, &rows.axes)) * rows.sequences;
    let first = u64::from(rows.microbatch) * draft.step.sequences + first;
    (first * sequence) as usize..((first + rows.sequences) * sequence) as usize
}
