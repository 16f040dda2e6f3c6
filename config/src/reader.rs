//! Reading TOML values as what the schema wants them to be; whatever is not, is diagnosed and skipped,
//! so that one pass finds every mistake.

use crate::nearest::nearest;
use crate::schema::TOP;
use crate::source::{At, Place, Source};
use crate::units::{DURATION_FORM, SIZE_FORM, parse_duration, parse_size};
use crate::{Diagnostic, Diagnostics};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

pub(crate) type Key<'k> = Spanned<std::borrow::Cow<'k, str>>;
pub(crate) type Value<'v> = Spanned<DeValue<'v>>;

/// Reads one file.
pub(crate) struct Reader<'r> {
    source: Arc<Source>,
    diagnostics: &'r mut Diagnostics,
}

/// A key of a limits table and how its number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A plain number.
    Count,
    /// Bytes: a number, or text with a unit.
    Bytes,
    /// Nanoseconds, written as text with a unit.
    Time,
}

/// After so many lines that are not TOML, a file is not what it was taken for.
const BROKEN_MAX: usize = 20;

impl<'r> Reader<'r> {
    pub(crate) fn new(source: Arc<Source>, diagnostics: &'r mut Diagnostics) -> Self {
        Self { source, diagnostics }
    }

    /// The file's text without what is not TOML, which is diagnosed and blanked, so that everything
    /// else stays where it is. The parser alone gives up at the first such line.
    pub(crate) fn valid_text(&mut self) -> String {
        let mut text = self.source.text.clone();
        for _ in 0..BROKEN_MAX {
            let (_, errors) = DeTable::parse_recoverable(&text);
            let Some(error) = errors.first() else { return text };
            let span = error.span().unwrap_or(0..0);
            let blank = broken_part(&text, span.start);
            if text[blank.clone()].trim().is_empty() {
                // The error stands where nothing is left: an end that is missing. What was read so
                // far of this table is not to be trusted.
                self.wrong(span, one_line(error.message()));
                return String::new();
            }
            self.wrong(span, one_line(error.message()));
            let spaces = text[blank.clone()].replace(|c| c != '\n', " ");
            let length = blank.len() - spaces.len();
            text.replace_range(blank, &(spaces + &" ".repeat(length)));
        }
        String::new()
    }

    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        Place { source: Arc::clone(&self.source), span }
    }

    pub(crate) fn at<T>(&self, value: T, span: Range<usize>) -> At<T> {
        At { value, place: self.place(span) }
    }

    /// Something wrong at `span`.
    pub(crate) fn wrong(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        let place = self.place(span);
        self.diagnostics.add(&place, message)
    }

    /// A key that `table` (as written, `[limits]`) does not have.
    pub(crate) fn unknown_key<'k>(
        &mut self,
        key: &Key<'_>,
        table: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let known: Vec<_> = known.into_iter().collect();
        let word = key.get_ref();
        let help = match nearest(word, known.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => match TOP.into_iter().find(|top| word == top) {
                // Whatever stands behind a table's header belongs to that table: TOML's classic slip.
                Some(_) => format!("`{word}` belongs to the top level: move it before the first [table]"),
                None => format!("known here: {}", known.join(", ")),
            },
        };
        self.wrong(key.span(), format!("unknown key `{word}` in {table}")).help(help);
    }

    /// A value that is not what its key wants.
    pub(crate) fn mismatch(&mut self, key: &str, expected: &str, value: &Value<'_>) {
        let found = describe(value.get_ref());
        self.wrong(value.span(), format!("`{key}` expects {expected}, found {found}"));
    }

    pub(crate) fn text<'v>(&mut self, key: &str, expected: &str, value: &'v Value<'_>) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                self.mismatch(key, expected, value);
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)], value: &Value<'_>) -> Option<T> {
        let quoted: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let (last, others) = quoted.split_last().expect("a word at least");
        let expected = format!("{} or {last}", others.join(", "));
        let text = self.text(key, &expected, value)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let help = nearest(text, words.iter().map(|(word, _)| *word));
            self.mismatch(key, &expected, value);
            if let Some(word) = help {
                self.diagnostics.last().help(format!("did you mean \"{word}\"?"));
            }
        }
        found.map(|(_, meaning)| *meaning)
    }

    pub(crate) fn boolean(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.mismatch(key, "true or false", value);
        }
        found
    }

    pub(crate) fn table<'v, 'i>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.mismatch(key, &format!("a table, written [{key}]"), value);
                None
            }
        }
    }

    /// The tables of `[[key]]`, each with its place.
    pub(crate) fn tables<'v, 'i>(
        &mut self,
        key: &str,
        value: &'v Value<'i>,
    ) -> Vec<(&'v DeTable<'i>, Range<usize>)> {
        let expected = format!("tables, each written [[{key}]]");
        let DeValue::Array(array) = value.get_ref() else {
            self.mismatch(key, &expected, value);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in array {
            match element.get_ref() {
                DeValue::Table(table) => tables.push((table, element.span())),
                _ => self.mismatch(key, &expected, element),
            }
        }
        tables
    }

    /// One value, or a list of them.
    pub(crate) fn one_or_more<'v, 'i>(&mut self, key: &str, value: &'v Value<'i>) -> Vec<&'v Value<'i>> {
        match value.get_ref() {
            DeValue::Array(array) => {
                if array.is_empty() {
                    self.wrong(value.span(), format!("`{key}` is an empty list; expected at least one"));
                }
                array.iter().collect()
            }
            _ => vec![value],
        }
    }

    /// A number in the given unit, within `range`.
    pub(crate) fn number(
        &mut self,
        key: &str,
        unit: Unit,
        range: RangeInclusive<u64>,
        value: &Value<'_>,
    ) -> Option<u64> {
        let expected = match unit {
            Unit::Count => "a whole number",
            Unit::Bytes => SIZE_FORM,
            Unit::Time => "text with a duration such as \"250ms\" or \"2s\" (ns, us, ms, s, min, h)",
        };
        let number = match (value.get_ref(), unit) {
            (DeValue::Integer(integer), Unit::Count | Unit::Bytes) => match integer_of(integer) {
                Some(number) => number,
                None => {
                    self.out_of_range(key, unit, &range, value.span(), &integer.to_string());
                    return None;
                }
            },
            (DeValue::String(text), Unit::Bytes) => match parse_size(text) {
                Some(bytes) => bytes,
                None => {
                    self.mismatch(key, expected, value);
                    return None;
                }
            },
            (DeValue::String(text), Unit::Time) => match parse_duration(text) {
                Some(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
                None => {
                    self.mismatch(key, expected, value);
                    return None;
                }
            },
            _ => {
                self.mismatch(key, expected, value);
                return None;
            }
        };
        if range.contains(&number) {
            return Some(number);
        }
        self.out_of_range(key, unit, &range, value.span(), &format_in(unit, number));
        None
    }

    fn out_of_range(
        &mut self,
        key: &str,
        unit: Unit,
        range: &RangeInclusive<u64>,
        span: Range<usize>,
        found: &str,
    ) {
        let (least, most) = (format_in(unit, *range.start()), format_in(unit, *range.end()));
        self.wrong(span, format!("`{key}` must lie between {least} and {most}, found {found}"));
    }

    /// A duration as text, or nothing where it is not one.
    pub(crate) fn duration(&mut self, key: &str, text: &str, value: &Value<'_>) -> Option<Duration> {
        let duration = parse_duration(text);
        if duration.is_none() {
            self.mismatch(key, &format!("\"auto\" or {DURATION_FORM}"), value);
        }
        duration
    }
}

/// What to take out of `text` for an error at `at`: its line, or, where that was to begin a table, all
/// of that table, since its keys would be taken for those of the table before.
fn broken_part(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at.min(text.len()));
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let mut end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    if text[start..end].trim_start().starts_with('[') {
        end = text[end..].find("\n[").map_or(text.len(), |length| end + length);
    }
    start..end
}

/// A number as its unit is written.
pub(crate) fn format_in(unit: Unit, number: u64) -> String {
    match unit {
        Unit::Count => number.to_string(),
        Unit::Bytes => crate::units::format_size(number),
        Unit::Time => crate::units::format_duration(Duration::from_nanos(number)),
    }
}

/// An integer that is not negative and fits.
pub(crate) fn integer_of(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value is, for messages, short.
fn describe(value: &DeValue<'_>) -> String {
    let cut = |text: &str| match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    match value {
        DeValue::String(text) => format!("text \"{}\"", cut(text).escape_debug()),
        DeValue::Integer(integer) => format!("the number {}", cut(&integer.to_string())),
        DeValue::Float(float) => format!("the number {}", cut(&float.to_string())),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
