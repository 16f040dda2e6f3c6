//! Patterns by which topics are subscribed to, in order: a trie without nodes.
//!
//! Sorted, the patterns that share a beginning lie side by side, so that whether a branch of the trie
//! is there is one look at the first pattern behind it. A match takes at each label the branch of that
//! label and that of `*`, as far as there are any: what it costs grows with the labels of the name and
//! the branches that fit it, and with the number of subscriptions only as finding a place among them
//! does. A pattern costs its text once, however many labels it has, and leaves nothing behind.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound::{Included, Unbounded};
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Name, Pattern};

/// Which subscribers have which pattern.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trie {
    patterns: BTreeMap<Pattern, BTreeSet<u32>>,
    len: u32,
}

impl Trie {
    /// Subscribers in it.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn insert(&mut self, pattern: &Pattern, subscriber: u32) {
        let fresh = self.patterns.entry(pattern.clone()).or_default().insert(subscriber);
        assert!(fresh, "a subscriber has its pattern once");
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, pattern: &Pattern, subscriber: u32) {
        let all = self.patterns.get_mut(pattern).expect("a pattern that was entered");
        assert!(all.remove(&subscriber), "a subscriber that was entered");
        if all.is_empty() {
            self.patterns.remove(pattern);
        }
        self.len -= 1;
    }

    /// Adds those to `found` whose pattern matches the name, each once.
    pub(crate) fn matches(&self, name: &Name, found: &mut Vec<u32>) {
        if !self.patterns.is_empty() {
            // Long enough for every beginning, so that it never moves.
            let mut beginning = String::with_capacity(2 * name.as_str().len() + 2);
            self.descend(&mut beginning, name.as_str(), found);
        }
    }

    /// Goes on below `beginning`, which ends in a dot or is empty, with the labels that are left.
    fn descend(&self, beginning: &mut String, labels: &str, found: &mut Vec<u32>) {
        let len = beginning.len();
        beginning.push_str("**");
        self.add(beginning, found);
        beginning.truncate(len);
        let (label, rest) = labels.split_once('.').unwrap_or((labels, ""));
        for branch in ["*", label] {
            beginning.push_str(branch);
            if rest.is_empty() {
                self.add(beginning, found);
            } else {
                beginning.push('.');
                if self.has_branch(beginning) {
                    self.descend(beginning, rest, found);
                }
            }
            beginning.truncate(len);
        }
    }

    fn add(&self, pattern: &str, found: &mut Vec<u32>) {
        if let Some(all) = self.patterns.get(pattern) {
            found.extend(all);
        }
    }

    fn has_branch(&self, beginning: &str) -> bool {
        let mut from = self.patterns.range::<str, _>((Included(beginning), Unbounded));
        from.next().is_some_and(|(pattern, _)| pattern.as_str().starts_with(beginning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(trie: &Trie, name: &str) -> Vec<u32> {
        let mut found = Vec::new();
        trie.matches(&Name::new(name).expect("a name"), &mut found);
        found.sort_unstable();
        found
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("a pattern")
    }

    #[test]
    fn one_star_is_one_label_and_two_are_one_or_more() {
        let mut trie = Trie::default();
        for (at, text) in (0..).zip(["a.b", "a.*", "*.b", "a.**", "**", "*", "*.*", "a.b.**", "a-b.**"]) {
            trie.insert(&pattern(text), at);
        }
        assert_eq!(found(&trie, "a.b"), [0, 1, 2, 3, 4, 6]);
        assert_eq!(found(&trie, "a"), [4, 5]);
        assert_eq!(found(&trie, "a.b.c"), [3, 4, 7]);
        assert_eq!(found(&trie, "a-b.c"), [4, 6, 8]);
        trie.remove(&pattern("**"), 4);
        assert_eq!(found(&trie, "a"), [5]);
    }

    #[test]
    fn it_finds_what_each_pattern_by_itself_matches() {
        let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        let labels = ["a", "b", "ab", "a-", "a_b", "0"];
        let mut trie = Trie::default();
        let mut entered: Vec<(Pattern, u32)> = Vec::new();
        for round in 0..4_000_u32 {
            let mut text: Vec<&str> =
                (0..=roll(4)).map(|_| if roll(3) == 0 { "*" } else { labels[roll(6) as usize] }).collect();
            if roll(4) == 0 {
                text.push("**");
            }
            let wanted = pattern(&text.join("."));
            trie.insert(&wanted, round);
            entered.push((wanted, round));
            if roll(2) == 0 {
                let (gone, at) = entered.swap_remove(roll(entered.len() as u64) as usize);
                trie.remove(&gone, at);
            }
            let name: Vec<&str> = (0..=roll(5)).map(|_| labels[roll(6) as usize]).collect();
            let name = Name::new(&name.join(".")).expect("a name");
            let matching = entered.iter().filter(|(pattern, _)| pattern.matches(&name));
            let mut matching: Vec<u32> = matching.map(|&(_, at)| at).collect();
            matching.sort_unstable();
            assert_eq!(found(&trie, name.as_str()), matching, "{name}");
            assert_eq!(trie.len() as usize, entered.len());
        }
    }

    #[test]
    fn a_match_among_a_hundred_thousand_finds_the_few_that_fit() {
        let mut trie = Trie::default();
        for at in 0..100_000 {
            trie.insert(&pattern(&alloc::format!("acme.d{at}.*.level")), at);
        }
        trie.insert(&pattern("acme.*.left.level"), 100_000);
        assert_eq!(found(&trie, "acme.d77777.left.level"), [77_777, 100_000]);
        assert_eq!(found(&trie, "acme.d77777.left"), []);
    }
}
