//! Programs to text. Prints whatever a draft holds, also where it is wrong: that is when one wants to read it.

use std::fmt::{self, Write as _};

use super::op;
use super::word::quote;
use crate::graph::Init;
use crate::layout::{Exchange, Reduce};
use crate::op::Write;
use crate::program::{
    Access, Action, Block, Buffer, BufferId, Collective, Content, Direction, Draft, Fragment, Instr, Kernel, Operand,
    Part, Role, RoleId, Rows, Transfer, TransferId,
};
use crate::units::Bytes;

/// The text of a draft, which [`super::parse`] reads back.
pub fn print(draft: &Draft) -> String {
    let mut text = String::new();
    programs(&mut text, draft).expect("a string takes all that is written to it");
    text
}

fn programs(text: &mut String, draft: &Draft) -> fmt::Result {
    let step = draft.step;
    writeln!(text, "programs format 2")?;
    writeln!(text, "mesh {}", draft.mesh)?;
    let [microbatches, sequences] = [u64::from(step.microbatches), step.sequences];
    writeln!(text, "step microbatches={microbatches} sequences={sequences} sequence={}", step.sequence)?;
    writeln!(text, "ranks {}", ranks(&draft.role_of))?;
    for (index, block) in draft.blocks.iter().enumerate() {
        self::block(text, index, block)?;
    }
    for (index, collective) in draft.collectives.iter().enumerate() {
        let Collective { exchange, axis, shape, element } = collective;
        let [shape, exchange] = [list(shape), self::exchange(exchange)];
        writeln!(text, "collective {index} {exchange} for={} shape={shape} {}", axis.name(), element.name())?;
    }
    for (index, fragment) in draft.fragments.iter().enumerate() {
        self::fragment(text, index, fragment)?;
    }
    for (index, transfer) in draft.transfers.iter().enumerate() {
        self::transfer(text, index, transfer)?;
    }
    for role in &draft.roles {
        self::role(text, draft, role)?;
    }
    Ok(())
}

/// `4*r0 4*r1`: how many ranks in turn play each role.
fn ranks(role_of: &[RoleId]) -> String {
    let runs = role_of.chunk_by(|a, b| a == b).map(|run| format!("{}*r{}", run.len(), run[0].0));
    runs.collect::<Vec<_>>().join(" ")
}

fn list<T: ToString>(items: &[T]) -> String {
    format!("[{}]", joined(items, ","))
}

fn joined<T: ToString>(items: &[T], separator: &str) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}

fn block(text: &mut String, index: usize, block: &Block) -> fmt::Result {
    let Block { layer, parameters, decayed, length, padded, shard } = block;
    let shard = list(shard);
    writeln!(text, "block {index} layer={layer} decayed={decayed} length={length} padded={padded} shard={shard}")?;
    for parameter in parameters {
        let init = match parameter.init {
            Init::Normal { deviation } => format!("normal({deviation:?})"),
            Init::Constant { value } => format!("constant({value:?})"),
        };
        let sizes = parameter.dimensions.iter().map(|(size, axes)| {
            let split: String = axes.iter().map(|axis| format!("/{axis}")).collect();
            format!("{size}{split}")
        });
        let sizes = list(&sizes.collect::<Vec<_>>());
        let [name, first] = [quote(&parameter.name), parameter.first.to_string()];
        writeln!(text, "  parameter {name} first={first} init={init} dimensions={sizes}")?;
    }
    Ok(())
}

fn exchange(exchange: &Exchange) -> String {
    let axes = list(exchange.axes());
    let rest = match exchange {
        Exchange::AllReduce { reduce: Reduce::Sum, .. } => "reduce=sum".to_owned(),
        Exchange::AllReduce { reduce: Reduce::Max, .. } => "reduce=max".to_owned(),
        Exchange::ReduceScatter { dimension, .. }
        | Exchange::AllGather { dimension, .. }
        | Exchange::Slice { dimension, .. } => format!("dimension={dimension}"),
        Exchange::AllToAll { gathered, split, .. } => format!("gathered={gathered} split={split}"),
    };
    format!("{} axes={axes} {rest}", exchange.name())
}

fn fragment(text: &mut String, index: usize, fragment: &Fragment) -> fmt::Result {
    write!(text, "fragment {index} {}", quote(&fragment.name))?;
    if let Some(scratch) = fragment.scratch {
        write!(text, " scratch={scratch}")?;
    }
    writeln!(text, " scratch_bound={}", fragment.scratch_bound.0)?;
    for (index, binding) in fragment.bindings.iter().enumerate() {
        writeln!(text, "  binding {index} {} bytes={}", access_name(binding.access), binding.bytes.0)?;
    }
    fragment.kernels.iter().try_for_each(|kernel| self::kernel(text, kernel))
}

pub(super) fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Update => "update",
    }
}

/// Stands before an output.
pub(super) fn write_mark(write: Write) -> &'static str {
    match write {
        Write::Replace => "",
        Write::Accumulate => "+",
    }
}

fn kernel(text: &mut String, kernel: &Kernel) -> fmt::Result {
    write!(text, "  kernel {}", op::print(&kernel.op))?;
    kernel.inputs.iter().try_for_each(|input| write!(text, " {}", operand(input)))?;
    text.push_str(" ->");
    for output in &kernel.outputs {
        write!(text, " {}{}", write_mark(output.write), operand(&output.operand))?;
    }
    for offset in &kernel.offsets {
        write!(text, " offset={}:{}*{}", offset.letter, list(&offset.axes), offset.step)?;
    }
    if let Some(workspace) = &kernel.workspace {
        write!(text, " workspace={}", operand(workspace))?;
    }
    text.push('\n');
    Ok(())
}

fn operand(operand: &Operand) -> String {
    let offset = if operand.offset == 0 { String::new() } else { format!("+{}", operand.offset) };
    let sizes: Vec<String> = operand.dimensions.iter().map(|(letter, size)| format!("{letter}={size}")).collect();
    format!("@{}{offset}:{}{}", operand.binding, operand.element.name(), list(&sizes))
}

fn transfer(text: &mut String, index: usize, transfer: &Transfer) -> fmt::Result {
    let Transfer { from, to, direction, microbatch, layer } = transfer;
    write!(text, "transfer {index} r{} r{} {}", from.0, to.0, direction_name(*direction))?;
    if let Some(microbatch) = microbatch {
        write!(text, " m{microbatch}")?;
    }
    writeln!(text, " L{layer}")
}

pub(super) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    }
}

fn role(text: &mut String, draft: &Draft, role: &Role) -> fmt::Result {
    let Role { id, stages, arena, live_bound, .. } = role;
    let stages = list(&stages.iter().map(|stage| stage.0).collect::<Vec<_>>());
    write!(text, "role {} stages={stages} arena={} live_bound={}", id.0, arena.0, live_bound.0)?;
    writeln!(text, "  # {arena}, {live_bound} alive at most")?;
    for (index, buffer) in role.buffers.iter().enumerate() {
        let Buffer { bytes, address, content } = buffer;
        writeln!(text, "  buffer {index} address={address} bytes={} {}", bytes.0, self::content(content))?;
    }
    role.code.iter().try_for_each(|instr| instruction(text, draft, role, instr))
}

fn content(content: &Content) -> String {
    let part = |part: &Part| match part {
        Part::Whole => "whole",
        Part::Share => "share",
    };
    let rows = |rows: &Rows| {
        let axes = list(&rows.axes);
        format!("microbatch={} axes={axes} sequences={}", rows.microbatch, rows.sequences)
    };
    match content {
        Content::Value => "value".to_owned(),
        Content::Boundary => "boundary".to_owned(),
        Content::Scalars => "scalars".to_owned(),
        Content::Constants => "constants".to_owned(),
        Content::Tokens(tokens) => format!("tokens {}", rows(tokens)),
        Content::Patches { rows: of, numbers } => format!("patches {} numbers={numbers}", rows(of)),
        Content::Source { rows: of, numbers } => format!("source {} numbers={numbers}", rows(of)),
        Content::Targets(targets) => format!("targets {}", rows(targets)),
        Content::Parameters { block, part: of } => format!("parameters block={} part={}", block.0, part(of)),
        Content::Master { block, part: of } => format!("master block={} part={}", block.0, part(of)),
        Content::FirstMoment { block, part: of } => format!("first-moment block={} part={}", block.0, part(of)),
        Content::SecondMoment { block, part: of } => format!("second-moment block={} part={}", block.0, part(of)),
    }
}

/// Columns are at least so wide.
const STREAM_WIDTH: usize = 18;
const SPAN_WIDTH: usize = 10;
const ACTION_WIDTH: usize = 25;

fn instruction(text: &mut String, draft: &Draft, role: &Role, instr: &Instr) -> fmt::Result {
    let (start, count) = instr.operands;
    let operands = role.operand_list.iter().skip(start as usize).take(usize::from(count)).copied();
    let operands: Vec<BufferId> = operands.collect();
    // How many are read before the first of those that are only written; where they are mixed there is no arrow.
    let (action, read_count, remark) = match instr.action {
        Action::Compute(id) => {
            let fragment = draft.fragments.get(id.index());
            let accesses = || fragment.into_iter().flat_map(|_| instr.accesses(&draft.fragments));
            let read_count = accesses().take_while(|&access| access != Access::Write).count();
            let is_mixed = accesses().skip(read_count).any(|access| access != Access::Write);
            let remark = fragment.map(|fragment| quote(&fragment.name));
            (format!("run f{}", id.0), if is_mixed { usize::MAX } else { read_count }, remark)
        }
        Action::Exchange(id) => {
            let remark = draft.collectives.get(id.index()).map(|collective| moved(draft, collective));
            (format!("exchange c{}", id.0), 1, remark)
        }
        Action::Send(id) => (format!("send t{}", id.0), 1, carried(draft, id, bytes(role, &operands))),
        Action::Receive(id) => (format!("receive t{}", id.0), 0, carried(draft, id, bytes(role, &operands))),
        Action::Free => ("free".to_owned(), 1, bytes(role, &operands)),
        Action::Signal(event) => (format!("signal e{}", event.0), 0, None),
        Action::Wait(event) => (format!("wait e{}", event.0), 0, None),
    };
    let mut line = action;
    for (place, id) in operands.iter().enumerate() {
        let arrow = if place == read_count { "-> " } else { "" };
        write!(line, " {arrow}b{}", id.0)?;
    }
    let [stream, span] = [instr.stream.name().to_owned(), instr.span.to_string()];
    write!(text, "  {stream:<STREAM_WIDTH$} {span:<SPAN_WIDTH$} ")?;
    match remark {
        Some(remark) => writeln!(text, "{line:<ACTION_WIDTH$} # {remark}"),
        None => writeln!(text, "{line}"),
    }
}

/// What a transfer carries and who is at its ends, for the reader.
fn carried(draft: &Draft, id: TransferId, bytes: Option<String>) -> Option<String> {
    let Transfer { from, to, .. } = draft.transfers.get(id.index())?;
    Some(format!("{}, r{} to r{}", bytes?, from.0, to.0))
}

fn bytes(role: &Role, operands: &[BufferId]) -> Option<String> {
    let buffer = role.buffers.get(operands.first()?.index())?;
    Some(buffer.bytes.to_string())
}

fn moved(draft: &Draft, collective: &Collective) -> String {
    let sizes = collective.exchange.axes().iter().map(|&axis| draft.mesh.sizes().get(axis).copied().unwrap_or(0));
    let ranks = sizes.fold(1, u32::saturating_mul);
    let elements = collective.shape.iter().copied().fold(collective.element.bytes(), u64::saturating_mul);
    format!("{} {} among {ranks}", collective.exchange.name(), Bytes(elements))
}
