//! model.yaml, read with its rules: sizes that divide, numbers that fit.

use super::decoder::check_decoder;
use super::images::{LEVELS_MAX, check_images};
use super::parse::{Checks, Range, keys, parse};
use crate::error::Mistakes;
use crate::model::{Bias, Family, Model};

/// More transformer blocks than this are refused: the time and memory of a search grow with their square.
pub(crate) const LAYERS_MAX: u32 = 1 << 12;
/// Counts of bytes and products must stay below, so that no later sum of a few of them can overflow.
const COUNT_MAX: u128 = 1 << 60;

/// The model that `text` describes, or everything that is wrong with it; `file` names it in messages. A text that begins
/// with `{` is read as [`super::parse_config`] reads it.
pub fn parse_model(text: &str, file: &str) -> Result<Model, Mistakes> {
    if super::config::is_config(text) {
        return super::config::parse_config(text, file, None);
    }
    let model: Model = parse(text, file)?;
    check_model(&model, text, file)?;
    Ok(model)
}

/// Whether a model that stands in a file is whole and can be trained.
pub(super) fn check_model(model: &Model, text: &str, file: &str) -> Result<(), Mistakes> {
    let mut checks = Checks::new(text, file);
    check_sizes(model, &mut checks);
    check_heads(model, &mut checks);
    check_images(model, &mut checks);
    check_decoder(model, &mut checks);
    check_rotary(model, &mut checks);
    check_products(model, &mut checks);
    check_training(model, &mut checks);
    checks.finish()
}

/// The model as a file that [`parse_model`] reads back.
pub fn print_model(model: &Model) -> String {
    serde_yaml::to_string(model).expect("a model has only names and numbers")
}

fn check_sizes(model: &Model, checks: &mut Checks) {
    checks.name(&keys(["name"]), &model.name);
    checks.positive(&keys(["layers"]), u64::from(model.layers));
    checks.positive(&keys(["hidden"]), model.hidden);
    checks.positive(&keys(["heads"]), model.heads);
    checks.positive(&keys(["key_value_heads"]), model.groups());
    checks.positive(&keys(["feed_forward"]), model.feed_forward);
    checks.positive(&keys(["vocabulary"]), model.vocabulary);
    checks.positive(&keys(["sequence"]), model.sequence);
    if model.layers > LAYERS_MAX {
        checks.wrong(&keys(["layers"]), format!("`layers` must be at most {LAYERS_MAX}, not {}", model.layers));
    }
    if model.vocabulary > u64::from(u32::MAX) {
        let what = format!("`vocabulary` must be at most {}: tokens are stored in 32 bits", u32::MAX);
        checks.wrong(&keys(["vocabulary"]), what);
    }
    checks.within(&keys(["norm_epsilon"]), model.norm_epsilon, Range::Positive);
}

fn check_heads(model: &Model, checks: &mut Checks) {
    let (hidden, heads, groups) = (model.hidden, model.heads, model.groups());
    if heads == 0 || groups == 0 {
        return;
    }
    let is_rotated = model.family == Family::Llama;
    match model.head_size {
        None if hidden % heads != 0 => {
            let help = format!("use a multiple of {heads} for `hidden`, other `heads`, or say `head_size`");
            checks.wrong_but(&keys(["heads"]), format!("`heads` ({heads}) does not divide `hidden` ({hidden})"), help);
        }
        None if is_rotated && (hidden / heads) % 2 != 0 => {
            let what = format!("heads of size {} (`hidden` / `heads`) must be even to be rotated", hidden / heads);
            checks.wrong(&keys(["heads"]), what);
        }
        Some(0) => checks.positive(&keys(["head_size"]), 0),
        Some(size) if is_rotated && size % 2 != 0 => {
            checks.wrong(&keys(["head_size"]), format!("heads of size {size} must be even to be rotated"));
        }
        None | Some(_) => {}
    }
    if heads % groups != 0 {
        let what = format!("`key_value_heads` ({groups}) does not divide `heads` ({heads})");
        checks.wrong(&keys(["key_value_heads"]), what);
    }
}

fn check_rotary(model: &Model, checks: &mut Checks) {
    checks.within(&keys(["rotary_base"]), model.rotary_base, Range::Positive);
    let family = model.family.name();
    let biases = if model.family == Family::T5 { "none" } else { "all biases" };
    if model.family != Family::Llama && model.attention_bias == Bias::Present {
        let what = format!("`attention_bias` is for `family: llama`: `{family}` has {biases}");
        checks.wrong(&keys(["attention_bias"]), what);
    }
    let Some(scaling) = model.rotary_scaling else { return };
    if model.family != Family::Llama {
        let what = format!("`rotary_scaling` is for `family: llama`: `{family}` rotates nothing");
        checks.wrong(&keys(["rotary_scaling"]), what);
    }
    let key = |name| keys(["rotary_scaling", name]);
    checks.within(&key("factor"), scaling.factor, Range::Positive);
    checks.within(&key("low_frequency_factor"), scaling.low_frequency_factor, Range::Positive);
    checks.within(&key("high_frequency_factor"), scaling.high_frequency_factor, Range::Positive);
    checks.positive(&key("original_sequence"), scaling.original_sequence);
    if scaling.high_frequency_factor <= scaling.low_frequency_factor {
        checks.wrong(&key("high_frequency_factor"), "`high_frequency_factor` must be above `low_frequency_factor`");
    }
}

/// Later arithmetic is in 64 bits: what it will multiply must fit with room to spare.
fn check_products(model: &Model, checks: &mut Checks) {
    let wide = |factors: &[u64]| factors.iter().try_fold(1u128, |product, &factor| product.checked_mul(factor.into()));
    let too_many = |product: Option<u128>| product.is_none_or(|count| count > COUNT_MAX);
    let heads = model.heads.saturating_mul(model.head_size.unwrap_or(0));
    let patch = model.images.as_ref().map_or(0, |images| images.patch);
    let width = model.hidden.max(model.feed_forward).max(model.vocabulary).max(heads).max(patch);
    // A decoder's block has one matrix more than half of those counted here.
    let decoder = model.decoder.map_or(0, |decoder| 2 * u64::from(decoder.layers));
    let layers = u64::from(model.layers).saturating_add(decoder).saturating_add(3);
    let levels = model.images.as_ref().map_or(1, |images| images.levels.len().clamp(1, LEVELS_MAX));
    // From level to level widths double; a merge is twice as wide as its level.
    let wider = 1u64 << levels;
    // 4 matrices or fewer of the largest size in a layer, and 16 bytes of parameter, gradient and moments.
    if too_many(wide(&[64, layers, model.hidden, width]))
        || too_many(wide(&[wider, wider, layers, model.hidden, width]))
    {
        checks.wrong(&keys(["hidden"]), "the model's sizes multiply to more parameters than 64 bits can count");
    }
    let (batch, sequence) =
        (model.training.batch, model.sequence.max(model.decoder.map_or(0, |decoder| decoder.sequence)));
    // 16 results or fewer of the largest size in a layer, of 4 bytes.
    let activations = wide(&[64, layers, batch, sequence, width]);
    let scores = wide(&[4, batch, model.heads, sequence, sequence]);
    if too_many(activations) || too_many(scores) {
        checks.wrong(&keys(["training", "batch"]), "a step has more activations than 64 bits can count");
    }
}

fn check_training(model: &Model, checks: &mut Checks) {
    let training = &model.training;
    checks.positive(&keys(["training", "batch"]), training.batch);
    checks.within(&keys(["training", "learning_rate"]), training.learning_rate, Range::NotNegative);
    checks.within(&keys(["training", "weight_decay"]), training.weight_decay, Range::NotNegative);
    checks.within(&keys(["training", "gradient_norm_max"]), training.gradient_norm_max, Range::Positive);
    checks.within(&keys(["training", "epsilon"]), training.epsilon, Range::Positive);
    for (index, beta) in training.betas.into_iter().enumerate() {
        checks.within(&["training".into(), "betas".into(), index.into()], beta, Range::Decay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = "\
format: 1
name: tiny
family: llama
layers: 2
hidden: 64
heads: 4
key_value_heads: 2
feed_forward: 128
vocabulary: 256
sequence: 32
training:
  batch: 8
  precision: f32
";

    /// What is said when `from` is replaced by `to` in a good file.
    fn said(from: &str, to: &str) -> String {
        assert!(TINY.contains(from));
        let text = TINY.replacen(from, to, 1);
        parse_model(&text, "m.yaml").map_or_else(|mistakes| mistakes.to_string(), |model| format!("{model:?}"))
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let model = parse_model(TINY, "m.yaml").unwrap();
        assert_eq!((model.groups(), model.training.betas, model.training.epsilon), (2, [0.9, 0.95], 1e-8));
        assert!(!print_model(&model).contains("\n  epsilon"), "digests of files without the key stay what they were");
        assert!(said("  batch: 8", "  batch: 8\n  epsilon: 1.0e-5").contains("epsilon: 1e-5"));
    }

    #[test]
    fn misspelt_keys_and_words_name_the_nearest() {
        assert_eq!(
            said("hidden: 64", "hiden: 64"),
            "error: m.yaml:5: unknown key `hiden`\n  help: did you mean `hidden`?  (keys here: format, name, family, \
             layers, hidden, heads, key_value_heads, head_size, attention_bias, feed_forward, vocabulary, sequence, \
             embeddings, rotary_base, rotary_scaling, images, decoder, norm_epsilon, training)"
        );
        assert_eq!(
            said("family: llama", "family: lama"),
            "error: m.yaml:3: unknown value `lama` of `family`\n  help: did you mean `llama`?  (values here: gpt, llama, bert, vit, swin, t5)"
        );
        assert_eq!(
            said("precision: f32", "precision: fp8"),
            "error: m.yaml:13: unknown value `fp8` of `training.precision`\n  help: values here: f32, bf16"
        );
        assert_eq!(
            said("  batch: 8", "  batsch: 8").lines().next(),
            Some("error: m.yaml:12: unknown key `batsch` in `training`")
        );
    }

    #[test]
    fn missing_and_repeated_keys_are_named() {
        assert_eq!(said("hidden: 64\n", ""), "error: m.yaml:1: missing key `hidden`");
        assert_eq!(said("  batch: 8\n", ""), "error: m.yaml:12: missing key `batch` in `training`");
        assert_eq!(said("heads: 4", "heads: 4\nheads: 4"), "error: m.yaml:7: key `heads` stands twice");
    }

    #[test]
    fn values_of_the_wrong_type_say_what_is_expected() {
        assert_eq!(
            said("hidden: 64", "hidden: -64"),
            "error: m.yaml:5: `hidden` must be a whole number, 0 or more, not `-64`"
        );
        assert_eq!(
            said("hidden: 64", "hidden: 99999999999999999999"),
            "error: m.yaml:5: `hidden` must be a whole number, 0 or more, not `99999999999999999999`"
        );
        assert_eq!(
            said("layers: 2", "layers: 5000000000"),
            "error: m.yaml:4: `layers` must be a whole number from 0 to 4294967295, not `5000000000`"
        );
        assert_eq!(
            said("hidden: 64", "hidden: wide"),
            "error: m.yaml:5: `hidden` must be a whole number, 0 or more, not string \"wide\""
        );
        assert_eq!(said("name: tiny", "name: [a]"), "error: m.yaml:2: `name` must be text, not a list");
        assert_eq!(
            said("family: llama", "family: {llama: 1}"),
            "error: m.yaml:3: `family` must be one of the known words, not a mapping"
        );
        assert_eq!(
            said("hidden: 64", "hidden:"),
            "error: m.yaml:5: `hidden` must be a whole number, 0 or more, not nothing"
        );
        assert_eq!(
            said("training:\n  batch: 8\n  precision: f32", "training: 3"),
            "error: m.yaml:11: `training` must be a mapping of keys, not `3`"
        );
        assert_eq!(
            said("  batch: 8", "  batch: 8\n  betas: [0.9]"),
            "error: m.yaml:13: `training.betas` must be a list of 2 numbers, not 1 of them"
        );
    }

    #[test]
    fn the_version_comes_first() {
        let help = "\n  help: the first key must be `format: 1`";
        assert_eq!(said("format: 1", "format: 2"), format!("error: m.yaml:1: format `2` is not known here{help}"));
        assert_eq!(said("format: 1\n", ""), format!("error: m.yaml:1: no version: found `name: tiny`{help}"));
        assert_eq!(
            parse_model("# nothing\n\n", "m.yaml").unwrap_err().to_string(),
            format!("error: m.yaml: the file is empty{help}")
        );
        assert_eq!(said("format: 1", "format:1"), format!("error: m.yaml:1: a space is missing after `format:`{help}"));
        assert!(parse_model(&format!("\n# a comment\n---\n{TINY}"), "m.yaml").is_ok());
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        assert_eq!(
            said("heads: 4", "heads: [4"),
            "error: m.yaml:7: did not find expected ',' or ']', while parsing a flow sequence at line 6 column 8"
        );
    }

    #[test]
    fn all_broken_rules_are_said_at_once() {
        let text = TINY
            .replace("layers: 2", "layers: 0")
            .replace("heads: 4\nkey_value_heads: 2", "heads: 6\nkey_value_heads: 4")
            .replace("batch: 8", "batch: 0\n  learning_rate: .nan\n  betas: [0.9,\n    1.0]");
        assert_eq!(
            parse_model(&text, "m.yaml").unwrap_err().to_string(),
            "error: m.yaml:4: `layers` must be at least 1\n\
             error: m.yaml:6: `heads` (6) does not divide `hidden` (64)\n  \
             help: use a multiple of 6 for `hidden`, other `heads`, or say `head_size`\n\
             error: m.yaml:7: `key_value_heads` (4) does not divide `heads` (6)\n\
             error: m.yaml:12: `training.batch` must be at least 1\n\
             error: m.yaml:13: `training.learning_rate` must be finite and 0 or more, not NaN\n\
             error: m.yaml:15: `training.betas[1]` must be at least 0 and below 1, not 1"
        );
    }

    #[test]
    fn rotated_heads_are_even() {
        assert_eq!(
            said("hidden: 64", "hidden: 12"),
            "error: m.yaml:6: heads of size 3 (`hidden` / `heads`) must be even to be rotated"
        );
        assert!(said("family: llama", "family: gpt").starts_with("Model"));
    }

    #[test]
    fn heads_may_have_a_size_of_their_own() {
        assert!(said("heads: 4", "heads: 4\nhead_size: 6").contains("head_size: Some(6)"));
        assert!(said("heads: 4", "heads: 6\nhead_size: 6").contains("heads: 6"));
        assert_eq!(
            said("heads: 4", "heads: 4\nhead_size: 5"),
            "error: m.yaml:7: heads of size 5 must be even to be rotated"
        );
        assert_eq!(said("heads: 4", "heads: 4\nhead_size: 0"), "error: m.yaml:7: `head_size` must be at least 1");
        let huge = said("heads: 4", &format!("heads: 4\nhead_size: {}", u64::MAX - 1));
        assert!(huge.starts_with("error: m.yaml:5: the model's sizes multiply"), "{huge}");
    }

    #[test]
    fn scaled_frequencies_have_an_order() {
        let scaling = "rotary_scaling: { factor: 8, low_frequency_factor: 4, high_frequency_factor: 1, original_sequence: 0 }\ntraining:";
        assert_eq!(
            said("training:", scaling),
            "error: m.yaml:11: `high_frequency_factor` must be above `low_frequency_factor`\n\
             error: m.yaml:11: `rotary_scaling.original_sequence` must be at least 1"
        );
        let gpt = said("family: llama", "family: gpt\nattention_bias: present");
        assert_eq!(gpt, "error: m.yaml:4: `attention_bias` is for `family: llama`: `gpt` has all biases");
    }

    #[test]
    fn sizes_that_would_overflow_are_refused() {
        let huge = u64::MAX / 4 * 4;
        assert_eq!(
            said("hidden: 64", &format!("hidden: {huge}")).lines().next(),
            Some("error: m.yaml:5: the model's sizes multiply to more parameters than 64 bits can count")
        );
        assert_eq!(
            said("batch: 8", &format!("batch: {}", 1u64 << 60)),
            "error: m.yaml:12: a step has more activations than 64 bits can count"
        );
    }

    #[test]
    fn files_made_to_hurt_are_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
            d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ntraining: [*d,*d,*d,*d,*d,*d,*d]";
        for (name, text) in [
            ("brackets", format!("format: 1\nname: {}", "[".repeat(100_000))),
            ("dashes", format!("format: 1\nname:\n{}", "- ".repeat(20_000))),
            ("aliases", format!("format: 1\n{bomb}")),
            ("self", "format: 1\ntraining: &a {batch: *a}".to_owned()),
            ("nul", "format: 1\nname: \0".to_owned()),
            ("tag", "format: 1\nfamily: !gpt {}".to_owned()),
            ("two", format!("{TINY}---\n{TINY}")),
        ] {
            assert!(parse_model(&text, "m.yaml").is_err(), "{name}");
        }
    }
}
