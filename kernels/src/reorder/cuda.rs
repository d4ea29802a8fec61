//! Copies of runs on an accelerator; the idea stands in `reorder.cu`.

use super::Reorder;
use crate::cuda::lowered::{Argument, Launch, Lowered, Source, THREADS, Work, blocks, input, output};

/// Most blocks of a launch: eight for each processor of a large device. The rest is done in turn.
const BLOCKS_MAX: u64 = 1056;

/// What a device does for it, from one input to one output; both begin at multiples of 16 bytes.
pub(crate) fn lower(reorder: &Reorder) -> Lowered {
    if reorder.bytes() == 0 {
        return Lowered::default();
    }
    let Reorder { counts, run, first, from, to } = *reorder;
    let lengths = || [run, first].into_iter().chain(from).chain(to);
    let word = [16, 4, 2].into_iter().find(|&word| lengths().all(|length| length.is_multiple_of(word)));
    let word = word.expect("numbers have at least two bytes");
    let words = reorder.bytes() / word;
    assert!(words < 1 << 32, "{} bytes are too many for one copy of runs", reorder.bytes());
    let mut arguments = vec![input(0), output(0)];
    let numbers = [first / word, words, run / word, counts[1]].into_iter();
    arguments.extend(numbers.chain(from.map(|it| it / word)).chain(to.map(|it| it / word)).map(Argument::Count));
    Lowered {
        works: vec![Work::Launch(Launch {
            source: Source::new("reorder/reorder.cu", include_str!("reorder.cu")).number("WORD", word),
            entry: "reorder",
            grid: [blocks(words, 4).clamp(1, BLOCKS_MAX), 1, 1],
            block: THREADS,
            shared: 0,
            arguments,
        })],
        workspace: 0,
    }
}
