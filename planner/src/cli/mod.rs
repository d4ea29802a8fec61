//! The commands of `hetu-plan`, and what they share.
//!
//! All reading and writing of files, and all printing, is here; the library is pure.

mod asked;
mod check;
mod classes;
mod compile;
mod costs;
mod dump;
mod explain;
mod export;
mod failure;
mod fleet;
mod import;
mod input;
mod json;
mod lists;
mod losers;
mod margins;
mod memory;
mod money;
mod no_plan;
mod output;
mod page;
mod plan;
mod problems;
mod replay;
mod robust;
mod shipped;
mod solve;
mod spread;
mod strategy;
mod sweep;
mod table;
mod text;
mod why_not;
mod words;

pub(crate) use check::check;
pub(crate) use compile::compile;
pub(crate) use dump::dump;
pub(crate) use export::export;
pub(crate) use failure::Failure;
pub(crate) use import::import;
pub(crate) use memory::memory;
pub(crate) use output::{complain, man, show};
pub(crate) use plan::plan;
pub(crate) use replay::replay;
pub(crate) use shipped::{clusters, models};
pub(crate) use solve::solve;
