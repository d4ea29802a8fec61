//! Which cases there are: every operation at small odd sizes, and at sizes of real models.

use ir::graph::Element;
use ir::op::{Activation, Addend, Norm, NormKind, Op, Pattern, Rotary, Rotation, UPDATE_CONSTANTS, Write};

use super::case::Form;
use crate::random::Random;

/// How large cases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So small that threads may be played one by one.
    Small,
    /// Odd and even sizes of many blocks.
    Medium,
    /// As in training, where speed shows.
    Large,
}

/// Both ways of storing activations.
const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];
/// No letters: not a product.
const NONE: [&str; 3] = [""; 3];
/// A product forward, its gradient of the input, and of the weight.
const PRODUCTS: [[&str; 3]; 3] = [["bsh", "fh", "bsf"], ["bsf", "fh", "bsh"], ["bsf", "bsh", "fh"]];

/// All cases of an extent, for a seed.
pub fn suite(extent: Extent, seed: u64) -> Vec<Form> {
    let mut suite = Suite { extent, random: Random::new(seed), forms: Vec::new() };
    for element in ELEMENTS {
        suite.rows(element);
        suite.norms(element);
        suite.wide(element);
        suite.attention(element);
        suite.loss(element);
        suite.updates(element);
        suite.products(element);
    }
    suite.forms
}

struct Suite {
    extent: Extent,
    random: Random,
    forms: Vec<Form>,
}

impl Suite {
    /// The number for this extent; the medium one is drawn from a range.
    fn of(&mut self, small: u64, medium: (u64, u64), large: u64) -> u64 {
        match self.extent {
            Extent::Small => small,
            Extent::Medium => medium.0 + self.random.next() % (medium.1 - medium.0 + 1),
            Extent::Large => large,
        }
    }

    fn push(&mut self, (op, element): (Op, Element), write: Write, sizes: &[(char, u64)]) {
        self.push_shifted((op, element), write, sizes, 0);
    }

    fn push_shifted(&mut self, (op, element): (Op, Element), write: Write, sizes: &[(char, u64)], shift: u64) {
        let (seed, sizes) = (self.random.next(), sizes.to_vec());
        self.forms.push(Form { op, element, write, addend: Addend::Absent, sizes, product: NONE, shift, seed });
    }

    /// The last form again, with an addend.
    fn again_with_addend(&mut self) {
        let seed = self.random.next();
        let last = self.forms.last().expect("a form was pushed").clone();
        self.forms.push(Form { addend: Addend::Present, seed, ..last });
    }

    /// Once, and where speed is not looked at also with operands off 16 bytes.
    fn both(&mut self, what: (Op, Element), write: Write, sizes: &[(char, u64)]) {
        self.push(what, write, sizes);
        if self.extent != Extent::Large {
            self.push_shifted(what, write, sizes, 3);
        }
    }

    /// Tables and sums.
    fn rows(&mut self, element: Element) {
        for is_odd in [0, 1] {
            let b = self.of(2, (2, 5), 2);
            let s = self.of(5, (100, 300), 4096);
            let h = self.of(24, (20, 60), 512) * 8 + is_odd * 3;
            let v = self.of(7, (100, 900), 50257);
            let sizes = [('b', b), ('s', s), ('h', h), ('v', v), ('p', s + 3 + is_odd)];
            self.both((Op::Embed, element), Write::Replace, &sizes);
            self.both((Op::EmbedGradient, element), Write::Replace, &sizes);
            self.push((Op::EmbedGradient, element), Write::Accumulate, &sizes);
            self.both((Op::Position, element), Write::Replace, &sizes);
            self.both((Op::PositionGradient, element), Write::Replace, &sizes);
            self.push((Op::PositionGradient, element), Write::Accumulate, &sizes);
            self.both((Op::Add, element), Write::Replace, &sizes);
        }
    }

    fn norms(&mut self, element: Element) {
        let widths = match self.extent {
            Extent::Small => vec![40, 35],
            Extent::Medium => vec![768, 2048, 1000 + self.random.next() % 500, 8192, 12_288],
            Extent::Large => vec![1024, 4096, 8192],
        };
        for h in widths {
            let (b, s) = (self.of(1, (1, 3), 2), self.of(9, (300, 700), 4096));
            let sizes = [('b', b), ('s', s), ('h', h)];
            for kind in [NormKind::Layer, NormKind::RootMeanSquare] {
                let norm = Norm { kind, epsilon: 1e-5 };
                self.both((Op::Norm(norm), element), Write::Replace, &sizes);
                self.both((Op::NormGradient(norm), element), Write::Replace, &sizes);
                self.again_with_addend();
                self.push((Op::NormGradient(norm), element), Write::Accumulate, &sizes);
                self.again_with_addend();
            }
        }
    }

    /// The feed-forward block.
    fn wide(&mut self, element: Element) {
        for is_odd in [0, 1] {
            let (b, s) = (self.of(1, (1, 4), 2), self.of(70, (200, 600), 4096));
            let f = self.of(5, (50, 300), 1376) * 8 + is_odd * 5;
            let sizes = [('b', b), ('s', s), ('f', f), ('e', 2)];
            for activation in [Activation::Gelu, Activation::SwiGlu] {
                self.both((Op::Activation(activation), element), Write::Replace, &sizes);
                self.both((Op::ActivationGradient(activation), element), Write::Replace, &sizes);
            }
            self.both((Op::Bias, element), Write::Replace, &sizes);
            self.both((Op::BiasGradient, element), Write::Replace, &sizes);
            self.push((Op::BiasGradient, element), Write::Accumulate, &sizes);
        }
    }

    fn attention(&mut self, element: Element) {
        // Sequence, groups, queries of a group, head.
        let shapes = match self.extent {
            Extent::Small => vec![(1, 1, 1, 4), (21, 2, 1, 6), (37, 1, 3, 32), (130, 1, 1, 16)],
            Extent::Medium => {
                let s = 200 + self.random.next() % 400;
                vec![
                    (s, 2, 3, 128),
                    (s + 1, 4, 1, 64),
                    (513, 3, 2, 80),
                    (129, 2, 2, 96),
                    (77, 2, 1, 24),
                    (90, 1, 2, 256),
                ]
            }
            Extent::Large => vec![(4096, 4, 4, 128), (4096, 16, 1, 64)],
        };
        for (s, g, r, d) in shapes {
            let is_slow = self.extent == Extent::Large && element == Element::F32;
            let (s, b) = if is_slow { (s / 2, 1) } else { (s, self.of(1, (1, 3), 1)) };
            let sizes = [('b', b), ('s', s), ('g', g), ('r', r), ('c', r + 2), ('d', d)];
            for rotation in [Rotation::Forward, Rotation::Inverse] {
                let rotary = Rotary { base: 10_000.0, scaling: None, rotation };
                self.both((Op::Rotary(rotary), element), Write::Replace, &sizes);
            }
            for pattern in [Pattern::Causal, Pattern::Full] {
                self.push((Op::Attention(pattern), element), Write::Replace, &sizes);
                self.push((Op::AttentionGradient(pattern), element), Write::Replace, &sizes);
                if self.extent == Extent::Small {
                    self.push_shifted((Op::Attention(pattern), element), Write::Replace, &sizes, 3);
                    self.push_shifted((Op::AttentionGradient(pattern), element), Write::Replace, &sizes, 3);
                }
            }
        }
    }

    fn loss(&mut self, element: Element) {
        for is_odd in [0, 1] {
            let (b, s) = (self.of(1, (1, 4), 2), self.of(5, (50, 300), 512));
            let v = self.of(90, (100, 900), 6282) * 8 + is_odd;
            let sizes = [('b', b), ('s', s), ('v', v), ('k', 2)];
            self.both((Op::RowMax, element), Write::Replace, &sizes);
            self.both((Op::SumExp, element), Write::Replace, &sizes);
            self.both((Op::CrossEntropyGradient, element), Write::Replace, &sizes);
            self.push((Op::CrossEntropy { replicas: 3 }, Element::F32), Write::Accumulate, &sizes);
        }
    }

    fn updates(&mut self, element: Element) {
        for is_odd in [0, 1] {
            let n = self.of(300, (10_000, 90_000), 1 << 22) * 4 + 3 * is_odd;
            let sizes = [('n', n), ('k', UPDATE_CONSTANTS)];
            // A part that begins at element 5 of a block: some decay, some do not, and the last are padding.
            let update = Op::AdamW { decayed: n / 2, length: n };
            self.both((update, element), Write::Replace, &sizes);
            self.both((Op::SquareSum { replicas: 2 }, element), Write::Accumulate, &sizes);
            self.both((Op::Zero, element), Write::Replace, &sizes);
        }
    }

    fn products(&mut self, element: Element) {
        let shapes = match self.extent {
            Extent::Small => vec![(4, 24, 16), (5, 9, 7)],
            Extent::Medium => vec![(300, 768, 512), (129, 257, 1001)],
            Extent::Large => vec![(2048, 4096, 4096), (512, 2048, 50_257)],
        };
        for (s, h, f) in shapes {
            for product in PRODUCTS {
                let writes =
                    if product[2] == "fh" { vec![Write::Replace, Write::Accumulate] } else { vec![Write::Replace] };
                for write in writes {
                    let (seed, sizes) = (self.random.next(), vec![('b', 2), ('s', s), ('h', h), ('f', f)]);
                    let addend = Addend::Absent;
                    self.forms.push(Form { op: Op::MatMul, element, write, addend, sizes, product, shift: 0, seed });
                    if write == Write::Replace {
                        self.again_with_addend();
                    }
                }
            }
        }
    }
}
