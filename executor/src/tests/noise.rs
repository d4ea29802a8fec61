//! Programs that are only timed begin with noise.

use ir::mesh::Mesh;
use ir::program::{Block, BlockId, Content, Part, StepSize};

use super::builder::Builder;
use super::*;

#[test]
fn residents_begin_as_small_numbers_in_either_form_and_second_moments_as_zeros() {
    let step = StepSize { microbatches: 1, sequences: 1, sequence: 1 };
    let mut builder = Builder::new(&Mesh::new(1, &[2]), step);
    // More than one pattern of noise, and no multiple of it.
    let elements = 600_001;
    let block = Block { layer: 0, parameters: Vec::new(), decayed: 0, length: 8, padded: 8, shard: Vec::new() };
    let block = builder.block(block);
    assert_eq!(block, BlockId(0));
    let boundary = builder.buffer(0, elements, Content::Boundary);
    let moment = builder.buffer(0, 8, Content::SecondMoment { block, part: Part::Whole });
    let programs = Programs::verified(builder.finish(), Bytes(u64::MAX)).unwrap_or_else(|all| panic!("{all:#?}"));
    let session = Session::load_noise(&programs, &settings(Backend::Threads), Seed(1)).unwrap();
    for rank in 0..2 {
        let near = |values: &[f32]| {
            let mean_square = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / values.len() as f64;
            assert!((mean_square.sqrt() / 0.02 - 1.0).abs() < 0.02, "{}", mean_square.sqrt());
        };
        near(&read(&session, rank, boundary, elements));
        near(&read_short(&session, rank, boundary, 2 * elements));
        assert_eq!(read(&session, rank, moment, 8), [0.0; 8]);
    }
}
