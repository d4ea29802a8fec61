//! Attention on an accelerator: in bf16 on tensor cores, by warp groups (`warpgroup.cu`) where the device has such
//! products, else by warps (`tensor.cu`), as far as the head size allows; else plainly (`attention.cu`).

use ir::graph::Element;
use ir::op::Pattern;
use ir::program::Operand;

use crate::cuda::Error;
use crate::cuda::lowered::{
    Argument, Cores, Launch, Lowered, Request, Source, THREADS, Work, are_aligned, input, output, workspace,
};

/// Queries and keys of a plain tile.
const TILE: u64 = 16;
/// The largest head whose plain tiles fit shared memory.
const HEAD_MAX: u64 = 512;
/// The largest head whose sums fit the registers of a warp.
const TENSOR_HEAD_MAX: u64 = 128;
/// Warps of a block that uses tensor cores.
const WARPS: u64 = 4;

/// Sizes that every launch is told.
#[derive(Clone, Copy)]
struct Shape {
    batch: u64,
    sequence: u64,
    groups: u64,
    queries: u64,
    head: u64,
    pattern: Pattern,
}

/// Which sides a kernel works on: rows that blocks own, and numbers that they go through.
#[derive(Clone, Copy)]
struct Tensor {
    side: &'static str,
    entry: &'static str,
    /// 16-row tiles of a warp.
    tiles: u64,
    /// Rows of the other side that are in shared memory at once, twice.
    across: u64,
    /// Tiles of rows that a block owns in shared memory.
    owned: u64,
}

const FORWARD: Tensor = Tensor { side: "FORWARD", entry: "attention_tensor", tiles: 2, across: 32, owned: 1 };
const KEYS: Tensor = Tensor { side: "KEYS", entry: "attention_tensor_keys", tiles: 1, across: 32, owned: 2 };
const QUERIES: Tensor = Tensor { side: "QUERIES", entry: "attention_tensor_queries", tiles: 2, across: 32, owned: 2 };

/// What warp groups of a kernel own, and the tiles that they go through.
#[derive(Clone, Copy)]
struct Ring {
    side: &'static str,
    entry: &'static str,
    text: &'static str,
    /// Warp groups that own 64 rows each; one more loads.
    groups: u64,
    /// Rows of a tile.
    across: u64,
    /// Stages that are in shared memory at once.
    stages: u64,
    /// Tiles of a stage.
    tiles: u64,
    /// Tiles of rows that a block owns in shared memory, for each of two items.
    owned: u64,
    /// Numbers that come with a stage's rows.
    words: u64,
    /// Whether groups begin products by turns (1) or at will (0).
    turns: u64,
}

const FORWARD_TEXT: &str =
    concat!(include_str!("../cuda/warpgroup.cuh"), include_str!("warpgroup.cu"), include_str!("warpgroup_forward.cu"));
const GRADIENT_TEXT: &str =
    concat!(include_str!("../cuda/warpgroup.cuh"), include_str!("warpgroup.cu"), include_str!("warpgroup_gradient.cu"));
/// Blocks that take items one after another: no device with products of warp groups has more multiprocessors.
const TAKERS: u64 = 132;

/// Sizes that were the fastest on H100 and H200 at a sequence of 4096.
impl Ring {
    fn forward(head: u64) -> Ring {
        Ring {
            side: "FORWARD",
            entry: "attention_groups",
            text: FORWARD_TEXT,
            groups: if head == 64 { 3 } else { 2 },
            across: 128,
            stages: 5,
            tiles: 1,
            owned: 1,
            words: 0,
            turns: 1,
        }
    }

    fn keys() -> Ring {
        Ring {
            side: "KEYS",
            entry: "attention_groups_keys",
            text: GRADIENT_TEXT,
            groups: 2,
            across: 64,
            stages: 3,
            tiles: 2,
            owned: 2,
            words: 2,
            turns: 0,
        }
    }

    fn queries(head: u64) -> Ring {
        let (groups, turns) = if head == 64 { (3, 0) } else { (2, 1) };
        Ring { side: "QUERIES", entry: "attention_groups_queries", words: 0, groups, turns, ..Ring::keys() }
    }

    /// Bytes of shared memory: own tiles of two items, stages, what comes with them, which items, two barriers an item
    /// and a stage, and what is lost to alignment.
    fn shared(&self, head: u64) -> u64 {
        let rows = 2 * self.groups * 64 * self.owned + self.stages * self.tiles * self.across;
        1024 + rows * head * 2 + self.stages * (self.words * self.across * 4 + 16) + 2 * 24
    }
}

impl Shape {
    fn new(request: Request<'_>, pattern: Pattern) -> Result<Shape, Error> {
        let [batch, sequence, groups, slots, head] = ['b', 's', 'g', 'c', 'd'].map(|letter| request.size(letter));
        if head > HEAD_MAX {
            return Err(request.unsupported(format!("heads of {head}, not at most {HEAD_MAX}")));
        }
        Ok(Shape { batch, sequence, groups, queries: slots - 2, head, pattern })
    }

    fn is_causal(&self) -> u64 {
        match self.pattern {
            Pattern::Causal => 1,
            Pattern::Full => 0,
        }
    }

    fn heads(&self) -> u64 {
        self.groups * self.queries
    }

    /// Appends what every launch is told.
    fn arguments(&self, mut arguments: Vec<Argument>) -> Vec<Argument> {
        arguments.extend([self.sequence, self.groups, self.queries].map(Argument::Count));
        arguments.push(Argument::Number(1.0 / (self.head as f64).sqrt()));
        arguments
    }

    fn plain_source(&self, element: Element) -> Source {
        Source::new("attention/attention.cu", include_str!("attention.cu"))
            .stores("T", element)
            .number("HEAD", self.head)
            .number("CAUSAL", self.is_causal())
    }

    /// A launch of a plain kernel that has so many tiles in shared memory.
    fn plain(&self, source: Source, entry: &'static str, tiles: u64, arguments: Vec<Argument>) -> Launch {
        let across = if entry == "attention_gradient_keys" { self.groups } else { self.heads() };
        Launch {
            source,
            entry,
            grid: [self.sequence.div_ceil(TILE), across, self.batch],
            block: TILE * TILE,
            shared: tiles * TILE * (self.head + 1) * 4,
            arguments: self.arguments(arguments),
        }
    }

    fn tensor(&self, kernel: Tensor, arguments: Vec<Argument>) -> Launch {
        let source = Source::new("attention/tensor.cu", include_str!("tensor.cu"))
            .number(kernel.side, 1)
            .number("HEAD", self.head)
            .number("CAUSAL", self.is_causal())
            .number("WARPS", WARPS)
            .number("TILES", kernel.tiles)
            .number("ACROSS", kernel.across);
        let own = WARPS * kernel.tiles * 16;
        let rows = own * kernel.owned + 4 * kernel.across;
        Launch {
            source,
            entry: kernel.entry,
            grid: [
                self.sequence.div_ceil(own),
                if kernel.side == "KEYS" { self.groups } else { self.heads() },
                self.batch,
            ],
            block: WARPS * 32,
            // Rows are padded by 16 bytes against conflicts of banks; two numbers a query follow, twice.
            shared: rows * (self.head + 8) * 2 + 4 * kernel.across * 4,
            arguments: self.arguments(arguments),
        }
    }

    fn ring(&self, ring: Ring, arguments: Vec<Argument>) -> Launch {
        let source = Source::new("attention/warpgroup.cu", ring.text)
            .number(ring.side, 1)
            .number("HEAD", self.head)
            .number("CAUSAL", self.is_causal())
            .number("GROUPS", ring.groups)
            .number("ACROSS", ring.across)
            .number("STAGES", ring.stages)
            .number("TURNS", ring.turns);
        let lines = self.batch * if ring.side == "KEYS" { self.groups } else { self.heads() };
        let mut arguments = self.arguments(arguments);
        arguments.push(Argument::Count(self.batch));
        Launch {
            source,
            entry: ring.entry,
            grid: [TAKERS.min(lines * self.sequence.div_ceil(ring.groups * 64)), 1, 1],
            block: (ring.groups + 1) * 128,
            shared: ring.shared(self.head),
            arguments,
        }
    }

    fn fits_warp_groups(&self, cores: Cores) -> bool {
        cores == Cores::WarpGroups
            && [64, 128].contains(&self.head)
            && self.sequence < 1 << 30
            && self.batch * self.heads() * self.sequence < 1 << 36
    }

    fn fits_tensor_cores(&self, element: Element, operands: &[&Operand]) -> bool {
        let is_fit = self.head.is_multiple_of(16) && self.head <= TENSOR_HEAD_MAX;
        element == Element::Bf16 && are_aligned(operands) && is_fit
    }
}

pub(crate) fn forward(request: Request<'_>, pattern: Pattern) -> Result<Lowered, Error> {
    let operands = [request.input(0), request.output(0)];
    let element = request.element(&operands)?;
    request.expect(Element::F32, &[request.output(1)])?;
    let shape = Shape::new(request, pattern)?;
    let arguments = vec![input(0), output(0), output(1)];
    Ok(Lowered::launch(if shape.fits_tensor_cores(element, &operands) {
        if shape.fits_warp_groups(request.cores) {
            shape.ring(Ring::forward(shape.head), arguments)
        } else {
            shape.tensor(FORWARD, arguments)
        }
    } else {
        shape.plain(shape.plain_source(element), "attention", 2, arguments)
    }))
}

pub(crate) fn gradient(request: Request<'_>, pattern: Pattern) -> Result<Lowered, Error> {
    let operands = [request.input(0), request.input(1), request.input(2), request.output(0)];
    let element = request.element(&operands)?;
    request.expect(Element::F32, &[request.input(3)])?;
    let shape = Shape::new(request, pattern)?;
    let rows = request.input(3).elements();
    let source = shape.plain_source(element);
    let offsets = Launch {
        source: source.clone(),
        entry: "attention_offsets",
        grid: [(32 * rows).div_ceil(THREADS), 1, 1],
        block: THREADS,
        shared: 0,
        arguments: vec![input(0), input(2), workspace(0), Argument::Count(rows)],
    };
    let arguments = vec![input(0), input(1), input(3), workspace(0), output(0)];
    let sides = if shape.fits_tensor_cores(element, &operands) && shape.fits_warp_groups(request.cores) {
        [shape.ring(Ring::keys(), arguments.clone()), shape.ring(Ring::queries(shape.head), arguments)]
    } else if shape.fits_tensor_cores(element, &operands) {
        [shape.tensor(KEYS, arguments.clone()), shape.tensor(QUERIES, arguments)]
    } else {
        ["attention_gradient_keys", "attention_gradient_queries"]
            .map(|entry| shape.plain(source.clone(), entry, 4, arguments.clone()))
    };
    let works = [offsets].into_iter().chain(sides).map(Work::Launch).collect();
    Ok(Lowered { works, workspace: 4 * rows })
}
