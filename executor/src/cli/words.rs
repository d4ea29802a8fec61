//! Counts, as people read them.

/// `1 rank`, `4 ranks`, `2 microbatches`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    match (count, noun.ends_with('h')) {
        (1, _) => format!("1 {noun}"),
        (_, true) => format!("{count} {noun}es"),
        (_, false) => format!("{count} {noun}s"),
    }
}

/// `12.3 k`, `4.9 M`, `6.7 B`: three digits or so of a large count.
pub(crate) fn short(count: u64) -> String {
    let scaled = |scale: f64, name: &str| format!("{:.1} {name}", count as f64 / scale);
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => scaled(1e3, "k"),
        1_000_000..1_000_000_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_have_their_noun() {
        assert_eq!([7, 12_345, 4_900_000, 6_700_000_000].map(short), ["7", "12.3 k", "4.9 M", "6.7 B"]);
        assert_eq!(counted(1, "microbatch"), "1 microbatch");
        assert_eq!([counted(2, "microbatch"), counted(0, "rank")], ["2 microbatches", "0 ranks"]);
    }
}
