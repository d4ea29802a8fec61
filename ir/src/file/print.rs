//! Small pieces of YAML for the forms that are printed by hand, because they put a whole entry on a line.

use serde::Serialize;

/// A text as one YAML scalar: plain if it is a simple word, else in quotes.
pub(crate) fn scalar(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    let constant = ["true", "false", "null"].iter().any(|constant| constant.eq_ignore_ascii_case(text));
    if text.starts_with(|letter: char| letter.is_ascii_alphabetic()) && text.chars().all(plain) && !constant {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '..='~' => quoted.push(letter),
            _ if letter.is_alphanumeric() => quoted.push(letter),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(letter))),
        }
    }
    quoted.push('"');
    quoted
}

/// The word that stands for a variant in files.
pub(crate) fn word<T: Serialize>(variant: &T) -> String {
    serde_yaml::to_string(variant).expect("a variant without content is a word").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Draws, Seed};

    #[test]
    fn a_word_that_means_a_constant_is_quoted() {
        assert_eq!((scalar("true").as_str(), scalar("Null").as_str()), ("\"true\"", "\"Null\""));
    }

    #[test]
    fn any_text_is_read_back() {
        for text in
            ["", "a b", "true", "1f", "~", "a: b", "x\n\"\\\u{0}\u{7f}\u{85}\u{feff}", "µs – ü", "[", "- a", "#"]
        {
            assert_eq!(serde_yaml::from_str::<String>(&scalar(text)).unwrap(), text);
            assert_eq!(serde_yaml::from_str::<(String, String)>(&format!("[{0}, {0}]", scalar(text))).unwrap().1, text);
        }
        for seed in 0..3000 {
            let mut draws = Draws::new(Seed(seed));
            let text: String =
                (0..draws.below(8)).filter_map(|_| char::from_u32(draws.below(0x11_0000) as u32)).collect();
            assert_eq!(serde_yaml::from_str::<String>(&scalar(&text)).unwrap(), text, "seed {seed}");
        }
    }
}
