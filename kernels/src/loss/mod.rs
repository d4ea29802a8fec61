//! Cross-entropy of logits [n v] in parts, so that the vocabulary may be split over ranks: between the parts ranks
//! exchange a number or two per row instead of logits.
//!
//! 1. `row_max`: m = max x over the shard; the maximum over ranks makes it that of the row.
//! 2. `sum_exp`: Σ e^(x − m), and the target's logit or 0 if another shard holds it; the sum over ranks is the row's.
//! 3. `cross_entropy`: loss = m + ln Σ − target logit, summed over rows.
//! 4. `gradient`: dx = (e^(x − m) / Σ − [x is the target]) · scale, of the shard.

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests;

/// Which columns of the whole vocabulary a shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The token of the first column.
    pub first: usize,
    /// v, columns of the shard.
    pub width: usize,
}

impl Shard {
    /// The column of `target`, if the shard holds it.
    fn column(self, target: i32) -> Option<usize> {
        let column = usize::try_from(target).ok()?.checked_sub(self.first)?;
        (column < self.width).then_some(column)
    }
}

/// What the gradient reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T> {
    /// The shard's logits [n v].
    pub logits: &'a [T],
    /// Maximum of each whole row [n].
    pub maxima: &'a [T],
    /// Sum of exponentials and target logit of each whole row [n 2].
    pub sums: &'a [T],
    /// Target of each row [n].
    pub targets: &'a [i32],
}
