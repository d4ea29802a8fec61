//! Programs of many exchanges, many transfers, next to nothing, or two streams side by side. One program has as much as
//! possible: to load one takes longer than to run it.

use ir::graph::Element;
use ir::layout::Exchange;
use ir::mesh::Axis;
use ir::op::OpKind;
use ir::profile::KernelKind;
use ir::program::*;
use ir::units::Bytes;

use super::ground::{Ballast, boundary, product, sum};
use crate::alone::{cut, fill, zeros};
use crate::catalogue::Excerpt;
use crate::micro::{along, empty, finished, push};

/// Exchanges and transfers are done so often in a row, and once more.
const REPEATS: usize = 8;
/// Those of more bytes so often: they take long enough.
const REPEATS_LARGE: usize = 3;
const LARGE: Bytes = Bytes(64 << 20);
/// Kernels between two events, to see what events cost.
pub(crate) const RUN: usize = 17;
/// How often single kernels and runs stand there.
const SINGLES: usize = 200;
const RUNS: usize = 40;
/// Kernels and exchanges of which each kind is timed alone, and side by side.
pub(crate) const ALONE: usize = 8;
pub(crate) const BESIDE: usize = 28;

/// How often the exchange of so many bytes stands in a program.
pub(crate) fn repeats(bytes: Bytes) -> usize {
    1 + if bytes > LARGE { REPEATS_LARGE } else { REPEATS }
}

/// On ranks side by side: kernels that do next to nothing, each an instruction (the first fragment), then runs of them
/// that are one instruction (the second).
pub(crate) fn events(ranks: u32, ballast: Ballast) -> Draft {
    let mut draft = empty(&[1, ranks]);
    let bytes = Bytes(ALIGNMENT);
    let mut run = fill(bytes);
    run.kernels = vec![zeros(0, bytes); RUN];
    draft.fragments = vec![fill(bytes), run];
    let buffer = boundary(&mut draft, 0, bytes);
    for (id, count) in [(0, SINGLES), (1, RUNS)] {
        for _ in 0..count {
            push(&mut draft, 0, (Stream::Compute, Action::Compute(FragmentId(id))), &[buffer]);
        }
    }
    ballast.prepend(&mut draft, 0);
    finished(draft)
}

/// On ranks side by side: so many kernels that do next to nothing, and nothing else.
pub(crate) fn queue(ranks: u32, count: usize) -> Draft {
    let mut draft = empty(&[1, ranks]);
    draft.fragments.push(fill(Bytes(ALIGNMENT)));
    let buffer = boundary(&mut draft, 0, Bytes(ALIGNMENT));
    for _ in 0..count {
        push(&mut draft, 0, (Stream::Compute, Action::Compute(FragmentId(0))), &[buffer]);
    }
    finished(draft)
}

/// A meeting of all ranks on each of the streams of exchanges: as many communicators as a plan has at most of them.
pub(crate) fn meetings(ranks: u32) -> Draft {
    let mut draft = empty(&[1, ranks]);
    for (index, axis) in [Axis::Data, Axis::Tensor, Axis::Pipeline].into_iter().enumerate() {
        let exchange = Exchange::AllReduce { axes: vec![1], reduce: ir::layout::Reduce::Sum };
        draft.collectives.push(Collective { exchange, axis, shape: vec![1], element: Element::F32 });
        let buffer = boundary(&mut draft, 0, Bytes(ALIGNMENT));
        let action = Action::Exchange(CollectiveId(index as u32));
        push(&mut draft, 0, (Stream::Exchange(axis), action), &[buffer]);
    }
    finished(draft)
}

/// All these exchanges among `ranks` ranks, each a few times in a row, one after the other on one stream.
pub(crate) fn exchanges(list: &[&Collective], ranks: u32, ballast: Ballast) -> Draft {
    let mut draft = empty(&[1, ranks]);
    let most = |bytes: &dyn Fn(&Collective) -> Bytes| list.iter().map(|it| bytes(it)).max().unwrap_or(Bytes::ZERO);
    let source = boundary(&mut draft, 0, most(&|it| it.source_bytes()));
    let destination = boundary(&mut draft, 0, most(&|it| it.destination_bytes(ranks)));
    let stream = Stream::Exchange(Axis::Data);
    after_ballast(&mut draft, 0, stream);
    for (index, collective) in list.iter().enumerate() {
        let exchange = along(&collective.exchange, 1);
        let operands = if exchange.is_in_place() { vec![source] } else { vec![source, destination] };
        draft.collectives.push(Collective { exchange, axis: Axis::Data, ..(*collective).clone() });
        for _ in 0..repeats(collective.whole_bytes(ranks)) {
            push(&mut draft, 0, (stream, Action::Exchange(CollectiveId(index as u32))), &operands);
        }
    }
    ballast.prepend(&mut draft, 0);
    finished(draft)
}

/// Transfers of all these sizes from one rank to another, each a few times in a row.
pub(crate) fn transfers(sizes: &[Bytes], ballast: Ballast) -> Draft {
    let mut draft = empty(&[2]);
    let (from, to, direction) = (RoleId(0), RoleId(1), Direction::Forward);
    let mut list: Vec<(TransferId, usize)> = Vec::new();
    for (place, &bytes) in sizes.iter().enumerate() {
        for turn in 0..repeats(bytes) {
            list.push((TransferId(list.len() as u32), place));
            draft.transfers.push(Transfer { from, to, direction, microbatch: Some(turn as u16), layer: place as u16 });
        }
    }
    for role in 0..2 {
        let stream = if role == 0 { Stream::Send(direction) } else { Stream::Receive(direction) };
        after_ballast(&mut draft, role, stream);
        let buffers: Vec<BufferId> = sizes.iter().map(|&bytes| boundary(&mut draft, role, bytes)).collect();
        for &(id, place) in &list {
            let action = if role == 0 { Action::Send(id) } else { Action::Receive(id) };
            push(&mut draft, role, (stream, action), &[buffers[place]]);
        }
        ballast.prepend(&mut draft, role);
    }
    finished(draft)
}

/// Kernels of a kind alone, then exchanges alone, then both side by side: all-gathers and reduce-scatters by turns. On
/// each stream, those alone come first.
pub(crate) fn side_by_side(computed: Fragment, ranks: u32, ballast: Ballast) -> Draft {
    let mut draft = empty(&[1, ranks]);
    let whole = exchanged(ranks, ballast);
    let bindings: Vec<Bytes> = computed.bindings.iter().map(|binding| binding.bytes).collect();
    draft.fragments.push(computed);
    let operands: Vec<BufferId> = bindings.into_iter().map(|bytes| boundary(&mut draft, 0, bytes)).collect();
    let moved: Vec<BufferId> = (0..2).map(|_| boundary(&mut draft, 0, whole)).collect();
    let count = whole.0 / Element::F32.bytes();
    for (exchange, length) in [
        (Exchange::AllGather { axes: vec![1], dimension: 0 }, count / u64::from(ranks)),
        (Exchange::ReduceScatter { axes: vec![1], dimension: 0 }, count),
    ] {
        draft.collectives.push(Collective { exchange, axis: Axis::Data, shape: vec![length], element: Element::F32 });
    }
    let stream = Stream::Exchange(Axis::Data);
    let compute = |draft: &mut Draft, count: usize| {
        for _ in 0..count {
            push(draft, 0, (Stream::Compute, Action::Compute(FragmentId(0))), &operands);
        }
    };
    let exchange = |draft: &mut Draft, count: usize| {
        for turn in 0..count {
            push(draft, 0, (stream, Action::Exchange(CollectiveId(turn as u32 % 2))), &moved);
        }
    };
    compute(&mut draft, ALONE);
    meet(&mut draft, 0, [Stream::Compute, stream], EventId(0));
    exchange(&mut draft, ALONE);
    meet(&mut draft, 0, [stream, Stream::Compute], EventId(1));
    compute(&mut draft, BESIDE);
    exchange(&mut draft, BESIDE);
    ballast.prepend(&mut draft, 0);
    finished(draft)
}

/// Bytes of the exchanges that are side by side with kernels: they take about as long as these.
fn exchanged(ranks: u32, ballast: Ballast) -> Bytes {
    Bytes(ballast.side * ballast.side * Element::F32.bytes() / u64::from(ranks) * u64::from(ranks))
}

/// A kernel of a kind that runs beside exchanges; attention is a gradient of a model, if it
/// has one, with about as many bytes as are exchanged.
pub(crate) fn computed(kind: KernelKind, ranks: u32, ballast: Ballast, excerpts: &[Excerpt]) -> Option<Fragment> {
    let side = ballast.side;
    match kind {
        KernelKind::Product => Some(product("product", [side, side.div_ceil(2), side.div_ceil(2)])),
        KernelKind::Memory => Some(sum("sum", [0, 1, 2], exchanged(ranks, ballast))),
        KernelKind::Attention => {
            let fragments = excerpts.iter().flat_map(|excerpt| &excerpt.programs.draft().fragments);
            let kernels = fragments.flat_map(|fragment| fragment.kernels.iter().map(move |kernel| (fragment, kernel)));
            let gradients = kernels.filter(|(_, kernel)| kernel.op.kind() == OpKind::AttentionGradient);
            let size = |kernel: &Kernel| kernel.operands().map(|operand| operand.bytes().0).sum::<u64>();
            let alike = gradients.min_by_key(|(_, kernel)| size(kernel).abs_diff(exchanged(ranks, ballast).0));
            alike.map(|(fragment, kernel)| cut(fragment, kernel).0)
        }
    }
}

/// Lets a stream begin when the ballast is over, which will be put before all.
fn after_ballast(draft: &mut Draft, role: usize, stream: Stream) {
    meet(draft, role, [Stream::Compute, stream], EventId(0));
}

/// The second stream waits for the first.
fn meet(draft: &mut Draft, role: usize, [first, second]: [Stream; 2], event: EventId) {
    push(draft, role, (first, Action::Signal(event)), &[]);
    push(draft, role, (second, Action::Wait(event)), &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone::{Alone, Residents, alone};
    use crate::catalogue::tests::{cluster, small};
    use crate::catalogue::{Catalogue, Section};
    use crate::gpu::ground::grounded;

    pub(crate) const LIGHT: Ballast = Ballast { side: 16, seconds: 1.0 };

    #[test]
    fn programs_for_gpus_are_valid() {
        let catalogue = Catalogue::of_model(&small(), &cluster(4));
        check(events(2, LIGHT));
        check(queue(2, 5));
        check(meetings(4));
        check(transfers(&[Bytes(4), Bytes(1000), Bytes(1 << 27)], LIGHT));
        for ranks in [2, 4] {
            let list = catalogue.exchanges.values().filter(|(_, own)| *own == ranks);
            check(exchanges(&list.map(|(collective, _)| collective).collect::<Vec<_>>(), ranks, LIGHT));
            for kind in [KernelKind::Product, KernelKind::Attention, KernelKind::Memory] {
                let kernel = computed(kind, ranks, LIGHT, &catalogue.excerpts).expect("the model has attention");
                check(side_by_side(kernel, ranks, LIGHT));
            }
        }
        for excerpt in &catalogue.excerpts {
            for section in [Section::Passes, Section::Update] {
                let keep = |instr: &Instr| Section::of(instr.span.phase) == section;
                let program = grounded(alone(&excerpt.programs, 2, Residents::Noise, &keep), LIGHT);
                let Alone { draft, works } = program;
                assert_eq!(draft.fragments.len(), works.len());
                check(draft);
            }
        }
    }

    #[track_caller]
    fn check(draft: Draft) {
        if let Err(violations) = Programs::verified(draft, Bytes(u64::MAX)) {
            panic!("{violations:#?}");
        }
    }
}
