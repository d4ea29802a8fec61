//! Plans that one had in mind, by what is fixed of them.

use clap::ValueEnum;
use hetu_planner::Rules;

use super::spread::{RecomputeName, ScheduleName, SequenceName, ShardName};

/// What is fixed of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// As the user said it, with single spaces.
    pub(crate) said: String,
    /// The same as keys and values.
    pub(crate) parts: Vec<(Key, String)>,
}

/// What may be fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Tensor,
    Stages,
    Data,
    Microbatches,
    Shard,
    Recompute,
    Schedule,
    Sequence,
}

impl Key {
    const ALL: [Key; 8] = [
        Key::Tensor,
        Key::Stages,
        Key::Data,
        Key::Microbatches,
        Key::Shard,
        Key::Recompute,
        Key::Schedule,
        Key::Sequence,
    ];

    fn word(self) -> &'static str {
        match self {
            Key::Tensor => "tensor",
            Key::Stages => "stages",
            Key::Data => "data",
            Key::Microbatches => "microbatches",
            Key::Shard => "shard",
            Key::Recompute => "recompute",
            Key::Schedule => "schedule",
            Key::Sequence => "sequence",
        }
    }
}

impl Fixed {
    /// Rules that fix these, too.
    pub(crate) fn within(&self, rules: &Rules) -> Rules {
        let mut rules = rules.clone();
        for (key, value) in &self.parts {
            fix(&mut rules, *key, value).expect("values were read before");
        }
        rules
    }

    /// The same without one part, with that part in words.
    pub(crate) fn without_each(&self) -> impl Iterator<Item = (String, Fixed)> {
        self.parts.iter().enumerate().map(|(index, (key, value))| {
            let mut parts = self.parts.clone();
            parts.remove(index);
            (format!("{}={value}", key.word()), Fixed { said: self.said.clone(), parts })
        })
    }
}

/// Reads keys and values that spaces or commas part.
pub(crate) fn fixed(text: &str) -> Result<Fixed, String> {
    let words = || text.split([' ', ',']).filter(|word| !word.is_empty());
    let mut parts: Vec<(Key, String)> = Vec::new();
    for word in words() {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("`{word}` has no value: write it as tensor=8"))?;
        let key = Key::ALL
            .into_iter()
            .find(|key| key.word() == name)
            .ok_or_else(|| format!("`{name}` is none of {}", Key::ALL.map(Key::word).join(", ")))?;
        if parts.iter().any(|(known, _)| *known == key) {
            return Err(format!("`{name}` is there twice"));
        }
        fix(&mut Rules::default(), key, value)?;
        parts.push((key, value.to_owned()));
    }
    if parts.is_empty() {
        return Err("nothing is fixed: write it as \"tensor=8 stages=4\"".to_owned());
    }
    Ok(Fixed { said: words().collect::<Vec<_>>().join(" "), parts })
}

fn fix(rules: &mut Rules, key: Key, value: &str) -> Result<(), String> {
    match key {
        Key::Tensor => rules.tensor = Some(count(key, value)?),
        Key::Stages => rules.stages = Some(count(key, value)?),
        Key::Data => rules.data = Some(count(key, value)?),
        Key::Microbatches => rules.microbatches = Some(count(key, value)?),
        Key::Shard => rules.shard = Some(named::<ShardName>(key, value)?.value()),
        Key::Recompute => rules.recompute = Some(named::<RecomputeName>(key, value)?.value()),
        Key::Schedule => rules.schedule = Some(named::<ScheduleName>(key, value)?.value()),
        Key::Sequence => rules.sequence = Some(named::<SequenceName>(key, value)?.value()),
    }
    Ok(())
}

fn count(key: Key, value: &str) -> Result<u32, String> {
    let count = value.parse::<u32>().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{}` is a whole number from 1, not `{value}`", key.word()))
}

fn named<N: ValueEnum>(key: Key, value: &str) -> Result<N, String> {
    N::from_str(value, false).map_err(|_| {
        let names = N::value_variants().iter().filter_map(|each| Some(each.to_possible_value()?.get_name().to_owned()));
        format!("`{}` is one of {}, not `{value}`", key.word(), names.collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use ir::plan::{Recompute, Schedule, Sequence, Shard};

    use super::*;

    #[test]
    fn keys_become_rules_and_mistakes_are_named() {
        let all =
            "tensor=8 stages=4,data=2 microbatches=16 shard=optimizer recompute=full schedule=gpipe sequence=split";
        let wanted = Rules {
            tensor: Some(8),
            stages: Some(4),
            data: Some(2),
            microbatches: Some(16),
            shard: Some(Shard::Optimizer),
            recompute: Some(Recompute::Full),
            schedule: Some(Schedule::AllForward),
            sequence: Some(Sequence::Split),
            ..Rules::default()
        };
        let read = fixed(all).expect("all keys");
        assert_eq!(read.within(&Rules::default()), wanted);
        let without: Vec<Rules> = read.without_each().map(|(_, less)| less.within(&Rules::default())).collect();
        assert_eq!(without[1], Rules { stages: None, ..wanted });
        for (text, said) in [
            ("", "nothing is fixed"),
            ("tensor", "`tensor` has no value"),
            ("tp=8", "`tp` is none of tensor, stages, data"),
            ("tensor=0", "`tensor` is a whole number from 1, not `0`"),
            ("tensor=2 tensor=4", "`tensor` is there twice"),
            ("shard=all", "`shard` is one of nothing, optimizer, gradients, parameters, not `all`"),
        ] {
            assert!(fixed(text).is_err_and(|failure| failure.contains(said)), "{text}");
        }
    }
}
