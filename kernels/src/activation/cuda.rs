//! Activations on an accelerator; the idea stands in `activation.cu`.

use ir::op::Activation;
use ir::program::Operand;

use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Launch, Lowered, Request, Source, THREADS, blocks, input, lanes, output};

/// Most blocks down a grid; rows past them are taken in turn.
const ROWS_MAX: u64 = 16_384;

pub(crate) fn forward(request: Request<'_>, activation: Activation) -> Result<Lowered, Error> {
    let entry = match activation {
        Activation::Gelu => "gelu",
        Activation::Relu => return Err(no_kernel(request)),
        Activation::SwiGlu => "swiglu",
    };
    lower(request, activation, entry)
}

pub(crate) fn gradient(request: Request<'_>, activation: Activation) -> Result<Lowered, Error> {
    let entry = match activation {
        Activation::Gelu => "gelu_gradient",
        Activation::Relu => return Err(no_kernel(request)),
        Activation::SwiGlu => "swiglu_gradient",
    };
    lower(request, activation, entry)
}

fn no_kernel(request: Request<'_>) -> Error {
    request.unsupported("GPUs have no kernel of it".to_owned())
}

fn lower(request: Request<'_>, activation: Activation, entry: &'static str) -> Result<Lowered, Error> {
    let operands: Vec<&Operand> = request.kernel.operands().collect();
    let element = request.element(&operands)?;
    let (width, elements) = (request.size('f'), request.input(0).elements().min(request.output(0).elements()));
    let (sizes, grid) = match activation {
        Activation::Gelu | Activation::Relu => (vec![elements], [blocks(elements, lanes(element)), 1, 1]),
        Activation::SwiGlu => {
            let rows = elements / width.max(1);
            (vec![rows, width], [blocks(width, lanes(element)), rows.min(ROWS_MAX), 1])
        }
    };
    let inputs = (0..request.kernel.inputs.len()).map(input);
    let arguments = inputs.chain([output(0)]).chain(sizes.into_iter().map(Argument::Count)).collect();
    let source = Source::new("activation/activation.cu", include_str!("activation.cu")).stores("T", element);
    Ok(Lowered::launch(Launch { source, entry, grid, block: THREADS, shared: 0, arguments }))
}
