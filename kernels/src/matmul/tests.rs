//! Products against the three-loop formula, in sizes around every block edge.

use super::cpu::{SCRATCH, product, product_plus};
use super::{Matrix, MatrixMut, Size};
use crate::Write;
use crate::oracle::{Random, assert_near, narrow, widen};

fn naive(size: Size, a: Matrix<f64>, b: Matrix<f64>) -> Vec<f64> {
    let at = |m: Matrix<f64>, i: usize, j: usize| m.values[i * m.row_stride + j * m.column_stride];
    let mut c = Vec::new();
    for i in 0..size.rows {
        for j in 0..size.columns {
            c.push((0..size.inner).map(|k| at(a, i, k) * at(b, k, j)).sum());
        }
    }
    c
}

fn check(size: Size) {
    let Size { rows, inner, columns } = size;
    let mut random = Random::new((rows * 1_000_003 + inner * 1009 + columns) as u64);
    let (a, b): (Vec<f64>, Vec<f64>) = (random.values(rows * inner), random.values(inner * columns));
    let start: Vec<f64> = random.values(rows * columns);
    let mut scratch = vec![f64::NAN; SCRATCH];
    let mut scratch_single = vec![f32::NAN; SCRATCH];
    let (a_single, b_single) = (narrow(&a), narrow(&b));
    for (a_dense, b_dense) in [(true, true), (true, false), (false, true), (false, false)] {
        let view = |values, dense, rows: usize, columns: usize| {
            if dense { Matrix::rows(values, columns) } else { Matrix::rows(values, rows).transposed() }
        };
        let (a_view, b_view) = (view(&a, a_dense, rows, inner), view(&b, b_dense, inner, columns));
        let what = format!("{size:?}, a dense {a_dense}, b dense {b_dense}");
        let want = naive(size, a_view, b_view);
        let mut c = vec![f64::NAN; rows * columns];
        let replaced = MatrixMut { values: &mut c, row_stride: columns, write: Write::Replace };
        product(size, a_view, b_view, replaced, &mut scratch);
        assert_near(&what, &c, &want, 1e-12);

        let mut c = start.clone();
        let added = MatrixMut { values: &mut c, row_stride: columns, write: Write::Accumulate };
        product(size, a_view, b_view, added, &mut scratch);
        let sum: Vec<f64> = want.iter().zip(&start).map(|(a, b)| a + b).collect();
        assert_near(&what, &c, &sum, 1e-12);

        let mut plus = vec![f64::NAN; rows * columns];
        let replaced = MatrixMut { values: &mut plus, row_stride: columns, write: Write::Replace };
        product_plus(size, [a_view, b_view], &start, replaced, &mut scratch);
        assert_near(&format!("{what}, with an addend"), &plus, &sum, 1e-12);

        let mut c = vec![f32::NAN; rows * columns];
        let replaced = MatrixMut { values: &mut c, row_stride: columns, write: Write::Replace };
        let single =
            |m: Matrix<f64>, values| Matrix { values, row_stride: m.row_stride, column_stride: m.column_stride };
        product(size, single(a_view, &a_single), single(b_view, &b_single), replaced, &mut scratch_single);
        assert_near(&what, &widen(&c), &want, 3e-5);
    }
}

#[test]
fn a_product_is_the_sum_over_inner_at_every_block_edge() {
    for (rows, inner, columns) in [
        (1, 1, 1),
        (1, 7, 1),
        (5, 3, 31),
        (12, 16, 32),
        (13, 17, 33),
        (24, 64, 96),
        (145, 257, 35),
        (7, 300, 1030),
        (289, 5, 8),
        (3, 0, 4),
        (0, 2, 3),
    ] {
        check(Size { rows, inner, columns });
    }
}

#[test]
fn an_addend_gives_what_a_sum_behind_the_product_gives() {
    let size = Size { rows: 5, inner: 600, columns: 40 };
    let mut random = Random::new(11);
    let (a, b) = (random.values::<f32>(5 * 600), random.values::<f32>(600 * 40));
    let addend = random.values::<f32>(5 * 40);
    let factors = [Matrix::rows(&a, 600), Matrix::rows(&b, 40)];
    let (mut apart, mut fused, mut scratch) = (vec![f32::NAN; 200], vec![f32::NAN; 200], vec![0.0; SCRATCH]);
    fn out(values: &mut [f32]) -> MatrixMut<'_, f32> {
        MatrixMut { values, row_stride: 40, write: Write::Replace }
    }
    product(size, factors[0], factors[1], out(&mut apart), &mut scratch);
    apart.iter_mut().zip(&addend).for_each(|(sum, addend)| *sum += addend);
    product_plus(size, factors, &addend, out(&mut fused), &mut scratch);
    assert_eq!(
        fused.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        apart.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    );
}

#[test]
fn strided_matrices_leave_what_lies_between_their_rows() {
    let size = Size { rows: 3, inner: 2, columns: 2 };
    let a: Vec<f64> = (0..12).map(f64::from).collect();
    let b = [1.0, 0.0, 0.0, 1.0];
    let mut c = vec![9.0; 15];
    let mut scratch = vec![0.0; SCRATCH];
    let out = MatrixMut { values: &mut c, row_stride: 5, write: Write::Replace };
    product(size, Matrix::rows(&a[1..], 4), Matrix::rows(&b, 2), out, &mut scratch);
    assert_near("c", &c, &[1.0, 2.0, 9.0, 9.0, 9.0, 5.0, 6.0, 9.0, 9.0, 9.0, 9.0, 10.0, 9.0, 9.0, 9.0], 0.0);
}
