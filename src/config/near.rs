//! What a misspelt word was meant to be.

/// The known word nearest to the given one, if it is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes 100 letters, and the table of distances is their product.
    if word.len() > 64 {
        return None;
    }
    let word = normal(word);
    known
        .into_iter()
        .map(|known| (distance(&word, &normal(known)), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Without what other programs write differently: `retain_size` and `retainSize` are `retain-size`.
fn normal(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// How many letters are to be changed, added, removed or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = [
            "listen",
            "http-listen",
            "retain-size",
            "retain-age",
            "dbs",
            "tls",
        ];
        for (word, want) in [
            ("lisetn", Some("listen")),
            ("listen", Some("listen")),
            ("Listen", Some("listen")),
            ("retain_size", Some("retain-size")),
            ("retainAge", Some("retain-age")),
            ("retain-aeg", Some("retain-age")),
            ("httplisten", Some("http-listen")),
            ("db", Some("dbs")),
            ("ssl", None),
            ("password", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
        assert_eq!(nearest(&"listen".repeat(1000), known), None);
    }
}
