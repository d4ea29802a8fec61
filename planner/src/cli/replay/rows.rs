//! Runs as rows of a file: what each column means, and what is wrong with a row.

use csv::{ReaderBuilder, StringRecord, Trim};
use ir::error::shown;
use serde::Deserialize;

use crate::cli::Failure;

/// One run. Empty cells take the default that is named; columns may stand in any order, and others are passed over.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    /// Where it stands in its file.
    #[serde(skip)]
    pub(super) line: u64,
    /// Who measured it: rows of one source are summed up together.
    pub(super) source: String,
    /// Its name there.
    pub(super) id: String,
    /// `gpt` or `llama` [gpt].
    pub(super) family: Option<String>,
    pub(super) layers: u32,
    pub(super) hidden: u64,
    pub(super) heads: u64,
    /// [as many as heads]
    pub(super) kv_heads: Option<u64>,
    /// [4 hidden]
    pub(super) feed_forward: Option<u64>,
    pub(super) vocabulary: u64,
    pub(super) sequence: u64,
    /// `tied` or `untied` [tied].
    pub(super) embeddings: Option<String>,
    /// A shipped description, such as `A100-80GB`, or a cluster file.
    pub(super) device: String,
    pub(super) nodes: u32,
    pub(super) devices_per_node: u32,
    /// GB/s of one device between nodes [as described].
    pub(super) between: Option<f64>,
    /// GB/s that its memory reaches at best [as described].
    pub(super) memory_rate: Option<f64>,
    pub(super) data: u32,
    pub(super) tensor: u32,
    pub(super) stages: u32,
    /// Parts of the model that a rank has, one after the other around the pipeline [1].
    pub(super) interleave: Option<u32>,
    /// Sequences of a rank [the fastest that fits].
    pub(super) micro_batch: Option<u64>,
    pub(super) batch: u64,
    /// `whole` or `split` [whole].
    pub(super) sequence_between: Option<String>,
    /// `nothing`, `optimizer`, `gradients` or `parameters` [nothing].
    pub(super) shard: Option<String>,
    /// `nothing`, `attention` (its scores), `selective` (norms and activations) or `full` [nothing].
    pub(super) recompute: Option<String>,
    /// A shipped description, or a file [hetu].
    pub(super) software: Option<String>,
    /// `bf16`, or `fp8`: as its software does by itself, or scaled as `fp8-current` or `fp8-delayed` [bf16].
    pub(super) products: Option<String>,
    /// Seconds of a step.
    pub(super) step: f64,
    /// GiB of the fullest device [not measured].
    pub(super) memory: Option<f64>,
    /// Whether `memory` is what the trainer allocated, what the driver shows, or a formula that counts the blocks of the
    /// first stage alone: `allocated`, `shown` or `blocks` [allocated].
    pub(super) memory_kind: Option<String>,
}

/// Every row of a file, or the line and what is wrong with it; a failure if it is no table of runs at all.
pub(super) fn rows(text: &str, file: &str) -> Result<Vec<Result<Row, String>>, Failure> {
    let mut reader = ReaderBuilder::new().comment(Some(b'#')).trim(Trim::All).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| Failure::wrong(format!("{file}: {error}"));
    let headers = reader.headers().map_err(wrong)?.clone();
    if let Some(missing) = ["source", "id", "layers", "device", "step"].iter().find(|name| !has(&headers, name)) {
        let what = format!("{file}: no column `{missing}` in the first line");
        return Err(Failure::wrong(what).help("docs/replay.md names the columns"));
    }
    let rows = reader.records().map(|record| {
        let record = record.map_err(|error| format!("error: {file}: {error}"))?;
        let line = record.position().map_or(0, |place| line_of(text, place));
        let at = |what: String| format!("error: {file}:{line}: {what}");
        let row: Row = record.deserialize(Some(&headers)).map_err(|error| at(mistake(&error, &headers, &record)))?;
        check(&row).map_err(at)?;
        Ok(Row { line, ..row })
    });
    Ok(rows.collect())
}

/// The line of a record: its position is in front of the comments and empty lines before it.
fn line_of(text: &str, place: &csv::Position) -> u64 {
    let rest = text.get(place.byte() as usize..).unwrap_or_default();
    let skipped = rest.lines().take_while(|line| line.is_empty() || line.starts_with('#')).count();
    place.line() + skipped as u64
}

fn has(headers: &StringRecord, name: &str) -> bool {
    headers.iter().any(|header| header == name)
}

/// What cannot be read, with the column and the value.
fn mistake(error: &csv::Error, headers: &StringRecord, record: &StringRecord) -> String {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else { return error.to_string() };
    let Some(field) = err.field() else { return err.kind().to_string() };
    let [column, value] = [headers, record].map(|record| shown(record.get(field as usize).unwrap_or_default()));
    format!("`{column}` cannot be `{value}`: {}", err.kind())
}

/// What no run can be.
fn check(row: &Row) -> Result<(), String> {
    let counts = [
        ("layers", u64::from(row.layers)),
        ("hidden", row.hidden),
        ("heads", row.heads),
        ("kv_heads", row.kv_heads.unwrap_or(1)),
        ("feed_forward", row.feed_forward.unwrap_or(1)),
        ("vocabulary", row.vocabulary),
        ("sequence", row.sequence),
        ("nodes", row.nodes.into()),
        ("devices_per_node", row.devices_per_node.into()),
        ("data", row.data.into()),
        ("tensor", row.tensor.into()),
        ("stages", row.stages.into()),
        ("interleave", row.interleave.unwrap_or(1).into()),
        ("micro_batch", row.micro_batch.unwrap_or(1)),
        ("batch", row.batch),
    ];
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(format!("`{name}` must be at least 1"));
    }
    if let Some((name, count)) = counts.iter().find(|(_, count)| *count > 1 << 32) {
        return Err(format!("`{name}` must be at most 4294967296, not {count}"));
    }
    let kinds = ["allocated", "shown", "blocks"];
    if let Some(kind) = row.memory_kind.as_deref().filter(|kind| !kinds.contains(kind)) {
        return Err(format!("`memory_kind` cannot be `{}`: it is one of {}", shown(kind), kinds.join(", ")));
    }
    let numbers =
        [("step", Some(row.step)), ("memory", row.memory), ("between", row.between), ("memory_rate", row.memory_rate)];
    for (name, number) in numbers {
        if number.is_some_and(|number| !(number.is_finite() && number > 0.0)) {
            return Err(format!("`{name}` must be finite and above 0"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "source,id,layers,hidden,heads,vocabulary,sequence,device,nodes,devices_per_node,data,tensor,\
                          stages,micro_batch,batch,step,note\n";

    fn read(lines: &str) -> Vec<Result<Row, String>> {
        rows(&format!("{HEADER}{lines}"), "runs.csv").unwrap_or_else(|failure| panic!("{}", failure.text))
    }

    #[test]
    fn a_bad_row_is_named_and_the_others_go_on() {
        let good = "a,1,24,1024,16,50304,1024,A100-80GB,1,8,8,1,1,,64,0.5,\"x, y\"\n";
        let rows =
            read(&format!("{good}# a comment\n{}{}{good}", good.replace("24,", "many,"), good.replace("0.5", "-1")));
        assert_eq!(rows.len(), 4);
        let good = rows[0].as_ref().expect("it is right");
        assert_eq!((good.line, good.layers, good.micro_batch, good.memory), (2, 24, None, None));
        let said = |index: usize| rows[index].as_ref().expect_err("it is wrong").clone();
        assert_eq!(said(1), "error: runs.csv:4: `layers` cannot be `many`: invalid digit found in string");
        assert_eq!(said(2), "error: runs.csv:5: `step` must be finite and above 0");
        assert!(rows[3].is_ok());
    }

    #[test]
    fn memory_is_of_a_known_kind() {
        let header = HEADER.replace("note", "memory_kind");
        let read = |kind: &str| {
            let text = format!("{header}a,1,24,1024,16,50304,1024,A100-80GB,1,8,8,1,1,,64,0.5,{kind}\n");
            rows(&text, "runs.csv").unwrap_or_else(|failure| panic!("{}", failure.text)).remove(0)
        };
        assert!(["", "allocated", "shown", "blocks"].iter().all(|kind| read(kind).is_ok()));
        let said = read("all").expect_err("there is no such kind");
        assert_eq!(said, "error: runs.csv:2: `memory_kind` cannot be `all`: it is one of allocated, shown, blocks");
    }

    #[test]
    fn a_file_without_runs_is_refused() {
        let failure = rows("a,b\n1,2\n", "x.csv").expect_err("it has no columns of runs");
        assert!(failure.text.starts_with("error: x.csv: no column `source` in the first line"), "{}", failure.text);
        assert!(read("a,1,24\n")[0].is_err());
    }
}
