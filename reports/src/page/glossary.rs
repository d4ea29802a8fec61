//! What words of the page mean, in the words of the field.

use std::fmt::Write as _;

use super::escape;
use crate::Report;

/// Terms and their lines. The first word of each is that of the page or of plan.yaml.
const TERMS: [(&str, &str); 14] = [
    ("data (DP)", "Data parallelism: ranks hold the same layer and each computes other sequences of the batch."),
    (
        "tensor (TP)",
        "Tensor parallelism: the matrices of a layer are cut, and each rank computes a part of every product.",
    ),
    (
        "sequence split (SP)",
        "Sequence parallelism: between the products that TP shares, each rank keeps a part of the sequence.",
    ),
    ("stages (PP)", "Pipeline parallelism: consecutive layers on ranks of their own, which pass activations on."),
    (
        "shard",
        "nothing: plain DP. optimizer: ZeRO-1, each rank keeps a part of the optimizer states. gradients: ZeRO-2, of \
         gradients too. parameters: ZeRO-3 = FSDP, of parameters too, which are gathered when they are needed.",
    ),
    (
        "recompute",
        "Activation checkpointing. selective: norms and activations are computed again in the backward pass. full: the \
         whole layer is, and only its input is kept.",
    ),
    (
        "microbatch",
        "The sequences that pass through the model at once; gradients of all microbatches are added before the update \
         (gradient accumulation).",
    ),
    (
        "schedule",
        "1f1b: one forward, one backward (PipeDream-flush). gpipe: all forward passes before the backward ones.",
    ),
    ("rank", "One process or thread on one device."),
    ("block", "A transformer layer: attention and feed-forward."),
    (
        "exchange",
        "A collective: all-reduce, all-gather, reduce-scatter or all-to-all. Exposed: nothing is computed beside it.",
    ),
    ("transfer", "Point-to-point send and receive between pipeline stages."),
    ("idle", "A rank waits: in a pipeline the bubble."),
    (
        "MFU",
        "Model FLOPs utilization: operations of the model (6 a parameter and token, and causal attention; nothing that \
         is computed again) over the peak of the devices.",
    ),
];

/// A list of terms.
pub(super) fn html(report: &Report<'_>) -> String {
    let is_used = |term: &str| match term {
        "tensor (TP)" | "sequence split (SP)" | "data (DP)" | "shard" | "recompute" | "microbatch" | "rank" => true,
        "stages (PP)" | "schedule" | "transfer" => report.plan.stages.len() > 1 || report.choice.is_some(),
        "MFU" => report.choice.is_some() || !report.steps.is_empty(),
        _ => report.predicted.is_some() || report.measured.is_some(),
    };
    let mut html = String::from("<section><h2>Words</h2>\n<dl class=\"words\">");
    for (term, line) in TERMS.iter().filter(|(term, _)| is_used(term)) {
        let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(term), escape(line));
    }
    html.push_str("</dl></section>\n");
    html
}
