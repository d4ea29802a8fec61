//! Lookup and its gradient, token after token.

use super::Rows;
use crate::lanes::prepare;
use crate::{Real, Write};

/// Writes the row of each token to `y`, zeros for tokens outside the shard.
pub fn forward<T: Real>(rows: Rows, tokens: &[i32], table: &[T], y: &mut [T]) {
    assert_eq!(y.len(), tokens.len() * rows.width, "y is [tokens, width]");
    for (&token, y) in tokens.iter().zip(y.chunks_exact_mut(rows.width)) {
        match rows.place(token, table.len()) {
            Some(start) => y.copy_from_slice(&table[start..][..rows.width]),
            None => y.fill(T::ZERO),
        }
    }
}

/// Adds each row of `dy` to its token's row of `dtable`, in the order of tokens.
pub fn gradient<T: Real>(rows: Rows, tokens: &[i32], dy: &[T], dtable: &mut [T], write: Write) {
    assert_eq!(dy.len(), tokens.len() * rows.width, "dy is [tokens, width]");
    prepare(write, dtable);
    for (&token, dy) in tokens.iter().zip(dy.chunks_exact(rows.width)) {
        if let Some(start) = rows.place(token, dtable.len()) {
            for (out, &dy) in dtable[start..][..rows.width].iter_mut().zip(dy) {
                *out += dy;
            }
        }
    }
}
