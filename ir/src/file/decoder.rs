//! model.yaml of an encoder with a decoder: the rules of the latter.

use super::model::LAYERS_MAX;
use super::parse::{Checks, keys};
use crate::model::{Family, Model};

/// A decoder stands where it must, and nowhere else.
pub(super) fn check_decoder(model: &Model, checks: &mut Checks) {
    let family = model.family.name();
    let has_encoder = match model.family {
        Family::Gpt | Family::Llama | Family::Bert | Family::Vit | Family::Swin => false,
        Family::T5 => true,
    };
    match model.decoder {
        None if has_encoder => {
            let help = "write `decoder: { layers: 24, sequence: 512 }`: its blocks, and tokens that it writes";
            checks.wrong_but(&keys(["family"]), format!("`family: {family}` needs a `decoder`"), help);
        }
        Some(_) if !has_encoder => {
            let what = format!("`decoder` is for `family: t5`: `{family}` has one row of blocks");
            checks.wrong(&keys(["decoder"]), what);
        }
        None => {}
        Some(decoder) => {
            checks.positive(&keys(["decoder", "layers"]), u64::from(decoder.layers));
            checks.positive(&keys(["decoder", "sequence"]), decoder.sequence);
            let (own, all) = (decoder.layers, u64::from(decoder.layers) + u64::from(model.layers));
            if all > u64::from(LAYERS_MAX) {
                let what =
                    format!("`decoder.layers` ({own}) and `layers` must be at most {LAYERS_MAX} together, not {all}");
                checks.wrong(&keys(["decoder", "layers"]), what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse_model, print_model};

    const TINY: &str = "\
format: 1
name: tiny
family: t5
layers: 3
hidden: 16
heads: 2
head_size: 16
feed_forward: 32
vocabulary: 64
sequence: 12
embeddings: tied
decoder: { layers: 2, sequence: 8 }
training: { batch: 4 }
";

    /// What is said when `from` is replaced by `to` in a good file.
    fn said(from: &str, to: &str) -> String {
        assert!(TINY.contains(from));
        let text = TINY.replacen(from, to, 1);
        parse_model(&text, "m.yaml").map_or_else(|mistakes| mistakes.to_string(), |model| format!("{model:?}"))
    }

    #[test]
    fn an_encoder_with_a_decoder_reads_back_and_has_two_rows_of_blocks() {
        let model = parse_model(TINY, "m.yaml").unwrap();
        assert_eq!(parse_model(&print_model(&model), "m.yaml").as_ref(), Ok(&model));
        let graph = model.graph();
        let names: Vec<&str> = graph.layers.iter().map(|kind| graph.kinds[kind.index()].name.as_str()).collect();
        let encoder = ["embedding", "encoder block", "encoder block", "encoder block"];
        assert_eq!(names, [&encoder[..], &["border", "decoder block", "last decoder block", "head"]].concat());
        assert_eq!((graph.layers.len() as u32, graph.sequence), (model.layer_count(), 8));
        // One table is all three: attention of 4 x 2 x 16 x 16, feed-forward of 2 x 16 x 32, and norms of 16.
        let (attention, feed_forward, norm) = (2048, 1024, 16);
        let encoder = 3 * (attention + feed_forward + 2 * norm) + norm;
        let decoder = 2 * (2 * attention + feed_forward + 3 * norm) + norm;
        assert_eq!(graph.parameter_count(), 64 * 16 + encoder + decoder);
    }

    #[test]
    fn a_decoder_stands_where_it_must_and_has_all_its_numbers() {
        let decoder = "decoder: { layers: 2, sequence: 8 }\n";
        assert_eq!(
            said(decoder, ""),
            "error: m.yaml:3: `family: t5` needs a `decoder`\n  help: write `decoder: { layers: 24, sequence: 512 }`: \
             its blocks, and tokens that it writes"
        );
        assert_eq!(
            said("family: t5", "family: bert"),
            "error: m.yaml:12: `decoder` is for `family: t5`: `bert` has one row of blocks"
        );
        assert_eq!(
            said("{ layers: 2, sequence: 8 }", "{ sequence: 8 }"),
            "error: m.yaml:12: missing key `layers` in `decoder`"
        );
        assert_eq!(
            said("{ layers: 2, sequence: 8 }", "{ layers: 0, sequence: 0 }"),
            "error: m.yaml:12: `decoder.layers` must be at least 1\nerror: m.yaml:12: `decoder.sequence` must be at least 1"
        );
        assert_eq!(
            said("layers: 2, sequence: 8", "layers: 4095, sequence: 8"),
            "error: m.yaml:12: `decoder.layers` (4095) and `layers` must be at most 4096 together, not 4098"
        );
        assert_eq!(
            said("decoder: {", "images: { patch: 8 }\ndecoder: {"),
            "error: m.yaml:12: `images` is for `vit` and `swin`: `t5` reads tokens"
        );
    }
}
