//! The update on an accelerator; the idea stands in `adamw.cu`.

use ir::graph::Element;

use super::Step;
use crate::cuda::Error;
use crate::cuda::lowered::{Argument, Launch, Lowered, Place, Request, Source, THREADS, blocks, input, output};

/// What updates read from device memory, so that a recorded step serves every step: as `adamw.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    learning_rate: f32,
    beta1: f32,
    beta2: f32,
    weight_decay: f32,
    gradient_norm_max: f32,
    correction1: f32,
    correction2: f32,
    epsilon: f32,
    rest1: f32,
    rest2: f32,
}

impl Constants {
    /// Those of a step; what the norm of gradients makes of them is computed on the device, so the step's own
    /// coefficient is not used.
    pub fn new(step: &Step, gradient_norm_max: f64) -> Constants {
        let correction = |beta: f64| 1.0 - beta.powf(step.number as f64);
        Constants {
            learning_rate: step.learning_rate as f32,
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            weight_decay: step.weight_decay as f32,
            gradient_norm_max: gradient_norm_max as f32,
            correction1: correction(step.beta1) as f32,
            correction2: correction(step.beta2) as f32,
            epsilon: step.epsilon as f32,
            rest1: (1.0 - step.beta1) as f32,
            rest2: (1.0 - step.beta2) as f32,
        }
    }

    /// The numbers as they lie in memory, to be copied to the device.
    pub fn bytes(&self) -> [u8; size_of::<Constants>()] {
        let Constants { learning_rate, beta1, beta2, weight_decay, gradient_norm_max, .. } = *self;
        let Constants { correction1, correction2, epsilon, rest1, rest2, .. } = *self;
        let first = [learning_rate, beta1, beta2, weight_decay, gradient_norm_max];
        let second = [correction1, correction2, epsilon, rest1, rest2];
        let mut bytes = [0; size_of::<Constants>()];
        for (place, number) in bytes.chunks_exact_mut(size_of::<f32>()).zip(first.into_iter().chain(second)) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

pub(crate) fn lower(request: Request<'_>, decayed: u64, length: u64) -> Result<Lowered, Error> {
    let single = request.kernel.inputs.iter().chain(request.kernel.results().take(3)).collect::<Vec<_>>();
    request.expect(Element::F32, &single)?;
    let copy = match request.kernel.results().nth(3) {
        Some(operand) => {
            request.expect(Element::Bf16, &[operand])?;
            output(3)
        }
        None => Argument::Address(Place::Nowhere),
    };
    let (elements, first) = (request.output(0).elements(), request.offset('n'));
    let end = length.saturating_sub(first).min(elements);
    let last = (request.input(4).elements() - 1) * Element::F32.bytes();
    let has_copy = u64::from(request.kernel.outputs.len() > 3);
    let mut arguments = vec![
        input(0),
        input(1),
        input(2),
        input(3),
        Argument::Address(Place::Input(4, last)),
        Argument::Address(Place::Constants),
        output(0),
        output(1),
        output(2),
        copy,
    ];
    arguments.extend([elements, decayed.saturating_sub(first).min(end), end].map(Argument::Count));
    Ok(Lowered::launch(Launch {
        source: Source::new("adamw/adamw.cu", include_str!("adamw.cu")).number("COPY", has_copy),
        entry: "adamw",
        grid: [blocks(elements, 4), 1, 1],
        block: THREADS,
        shared: 0,
        arguments,
    }))
}
