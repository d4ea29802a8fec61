//! The rows that a rank needs of a step, written where the caller wants them.

use super::corpus::Windows;
use super::order::Order;

/// Rows `first` to `first + count` (excluded) of the global batch of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// The training step, from 0.
    pub step: u64,
    /// The first row, counted in the global batch.
    pub first: usize,
    /// The number of rows.
    pub count: usize,
}

/// Writes the inputs and the targets of `rows`, row after row, each of shape (count, sequence).
/// Allocates nothing.
///
/// A held-out part is read the same way, through an [`Order`] of its own windows.
///
/// # Panics
/// If the order is not of these windows, the rows are not all in the global batch, or a buffer
/// does not hold exactly `count · sequence` tokens.
pub fn fill(windows: &Windows, order: &Order, rows: Rows, inputs: &mut [i32], targets: &mut [i32]) {
    let sequence = windows.sequence();
    let Rows { step, first, count } = rows;
    assert_eq!(order.window_count(), windows.count(), "the order is of other windows");
    assert!(first + count <= order.global_batch(), "{rows:?} of {}", order.global_batch());
    assert_eq!(inputs.len(), count * sequence, "inputs of {count} rows of {sequence}");
    assert_eq!(targets.len(), count * sequence, "targets of {count} rows of {sequence}");

    let pairs = inputs.chunks_exact_mut(sequence).zip(targets.chunks_exact_mut(sequence));
    for (row, (inputs, targets)) in (first..).zip(pairs) {
        let window = order.window(step, row);
        inputs.copy_from_slice(windows.inputs(window));
        targets.copy_from_slice(windows.targets(window));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::corpus::{Corpus, Split};
    use ir::seed::Seed;

    const SEQUENCE: usize = 4;
    const BATCH: usize = 12;

    /// Windows of the tokens 0, 1, 2, …, so that a token tells its place.
    fn specimen() -> (Windows, Order) {
        let tokens: Vec<u32> = (0..121).collect();
        let split = Split { sequence: SEQUENCE, held_out: 0.0 };
        let windows = Corpus::cut(tokens, split).unwrap().training;
        let order = Order::new(windows.count(), BATCH, Seed(3));
        (windows, order)
    }

    fn filled(rows: Rows) -> (Vec<i32>, Vec<i32>) {
        let (windows, order) = specimen();
        let mut inputs = vec![-1; rows.count * SEQUENCE];
        let mut targets = inputs.clone();
        fill(&windows, &order, rows, &mut inputs, &mut targets);
        (inputs, targets)
    }

    #[test]
    fn a_row_holds_the_window_that_the_order_says() {
        let (_, order) = specimen();
        let (inputs, targets) = filled(Rows { step: 2, first: 5, count: 2 });
        for (row, inputs) in inputs.chunks(SEQUENCE).enumerate() {
            let start = (order.window(2, 5 + row) * SEQUENCE) as i32;
            assert_eq!(inputs, [start, start + 1, start + 2, start + 3]);
        }
        let next: Vec<i32> = inputs.iter().map(|token| token + 1).collect();
        assert_eq!(targets, next);
    }

    #[test]
    fn however_ranks_share_a_batch_together_they_read_the_same() {
        for step in 0..10 {
            let whole = filled(Rows { step, first: 0, count: BATCH });
            for share in [1, 2, 3, 4, 6] {
                let mut joined = (Vec::new(), Vec::new());
                for first in (0..BATCH).step_by(share) {
                    let part = filled(Rows { step, first, count: share });
                    joined.0.extend(part.0);
                    joined.1.extend(part.1);
                }
                assert_eq!(joined, whole, "step {step}, {share} rows a rank");
            }
        }
    }

    #[test]
    fn no_rows_are_no_tokens() {
        assert_eq!(filled(Rows { step: 0, first: BATCH, count: 0 }), (vec![], vec![]));
    }

    #[test]
    #[should_panic(expected = "of 12")]
    fn a_row_past_the_batch_is_our_error() {
        filled(Rows { step: 0, first: 11, count: 2 });
    }
}
