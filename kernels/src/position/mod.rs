//! Learned positions: y[b s h] = x[b s h] + table[first + s, h]. The gradient of x is dy itself.

pub mod cpu;
pub(crate) mod cuda;

/// The stretch of the position table that a block of sequences reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The position of the block's first row.
    pub first: usize,
    /// s, rows of one sequence in the block.
    pub sequence: usize,
    /// h, elements of a row.
    pub width: usize,
}

#[cfg(test)]
mod tests {
    use super::{Window, cpu};
    use crate::Write;
    use crate::oracle::{Random, assert_gradient, assert_near, dot};

    #[test]
    fn each_row_gets_the_row_of_its_position() {
        let window = Window { first: 1, sequence: 2, width: 1 };
        let mut y = [f64::NAN; 4];
        cpu::forward(window, &[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0, 30.0, 40.0], &mut y);
        assert_near("y", &y, &[21.0, 32.0, 23.0, 34.0], 0.0);
    }

    #[test]
    fn the_table_gradient_is_the_slope_and_zero_outside_the_window() {
        let mut random = Random::new(3);
        let window = Window { first: 2, sequence: 3, width: 5 };
        let (x, table): (Vec<f64>, Vec<f64>) = (random.values(2 * 3 * 5), random.values(7 * 5));
        let dy: Vec<f64> = random.values(x.len());
        let mut dtable = vec![f64::NAN; table.len()];
        cpu::gradient(window, &dy, &mut dtable, Write::Replace);
        let mut y = vec![0.0; x.len()];
        assert_gradient("table", &table, &dtable, |table| {
            cpu::forward(window, &x, table, &mut y);
            dot(&dy, &y)
        });
        let twice: Vec<f64> = dtable.iter().map(|x| 2.0 * x).collect();
        cpu::gradient(window, &dy, &mut dtable, Write::Accumulate);
        assert_near("accumulated", &dtable, &twice, 1e-12);
    }
}
