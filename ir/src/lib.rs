//! The words that all of Hetu speaks: units, layouts, graphs, plans, programs and traces, each with its file form.
//!
//! Modules stand in the order in which one should read them.

pub mod cluster;
pub mod error;
pub mod file;
pub mod fleet;
pub mod graph;
pub mod layout;
pub mod mesh;
pub mod model;
pub mod op;
pub mod parallel;
pub mod plan;
pub mod profile;
pub mod program;
pub mod region;
pub mod residuals;
pub mod seed;
pub mod shares;
pub mod software;
pub mod text;
pub mod trace;
pub mod transformer;
pub mod units;
pub mod verify;
pub mod ways;
