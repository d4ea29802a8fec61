//! Zeros, and copies that change how numbers are stored, on an accelerator.

use ir::graph::Element;

use crate::cuda::lowered::{
    Argument, Clear, Launch, Lowered, Place, Request, Source, THREADS, Work, blocks, input, output,
};

/// Numbers that a thread copies.
const EACH: u64 = 8;

pub(crate) fn zero(request: Request<'_>) -> Lowered {
    let outputs = request.kernel.results().enumerate();
    let clear = |(index, operand): (usize, &ir::program::Operand)| {
        Work::Clear(Clear { place: Place::Output(index, 0), bytes: operand.bytes().0, value: 0 })
    };
    Lowered { works: outputs.map(clear).collect(), workspace: 0 }
}

/// Copies numbers from one form to another.
pub(crate) fn cast(from: Element, to: Element, elements: u64) -> Launch {
    Launch {
        source: Source::new("fill/fill.cu", include_str!("fill.cu")).stores("T", from).stores("S", to),
        entry: "cast",
        grid: [blocks(elements, EACH), 1, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![input(0), output(0), Argument::Count(elements)],
    }
}
