//! Plans in one line: `2+3 m4 gpipe ahead2: d2 t2 split optimizer / d4 full`.
//!
//! Before the colon stand the layers of each stage, then `m` microbatches (else 2), `gpipe` (else one forward, one
//! backward) and `ahead` the prefetch (else 1). After it stand strategies: `d` data, `t` tensor, `split` for the
//! sequence, what is sharded, what is recomputed; what is not named is the default. One strategy is that of all
//! layers, several are divided by `/`, one a layer, and `3*` before one repeats it.

use std::ops::Range;

use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

/// The plan that `text` writes, for a step of `batch` sequences.
///
/// # Panics
/// If the text is no plan.
pub fn plan(batch: u64, text: &str) -> Plan {
    let (outer, strategies) = text.split_once(':').unwrap_or_else(|| panic!("`{text}` has no colon"));
    let mut words = outer.split_whitespace();
    let stages = stages(words.next().unwrap_or_else(|| panic!("`{text}` has no stages")));
    let layers = stages.last().map_or(0, |stage| stage.end as usize);
    let mut plan = Plan {
        batch,
        microbatches: 2,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Full,
        strategies: layer_strategies(strategies, layers),
        stages,
        prefetch: 1,
    };
    for word in words {
        if word == "gpipe" {
            plan.schedule = Schedule::AllForward;
        } else if let Some(depth) = word.strip_prefix("ahead") {
            plan.prefetch = number(depth);
        } else if let Some(count) = word.strip_prefix('m') {
            plan.microbatches = number(count);
        } else {
            panic!("`{text}` has the unknown word `{word}`");
        }
    }
    plan
}

fn stages(text: &str) -> Vec<Range<u32>> {
    let mut start = 0;
    let counts = text.split('+').map(number);
    counts
        .map(|count| {
            start += count;
            start - count..start
        })
        .collect()
}

fn layer_strategies(text: &str, layers: usize) -> Vec<Strategy> {
    let repeated = |part: &str| match part.trim().split_once("* ") {
        Some((count, rest)) => vec![strategy(rest); number(count) as usize],
        None => vec![strategy(part)],
    };
    let all: Vec<Strategy> = text.split('/').flat_map(repeated).collect();
    match all.len() {
        1 => vec![all[0].clone(); layers],
        count => {
            assert_eq!(count, layers, "strategies of `{text}`");
            all
        }
    }
}

/// The strategy that `text` writes.
///
/// # Panics
/// If the text is no strategy.
pub fn strategy(text: &str) -> Strategy {
    let mut strategy = single();
    for word in text.split_whitespace() {
        match word {
            "split" => strategy.sequence = Sequence::Split,
            "optimizer" => strategy.shard = Shard::Optimizer,
            "gradients" => strategy.shard = Shard::Gradients,
            "parameters" => strategy.shard = Shard::Parameters,
            "selective" => strategy.recompute = Recompute::Selective,
            "full" => strategy.recompute = Recompute::Full,
            degree => match degree.split_at(1) {
                ("d", count) => strategy.data = number(count),
                ("t", count) => strategy.tensor = number(count),
                _ => panic!("`{text}` has the unknown word `{word}`"),
            },
        }
    }
    strategy
}

/// The strategy of a layer that is on one rank and keeps everything.
pub fn single() -> Strategy {
    Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Nothing }
}

/// The plan of one rank that takes the whole batch at once.
pub fn alone(batch: u64, layers: usize) -> Plan {
    Plan { microbatches: 1, ..plan(batch, &format!("{layers}: d1")) }
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_plan() {
        let plan = plan(8, "2+1 m4 gpipe ahead0: 2* d2 t2 split optimizer / d4 full");
        assert_eq!(plan.stages, [0..2, 2..3]);
        assert_eq!((plan.batch, plan.microbatches, plan.prefetch), (8, 4, 0));
        assert_eq!(plan.schedule, Schedule::AllForward);
        let shared = Strategy { data: 2, tensor: 2, sequence: Sequence::Split, shard: Shard::Optimizer, ..single() };
        let last = Strategy { data: 4, recompute: Recompute::Full, ..single() };
        assert_eq!(plan.strategies, [shared.clone(), shared, last]);
    }
}
