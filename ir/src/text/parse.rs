//! Text to programs. Says where it stops understanding; never panics. What it reads need not be right.

use super::print::{access_name, direction_name};
use super::word::{Line, Result, Word};
use super::{TextError, op};
use crate::graph::{Element, Init};
use crate::layout::{Exchange, Reduce};
use crate::mesh::{Axis, Mesh};
use crate::op::Write;
use crate::program::{
    Access, Action, Binding, Block, BlockId, BlockParameter, Buffer, BufferId, Collective, CollectiveId, Content,
    Direction, Draft, EventId, Fragment, FragmentId, Instr, Kernel, Offset, Operand, Output, Part, Phase, Role, RoleId,
    Rows, Span, StageId, StepSize, Stream, Transfer, TransferId,
};
use crate::units::Bytes;

/// The draft of a text that [`super::print`] might have written.
pub fn parse(text: &str) -> std::result::Result<Draft, TextError> {
    let mut lines = Lines::new(text);
    let mut line = lines.take();
    line.expect("programs")?;
    line.expect("format")?;
    line.expect("2")?;
    line.end()?;
    let mut line = lines.take();
    line.expect("mesh")?;
    let mesh = mesh(line.word())?;
    line.end()?;
    let mut line = lines.take();
    line.expect("step")?;
    let step = StepSize {
        microbatches: line.field("microbatches")?.number()?,
        sequences: line.field("sequences")?.number()?,
        sequence: line.field("sequence")?.number()?,
    };
    line.end()?;
    let mut line = lines.take();
    line.expect("ranks")?;
    let role_of = ranks(&mut line)?;
    let mut draft = Draft {
        mesh,
        step,
        fragments: Vec::new(),
        collectives: Vec::new(),
        blocks: Vec::new(),
        transfers: Vec::new(),
        roles: Vec::new(),
        role_of,
    };
    while let Some(line) = lines.take_if("block") {
        draft.blocks.push(block(draft.blocks.len(), line, &mut lines)?);
    }
    while let Some(line) = lines.take_if("collective") {
        draft.collectives.push(collective(draft.collectives.len(), line)?);
    }
    while let Some(line) = lines.take_if("fragment") {
        draft.fragments.push(fragment(draft.fragments.len(), line, &mut lines)?);
    }
    while let Some(line) = lines.take_if("transfer") {
        draft.transfers.push(transfer(draft.transfers.len(), line)?);
    }
    while let Some(line) = lines.take_if("role") {
        draft.roles.push(role(line, &mut lines)?);
    }
    let mut rest = lines.take();
    if rest.is_over() {
        return Ok(draft);
    }
    let mut known =
        vec!["block", "parameter", "collective", "fragment", "binding", "kernel", "transfer", "role", "buffer"];
    known.extend(Stream::ALL.iter().map(|stream| stream.name()));
    Err(rest.word().unknown("the next part: blocks, collectives, fragments, transfers, then roles", &known))
}

/// Lines with words in them.
struct Lines<'a> {
    next: Line<'a>,
    rest: std::iter::Enumerate<std::str::Split<'a, char>>,
    count: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let mut lines = Lines { next: Line::new(1, ""), rest: text.split('\n').enumerate(), count: 0 };
        lines.take();
        lines
    }

    /// The next line; empty at the end.
    fn take(&mut self) -> Line<'a> {
        let next = self.rest.by_ref().map(|(index, text)| Line::new(index + 1, text)).find(|line| {
            self.count += 1;
            !line.is_over()
        });
        let end = Line::new(self.count, "");
        std::mem::replace(&mut self.next, next.unwrap_or(end))
    }

    /// The next line without its first word, if that is `word`.
    fn take_if(&mut self, word: &str) -> Option<Line<'a>> {
        if self.next.peek().text != word {
            return None;
        }
        let mut line = self.take();
        line.word();
        Some(line)
    }
}

fn mesh(word: Word<'_>) -> Result<Mesh> {
    let sizes: Vec<u32> = word.text.split('x').map(|size| word.part(size).number()).collect::<Result<_>>()?;
    match sizes.split_first() {
        Some((&stages, factors)) if factors.len() < 31 => Ok(Mesh::new(stages, factors)),
        Some(_) | None => Err(word.error("at most 31 axes")),
    }
}

/// `4*r0 4*r1`: how many ranks in turn play each role.
fn ranks(line: &mut Line<'_>) -> Result<Vec<RoleId>> {
    let mut role_of = Vec::new();
    while !line.is_over() {
        let (count, role) = line.word().split('*', "ranks and their role, like `4*r0`")?;
        let role = RoleId(role.id("r", "a role like `r0`")?);
        let end = role_of.len() + count.number::<u32>()? as usize;
        if end > RANK_COUNT_MAX {
            return Err(count.error("fewer ranks"));
        }
        role_of.resize(end, role);
    }
    Ok(role_of)
}

/// More ranks than any job has: a damaged text must not ask for all memory.
const RANK_COUNT_MAX: usize = 1 << 24;

/// `0 r0 r1 forward m0 L5`, behind `transfer`.
fn transfer(index: usize, mut line: Line<'_>) -> Result<Transfer> {
    line.index(index)?;
    let from = RoleId(line.word().id("r", "a role like `r0`")?);
    let to = RoleId(line.word().id("r", "a role like `r0`")?);
    let direction = line.word().named("`forward` or `backward`", &Direction::ALL, direction_name)?;
    let has_microbatch = line.peek().text.starts_with('m');
    let microbatch = has_microbatch.then(|| line.word().id("m", "a microbatch like `m0`")).transpose()?;
    let layer = line.word().id("L", "a layer like `L12`")?;
    line.end()?;
    Ok(Transfer { from, to, direction, microbatch, layer })
}

fn axes(word: Word<'_>) -> Result<Vec<usize>> {
    word.list(Word::number)
}

fn block(index: usize, mut line: Line<'_>, lines: &mut Lines<'_>) -> Result<Block> {
    line.index(index)?;
    let mut block = Block {
        layer: line.field("layer")?.number()?,
        parameters: Vec::new(),
        decayed: line.field("decayed")?.number()?,
        length: line.field("length")?.number()?,
        padded: line.field("padded")?.number()?,
        shard: axes(line.field("shard")?)?,
    };
    line.end()?;
    while let Some(mut line) = lines.take_if("parameter") {
        block.parameters.push(BlockParameter {
            name: line.word().quoted()?,
            first: line.field("first")?.number()?,
            init: init(line.field("init")?)?,
            dimensions: line.field("dimensions")?.list(dimension)?,
        });
        line.end()?;
    }
    Ok(block)
}

/// `768/1/2`: a size, and the axes that split it.
fn dimension(word: Word<'_>) -> Result<(u64, Vec<usize>)> {
    let mut parts = word.text.split('/');
    let size = word.part(parts.next().unwrap_or_default()).number()?;
    let axes = parts.map(|axis| word.part(axis).number()).collect::<Result<_>>()?;
    Ok((size, axes))
}

fn init(word: Word<'_>) -> Result<Init> {
    let (kind, rest) = word.split('(', "`normal(…)` or `constant(…)`")?;
    let number = rest.before(")", "a closing parenthesis")?.number()?;
    match kind.text {
        "normal" => Ok(Init::Normal { deviation: number }),
        "constant" => Ok(Init::Constant { value: number }),
        _ => Err(kind.unknown("`normal(…)` or `constant(…)`", &["normal", "constant"])),
    }
}

fn collective(index: usize, mut line: Line<'_>) -> Result<Collective> {
    line.index(index)?;
    let exchange = exchange(&mut line)?;
    let axis = line.field("for")?.named("what it is for", &Axis::ALL, Axis::name)?;
    let shape = line.field("shape")?.list(Word::number)?;
    let element = element(line.word())?;
    line.end()?;
    Ok(Collective { exchange, axis, shape, element })
}

fn exchange(line: &mut Line<'_>) -> Result<Exchange> {
    let name = line.word();
    let names = ["all-reduce", "reduce-scatter", "all-gather", "all-to-all", "slice"];
    if !names.contains(&name.text) {
        return Err(name.unknown("an exchange", &names));
    }
    let axes = axes(line.field("axes")?)?;
    if name.text == "all-reduce" {
        let reduce_name = |reduce| if reduce == Reduce::Sum { "sum" } else { "max" };
        let reduce = line.field("reduce")?.named("`sum` or `max`", &[Reduce::Sum, Reduce::Max], reduce_name)?;
        return Ok(Exchange::AllReduce { axes, reduce });
    }
    if name.text == "all-to-all" {
        let gathered = line.field("gathered")?.number()?;
        return Ok(Exchange::AllToAll { axes, gathered, split: line.field("split")?.number()? });
    }
    let dimension = line.field("dimension")?.number()?;
    Ok(match name.text {
        "reduce-scatter" => Exchange::ReduceScatter { axes, dimension },
        "all-gather" => Exchange::AllGather { axes, dimension },
        _ => Exchange::Slice { axes, dimension },
    })
}

fn element(word: Word<'_>) -> Result<Element> {
    word.named("how numbers are stored", &Element::ALL, Element::name)
}

fn fragment(index: usize, mut line: Line<'_>, lines: &mut Lines<'_>) -> Result<Fragment> {
    line.index(index)?;
    let mut fragment = Fragment {
        name: line.word().quoted()?,
        bindings: Vec::new(),
        kernels: Vec::new(),
        scratch: line.field_if_any("scratch").map(Word::number).transpose()?,
        scratch_bound: Bytes(line.field("scratch_bound")?.number()?),
    };
    line.end()?;
    while let Some(mut line) = lines.take_if("binding") {
        line.index(fragment.bindings.len())?;
        let known = [Access::Read, Access::Write, Access::Update];
        let access = line.word().named("how it is used", &known, access_name)?;
        fragment.bindings.push(Binding { bytes: Bytes(line.field("bytes")?.number()?), access });
        line.end()?;
    }
    while let Some(line) = lines.take_if("kernel") {
        fragment.kernels.push(kernel(line)?);
    }
    Ok(fragment)
}

fn kernel(mut line: Line<'_>) -> Result<Kernel> {
    let op = op::parse(&mut line)?;
    let inputs = operands(&mut line)?;
    line.expect("->")?;
    let outputs = outputs(&mut line)?;
    let mut offsets = Vec::new();
    while let Some(word) = line.field_if_any("offset") {
        offsets.push(offset(word)?);
    }
    let workspace = line.field_if_any("workspace").map(operand).transpose()?;
    line.end()?;
    Ok(Kernel { op, inputs, outputs, offsets, workspace })
}

fn operands(line: &mut Line<'_>) -> Result<Vec<Operand>> {
    let mut operands = Vec::new();
    while line.peek().text.starts_with('@') {
        operands.push(operand(line.word())?);
    }
    Ok(operands)
}

/// Operands; a `+` before one says that the result is added to it.
fn outputs(line: &mut Line<'_>) -> Result<Vec<Output>> {
    let mut outputs = Vec::new();
    while line.peek().text.starts_with(['@', '+']) {
        let word = line.word();
        let (text, write) = match word.text.strip_prefix('+') {
            Some(text) => (text, Write::Accumulate),
            None => (word.text, Write::Replace),
        };
        outputs.push(Output { operand: operand(word.part(text))?, write });
    }
    Ok(outputs)
}

/// `@2+256:f32[b=2,h=64]`.
fn operand(word: Word<'_>) -> Result<Operand> {
    let expected = "an operand like `@2+256:f32[b=2,h=64]`";
    let (place, rest) = word.behind("@", expected)?.split(':', expected)?;
    let (binding, offset) = match place.text.split_once('+') {
        Some((binding, offset)) => (place.part(binding).number()?, place.part(offset).number()?),
        None => (place.number()?, 0),
    };
    let (name, _) = rest.split('[', expected)?;
    let dimensions = rest.part(&rest.text[name.text.len()..]).list(|word| {
        let (name, size) = word.split('=', "a letter and a size")?;
        Ok((letter(name)?, size.number()?))
    })?;
    Ok(Operand { binding, offset, element: element(name)?, dimensions })
}

fn letter(word: Word<'_>) -> Result<char> {
    word.number()
}

/// `v:[1,2]*64`.
fn offset(word: Word<'_>) -> Result<Offset> {
    let expected = "an offset like `v:[1,2]*64`";
    let (name, rest) = word.split(':', expected)?;
    let (list, step) = rest.split('*', expected)?;
    Ok(Offset { letter: letter(name)?, axes: axes(list)?, step: step.number()? })
}

fn role(mut line: Line<'_>, lines: &mut Lines<'_>) -> Result<Role> {
    let mut role = Role {
        id: RoleId(line.word().number()?),
        stages: line.field("stages")?.list(|word| Ok(StageId(word.number()?)))?,
        buffers: Vec::new(),
        code: Vec::new(),
        operand_list: Vec::new(),
        arena: Bytes(line.field("arena")?.number()?),
        live_bound: Bytes(line.field("live_bound")?.number()?),
    };
    line.end()?;
    while let Some(mut line) = lines.take_if("buffer") {
        line.index(role.buffers.len())?;
        role.buffers.push(Buffer {
            address: line.field("address")?.number()?,
            bytes: Bytes(line.field("bytes")?.number()?),
            content: content(&mut line)?,
        });
        line.end()?;
    }
    while let Some(stream) = Stream::ALL.into_iter().find(|stream| stream.name() == lines.next.peek().text) {
        let mut line = lines.take();
        line.word();
        instruction(stream, line, &mut role)?;
    }
    Ok(role)
}

fn content(line: &mut Line<'_>) -> Result<Content> {
    let names = [
        "value",
        "boundary",
        "scalars",
        "constants",
        "tokens",
        "patches",
        "source",
        "targets",
        "parameters",
        "master",
        "first-moment",
        "second-moment",
    ];
    let name = line.word();
    let mut kept = || {
        let block = BlockId(line.field("block")?.number()?);
        let part_name = |part| if part == Part::Whole { "whole" } else { "share" };
        let part = line.field("part")?.named("`whole` or `share`", &[Part::Whole, Part::Share], part_name)?;
        Ok((block, part))
    };
    Ok(match name.text {
        "value" => Content::Value,
        "boundary" => Content::Boundary,
        "scalars" => Content::Scalars,
        "constants" => Content::Constants,
        "tokens" => Content::Tokens(rows(line)?),
        "patches" => Content::Patches { rows: rows(line)?, numbers: line.field("numbers")?.number()? },
        "source" => Content::Source { rows: rows(line)?, numbers: line.field("numbers")?.number()? },
        "targets" => Content::Targets(rows(line)?),
        "parameters" => kept().map(|(block, part)| Content::Parameters { block, part })?,
        "master" => kept().map(|(block, part)| Content::Master { block, part })?,
        "first-moment" => kept().map(|(block, part)| Content::FirstMoment { block, part })?,
        "second-moment" => kept().map(|(block, part)| Content::SecondMoment { block, part })?,
        _ => return Err(name.unknown("what it holds", &names)),
    })
}

fn rows(line: &mut Line<'_>) -> Result<Rows> {
    let microbatch = line.field("microbatch")?.number()?;
    let axes = axes(line.field("axes")?)?;
    Ok(Rows { microbatch, axes, sequences: line.field("sequences")?.number()? })
}

/// `m0 L12 F run f3 b0 -> b1`.
fn instruction(stream: Stream, mut line: Line<'_>, role: &mut Role) -> Result<()> {
    let span = span(&mut line)?;
    let action = action(&mut line)?;
    let start = role.operand_list.len();
    while !line.is_over() {
        let word = line.word();
        if word.text != "->" {
            role.operand_list.push(BufferId(word.id("b", "a buffer like `b3`")?));
        }
    }
    let count = role.operand_list.len() - start;
    let operands = u32::try_from(start).ok().zip(u16::try_from(count).ok());
    let operands = operands.ok_or_else(|| line.peek().error("fewer operands"))?;
    role.code.push(Instr { stream, span, action, operands });
    Ok(())
}

fn span(line: &mut Line<'_>) -> Result<Span> {
    let mut part = |letter: char, expected| {
        let is_here = line.peek().text.starts_with(letter);
        is_here.then(|| line.word().id(letter.encode_utf8(&mut [0; 4]), expected)).transpose()
    };
    let microbatch = part('m', "a microbatch like `m0`")?;
    let layer = part('L', "a layer like `L12`")?;
    let phase_name = |phase| match phase {
        Phase::Forward => "F",
        Phase::Backward => "B",
        Phase::Update => "U",
    };
    let known = [Phase::Forward, Phase::Backward, Phase::Update];
    let phase = line.word().named("a span like `m0 L12 F`", &known, phase_name)?;
    Ok(Span { microbatch, layer, phase })
}

fn action(line: &mut Line<'_>) -> Result<Action> {
    let name = line.word();
    Ok(match name.text {
        "run" => Action::Compute(FragmentId(line.word().id("f", "a fragment like `f3`")?)),
        "exchange" => Action::Exchange(CollectiveId(line.word().id("c", "a collective like `c3`")?)),
        "send" => Action::Send(TransferId(line.word().id("t", "a transfer like `t1`")?)),
        "receive" => Action::Receive(TransferId(line.word().id("t", "a transfer like `t1`")?)),
        "free" => Action::Free,
        "signal" => Action::Signal(EventId(line.word().id("e", "an event like `e3`")?)),
        "wait" => Action::Wait(EventId(line.word().id("e", "an event like `e3`")?)),
        _ => {
            let names = ["run", "exchange", "send", "receive", "free", "signal", "wait"];
            return Err(name.unknown("what is done", &names));
        }
    })
}
