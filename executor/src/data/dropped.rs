//! Letters of a text that the rules of a tokenizer pass over.

use std::collections::BTreeSet;

/// Letters of the longest word that is tried at once.
const WORD: usize = 64;

/// The first word, with its place, of which a letter or digit is in no token. Each different word is tried: a letter may
/// be known at the begin of words alone. Spaces and signs between words may be passed over, as many rules mean to.
pub(super) fn dropped(rules: &tokenizers::Tokenizer, text: &str) -> tokenizers::Result<Option<(usize, String)>> {
    let mut seen = BTreeSet::new();
    for (place, word) in words(text) {
        if !seen.insert(word) {
            continue;
        }
        let encoding = rules.encode(word, false)?;
        // Behind something dropped, tokens stand too far ahead, so the end of the word is in none.
        let is_in = |place: usize| encoding.get_offsets().iter().any(|&(first, last)| (first..last).contains(&place));
        let mut letters = word.char_indices().filter(|(_, letter)| letter.is_alphanumeric());
        if letters.any(|(place, _)| !is_in(place)) {
            return Ok(Some((place, word.to_owned())));
        }
    }
    Ok(None)
}

/// What stands between spaces, with its place; cut where it is very long, as in languages that write no spaces.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(|letter: char| !letter.is_whitespace())?;
        let mut letters = text[start..].char_indices().take(WORD).take_while(|(_, letter)| !letter.is_whitespace());
        let length = letters.by_ref().last().map_or(0, |(place, letter)| place + letter.len_utf8());
        rest = start + length;
        Some((start, &text[start..rest]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_all_of_the_text_but_its_spaces() {
        let long = "é".repeat(WORD + 1);
        let text = format!(" a  bc\n{long} d");
        let expected = [(1, "a"), (4, "bc"), (7, &long[..2 * WORD]), (7 + 2 * WORD, "é"), (10 + 2 * WORD, "d")];
        assert!(words(&text).eq(expected));
        assert_eq!(words("").chain(words(" \n")).count(), 0);
    }
}
