//! Residual sums without a pass of their own, at the beginning of pass 4: where a kernel makes one summand for nobody
//! but the sum, it adds the other one itself. A sum of its own would write the summand, read both, and write again.

use ir::graph::Class;
use ir::op::Op;
use ir::software::ResidualSums;

use crate::layer::fragment::Pass;
use crate::layer::spread::{Step, ValueId, makes};

/// The steps of a pass; sums are taken over by the kernels that can, unless the trainer leaves them apart.
pub(crate) fn fuse(pass: &Pass<'_>) -> Vec<Step> {
    let mut steps = pass.spread.steps.clone();
    if pass.residual_sums == ResidualSums::Apart {
        return steps;
    }
    let mut at = 0;
    while at < steps.len() {
        match fused(pass, &steps, at) {
            Some((maker, kernel)) => {
                steps[maker] = kernel;
                steps.remove(at);
            }
            None => at += 1,
        }
    }
    steps
}

/// If the step at this place is a sum that an earlier kernel can take over: the latest such kernel, and what it becomes.
fn fused(pass: &Pass<'_>, steps: &[Step], at: usize) -> Option<(usize, Step)> {
    let Step::Kernel { op: Op::Add, inputs, outputs } = &steps[at] else { return None };
    let &[a, b] = inputs.as_slice() else { return None };
    let sum = outputs[0];
    let taken = [[a, b], [b, a]].into_iter().filter_map(|[made, addend]| {
        let maker = maker(pass, &steps[..at], made)?;
        let is_alone = reads(steps, made) == 1 && pass.homes.home(made).is_none();
        let is_like = [made, addend].iter().all(|&value| is_activation_like(pass, value, sum));
        (is_alone && is_like && is_there(&steps[..at], addend, maker)).then_some((maker, addend))
    });
    let (maker, addend) = taken.max_by_key(|&(maker, _)| maker)?;
    let Step::Kernel { op, inputs, outputs } = &steps[maker] else { return None };
    let inputs = inputs.iter().copied().chain([addend]).collect();
    let outputs = [sum].into_iter().chain(outputs[1..].iter().copied()).collect();
    Some((maker, Step::Kernel { op: *op, inputs, outputs }))
}

/// The kernel that makes a value as its first result, if it can take one addend more. What an exchange brings has no
/// such kernel: as long as a product is a partial sum, an addend would be added by every rank of the group.
fn maker(pass: &Pass<'_>, steps: &[Step], value: ValueId) -> Option<usize> {
    let place = steps.iter().rposition(|step| makes(step, value))?;
    let Step::Kernel { op, inputs, outputs } = &steps[place] else { return None };
    let is_whole = pass.spread.values[value.0].layout.partial().is_empty();
    (op.addend() == Some(inputs.len()) && outputs[0] == value && is_whole).then_some(place)
}

/// How often a value is read.
fn reads(steps: &[Step], value: ValueId) -> usize {
    let read = |step: &Step| match step {
        Step::Kernel { inputs, .. } => inputs.iter().filter(|&&input| input == value).count(),
        Step::Exchange { source, .. } => usize::from(*source == value),
    };
    steps.iter().map(read).sum()
}

/// Whether a value is written over what was there (gradients of parameters may be added), and is of the dimensions and
/// parts of the sum.
fn is_activation_like(pass: &Pass<'_>, value: ValueId, sum: ValueId) -> bool {
    let [value, sum] = [value, sum].map(|id| &pass.spread.values[id.0]);
    let [tensor, of_sum] = [value, sum].map(|value| &pass.rule.tensors[value.tensor.index()]);
    let is_activation = tensor.class == Class::Activation && of_sum.class == Class::Activation;
    is_activation && tensor.dimensions == of_sum.dimensions && value.layout == sum.layout
}

/// Whether a value is there before the kernel at `place` runs. What an exchange brings may come later than all else
/// that the kernel reads, and would make it wait.
fn is_there(steps: &[Step], value: ValueId, place: usize) -> bool {
    match steps.iter().rposition(|step| makes(step, value)) {
        None => true,
        Some(maker) => maker < place && matches!(steps[maker], Step::Kernel { .. }),
    }
}

#[cfg(test)]
mod tests {
    use ir::graph::{Element, Sizes, Tensor, TensorId};
    use ir::layout::{Exchange, Layout, Reduce};
    use ir::mesh::{Axis, AxisSet, Mesh};
    use ir::op::{Norm, NormKind, Write};
    use ir::software::TensorExchanges;

    use super::*;
    use crate::axes::StrategyAxes;
    use crate::layer::fragment::Slot;
    use crate::layer::homes::Homes;
    use crate::layer::spread::{Rule, Spread, Value};
    use crate::tests::strategy;

    /// Values that outlive the pass.
    struct Kept(Vec<usize>);

    impl Homes for Kept {
        fn home(&self, value: ValueId) -> Option<(Slot, u64)> {
            self.0.contains(&value.0).then_some((Slot::Saved(value.0 as u16), 0))
        }
    }

    /// What is left of steps such as `matmul 0 1 -> 2`. Value i has the i-th dimensions; `+` before them: a gradient of
    /// a parameter; `!`: partial over the one axis.
    fn left(dimensions: &[&str], steps: &[&str], kept: &[usize]) -> Vec<String> {
        let mesh = Mesh::new(1, &[2]);
        let axes = StrategyAxes::new(&mesh, &strategy(2, 1));
        let tensor = |words: &&str| {
            let class = match words.starts_with('+') {
                true => Class::ParameterGradient { of: TensorId(0) },
                false => Class::Activation,
            };
            Tensor { name: String::new(), dimensions: words.trim_start_matches(['+', '!']).chars().collect(), class }
        };
        let tensors: Vec<Tensor> = dimensions.iter().map(tensor).collect();
        let value = |(index, words): (usize, &&str)| {
            let partial = if words.starts_with('!') { AxisSet::only(1) } else { AxisSet::EMPTY };
            let splits = vec![Vec::new(); tensors[index].dimensions.len()];
            Value { tensor: TensorId(index as u32), layout: Layout::new(splits, partial, Reduce::Sum) }
        };
        let spread = Spread {
            values: dimensions.iter().enumerate().map(value).collect(),
            steps: steps.iter().map(|words| step(words)).collect(),
            ..Spread::default()
        };
        let pass = Pass {
            name: String::new(),
            rule: Rule { mesh: &mesh, axes: &axes, tensors: &tensors, exchanges: TensorExchanges::Beside },
            sizes: &Sizes::new(),
            spread: &spread,
            homes: &Kept(kept.to_vec()),
            compute: Element::F32,
            gradients: Write::Accumulate,
            residual_sums: ResidualSums::Fused,
        };
        fuse(&pass).iter().map(words).collect()
    }

    fn step(text: &str) -> Step {
        let (name, operands) = text.split_once(' ').expect("a name and operands");
        let (inputs, outputs) = operands.split_once("->").expect("inputs and outputs");
        let list = |ids: &str| ids.split_whitespace().map(|id| ValueId(id.parse().expect("a number"))).collect();
        let (inputs, outputs): (Vec<ValueId>, Vec<ValueId>) = (list(inputs), list(outputs));
        let norm = Norm { kind: NormKind::RootMeanSquare, epsilon: 1e-5 };
        let op = match name {
            "matmul" => Op::MatMul,
            "add" => Op::Add,
            "rms-norm-gradient" => Op::NormGradient(norm),
            _ => {
                let exchange = Exchange::AllReduce { axes: vec![1], reduce: Reduce::Sum };
                return Step::Exchange { exchange, axis: Axis::Data, source: inputs[0], destination: outputs[0] };
            }
        };
        Step::Kernel { op, inputs, outputs }
    }

    fn words(step: &Step) -> String {
        let (name, inputs, outputs) = match step {
            Step::Kernel { op, inputs, outputs } => (op.name(), inputs.clone(), outputs.clone()),
            Step::Exchange { source, destination, .. } => ("join", vec![*source], vec![*destination]),
        };
        let list = |ids: &[ValueId]| ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(" ");
        format!("{name} {} -> {}", list(&inputs), list(&outputs))
    }

    const PRODUCT: [&str; 5] = ["bs", "sh", "bh", "bh", "bh"];

    #[test]
    fn a_product_and_the_gradient_of_a_norm_take_over_a_sum() {
        assert_eq!(left(&PRODUCT, &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]), ["matmul 0 1 3 -> 4"]);
        assert_eq!(left(&PRODUCT, &["matmul 0 1 -> 2", "add 3 2 -> 4"], &[4]), ["matmul 0 1 3 -> 4"]);
        let steps = ["rms-norm-gradient 0 0 0 0 -> 1 2", "matmul 0 0 -> 5", "add 3 1 -> 4"];
        let fused = ["rms-norm-gradient 0 0 0 0 3 -> 4 2", "matmul 0 0 -> 5"];
        assert_eq!(left(&["bh", "bh", "+h", "bh", "bh", "+h"], &steps, &[2, 4, 5]), fused);
    }

    #[test]
    fn of_two_makers_the_later_one_adds_and_each_adds_once() {
        let steps = ["matmul 0 1 -> 2", "matmul 0 1 -> 3", "add 2 3 -> 4"];
        assert_eq!(
            left(&PRODUCT, &steps, &[4]),
            ["matmul 0 1 -> 2", "matmul 0 1 2 -> 3"].map(|it| it.replace("> 3", "> 4"))
        );
        let steps = ["matmul 0 1 -> 2", "add 2 3 -> 4", "add 4 3 -> 5"];
        assert_eq!(left(&["bs", "sh", "bh", "bh", "bh", "bh"], &steps, &[5]), ["matmul 0 1 3 -> 4", "add 4 3 -> 5"]);
    }

    #[test]
    fn what_must_not_fuse_does_not() {
        let same = |dimensions: &[&str], steps: &[&str], kept: &[usize]| {
            assert_eq!(left(dimensions, steps, kept), steps, "{dimensions:?}");
        };
        // Read twice: by the sum itself, or by another.
        same(&PRODUCT, &["matmul 0 1 -> 2", "add 2 2 -> 4"], &[4]);
        same(&PRODUCT, &["matmul 0 1 -> 2", "add 2 3 -> 4", "matmul 2 1 -> 0"], &[4]);
        // Kept for the backward pass.
        same(&PRODUCT, &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[2, 4]);
        // Of other dimensions.
        same(&["bs", "sh", "hb", "bh", "bh"], &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]);
        same(&["bs", "sh", "bh", "b", "bh"], &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]);
        // Written by adding to what is there.
        same(&["bs", "sh", "+bh", "bh", "bh"], &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]);
        same(&["bs", "sh", "bh", "bh", "+bh"], &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]);
        // A partial sum, which an exchange finishes.
        same(&["bs", "sh", "!bh", "bh", "bh"], &["matmul 0 1 -> 2", "join 2 -> 3", "add 3 0 -> 4"], &[4]);
        same(&["bs", "sh", "!bh", "!bh", "!bh"], &["matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]);
        // The addend comes later, or by an exchange.
        same(&PRODUCT, &["matmul 0 1 -> 2", "rms-norm-gradient 0 0 0 -> 3", "add 2 3 -> 4"], &[4]);
        same(&PRODUCT, &["join 0 -> 3", "matmul 0 1 -> 2", "add 2 3 -> 4"], &[4]);
        // No first result.
        same(&PRODUCT, &["rms-norm-gradient 0 0 0 0 -> 1 2", "add 2 3 -> 4"], &[1, 4]);
    }
}
