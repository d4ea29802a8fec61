//! The sum of squares on an accelerator; the idea stands in `square_sum.cu`.

use ir::graph::Element;

use crate::cuda::Error;
use crate::cuda::lowered::{
    Argument, Launch, Lowered, Request, Source, THREADS, Work, blocks, input, lanes, output, workspace,
};

/// Blocks of the first stage at most: eight for each processor of a large device, the same on every device, as the
/// order of the sum depends on them.
const BLOCKS_MAX: u64 = 1056;

pub(crate) fn lower(request: Request<'_>, replicas: u32) -> Result<Lowered, Error> {
    request.expect(Element::F32, &[request.output(0)])?;
    let element = request.element(&[request.input(0)])?;
    let elements = request.input(0).elements();
    let parts = blocks(elements, 4 * lanes(element)).clamp(1, BLOCKS_MAX);
    let source = Source::new("square_sum/square_sum.cu", include_str!("square_sum.cu")).stores("T", element);
    let first = Launch {
        source: source.clone(),
        entry: "square_sum",
        grid: [parts, 1, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![input(0), workspace(0), Argument::Count(elements)],
    };
    let finish = Launch {
        source,
        entry: "square_sum_finish",
        grid: [1, 1, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![
            workspace(0),
            output(0),
            Argument::Count(parts),
            Argument::Number(1.0 / f64::from(replicas)),
            Argument::Count(1),
        ],
    };
    Ok(Lowered { works: vec![Work::Launch(first), Work::Launch(finish)], workspace: 8 * parts })
}
