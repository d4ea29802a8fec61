//! Headers that are damaged, and what windows are.

use std::fs;
use std::path::Path;

use ir::seed::{Draws, Seed};

use super::files::tensors;
use super::window::{Row, Step, Window};

#[test]
fn no_damaged_header_is_believed_or_panics() {
    const SEED: u64 = 5;
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/published/tiny-gpt2/model.safetensors");
    let good = fs::read(from).expect("there is an example");
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("model.safetensors");
    let header = 8 + u64::from_le_bytes(good[..8].try_into().expect("eight bytes"));
    let mut draws = Draws::new(Seed(SEED));
    let (mut refused, count) = (0, 3000);
    for _ in 0..count {
        let mut bytes = good.clone();
        for _ in 0..=draws.below(3) {
            let at = draws.below(header) as usize;
            match draws.below(4) {
                0 => bytes[at] = draws.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.splice(at..at, b"18446744073709551615".iter().copied())),
                _ => drop(bytes.splice(at..(at + 9).min(header as usize), *b"-1")),
            }
            if bytes.len() < header as usize {
                break;
            }
        }
        fs::write(&path, &bytes).expect("there is room");
        match tensors(folder.path()) {
            Err(_) => refused += 1,
            // A name or a number of the same size.
            Ok(found) => assert!(
                found.values().all(|place| {
                    let bytes = place.shape.iter().product::<u64>() * place.stored.bytes();
                    place.offset + bytes <= good.len() as u64 + 80
                }),
                "seed {SEED}: {found:?}"
            ),
        }
    }
    assert!(refused > count / 2, "{refused} of {count}, seed {SEED}");
}

#[test]
fn a_window_names_published_elements_in_its_own_order() {
    let step = |first, length, stride| Step { first, length, stride };
    // The middle columns of a matrix of 3 rows and 4 columns that is published transposed.
    let window = Window { steps: vec![step(0, 3, 1), step(1, 2, 3)], offset: 3 };
    let elements: Vec<u64> = window.rows(0..6).flat_map(Row::elements).collect();
    assert_eq!(elements, [3, 6, 4, 7, 5, 8]);
    assert_eq!(window.rows(1..4).flat_map(Row::elements).collect::<Vec<_>>(), elements[1..4]);
    assert!(!window.is_straight());
    // What lies as one is one row.
    let window = Window { steps: vec![step(2, 1, 0), step(0, 3, 4), step(0, 4, 1)], offset: 12 };
    assert!(window.is_straight());
    assert_eq!(window.rows(2..9).collect::<Vec<_>>(), [Row { local: 2, published: 14, length: 7, stride: 1 }]);
}
