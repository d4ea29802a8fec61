//! Cross-entropy on an accelerator; the idea stands in `loss.cu`.

use ir::graph::Element;

use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Launch, Lowered, Request, Source, input, output};

/// Threads that walk along a row of logits.
const ROW_THREADS: u64 = 512;
/// Threads that add up all rows.
const SUM_THREADS: u64 = 1024;

fn source(element: Element) -> Source {
    Source::new("loss/loss.cu", include_str!("loss.cu")).stores("T", element)
}

/// A block for each row of input 0.
fn rows(request: Request<'_>, element: Element, entry: &'static str, arguments: Vec<Argument>) -> Lowered {
    let grid = [request.input(0).elements() / request.size('v').max(1), 1, 1];
    Lowered::launch(Launch { source: source(element), entry, grid, block: ROW_THREADS, shared: 0, arguments })
}

pub(crate) fn row_max(request: Request<'_>) -> Result<Lowered, Error> {
    let element = request.element(&[request.input(0)])?;
    request.expect(Element::F32, &[request.output(0)])?;
    let arguments = vec![input(0), output(0), Argument::Count(request.size('v'))];
    Ok(rows(request, element, "row_max", arguments))
}

pub(crate) fn sum_exp(request: Request<'_>) -> Result<Lowered, Error> {
    let element = request.element(&[request.input(0)])?;
    request.expect(Element::F32, &[request.input(1), request.output(0)])?;
    request.expect(Element::I32, &[request.input(2)])?;
    let mut arguments = vec![input(0), input(1), input(2), output(0)];
    arguments.extend([request.offset('v'), request.size('v')].map(Argument::Count));
    Ok(rows(request, element, "sum_exp", arguments))
}

pub(crate) fn cross_entropy(request: Request<'_>, replicas: u32) -> Result<Lowered, Error> {
    request.expect(Element::F32, &[request.input(0), request.input(1), request.output(0)])?;
    Ok(Lowered::launch(Launch {
        source: source(Element::F32),
        entry: "cross_entropy",
        grid: [1, 1, 1],
        block: SUM_THREADS,
        shared: 0,
        arguments: vec![
            input(0),
            input(1),
            output(0),
            Argument::Count(request.input(0).elements()),
            Argument::Number(1.0 / f64::from(replicas)),
            Argument::Count(1),
        ],
    }))
}

pub(crate) fn gradient(request: Request<'_>) -> Result<Lowered, Error> {
    let element = request.element(&[request.input(0), request.output(0)])?;
    request.expect(Element::F32, &[request.input(1), request.input(2)])?;
    request.expect(Element::I32, &[request.input(3)])?;
    let mut arguments = vec![input(0), input(1), input(2), input(3), output(0)];
    arguments.extend([request.offset('v'), request.size('v')].map(Argument::Count));
    arguments.push(Argument::Number(1.0 / request.tokens as f64));
    Ok(rows(request, element, "cross_entropy_gradient", arguments))
}
