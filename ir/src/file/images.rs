//! model.yaml of models of images: the rules of what they read, and of levels and windows.

use super::parse::{Checks, keys};
use crate::model::{Embeddings, Family, Images, Model};

/// More levels, and windows of longer edges, are refused.
pub(super) const LEVELS_MAX: usize = 8;
const WINDOW_MAX: u64 = 1 << 12;

/// What is read in place of tokens stands where it must, and nowhere else.
pub(super) fn check_images(model: &Model, checks: &mut Checks) {
    let family = model.family.name();
    let reads_images = match model.family {
        Family::Gpt | Family::Llama | Family::Bert | Family::T5 => false,
        Family::Vit | Family::Swin => true,
    };
    match &model.images {
        None if reads_images => {
            let help = "write `images: { patch: 768 }`: height × width × colours of a patch";
            checks.wrong_but(&keys(["family"]), format!("`family: {family}` needs `images`"), help);
        }
        Some(_) if !reads_images => {
            checks.wrong(&keys(["images"]), format!("`images` is for `vit` and `swin`: `{family}` reads tokens"));
        }
        None => {}
        Some(images) => {
            checks.positive(&keys(["images", "patch"]), images.patch);
            match model.family {
                Family::Swin => check_levels(model, images, checks),
                Family::Gpt | Family::Llama | Family::Bert | Family::Vit | Family::T5 => {
                    check_no_levels(images, checks)
                }
            }
            if model.embeddings == Embeddings::Tied {
                let what = "`embeddings: tied` is for models of text: patches have no table";
                checks.wrong(&keys(["embeddings"]), what);
            }
        }
    }
}

fn check_no_levels(images: &Images, checks: &mut Checks) {
    let what = |key: &str| format!("`images.{key}` is for `family: swin`: `vit` sees images as a whole");
    if !images.levels.is_empty() {
        checks.wrong(&keys(["images", "levels"]), what("levels"));
    }
    if images.window.is_some() {
        checks.wrong(&keys(["images", "window"]), what("window"));
    }
}

/// Levels have all blocks, and each of them whole windows.
fn check_levels(model: &Model, images: &Images, checks: &mut Checks) {
    let (levels, path) = (&images.levels, keys(["images", "levels"]));
    if levels.is_empty() || levels.len() > LEVELS_MAX {
        let place = if levels.is_empty() { keys(["images", "patch"]) } else { path };
        checks.wrong(&place, format!("`images.levels` must say the blocks of 1 to {LEVELS_MAX} levels"));
        return;
    }
    let blocks: u64 = levels.iter().map(|&blocks| u64::from(blocks)).sum();
    if levels.contains(&0) || blocks != u64::from(model.layers) {
        let what = format!("levels of at least 1 block must add up to `layers` ({}), not to {blocks}", model.layers);
        checks.wrong(&path, what);
    }
    let Some(window) = images.window else {
        checks.wrong_but(&keys(["family"]), "`family: swin` needs `images.window`", "write `window: 7` in `images`");
        return;
    };
    if window == 0 || window > WINDOW_MAX {
        checks.wrong(&keys(["images", "window"]), format!("`images.window` must be from 1 to {WINDOW_MAX}"));
        return;
    }
    let patches = window * window;
    let uneven = (0..levels.len()).find(|level| {
        let merged = 1u64 << (2 * level);
        !model.sequence.is_multiple_of(merged) || !(model.sequence / merged).is_multiple_of(patches)
    });
    if let Some(level) = uneven {
        let what = format!(
            "windows of {patches} patches cannot share the {} ÷ 4^{level} of level {} evenly",
            model.sequence,
            level + 1
        );
        checks.wrong(&keys(["images", "window"]), what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse_model, print_model};

    const WINDOWS: &str = "\
format: 1
name: tiny
family: swin
layers: 5
hidden: 8
heads: 2
feed_forward: 16
vocabulary: 10
sequence: 64
images: { patch: 12, levels: [2, 3], window: 2 }
training:
  batch: 8
";

    fn said(from: &str, to: &str) -> String {
        assert!(WINDOWS.contains(from), "{from}");
        match parse_model(&WINDOWS.replace(from, to), "m.yaml") {
            Ok(_) => "fine".to_owned(),
            Err(mistakes) => mistakes.to_string(),
        }
    }

    #[test]
    fn levels_and_windows_read_back() {
        let model = parse_model(WINDOWS, "m.yaml").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(parse_model(&print_model(&model), "m.yaml"), Ok(model.clone()));
        let graph = model.graph();
        assert_eq!((graph.layers.len() as u32, graph.sequence), (model.layer_count(), 16));
    }

    #[test]
    fn what_is_wrong_with_images_is_named_by_line() {
        assert_eq!(
            said("images: { patch: 12, levels: [2, 3], window: 2 }\n", ""),
            "error: m.yaml:3: `family: swin` needs `images`\n  help: write `images: { patch: 768 }`: height × width × \
             colours of a patch"
        );
        assert_eq!(
            said("family: swin", "family: bert"),
            "error: m.yaml:10: `images` is for `vit` and `swin`: `bert` reads tokens"
        );
        assert_eq!(
            said("family: swin", "family: vit"),
            "error: m.yaml:10: `images.levels` is for `family: swin`: `vit` sees images as a whole\n\
             error: m.yaml:10: `images.window` is for `family: swin`: `vit` sees images as a whole"
        );
        assert_eq!(
            said("[2, 3]", "[2, 2]"),
            "error: m.yaml:10: levels of at least 1 block must add up to `layers` (5), not to 4"
        );
        assert_eq!(
            said("levels: [2, 3], ", ""),
            "error: m.yaml:10: `images.levels` must say the blocks of 1 to 8 levels"
        );
        assert_eq!(
            said("window: 2", "window: 3"),
            "error: m.yaml:10: windows of 9 patches cannot share the 64 ÷ 4^0 of level 1 evenly"
        );
        assert_eq!(
            said("sequence: 64", "sequence: 16\nembeddings: tied"),
            "error: m.yaml:10: `embeddings: tied` is for models of text: patches have no table"
        );
        assert_eq!(
            said("sequence: 64", "sequence: 4"),
            "error: m.yaml:10: windows of 4 patches cannot share the 4 ÷ 4^1 of level 2 evenly"
        );
        assert_eq!(said("patch: 12", "patch: 0"), "error: m.yaml:10: `images.patch` must be at least 1");
        assert_eq!(said("window: 2", "window: 0"), "error: m.yaml:10: `images.window` must be from 1 to 4096");
    }

    #[test]
    fn sizes_of_the_last_level_must_be_countable() {
        let wide = said("hidden: 8", "hidden: 1073741824");
        assert!(wide.starts_with("error: m.yaml:5: the model's sizes multiply"), "{wide}");
    }
}
