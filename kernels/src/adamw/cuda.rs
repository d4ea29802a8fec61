//! The update on an accelerator; the idea stands in `adamw.cu`.

use ir::graph::Element;

use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Launch, Lowered, Place, Request, Source, THREADS, blocks, input, output};

pub(crate) fn lower(request: Request<'_>, decayed: u64, length: u64) -> Result<Lowered, Error> {
    let single = request.kernel.inputs.iter().chain(request.kernel.results().take(3)).collect::<Vec<_>>();
    request.expect(Element::F32, &single)?;
    let copy = match request.kernel.results().nth(3) {
        Some(operand) => {
            request.expect(Element::Bf16, &[operand])?;
            output(3)
        }
        None => Argument::Address(Place::Nowhere),
    };
    let (elements, first) = (request.output(0).elements(), request.offset('n'));
    let end = length.saturating_sub(first).min(elements);
    let has_copy = u64::from(request.kernel.outputs.len() > 3);
    let mut arguments =
        vec![input(0), input(1), input(2), input(3), input(4), input(5), output(0), output(1), output(2), copy];
    arguments.extend([elements, decayed.saturating_sub(first).min(end), end].map(Argument::Count));
    Ok(Lowered::launch(Launch {
        source: Source::new("adamw/adamw.cu", include_str!("adamw.cu")).number("COPY", has_copy),
        entry: "adamw",
        grid: [blocks(elements, 4), 1, 1],
        block: THREADS,
        shared: 0,
        arguments,
    }))
}
