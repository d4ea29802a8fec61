//! What was measured, by what formulas ask for. Times are in milliseconds, sizes in MiB, rates in MB/ms, as in the files.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fit::Curve;
use super::settings::{Mode, Settings};
use super::tables::Table;

/// All that was measured for a model on a cluster.
pub(crate) struct Profile {
    /// Per kind of layer.
    pub(crate) layers: Vec<LayerProfile>,
    /// Embedding and head, forward: milliseconds of so many samples on one device.
    pub(crate) ends_time: Curve,
    /// Embedding and head where one stage has both, and of the first and the last of several.
    pub(crate) ends: [EndProfile; 3],
    pub(crate) network: Network,
}

/// A kind of layer.
pub(crate) struct LayerProfile {
    /// Forward: milliseconds of so many samples on one device.
    pub(crate) time: Curve,
    /// Of its parameters, at four bytes each.
    pub(crate) parameters: f64,
    /// Kept of one sample, by the degree of tensor or sequence parallelism.
    pub(crate) kept: BTreeMap<u32, f64>,
    /// The same if the layer is computed again.
    pub(crate) kept_recomputed: f64,
}

/// Embedding, head or both.
pub(crate) struct EndProfile {
    /// Parameters, gradients and optimizer by the degree of tensor parallelism.
    pub(crate) states: BTreeMap<u32, f64>,
    /// Kept of one sample by the degree of tensor or sequence parallelism.
    pub(crate) kept: BTreeMap<u32, f64>,
}

/// What exchanges take.
pub(crate) struct Network {
    /// Of sums over all of so many ranks, adjacent (true) or strided.
    pub(crate) rates: BTreeMap<(u32, bool), f64>,
    /// Between so many stages.
    pub(crate) stage_rates: BTreeMap<u32, f64>,
    /// Sums over so many ranks.
    pub(crate) sums: BTreeMap<u32, Exchange>,
    /// Exchanges of all with all.
    pub(crate) swaps: BTreeMap<u32, Exchange>,
    /// By how much work and exchanges slow each other down.
    pub(crate) slowdown: f64,
}

/// Times of an exchange by size.
pub(crate) struct Exchange {
    measured: BTreeMap<u64, f64>,
    line: Curve,
}

impl Exchange {
    /// Milliseconds for `size` MiB of each rank: as measured, else by the line through what was.
    pub(crate) fn time(&self, size: f64) -> f64 {
        let exact = if size.fract() == 0.0 { self.measured.get(&(size as u64)) } else { None };
        exact.copied().unwrap_or_else(|| self.line.at(size))
    }
}

/// The files.
pub(crate) struct Files<'l> {
    pub(crate) computation: Table<'l>,
    pub(crate) memory: Table<'l>,
    pub(crate) sums: Table<'l>,
    pub(crate) stages: Table<'l>,
    pub(crate) overlap: Table<'l>,
    pub(crate) sizes: Table<'l>,
}

impl Profile {
    /// What the files have of what settings need. What is missing is noted where the files are.
    pub(crate) fn new(settings: &Settings, files: &Files<'_>) -> Self {
        let types = &settings.model_layer_configs;
        let layers = (0..types.len()).map(|index| layer(settings, files, index)).collect();
        let rows = rows(&files.computation, &["layertype_other", "layertype_other_0"]);
        let mode = settings.search_engine.profiling_info.time_profile_mode;
        let sequence = types[0].seq_len;
        let ends_time = curve(&files.computation, "layertype_other", mode, (sequence, Curve::line), &rows);
        let ends = ["pp_off", "pp_on_first", "pp_on_last"].map(|place| end(settings, &files.memory, place));
        Self { layers, ends_time, ends, network: network(settings, files) }
    }
}

/// Degrees that are powers of two.
pub(crate) fn powers(most: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS).map(|power| 1u32 << power).take_while(move |&degree| degree <= most)
}

fn layer(settings: &Settings, files: &Files<'_>, index: usize) -> LayerProfile {
    let engine = &settings.search_engine;
    let sequence = settings.model_layer_configs[index].seq_len;
    let prefix = format!("layertype_{index}");
    let rows = rows(&files.computation, &[&prefix]);
    let mode = engine.profiling_info.time_profile_mode;
    let time = curve(&files.computation, &prefix, mode, (sequence, Curve::parabola), &rows);
    let key = format!("{prefix}_sp");
    // With a sweep of lengths, what is kept grows from the longest, and parameters are the most that was seen.
    let lengths: Vec<u64> = files
        .memory
        .entries()
        .filter(|(name, _)| *name == key)
        .filter_map(|(_, value)| value.as_object())
        .flat_map(|lengths| lengths.keys().filter_map(|length| length.parse().ok()))
        .collect();
    let longest = lengths.iter().copied().max();
    let (seen, scale) = match (engine.profiling_info.memory_profile_mode, longest) {
        (Mode::Sequence, Some(longest)) => (longest.to_string(), f64::from(sequence) / longest as f64),
        (Mode::Sequence, None) | (Mode::Static | Mode::Batch, _) => (sequence.to_string(), 1.0),
    };
    let parameters = match engine.profiling_info.memory_profile_mode {
        Mode::Sequence => lengths
            .iter()
            .map(|length| files.memory.number(&[&key, &length.to_string(), "parameter_size"]))
            .fold(0.0, f64::max),
        Mode::Static | Mode::Batch => files.memory.number(&[&key, &seen, "parameter_size"]),
    };
    let kept = |degree: &str| scale * files.memory.number(&[&key, &seen, "tp_activation_per_bsz_dict", degree]);
    let degrees = powers(settings.widest());
    LayerProfile {
        time,
        parameters,
        kept: degrees.map(|degree| (degree, kept(&degree.to_string()))).collect(),
        kept_recomputed: kept("checkpoint"),
    }
}

/// A measurement of the time of a layer.
struct Row {
    batch: u32,
    sequence: u32,
    /// Of one sample.
    time: f64,
}

/// The rows `PREFIX_bszB_seqS`. Lengths may be lists, `[512,512]`, whose first counts.
fn rows(table: &Table<'_>, prefixes: &[&str]) -> Vec<Row> {
    let parse = |key: &str| {
        let rest = prefixes.iter().find_map(|prefix| key.strip_prefix(prefix)?.strip_prefix("_bsz"))?;
        let (batch, sequence) = rest.split_once("_seq")?;
        let first = sequence.trim_matches(['[', ']']).split(',').next()?;
        Some((batch.parse().ok()?, first.parse().ok()?))
    };
    let row = |(key, value): (&str, &Value)| {
        let (batch, sequence) = parse(key)?;
        Some(Row { batch, sequence, time: table.positive(key, Some(value)) })
    };
    table.entries().filter_map(row).collect()
}

type FitOf = fn(&[(f64, f64)]) -> Option<Curve>;

/// Milliseconds of so many samples of `sequence` tokens. `shape` is how time grows with the length.
fn curve(table: &Table<'_>, prefix: &str, mode: Mode, (sequence, shape): (u32, FitOf), rows: &[Row]) -> Curve {
    let here = || rows.iter().filter(|row| row.sequence == sequence);
    let fitted = match mode {
        Mode::Static => match here().collect::<Vec<&Row>>()[..] {
            [row] => Some(Curve::through_zero(row.time)),
            _ => None,
        },
        Mode::Batch => {
            let points = here().map(|row| (f64::from(row.batch), f64::from(row.batch) * row.time));
            Curve::line(&points.collect::<Vec<_>>())
        }
        Mode::Sequence => {
            let points = rows.iter().filter(|row| row.batch == 1).map(|row| (f64::from(row.sequence), row.time));
            shape(&points.collect::<Vec<_>>()).map(|curve| Curve::through_zero(curve.at(f64::from(sequence))))
        }
    };
    fitted.unwrap_or_else(|| {
        let needed = match mode {
            Mode::Static => format!("one row {prefix}_bszN_seq{sequence} (several: time_profile_mode batch)"),
            Mode::Batch => format!("two rows {prefix}_bszN_seq{sequence} or more (one: time_profile_mode static)"),
            Mode::Sequence => format!("three rows {prefix}_bsz1_seqN or more"),
        };
        table.lack(&format!("needs {needed}"));
        Curve::through_zero(1.0)
    })
}

fn end(settings: &Settings, memory: &Table<'_>, place: &str) -> EndProfile {
    let key = format!("other_memory_{place}_sp");
    let lengths: Vec<String> = settings.model_layer_configs.iter().map(|it| it.seq_len.to_string()).collect();
    let joined = ["_", ",", ""].map(|between| lengths.join(between));
    let bracketed = format!("[{}]", lengths.join(","));
    let choices = [joined[0].clone(), joined[1].clone(), bracketed, joined[2].clone(), lengths[0].clone()];
    let (place, found) = memory.object(&key, &choices);
    let column = |name: &str| {
        let column: Option<&Map<String, Value>> = found.get(name).and_then(Value::as_object);
        let value = |degree: u32| {
            let key = degree.to_string();
            memory.positive(&format!("{place}.{name}.{key}"), column.and_then(|column| column.get(&key)))
        };
        powers(settings.widest()).map(|degree| (degree, value(degree))).collect()
    };
    EndProfile { states: column("model_states"), kept: column("activation") }
}

fn network(settings: &Settings, files: &Files<'_>) -> Network {
    let devices = settings.devices();
    let mut rates = BTreeMap::new();
    for ranks in powers(devices).skip(1) {
        for is_adjacent in [true, false] {
            // All ranks together are adjacent.
            if is_adjacent || ranks < devices {
                let key = format!("allreduce_size_{ranks}_consec_{}", u8::from(is_adjacent));
                rates.insert((ranks, is_adjacent), files.sums.number(&[&key]));
            }
        }
    }
    let deepest = settings.search_engine.search_space_info.max_pp_deg.min(devices);
    let stage_rate = |stages: u32| (stages, files.stages.number(&[&format!("pp_size_{stages}")]));
    let exchange = |name: &str, ranks: u32| (ranks, exchange(&files.sizes, name, ranks));
    let groups = || powers(settings.widest()).skip(1);
    Network {
        rates,
        stage_rates: powers(deepest).skip(1).map(stage_rate).collect(),
        sums: groups().map(|ranks| exchange("allreduce", ranks)).collect(),
        swaps: groups().map(|ranks| exchange("all2all", ranks)).collect(),
        slowdown: files.overlap.number(&["overlap_coe"]),
    }
}

fn exchange(table: &Table<'_>, name: &str, ranks: u32) -> Exchange {
    let prefix = format!("{name}_size_{ranks}_");
    let measured: BTreeMap<u64, f64> = table
        .entries()
        .filter_map(|(key, value)| {
            let size = key.strip_prefix(&prefix)?.strip_suffix("MB_time")?.parse().ok()?;
            Some((size, table.positive(key, Some(value))))
        })
        .collect();
    let points: Vec<(f64, f64)> = measured.iter().map(|(&size, &time)| (size as f64, time)).collect();
    let line = Curve::line(&points).unwrap_or_else(|| {
        table.lack(&format!("needs two rows {prefix}NMB_time or more; profile them"));
        Curve::through_zero(1.0)
    });
    Exchange { measured, line }
}
