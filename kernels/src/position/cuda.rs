//! Positions on an accelerator: a window of the table is a bias of s · h columns.

use crate::bias;
use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Clear, Lowered, Place, Request, Work};

pub(crate) fn forward(request: Request<'_>) -> Result<Lowered, Error> {
    let first = request.offset('s') * request.size('h') * request.input(1).element.bytes();
    bias::cuda::add(request, request.size('s') * request.size('h'), Place::Input(1, first))
}

pub(crate) fn gradient(request: Request<'_>) -> Result<Lowered, Error> {
    let first = request.offset('s') * request.size('h') * request.output(0).element.bytes();
    let mut lowered = bias::cuda::sum(request, request.size('s') * request.size('h'), first)?;
    if request.adds(0) == Argument::Count(0) {
        let bytes = request.output(0).bytes().0;
        lowered.works.insert(0, Work::Clear(Clear { place: Place::Output(0, 0), bytes, value: 0 }));
    }
    Ok(lowered)
}
