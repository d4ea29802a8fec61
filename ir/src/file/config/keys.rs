//! The keys of a config.json, each of which has to be asked for.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{ARCHITECTURES, Architecture};
use crate::error::{Mistakes, nearest, shown};
use crate::file::locate::Segment;
use crate::file::parse::Checks;

/// Keys that do not change what is computed: tokens of a tokenizer, initial values, dropout, how a program runs.
const OF_NO_EFFECT: [&str; 52] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "decoder_start_token_id",
    "do_sample",
    "embd_pdrop",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "head_type",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "max_length",
    "max_window_layers",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
];

/// Any of these says that a token takes some of many feed-forward parts.
const EXPERTS: [&str; 6] = [
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "moe_intermediate_size",
    "num_experts_per_tok",
    "moe_num_experts",
];

/// An object of the file. What is wrong is collected; a value that is missing or wrong counts as some number then.
pub(super) struct Keys<'a> {
    object: Map<String, Value>,
    /// Where the object is.
    path: Vec<Segment>,
    asked: BTreeSet<String>,
    checks: Checks<'a>,
    text: &'a str,
    file: &'a str,
    /// What was found in an object inside.
    inside: Vec<Mistakes>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(object: Map<String, Value>, text: &'a str, file: &'a str) -> Keys<'a> {
        let (path, asked, inside) = (Vec::new(), BTreeSet::new(), Vec::new());
        Keys { object, path, asked, checks: Checks::new(text, file), text, file, inside }
    }

    /// What the model is, if this program can say it; else it was noted why not.
    pub(super) fn architecture(&mut self) -> Option<Architecture> {
        let experts = EXPERTS.into_iter().find(|&key| self.has(key) && !self.object[key].is_null());
        if let Some(key) = experts {
            let what = format!("{}: a mixture of experts cannot be said here", words(&self.object[key]));
            self.wrong(key, what);
            return None;
        }
        let found = self.word_if_any("model_type");
        let Some(found) = found else {
            if !self.has("model_type") {
                self.checks.wrong(&[], "missing key `model_type`, which says what kind of model it is");
            }
            return None;
        };
        let known = ARCHITECTURES.iter().find(|(name, _)| *name == found).map(|(_, architecture)| *architecture);
        if known.is_none() {
            let why = why_not(&found);
            self.wrong("model_type", format!("`{}`: {why}", shown(&found)));
        }
        known
    }

    /// The word of `model_type`.
    pub(super) fn model_type(&self) -> String {
        self.object.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Whether the key is there, though it may be null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// Notes that the value of a key is wrong.
    pub(super) fn wrong(&mut self, key: &str, what: String) {
        let mut path = self.path.clone();
        path.push(key.into());
        let name = self.name(key);
        self.checks.wrong(&path, format!("`{name}`: {what}"));
    }

    /// Notes that the object as a whole cannot be said.
    pub(super) fn unsayable(&mut self, what: String) {
        let key = if self.has("rope_type") { "rope_type" } else { "type" };
        self.wrong(key, what);
        // What goes with it says no more.
        self.asked.extend(self.object.keys().cloned());
    }

    fn name(&self, key: &str) -> String {
        let outer = self.path.iter().filter_map(|segment| match segment {
            Segment::Key(key) => Some(key.as_str()),
            Segment::Index(_) => None,
        });
        outer.chain([key]).map(shown).collect::<Vec<_>>().join(".")
    }

    /// The value of a key that is there and not null.
    fn value(&mut self, key: &str) -> Option<Value> {
        self.asked.insert(key.to_owned());
        self.object.get(key).filter(|value| !value.is_null()).cloned()
    }

    /// Passes over a key, whatever it says.
    pub(super) fn pass(&mut self, key: &str) {
        self.asked.insert(key.to_owned());
    }

    /// A key that, if it is there and not null, must have one of these values.
    pub(super) fn only(&mut self, key: &str, known: &[Value], why: &str) {
        let Some(value) = self.value(key) else { return };
        let is_same = |other: &Value| value == *other || value.as_f64().is_some_and(|it| Some(it) == other.as_f64());
        if !known.iter().any(is_same) {
            self.wrong(key, format!("{}: {why}", words(&value)));
        }
    }

    pub(super) fn count_if_any(&mut self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        let count = value.as_u64();
        if count.is_none_or(|count| count == 0) {
            self.wrong(key, format!("{}: it must be a whole number, 1 or more", words(&value)));
        }
        Some(count.filter(|&count| count > 0).unwrap_or(1))
    }

    pub(super) fn count(&mut self, key: &str) -> u64 {
        let found = self.count_if_any(key);
        found.unwrap_or_else(|| {
            self.missing(key);
            1
        })
    }

    /// A count of layers.
    pub(super) fn layers(&mut self, key: &str) -> u32 {
        let count = self.count(key);
        // Of the largest there is, it is said elsewhere that they are too many.
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(super) fn number_or(&mut self, key: &str, default: f64) -> f64 {
        let Some(value) = self.value(key) else { return default };
        let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        if number.is_none() {
            self.wrong(key, format!("{}: it must be a number above 0", words(&value)));
        }
        number.unwrap_or(default)
    }

    pub(super) fn number(&mut self, key: &str) -> f64 {
        if self.value(key).is_none() {
            self.missing(key);
        }
        self.number_or(key, 1.0)
    }

    pub(super) fn flag_if_any(&mut self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        if !value.is_boolean() {
            self.wrong(key, format!("{}: it must be true or false", words(&value)));
        }
        value.as_bool()
    }

    pub(super) fn word_if_any(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        if !value.is_string() {
            self.wrong(key, format!("{}: it must be a word", words(&value)));
        }
        value.as_str().map(str::to_owned)
    }

    fn missing(&mut self, key: &str) {
        let name = self.name(key);
        self.checks.wrong(&self.path.clone(), format!("missing key `{name}`"));
    }

    /// An object inside, to be given back with [`Keys::leave`].
    pub(super) fn inner(&mut self, key: &str) -> Option<Keys<'a>> {
        let value = self.value(key)?;
        let Value::Object(object) = value else {
            self.wrong(key, format!("{}: it must be an object, in braces", words(&value)));
            return None;
        };
        let mut path = self.path.clone();
        path.push(key.into());
        Some(Keys { path, ..Keys::new(object, self.text, self.file) })
    }

    pub(super) fn leave(&mut self, inner: Keys<'a>) {
        self.inside.extend(inner.finish().err());
    }

    /// Everything that is wrong, where something is.
    pub(super) fn refused(self) -> Mistakes {
        self.checks.finish().expect_err("it was noted what is wrong")
    }

    /// Everything that is wrong: also keys that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), Mistakes> {
        let unknown: Vec<String> = self
            .object
            .iter()
            .filter(|(key, value)| {
                let is_layered = *key == "layer_types" && is_full(value);
                !self.asked.contains(*key) && !OF_NO_EFFECT.contains(&key.as_str()) && !value.is_null() && !is_layered
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in unknown {
            let what = format!(
                "{}: the key is not known here, and may change what the model computes",
                words(&self.object[&key])
            );
            self.wrong(&key, what);
        }
        let mut all: Vec<_> =
            self.checks.finish().err().into_iter().chain(self.inside).flat_map(|some| some.0).collect();
        all.sort_by_key(|mistake| (mistake.line, mistake.column));
        if all.is_empty() { Ok(()) } else { Err(Mistakes(all)) }
    }
}

/// Whether all layers see all tokens.
fn is_full(value: &Value) -> bool {
    value.as_array().is_some_and(|layers| layers.iter().all(|layer| layer == "full_attention"))
}

/// Why a kind of model cannot be said.
fn why_not(model_type: &str) -> String {
    if ["moe", "mixtral", "deepseek", "dbrx", "jamba"].iter().any(|word| model_type.contains(word)) {
        return "a mixture of experts cannot be said here".to_owned();
    }
    if model_type.starts_with("gemma") {
        return "gated GELU, norms of weight 1 + w and scaled embeddings cannot be said here".to_owned();
    }
    let listed: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
    let why = match model_type {
        "qwen3" => "norms of queries and keys cannot be said here",
        "gpt_neox" => "parallel residual branches and rotary positions with biases cannot be said here",
        _ => match nearest(model_type, listed.iter().copied()) {
            Some(near) => {
                return format!("this kind is not known here; did you mean `{near}`?  (kinds: {})", listed.join(", "));
            }
            None => "this kind is not known here",
        },
    };
    format!("{why}  (kinds that can: {})", listed.join(", "))
}

/// A value as a message shows it.
fn words(value: &Value) -> String {
    shown(&value.to_string())
}
