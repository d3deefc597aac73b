//! What somebody may have meant by a word that the console does not know.

/// Longer words are not compared: the time grows with the product of the lengths.
const LONGEST: usize = 32;

/// The known word (in lower case) that is nearest to `word`, if it is near: two letters away, one in a short word.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let most = if word.len() < 4 { 1 } else { 2 };
    let all = known.into_iter().map(|name| (distance(&word, name), name));
    all.min().filter(|(distance, _)| *distance <= most).map(|(_, name)| name)
}

/// Letters to insert, delete or replace.
fn distance(one: &str, other: &str) -> usize {
    // The distances of the empty beginning of `one` from each beginning of `other`; then one letter more at a time.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (above, against) in row.iter_mut().skip(1).zip(other.bytes()) {
            let changed = diagonal + usize::from(letter != against);
            diagonal = *above;
            left = changed.min(left + 1).min(diagonal + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("pools", "pool", 1), ("a", "b", 1)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn slips_and_nonsense() {
        let known = ["pools", "clients", "stats", "pause"];
        assert_eq!(nearest("pool", known), Some("pools"));
        assert_eq!(nearest("PAUES", known), Some("pause"));
        assert_eq!(nearest("frobnicate", known), None);
        assert_eq!(nearest(&"p".repeat(1000), known), None);
    }
}
