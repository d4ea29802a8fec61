//! What the model reads: text → tokens → windows → the rows of a step.
//!
//! Nothing here depends on the plan. Row 5 of step 70 holds the same tokens on one device as on a
//! thousand, so two plans of one model can be compared by their losses.
//!
//! ```no_run
//! # fn main() -> Result<(), hetu_executor::data::corpus::CorpusError> {
//! use hetu_executor::data::{batch, corpus::{Corpus, Split}, order::Order, tokens::Tokenizer};
//! use ir::seed::Seed;
//! let (sequence, rows) = (128, 8);
//! let split = Split { sequence, held_out: 0.05 };
//! let corpus = Corpus::read("examples/text/austen.txt".as_ref(), &Tokenizer::Bytes, split)?;
//! let order = Order::new(corpus.training.count(), rows, Seed(42));
//! let (mut inputs, mut targets) = (vec![0; rows * sequence], vec![0; rows * sequence]);
//! let all = batch::Rows { step: 0, first: 0, count: rows };
//! batch::fill(&corpus.training, &order, all, &mut inputs, &mut targets);
//! # Ok(())
//! # }
//! ```

pub mod tokens;

pub mod corpus;

mod dropped;

pub mod foreign;
pub mod order;

pub mod batch;
