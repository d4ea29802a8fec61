//! Rows of a table: by token, and by position.

use super::Sizes;
use crate::units::Flops;

/// One addition for each element moved: rows of the table that are not used do not count.
pub(super) fn flops(sizes: &Sizes) -> Flops {
    let is_moved = |letter: &char| !matches!(letter, 'v' | 'p');
    Flops(sizes.iter().filter(|(letter, _)| is_moved(letter)).map(|(_, &size)| size as f64).product())
}
