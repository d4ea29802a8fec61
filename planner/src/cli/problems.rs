//! The file of problems: what `import` and `dump` write and `solve` reads. docs/problem.md describes it.

use serde::{Deserialize, Serialize};
use solver::{Posed, Problem, StepRule};

use super::failure::Failure;

/// Outer choices, each with every cost as a number; the best of all is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Problems {
    /// 1.
    pub(crate) format: u32,
    /// The choices; never empty.
    pub(crate) choices: Vec<Choice>,
}

/// One outer choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    /// What it is called.
    pub(crate) name: String,
    /// Sequences of a step: choices are compared by seconds of a sequence.
    pub(crate) sequences: u64,
    /// The costs.
    pub(crate) problem: Problem,
    /// First layer of each stage, where they are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cuts: Option<Vec<usize>>,
    /// How stages make a step.
    #[serde(default)]
    pub(crate) step: StepRule,
    /// `labels[kind][strategy]`: what people call a strategy; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) labels: Vec<Vec<String>>,
    /// Seconds of the best answer, if whoever wrote the file solved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) least_sum: Option<f64>,
    /// What the numbers stand for, where an answer can be written as a strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) meaning: Option<Meaning>,
}

/// What the strategies of a choice are. The first and the last layer are embedding and head, which share one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meaning {
    /// Devices.
    pub(crate) devices: u32,
    /// How gradients are treated where parameters are not sharded.
    pub(crate) unsharded: Shard,
    /// The order of passes.
    pub(crate) schedule: Schedule,
    /// `ways[kind][strategy]`.
    pub(crate) ways: Vec<Vec<Way>>,
}

/// A strategy of a layer: degrees whose product with the stages is the number of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Way {
    /// Ranks that share the products of a layer.
    pub(crate) tensor: u32,
    /// Ranks that share sequences, exchanging heads for positions around attention (Jacobs et al. 2023).
    pub(crate) sequence: u32,
    /// Ranks that share the batch.
    pub(crate) data: u32,
    /// What they share of parameters.
    pub(crate) shard: Shard,
    /// Whether the layer is computed again for backward.
    pub(crate) recompute: Recompute,
}

/// What ranks with the same parameters share of them (ZeRO, Rajbhandari et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shard {
    Nothing,
    /// ZeRO-2.
    Gradients,
    /// ZeRO-3.
    Parameters,
}

/// What is computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Recompute {
    Nothing,
    Full,
}

/// The order of passes in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Schedule {
    /// All forward passes, then all backward passes.
    AllForward,
    /// One forward, one backward.
    OneForwardOneBackward,
}

impl Choice {
    /// The problem, its cuts and its rule.
    pub(crate) fn posed(&self) -> Posed {
        Posed { problem: self.problem.clone(), cuts: self.cuts.clone(), step: self.step }
    }

    /// What an assignment does, as runs of equal strategies: `9 × tensor 4, 19 × tensor 8`; empty without labels.
    pub(crate) fn told(&self, strategies: &[usize]) -> String {
        let mut runs: Vec<(usize, &str)> = Vec::new();
        for (&kind, &strategy) in self.problem.layers.iter().zip(strategies) {
            let Some(label) = self.labels.get(kind).and_then(|labels| labels.get(strategy)) else { continue };
            match runs.last_mut() {
                Some((count, last)) if last == label => *count += 1,
                Some(_) | None => runs.push((1, label)),
            }
        }
        runs.iter().map(|(count, label)| format!("{count} × {label}")).collect::<Vec<String>>().join(", ")
    }
}

impl Problems {
    /// Choices as a file has them.
    pub(crate) fn new(choices: Vec<Choice>) -> Self {
        Self { format: 1, choices }
    }

    /// Reads a file: this format, or a bare problem, which is its only choice.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        let wrong = |error: serde_json::Error| {
            Failure::wrong(format!("{name}:{}: {error}", error.line()))
                .help("docs/problem.md describes problems; examples/problems has one")
        };
        let is_bare = serde_json::from_str::<Head>(text).map_err(wrong)?.kinds.is_some();
        let problems = if is_bare {
            let problem: Problem = serde_json::from_str(text).map_err(wrong)?;
            Self::new(vec![Choice {
                name: "problem".into(),
                sequences: 1,
                problem,
                cuts: None,
                step: StepRule::Slowest,
                labels: Vec::new(),
                least_sum: None,
                meaning: None,
            }])
        } else {
            serde_json::from_str(text).map_err(wrong)?
        };
        problems.check(name)?;
        Ok(problems)
    }

    /// The text of the file.
    pub(crate) fn print(&self) -> String {
        serde_json::to_string(self).expect("numbers and names are JSON") + "\n"
    }

    fn check(&self, name: &str) -> Result<(), Failure> {
        let mut lines = Vec::new();
        if self.format != 1 {
            lines.push(format!("{name}: format is {}; expected 1", self.format));
        }
        if self.choices.is_empty() {
            lines.push(format!("{name}: choices is empty; expected at least one"));
        }
        for (index, choice) in self.choices.iter().enumerate() {
            let place = if self.choices.len() > 1 { format!("{name}: choices[{index}]") } else { name.to_owned() };
            if choice.sequences == 0 {
                lines.push(format!("{place}: sequences is 0; expected at least 1"));
            }
            if let Err(mistakes) = choice.posed().check() {
                lines.extend(mistakes.iter().map(|mistake| format!("{place}: {mistake}")));
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(Failure::wrong(lines.join("\nerror: "))) }
    }
}

/// By what a bare problem is known.
#[derive(Deserialize)]
struct Head {
    kinds: Option<serde::de::IgnoredAny>,
}
