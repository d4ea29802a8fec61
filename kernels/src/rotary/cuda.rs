//! Rotary positions on an accelerator; the idea stands in `rotary.cu`.

use ir::op::{Rotary, Rotation};

use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Launch, Lowered, Request, Source, input, output};

/// Threads of a block: more rows share the time in which angles are computed.
const THREADS: u64 = 512;
/// The largest head whose angles have a place in shared memory.
const HEAD_MAX: u64 = 1024;

pub(crate) fn lower(request: Request<'_>, rotary: Rotary) -> Result<Lowered, Error> {
    let element = request.element(&[request.input(0), request.output(0)])?;
    let [batch, sequence, groups, slots, head] = ['b', 's', 'g', 'c', 'd'].map(|letter| request.size(letter));
    if !head.is_multiple_of(2) || head > HEAD_MAX {
        return Err(request.unsupported(format!("heads of {head}, not even and at most {HEAD_MAX}")));
    }
    if rotary.scaling.is_some() {
        return Err(request.unsupported("`rotary_scaling`, which only CPU ranks can do so far".to_owned()));
    }
    let direction = match rotary.rotation {
        Rotation::Forward => 1.0,
        Rotation::Inverse => -1.0,
    };
    let pairs = head / 2;
    let rows_of_block = (THREADS / pairs).max(1);
    let source = Source::new("rotary/rotary.cu", include_str!("rotary.cu")).stores("T", element);
    let numbers = [
        ("THREADS", THREADS),
        ("ROWS", rows_of_block),
        ("HEAD", head),
        ("SLOTS", groups * slots),
        ("QUERIES", slots - 2),
    ];
    let rows = batch * sequence;
    let mut arguments = vec![input(0), output(0)];
    arguments.extend([rows, sequence, request.offset('s')].map(Argument::Count));
    arguments.extend([rotary.base.log2(), direction].map(Argument::Number));
    Ok(Lowered::launch(Launch {
        source: numbers.into_iter().fold(source, |source, (name, number)| source.number(name, number)),
        entry: "rotary",
        grid: [rows.div_ceil(rows_of_block), 1, 1],
        block: THREADS,
        shared: 0,
        arguments,
    }))
}
