//! Work on several things at once, with the results that one after the other would have.

use rayon::prelude::*;

/// The results of `make` for all items, in their order, on as many threads as there are. One item needs no thread.
pub fn map<T: Send, R: Send>(mut items: Vec<T>, make: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    if items.len() > 1 {
        return items.into_par_iter().with_max_len(1).map(make).collect();
    }
    items.pop().map(make).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_their_items() {
        for count in [0, 1, 2, 100] {
            let doubled: Vec<u64> = (0..count).map(|item| item * 2).collect();
            assert_eq!(map((0..count).collect(), |item| item * 2), doubled);
        }
    }
}
