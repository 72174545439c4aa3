//! Suggestions for misspelt words.

/// The one of `words` that `wrong` may be a misspelling of.
pub(crate) fn nearest<'w>(wrong: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let close = 1 + wrong.chars().count() / 4;
    words
        .map(|word| (distance(wrong, word), word))
        .filter(|(distance, _)| *distance <= close)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The help line for a misspelt word that is probably this one.
pub(crate) fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

/// A help line for a misspelt word, if one of `words` is close.
pub(crate) fn suggest<'w>(wrong: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    nearest(wrong, words).map(did_you_mean)
}

/// Words in the order given, for a help line.
pub(crate) fn listed<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// Edit distance: characters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let replaced = get(&last, j) + usize::from(a.get(i) != b.get(j));
            let mut best = replaced.min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i) == b.get(j - 1) && a.get(i - 1) == b.get(j) {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let words = ["address", "addresses", "mtu", "mac"];
        let suggested = |wrong| suggest(wrong, words.into_iter());
        assert_eq!(suggested("adress").unwrap(), "did you mean `address`?");
        assert_eq!(suggested("adresses").unwrap(), "did you mean `addresses`?");
        assert_eq!(suggested("mut").unwrap(), "did you mean `mtu`?");
        assert_eq!(suggested("lifetime"), None);
        assert_eq!(suggested("zzz"), None);
    }

    #[test]
    fn distances_are_those_of_optimal_string_alignment() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
