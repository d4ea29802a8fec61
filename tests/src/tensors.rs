//! Checkpoints as tests read and change them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use executor::Session;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// A checkpoint's tensors: shape and values by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a checkpoint.
///
/// # Panics
/// If there is none at `path`.
pub fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("the checkpoint was written");
    let file = SafeTensors::deserialize(&bytes).expect("a checkpoint is of this format");
    let values = |view: &TensorView<'_>| -> Vec<f32> {
        view.data().chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(&view)))).collect()
}

/// Writes a checkpoint after no step.
///
/// # Panics
/// If it cannot be written.
pub fn write(path: &Path, tensors: &Tensors) {
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let owned: Vec<_> = tensors.iter().map(|(name, (shape, values))| (name, shape, bytes(values))).collect();
    let views = owned.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).expect("bytes of the shape"))
    });
    let metadata = [("format".to_owned(), "1".to_owned()), ("steps".to_owned(), "0".to_owned())];
    safetensors::serialize_to_file(views, Some(metadata.into()), path).expect("the checkpoint is written");
}

/// The parameters of a session and their moments.
///
/// # Panics
/// If no checkpoint can be written.
pub fn of(session: &Session) -> Tensors {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}-{}.safetensors", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let path = std::env::temp_dir().join(name);
    session.save(&path).expect("the checkpoint is written");
    let tensors = read(&path);
    std::fs::remove_file(&path).expect("it was there");
    tensors
}

/// The parameter, of those that count, that differs most from that of others, and by what part of its largest element.
///
/// # Panics
/// If they are not of the same model.
pub fn farthest(found: &Tensors, expected: &Tensors, counts: impl Fn(&str) -> bool) -> (String, f64) {
    assert!(found.keys().eq(expected.keys()), "one model has the same parameters");
    let parameters = expected.iter().filter(|(name, _)| !name.ends_with(" moment") && counts(name));
    let difference = |(name, (_, expected)): (&String, &(Vec<usize>, Vec<f32>))| {
        let largest = expected.iter().fold(0.0, |largest, value| value.abs().max(largest));
        let pairs = found[name].1.iter().zip(expected);
        // A sum, so that what is no number is not lost.
        let most =
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |most: f32, next| if next <= most { most } else { next });
        (name.clone(), f64::from(most / largest))
    };
    parameters.map(difference).max_by(|a, b| a.1.total_cmp(&b.1)).expect("a model has parameters")
}
