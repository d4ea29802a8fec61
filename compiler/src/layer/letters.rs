//! How letters are spread: the one table that layouts, legality and messages ask.
//!
//! A dimension is split by what its letter is, and by what else the operation touches: Data cuts the batch; Tensor cuts
//! the letters that a layer's products share; and where an operation has none of these, Tensor may cut the sequence
//! instead (sequence parallelism, Korthikanti et al. 2022).

use ir::graph::LayerKind;
use ir::op::Op;
use ir::plan::{Sequence, Strategy};

use crate::axes::StrategyAxes;

/// What cuts a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Data parallelism.
    Data,
    /// Tensor parallelism.
    Tensor,
    /// Tensor parallelism, between its products, if the strategy splits the sequence.
    Sequence,
}

/// A letter that is cut; all others are whole on every rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) letter: char,
    pub(crate) cut: Cut,
    /// What users call it.
    pub(crate) word: &'static str,
}

const fn row(letter: char, cut: Cut, word: &'static str) -> Row {
    Row { letter, cut, word }
}

/// All letters that are cut.
pub(crate) const TABLE: [Row; 7] = [
    row('b', Cut::Data, "a microbatch of sequences"),
    row('g', Cut::Tensor, "key and value heads"),
    row('f', Cut::Tensor, "feed-forward width"),
    row('v', Cut::Tensor, "vocabulary"),
    row('w', Cut::Sequence, "windows of a sequence"),
    row('s', Cut::Sequence, "sequence"),
    row('t', Cut::Sequence, "sequence of the encoder"),
];

/// What cuts a letter; none if nothing does.
pub(crate) fn cut(letter: char) -> Option<Cut> {
    TABLE.iter().find(|row| row.letter == letter).map(|row| row.cut)
}

/// Whether an operation that touches these letters, or a tensor between operations, has its sequence cut.
pub(crate) fn sequence(op: Option<&Op>, letters: impl IntoIterator<Item = char>, axes: &StrategyAxes) -> Sequence {
    let shares = letters.into_iter().any(|letter| cut(letter) == Some(Cut::Tensor));
    if shares || op.is_some_and(|op| op.whole_letters().contains(&'s')) { Sequence::Whole } else { axes.sequence }
}

/// Whether a sequence is cut between its windows, so that what is in one stays whole.
fn is_inside_window(letter: char, mut letters: impl Iterator<Item = char>) -> bool {
    letter == 's' && letters.any(|other| other == 'w')
}

/// The axes that split each of a tensor's letters, coarsest first.
pub(crate) fn splits(letters: &[char], sequence: Sequence, of: &StrategyAxes) -> Vec<Vec<usize>> {
    let split = |&letter: &char| {
        if is_inside_window(letter, letters.iter().copied()) { Vec::new() } else { axes(letter, sequence, of) }
    };
    letters.iter().map(split).collect()
}

fn axes(letter: char, sequence: Sequence, axes: &StrategyAxes) -> Vec<usize> {
    match (cut(letter), sequence) {
        (Some(Cut::Data), _) => axes.data.clone(),
        (Some(Cut::Tensor), _) | (Some(Cut::Sequence), Sequence::Split) => axes.tensor.clone(),
        (Some(Cut::Sequence), Sequence::Whole) | (None, _) => Vec::new(),
    }
}

/// Letters of a kind that its ranks cannot cut evenly under a strategy: row, size and parts. The batch is no matter of
/// the kind.
pub(crate) fn uneven(kind: &LayerKind, strategy: &Strategy) -> impl Iterator<Item = (Row, u64, u64)> {
    let parts = match strategy.sequence {
        Sequence::Whole => [Some(strategy.tensor), None],
        Sequence::Split => [Some(strategy.tensor); 2],
    };
    TABLE.into_iter().filter_map(move |row| {
        let parts = match row.cut {
            Cut::Data => None,
            Cut::Tensor => parts[0],
            Cut::Sequence => parts[1],
        };
        if is_inside_window(row.letter, kind.sizes.keys().copied()) {
            return None;
        }
        let (size, parts) = (*kind.sizes.get(&row.letter)?, u64::from(parts?));
        (!size.is_multiple_of(parts)).then_some((row, size, parts))
    })
}
