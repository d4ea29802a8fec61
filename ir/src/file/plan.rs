//! plan.yaml: ranges of layers with one line each, read with its rules.

use std::fmt::{self, Write};
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::digest::Digest;
use super::locate::Segment;
use super::parse::{Checks, FORMAT, keys, named, parse};
use super::print::{scalar, word};
use super::quantity::Quantity;
use super::ways::{Products, print_ways, ways};
use crate::error::{Mistakes, shown};
use crate::model::Precision;
use crate::plan::{Devices, Plan, PlanFile, Predicted, Reference, Schedule, Strategy};

/// More layers than this are refused: those of the largest model, its embedding and its head.
const LAYERS_MAX: u32 = super::model::LAYERS_MAX + 2;
/// Sequences of a step; with those of any model that is read, their tokens can be counted in 64 bits.
const BATCH_MAX: u64 = 1 << 32;
/// Programs number them in 16 bits, and need two numbers for themselves.
const MICROBATCHES_MAX: u64 = u16::MAX as u64 - 1;
const RANKS_MAX: u64 = super::cluster::DEVICES_MAX;

/// A plan file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "plan")]
struct Form {
    #[serde(rename = "format")]
    _format: u32,
    model: Reference,
    cluster: Reference,
    devices: Option<Devices>,
    batch: u64,
    microbatches: u32,
    #[serde(default)]
    schedule: Schedule,
    #[serde(default)]
    precision: Precision,
    #[serde(default = "prefetch")]
    prefetch: u32,
    stages: Vec<String>,
    #[serde(default)]
    parts: Vec<String>,
    layers: Runs,
    predicted: Option<Predicted>,
    products: Option<Products>,
}

fn prefetch() -> u32 {
    1
}

/// The strategies of runs of layers, in the order of the file; keys are checked later, when lines can be told.
struct Runs(Vec<(String, Strategy)>);

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Runs, D::Error> {
        deserializer.deserialize_map(RunsVisitor)
    }
}

struct RunsVisitor;

impl<'de> Visitor<'de> for RunsVisitor {
    type Value = Runs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from ranges of layers, such as `0..24`, to strategies")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Runs, A::Error> {
        let mut runs = Vec::new();
        while let Some(run) = map.next_entry()? {
            runs.push(run);
        }
        Ok(Runs(runs))
    }
}

/// A path alone, or with a digest.
impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        deserializer.deserialize_any(ReferenceVisitor)
    }
}

struct ReferenceVisitor;

/// The form with a digest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Traced {
    path: String,
    digest: Option<Digest>,
}

impl<'de> Visitor<'de> for ReferenceVisitor {
    type Value = Reference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, or a mapping with `path` and `digest`")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Reference, E> {
        Ok(Reference { path: path.to_owned(), digest: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Reference, A::Error> {
        let Traced { path, digest } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Reference { path, digest })
    }
}

/// The plan file that `text` describes, or everything that is wrong with it; `file` names it in messages.
///
/// Whether the plan can be compiled for its model and cluster is for the compiler to say.
pub fn parse_plan(text: &str, file: &str) -> Result<PlanFile, Mistakes> {
    let form: Form = parse(text, file)?;
    let mut checks = Checks::new(text, file);
    let stages = covered(&form.stages, |index| vec!["stages".into(), index.into()], &mut checks);
    let ranges: Vec<String> = form.layers.0.iter().map(|(range, _)| range.clone()).collect();
    let runs = covered(&ranges, |index| keys(["layers", &ranges[index]]).to_vec(), &mut checks);
    check_ends(&stages, &runs, &mut checks);
    if !form.parts.is_empty() && form.parts.len() != form.stages.len() {
        let what = format!("`parts` names {} parts for {} stages", form.parts.len(), form.stages.len());
        checks.wrong_but(&keys(["parts"]), what, "name the part of each stage, or leave `parts` out");
    }
    check_batch(&form, &mut checks);
    check_ranks(&form, stages.len(), &mut checks);
    if form.prefetch > LAYERS_MAX {
        let what = format!("`prefetch` counts layers: it must be at most {LAYERS_MAX}, not {}", form.prefetch);
        checks.wrong_but(&keys(["prefetch"]), what, "1 or 2 hide most exchanges");
    }
    let ways = ways(form.products.as_ref(), &mut checks);
    checks.finish()?;
    let strategies = form.layers.0.iter().zip(&runs);
    let plan = Plan {
        batch: form.batch,
        microbatches: form.microbatches,
        schedule: form.schedule,
        precision: form.precision,
        stages,
        strategies: strategies.flat_map(|((_, strategy), run)| vec![strategy.clone(); run.len()]).collect(),
        prefetch: form.prefetch,
    };
    let Form { model, cluster, devices, parts, predicted, .. } = form;
    Ok(PlanFile { plan, model, cluster, devices, parts, predicted, ways })
}

/// The ranges that `texts` describe, with a mistake for each that is none or that does not follow the one before.
fn covered(texts: &[String], path: impl Fn(usize) -> Vec<Segment>, checks: &mut Checks) -> Vec<Range<u32>> {
    let mut ranges = Vec::new();
    let mut next = 0;
    for (index, text) in texts.iter().enumerate() {
        let Some(range) = range(text) else {
            let what = format!("`{}` is not a range of layers", shown(text));
            checks.wrong_but(&path(index), what, format!("write first..end, such as `0..24`, at most {LAYERS_MAX}"));
            return Vec::new();
        };
        if range.start > next {
            checks.wrong(&path(index), format!("nothing is said of layers {next}..{}", range.start));
        } else if range.start < next {
            checks.wrong(&path(index), format!("layer {} stands in two ranges, or out of order", range.start));
        }
        next = range.end;
        ranges.push(range);
    }
    ranges
}

/// A range from text: `3..7`, or `3` for just one layer.
fn range(text: &str) -> Option<Range<u32>> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&number| number <= LAYERS_MAX);
    let (start, end) = match text.split_once("..") {
        Some((start, end)) => (number(start)?, number(end)?),
        None => (number(text)?, number(text)? + 1),
    };
    (start < end).then_some(start..end)
}

fn check_ends(stages: &[Range<u32>], runs: &[Range<u32>], checks: &mut Checks) {
    match (stages.last(), runs.last()) {
        (Some(stages), Some(runs)) if stages.end != runs.end => {
            let what = format!("`stages` end at layer {}, but `layers` at {}", stages.end, runs.end);
            checks.wrong(&keys(["stages"]), what);
        }
        (Some(_), Some(_)) => {}
        // Empty because of a mistake that was noted, or because there is nothing.
        (stages, runs) => {
            for (key, last) in [("stages", stages), ("layers", runs)] {
                if last.is_none() && checks.is_clean() {
                    checks.wrong(&keys([key]), format!("`{key}` must not be empty"));
                }
            }
        }
    }
}

fn check_batch(form: &Form, checks: &mut Checks) {
    checks.positive(&keys(["batch"]), form.batch);
    checks.positive(&keys(["microbatches"]), u64::from(form.microbatches));
    let (batch, microbatches) = (form.batch, u64::from(form.microbatches));
    for (key, count, most) in [("batch", batch, BATCH_MAX), ("microbatches", microbatches, MICROBATCHES_MAX)] {
        if count > most {
            checks.wrong(&keys([key]), format!("`{key}` must be at most {most}, not {count}"));
        }
    }
    if form.microbatches == 0 {
        return;
    }
    if batch % microbatches != 0 {
        let what = format!("`microbatches` ({microbatches}) does not divide `batch` ({batch})");
        checks.wrong(&keys(["microbatches"]), what);
        return;
    }
    let sequences = batch / microbatches;
    for (range, strategy) in &form.layers.0 {
        let data = u64::from(strategy.data);
        if data > 0 && sequences % data != 0 {
            let what = format!("`data` ({data}) does not divide the {sequences} sequences of a microbatch");
            checks.wrong(&keys(["layers", range, "data"]), what);
        }
    }
}

fn check_ranks(form: &Form, stages: usize, checks: &mut Checks) {
    let mut first = None;
    for (range, strategy) in &form.layers.0 {
        checks.positive(&keys(["layers", range, "data"]), u64::from(strategy.data));
        checks.positive(&keys(["layers", range, "tensor"]), u64::from(strategy.tensor));
        let ranks = u64::from(strategy.data) * u64::from(strategy.tensor);
        let expected = *first.get_or_insert(ranks);
        let path = keys(["layers", range]);
        if ranks != expected {
            let what = format!("{} runs on {ranks} ranks, but the layers before on {expected}", named(&path));
            checks.wrong_but(&path, what, "`data` times `tensor` must be the same for all layers");
        } else if ranks.saturating_mul(stages as u64) > RANKS_MAX {
            checks.wrong(&path, format!("a job has at most {RANKS_MAX} ranks"));
        }
    }
}

/// The plan as a file that [`parse_plan`] reads back.
pub fn print_plan(file: &PlanFile) -> String {
    let plan = &file.plan;
    let stages: Vec<String> = plan.stages.iter().map(|stage| format!("{}..{}", stage.start, stage.end)).collect();
    let mut text = format!("format: {FORMAT}\n");
    let mut line = |key: &str, value: &str| writeln!(text, "{key}: {value}").expect("a string can grow");
    line("model", &reference(&file.model));
    line("cluster", &reference(&file.cluster));
    if let Some(Devices { cluster, device }) = &file.devices {
        line("devices", &format!("{{ cluster: {}, device: {} }}", scalar(cluster), scalar(device)));
    }
    line("batch", &plan.batch.to_string());
    line("microbatches", &plan.microbatches.to_string());
    line("schedule", &word(&plan.schedule));
    line("precision", &word(&plan.precision));
    line("prefetch", &plan.prefetch.to_string());
    line("stages", &format!("[{}]", stages.join(", ")));
    if !file.parts.is_empty() {
        let parts: Vec<String> = file.parts.iter().map(|part| scalar(part)).collect();
        line("parts", &format!("[{}]", parts.join(", ")));
    }
    text.push_str("layers:\n");
    for (layers, strategy) in plan.runs() {
        let Strategy { data, tensor, sequence, shard, recompute } = strategy;
        let words = [word(sequence), word(shard), word(recompute)];
        writeln!(
            text,
            "  {}..{}: {{ data: {data}, tensor: {tensor}, sequence: {}, shard: {}, recompute: {} }}",
            layers.start, layers.end, words[0], words[1], words[2]
        )
        .expect("a string can grow");
    }
    if let Some(Predicted { step, between, peak, programs }) = &file.predicted {
        let between = between.map(|ends| ends.map(|end| end.print()).join(", "));
        let between = between.map_or(String::new(), |ends| format!(" between: [{ends}],"));
        let (step, peak) = (step.print(), peak.print());
        writeln!(text, "predicted: {{ step: {step},{between} peak: {peak}, programs: \"{programs}\" }}")
            .expect("a string can grow");
    }
    print_ways(&file.ways, &mut text);
    text
}

fn reference(reference: &Reference) -> String {
    match &reference.digest {
        Some(digest) => format!("{{ path: {}, digest: \"{digest}\" }}", scalar(&reference.path)),
        None => scalar(&reference.path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "\
format: 1
model: gpt.yaml
cluster: { path: 8xA100-80GB, digest: 9f1c33d02b7e51aa }
devices: { cluster: 8xA100-80GB, device: A100-80GB }
batch: 16
microbatches: 4
stages: [0..4, 4..8]
layers:
  0: { data: 4 }
  1..7: { data: 2, tensor: 2, sequence: split, shard: parameters, recompute: selective }
  7..8: { tensor: 4 }
predicted: { step: 412.7 ms, peak: 61.5 GiB, programs: \"0000000000000001\" }
";

    fn said(from: &str, to: &str) -> String {
        assert!(PLAN.contains(from));
        let text = PLAN.replacen(from, to, 1);
        parse_plan(&text, "p.yaml").map_or_else(|mistakes| mistakes.to_string(), |file| print_plan(&file))
    }

    #[test]
    fn a_plan_prints_whole_and_reads_back() {
        let file = parse_plan(PLAN, "p.yaml").unwrap();
        let printed = print_plan(&file);
        assert_eq!(
            printed,
            "\
format: 1
model: gpt.yaml
cluster: { path: \"8xA100-80GB\", digest: \"9f1c33d02b7e51aa\" }
devices: { cluster: \"8xA100-80GB\", device: A100-80GB }
batch: 16
microbatches: 4
schedule: 1f1b
precision: bf16
prefetch: 1
stages: [0..4, 4..8]
layers:
  0..1: { data: 4, tensor: 1, sequence: whole, shard: nothing, recompute: nothing }
  1..7: { data: 2, tensor: 2, sequence: split, shard: parameters, recompute: selective }
  7..8: { data: 1, tensor: 4, sequence: whole, shard: nothing, recompute: nothing }
predicted: { step: 412.7 ms, peak: 61.5 GiB, programs: \"0000000000000001\" }
"
        );
        assert_eq!(parse_plan(&printed, "p.yaml"), Ok(file));
    }

    #[test]
    fn a_prediction_may_say_between_which_times() {
        let printed = said("step: 412.7 ms,", "step: 412.7 ms, between: [460 ms, 759.5 ms],");
        assert!(printed.contains("{ step: 412.7 ms, between: [460 ms, 759.5 ms], peak: 61.5 GiB"), "{printed}");
        assert_eq!(print_plan(&parse_plan(&printed, "p.yaml").unwrap()), printed);
        let wrong = said("step: 412.7 ms,", "step: 412.7 ms, between: [460 ms],");
        assert!(wrong.starts_with("error: p.yaml:12: "), "{wrong}");
    }

    #[test]
    fn ways_of_products_are_read_back_and_checked() {
        const WAYS: &str = "\
products:
  library: \"cuBLASLt 13.1.0\"
  ways:
  - { shape: \"m8 n4 k16 tt\", element: f32, write: accumulate, way: \"7\" }
  - { shape: \"m8 n4 k16 nn\", element: bf16, addend: present, way: \"42-0-ff\" }
";
        let text = format!("{PLAN}{WAYS}");
        let file = parse_plan(&text, "p.yaml").unwrap();
        assert_eq!(file.ways.products.len(), 2);
        let printed = print_plan(&file);
        assert!(printed.ends_with(WAYS), "{printed}");
        assert_eq!(parse_plan(&printed, "p.yaml"), Ok(file));
        let wrong = |from: &str, to: &str| parse_plan(&text.replacen(from, to, 1), "p.yaml").unwrap_err().to_string();
        assert!(wrong("m8 n4 k16 nn", "b2 h8").starts_with("error: p.yaml:17: `b2 h8` is not a shape of a product"));
        assert!(wrong("42-0-ff", "xyz").contains("p.yaml:17"), "{}", wrong("42-0-ff", "xyz"));
        let twice = format!("{text}  - {{ shape: \"m8 n4 k16 tt\", element: f32, write: accumulate, way: \"8\" }}\n");
        let twice = parse_plan(&twice, "p.yaml").unwrap_err().to_string();
        assert_eq!(twice, "error: p.yaml:18: a way of this product stands above");
    }

    #[test]
    fn stages_may_lie_on_parts() {
        let printed = said("4..8]", "4..8]\nparts: [H100, A100-80GB]");
        assert!(printed.contains("stages: [0..4, 4..8]\nparts: [H100, A100-80GB]\nlayers:"), "{printed}");
        assert_eq!(print_plan(&parse_plan(&printed, "p.yaml").unwrap()), printed);
        assert_eq!(
            said("4..8]", "4..8]\nparts: [H100]"),
            "error: p.yaml:8: `parts` names 1 parts for 2 stages\n  \
             help: name the part of each stage, or leave `parts` out"
        );
    }

    #[test]
    fn layers_are_covered_exactly_once() {
        assert_eq!(said("1..7:", "2..7:"), "error: p.yaml:10: nothing is said of layers 1..2");
        assert_eq!(said("1..7:", "0..7:"), "error: p.yaml:10: layer 0 stands in two ranges, or out of order");
        assert_eq!(said("4..8]", "4..9]"), "error: p.yaml:7: `stages` end at layer 9, but `layers` at 8");
        assert_eq!(said("[0..4, 4..8]", "[]"), "error: p.yaml:7: `stages` must not be empty");
        assert_eq!(
            said("[0..4, 4..8]", "[0..4, 8..4]"),
            "error: p.yaml:7: `8..4` is not a range of layers\n  help: write first..end, such as `0..24`, at most 4098"
        );
    }

    #[test]
    fn counts_have_bounds_that_are_told() {
        let batch = said("batch: 16", "batch: 288230376151711744");
        assert!(batch.contains("`batch` must be at most 4294967296, not 288230376151711744"), "{batch}");
        let microbatches = said("microbatches: 4", "microbatches: 1000000");
        assert!(microbatches.contains("`microbatches` must be at most 65534, not 1000000"), "{microbatches}");
    }

    #[test]
    fn prefetch_is_no_more_than_the_layers_of_a_model() {
        assert_eq!(
            said("batch: 16", "batch: 16\nprefetch: 4294967295"),
            "error: p.yaml:6: `prefetch` counts layers: it must be at most 4098, not 4294967295\n  \
             help: 1 or 2 hide most exchanges"
        );
    }

    #[test]
    fn degrees_fit_the_batch_and_each_other() {
        assert_eq!(
            said("microbatches: 4", "microbatches: 3"),
            "error: p.yaml:6: `microbatches` (3) does not divide `batch` (16)"
        );
        assert_eq!(
            said("  0: { data: 4 }", "  0: { data: 8 }"),
            "error: p.yaml:9: `data` (8) does not divide the 4 sequences of a microbatch\n\
             error: p.yaml:10: `layers.1..7` runs on 4 ranks, but the layers before on 8\n  \
             help: `data` times `tensor` must be the same for all layers\n\
             error: p.yaml:11: `layers.7..8` runs on 4 ranks, but the layers before on 8\n  \
             help: `data` times `tensor` must be the same for all layers"
        );
        assert_eq!(
            said("shard: parameters", "shard: paramters"),
            "error: p.yaml:10: unknown value `paramters` of `layers.1..7.shard`\n  help: did you mean `parameters`?  \
             (values here: nothing, optimizer, gradients, parameters)"
        );
    }

    #[test]
    fn a_reference_is_a_path_or_a_mapping() {
        assert_eq!(
            said("model: gpt.yaml", "model: { path: gpt.yaml }"),
            said("model: gpt.yaml", "model: \"gpt.yaml\"")
        );
        assert_eq!(
            said("model: gpt.yaml", "model: { pat: gpt.yaml }"),
            "error: p.yaml:2: unknown key `pat` in `model`\n  help: did you mean `path`?  (keys here: path, digest)"
        );
        assert_eq!(
            said("model: gpt.yaml", "model: [gpt.yaml]"),
            "error: p.yaml:2: `model` must be a path, or a mapping with `path` and `digest`, not a list"
        );
    }

    #[test]
    fn a_digest_has_sixteen_digits() {
        assert_eq!(
            said("9f1c33d02b7e51aa", "9f1c"),
            "error: p.yaml:3: `cluster.digest` must be a digest of 16 hexadecimal digits, not `9f1c`"
        );
    }
}
