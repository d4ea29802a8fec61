//! Kernels on numbers of 16 bits: computed in 32, and each result rounded once.

use ir::graph::Element;
use ir::mesh::Mesh;
use ir::op::{Op, Write};
use ir::program::{Action, Content, Kernel, Operand, Output, StepSize, Stream};
use kernels::bf16::Bf16;

use super::builder::Builder;
use super::{TOKEN, bits, read, read_short, verified, write, write_short};
use crate::session::Backend;

/// Rows, what is summed over, columns.
const SIZES: [u64; 3] = [3, 5, 2];

fn operand(binding: u16, element: Element, letters: &str) -> Operand {
    let size = |letter| SIZES["bhf".find(letter).expect("a letter of this test")];
    Operand { binding, offset: 0, element, dimensions: letters.chars().map(|letter| (letter, size(letter))).collect() }
}

fn kernel(op: Op, inputs: &[Operand], output: (Operand, Write)) -> Kernel {
    let outputs = vec![Output { operand: output.0, write: output.1 }];
    Kernel { op, inputs: inputs.to_vec(), outputs, offsets: Vec::new(), workspace: None }
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| Bf16::rounded(value).widened()).collect()
}

#[test]
fn results_are_added_to_in_32_bits_and_rounded_once_in_16() {
    let [rows, inner, columns] = SIZES;
    // Whole numbers, of which sums of products are exact in 32 bits and need more than the 8 that 16 bits have.
    let a: Vec<f32> = (0..rows * inner).map(|index| (7 + 3 * index % 41) as f32).collect();
    let b: Vec<f32> = (0..columns * inner).map(|index| (5 + 11 * index % 37) as f32).collect();
    let product: Vec<f32> = (0..(rows * columns) as usize)
        .map(|index| {
            let (row, column) = (index / columns as usize * inner as usize, index % columns as usize * inner as usize);
            (0..inner as usize).map(|i| a[row + i] * b[column + i]).sum()
        })
        .collect();
    let mut builder = Builder::new(&Mesh::new(1, &[]), StepSize { microbatches: 1, sequences: 1, sequence: 1 });
    let factors = [operand(0, Element::Bf16, "bh"), operand(1, Element::Bf16, "fh")];
    let [long, short] = [Element::F32, Element::Bf16].map(|element| operand(2, element, "bf"));
    let adds = builder.fragment_of(kernel(Op::MatMul, &factors, (long, Write::Accumulate)));
    let replaces = builder.fragment_of(kernel(Op::MatMul, &factors, (short.clone(), Write::Replace)));
    // x + y in the memory of x.
    let [x, y] = [0, 1].map(|binding| Operand { binding, ..short.clone() });
    let in_place = builder.fragment_of(kernel(Op::Add, &[x.clone(), y], (x, Write::Replace)));
    let [a_id, b_id, sum, result] =
        [rows * inner, columns * inner, 6, 6].map(|size| builder.buffer(0, size, Content::Boundary));
    builder.push(0, Stream::Compute, Action::Compute(adds), &[a_id, b_id, sum]);
    builder.push(0, Stream::Compute, Action::Compute(replaces), &[a_id, b_id, result]);
    builder.push(0, Stream::Compute, Action::Compute(in_place), &[result, a_id]);
    let draft = builder.finish();
    for backend in [Backend::Shuffle { seed: 1 }, Backend::Threads] {
        let mut session = verified(&draft, backend);
        write_short(&mut session, 0, a_id, &a);
        write_short(&mut session, 0, b_id, &b);
        write(&mut session, 0, sum, &[0.5; 6]);
        session.step(TOKEN).unwrap();
        let expected: Vec<f32> = product.iter().map(|value| value + 0.5).collect();
        assert_eq!(read(&session, 0, sum, 6), expected);
        assert_ne!(rounded(&product), product, "the sums need more than 8 bits");
        let expected: Vec<f32> = rounded(&product).iter().zip(&a).map(|(x, y)| x + y).collect();
        assert_eq!(bits(&read_short(&session, 0, result, 6)), bits(&rounded(&expected)));
    }
}
