//! An address for every buffer: pass 7, and the placing that fragments use, too.

pub(crate) mod arena;
pub(crate) mod place;
