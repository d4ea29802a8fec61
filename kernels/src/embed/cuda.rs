//! Rows of a table on an accelerator; the idea stands in `embed.cu`.

use ir::graph::Element;

use crate::cuda::Error;
use crate::cuda::lowered::{
    Argument, Clear, Launch, Lowered, Place, Request, Source, THREADS, Work, blocks, input, output, workspace,
};

/// Columns of a block that sums rows.
const COLUMNS: u64 = 4 * THREADS;

fn source(element: Element) -> Source {
    Source::new("embed/embed.cu", include_str!("embed.cu")).stores("T", element)
}

pub(crate) fn forward(request: Request<'_>) -> Result<Lowered, Error> {
    request.expect(Element::I32, &[request.input(0)])?;
    let element = request.element(&[request.input(1), request.output(0)])?;
    let sizes = [request.offset('v'), request.size('v'), request.size('h')];
    let mut arguments = vec![input(0), input(1), output(0)];
    arguments.extend(sizes.map(Argument::Count));
    let grid = [request.input(0).elements(), 1, 1];
    Ok(Lowered::launch(Launch { source: source(element), entry: "embed", grid, block: 128, shared: 0, arguments }))
}

pub(crate) fn gradient(request: Request<'_>) -> Result<Lowered, Error> {
    request.expect(Element::I32, &[request.input(0)])?;
    request.expect(Element::F32, &[request.output(0)])?;
    let source = source(request.element(&[request.input(1)])?);
    let [count, first] = [request.input(0).elements(), request.offset('v')];
    let [rows, width] = ['v', 'h'].map(|letter| request.size(letter));
    let owners = 4 * rows;
    let mut works = vec![Work::Clear(Clear { place: Place::Workspace(0), bytes: owners, value: 0xff })];
    if request.adds(0) == Argument::Count(0) {
        let bytes = request.output(0).bytes().0;
        works.push(Work::Clear(Clear { place: Place::Output(0, 0), bytes, value: 0 }));
    }
    let mut arguments = vec![input(0), workspace(0)];
    arguments.extend([count, first, rows].map(Argument::Count));
    let find = Launch {
        source: source.clone(),
        entry: "embed_owners",
        grid: [blocks(count, 1), 1, 1],
        block: THREADS,
        shared: 0,
        arguments,
    };
    let mut arguments = vec![input(0), input(1), output(0), workspace(0)];
    arguments.extend([count, first, rows, width].map(Argument::Count));
    let grid = [count, width.div_ceil(COLUMNS), 1];
    let sum = Launch { source, entry: "embed_gradient", grid, block: THREADS, shared: 0, arguments };
    works.extend([Work::Launch(find), Work::Launch(sum)]);
    Ok(Lowered { works, workspace: owners })
}
