//! Row lookup: y[b s h] = table[token[b s], h]. The table may be one shard of the vocabulary; a token that another
//! shard holds gives a row of zeros, so the sum over shards is the whole lookup.

pub mod cpu;
pub(crate) mod cuda;

/// Which rows of the whole table a shard holds: as many as it is long, from `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The token whose row is the shard's first.
    pub first: usize,
    /// h, elements of a row.
    pub width: usize,
}

impl Rows {
    /// Where the row of `token` begins in a shard of this many elements, if the shard holds it.
    fn place(self, token: i32, elements: usize) -> Option<usize> {
        let start = usize::try_from(token).ok()?.checked_sub(self.first)? * self.width;
        (start < elements).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, cpu};
    use crate::Write;
    use crate::oracle::{Random, assert_gradient, assert_near, dot};

    #[test]
    fn shards_of_the_table_add_up_to_the_lookup() {
        let mut random = Random::new(1);
        let table: Vec<f64> = random.values(10 * 3);
        let tokens = random.tokens(8, 10);
        let want: Vec<f64> = tokens.iter().flat_map(|&token| table[token as usize * 3..][..3].to_vec()).collect();
        let mut sum = vec![0.0; want.len()];
        for (first, end) in [(0, 4), (4, 10)] {
            let mut y = vec![f64::NAN; want.len()];
            cpu::forward(Rows { first, width: 3 }, &tokens, &table[first * 3..end * 3], &mut y);
            sum.iter_mut().zip(&y).for_each(|(sum, y)| *sum += y);
        }
        assert_near("y", &sum, &want, 0.0);
    }

    #[test]
    fn the_table_gradient_is_the_slope_and_repeated_tokens_add() {
        let mut random = Random::new(2);
        let rows = Rows { first: 2, width: 3 };
        let table: Vec<f64> = random.values(4 * 3);
        let tokens = [3, 5, 3, 0, 9, -1];
        let dy: Vec<f64> = random.values(tokens.len() * 3);
        let mut dtable = vec![f64::NAN; table.len()];
        cpu::gradient(rows, &tokens, &dy, &mut dtable, Write::Replace);
        let mut y = vec![0.0; dy.len()];
        assert_gradient("table", &table, &dtable, |table| {
            cpu::forward(rows, &tokens, table, &mut y);
            dot(&dy, &y)
        });
        let twice: Vec<f64> = dtable.iter().map(|x| 2.0 * x).collect();
        cpu::gradient(rows, &tokens, &dy, &mut dtable, Write::Accumulate);
        assert_near("accumulated", &dtable, &twice, 1e-12);
    }
}
