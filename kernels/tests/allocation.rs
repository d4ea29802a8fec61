//! Kernels that could want memory take it from the caller: the heap is not touched.
#![allow(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hetu_kernels::attention::{self, Heads, Saved, Scratch};
use hetu_kernels::matmul::{self, Matrix, MatrixMut, Size};
use hetu_kernels::rotary::{self, Angles};
use hetu_kernels::{Packed, Write, loss, reduce};
use ir::op::Pattern;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn kernels_do_not_allocate() {
    let packed = Packed { sequence: 100, groups: 2, queries: 2, head: 16 };
    let heads = Heads { packed, pattern: Pattern::Causal };
    let qkv = vec![0.5_f32; 100 * packed.row()];
    let (mut rotated, mut dqkv) = (qkv.clone(), qkv.clone());
    let (mut y, mut lse) = (vec![0.0; 100 * packed.query_row()], vec![0.0; 400]);
    let dy = y.clone();
    let (mut scores, mut scratch) = (vec![0.0; attention::cpu::scores(packed)], vec![0.0; matmul::cpu::SCRATCH]);
    let size = Size { rows: 100, inner: 64, columns: 100 };
    let mut c = vec![0.0; 10_000];
    let (mut maxima, mut sums) = ([0.0; 100], [0.0; 200]);
    let mut out = vec![0.0; 6400];

    let before = COUNT.with(Cell::get);
    rotary::cpu::forward(packed, Angles { theta: 1e4, scaling: None, first_position: 0 }, &qkv, &mut rotated);
    attention::cpu::forward(heads, &rotated, &mut y, &mut lse, Scratch { scores: &mut scores, product: &mut scratch });
    attention::cpu::gradient(
        heads,
        Saved { qkv: &rotated, y: &y, lse: &lse },
        &dy,
        &mut dqkv,
        Scratch { scores: &mut scores, product: &mut scratch },
    );
    let (a, b) = (Matrix::rows(&y, 64), Matrix::rows(&dy, 64).transposed());
    matmul::cpu::product(
        size,
        a,
        b,
        MatrixMut { values: &mut c, row_stride: 100, write: Write::Replace },
        &mut scratch,
    );
    loss::cpu::row_max(100, &c, &mut maxima);
    loss::cpu::sum_exp(loss::Shard { first: 0, width: 100 }, &c, &maxima, &[1; 100], &mut sums);
    reduce::cpu::sum_into(&mut out, &[&y, &dy]);
    assert_eq!(COUNT.with(Cell::get) - before, 0);
}
