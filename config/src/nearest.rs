//! "Did you mean": the known word nearest to a wrong one.

/// The word of `known` that `wrong` was most likely meant to be, if any is near enough.
pub(crate) fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let allowed = (wrong.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (distance(&wrong, word), word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, word)| *distance <= allowed || is_part(&wrong, word))
        .map(|(_, word)| word)
}

/// Whether one is the beginning of the other and long enough to be no accident, as in
/// `connections_maximum`.
fn is_part(wrong: &str, word: &str) -> bool {
    wrong.len() >= 4 && word.len() >= 4 && (word.starts_with(wrong) || wrong.starts_with(word))
}

/// Insertions, deletions, replacements and swaps of neighbours that make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["connections", "connections_per_second", "calls_open", "user", "log", "spin"];
        for (wrong, expected) in [
            ("conections", Some("connections")),
            ("connection", Some("connections")),
            ("Connections-Per-Second", Some("connections_per_second")),
            ("callsopen", Some("calls_open")),
            ("usre", Some("user")),
            ("logs", Some("log")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, known), expected, "{wrong}");
        }
    }
}
