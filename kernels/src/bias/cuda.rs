//! Biases on an accelerator; the idea stands in `bias.cu`. Positions are biases of a whole sequence, so they share
//! the launches.

use ir::graph::Element;

use crate::cuda::Error;
use crate::cuda::lowered::{
    Argument, Launch, Lowered, Place, Request, Source, THREADS, Work, are_aligned, blocks, input, lanes, workspace,
};

/// Blocks over which rows are spread, if there are so many.
const SPREAD: u64 = 512;
/// Rows that a block sums at least.
const STRETCH: u64 = 32;
/// Most blocks down a grid.
const ROWS_MAX: u64 = 65_535;

fn source(element: Element) -> Source {
    Source::new("bias/bias.cu", include_str!("bias.cu")).stores("T", element)
}

pub(crate) fn forward(request: Request<'_>) -> Result<Lowered, Error> {
    let width = request.input(1).elements();
    add(request, width, Place::Input(1, 0))
}

pub(crate) fn gradient(request: Request<'_>) -> Result<Lowered, Error> {
    let width = request.output(0).elements();
    sum(request, width, 0)
}

/// Adds a bias of this width to the rows of input 0.
pub(crate) fn add(request: Request<'_>, width: u64, bias: Place) -> Result<Lowered, Error> {
    let operands = [request.input(0), request.input(1), request.output(0)];
    let element = request.element(&operands)?;
    let rows = request.input(0).elements() / width.max(1);
    let is_bias_aligned = matches!(bias, Place::Input(_, offset) if offset.is_multiple_of(16));
    let is_wide = width.is_multiple_of(lanes(element)) && are_aligned(&operands) && is_bias_aligned;
    let (entry, each) = if is_wide { ("bias_wide", lanes(element)) } else { ("bias_narrow", 1) };
    Ok(Lowered::launch(Launch {
        source: source(element),
        entry,
        grid: [blocks(width, each), rows.min(SPREAD), 1],
        block: THREADS,
        shared: 0,
        arguments: vec![
            input(0),
            Argument::Address(bias),
            Argument::Address(Place::Output(0, 0)),
            Argument::Count(rows),
            Argument::Count(width),
        ],
    }))
}

/// Sums the rows of input 0, of this width, into output 0 from this byte on.
pub(crate) fn sum(request: Request<'_>, width: u64, offset: u64) -> Result<Lowered, Error> {
    request.expect(Element::F32, &[request.output(0)])?;
    let element = request.element(&[request.input(0)])?;
    let rows = request.input(0).elements() / width.max(1);
    let is_wide = width.is_multiple_of(lanes(element)) && are_aligned(&[request.input(0)]);
    let (entry, each) = if is_wide { ("bias_gradient_wide", lanes(element)) } else { ("bias_gradient_narrow", 1) };
    let across = width.div_ceil(32 * each);
    let parts = SPREAD.div_ceil(across.max(1)).min(rows.div_ceil(STRETCH)).clamp(1, ROWS_MAX);
    let out = Argument::Address(Place::Output(0, offset));
    let (sizes, adds) = ([rows, width].map(Argument::Count), request.adds(0));
    let first = Launch {
        source: source(element),
        entry,
        grid: [across, parts, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![input(0), workspace(0), out, sizes[0], sizes[1], adds],
    };
    if parts == 1 {
        return Ok(Lowered::launch(first));
    }
    let finish = Launch {
        source: source(element),
        entry: "bias_gradient_finish",
        grid: [width.div_ceil(32), 1, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![workspace(0), out, Argument::Count(parts), sizes[1], adds],
    };
    Ok(Lowered { works: vec![Work::Launch(first), Work::Launch(finish)], workspace: 4 * parts * width })
}
