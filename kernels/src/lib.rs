//! Does one operation on one device. Each op is a folder: `mod.rs` holds its formula and geometry, `cpu.rs` the
//! reference, beside which implementations for other devices stand.
//!
//! All functions share these rules, so that a step loop can call them blindly:
//! - Tensors are dense and row-major, and sizes that disagree are a bug of the caller (a panic that names both).
//! - Nothing allocates: what does not fit registers or a small array is the caller's scratch.
//! - One call runs on one thread, and adds in an order that depends on shapes only: equal input gives equal bytes.
//!
//! Letters in formulas: b batch, s sequence, h hidden, g head groups, r query heads per group, c = r + 2 slots of a
//! packed row (r queries, key, value), d head size, f feed-forward width, e = 2 (gate, up), v vocabulary, p positions.

mod lanes;
mod real;

pub mod activation;
pub mod adamw;
pub mod add;
pub mod attention;
pub mod bf16;
pub mod bias;
pub mod cuda;
pub mod embed;
pub mod fill;
pub mod loss;
pub mod matmul;
pub mod norm;
pub mod position;
pub mod reduce;
pub mod reorder;
pub mod rotary;
pub mod square_sum;

mod packed;
mod random;

#[cfg(test)]
mod oracle;

pub use ir::op::Write;
pub use packed::Packed;
pub use real::Real;
