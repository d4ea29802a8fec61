//! What processes tell each other of a checkpoint, so that all succeed or all fail.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::world::World;

/// What a process says of its part.
#[derive(Serialize, Deserialize)]
enum Word<T> {
    Good(T),
    /// Another checkpoint may be better.
    Damaged(String),
    Failed(String),
}

/// What all say, or the first failure: the own one as it is.
pub(crate) fn gathered<T: Serialize + DeserializeOwned>(
    world: &mut dyn World,
    own: Result<T, CheckpointError>,
) -> Result<Vec<T>, CheckpointError> {
    let said = say(world, &own)?;
    own?;
    let value = |(process, word): (usize, Word<T>)| match word {
        Word::Good(value) => Ok(value),
        Word::Damaged(words) | Word::Failed(words) => elsewhere(process, words),
    };
    said.into_iter().enumerate().map(value).collect()
}

/// The own value, if no process failed.
pub(crate) fn together<T>(world: &mut dyn World, own: Result<T, CheckpointError>) -> Result<T, CheckpointError> {
    let (word, value) = match own {
        Ok(value) => (Ok(()), Some(value)),
        Err(error) => (Err(error), None),
    };
    gathered(world, word)?;
    Ok(value.expect("without a failure there is a value"))
}

/// Whether a checkpoint is good for all, or why it is damaged for one; an error if another would be no better.
pub(crate) fn agreed(
    world: &mut dyn World,
    own: Result<(), CheckpointError>,
) -> Result<Result<(), String>, CheckpointError> {
    let said = say(world, &own)?;
    if let Err(error) = own
        && !error.is_damage()
    {
        return Err(error);
    }
    let mut damage = Ok(());
    for (process, word) in said.into_iter().enumerate() {
        match word {
            Word::Good(()) => {}
            Word::Damaged(words) => damage = damage.and(Err(words)),
            Word::Failed(words) => return elsewhere(process, words),
        }
    }
    Ok(damage)
}

fn elsewhere<T>(process: usize, words: String) -> Result<T, CheckpointError> {
    Err(CheckpointError::Elsewhere { process: process as u32, words })
}

fn say<T: Serialize + DeserializeOwned>(
    world: &mut dyn World,
    own: &Result<T, CheckpointError>,
) -> Result<Vec<Word<T>>, CheckpointError> {
    let word = match own {
        Ok(value) => Word::Good(value),
        Err(error) if error.is_damage() => Word::Damaged(error.to_string()),
        Err(error) => Word::Failed(error.to_string()),
    };
    let said = world.all_say(&serde_json::to_vec(&word).expect("words have a JSON form"))?;
    let read = |said: &Vec<u8>| match serde_json::from_slice(said) {
        Ok(word) => word,
        Err(error) => Word::Failed(format!("what it says cannot be understood: {error}")),
    };
    Ok(said.iter().map(read).collect())
}
