//! Everything that is named exists, and is large enough.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Report, Violation, fragment};
use crate::layout::Exchange;
use crate::mesh::{AxisSet, Mesh};
use crate::op::UPDATE_CONSTANTS;
use crate::program::{ALIGNMENT, Action, Block, Buffer, Collective, Content, Draft, Instr, Part, Role, Rows, Stream};
use crate::program::{BufferId, RoleId, Transfer};
use crate::units::Bytes;

/// Reports what is wrong with what roles name. Returns what each collective needs, if all is right.
pub(super) fn check(draft: &Draft, report: &mut Report) -> Option<Vec<Needs>> {
    if !mesh(draft, report) {
        return None;
    }
    for (index, block) in draft.blocks.iter().enumerate() {
        self::block(&draft.mesh, index, block, report);
    }
    for (index, collective) in draft.collectives.iter().enumerate() {
        self::collective(&draft.mesh, index, collective, report);
    }
    roles(draft, report);
    transfers(draft, report);
    for (index, fragment) in draft.fragments.iter().enumerate() {
        fragment::check(&draft.mesh, index, fragment, report);
    }
    let needs = |collective| Needs::of(&draft.mesh, collective);
    report.found.is_empty().then(|| draft.collectives.iter().map(needs).collect())
}

/// Reports what is missing, too small or outside of its place in a role.
pub(super) fn check_role(
    draft: &Draft,
    needs: &[Needs],
    capacity: Bytes,
    (place, role): (usize, &Role),
    report: &mut Report,
) {
    if role.id.index() != place {
        report.push(Violation::Role { role: role.id.0, place });
    }
    if role.arena > capacity {
        report.push(Violation::OverCapacity { role: role.id.0, arena: role.arena, capacity });
    }
    for (index, buffer) in role.buffers.iter().enumerate() {
        self::buffer(draft, role, index, buffer, report);
    }
    for (index, instr) in role.code.iter().enumerate() {
        instruction(draft, needs, role, Here { index, instr }, report);
    }
}

/// The product, unless it is beyond all memory.
pub(super) fn product(factors: impl IntoIterator<Item = u64>) -> Option<u64> {
    let product = factors.into_iter().try_fold(1u64, u64::checked_mul)?;
    (product < 1 << 60).then_some(product)
}

fn mesh(draft: &Draft, report: &mut Report) -> bool {
    let sizes = draft.mesh.sizes();
    let ranks = product(sizes.iter().map(|&size| u64::from(size)));
    let step = [u64::from(draft.step.microbatches), draft.step.sequences, draft.step.sequence];
    let words = if ranks.is_none_or(|ranks| ranks == 0 || ranks > u64::from(u32::MAX)) {
        format!("{} is no number of ranks", draft.mesh)
    } else if draft.roles.len() != draft.mesh.stages() as usize {
        format!("has {} stages, but there are {} roles", draft.mesh.stages(), draft.roles.len())
    } else if product(step).is_none_or(|tokens| tokens == 0) {
        "a step has no tokens, or too many to count".to_owned()
    } else {
        return true;
    };
    report.push(Violation::Mesh { words });
    false
}

/// Every rank has a role, every role as many ranks, and ranks that differ only along the pipeline unlike roles.
fn roles(draft: &Draft, report: &mut Report) {
    let ranks = draft.mesh.rank_count() as usize;
    let count = draft.roles.len();
    let is_there = |role: &RoleId| role.index() < count;
    let words = if draft.role_of.len() != ranks {
        format!("{} ranks have roles, but there are {ranks}", draft.role_of.len())
    } else if let Some(role) = draft.role_of.iter().find(|role| !is_there(role)) {
        format!("a rank plays role {}, but there are only {count}", role.0)
    } else {
        let column = draft.mesh.ranks_per_stage() as usize;
        let differ = (0..column).all(|place| {
            let along: BTreeSet<RoleId> = draft.role_of[place..].iter().step_by(column).copied().collect();
            along.len() == count
        });
        if differ {
            return;
        }
        "ranks at one place of unlike stages play one role".to_owned()
    };
    report.push(Violation::Mesh { words });
}

/// Transfers go from one role to another, and no two carry the same.
fn transfers(draft: &Draft, report: &mut Report) {
    let mut seen: BTreeMap<Transfer, usize> = BTreeMap::new();
    for (index, &transfer) in draft.transfers.iter().enumerate() {
        let count = draft.roles.len();
        let words = if transfer.from == transfer.to {
            "goes from a role to itself".to_owned()
        } else if let Some(role) = [transfer.from, transfer.to].into_iter().find(|role| role.index() >= count) {
            format!("names role {}, but there are only {count}", role.0)
        } else if let Some(first) = seen.insert(transfer, index) {
            format!("carries the same as transfer {first}")
        } else {
            continue;
        };
        report.push(Violation::Transfer { transfer: index, words });
    }
}

/// Whether each axis is there, and named once.
pub(super) fn axes(mesh: &Mesh, axes: &[usize]) -> Result<(), String> {
    let mut seen = AxisSet::EMPTY;
    for &axis in axes {
        if axis >= mesh.sizes().len() {
            return Err(format!("names axis {axis}, but the mesh {mesh} has only {}", mesh.sizes().len()));
        }
        if seen.contains(axis) {
            return Err(format!("names axis {axis} twice"));
        }
        seen = seen.union(AxisSet::only(axis));
    }
    Ok(())
}

/// Ranks along axes that were checked.
fn extent(mesh: &Mesh, axes: &[usize]) -> u64 {
    axes.iter().map(|&axis| u64::from(mesh.sizes()[axis])).product()
}

fn block(mesh: &Mesh, index: usize, block: &Block, report: &mut Report) {
    let words = match block_words(mesh, block) {
        Ok(()) => return,
        Err(words) => words,
    };
    report.push(Violation::Block { block: index, words });
}

fn block_words(mesh: &Mesh, block: &Block) -> Result<(), String> {
    axes(mesh, &block.shard)?;
    let [decayed, length, padded] = [block.decayed, block.length, block.padded];
    if decayed > length || length > padded || padded >= 1 << 60 {
        return Err(format!("{decayed} elements decay of {length}, {padded} with padding: these must not fall"));
    }
    let shares = extent(mesh, &block.shard);
    if padded % shares != 0 {
        return Err(format!("{padded} elements are not {shares} equal shares"));
    }
    let mut end = 0;
    for parameter in &block.parameters {
        let name = &parameter.name;
        let mut local = Some(1);
        for (size, split) in &parameter.dimensions {
            axes(mesh, split).map_err(|words| format!("{name} {words}"))?;
            let parts = extent(mesh, split);
            if size % parts != 0 {
                return Err(format!("{name}: a dimension of {size} is not {parts} equal parts"));
            }
            local = product([local.unwrap_or(u64::MAX), size / parts]);
        }
        if parameter.first < end {
            return Err(format!("{name} begins at {}, inside the parameter before it", parameter.first));
        }
        end = local.and_then(|local| parameter.first.checked_add(local)).unwrap_or(u64::MAX);
        if end > length {
            return Err(format!("{name} ends behind the {length} elements of the block"));
        }
    }
    Ok(())
}

fn collective(mesh: &Mesh, index: usize, collective: &Collective, report: &mut Report) {
    if let Err(words) = collective_words(mesh, collective) {
        report.push(Violation::Collective { collective: index, words });
    }
}

fn collective_words(mesh: &Mesh, collective: &Collective) -> Result<(), String> {
    let group = collective.exchange.axes();
    axes(mesh, group)?;
    let ranks = extent(mesh, group);
    let shape = &collective.shape;
    if product(shape.iter().copied().chain([ranks, collective.element.bytes()])).is_none() {
        return Err("moves more bytes than there are".to_owned());
    }
    let is_there = |dimension: usize| match shape.get(dimension) {
        Some(&size) => Ok(size),
        None => Err(format!("names dimension {dimension}, but its shape has {}", shape.len())),
    };
    let is_cut = |dimension: usize| match is_there(dimension)? {
        size if size % ranks == 0 => Ok(()),
        size => Err(format!("cuts {size} into {ranks} parts")),
    };
    match collective.exchange {
        Exchange::AllReduce { .. } => Ok(()),
        Exchange::ReduceScatter { dimension, .. } | Exchange::Slice { dimension, .. } => is_cut(dimension),
        Exchange::AllGather { dimension, .. } => is_there(dimension).map(|_| ()),
        Exchange::AllToAll { gathered, split, .. } if gathered == split => {
            Err(format!("gathers and cuts dimension {split}"))
        }
        Exchange::AllToAll { gathered, split, .. } => is_there(gathered).and_then(|_| is_cut(split)),
    }
}

/// What a buffer is wrong about, if anything.
fn buffer(draft: &Draft, role: &Role, index: usize, buffer: &Buffer, report: &mut Report) {
    let end = buffer.address.checked_add(buffer.bytes.0);
    let words = if !buffer.address.is_multiple_of(ALIGNMENT) || !buffer.bytes.0.is_multiple_of(ALIGNMENT) {
        format!("its address {} and its {} bytes are not multiples of {ALIGNMENT}", buffer.address, buffer.bytes.0)
    } else if end.is_none_or(|end| end > role.arena.0) {
        format!("{} at {} end outside of the arena of {}", buffer.bytes.0, buffer.address, role.arena.0)
    } else {
        match content_bytes(draft, &buffer.content) {
            Err(words) => words,
            Ok(needed) if needed > buffer.bytes => format!("has {}, but what it holds takes {needed}", buffer.bytes),
            Ok(_) => return,
        }
    };
    report.push(Violation::Buffer { role: role.id.0, buffer: index, words });
}

/// The least that a content takes.
fn content_bytes(draft: &Draft, content: &Content) -> Result<Bytes, String> {
    let (block, part, element) = match content {
        Content::Value | Content::Boundary => return Ok(Bytes::ZERO),
        Content::Scalars => return Ok(Bytes(8)),
        Content::Constants => return Ok(Bytes(UPDATE_CONSTANTS * 4)),
        Content::Tokens(rows) | Content::Targets(rows) => return rows_bytes(draft, rows, draft.step.sequence * 4),
        // Numbers may be stored in 16 bits.
        Content::Patches { rows, numbers } => return rows_bytes(draft, rows, numbers.saturating_mul(2)),
        Content::Source { rows, numbers } => return rows_bytes(draft, rows, numbers.saturating_mul(4)),
        // Parameters may be stored in 16 bits.
        Content::Parameters { block, part } => (block, part, 2),
        Content::Master { block, part }
        | Content::FirstMoment { block, part }
        | Content::SecondMoment { block, part } => (block, part, 4),
    };
    let Some(of) = draft.blocks.get(block.index()) else {
        return Err(format!("holds parameters of block {}, but there are only {}", block.0, draft.blocks.len()));
    };
    let shares = match part {
        Part::Whole => 1,
        Part::Share => extent(&draft.mesh, &of.shard),
    };
    Ok(Bytes(of.padded / shares * element))
}

/// Bytes of the rows that a rank has, each of so many.
fn rows_bytes(draft: &Draft, rows: &Rows, row: u64) -> Result<Bytes, String> {
    axes(&draft.mesh, &rows.axes)?;
    let parts = extent(&draft.mesh, &rows.axes);
    if u32::from(rows.microbatch) >= draft.step.microbatches {
        return Err(format!("is for microbatch {} of {}", rows.microbatch, draft.step.microbatches));
    }
    if rows.sequences.checked_mul(parts) != Some(draft.step.sequences) {
        let [own, all] = [rows.sequences, draft.step.sequences];
        return Err(format!("{parts} ranks with {own} sequences each are not the {all} of a microbatch"));
    }
    product([rows.sequences, row])
        .map(Bytes)
        .ok_or_else(|| format!("{} sequences of {row} bytes are too many", rows.sequences))
}

/// Bytes that a collective reads and writes on each rank.
pub(super) struct Needs {
    source: Bytes,
    destination: Bytes,
}

impl Needs {
    fn of(mesh: &Mesh, collective: &Collective) -> Needs {
        let ranks = mesh.extent(collective.exchange.axes().iter().copied().collect());
        Needs { source: collective.source_bytes(), destination: collective.destination_bytes(ranks) }
    }
}

#[derive(Clone, Copy)]
struct Here<'a> {
    index: usize,
    instr: &'a Instr,
}

fn instruction(draft: &Draft, needs: &[Needs], role: &Role, here: Here<'_>, report: &mut Report) {
    let Here { index, instr } = here;
    let at = Place::new(role.id.0, index, instr);
    let (start, count) = instr.operands;
    let end = start as usize + usize::from(count);
    if !report.in_range(&at, "operand", end, role.operand_list.len() + 1) {
        return;
    }
    let operands = role.operands(instr);
    if let Some(operand) = operands.iter().find(|operand| operand.index() >= role.buffers.len()) {
        report.in_range(&at, "buffer", operand.index(), role.buffers.len());
        return;
    }
    if !named(draft, role, at, instr.action, report) {
        return;
    }
    let needed = match instr.action {
        Action::Compute(id) => draft.fragments[id.index()].bindings.len(),
        Action::Exchange(id) if draft.collectives[id.index()].exchange.is_in_place() => 1,
        Action::Exchange(_) => 2,
        Action::Send(_) | Action::Receive(_) | Action::Free => 1,
        Action::Signal(_) | Action::Wait(_) => 0,
    };
    if operands.len() != needed {
        report.push(Violation::OperandCount { at, found: operands.len(), needed });
        return;
    }
    if !runs_on(draft, instr) {
        report.push(Violation::WrongStream { at });
    }
    let end = match instr.action {
        Action::Send(id) => Some(draft.transfers[id.index()].from),
        Action::Receive(id) => Some(draft.transfers[id.index()].to),
        Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => None,
    };
    if end.is_some_and(|end| end != role.id) {
        report.push(Violation::WrongEnd { at });
    }
    let mut fits = |&id: &BufferId, needed: Bytes| {
        let found = role.buffers[id.index()].bytes;
        if found < needed {
            report.push(Violation::TooSmall { at, buffer: id.0, found, needed });
        }
    };
    match instr.action {
        Action::Compute(id) => {
            for (operand, binding) in operands.iter().zip(&draft.fragments[id.index()].bindings) {
                fits(operand, binding.bytes);
            }
        }
        Action::Exchange(id) => {
            let Needs { source, destination } = needs[id.index()];
            fits(&operands[0], source);
            operands[1..].iter().for_each(|operand| fits(operand, destination));
        }
        Action::Send(_) | Action::Receive(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {}
    }
}

/// Whether what an action names is there.
fn named(draft: &Draft, role: &Role, at: Place, action: Action, report: &mut Report) -> bool {
    match action {
        Action::Compute(id) => report.in_range(&at, "fragment", id.index(), draft.fragments.len()),
        Action::Exchange(id) => report.in_range(&at, "collective", id.index(), draft.collectives.len()),
        Action::Send(id) | Action::Receive(id) => report.in_range(&at, "transfer", id.index(), draft.transfers.len()),
        Action::Free => true,
        // Each event has a signal, so that there are fewer events than instructions.
        Action::Signal(event) | Action::Wait(event) => report.in_range(&at, "event", event.index(), role.code.len()),
    }
}

/// Whether an action stands on the stream that does such things. What moves nothing may stand on any.
fn runs_on(draft: &Draft, instr: &Instr) -> bool {
    match (instr.action, instr.stream) {
        (Action::Compute(_), stream) => stream == Stream::Compute,
        (Action::Exchange(id), stream) => {
            let collective = &draft.collectives[id.index()];
            !collective.exchange.moves() || stream == Stream::Exchange(collective.axis)
        }
        (Action::Send(id), stream) => stream == Stream::Send(draft.transfers[id.index()].direction),
        (Action::Receive(id), stream) => stream == Stream::Receive(draft.transfers[id.index()].direction),
        (Action::Free | Action::Signal(_) | Action::Wait(_), _) => true,
    }
}
