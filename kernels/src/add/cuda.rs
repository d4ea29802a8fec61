//! Sums on an accelerator; the idea stands in `add.cu`.

use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Launch, Lowered, Request, Source, THREADS, blocks, input, lanes, output};

pub(crate) fn lower(request: Request<'_>) -> Result<Lowered, Error> {
    let element = request.element(&[request.input(0), request.input(1), request.output(0)])?;
    let elements = request.output(0).elements();
    Ok(Lowered::launch(Launch {
        source: Source::new("add/add.cu", include_str!("add.cu")).stores("T", element),
        entry: "add",
        grid: [blocks(elements, lanes(element)), 1, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![input(0), input(1), output(0), Argument::Count(elements)],
    }))
}
