//! What can stand for a value on the command line: payloads, durations, methods, names.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use switchboard::{LeaseId, Level, Method, Outcome, Overflow, SlowPolicy};
use switchboard_config::units::{DURATION_FORM, SIZE_FORM, format_duration, parse_duration, parse_size};
use switchboard_protocol::{Name, Pattern};

use crate::failure::Failure;

/// The bytes to send: a word, `-` for stdin, `@FILE`.
#[derive(Clone, Debug, Default)]
pub(crate) enum PayloadArgument {
    /// Nothing at all.
    #[default]
    Empty,
    /// The word itself.
    Word(Vec<u8>),
    /// All of stdin.
    Stdin,
    /// A file's content.
    File(PathBuf),
}

/// A service's method: its number, or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MethodArgument {
    Number(u32),
    Name(String),
}

impl MethodArgument {
    /// As the library takes it.
    pub(crate) fn as_method(&self) -> Method<'_> {
        match self {
            Self::Number(number) => Method::Number(*number),
            Self::Name(name) => Method::Name(name.as_str().into()),
        }
    }
}

impl From<OsString> for PayloadArgument {
    fn from(word: OsString) -> Self {
        let bytes = word.into_vec();
        match bytes.as_slice() {
            b"-" => Self::Stdin,
            [b'@', path @ ..] => Self::File(OsString::from_vec(path.to_vec()).into()),
            _ => Self::Word(bytes),
        }
    }
}

impl PayloadArgument {
    /// Gets the bytes. A file that cannot be read is wrong usage.
    pub(crate) fn read(self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Empty => Ok(Vec::new()),
            Self::Word(bytes) => Ok(bytes),
            Self::Stdin => {
                let mut bytes = Vec::new();
                match std::io::stdin().lock().read_to_end(&mut bytes) {
                    Ok(_) => Ok(bytes),
                    Err(error) => Err(Failure::usage(format_args!("cannot read stdin: {error}"))),
                }
            }
            Self::File(path) => std::fs::read(&path).map_err(|error| {
                Failure::usage(format_args!(
                    "cannot read the payload from `{}`: {error} (`@` means a file; send a word that begins \
                     with `@` through stdin)",
                    path.display()
                ))
            }),
        }
    }
}

/// For clap: a duration; `0` is no limit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("expected {DURATION_FORM}; 0 is no limit"))
}

/// For clap: a time of which 0 is simply none.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("expected {DURATION_FORM}; it cannot be negative"))
}

/// For clap: a time that is more than nothing.
pub(crate) fn positive_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("expected {DURATION_FORM}, more than 0"))
}

/// For clap: a size that is more than nothing.
pub(crate) fn positive_size(text: &str) -> Result<u64, String> {
    parse_size(text).filter(|&size| size > 0).ok_or_else(|| format!("expected {SIZE_FORM}, more than 0"))
}

/// For clap: a size.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| format!("expected {SIZE_FORM}"))
}

/// For clap: a name.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// For clap: a pattern.
pub(crate) fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

/// For clap: a lease, as `queue pop --no-ack` prints it.
pub(crate) fn lease(text: &str) -> Result<LeaseId, String> {
    let is_lease = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lease = if is_lease { text.parse().ok() } else { None };
    lease.ok_or_else(|| {
        "expected a lease: 32 hexadecimal digits, as `queue pop --no-ack` prints them".to_owned()
    })
}

/// For clap: flags of an event, at least one.
pub(crate) fn bits(text: &str) -> Result<u64, String> {
    let bits = match text.strip_prefix("0x") {
        Some(digits) if digits.starts_with(|digit: char| digit.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    bits.filter(|&bits| bits != 0).ok_or_else(|| {
        "expected flags as one number of 64 bits, at least one of them set: 5 or 0x5".to_owned()
    })
}

/// For clap: one of these words.
fn word<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    as_str: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.map(as_str)).map(move |text| {
        let found = all.into_iter().find(|&value| as_str(value) == text);
        found.expect("clap lets only possible values pass")
    })
}

/// For clap: what becomes of a slow subscriber.
pub(crate) fn slow_policy() -> impl TypedValueParser<Value = SlowPolicy> {
    word(SlowPolicy::ALL, SlowPolicy::as_str)
}

/// For clap: what becomes of a push to a full queue.
pub(crate) fn overflow() -> impl TypedValueParser<Value = Overflow> {
    word(Overflow::ALL, Overflow::as_str)
}

/// For clap: how durable something is.
pub(crate) fn level() -> impl TypedValueParser<Value = Level> {
    word(Level::ALL, Level::as_str)
}

/// For clap: a method.
pub(crate) fn method(text: &str) -> Result<MethodArgument, String> {
    if text.is_empty() {
        return Err("expected a method's number or name".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse().map_err(|_| format!("expected a number up to {}, or a name", u32::MAX))?;
        return Ok(MethodArgument::Number(number));
    }
    Ok(MethodArgument::Name(text.to_owned()))
}

/// Fewer messages than asked for came in time.
pub(crate) fn too_few(came: u64, wanted: u64, timeout: Duration) -> Failure {
    let timeout = format_duration(timeout);
    Failure::ended(format_args!(
        "{}: {came} of {wanted} messages came, and no further one in {timeout}",
        Outcome::DeadlineExceeded
    ))
}

/// A time limit as it was given: none where it is 0.
pub(crate) fn limit(given: Duration) -> Option<Duration> {
    (!given.is_zero()).then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_word_or_stdin_or_a_file() {
        let read = |word: &str| PayloadArgument::from(OsString::from(word));
        assert!(matches!(read("word"), PayloadArgument::Word(bytes) if bytes == b"word"));
        assert!(matches!(read(""), PayloadArgument::Word(bytes) if bytes.is_empty()));
        assert!(matches!(read("-"), PayloadArgument::Stdin));
        assert!(matches!(read("-x"), PayloadArgument::Word(_)));
        assert!(matches!(read("@/a/b"), PayloadArgument::File(path) if path.as_os_str() == "/a/b"));
    }

    #[test]
    fn a_lease_is_32_hexadecimal_digits() {
        let text = "fedcba98765432100123456789abcdef";
        assert_eq!(lease(text).map(|lease| lease.to_string()).as_deref(), Ok(text));
        for wrong in ["", "7", "+edcba98765432100123456789abcdef", "fedcba98765432100123456789abcdefa"] {
            assert!(lease(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_are_one_number_that_is_not_0() {
        assert_eq!((bits("5"), bits("0x5"), bits("0xffffffffffffffff")), (Ok(5), Ok(5), Ok(u64::MAX)));
        for wrong in ["", "0", "0x", "0x0", "-1", "+1", "0x+1", "18446744073709551616", "five"] {
            assert!(bits(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_method_is_a_number_or_a_name() {
        assert_eq!(method("7"), Ok(MethodArgument::Number(7)));
        assert_eq!(method("resize"), Ok(MethodArgument::Name("resize".to_owned())));
        assert_eq!(method("7up"), Ok(MethodArgument::Name("7up".to_owned())));
        assert!(method("4294967296").is_err());
        assert!(method("").is_err());
    }
}
