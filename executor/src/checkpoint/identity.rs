//! What a training is: facts by name, of which those that go on must have all in common, but for what they are told.

use serde::{Deserialize, Serialize};

/// All facts of a training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// In the order in which differences are told.
    pub facts: Vec<Fact>,
}

/// One fact of a training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// As the user knows it, such as `learning-rate`.
    pub name: String,
    /// As text: a number, or the digest of a content.
    pub value: String,
    /// Whether a training that goes on may have another.
    pub freedom: Freedom,
}

/// Whether a training that goes on may differ in a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freedom {
    /// Never.
    Fixed,
    /// Where the user names it.
    Named,
    /// Always: it is noted for people.
    Free,
}

/// A fact as it stands in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noted {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What differs between two trainings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Differences {
    pub(crate) words: Vec<String>,
    /// What must be named to accept them; none if some cannot be.
    pub(crate) remedy: Option<Vec<String>>,
}

impl Identity {
    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, freedom: Freedom, name: &str, value: impl ToString) -> Identity {
        self.facts.push(Fact { name: name.to_owned(), value: value.to_string(), freedom });
        self
    }

    pub(crate) fn noted(&self) -> Vec<Noted> {
        let noted = |fact: &Fact| Noted { name: fact.name.clone(), value: fact.value.clone() };
        self.facts.iter().map(noted).collect()
    }

    /// What differs from an earlier training and is not in `allowed`.
    pub(crate) fn differences(&self, then: &[Noted], allowed: &[String]) -> Option<Differences> {
        let mut differences = Differences { words: Vec::new(), remedy: Some(Vec::new()) };
        for Fact { name, value, freedom } in &self.facts {
            let noted = then.iter().find(|noted| noted.name == *name).map(|noted| noted.value.as_str());
            let is_allowed = match freedom {
                Freedom::Fixed => false,
                Freedom::Named => allowed.contains(name),
                Freedom::Free => true,
            };
            if noted == Some(value) || is_allowed {
                continue;
            }
            differences.words.push(format!("{name} was {}, is {value}", noted.unwrap_or("not noted")));
            match (freedom, &mut differences.remedy) {
                (Freedom::Named, Some(names)) => names.push(name.clone()),
                (Freedom::Fixed | Freedom::Free, _) => differences.remedy = None,
                (Freedom::Named, None) => {}
            }
        }
        // What only models of that time have.
        for Noted { name, value } in then.iter().filter(|noted| !self.facts.iter().any(|fact| fact.name == noted.name))
        {
            differences.words.push(format!("{name} was {value}, is not said"));
            differences.remedy = None;
        }
        (!differences.words.is_empty()).then_some(differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(hidden: u64, rate: f64, seed: u64) -> Identity {
        Identity::default()
            .with(Freedom::Fixed, "hidden", hidden)
            .with(Freedom::Named, "learning-rate", rate)
            .with(Freedom::Named, "seed", seed)
            .with(Freedom::Free, "plan", format!("{hidden}{rate}{seed}"))
    }

    #[test]
    fn differences_are_told_with_both_values_and_the_way_out() {
        let then = identity(8, 0.1, 1).noted();
        assert_eq!(identity(8, 0.1, 1).differences(&then, &[]), None);
        let found = identity(8, 0.2, 2).differences(&then, &["seed".to_owned()]).expect("the rate differs");
        assert_eq!(found.words, ["learning-rate was 0.1, is 0.2"]);
        assert_eq!(found.remedy, Some(vec!["learning-rate".to_owned()]));
        let found = identity(9, 0.2, 1).differences(&then, &["hidden".to_owned()]).expect("both differ");
        assert_eq!(found.words, ["hidden was 8, is 9", "learning-rate was 0.1, is 0.2"]);
        assert_eq!(found.remedy, None, "a model cannot be another one");
        let with = identity(8, 0.1, 1).with(Freedom::Fixed, "head_size", 6).noted();
        let found = identity(8, 0.1, 1).differences(&with, &[]).expect("one is new");
        assert_eq!((found.words, found.remedy), (vec!["head_size was 6, is not said".to_owned()], None));
        let found = identity(8, 0.1, 1).differences(&then[1..], &[]).expect("one is missing");
        assert_eq!(found.words, ["hidden was not noted, is 8"]);
    }
}
