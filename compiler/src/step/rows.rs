//! Buffers of what layers read from outside of the model.

use ir::graph::{Class, Element, LayerId, Tensor};
use ir::mesh::AxisSet;
use ir::program::{Content, Rows};
use ir::units::Bytes;

use crate::step::emit::Emitter;

impl Emitter<'_> {
    /// Makes the buffers of tokens and targets.
    pub(crate) fn add_rows(&mut self) {
        let graph = self.job.setting.graph;
        for microbatch in 0..self.job.plan.microbatches as u16 {
            for layer in self.facts.layers.clone().filter(|&layer| graph.kind(LayerId(layer)).reads_rows()) {
                let (content, bytes) = self.rows(microbatch, layer);
                let buffer = self.writer.buffer(bytes, content);
                self.rows.insert((layer, microbatch), buffer);
            }
        }
    }

    /// A rank's rows of what a layer reads from outside of the model, and what they take.
    fn rows(&self, microbatch: u16, layer: u32) -> (Content, Bytes) {
        let axes = self.job.layers.layer(layer).axes.data.clone();
        let data: AxisSet = axes.iter().copied().collect();
        let sequences = self.job.setting.sequences / u64::from(self.job.setting.mesh.extent(data));
        let rows = Rows { microbatch, axes, sequences };
        let kind = self.job.setting.graph.kind(LayerId(layer));
        let numbers = |tensor: &Tensor| tensor.dimensions[1..].iter().map(|letter| kind.sizes[letter]).product::<u64>();
        let found = kind.tensors.iter().find_map(|tensor| match tensor.class {
            Class::Tokens => Some((Content::Tokens(rows.clone()), numbers(tensor) * Element::I32.bytes())),
            Class::Targets => Some((Content::Targets(rows.clone()), numbers(tensor) * Element::I32.bytes())),
            Class::Source => {
                let content = Content::Source { rows: rows.clone(), numbers: numbers(tensor) };
                Some((content, numbers(tensor) * Element::I32.bytes()))
            }
            Class::Patches => {
                let content = Content::Patches { rows: rows.clone(), numbers: numbers(tensor) };
                Some((content, numbers(tensor) * self.job.setting.compute.bytes()))
            }
            Class::Parameter { .. }
            | Class::ParameterGradient { .. }
            | Class::Activation
            | Class::Statistic
            | Class::Loss => None,
        });
        let (content, row) = found.expect("the layer reads rows");
        (content, Bytes(sequences * row))
    }
}
