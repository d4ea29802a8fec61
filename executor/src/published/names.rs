//! Which published tensors a parameter is made of, by name and window.

use ir::model::{Bias, Embeddings, Family, Model};

use super::window::{Step, Window};

/// A tensor as it is published, with what a parameter takes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Without what stands before the names of all tensors but the head's.
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) windows: Vec<Window>,
    /// Of which model the name is.
    pub(super) scope: Scope,
}

/// Whether a name is that of the head, or has the prefix of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Body,
    Head,
}

/// A parameter of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) layer: u32,
    pub(super) name: &'static str,
    pub(super) shape: Vec<u64>,
    pub(super) sources: Vec<Source>,
}

/// Whether products with one factor are published as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// `q_proj`, `k_proj`, `v_proj`, `gate_proj`, `up_proj`.
    Apart,
    /// `qkv_proj`, `gate_up_proj`.
    Packed,
}

/// What config.json says of models, and who trains them refuses before.
const NO_NAMES: &str = "only decoders have published names";

/// What stands before the names of a family's body.
pub(super) fn prefix(family: Family) -> &'static str {
    match family {
        Family::Llama => "model.",
        Family::Gpt => "transformer.",
        Family::Bert | Family::Vit | Family::Swin | Family::T5 => panic!("{NO_NAMES}"),
    }
}

/// The name of the tensor that every model has.
pub(super) fn table_name(family: Family) -> &'static str {
    match family {
        Family::Llama => "embed_tokens.weight",
        Family::Gpt => "wte.weight",
        Family::Bert | Family::Vit | Family::Swin | Family::T5 => panic!("{NO_NAMES}"),
    }
}

/// Tensors of older files that are constants: masks, and the frequencies of rotations.
pub(super) fn is_constant(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
}

/// All parameters of a model, layer by layer.
pub(super) fn parameters(model: &Model, packing: Packing) -> Vec<Parameter> {
    let sizes = Sizes::of(model);
    let Sizes { vocabulary, hidden, .. } = sizes;
    let last = model.layers + 1;
    let mut all = vec![whole(0, "table", table_name(model.family), &[vocabulary, hidden])];
    match model.family {
        Family::Llama => {
            (1..last).for_each(|layer| all.extend(rotary(&sizes, layer, packing, model.attention_bias)));
            all.push(whole(last, "norm weight", "norm.weight", &[hidden]));
        }
        Family::Bert | Family::Vit | Family::Swin | Family::T5 => panic!("{NO_NAMES}"),
        Family::Gpt => {
            all.push(whole(0, "positions", "wpe.weight", &[model.sequence, hidden]));
            (1..last).for_each(|layer| all.extend(learned(&sizes, layer)));
            all.push(whole(last, "norm weight", "ln_f.weight", &[hidden]));
            all.push(whole(last, "norm bias", "ln_f.bias", &[hidden]));
        }
    }
    if model.embeddings == Embeddings::Untied {
        let mut head = whole(last, "matrix", "lm_head.weight", &[vocabulary, hidden]);
        head.sources[0].scope = Scope::Head;
        all.push(head);
    }
    all
}

struct Sizes {
    vocabulary: u64,
    hidden: u64,
    groups: u64,
    queries: u64,
    head: u64,
    inner: u64,
}

impl Sizes {
    fn of(model: &Model) -> Sizes {
        Sizes {
            vocabulary: model.vocabulary,
            hidden: model.hidden,
            groups: model.groups(),
            queries: model.heads / model.groups(),
            head: model.head(),
            inner: model.feed_forward,
        }
    }
}

/// A block of rotated positions: matrices are published as here, rows of results.
fn rotary(sizes: &Sizes, layer: u32, packing: Packing, bias: Bias) -> Vec<Parameter> {
    let &Sizes { hidden, groups, queries, head, inner, .. } = sizes;
    let name = |end: &str| format!("layers.{}.{end}", layer - 1);
    let part = |parameter, end: &str, shape: &[u64]| whole(layer, parameter, &name(end), shape);
    // Packed rows of queries, a key and a value of each group are published apart: all queries, all keys, all values.
    let query = |width: u64| [(0, groups, queries * head * width), (0, queries, head * width), (0, head, width)];
    let other = |slot: u64, width: u64| [(0, groups, head * width), (queries + slot, 1, 0), (0, head, width)];
    let attention = |width: u64| [query(width), other(0, width), other(1, width)];
    let rows = [queries * groups * head, groups * head, groups * head];
    let mut projected = Vec::new();
    let mut biases = Vec::new();
    let matrices = attention(hidden).map(|steps| steps.into_iter().chain([(0, hidden, 1)]).collect::<Vec<_>>());
    match packing {
        Packing::Apart => {
            for ((kind, rows), (steps, bias)) in ["q", "k", "v"].iter().zip(rows).zip(matrices.iter().zip(attention(1)))
            {
                let weight = name(&format!("self_attn.{kind}_proj.weight"));
                projected.push(source(weight, &[rows, hidden], vec![window(0, steps)]));
                biases.push(source(name(&format!("self_attn.{kind}_proj.bias")), &[rows], vec![window(0, &bias)]));
            }
        }
        Packing::Packed => {
            let offsets = [0, rows[0], rows[0] + rows[1]];
            let windows = matrices.iter().zip(offsets).map(|(steps, row)| window(row * hidden, steps)).collect();
            let all = rows.iter().sum();
            projected.push(source(name("self_attn.qkv_proj.weight"), &[all, hidden], windows));
        }
    }
    let gated = match packing {
        Packing::Apart => ["gate", "up"]
            .iter()
            .zip(0..)
            .map(|(kind, half)| {
                let steps = [(half, 1, 0), (0, inner, hidden), (0, hidden, 1)];
                source(name(&format!("mlp.{kind}_proj.weight")), &[inner, hidden], vec![window(0, &steps)])
            })
            .collect(),
        Packing::Packed => {
            let steps = [(0, 2, inner * hidden), (0, inner, hidden), (0, hidden, 1)];
            vec![source(name("mlp.gate_up_proj.weight"), &[2 * inner, hidden], vec![window(0, &steps)])]
        }
    };
    let slots = queries + 2;
    let mut all = vec![
        part("attention norm weight", "input_layernorm.weight", &[hidden]),
        Parameter { layer, name: "attention in matrix", shape: vec![groups, slots, head, hidden], sources: projected },
    ];
    if bias == Bias::Present {
        let shape = vec![groups, slots, head];
        all.push(Parameter { layer, name: "attention in bias", shape, sources: biases });
    }
    let mut out = part("attention out matrix", "self_attn.o_proj.weight", &[hidden, groups, queries, head]);
    out.sources[0].shape = vec![hidden, groups * queries * head];
    all.extend([
        out,
        part("feed-forward norm weight", "post_attention_layernorm.weight", &[hidden]),
        Parameter { layer, name: "feed-forward in matrix", shape: vec![2, inner, hidden], sources: gated },
        part("feed-forward out matrix", "mlp.down_proj.weight", &[hidden, inner]),
    ]);
    all
}

/// A block of learned positions: matrices are published transposed.
fn learned(sizes: &Sizes, layer: u32) -> Vec<Parameter> {
    let &Sizes { hidden, groups, head, inner, .. } = sizes;
    let name = |end: &str| format!("h.{}.{end}", layer - 1);
    let vector = |parameter, end: &str| whole(layer, parameter, &name(end), &[hidden]);
    let part = |parameter, shape: &[u64], end: &str, published: &[u64], steps: &[(u64, u64, u64)]| Parameter {
        layer,
        name: parameter,
        shape: shape.to_vec(),
        sources: vec![source(name(end), published, vec![window(0, steps)])],
    };
    let packed = [(0, groups, head), (0, 3, hidden), (0, head, 1)];
    let across: Vec<_> = packed.into_iter().chain([(0, hidden, 3 * hidden)]).collect();
    let out = [(0, hidden, 1), (0, groups, head * hidden), (0, 1, 0), (0, head, hidden)];
    vec![
        vector("attention norm weight", "ln_1.weight"),
        vector("attention norm bias", "ln_1.bias"),
        part("attention in matrix", &[groups, 3, head, hidden], "attn.c_attn.weight", &[hidden, 3 * hidden], &across),
        part("attention in bias", &[groups, 3, head], "attn.c_attn.bias", &[3 * hidden], &packed),
        part("attention out matrix", &[hidden, groups, 1, head], "attn.c_proj.weight", &[hidden, hidden], &out),
        vector("attention out bias", "attn.c_proj.bias"),
        vector("feed-forward norm weight", "ln_2.weight"),
        vector("feed-forward norm bias", "ln_2.bias"),
        part(
            "feed-forward in matrix",
            &[inner, hidden],
            "mlp.c_fc.weight",
            &[hidden, inner],
            &[(0, inner, 1), (0, hidden, inner)],
        ),
        whole(layer, "feed-forward in bias", &name("mlp.c_fc.bias"), &[inner]),
        part(
            "feed-forward out matrix",
            &[hidden, inner],
            "mlp.c_proj.weight",
            &[inner, hidden],
            &[(0, hidden, 1), (0, inner, hidden)],
        ),
        vector("feed-forward out bias", "mlp.c_proj.bias"),
    ]
}

/// A parameter that is published as it is.
fn whole(layer: u32, parameter: &'static str, name: &str, shape: &[u64]) -> Parameter {
    let mut stride = 1;
    let mut steps: Vec<(u64, u64, u64)> = Vec::new();
    for &length in shape.iter().rev() {
        steps.push((0, length, stride));
        stride *= length;
    }
    steps.reverse();
    let sources = vec![source(name.to_owned(), shape, vec![window(0, &steps)])];
    Parameter { layer, name: parameter, shape: shape.to_vec(), sources }
}

fn source(name: String, shape: &[u64], windows: Vec<Window>) -> Source {
    Source { name, shape: shape.to_vec(), windows, scope: Scope::Body }
}

/// Of (first index, length, stride) of each dimension.
fn window(offset: u64, steps: &[(u64, u64, u64)]) -> Window {
    let step = |&(first, length, stride): &(u64, u64, u64)| Step { first, length, stride };
    Window { steps: steps.iter().map(step).collect(), offset }
}
