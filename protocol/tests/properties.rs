//! What must hold of any bytes: the stream decoder against a naive one written from SPEC 2, whatever the
//! split; header and bodies there and back; names and patterns against a naive matcher.

mod bodies;

use bodies::{Body, Source, Visit};
use proptest::collection::vec;
use proptest::prelude::*;
use switchboard_protocol::{
    Decoder, ExtensionsBuilder, FrameError, HANDLE_ENTRY_BYTES, HEADER_BYTES, HandleEntry, Header, Kind,
    Name, Part, Parts, Pattern, decode, encode, part_bytes, write_frame, write_part,
};

/// What a stream holds: whole frames without their padding, and how it goes on.
#[derive(Debug, PartialEq)]
struct Cut {
    frames: Vec<Vec<u8>>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    /// That many bytes wait for the rest of their frame.
    Waiting(usize),
    Broken(FrameError),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn any_split_decodes_like_the_whole(stream in stream(), chunks in vec(1..200_usize, 0..40)) {
        let whole = cut(&stream, &[]);
        prop_assert_eq!(&whole, &cut_naively(&stream));
        prop_assert_eq!(&whole.end, &End::Waiting(0), "every frame is whole");
        prop_assert_eq!(&whole, &cut(&stream, &chunks));
        prop_assert_eq!(&whole, &cut(&stream, &vec![1; stream.len()]), "byte by byte");
    }

    #[test]
    fn a_damaged_stream_decodes_the_same_however_it_is_split(
        stream in stream(),
        damage in vec(damage(), 1..4),
        chunks in vec(1..200_usize, 0..40),
    ) {
        let mut stream = stream;
        for damage in damage {
            damage.apply(&mut stream);
        }
        let whole = cut(&stream, &[]);
        prop_assert_eq!(&whole, &cut_naively(&stream));
        prop_assert_eq!(&whole, &cut(&stream, &chunks));
        prop_assert_eq!(&whole, &cut(&stream, &vec![1; stream.len()]), "byte by byte");
    }

    #[test]
    fn arbitrary_bytes_decode_the_same_however_they_are_split(
        stream in vec(any::<u8>(), 0..600),
        chunks in vec(1..100_usize, 0..20),
    ) {
        let whole = cut(&stream, &[]);
        prop_assert_eq!(&whole, &cut_naively(&stream));
        prop_assert_eq!(&whole, &cut(&stream, &chunks));
    }

    #[test]
    fn a_header_reads_back_and_its_fields_lie_where_spec_2_2_has_them(header in header()) {
        let bytes = header.to_bytes();
        prop_assert_eq!(Header::from_bytes(&bytes), Ok(header));
        let number = |at: usize, size: usize| {
            bytes[at..at + size].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        let table = [
            (0, 4, header.len.into()), (4, 2, header.ext_len.into()), (6, 1, header.kind as u64),
            (7, 1, header.flags.into()), (8, 1, header.priority.into()), (9, 1, header.version.into()),
            (10, 2, header.handles.into()), (12, 4, header.method.into()), (16, 8, header.handle),
            (24, 8, header.call), (32, 8, header.deadline), (40, 8, header.seq), (48, 8, header.epoch),
            (56, 8, header.caller),
        ];
        for (at, size, value) in table {
            prop_assert_eq!(number(at, size), value, "at {}", at);
        }
    }

    #[test]
    fn extensions_read_back_as_written(records in extensions(), kind in any::<u16>()) {
        let area = area(&records);
        prop_assert_eq!(naive_extensions(&area), Some(records.clone()));
        let parsed = switchboard_protocol::Extensions::parse(&area).expect("well formed");
        let read: Vec<_> = parsed.map(|it| (it.kind, it.value.to_vec())).collect();
        prop_assert_eq!(&read, &records);
        let kind = records.first().map_or(kind, |(kind, _)| *kind);
        let first = records.iter().find(|record| record.0 == kind).map(|record| record.1.as_slice());
        prop_assert_eq!(parsed.find(kind), first);
    }

    #[test]
    fn an_extension_area_is_read_as_spec_2_5_says(mut area in vec(prop_oneof![3 => Just(0), 1 => 0..9_u8, 1 => any::<u8>()], 0..64), whole in any::<bool>()) {
        if whole {
            area.resize(area.len().next_multiple_of(16), 0);
        }
        let parsed = switchboard_protocol::Extensions::parse(&area);
        let read = parsed.map(|it| it.map(|it| (it.kind, it.value.to_vec())).collect::<Vec<_>>());
        prop_assert_eq!(read, naive_extensions(&area));
    }

    #[test]
    fn every_body_reads_back_as_written(entropy in vec(any::<u8>(), 0..400)) {
        struct ThereAndBack<'a>(&'a [u8]);
        impl Visit for ThereAndBack<'_> {
            fn visit<T: Body>(&mut self, name: &str) {
                let body = T::any(&mut Source(self.0));
                let bytes = encode(&body);
                assert_eq!(decode::<T>(&bytes), Some(body), "{name}");
                for end in 0..bytes.len() {
                    assert_eq!(decode::<T>(&bytes[..end]), None, "{name} cut off at {end}");
                }
                assert_eq!(decode::<T>(&[&bytes[..], &[0]].concat()), None, "{name} and a byte left over");
            }
        }
        for name in bodies::NAMES {
            bodies::visit(name, &mut ThereAndBack(&entropy));
        }
    }

    #[test]
    fn arbitrary_bytes_are_a_body_or_none(bytes in vec(prop_oneof![any::<u8>(), 0..4_u8], 0..300)) {
        for name in bodies::NAMES {
            bodies::visit(name, &mut Digest(&bytes));
        }
    }

    #[test]
    fn any_messages_make_a_batch_that_reads_back(messages in messages()) {
        let batch = batch(&messages);
        prop_assert_eq!(batch.len(), messages.iter().map(|it| part_bytes(it.1.len())).sum::<usize>());
        let read: Vec<_> = Parts::of(&batch).map(|it| (it.attribute, it.payload.to_vec())).collect();
        prop_assert_eq!(&read, &messages);
        prop_assert_eq!(naive_batch(&batch), (messages.clone(), true));
        let count = (!messages.is_empty()).then_some(messages.len() as u32);
        prop_assert_eq!(Parts::of(&batch).count_whole(), count, "no message is no batch");
    }

    #[test]
    fn a_batch_that_is_cut_off_is_whole_only_between_messages(messages in messages()) {
        let batch = batch(&messages);
        let mut ends = vec![0];
        for (_, payload) in &messages {
            ends.push(ends[ends.len() - 1] + part_bytes(payload.len()));
        }
        for len in 0..batch.len() {
            let whole = ends.iter().position(|&end| end == len).filter(|&count| 0 < count);
            prop_assert_eq!(Parts::of(&batch[..len]).count_whole(), whole.map(|count| count as u32), "{} bytes", len);
        }
    }

    #[test]
    fn a_damaged_batch_is_read_as_spec_2_9_says(messages in messages(), damage in vec(damage(), 1..4)) {
        let mut bytes = batch(&messages);
        for damage in damage {
            damage.apply_to_bytes(&mut bytes);
        }
        check_batch(&bytes);
    }

    #[test]
    fn arbitrary_bytes_are_read_as_a_batch_as_spec_2_9_says(
        bytes in vec(prop_oneof![3 => Just(0), 1 => 0..20_u8, 1 => any::<u8>()], 0..100),
    ) {
        check_batch(&bytes);
    }

    #[test]
    fn names_and_patterns_print_as_they_were_parsed(text in text()) {
        let name = text.parse::<Name>();
        prop_assert_eq!(name.is_ok(), is_name(&text));
        let pattern = text.parse::<Pattern>();
        prop_assert_eq!(pattern.is_ok(), is_pattern(&text));
        for printed in [name.map(|it| it.to_string()), pattern.map(|it| it.to_string())] {
            match printed {
                Ok(printed) => prop_assert_eq!(&printed, &text),
                Err(why) => prop_assert!(why.to_string().len() < 1200 + 2 * text.len(), "{}", why),
            }
        }
    }

    #[test]
    fn a_pattern_matches_what_the_naive_matcher_says(pattern in pattern(), name in name()) {
        let (parsed, named) = (Pattern::new(&pattern).expect("a pattern"), Name::new(&name).expect("a name"));
        let labels = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(parsed.matches(&named), matches_naively(&labels(&pattern), &labels(&name)));
        if parsed.matches(&named) {
            prop_assert!(name.starts_with(parsed.literal_prefix()));
        }
        prop_assert!(Pattern::new(&name).expect("every name is a pattern").matches(&named));
        prop_assert!(Pattern::all().matches(&named));
        prop_assert_eq!(
            named.is_reserved(),
            ["switchboard", "switchboard.**"].iter().any(|own| Pattern::new(own).expect("SPEC 3.2").matches(&named))
        );
    }
}

/// The longest labels and names, and one more.
#[test]
fn names_end_where_spec_3_2_ends_them() {
    let labels = |last: usize| format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(last));
    assert_eq!(labels(63).len(), 255);
    assert!(Name::new(&labels(63)).is_ok() && Pattern::new(&labels(63)).is_ok());
    assert!(Name::new(&labels(64)).is_err() && Pattern::new(&labels(64)).is_err());
    assert!(Name::new(&"a".repeat(64)).is_err());
    assert!(Name::new(&vec!["a"; 128].join(".")).is_ok_and(|name| name.as_str().len() == 255));
    assert!(Pattern::new(&format!("{}.**", "a.".repeat(127).trim_end_matches('.'))).is_err());
}

/// A body may claim any length; believing it would cost more memory than this process may have. Runs itself
/// again under a limit of 2 GiB of address space, where an allocation of a claimed length would abort.
#[cfg(target_os = "linux")]
#[test]
fn claimed_lengths_cost_nothing() {
    const CHILD: &str = "SWITCHBOARD_TEST_CLAIMED_LENGTHS";
    if std::env::var_os(CHILD).is_none() {
        let child = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 2097152 && exec \"$0\" --exact claimed_lengths_cost_nothing --nocapture"])
            .arg(std::env::current_exe().expect("this program"))
            .env(CHILD, "1")
            .output()
            .expect("sh runs");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the child ran this test");
        return;
    }
    // The lengths 2^31, 2^40, 2^60 and 2^64-1 as varints, in every place of every body.
    let lengths: [&[u8]; 4] = [
        &[0x80, 0x80, 0x80, 0x80, 0x08],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    struct Claims<'a>(&'a [u8]);
    impl Visit for Claims<'_> {
        fn visit<T: Body>(&mut self, _: &str) {
            let entropy: Vec<u8> = (0..=255).collect();
            let bytes = encode(&T::any(&mut Source(&entropy)));
            for at in 0..=bytes.len() {
                // Behind it the rest of the body, or as much as the longest body holds.
                for tail in [&bytes[at..], &[1; 16 << 10]] {
                    if let Some(body) = decode::<T>(&[&bytes[..at], self.0, tail].concat()) {
                        let again = encode(&body).len();
                        assert!(again <= at + self.0.len() + tail.len());
                    }
                }
            }
        }
    }
    for length in lengths {
        for name in bodies::NAMES {
            bodies::visit(name, &mut Claims(length));
        }
    }
    // Nested: `Waits` has sequences of sequences, as many empty ones as there are bytes.
    let nested = [&[0][..], &[0xf0, 0x7f], &[0; 16368], &[0]].concat();
    let waits = decode::<switchboard_protocol::control::Waits>(&nested).expect("16 368 empty cycles");
    assert_eq!((waits.cycles.len(), encode(&waits)), (16368, nested));
}

/// Decodes bytes as a body. What they mean, if anything, needs no more bytes to say, and reads back.
struct Digest<'a>(&'a [u8]);

impl Visit for Digest<'_> {
    fn visit<T: Body>(&mut self, name: &str) {
        if let Some(body) = decode::<T>(self.0) {
            let bytes = encode(&body);
            assert!(bytes.len() <= self.0.len(), "{name}: {body:?}");
            assert_eq!(decode::<T>(&bytes), Some(body), "{name}");
        }
    }
}

/// Cuts `stream` into frames with the decoder, pushed in pieces of those lengths and then the rest.
fn cut(stream: &[u8], chunks: &[usize]) -> Cut {
    let mut decoder = Decoder::default();
    let (mut rest, mut chunks, mut frames) = (stream, chunks.iter(), Vec::new());
    loop {
        let (chunk, after) = rest.split_at(chunks.next().map_or(rest.len(), |&chunk| chunk.min(rest.len())));
        rest = after;
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some((header, tail))) => frames.push([&header.to_bytes()[..], tail].concat()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next(), Err(error), "it stays broken");
                    return Cut { frames, end: End::Broken(error) };
                }
            }
            assert!(frames.len() * HEADER_BYTES <= stream.len(), "more frames than there are bytes");
        }
        decoder.shrink(100);
        if rest.is_empty() {
            return Cut { frames, end: End::Waiting(decoder.pending()) };
        }
    }
}

/// The same from SPEC 2 in the plainest way, from the stream as a whole.
fn cut_naively(stream: &[u8]) -> Cut {
    let mut frames = Vec::new();
    let mut rest = stream;
    let end = loop {
        if rest.len() < 64 {
            break End::Waiting(rest.len());
        }
        let word = |at: usize| u32::from(rest[at]) | u32::from(rest[at + 1]) << 8;
        let len = word(0) | word(2) << 16;
        let (ext_len, kind, flags, priority, version) = (word(4), rest[6], rest[7], rest[8], rest[9]);
        let handles = word(10);
        if !matches!(kind, 1..=3 | 0x10..=0x17) {
            break End::Broken(FrameError::Kind(kind));
        }
        if version != 1 {
            break End::Broken(FrameError::Version(version));
        }
        // SPEC 2.7: STREAM and NO_WAIT on CALL; BATCH on CALL, SEND and ITEM.
        let allowed = match kind {
            0x10 => 7,
            0x11 | 0x15 => 4,
            _ => 0,
        };
        if flags & !allowed != 0 || priority > 7 {
            break End::Broken(FrameError::Field { flags, priority });
        }
        if handles > 16 {
            break End::Broken(FrameError::Handles(handles as u16));
        }
        if ext_len > 4096 || ext_len % 16 != 0 {
            break End::Broken(FrameError::Extension);
        }
        if len < 64 + ext_len + 16 * handles || len > 268_435_456 {
            break End::Broken(FrameError::Length(len));
        }
        let area_end = 64 + ext_len as usize;
        if rest.len() >= area_end && naive_extensions(&rest[64..area_end]).is_none() {
            break End::Broken(FrameError::Extension);
        }
        let padded = (len as usize).div_ceil(16) * 16;
        if rest.len() < padded {
            break End::Waiting(rest.len());
        }
        frames.push(rest[..len as usize].to_vec());
        rest = &rest[padded..];
    };
    Cut { frames, end }
}

/// Reads bytes as a batch. What is given out lies within them, in order and without overlap.
fn check_batch(bytes: &[u8]) {
    let (naive, whole) = naive_batch(bytes);
    let parts: Vec<Part<'_>> = Parts::of(bytes).collect();
    let read: Vec<_> = parts.iter().map(|it| (it.attribute, it.payload.to_vec())).collect();
    assert_eq!(read, naive);
    let count = (whole && !naive.is_empty()).then_some(naive.len() as u32);
    assert_eq!(Parts::of(bytes).count_whole(), count);
    let mut end = bytes.as_ptr() as usize;
    for part in parts {
        let range = part.payload.as_ptr_range();
        assert_eq!(range.start as usize, end + 8, "right behind its head");
        end = range.start as usize + part.payload.len().div_ceil(8) * 8;
    }
    assert!(end <= bytes.as_ptr_range().end as usize);
}

/// The messages of a batch from SPEC 2.9 in the plainest way, and whether nothing else is there.
fn naive_batch(bytes: &[u8]) -> (Vec<(u32, Vec<u8>)>, bool) {
    let (mut messages, mut at) = (Vec::new(), 0_u64);
    loop {
        let word = |offset: u64| -> Option<u32> {
            let byte = |index: u64| bytes.get((at + offset + index) as usize).map(|&byte| u32::from(byte));
            Some(byte(0)? | byte(1)? << 8 | byte(2)? << 16 | byte(3)? << 24)
        };
        let (Some(len), Some(attribute)) = (word(0), word(4)) else { break };
        let (start, end) = (at + 8, at + 8 + u64::from(len));
        let padded = end.div_ceil(8) * 8;
        if bytes.len() as u64 - start < padded - start {
            break;
        }
        messages.push((attribute, bytes[start as usize..end as usize].to_vec()));
        at = padded;
    }
    (messages, at == bytes.len() as u64)
}

fn batch(messages: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut batch = Vec::new();
    for (attribute, payload) in messages {
        write_part(&mut batch, *attribute, payload);
    }
    batch
}

fn messages() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    vec((any::<u32>(), vec(any::<u8>(), 0..30)), 0..8)
}

fn naive_extensions(area: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    if !area.len().is_multiple_of(16) {
        return None;
    }
    let mut records = Vec::new();
    let mut at = 0;
    while at < area.len() {
        let (kind, len) = (
            area[at] as u16 + 256 * area[at + 1] as u16,
            area[at + 2] as usize + 256 * area[at + 3] as usize,
        );
        if kind == 0 {
            return area[at..].iter().all(|&byte| byte == 0).then_some(records);
        }
        let (start, end) = (at + 4, at + 4 + len);
        at = end.div_ceil(4) * 4;
        if at > area.len() || area[end..at].iter().any(|&byte| byte != 0) {
            return None;
        }
        records.push((kind, area[start..end].to_vec()));
    }
    Some(records)
}

fn matches_naively(pattern: &[String], name: &[String]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([first, pattern @ ..], [_, name @ ..]) if first == "**" => {
            // Takes one label; then either no more, or it again.
            matches_naively(pattern, name) || matches_naively(&[&["**".to_owned()], pattern].concat(), name)
        }
        ([first, pattern @ ..], [label, name @ ..]) => {
            (first == "*" || first == label) && matches_naively(pattern, name)
        }
        _ => false,
    }
}

fn is_label(label: &str) -> bool {
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let bytes = label.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && letters.contains(&bytes[0])
        && bytes.iter().all(|byte| letters.contains(byte) || b"_-".contains(byte))
}

fn is_name(text: &str) -> bool {
    text.len() <= 255 && text.split('.').all(is_label)
}

fn is_pattern(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let (last, before) = labels.split_last().expect("one at least");
    text.len() <= 255
        && before.iter().all(|it| *it == "*" || is_label(it))
        && (["*", "**"].contains(last) || is_label(last))
}

fn area(records: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut builder = ExtensionsBuilder::default();
    for (kind, value) in records {
        builder.add(*kind, value);
    }
    builder.finish()
}

fn kind() -> impl Strategy<Value = Kind> {
    any::<proptest::sample::Index>().prop_map(|index| {
        let kinds: Vec<Kind> = (0..=u8::MAX).filter_map(Kind::from_wire).collect();
        *index.get(&kinds)
    })
}

fn header() -> impl Strategy<Value = Header> {
    let small = (
        any::<u32>(),
        any::<u16>(),
        kind(),
        any::<u8>(),
        any::<u8>(),
        any::<u8>(),
        any::<u16>(),
        any::<u32>(),
    );
    (small, any::<[u64; 6]>()).prop_map(
        |(
            (len, ext_len, kind, flags, priority, version, handles, method),
            [handle, call, deadline, seq, epoch, caller],
        )| {
            Header {
                len,
                ext_len,
                kind,
                flags,
                priority,
                version,
                handles,
                method,
                handle,
                call,
                deadline,
                seq,
                epoch,
                caller,
            }
        },
    )
}

fn extensions() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    vec((1..=u16::MAX, vec(any::<u8>(), 0..40)), 0..5)
}

fn handles() -> impl Strategy<Value = Vec<HandleEntry>> {
    let entry = any::<[u8; HANDLE_ENTRY_BYTES]>();
    prop_oneof![vec(entry, 0..3), vec(entry, 16)]
        .prop_map(|entries| entries.iter().map(HandleEntry::from_bytes).collect())
}

/// A stream of whole, valid frames.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let frame = (header(), extensions(), handles(), vec(any::<u8>(), 0..100)).prop_map(
        |(header, extensions, handles, payload)| {
            let flags = match header.kind {
                Kind::Call => header.flags & 7,
                Kind::Send | Kind::Item => header.flags & 4,
                _ => 0,
            };
            let header = Header { version: 1, flags, priority: header.priority % 8, ..header };
            let mut frame = Vec::new();
            write_frame(&mut frame, header, &area(&extensions), &handles, &payload);
            frame
        },
    );
    vec(frame, 0..6).prop_map(|frames| frames.concat())
}

#[derive(Clone, Debug)]
enum Damage {
    Set(proptest::sample::Index, u8),
    /// In the header of some frame.
    SetInHeader(proptest::sample::Index, usize, u8),
    Flip(proptest::sample::Index, u8),
    Insert(proptest::sample::Index, Vec<u8>),
    Remove(proptest::sample::Index, usize),
    Truncate(proptest::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<proptest::sample::Index>;
    // Just inside and just outside of what the fields may hold.
    let edge = proptest::sample::select(&[0_u8, 1, 2, 3, 4, 7, 8, 15, 16, 17, 0x18, 0x80][..]);
    prop_oneof![
        1 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        6 => (index(), 0..12_usize, prop_oneof![3 => edge, 1 => any::<u8>()])
            .prop_map(|(frame, at, byte)| Damage::SetInHeader(frame, at, byte)),
        1 => (index(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => (index(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (index(), 1..20_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => index().prop_map(Damage::Truncate),
    ]
}

impl Damage {
    fn apply(self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        match self {
            Self::SetInHeader(frame, at, byte) => {
                let mut starts = vec![0];
                for frame in cut_naively(stream).frames {
                    starts.push(starts[starts.len() - 1] + frame.len().div_ceil(16) * 16);
                }
                if let Some(old) = stream.get_mut(frame.get(&starts) + at) {
                    *old = byte;
                }
            }
            other => other.apply_to_bytes(stream),
        }
    }

    /// The same to bytes that are no frames.
    fn apply_to_bytes(self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let len = stream.len();
        match self {
            Self::Set(at, byte) => stream[at.index(len)] = byte,
            Self::SetInHeader(frame, at, byte) => {
                stream[(frame.index(len) / 8 * 8 + at % 8).min(len - 1)] = byte;
            }
            Self::Flip(at, bit) => stream[at.index(len)] ^= 1 << bit,
            Self::Insert(at, bytes) => drop(stream.splice(at.index(len)..at.index(len), bytes)),
            Self::Remove(at, count) => drop(stream.drain(at.index(len)..len.min(at.index(len) + count))),
            Self::Truncate(at) => stream.truncate(at.index(len)),
        }
    }
}

/// Few labels of few letters, so that matches are common.
fn name() -> impl Strategy<Value = String> {
    vec(prop_oneof![6 => "[ab]", 1 => "[a-z0-9][a-z0-9_-]{0,8}", 1 => Just("switchboard".to_owned())], 1..5)
        .prop_map(|labels| labels.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    let label = prop_oneof![4 => "[ab]", 2 => Just("*".to_owned()), 1 => Just("switchboard".to_owned())];
    let last = prop_oneof![Just(None), Just(Some("**".to_owned())), "[ab]".prop_map(Some)];
    (vec(label, 0..5), last).prop_map(|(mut labels, last)| {
        labels.extend(last);
        if labels.is_empty() { "**".to_owned() } else { labels.join(".") }
    })
}

/// Names, near misses, and anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        name(),
        pattern(),
        "[ab*._A -]{0,12}",
        "[a-z.]{240,270}",
        "([a-z]{1,70}\\.){0,4}[a-z]{1,70}",
        any::<String>()
    ]
}
