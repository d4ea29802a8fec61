//! Programs as text: whatever is printed parses back to the same, mistakes are named, and nothing panics.

mod common;

use common::Random;
use hetu_ir::graph::{Element, Init};
use hetu_ir::layout::{Exchange, Reduce};
use hetu_ir::mesh::{Axis, Mesh};
use hetu_ir::op::{Activation, Norm, NormKind, Op, Pattern, Rotary, Rotation, Scaling, Write};
use hetu_ir::program::*;
use hetu_ir::text::{parse, print};
use hetu_ir::units::Bytes;

/// An arbitrary draft: every structure occurs, nothing need be right.
struct Any(Random);

impl Any {
    fn number(&mut self) -> u64 {
        let shift = self.0.below(64);
        self.0.next() >> shift
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    fn float(&mut self) -> f64 {
        let bits = f64::from_bits(self.0.next());
        let known = [0.0, -0.0, 1e-5, 10_000.0, f64::MIN_POSITIVE, f64::INFINITY, 0.1 + 0.2];
        if bits.is_nan() || self.0.below(2) == 0 { self.0.one_of(&known) } else { bits }
    }

    fn many<T>(&mut self, item: impl Fn(&mut Any) -> T) -> Vec<T> {
        (0..self.0.below(4)).map(|_| item(self)).collect()
    }

    fn maybe<T>(&mut self, item: impl Fn(&mut Any) -> T) -> Option<T> {
        (self.0.below(2) == 0).then(|| item(self))
    }

    fn axes(&mut self) -> Vec<usize> {
        self.many(|any| any.0.below(4))
    }

    fn name(&mut self) -> String {
        self.0.one_of(&["", "attention F", "a \"quoted\" \\ name", "two\nlines\r", "# no remark", "größe"]).to_owned()
    }

    fn letter(&mut self) -> char {
        self.0.one_of(&['b', 's', 'h', 'v', 'n'])
    }

    fn element(&mut self) -> Element {
        self.0.one_of(&[Element::F32, Element::Bf16, Element::I32])
    }

    fn draft(&mut self) -> Draft {
        Draft {
            mesh: Mesh::new(self.small(), &self.many(Any::small)),
            step: StepSize { microbatches: self.small(), sequences: self.number(), sequence: self.number() },
            fragments: self.many(Any::fragment),
            collectives: self.many(Any::collective),
            blocks: self.many(Any::block),
            transfers: self.many(Any::transfer),
            roles: self.many(Any::role),
            role_of: self.many(|any| RoleId(any.small())),
        }
    }

    fn transfer(&mut self) -> Transfer {
        Transfer {
            from: RoleId(self.small()),
            to: RoleId(self.small()),
            direction: self.0.one_of(&Direction::ALL),
            microbatch: self.maybe(|any| any.number() as u16),
            layer: self.number() as u16,
        }
    }

    fn fragment(&mut self) -> Fragment {
        let access = [Access::Read, Access::Write, Access::Update];
        Fragment {
            name: self.name(),
            bindings: self.many(|any| Binding { bytes: Bytes(any.number()), access: any.0.one_of(&access) }),
            kernels: self.many(Any::kernel),
            scratch: self.maybe(|any| any.number() as u16),
            scratch_bound: Bytes(self.number()),
        }
    }

    fn kernel(&mut self) -> Kernel {
        Kernel {
            op: self.op(),
            inputs: self.many(Any::operand),
            outputs: self.many(|any| Output {
                operand: any.operand(),
                write: any.0.one_of(&[Write::Replace, Write::Accumulate]),
            }),
            offsets: self.many(|any| Offset { letter: any.letter(), axes: any.axes(), step: any.number() }),
            workspace: self.maybe(Any::operand),
        }
    }

    fn operand(&mut self) -> Operand {
        Operand {
            binding: self.number() as u16,
            offset: self.number(),
            element: self.element(),
            dimensions: self.many(|any| (any.letter(), any.number())),
        }
    }

    fn op(&mut self) -> Op {
        let kind = self.0.one_of(&[NormKind::Layer, NormKind::RootMeanSquare]);
        let norm = Norm { kind, epsilon: self.float() };
        let rotation = self.0.one_of(&[Rotation::Forward, Rotation::Inverse]);
        let pattern = self.0.one_of(&[Pattern::Causal, Pattern::Full]);
        let activation = self.0.one_of(&[Activation::Gelu, Activation::Relu, Activation::SwiGlu]);
        let replicas = self.small();
        let scaling = self.small().is_multiple_of(2).then(|| Scaling {
            factor: self.float(),
            low_frequency_factor: self.float(),
            high_frequency_factor: self.float(),
            original_sequence: self.number(),
        });
        let all = [
            Op::Embed,
            Op::EmbedGradient,
            Op::Position,
            Op::PositionGradient,
            Op::Norm(norm),
            Op::NormGradient(norm),
            Op::MatMul,
            Op::Bias,
            Op::BiasGradient,
            Op::Rotary(Rotary { base: self.float(), scaling, rotation }),
            Op::Attention(pattern),
            Op::AttentionGradient(pattern),
            Op::CrossAttention,
            Op::CrossAttentionGradient,
            Op::Activation(activation),
            Op::ActivationGradient(activation),
            Op::Add,
            Op::RowMax,
            Op::SumExp,
            Op::CrossEntropy { replicas },
            Op::CrossEntropyGradient,
            Op::SquareSum { replicas },
            Op::AdamW { decayed: self.number(), length: self.number() },
            Op::Zero,
        ];
        self.0.one_of(&all)
    }

    fn collective(&mut self) -> Collective {
        let axes = self.axes();
        let [dimension, split] = [self.0.below(4), self.0.below(4)];
        let all = [
            Exchange::AllReduce { axes: axes.clone(), reduce: Reduce::Sum },
            Exchange::AllReduce { axes: axes.clone(), reduce: Reduce::Max },
            Exchange::ReduceScatter { axes: axes.clone(), dimension },
            Exchange::AllGather { axes: axes.clone(), dimension },
            Exchange::AllToAll { axes: axes.clone(), gathered: dimension, split },
            Exchange::Slice { axes, dimension },
        ];
        Collective {
            exchange: self.0.one_of(&all),
            axis: self.0.one_of(&Axis::ALL),
            shape: self.many(Any::number),
            element: self.element(),
        }
    }

    fn block(&mut self) -> Block {
        Block {
            layer: self.small(),
            parameters: self.many(|any| BlockParameter {
                name: any.name(),
                first: any.number(),
                init: if any.0.below(2) == 0 {
                    Init::Normal { deviation: any.float() }
                } else {
                    Init::Constant { value: any.float() }
                },
                dimensions: any.many(|any| (any.number(), any.axes())),
            }),
            decayed: self.number(),
            length: self.number(),
            padded: self.number(),
            shard: self.axes(),
        }
    }

    fn role(&mut self) -> Role {
        let mut role = Role {
            id: RoleId(self.small()),
            stages: self.many(|any| StageId(any.small())),
            buffers: self.many(|any| Buffer {
                bytes: Bytes(any.number()),
                address: any.number(),
                content: any.content(),
            }),
            code: Vec::new(),
            operand_list: self.many(|any| BufferId(any.small())),
            arena: Bytes(self.number()),
            live_bound: Bytes(self.number()),
        };
        for _ in 0..self.0.below(20) {
            let start = role.operand_list.len() as u32;
            role.operand_list.extend(self.many(|any| BufferId(any.small())));
            let count = role.operand_list.len() as u32 - start;
            let instr = self.instruction((start, count as u16));
            // Operands need not stand in the order of the code.
            let place = self.0.below(role.code.len() + 1);
            role.code.insert(place, instr);
        }
        role
    }

    fn content(&mut self) -> Content {
        let block = BlockId(self.small());
        let part = self.0.one_of(&[Part::Whole, Part::Share]);
        let rows = Rows { microbatch: self.number() as u16, axes: self.axes(), sequences: self.number() };
        let all = [
            Content::Value,
            Content::Boundary,
            Content::Scalars,
            Content::Constants,
            Content::Tokens(rows.clone()),
            Content::Patches { rows: rows.clone(), numbers: self.number() },
            Content::Source { rows: rows.clone(), numbers: self.number() },
            Content::Targets(rows),
            Content::Parameters { block, part },
            Content::Master { block, part },
            Content::FirstMoment { block, part },
            Content::SecondMoment { block, part },
        ];
        self.0.one_of(&all)
    }

    fn instruction(&mut self, operands: (u32, u16)) -> Instr {
        let actions = [
            Action::Compute(FragmentId(self.0.below(4) as u32)),
            Action::Exchange(CollectiveId(self.0.below(4) as u32)),
            Action::Send(TransferId(self.number() as u32)),
            Action::Receive(TransferId(self.number() as u32)),
            Action::Free,
            Action::Signal(EventId(self.small())),
            Action::Wait(EventId(self.small())),
        ];
        let span = Span {
            microbatch: self.maybe(|any| any.number() as u16),
            layer: self.maybe(|any| any.number() as u16),
            phase: self.0.one_of(&[Phase::Forward, Phase::Backward, Phase::Update]),
        };
        Instr { stream: self.0.one_of(&Stream::ALL), span, action: self.0.one_of(&actions), operands }
    }
}

#[test]
fn what_is_printed_parses_back_to_the_same() {
    for seed in 0..500 {
        let draft = Any(Random(seed)).draft();
        let text = print(&draft);
        let parsed = parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        assert_eq!(parsed, draft, "seed {seed}\n{text}");
        assert_eq!(print(&parsed), text, "seed {seed}");
    }
}

/// Small damages of each sort: what a person or a broken disk might do.
fn damaged(random: &mut Random, text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..1 + random.below(4) {
        if letters.is_empty() {
            break;
        }
        let place = random.below(letters.len());
        match random.below(5) {
            0 => drop(letters.remove(place)),
            1 => letters[place] = random.one_of(&['"', '\\', '[', ']', '=', ' ', '\n', '9', '-', '#', 'é', '\u{0}']),
            2 => letters.insert(place, random.one_of(&['"', '/', ',', '@', '*', ':', '+', '(', ')', 'x'])),
            3 => letters.truncate(place),
            _ => {
                let end = (place + random.below(40)).min(letters.len());
                let copied = letters[place..end].to_vec();
                let target = random.below(letters.len());
                letters.splice(target..target, copied);
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn damaged_text_never_panics_and_what_parses_prints() {
    let mut parsed_count = 0;
    for seed in 0..4000 {
        let mut random = Random(seed);
        // One that is right, so that the check comes far, and some that are not.
        let whole = match seed % 2 {
            0 => include_str!("cases/two-roles.txt").to_owned(),
            _ => print(&Any(Random(seed % 50)).draft()),
        };
        let text = damaged(&mut random, &whole);
        let result = std::panic::catch_unwind(|| {
            let draft = parse(&text).ok()?;
            let again = parse(&print(&draft)).expect("what was printed parses");
            // Not a number is not equal to itself; its text is.
            assert_eq!(print(&again), print(&draft));
            // What was parsed may be wrong in any way: the check says so and does not break.
            Some(Programs::verified(draft, Bytes(1 << 30)).is_ok())
        });
        let result = result.unwrap_or_else(|_| panic!("seed {seed}\n{text}"));
        parsed_count += usize::from(result.is_some());
    }
    assert!(parsed_count > 100, "only {parsed_count} damaged texts still parse");
}

const SMALL: &str = "programs format 2
mesh 1x2
step microbatches=1 sequences=2 sequence=8
ranks 2*r0
collective 0 all-gather axes=[1] dimension=0 for=data shape=[8] f32
fragment 0 \"zero\" scratch_bound=0
  binding 0 write bytes=256
  kernel zero -> @0:f32[n=64]
role 0 stages=[0] arena=256 live_bound=256  # 256 B, 256 B alive at most
  buffer 0 address=0 bytes=256 value
  compute            m0 L3 F    run f0 -> b0              # \"zero\"
  compute            m0 L3 F    free b0                   # 256 B
";

#[test]
fn the_form_is_this() {
    assert_eq!(print(&parse(SMALL).expect("it is right")), SMALL);
}

#[test]
fn the_example_in_the_documentation_parses() {
    let source = include_str!("../src/text/mod.rs");
    let lines = source.lines().skip_while(|line| !line.contains("```text")).skip(1);
    let example: Vec<&str> = lines
        .take_while(|line| !line.contains("```"))
        .map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or(""))
        .collect();
    let example = format!("{}\n", example.join("\n"));
    let printed = print(&parse(&example).unwrap_or_else(|error| panic!("{error}")));
    let without_remarks = |text: &str| {
        text.lines().map(|line| line.split('#').next().unwrap_or("").trim_end().to_owned() + "\n").collect::<String>()
    };
    assert_eq!(without_remarks(&printed), without_remarks(&example));
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        (
            "compute            m0 L3 F    run",
            "compite m0 L3 F run",
            "line 11, column 3: expected the next part: blocks, collectives, fragments, transfers, then roles, found `compite`; meant `compute`?",
        ),
        ("run f0 -> b0", "rum f0 -> b0", "line 11, column 33: expected what is done, found `rum`; meant `run`?"),
        ("run f0 -> b0", "run f0 -> c0", "line 11, column 43: expected a buffer like `b3`, found `c0`"),
        ("kernel zero", "kernel zeero", "line 8, column 10: expected an operation, found `zeero`; meant `zero`?"),
        (
            "sequences=2",
            "seqences=2",
            "line 3, column 21: expected `sequences=…`, found `seqences=2`; meant `sequences`?",
        ),
        ("shape=[8] f32", "shape=[8]", "line 5, column 64: expected how numbers are stored, found the end"),
        ("buffer 0 address", "buffer 1 address", "line 10, column 10: expected 0, the next number, found `1`"),
        ("bytes=256 value", "bytes=-256 value", "line 10, column 22: expected a number that fits, found `-256`"),
        ("format 2", "format 1", "line 1, column 17: expected `2`, found `1`"),
        (
            "\"zero\" scratch",
            "\"zero scratch",
            "line 6, column 12: expected a text in quotes, found `\"zero scratch_bound=0`",
        ),
    ];
    for (from, to, expected) in cases {
        let error = parse(&SMALL.replacen(from, to, 1)).expect_err("the text is wrong");
        assert_eq!(error.to_string(), expected);
    }
}
