//! "Did you mean": the nearest of some known words.

/// The candidate that `word` is most likely a misspelling of, if any is near.
pub(super) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Nobody mistypes this much; it also bounds the work for absurd input.
    if word.len() > 64 {
        return None;
    }
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let near = |candidate: &'c str| {
        let letters: Vec<char> = candidate.to_lowercase().chars().collect();
        let allowed = (word.len().max(letters.len()) / 3).clamp(1, 3);
        let distance = distance(&word, &letters);
        (distance <= allowed && distance < letters.len()).then_some((distance, candidate))
    };
    candidates.into_iter().filter_map(near).min().map(|(_, candidate)| candidate)
}

/// How many letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&row, j) + usize::from(x != y)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["name", "dhcp", "fast_path", "router_advertisement", "ip"];
        for (word, meant) in [
            ("fast-path", Some("fast_path")),
            ("fastpath", Some("fast_path")),
            ("dchp", Some("dhcp")),
            ("Name", Some("name")),
            ("names", Some("name")),
            ("router_advertisment", Some("router_advertisement")),
            ("ipp", Some("ip")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, keys), meant, "{word}");
        }
    }

    #[test]
    fn counts_a_swap_as_one() {
        let distance =
            |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("dchp", "dhcp"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
