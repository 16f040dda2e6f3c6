//! Sizes and durations as people write them: `64 MiB`, `250ms`.

use std::time::Duration;

/// What a size looks like, for messages.
pub const SIZE_FORM: &str = "a size such as 65536 or \"64 MiB\" (B, KiB, MiB, GiB, KB, MB, GB)";
/// What a duration looks like, for messages.
pub const DURATION_FORM: &str = "a duration such as 250ms or 2s (ns, us, ms, s, min, h)";

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const DURATIONS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a size: a number of bytes, or one with a unit. Exact, or not at all.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => 1,
        unit => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    scale(number, factor)
}

/// Reads a duration: a number with a unit, or plain `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" if number == "0" => 1,
        unit => DURATIONS.iter().find(|(name, _)| *name == unit)?.1,
    };
    scale(number, factor).map(Duration::from_nanos)
}

/// Writes a size so that [`parse_size`] reads the same: in the largest unit that leaves it whole.
pub fn format_size(bytes: u64) -> String {
    let unit = SIZES[..3].iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{} {name}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Writes a duration so that [`parse_duration`] reads the same: in the largest unit that leaves it
/// whole, up to seconds.
pub fn format_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    match nanos {
        0 => "0".to_owned(),
        _ if nanos.is_multiple_of(1_000_000_000) => format!("{}s", nanos / 1_000_000_000),
        _ if nanos.is_multiple_of(1_000_000) => format!("{}ms", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!("{}us", nanos / 1_000),
        _ => format!("{nanos}ns"),
    }
}

/// `1.5 MiB` → (`1.5`, `MiB`). The number has digits on both sides of its point; `1_000` is allowed.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let begins = number.starts_with(|c: char| c.is_ascii_digit());
    let ends = number.ends_with(|c: char| c.is_ascii_digit());
    (begins && ends).then_some((number, unit.trim_start()))
}

/// `number` × `factor`, if that is a whole number that fits.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let power = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(u128::from(factor))?;
    if !scaled.is_multiple_of(power) {
        return None;
    }
    u64::try_from(scaled / power).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_written() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("64 MiB", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1.5 KiB", Some(1536)),
            ("1_000 kb", Some(1_000_000)),
            ("0.3 B", None),
            ("64 M", None),
            ("-1", None),
            ("", None),
            ("MiB", None),
            ("1. MiB", None),
            ("99999999999 GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_read_as_written_and_need_a_unit() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("250ms", Some(250_000_000)),
            ("2s", Some(2_000_000_000)),
            ("1.5 s", Some(1_500_000_000)),
            ("20us", Some(20_000)),
            ("20µs", Some(20_000)),
            ("5m", Some(300_000_000_000)),
            ("5min", Some(300_000_000_000)),
            ("1h", Some(3_600_000_000_000)),
            ("30", None),
            ("2 seconds", None),
            ("-2s", None),
            ("1e3s", None),
            ("", None),
        ] {
            assert_eq!(parse_duration(text), nanos.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, (1 << 30) + 1, 16_384, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }
        for nanos in [0, 1, 1_000, 1_500, 250_000_000, 2_000_000_000, 60_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
        assert_eq!(format_size(64 << 20), "64 MiB");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
    }
}
