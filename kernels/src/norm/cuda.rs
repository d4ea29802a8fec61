//! Normalisation on an accelerator; the idea stands in `norm.cu`.

use ir::graph::Element;
use ir::op::{Addend, Norm, NormKind};
use ir::program::Operand;

use crate::cuda::Error;
use crate::cuda::lower::has_mean;
use crate::cuda::lowered::{
    Argument, Launch, Lowered, Place, Request, Source, THREADS, Work, are_aligned, input, lanes, output, workspace,
};

/// Threads that hold a row at most, and a wider one where rows are so wide that registers would not suffice.
const ROW_THREADS: u64 = 512;
const WIDE_ROW_THREADS: u64 = 1024;
/// Numbers of a row in one thread from which more threads are better.
const WIDE: u64 = 16;
/// Threads that walk down rows in a gradient: 1024 for each of the 132 processors of a large device, and as many on
/// every device, as sums depend on them.
const WALKERS: u64 = 132 * PROCESSOR_WALKERS;
/// Those of one processor.
const PROCESSOR_WALKERS: u64 = 1024;
/// Rows of so many accesses leave no registers for several blocks on a processor.
const ROUNDS_MANY: u64 = 2;

/// The source for rows of this kind, and the threads of a block.
fn source(element: Element, width: u64, (kind, addend): (NormKind, Addend), operands: &[&Operand]) -> (Source, u64) {
    let is_whole = width.is_multiple_of(lanes(element)) && are_aligned(operands);
    let count = if is_whole { lanes(element) } else { 1 };
    let wanted = width.div_ceil(count).next_multiple_of(32).max(32);
    let most = if width > WIDE * ROW_THREADS { WIDE_ROW_THREADS } else { ROW_THREADS };
    let threads = wanted.min(most);
    let rounds = width.div_ceil(count * threads);
    let source = Source::new("norm/norm.cu", include_str!("norm.cu"))
        .stores("T", element)
        .number("WIDTH", width)
        .number("COUNT", count)
        .number("THREADS", threads)
        .number("ROUNDS", rounds)
        .number("BLOCKS", if rounds < ROUNDS_MANY { PROCESSOR_WALKERS / threads } else { 1 })
        .number("LAYER", has_mean(kind))
        .number("ADD", u64::from(addend == Addend::Present));
    (source, threads)
}

pub(crate) fn forward(request: Request<'_>, norm: Norm) -> Result<Lowered, Error> {
    let width = request.size('h');
    let stored: Vec<&Operand> = request.kernel.inputs.iter().chain([request.output(0)]).collect();
    let element = request.element(&stored)?;
    request.expect(Element::F32, &request.kernel.results().skip(1).collect::<Vec<_>>())?;
    let (source, block) = source(element, width, (norm.kind, Addend::Absent), &stored);
    let nowhere = Argument::Address(Place::Nowhere);
    let (bias, mean, deviation) = match norm.kind {
        NormKind::Layer => (input(2), output(1), output(2)),
        NormKind::RootMeanSquare => (nowhere, nowhere, output(1)),
    };
    let arguments = vec![input(0), input(1), bias, output(0), mean, deviation, Argument::Number(norm.epsilon)];
    let grid = [request.input(0).elements() / width.max(1), 1, 1];
    Ok(Lowered::launch(Launch { source, entry: "normalise", grid, block, shared: 0, arguments }))
}

pub(crate) fn gradient(request: Request<'_>, kind: NormKind) -> Result<Lowered, Error> {
    let width = request.size('h');
    let nowhere = Argument::Address(Place::Nowhere);
    let (mean, deviation, statistics_end) = match kind {
        NormKind::Layer => (input(3), input(4), 5),
        NormKind::RootMeanSquare => (nowhere, input(3), 4),
    };
    let added = request.kernel.addend();
    let mut stored = vec![request.input(0), request.input(1), request.input(2), request.output(0)];
    stored.extend(added);
    let element = request.element(&stored)?;
    let statistics = request.kernel.inputs[3..statistics_end].iter();
    let single: Vec<&Operand> = statistics.chain(request.kernel.results().skip(1)).collect();
    request.expect(Element::F32, &single)?;
    let (source, block) = source(element, width, (kind, request.kernel.addend_kind()), &stored);
    // The addend stands behind the statistics.
    let addend = if added.is_some() { input(statistics_end) } else { nowhere };
    let rows = request.input(1).elements() / width.max(1);
    let stretches = rows.min(WALKERS / block);
    let arguments =
        vec![input(0), input(1), input(2), mean, deviation, addend, output(0), workspace(0), Argument::Count(rows)];
    let walk = Launch {
        source: source.clone(),
        entry: "normalise_gradient",
        grid: [stretches, 1, 1],
        block,
        shared: 0,
        arguments,
    };
    let one = 4 * stretches * width;
    let mut works = vec![Work::Launch(walk)];
    let parameters = request.kernel.outputs.len() - 1;
    works.extend((0..parameters).map(|index| {
        Work::Launch(Launch {
            source: source.clone(),
            entry: "normalise_gradient_finish",
            grid: [width.div_ceil(32), 1, 1],
            block: THREADS,
            shared: 0,
            arguments: vec![
                workspace(index as u64 * one),
                output(1 + index),
                Argument::Count(stretches),
                request.adds(1 + index),
            ],
        })
    }));
    Ok(Lowered { works, workspace: parameters as u64 * one })
}
