//! What happens inside a fragment: operands lie in their bindings, bindings are used as they say, and nothing that is
//! read was not written or was lost since.

use std::ops::Range;

use super::{Report, Violation, shape};
use crate::mesh::Mesh;
use crate::op::{Op, Write};
use crate::program::{Access, Binding, Fragment, Kernel, Operand};

/// Reports the first thing that is wrong in a fragment.
pub(super) fn check(mesh: &Mesh, index: usize, fragment: &Fragment, report: &mut Report) {
    if let Err(words) = fragment_words(mesh, fragment) {
        report.push(Violation::Fragment { fragment: index, words: format!("{}: {words}", fragment.name) });
    }
}

fn fragment_words(mesh: &Mesh, fragment: &Fragment) -> Result<(), String> {
    let count = fragment.bindings.len();
    if let Some(scratch) = fragment.scratch {
        let Some(binding) = fragment.bindings.get(usize::from(scratch)) else {
            return Err(format!("its scratch is binding {scratch}, but there are only {count}"));
        };
        if fragment.scratch_bound > binding.bytes {
            return Err(format!("{} are alive in its scratch of {}", fragment.scratch_bound, binding.bytes));
        }
        if binding.access != Access::Write {
            return Err(format!("its scratch, binding {scratch}, must be only written: nothing in it outlives it"));
        }
    }
    let mut contents: Vec<Contents> = fragment.bindings.iter().map(Contents::new).collect();
    for (index, kernel) in fragment.kernels.iter().enumerate() {
        kernel_words(mesh, fragment, kernel, &mut contents)
            .map_err(|words| format!("kernel {index} ({}): {words}", kernel.op.name()))?;
    }
    for (index, (binding, contents)) in fragment.bindings.iter().zip(&contents).enumerate() {
        let is_scratch = fragment.scratch.is_some_and(|scratch| usize::from(scratch) == index);
        if binding.access == Access::Write && contents.values.is_empty() && !is_scratch {
            return Err(format!("binding {index} is only written, but no kernel writes it"));
        }
    }
    Ok(())
}

/// Which bytes of a binding hold something; all of them where it is brought.
struct Contents {
    is_brought: bool,
    values: Vec<Range<u64>>,
}

impl Contents {
    fn new(binding: &Binding) -> Contents {
        Contents { is_brought: binding.access != Access::Write, values: Vec::new() }
    }

    fn has(&self, bytes: &Range<u64>) -> bool {
        let mut end = bytes.start;
        // Each round finds a value that goes further, or none.
        while !self.is_brought && end < bytes.end {
            let next = self.values.iter().filter(|value| value.start <= end).map(|value| value.end).max();
            match next.filter(|&next| next > end) {
                Some(next) => end = next,
                None => return false,
            }
        }
        true
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn kernel_words(mesh: &Mesh, fragment: &Fragment, kernel: &Kernel, contents: &mut [Contents]) -> Result<(), String> {
    letters(mesh, kernel)?;
    for operand in kernel.inputs.iter() {
        let bytes = range(fragment, operand)?;
        if !contents[usize::from(operand.binding)].has(&bytes) {
            return Err(format!("reads bytes {bytes:?} of binding {}, which nothing wrote", operand.binding));
        }
    }
    let written: Vec<&Operand> = kernel.results().chain(&kernel.workspace).collect();
    for (index, output) in written.iter().enumerate() {
        let bytes = range(fragment, output)?;
        let binding = output.binding;
        if fragment.bindings[usize::from(binding)].access == Access::Read {
            return Err(format!("writes binding {binding}, which is only read"));
        }
        for other in &written[..index] {
            if other.binding == binding && overlap(&range(fragment, other)?, &bytes) {
                return Err(format!("writes bytes {bytes:?} of binding {binding} twice"));
            }
        }
        let in_place = kernel.op.works_in_place() && index < kernel.outputs.len();
        for input in kernel.inputs.iter().filter(|input| input.binding == binding) {
            let read = range(fragment, input)?;
            if overlap(&read, &bytes) && !(in_place && read == bytes) {
                return Err(format!("writes bytes {bytes:?} of binding {binding} while it reads {read:?}"));
            }
        }
        let adds = kernel.outputs.get(index).is_some_and(|output| output.write == Write::Accumulate);
        let held = &mut contents[usize::from(binding)];
        if adds && !held.has(&bytes) {
            return Err(format!("adds to bytes {bytes:?} of binding {binding}, which nothing wrote"));
        }
        // Values of the scratch have nothing to do with each other: what is written over in part is lost.
        if !adds && fragment.scratch == Some(binding) {
            held.values.retain(|value| !overlap(value, &bytes));
        }
        if index < kernel.outputs.len() {
            held.values.push(bytes);
        }
    }
    Ok(())
}

/// The bytes of an operand in its binding.
fn range(fragment: &Fragment, operand: &Operand) -> Result<Range<u64>, String> {
    let Some(binding) = fragment.bindings.get(usize::from(operand.binding)) else {
        return Err(format!("names binding {}, but there are only {}", operand.binding, fragment.bindings.len()));
    };
    let sizes = operand.dimensions.iter().map(|&(_, size)| size);
    let end =
        shape::product(sizes.chain([operand.element.bytes()])).and_then(|bytes| operand.offset.checked_add(bytes));
    if !operand.offset.is_multiple_of(operand.element.bytes()) {
        return Err(format!("an operand at byte {} is not aligned to its elements", operand.offset));
    }
    match end {
        Some(end) if end <= binding.bytes.0 => Ok(operand.offset..end),
        Some(_) | None => {
            let [binding, bytes] = [u64::from(operand.binding), binding.bytes.0];
            Err(format!("an operand at byte {} ends behind the {bytes} of binding {binding}", operand.offset))
        }
    }
}

/// What is added to the first result is like it, and takes the place of what was there.
fn addend(kernel: &Kernel) -> Result<(), String> {
    let Some(before) = kernel.op.addend() else { return Ok(()) };
    let count = kernel.inputs.len();
    if count != before && count != before + 1 {
        return Err(format!("reads {before} operands, and an addend or none, not {count}"));
    }
    let (Some(addend), Some(result)) = (kernel.addend(), kernel.outputs.first()) else { return Ok(()) };
    if addend.dimensions != result.operand.dimensions || addend.element != result.operand.element {
        return Err("its addend has other dimensions or another element than its result".to_owned());
    }
    if result.write == Write::Accumulate {
        return Err("adds an addend and what is there: one of them must go".to_owned());
    }
    Ok(())
}

/// Each letter has one size, and the kernel knows where its part begins.
fn letters(mesh: &Mesh, kernel: &Kernel) -> Result<(), String> {
    let operands = || kernel.operands().flat_map(|operand| &operand.dimensions);
    let sizes = kernel.sizes();
    for &(letter, size) in operands() {
        if sizes[&letter] != size {
            return Err(format!("{letter} is {size} here and {} there", sizes[&letter]));
        }
    }
    shape::product(sizes.values().copied()).ok_or("is too large to count")?;
    if kernel.op == Op::MatMul && (kernel.inputs.len() < 2 || kernel.outputs.is_empty()) {
        return Err("needs two factors and a result".to_owned());
    }
    addend(kernel)?;
    for &letter in kernel.op.offsets() {
        if !kernel.offsets.iter().any(|offset| offset.letter == letter) {
            return Err(format!("does not know where its part of {letter} begins"));
        }
    }
    for offset in &kernel.offsets {
        shape::axes(mesh, &offset.axes).map_err(|words| format!("offset of {} {words}", offset.letter))?;
    }
    Ok(())
}
