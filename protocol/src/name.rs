//! Names of objects and patterns over them (SPEC 3.2, 3.3).

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A valid object name: dotted lower-case labels such as `acme.audio.mixer`.
///
/// Cheap to clone. Labels match `[a-z0-9][a-z0-9_-]*` and hold at most 63 bytes, the whole at most
/// 255 (SPEC 3.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A pattern over names: a name in which a label may be `*` (exactly one label) or, as the last
/// one, `**` (one label or more). `**` alone matches every name (SPEC 3.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

/// Why a text is not a name or a pattern; displays as a sentence that says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a name is empty; expected dotted lower-case labels such as `acme.audio.mixer`")]
    Empty,
    /// More than 255 bytes.
    #[error("`{0}…` is longer than 255 bytes")]
    TooLong(String),
    /// Two dots in a row, or one at either end.
    #[error("`{0}` has an empty label; write one dot between labels and none at the ends")]
    EmptyLabel(String),
    /// A label of more than 63 bytes.
    #[error("a label of `{0}` is longer than 63 bytes")]
    LabelTooLong(String),
    /// Something other than `[a-z0-9][a-z0-9_-]*`.
    #[error(
        "`{name}` has {found:?} at byte {at}; labels are lower-case letters, digits, `_` and `-`, and begin with a letter or digit"
    )]
    BadCharacter {
        /// The text that was given.
        name: String,
        /// The character that does not belong there.
        found: char,
        /// Its byte offset.
        at: usize,
    },
    /// `**` before the end of a pattern.
    #[error("`{0}` has `**` before its end; it may only be the last label")]
    DoubleStarInside(String),
}

const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

impl Name {
    /// Parses a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text, |_, _| Ok(false))?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is the broker's own (`switchboard.**`), which nobody else may serve.
    pub fn is_reserved(&self) -> bool {
        self.0.split('.').next() == Some("switchboard")
    }
}

impl Pattern {
    /// Parses a pattern. Every name is a pattern that matches just itself.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text, |label, last| match label {
            "*" => Ok(true),
            "**" if last => Ok(true),
            "**" => Err(NameError::DoubleStarInside(text.to_owned())),
            _ => Ok(false),
        })?;
        Ok(Self(text.into()))
    }

    /// The pattern that matches every name.
    pub fn all() -> Self {
        Self("**".into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &Name) -> bool {
        let mut labels = name.0.split('.');
        for wanted in self.0.split('.') {
            match (wanted, labels.next()) {
                (_, None) => return false,
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(label)) if wanted == label => {}
                _ => return false,
            }
        }
        labels.next().is_none()
    }

    /// The part before the first wildcard, without its last dot: every match begins with it. Empty
    /// if the pattern begins with a wildcard.
    pub fn literal_prefix(&self) -> &str {
        match self.0.find('*') {
            Some(at) => self.0[..at].trim_end_matches('.'),
            None => &self.0,
        }
    }
}

/// Checks labels; `wildcard(label, is_last)` says whether a label is a valid wildcard.
fn check(text: &str, wildcard: impl Fn(&str, bool) -> Result<bool, NameError>) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(text.chars().take(40).collect()));
    }
    let mut start = 0;
    for label in text.split('.') {
        let end = start + label.len();
        if label.is_empty() {
            return Err(NameError::EmptyLabel(text.to_owned()));
        }
        if !wildcard(label, end == text.len())? {
            if label.len() > LABEL_BYTES_MAX {
                return Err(NameError::LabelTooLong(text.to_owned()));
            }
            let bad = label.char_indices().find(|&(at, c)| match c {
                'a'..='z' | '0'..='9' => false,
                '_' | '-' => at == 0,
                _ => true,
            });
            if let Some((at, found)) = bad {
                return Err(NameError::BadCharacter { name: text.to_owned(), found, at: start + at });
            }
        }
        start = end + 1;
    }
    Ok(())
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Pattern {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl core::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl core::str::FromStr for Pattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    /// Parses it: what was read from anywhere is as valid as what was made here.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    /// Parses it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn names_are_dotted_lower_case_labels() {
        for good in ["a", "acme.audio.mixer", "0.1-_x", &"a".repeat(63), &format!("{}.b", "a".repeat(63))] {
            assert_eq!(Name::new(good).map(|name| name.to_string()), Ok(good.to_string()));
        }
        let why = |text: &str| Name::new(text).expect_err("not a name").to_string();
        assert!(why("").contains("empty"));
        assert!(why("a..b").contains("empty label"));
        assert!(why(".a").contains("empty label"));
        assert!(why("a.").contains("empty label"));
        assert!(why("Acme").contains("'A' at byte 0"));
        assert!(why("a.-b").contains("'-' at byte 2"));
        assert!(why("a b").contains("' ' at byte 1"));
        assert!(why("a.*").contains("'*'"));
        assert!(why(&"a".repeat(64)).contains("63"));
        assert!(why(&"a.".repeat(200)).contains("255"));
    }

    #[test]
    fn one_star_is_one_label_and_two_are_one_or_more() {
        let matches = |pattern: &str, name: &str| {
            Pattern::new(pattern).expect(pattern).matches(&Name::new(name).expect(name))
        };
        assert!(matches("a.b", "a.b"));
        assert!(!matches("a.b", "a.b.c"));
        assert!(!matches("a.b", "a"));
        assert!(matches("a.*", "a.b"));
        assert!(!matches("a.*", "a"));
        assert!(!matches("a.*", "a.b.c"));
        assert!(matches("*.b", "a.b"));
        assert!(matches("a.**", "a.b"));
        assert!(matches("a.**", "a.b.c"));
        assert!(!matches("a.**", "a"));
        assert!(matches("**", "a.b.c"));
        assert!(Pattern::new("a.**.b").expect_err("inside").to_string().contains("last label"));
        assert_eq!(Pattern::new("a.b.*.c").expect("pattern").literal_prefix(), "a.b");
    }
}
