//! A blocked product: copy a block of B and of A into panels that the innermost loop reads straight through, and
//! compute C tile by tile in registers (Goto and van de Geijn 2008). Each element of C is summed in the order of the
//! inner index whatever the tile, so all instruction sets with fused multiply-add give the same bytes.

use std::ops::Range;

use super::{Matrix, MatrixMut, Size};
use crate::lanes::{add_each, prepare};
use crate::{Real, Write};

/// Rows of A, inner extent and columns of B that are packed at once. One panel of B with its tile fills the first
/// level cache of 32 to 48 KiB, the block of A a part of the second. The first is a multiple of every tile's height
/// and the last of every tile's width.
const ROWS: usize = 144;
const INNER: usize = 256;
const COLUMNS: usize = 1024;

/// Elements of scratch that any product needs.
pub const SCRATCH: usize = (ROWS + COLUMNS) * INNER;

/// Writes A · B to `c`, or adds it.
///
/// # Panics
/// If `scratch` is shorter than [`SCRATCH`], or a matrix than `size` says.
pub fn product<T: Real>(size: Size, a: Matrix<T>, b: Matrix<T>, c: MatrixMut<T>, scratch: &mut [T]) {
    run(Blocked { size, a, b, addend: None, c, scratch });
}

/// Writes A · B + addend to `c`; rows of the addend lie as far apart as those of `c`. The addend comes last, so that
/// the result is to the bit that of a product and a sum.
///
/// # Panics
/// As [`product`].
pub fn product_plus<T: Real>(size: Size, [a, b]: [Matrix<T>; 2], addend: &[T], c: MatrixMut<T>, scratch: &mut [T]) {
    run(Blocked { size, a, b, addend: Some(addend), c, scratch });
}

fn run<T: Real>(mut blocked: Blocked<T>) {
    let (size, length) = (blocked.size, blocked.scratch.len());
    assert!(length >= SCRATCH, "{length} elements of scratch, a product needs {SCRATCH}");
    if size.rows == 0 || size.columns == 0 {
        return;
    }
    if size.inner == 0 {
        for row in 0..size.rows {
            prepare(blocked.c.write, &mut blocked.c.values[row * blocked.c.row_stride..][..size.columns]);
        }
        blocked.add(0..size.rows, 0..size.columns);
        return;
    }
    pulp::Arch::new().dispatch(blocked);
}

struct Blocked<'a, T> {
    size: Size,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    addend: Option<&'a [T]>,
    c: MatrixMut<'a, T>,
    scratch: &'a mut [T],
}

impl<T: Real> pulp::WithSimd for Blocked<'_, T> {
    type Output = ();

    /// Picks the tile: 24 accumulators of the 32 registers where they hold 16 single numbers, 12 of 16 below.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        match (S::F32_LANES, size_of::<T>()) {
            (16, 4) => self.run::<12, 32>(),
            (16, _) => self.run::<12, 16>(),
            (_, 4) => self.run::<6, 16>(),
            _ => self.run::<6, 8>(),
        }
    }
}

impl<T: Real> Blocked<'_, T> {
    #[inline(always)]
    fn run<const HEIGHT: usize, const WIDTH: usize>(mut self) {
        let Self { size, a, b, .. } = self;
        let (a_panels, b_panels) = std::mem::take(&mut self.scratch).split_at_mut(ROWS * INNER);
        for column in (0..size.columns).step_by(COLUMNS) {
            let columns = COLUMNS.min(size.columns - column);
            for first in (0..size.inner).step_by(INNER) {
                let inner = INNER.min(size.inner - first);
                let write = if first == 0 { self.c.write } else { Write::Accumulate };
                pack::<T, WIDTH>(b.from(first, column).transposed(), columns, inner, b_panels);
                for row in (0..size.rows).step_by(ROWS) {
                    let rows = ROWS.min(size.rows - row);
                    pack::<T, HEIGHT>(a.from(row, first), rows, inner, a_panels);
                    let part = MatrixMut {
                        values: &mut self.c.values[row * self.c.row_stride + column..],
                        row_stride: self.c.row_stride,
                        write,
                    };
                    let block = Size { rows, inner, columns };
                    multiply_panels::<T, HEIGHT, WIDTH>(block, a_panels, b_panels, part);
                    // The block is whole, and still in cache.
                    if first + inner == size.inner {
                        self.add(row..row + rows, column..column + columns);
                    }
                }
            }
        }
    }

    /// Adds a block of the addend, if there is one.
    #[inline(always)]
    fn add(&mut self, rows: Range<usize>, columns: Range<usize>) {
        let Some(addend) = self.addend else { return };
        for start in rows.map(|row| row * self.c.row_stride) {
            let line = start + columns.start..start + columns.end;
            add_each(&mut self.c.values[line.clone()], &addend[line], |addend| addend);
        }
    }
}

/// Copies `matrix` [lines, inner] into panels of W lines: element (i, k) of a panel goes to k · W + i. Lines that the
/// last panel lacks are zeros.
#[inline(always)]
fn pack<T: Real, const W: usize>(matrix: Matrix<T>, lines: usize, inner: usize, panels: &mut [T]) {
    for (line, panel) in (0..lines).step_by(W).zip(panels.chunks_exact_mut(inner * W)) {
        let count = W.min(lines - line);
        let source = matrix.from(line, 0);
        let (panel, _) = panel.as_chunks_mut::<W>();
        if count == W && source.row_stride == 1 {
            for (k, out) in panel.iter_mut().enumerate() {
                out.copy_from_slice(&source.values[k * source.column_stride..][..W]);
            }
        } else if count == W && source.column_stride == 1 {
            transpose(source.values, source.row_stride, panel);
        } else {
            for (k, out) in panel.iter_mut().enumerate() {
                out[count..].fill(T::ZERO);
                for (i, out) in out[..count].iter_mut().enumerate() {
                    *out = source.values[i * source.row_stride + k * source.column_stride];
                }
            }
        }
    }
}

/// Writes W dense lines to the columns of `panel`, in blocks of 16 columns by 4 lines whose reads are whole vectors.
#[inline(always)]
fn transpose<T: Real, const W: usize>(lines: &[T], stride: usize, panel: &mut [[T; W]]) {
    const DEPTH: usize = 16;
    const GROUP: usize = 2;
    let whole = panel.len() / DEPTH * DEPTH;
    for (k, block) in (0..whole).step_by(DEPTH).zip(panel.chunks_exact_mut(DEPTH)) {
        for i in (0..W).step_by(GROUP) {
            let sources: [&[T]; GROUP] = std::array::from_fn(|j| &lines[(i + j) * stride + k..][..DEPTH]);
            for (depth, out) in block.iter_mut().enumerate() {
                for j in 0..GROUP {
                    out[i + j] = sources[j][depth];
                }
            }
        }
    }
    for (k, out) in panel.iter_mut().enumerate().skip(whole) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = lines[i * stride + k];
        }
    }
}

#[inline(always)]
fn multiply_panels<T: Real, const HEIGHT: usize, const WIDTH: usize>(
    block: Size,
    a_panels: &[T],
    b_panels: &[T],
    c: MatrixMut<T>,
) {
    let Size { rows, inner, columns } = block;
    for (column, b) in (0..columns).step_by(WIDTH).zip(b_panels.chunks_exact(inner * WIDTH)) {
        for (row, a) in (0..rows).step_by(HEIGHT).zip(a_panels.chunks_exact(inner * HEIGHT)) {
            let tile = multiply_tile::<T, HEIGHT, WIDTH>(a, b);
            let part = MatrixMut {
                values: &mut c.values[row * c.row_stride + column..],
                row_stride: c.row_stride,
                write: c.write,
            };
            store(&tile, HEIGHT.min(rows - row), WIDTH.min(columns - column), part);
        }
    }
}

/// One tile of C, kept in registers over the whole inner extent.
#[inline(always)]
fn multiply_tile<T: Real, const HEIGHT: usize, const WIDTH: usize>(a: &[T], b: &[T]) -> [[T; WIDTH]; HEIGHT] {
    let mut tile = [[T::ZERO; WIDTH]; HEIGHT];
    let (a, _) = a.as_chunks::<HEIGHT>();
    let (b, _) = b.as_chunks::<WIDTH>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..HEIGHT {
            for j in 0..WIDTH {
                tile[i][j] = a[i].mul_add(b[j], tile[i][j]);
            }
        }
    }
    tile
}

#[inline(always)]
fn store<T: Real, const HEIGHT: usize, const WIDTH: usize>(
    tile: &[[T; WIDTH]; HEIGHT],
    rows: usize,
    columns: usize,
    c: MatrixMut<T>,
) {
    if rows == HEIGHT && columns == WIDTH {
        // The common case, with constant bounds: vector stores instead of a call to copy a few elements.
        for (i, tile) in tile.iter().enumerate() {
            store_row(tile, &mut c.values[i * c.row_stride..][..WIDTH], c.write);
        }
    } else {
        for (i, tile) in tile.iter().enumerate().take(rows) {
            store_row(&tile[..columns], &mut c.values[i * c.row_stride..][..columns], c.write);
        }
    }
}

#[inline(always)]
fn store_row<T: Real>(tile: &[T], out: &mut [T], write: Write) {
    match write {
        Write::Replace => {
            for (out, &value) in out.iter_mut().zip(tile) {
                *out = value;
            }
        }
        Write::Accumulate => {
            for (out, &value) in out.iter_mut().zip(tile) {
                *out += value;
            }
        }
    }
}
