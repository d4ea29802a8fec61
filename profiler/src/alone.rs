//! One rank of a program alone, kernel by kernel: exchanges and transfers are left out, and every kernel becomes an
//! instruction, so that a trace times it where it stands.
//!
//! All runs on the compute stream in the order of the code, which is the order in which memory was placed. Where
//! something is read that only an exchange or a left-out kernel would have written, zeros are written first.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::{Element, Init};
use ir::mesh::Mesh;
use ir::op::{Op, Write};
use ir::profile::Work;
use ir::program::*;
use ir::units::Bytes;

/// What parameters and other residents start with: no zeros, so that the system gives them memory of their own.
const START: f64 = 0.01;

/// A program for ranks that have nothing to do with each other.
#[derive(Clone, Debug)]
pub(crate) struct Alone {
    pub(crate) draft: Draft,
    /// What each fragment measures; none for those that only write zeros.
    pub(crate) works: Vec<Option<Work>>,
}

/// What residents hold before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residents {
    /// One number everywhere: enough for processors whose speed does not depend on numbers.
    Constant,
    /// Whatever the session gives them; second moments are marked, as they are never negative.
    Noise,
}

/// The first role of `programs` on `ranks` ranks side by side, without the instructions that are not to be kept.
pub(crate) fn alone(programs: &Programs, ranks: u32, residents: Residents, keep: &dyn Fn(&Instr) -> bool) -> Alone {
    let source = programs.draft();
    let role = &source.roles[0];
    let mut split = Split { source, fragments: Vec::new(), works: Vec::new(), parts: BTreeMap::new() };
    let mut writer = Writer::new(role);
    for instr in &role.code {
        let operands = role.operands(instr);
        match instr.action {
            Action::Compute(id) if keep(instr) => {
                for (part, used) in split.parts(id).clone() {
                    let bound: Vec<BufferId> = used.iter().map(|&binding| operands[usize::from(binding)]).collect();
                    writer.compute(&mut split, instr.span, part, &bound);
                }
            }
            Action::Free => writer.free(instr.span, operands[0]),
            Action::Compute(_)
            | Action::Exchange(_)
            | Action::Send(_)
            | Action::Receive(_)
            | Action::Signal(_)
            | Action::Wait(_) => {}
        }
    }
    // The axes of the source stay, with one rank each; one more has the ranks.
    let mut factors = vec![1; source.mesh.sizes().len() - 1];
    factors.push(ranks);
    let mut blocks = Vec::new();
    let (role, sequences) = writer.finish(residents, &mut blocks);
    let mesh = Mesh::new(1, &factors);
    let draft = Draft {
        role_of: Draft::roles_along(&mesh),
        mesh,
        step: StepSize { sequences: sequences.unwrap_or(1), ..source.step },
        fragments: split.fragments,
        collectives: Vec::new(),
        blocks,
        transfers: Vec::new(),
        roles: vec![role],
    };
    Alone { draft, works: split.works }
}

/// A resident buffer's content: a block of its own, which starts with the same number everywhere.
pub(crate) fn resident(bytes: Bytes, blocks: &mut Vec<Block>) -> Content {
    let length = bytes.0 / Element::F32.bytes();
    let parameter = BlockParameter {
        name: format!("resident {}", blocks.len()),
        first: 0,
        init: Init::Constant { value: START },
        dimensions: vec![(length, Vec::new())],
    };
    let parameters = vec![parameter];
    blocks.push(Block { layer: 0, parameters, decayed: 0, length, padded: length, shard: Vec::new() });
    Content::Parameters { block: BlockId(blocks.len() as u32 - 1), part: Part::Whole }
}

impl Residents {
    /// The content of a resident buffer.
    fn content(self, buffer: &Buffer, blocks: &mut Vec<Block>) -> Content {
        match (self, &buffer.content) {
            (Residents::Constant, _) => resident(buffer.bytes, blocks),
            (Residents::Noise, Content::SecondMoment { .. }) => {
                let length = buffer.bytes.0 / Element::F32.bytes();
                let (parameters, shard) = (Vec::new(), Vec::new());
                blocks.push(Block { layer: 0, parameters, decayed: 0, length, padded: length, shard });
                Content::SecondMoment { block: BlockId(blocks.len() as u32 - 1), part: Part::Whole }
            }
            (Residents::Noise, _) => Content::Boundary,
        }
    }
}

/// A fragment of one kernel, and which bindings of the source it uses.
type Cut = (FragmentId, Vec<u16>);

/// Fragments cut into kernels.
struct Split<'a> {
    source: &'a Draft,
    fragments: Vec<Fragment>,
    works: Vec<Option<Work>>,
    parts: BTreeMap<FragmentId, Vec<Cut>>,
}

impl Split<'_> {
    fn parts(&mut self, id: FragmentId) -> &Vec<Cut> {
        if !self.parts.contains_key(&id) {
            let fragment = &self.source.fragments[id.index()];
            let parts = fragment.kernels.iter().map(|kernel| {
                let (part, used) = cut(fragment, kernel);
                self.fragments.push(part);
                self.works.push(Some(kernel.work()));
                (FragmentId(self.fragments.len() as u32 - 1), used)
            });
            let parts = parts.collect();
            self.parts.insert(id, parts);
        }
        &self.parts[&id]
    }

    /// A fragment that writes zeros to a buffer.
    fn fill(&mut self, bytes: Bytes) -> FragmentId {
        let is_it =
            |(fragment, work): (&Fragment, &Option<Work>)| work.is_none() && fragment.bindings[0].bytes == bytes;
        let known = self.fragments.iter().zip(&self.works).position(is_it);
        let index = known.unwrap_or_else(|| {
            self.fragments.push(fill(bytes));
            self.works.push(None);
            self.fragments.len() - 1
        });
        FragmentId(index as u32)
    }
}

/// A fragment that writes zeros to a buffer of so many bytes.
pub(crate) fn fill(bytes: Bytes) -> Fragment {
    Fragment::of("fill", zeros(0, bytes))
}

/// Zeros in a binding of so many bytes.
pub(crate) fn zeros(binding: u16, bytes: Bytes) -> Kernel {
    let dimensions = vec![('n', bytes.0 / Element::F32.bytes())];
    let operand = Operand { binding, offset: 0, element: Element::F32, dimensions };
    let output = Output { operand, write: Write::Replace };
    Kernel { op: Op::Zero, inputs: Vec::new(), outputs: vec![output], offsets: Vec::new(), workspace: None }
}

/// One kernel of a fragment as a fragment, and which of its bindings it keeps.
pub(crate) fn cut(fragment: &Fragment, kernel: &Kernel) -> (Fragment, Vec<u16>) {
    let used: BTreeSet<u16> = kernel.operands().chain(&kernel.workspace).map(|operand| operand.binding).collect();
    let used: Vec<u16> = used.into_iter().collect();
    let place = |binding: u16| used.iter().position(|&other| other == binding).expect("it is used") as u16;
    let moved = |operand: &Operand| Operand { binding: place(operand.binding), ..operand.clone() };
    let output = |output: &Output| Output { operand: moved(&output.operand), write: output.write };
    let alone = Kernel {
        inputs: kernel.inputs.iter().map(moved).collect(),
        outputs: kernel.outputs.iter().map(output).collect(),
        workspace: kernel.workspace.as_ref().map(moved),
        ..kernel.clone()
    };
    let mut part = Fragment::of(kernel.op.name(), alone);
    for (own, &binding) in part.bindings.iter_mut().zip(&used) {
        own.bytes = fragment.bindings[usize::from(binding)].bytes;
    }
    (part, used)
}

/// Writes the code of the one role, and keeps an eye on what lives.
struct Writer<'a> {
    source: &'a Role,
    code: Vec<Instr>,
    operand_list: Vec<BufferId>,
    alive: Vec<bool>,
    used: Vec<bool>,
    live: Bytes,
    live_bound: Bytes,
}

impl<'a> Writer<'a> {
    fn new(source: &'a Role) -> Writer<'a> {
        let alive: Vec<bool> = source.buffers.iter().map(Buffer::is_resident).collect();
        let live: Bytes = source.buffers.iter().filter(|buffer| buffer.is_resident()).map(|buffer| buffer.bytes).sum();
        let (code, operand_list) = (Vec::new(), Vec::new());
        Writer { source, code, operand_list, used: alive.clone(), alive, live, live_bound: live }
    }

    fn compute(&mut self, split: &mut Split<'_>, span: Span, id: FragmentId, bound: &[BufferId]) {
        let accesses: Vec<Access> = split.fragments[id.index()].bindings.iter().map(|binding| binding.access).collect();
        for (&buffer, access) in bound.iter().zip(accesses) {
            if self.alive[buffer.index()] {
                continue;
            }
            let bytes = self.source.buffers[buffer.index()].bytes;
            if access != Access::Write {
                let fill = split.fill(bytes);
                self.push(span, Action::Compute(fill), &[buffer]);
            }
            self.alive[buffer.index()] = true;
            self.used[buffer.index()] = true;
            self.live += bytes;
            self.live_bound = self.live_bound.max(self.live);
        }
        self.push(span, Action::Compute(id), bound);
    }

    fn free(&mut self, span: Span, buffer: BufferId) {
        if std::mem::replace(&mut self.alive[buffer.index()], false) {
            self.live = self.live.saturating_sub(self.source.buffers[buffer.index()].bytes);
            self.push(span, Action::Free, &[buffer]);
        }
    }

    fn push(&mut self, span: Span, action: Action, operands: &[BufferId]) {
        let range = (self.operand_list.len() as u32, operands.len() as u16);
        self.operand_list.extend_from_slice(operands);
        self.code.push(Instr { stream: Stream::Compute, span, action, operands: range });
    }

    /// The role with the buffers that are used, and how many sequences its tokens have.
    fn finish(mut self, residents: Residents, blocks: &mut Vec<Block>) -> (Role, Option<u64>) {
        let mut sequences = None;
        let mut buffers = Vec::new();
        let mut places = Vec::new();
        for (buffer, used) in self.source.buffers.iter().zip(&self.used) {
            places.push(BufferId(buffers.len() as u32));
            if !used {
                continue;
            }
            let content = match &buffer.content {
                Content::Value | Content::Scalars | Content::Constants => buffer.content.clone(),
                Content::Tokens(rows) | Content::Targets(rows) | Content::Source { rows, .. } => {
                    sequences = Some(rows.sequences);
                    buffer.content.clone()
                }
                // Noise does as well.
                Content::Patches { rows, .. } => {
                    sequences = Some(rows.sequences);
                    Content::Boundary
                }
                Content::Parameters { .. }
                | Content::Master { .. }
                | Content::FirstMoment { .. }
                | Content::SecondMoment { .. }
                | Content::Boundary => residents.content(buffer, blocks),
            };
            buffers.push(Buffer { content, ..buffer.clone() });
        }
        for operand in &mut self.operand_list {
            *operand = places[operand.index()];
        }
        let Writer { source, code, operand_list, live_bound, .. } = self;
        (
            Role {
                id: RoleId(0),
                stages: source.stages.clone(),
                buffers,
                code,
                operand_list,
                arena: source.arena,
                live_bound,
            },
            sequences,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{cluster, small};
    use crate::catalogue::{Catalogue, Section};

    #[test]
    fn every_section_of_every_excerpt_is_a_valid_program_with_all_its_kernels() {
        for excerpt in &Catalogue::of_model(&small(), &cluster(4)).excerpts {
            for sections in [vec![Section::Passes, Section::Update], vec![Section::Passes], vec![Section::Update]] {
                let program = alone(&excerpt.programs, 2, Residents::Constant, &|instr| {
                    sections.contains(&Section::of(instr.span.phase))
                });
                let wanted = excerpt.kernels.iter().filter(|(section, _)| sections.contains(section));
                let wanted: BTreeSet<&Work> = wanted.map(|(_, work)| work).collect();
                assert_eq!(program.works.iter().flatten().collect::<BTreeSet<_>>(), wanted);
                if let Err(violations) = Programs::verified(program.draft, Bytes(u64::MAX)) {
                    panic!("{sections:?}: {violations:#?}");
                }
            }
        }
    }
}
