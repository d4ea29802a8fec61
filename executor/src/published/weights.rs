//! Published weights that a training begins from: checked as a whole before anything is loaded, then read chunk by
//! chunk, each process what its ranks hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ir::error::shown;
use ir::file::{FILE_MAX, parse_config};
use ir::model::{Family, Model, Training};
use ir::region::Region;
use serde_json::{Value, json};

use super::files::{Opened, Place, tensors};
use super::names::{self, Packing, Parameter, Scope, Source};
use super::window::Window;
use super::{CONFIG, PublishedError};
use crate::moves::{self, Pouring, Tally};
use crate::parameters::{Part, Quantity, chunks};
use crate::session::Session;

/// Weights of a folder that are those of a model.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    parameters: Vec<Parameter>,
    /// What stands before the names of the body.
    prefix: &'static str,
    places: BTreeMap<String, Place>,
}

impl Weights {
    /// Looks at a folder with config.json and safetensors in one file or several. No numbers are read yet.
    ///
    /// # Errors
    /// Files are missing or damaged, the folder's model is another one than `model`, or tensors are missing, of other
    /// shapes, or of no parameter of the model.
    pub fn open(folder: &Path, model: &Model) -> Result<Weights, PublishedError> {
        check_config(&folder.join(CONFIG), model)?;
        let places = tensors(folder)?;
        let is_packed = places.keys().any(|name| name.ends_with(".qkv_proj.weight"));
        let parameters = names::parameters(model, if is_packed { Packing::Packed } else { Packing::Apart });
        let prefix = names::prefix(model.family);
        let has_prefix = places.contains_key(&format!("{prefix}{}", names::table_name(model.family)));
        let prefix = if has_prefix { prefix } else { "" };
        let weights = Weights { folder: folder.to_owned(), parameters, prefix, places };
        weights.check(model)?;
        Ok(weights)
    }

    /// Begins a training with these weights, whatever its plan: moments are zero, no steps are done. All processes do
    /// so together. Takes memory for some chunks, or for a whole tensor where matrices are published transposed.
    ///
    /// # Errors
    /// A file cannot be read, or numbers are not finite; the session should not be used then.
    ///
    /// # Panics
    /// If the session is of another model.
    pub fn begin(&self, session: &mut Session) -> Result<(), PublishedError> {
        let draft = Arc::clone(&session.draft);
        let all = moves::all(&draft, session.host.ranks(), Quantity::Value);
        let mut tally = Tally::default();
        for parameter in &self.parameters {
            let key = (parameter.layer, parameter.name);
            let Some(parts) = all.get(&key) else { continue };
            for source in &parameter.sources {
                let mut reading = Reading { place: self.place(source), opened: None, whole: Vec::new() };
                for window in &source.windows {
                    tally.add(key, reading.pour((window, &parameter.shape), parts, session)?);
                }
            }
        }
        let missing = tally.missing(&all).next();
        assert_eq!(missing, None, "the windows of a model cover its parameters");
        session.step = 0;
        Ok(())
    }

    fn name(&self, source: &Source) -> String {
        match source.scope {
            Scope::Body => format!("{}{}", self.prefix, source.name),
            Scope::Head => source.name.clone(),
        }
    }

    fn place(&self, source: &Source) -> (String, &Place) {
        let name = self.name(source);
        let place = self.places.get(&name).expect("it was checked that all tensors are there");
        (name, place)
    }

    /// Whether there are exactly the tensors of the model.
    fn check(&self, model: &Model) -> Result<(), PublishedError> {
        let sources: Vec<&Source> = self.parameters.iter().flat_map(|parameter| &parameter.sources).collect();
        if let Some(bare) = self.parameters.iter().find(|parameter| parameter.sources.is_empty()) {
            let words = format!("there is no tensor for `{}` of layer {}", bare.name, bare.layer);
            return Err(PublishedError::wrong(&self.folder, words));
        }
        let missing: Vec<String> =
            sources.iter().map(|source| self.name(source)).filter(|name| !self.places.contains_key(name)).collect();
        if let Some(first) = missing.first() {
            return Err(PublishedError::wrong(&self.folder, counted(first, missing.len(), "is missing")));
        }
        for source in &sources {
            let (name, place) = self.place(source);
            // Positions that are longer than the sequences that are trained on are not needed.
            let is_longer = model.family == Family::Gpt && source.name == "wpe.weight";
            let is_same = match (place.shape.as_slice(), source.shape.as_slice()) {
                ([rows, columns], [least, width]) if is_longer => rows >= least && columns == width,
                (found, expected) => found == expected,
            };
            if !is_same {
                let words = format!("`{name}` is of shape {:?}, but the model has {:?}", place.shape, source.shape);
                return Err(PublishedError::wrong(&place.path, words));
            }
        }
        let known: Vec<String> = sources.iter().map(|source| self.name(source)).collect();
        let is_more = |name: &&String| {
            // The head of a tied model is the table again.
            !known.contains(name) && !names::is_constant(name) && *name != "lm_head.weight"
        };
        let more: Vec<&String> = self.places.keys().filter(is_more).collect();
        match more.first() {
            Some(first) => {
                Err(PublishedError::wrong(&self.places[*first].path, counted(first, more.len(), "is not of the model")))
            }
            None => Ok(()),
        }
    }
}

fn counted(first: &str, count: usize, what: &str) -> String {
    let others = if count > 1 { format!(", and {} others", count - 1) } else { String::new() };
    format!("tensor `{}` {what}{others}", shown(first))
}

/// Whether a description is of this model, but for its name and its training.
fn check_config(path: &Path, model: &Model) -> Result<(), PublishedError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| PublishedError::file(path, error))?;
    let text = ir::file::read(file, FILE_MAX, &name).map_err(PublishedError::Config)?;
    let published = parse_config(&text, &name, Some(model.sequence)).map_err(PublishedError::Config)?;
    let [published, own] = [&published, model].map(facts);
    let differs = |(key, value): (&String, &Value)| (own.get(key) != Some(value)).then(|| key.clone());
    let mut keys: Vec<String> = published.iter().filter_map(differs).collect();
    keys.extend(own.keys().filter(|key| !published.contains_key(*key)).cloned());
    let said = |value: Option<&Value>| value.map_or("not said".to_owned(), Value::to_string);
    let words =
        |key: &String| format!("{key} is {}, but {} in the plan's model", said(published.get(key)), said(own.get(key)));
    if keys.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = keys.iter().map(words).collect();
    Err(PublishedError::wrong(path, format!("another model: {}", words.join("; "))))
}

/// What a model computes, by key.
fn facts(model: &Model) -> serde_json::Map<String, Value> {
    let bare = Model {
        name: String::new(),
        training: Training::of_batch(1),
        // As they are meant.
        key_value_heads: Some(model.groups()),
        head_size: Some(model.head()),
        ..model.clone()
    };
    let also = [("rotary_base", json!(model.rotary_base)), ("norm_epsilon", json!(model.norm_epsilon))];
    match serde_json::to_value(bare) {
        // These also where they are the usual ones, to be named.
        Ok(Value::Object(object)) => {
            object.into_iter().chain(also.map(|(key, value)| (key.to_owned(), value))).collect()
        }
        Ok(_) | Err(_) => unreachable!("a model is a map of names and numbers"),
    }
}

/// A published tensor that is being read.
struct Reading<'a> {
    place: (String, &'a Place),
    opened: Option<Opened>,
    /// All of it, where it has to be read so.
    whole: Vec<f32>,
}

impl Reading<'_> {
    /// Hands the window's elements to all parts that have some; gives back how many were taken.
    fn pour(
        &mut self,
        (window, shape): (&Window, &[u64]),
        parts: &[Part<'_>],
        session: &mut Session,
    ) -> Result<u64, PublishedError> {
        let stretch = window.stretch(shape);
        assert!(parts.iter().all(|part| part.stretch.region.shape() == shape), "the session is of this model");
        let mut pouring = Pouring::new(&stretch, parts);
        let mut taken = 0;
        for range in chunks(stretch.range()) {
            let region = narrowed(&stretch.region, &range);
            if parts.iter().any(|part| part.stretch.region.meets(&region)) {
                let values = self.values(window, range.clone())?;
                taken += pouring.pour(&mut *session.host, range.start, &values);
            }
        }
        Ok(taken)
    }

    /// Elements of a window, in its order.
    fn values(&mut self, window: &Window, range: Range<u64>) -> Result<Vec<f32>, PublishedError> {
        let (name, place) = &self.place;
        let opened = match &mut self.opened {
            Some(opened) => opened,
            none => none.insert(Opened::new(place)?),
        };
        let mut values = Vec::with_capacity((range.end - range.start) as usize);
        if window.is_straight() {
            for row in window.rows(range) {
                opened.read(row.published, row.length, &mut values)?;
            }
        } else {
            if self.whole.is_empty() {
                opened.read(0, place.shape.iter().product(), &mut self.whole)?;
            }
            values.extend(window.rows(range).flat_map(|row| row.elements()).map(|index| self.whole[index as usize]));
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => {
                Err(PublishedError::wrong(&place.path, format!("`{}` has a number that is {value}", shown(name))))
            }
            None => Ok(values),
        }
    }
}

/// The part of a region in which a range of its elements is, cut along its outermost dimension of more than one index.
fn narrowed(region: &Region, range: &Range<u64>) -> Region {
    let mut region = region.clone();
    let Some(at) = region.sides.iter().position(|side| side.length > 1) else { return region };
    let behind: u64 = region.sides[at + 1..].iter().map(|side| side.length).product();
    let (first, end) = (range.start / behind, range.end.div_ceil(behind));
    region.sides[at].start += first;
    region.sides[at].length = end - first;
    region
}
