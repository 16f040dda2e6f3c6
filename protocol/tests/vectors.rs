//! The vectors of `tests/vectors` hold: every frame decodes to the meaning beside it, and the meaning
//! encodes to the same bytes. `tests/vectors/README.md` describes their format.

mod bodies;

use bodies::{Body, Visit, number};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use switchboard_protocol::control::Operation;
use switchboard_protocol::queue::{
    LeaseId, LeaseKind, Level, NackHow, Overflow, Producer, PushOptions, QUEUE_PRIORITIES, QueueMethod,
    group_key, push_queues,
};
use switchboard_protocol::signal::SignalMethod;
use switchboard_protocol::topic::{Delivery, SlowPolicy};
use switchboard_protocol::{
    Decoder, Event, ExtensionsBuilder, FrameError, GoodbyeReason, HEADER_BYTES, HELLO_MAGIC, HandleEntry,
    Header, Kind, ObjectKind, Outcome, Parser, Part, Parts, Rights, Tail, decode, encode, extension_type,
    flags, write_frame, write_part,
};

/// Every extension that SPEC 2.5 names, as vectors write it.
const EXTENSION_TYPES: [(&str, u16); 8] = [
    ("METHOD_NAME", extension_type::METHOD_NAME),
    ("TRACEPARENT", extension_type::TRACEPARENT),
    ("PUSH", extension_type::PUSH),
    ("GROUP", extension_type::GROUP),
    ("PRODUCER", extension_type::PRODUCER),
    ("QUEUES", extension_type::QUEUES),
    ("TOPIC", extension_type::TOPIC),
    ("DEAD_LETTER", extension_type::DEAD_LETTER),
];

/// What may be wrong with a frame that is well framed (SPEC 2.9, 7.1, 10).
const CONTENT_ERRORS: [&str; 4] = ["Batch", "Body", "Leases", "Value"];

struct Vector {
    place: String,
    from_client: bool,
    error: Option<String>,
    bytes: Vec<u8>,
    sections: Vec<Section>,
}

#[derive(Default)]
struct Section {
    title: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    value: String,
    bytes: Vec<u8>,
}

#[test]
fn frames_decode_to_their_meaning_and_meanings_encode_to_their_bytes() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector.error.is_none()) {
        vector.check_decoding();
        vector.check_encoding();
        seen += 1;
    }
    assert!(seen > 100, "{seen} vectors");
}

#[test]
fn broken_framing_is_told_by_its_name() {
    let mut names = BTreeSet::new();
    for vector in &vectors() {
        let wanted = vector.error.as_deref().filter(|name| !CONTENT_ERRORS.contains(name));
        let Some(wanted) = wanted else { continue };
        let place = &vector.place;
        let name = |error: FrameError| format!("{error:?}").split(['(', ' ']).next().map(str::to_owned);
        let mut decoder = Decoder::default();
        decoder.push(&vector.bytes);
        let found = decoder.next().map(|frame| frame.is_some());
        assert_eq!(found.map_err(name), Err(Some(wanted.to_owned())), "{place}");
        let found = parse_in_place(&vector.bytes);
        assert_eq!(found.map_err(name), Err(Some(wanted.to_owned())), "{place}, by Parser");
        names.insert(wanted.to_owned());
    }
    let all = ["Extension", "Field", "Handles", "Kind", "Length", "Version"];
    assert!(names.iter().eq(all), "every error has a vector: {names:?}");
}

#[test]
fn a_body_that_is_not_exactly_its_fields_is_refused() {
    struct Refuses<'a>(&'a [u8]);
    impl Visit for Refuses<'_> {
        fn visit<T: Body>(&mut self, name: &str) {
            assert_eq!(decode::<T>(self.0), None, "{name}");
        }
    }
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector.error.as_deref() == Some("Body")) {
        println!("{}", vector.place);
        let (_, tail) = vector.whole();
        bodies::visit(vector.body().expect("the body it is meant for"), &mut Refuses(tail.payload));
        seen += 1;
    }
    assert!(seen > 10, "{seen} vectors");
}

#[test]
fn a_batch_a_value_or_leases_that_are_not_as_they_should_be_are_refused() {
    let mut seen = BTreeSet::new();
    for vector in &vectors() {
        let Some(error) = vector.error.as_deref().filter(|name| CONTENT_ERRORS.contains(name)) else {
            continue;
        };
        let place = &vector.place;
        let (header, tail) = vector.whole();
        match error {
            "Batch" => assert_eq!(Parts::of(tail.payload).count_whole(), None, "{place}"),
            "Leases" => assert_eq!(LeaseId::all_in(tail.payload), None, "{place}"),
            "Value" => {
                for extension in tail.extensions().expect(place) {
                    assert!(!is_value(extension.kind, extension.value), "{place}");
                }
            }
            _ => {}
        }
        // What else is in the frame is as it should be.
        if error != "Batch" && header.flags & flags::BATCH != 0 {
            assert!(Parts::of(tail.payload).count_whole().is_some(), "{place}");
        }
        seen.insert(error.to_owned());
    }
    assert!(seen.iter().eq(CONTENT_ERRORS), "every error has a vector: {seen:?}");
}

/// Whether the value of an extension is as SPEC 10 has it, of those that a queue reads.
fn is_value(kind: u16, value: &[u8]) -> bool {
    match kind {
        extension_type::PUSH => {
            PushOptions::from_bytes(value).is_some_and(|options| options.priority < QUEUE_PRIORITIES)
        }
        extension_type::GROUP => group_key(value).is_some(),
        extension_type::PRODUCER => Producer::from_bytes(value).is_some(),
        extension_type::QUEUES => push_queues(value).is_some(),
        _ => true,
    }
}

#[test]
fn a_file_is_two_streams_one_each_way() {
    let mut files: HashMap<(String, bool), Vec<Vector>> = HashMap::new();
    for vector in vectors().into_iter().filter(|vector| vector.error.is_none()) {
        let file = vector.place.split(':').next().expect("a file").to_owned();
        files.entry((file, vector.from_client)).or_default().push(vector);
    }
    for ((file, _), vectors) in &files {
        let mut decoder = Decoder::default();
        decoder.push(&vectors.iter().flat_map(|vector| vector.bytes.clone()).collect::<Vec<_>>());
        for vector in vectors {
            let (header, tail) = decoder.next().expect(file).expect("a frame for every vector");
            assert_eq!(header, vector.header(), "{}", vector.place);
            assert_eq!(tail.len(), header.tail_len(), "{}", vector.place);
        }
        assert_eq!(decoder.next(), Ok(None), "{file}");
        assert_eq!(decoder.pending(), 0, "{file}");
    }
}

#[test]
fn every_kind_outcome_event_operation_and_body_has_a_vector() {
    let vectors = vectors();
    let good = || vectors.iter().filter(|vector| vector.error.is_none());
    let methods = |kind: Kind, from_client: bool| -> BTreeSet<u32> {
        let of_kind = good().filter(|v| v.header().kind == kind && v.from_client == from_client);
        of_kind.map(|vector| vector.header().method).collect()
    };
    for kind in 0..=u8::MAX {
        let Some(kind) = Kind::from_wire(kind) else { continue };
        // SPEC 2.3: who may send what.
        assert_eq!(methods(kind, true).is_empty(), matches!(kind, Kind::Welcome | Kind::Event), "{kind:?}");
        assert_eq!(methods(kind, false).is_empty(), kind == Kind::Hello, "{kind:?}");
    }
    let events = methods(Kind::Event, false);
    assert!((1..).map_while(Event::from_wire).all(|event| events.contains(&(event as u32))), "{events:?}");
    let outcomes = methods(Kind::Outcome, false);
    assert!(Outcome::ALL[1..].iter().all(|&outcome| outcomes.contains(&(outcome as u32))), "{outcomes:?}");
    let control = good().filter(|v| v.header().kind == Kind::Call && v.header().handle == 0);
    let operations: BTreeSet<u32> = control.map(|vector| vector.header().method).collect();
    assert!(
        (1..).map_while(Operation::from_wire).all(|it| operations.contains(&(it as u32))),
        "{operations:?}"
    );
    let bodies: BTreeSet<&str> = good().flat_map(Vector::bodies).collect();
    assert!(bodies::NAMES.iter().copied().collect::<BTreeSet<_>>() == bodies, "{bodies:?}");
    let extensions: BTreeSet<u16> = good().flat_map(|it| it.extensions()).map(|(kind, _)| kind).collect();
    assert!(EXTENSION_TYPES.iter().all(|(_, kind)| extensions.contains(kind)), "{extensions:?}");
    for kind in (0..=u8::MAX).filter_map(Kind::from_wire) {
        let seen = good().filter(|it| it.header().kind == kind).fold(0, |seen, it| seen | it.header().flags);
        assert_eq!(seen, flags::of(kind), "flags of {kind:?}");
    }
    assert_eq!(methods(Kind::Hello, true), BTreeSet::from([HELLO_MAGIC]));
    assert!(methods(Kind::Goodbye, false).contains(&(GoodbyeReason::NotReading as u32)));
}

#[test]
fn every_method_item_and_word_of_topics_queues_and_events_has_a_vector() {
    let vectors = vectors();
    let in_file = |file: &str| -> Vec<&Vector> {
        let good = vectors.iter().filter(|vector| vector.error.is_none());
        good.filter(|vector| vector.place.starts_with(file)).collect()
    };
    let methods = |file: &str| -> BTreeSet<u64> {
        let calls = in_file(file).into_iter().map(Vector::header).filter(|header| header.kind == Kind::Call);
        calls.filter(|header| header.handle != 0).map(|header| header.method.into()).collect()
    };
    // Each number stands for itself; the vectors have all there are, and no others.
    let all = |first: u64, of: &dyn Fn(u64) -> Option<u64>| -> BTreeSet<u64> {
        let known = (first..).map(|number| (number, of(number)));
        known.map_while(|(number, found)| found.inspect(|&found| assert_eq!(found, number))).collect()
    };
    assert_eq!(methods("queues.txt"), all(1, &|it| QueueMethod::from_wire(it as u32).map(|it| it as u64)));
    assert_eq!(methods("signals.txt"), all(1, &|it| SignalMethod::from_wire(it as u32).map(|it| it as u64)));
    let topics = in_file("topics.txt");
    let items = topics.iter().map(|it| it.header()).filter(|it| it.kind == Kind::Item);
    let items: BTreeSet<u64> = items.map(|header| header.handle).collect();
    let mut deliveries = all(0, &|it| Delivery::from_wire(it).map(|it| it as u64));
    deliveries.insert(deliveries.len() as u64); // one to come
    assert_eq!(items, deliveries);
    let words = |body: &str, field: &str| -> BTreeSet<u64> {
        let title = format!("payload {body}");
        let good = vectors.iter().filter(|vector| vector.error.is_none());
        good.filter_map(|it| it.section(&title)).map(|section| section.number(field)).collect()
    };
    assert_eq!(words("Open", "kind"), all(1, &|it| ObjectKind::from_wire(it as u8).map(|it| it as u64)));
    assert_eq!(
        words("Subscribe", "policy"),
        all(0, &|it| SlowPolicy::from_wire(it as u8).map(|it| it as u64))
    );
    let levels = all(0, &|it| Level::from_wire(it as u32).map(|it| it as u64));
    assert_eq!(words("CreateQueue", "durability"), levels);
    let overflows = all(0, &|it| Overflow::from_wire(it as u8).map(|it| it as u64));
    assert_eq!(words("CreateQueue", "overflow"), overflows);
    assert_eq!(words("Pop", "lease"), all(0, &|it| LeaseKind::from_wire(it as u8).map(|it| it as u64)));
    assert_eq!(words("Nack", "how"), all(0, &|it| NackHow::from_wire(it as u8).map(|it| it as u64)));
}

impl Vector {
    fn section(&self, title: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.title == title)
    }

    /// What kind of body the payload is.
    fn body(&self) -> Option<&str> {
        self.sections.iter().find_map(|section| section.title.strip_prefix("payload "))
    }

    /// Every body in it: an extension can hold one too.
    fn bodies(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().filter_map(|it| {
            it.title
                .strip_prefix("payload ")
                .or_else(|| it.title.strip_prefix("extension ").filter(|rest| *rest != "area"))
        })
    }

    /// The messages of a batch, which then are the payload.
    fn messages(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| section.title == "message")
    }

    fn payload(&self) -> Vec<u8> {
        let payload =
            self.sections.iter().filter(|it| it.title.starts_with("payload") || it.title == "message");
        payload.flat_map(Section::bytes).collect()
    }

    fn extension_records(&self) -> impl Iterator<Item = &Section> {
        let is_record = |title: &str| title.strip_prefix("extension").is_some_and(|rest| rest != " area");
        self.sections.iter().filter(move |section| is_record(&section.title))
    }

    fn extensions(&self) -> Vec<(u16, Vec<u8>)> {
        self.extension_records().map(|it| (it.number("type") as u16, it.value())).collect()
    }

    fn handles(&self) -> Vec<HandleEntry> {
        let entries = self.sections.iter().filter(|section| section.title == "handle");
        let entry = |it: &Section| HandleEntry {
            handle: it.number("handle"),
            rights: Rights(it.number("rights") as u32),
            flags: it.number("flags") as u32,
        };
        entries.map(entry).collect()
    }

    fn header(&self) -> Header {
        let it = &self.sections[0];
        Header {
            len: it.number("len") as u32,
            ext_len: it.number("ext_len") as u16,
            kind: Kind::from_wire(it.number("kind") as u8).expect("a kind"),
            flags: it.number("flags") as u8,
            priority: it.number("priority") as u8,
            version: it.number("version") as u8,
            handles: it.number("handles") as u16,
            method: it.number("method") as u32,
            handle: it.number("handle"),
            call: it.number("call"),
            deadline: it.number("deadline"),
            seq: it.number("seq"),
            epoch: it.number("epoch"),
            caller: it.number("caller"),
        }
    }

    /// The frame, which must be just one.
    fn whole(&self) -> (Header, Tail<'_>) {
        let mut decoder = Decoder::default();
        decoder.push(&self.bytes);
        let (header, tail) = decoder.next().expect(&self.place).expect("a whole frame");
        let bytes = &self.bytes[HEADER_BYTES..header.len as usize];
        assert_eq!(tail, bytes, "{}", self.place);
        assert_eq!(decoder.next(), Ok(None), "{}", self.place);
        assert_eq!(decoder.pending(), 0, "{}: one frame and no more", self.place);
        (header, Parser::tail(&header, bytes).expect(&self.place))
    }

    fn check_decoding(&self) {
        let place = &self.place;
        let (header, tail) = self.whole();
        assert_eq!(header, self.header(), "{place}");
        assert_eq!(parse_in_place(&self.bytes), Ok(()), "{place}");
        let extensions = tail.extensions().expect(place);
        let extensions: Vec<_> = extensions.map(|it| (it.kind, it.value.to_vec())).collect();
        assert_eq!(extensions, self.extensions(), "{place}");
        assert_eq!(tail.handles().collect::<Vec<_>>(), self.handles(), "{place}");
        assert_eq!(tail.payload, self.payload(), "{place}");
        if let Some(body) = self.body() {
            println!("{place}");
            let section = self.section(&format!("payload {body}")).expect("the section it was found in");
            bodies::visit(body, &mut BothWays { fields: &section.fields.iter().collect::<Vec<_>>() });
        }
        let meant: Vec<(u32, Vec<u8>)> =
            self.messages().map(|it| (it.number("attribute") as u32, it.value())).collect();
        assert_eq!(header.flags & flags::BATCH != 0, !meant.is_empty(), "{place}");
        if !meant.is_empty() {
            assert_eq!(Parts::of(tail.payload).count_whole(), Some(meant.len() as u32), "{place}");
            let meant = meant.iter().map(|(attribute, payload)| Part { attribute: *attribute, payload });
            assert!(Parts::of(tail.payload).eq(meant), "{place}");
        }
        self.extension_records().for_each(|record| record.check_extension(place));
        let leases = |it: &Section| it.fields.first().is_some_and(|field| field.name.starts_with("lease["));
        if let Some(section) = self.section("payload").filter(|section| leases(section)) {
            let found = LeaseId::all_in(tail.payload).expect(place);
            let found: Vec<String> = found.iter().map(|lease| format!("0x{lease}")).collect();
            assert!(section.fields.iter().map(|field| &field.value).eq(&found), "{place}: {found:?}");
        }
    }

    fn check_encoding(&self) {
        let area = match self.section("extension area") {
            Some(raw) => raw.bytes(),
            None => {
                let mut builder = ExtensionsBuilder::default();
                for (kind, value) in self.extensions() {
                    builder.add(kind, &value);
                }
                builder.finish()
            }
        };
        let header = Header { len: 0, ext_len: 0, handles: 0, ..self.header() };
        let mut bytes = Vec::new();
        let mut payload = Vec::new();
        for message in self.messages() {
            write_part(&mut payload, message.number("attribute") as u32, &message.value());
        }
        let payload = if payload.is_empty() { self.payload() } else { payload };
        write_frame(&mut bytes, header, &area, &self.handles(), &payload);
        assert_eq!(bytes, self.bytes, "{}", self.place);
    }
}

/// Takes a frame apart as the broker does, without a `Decoder`.
fn parse_in_place(bytes: &[u8]) -> Result<(), FrameError> {
    let mut header = Header::new(Kind::Goodbye);
    assert!(Parser::read(bytes, &mut header)?, "less than a header");
    Parser::tail(&header, &bytes[HEADER_BYTES..header.len as usize]).map(|_| ())
}

/// Checks that a body's bytes are what its fields say, and the other way round.
struct BothWays<'a> {
    fields: &'a [&'a Field],
}

impl Visit for BothWays<'_> {
    fn visit<T: Body>(&mut self, name: &str) {
        let bytes: Vec<u8> = self.fields.iter().flat_map(|field| field.bytes.clone()).collect();
        let fields = self.fields.iter().map(|field| (field.name.as_str(), field.value.as_str())).collect();
        let meant = T::build(&fields, "");
        assert_eq!(decode::<T>(&bytes).as_ref(), Some(&meant), "{name}");
        assert_eq!(encode(&meant), bytes, "{name}");
    }
}

impl Section {
    fn bytes(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|field| field.bytes.clone()).collect()
    }

    /// The fields of an extension's value, or of a message, beside what frames them.
    fn values(&self) -> impl Iterator<Item = &Field> {
        let frame = ["type", "length", "attribute", "zeros"];
        self.fields.iter().filter(move |field| !frame.contains(&field.name.as_str()))
    }

    fn value(&self) -> Vec<u8> {
        self.values().flat_map(|field| field.bytes.clone()).collect()
    }

    /// Checks that an extension's value is what its fields say, and the other way round.
    fn check_extension(&self, place: &str) {
        let value = self.value();
        match self.number("type") as u16 {
            extension_type::PUSH => {
                let options = PushOptions {
                    priority: self.number("priority") as u8,
                    ttl_ns: self.number("ttl_ns"),
                    delay_ns: self.number("delay_ns"),
                };
                assert_eq!(PushOptions::from_bytes(&value), Some(options), "{place}");
                assert_eq!(options.to_bytes(), value[..], "{place}");
            }
            extension_type::PRODUCER => {
                let producer = Producer { id: self.number("producer"), sequence: self.number("sequence") };
                assert_eq!(Producer::from_bytes(&value), Some(producer), "{place}");
                assert_eq!(producer.to_bytes(), value[..], "{place}");
            }
            extension_type::QUEUES => {
                let handles = push_queues(&value).expect(place);
                assert!(handles.eq(self.values().map(|field| number(&field.value))), "{place}");
            }
            extension_type::GROUP => assert_eq!(group_key(&value), Some(&value[..]), "{place}"),
            extension_type::DEAD_LETTER => {
                assert_eq!(self.title, "extension DeadLetter", "{place}");
                bodies::visit("DeadLetter", &mut BothWays { fields: &self.values().collect::<Vec<_>>() });
            }
            _ => {}
        }
    }

    fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn number(&self, name: &str) -> u64 {
        match self.get(name).unwrap_or_else(|| panic!("no field `{name}`")).value.as_str() {
            "HELLO" => 0x01,
            "WELCOME" => 0x02,
            "GOODBYE" => 0x03,
            "CALL" => 0x10,
            "SEND" => 0x11,
            "REPLY" => 0x12,
            "OUTCOME" => 0x13,
            "CANCEL" => 0x14,
            "ITEM" => 0x15,
            "CREDIT" => 0x16,
            "EVENT" => 0x17,
            other => match EXTENSION_TYPES.iter().find(|(name, _)| *name == other) {
                Some((_, kind)) => u64::from(*kind),
                None => number(other),
            },
        }
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut paths: Vec<_> =
        folder.read_dir().expect("tests/vectors").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut vectors = Vec::new();
    for path in paths {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        for (number, line) in (1..).zip(text.lines()) {
            read_line(&mut vectors, line, &format!("{name}:{number}"));
        }
    }
    vectors
}

fn read_line(vectors: &mut Vec<Vector>, line: &str, place: &str) {
    if line.is_empty() || line.starts_with('#') {
        return;
    }
    let from_client = line.starts_with("client: ");
    if from_client || line.starts_with("broker: ") {
        let place = format!("{place}: {line}");
        let sections = vec![Section { title: "header".into(), fields: Vec::new() }];
        vectors.push(Vector { place, from_client, error: None, bytes: Vec::new(), sections });
        return;
    }
    let vector = vectors.last_mut().unwrap_or_else(|| panic!("{place}: no frame has begun"));
    if let Some(error) = line.strip_prefix("error: ") {
        vector.error = Some(error.to_owned());
        return;
    }
    let (hex, meaning) = line.split_once("  ").unwrap_or((line, ""));
    let bytes: Option<Vec<u8>> =
        hex.split(' ').map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2)).collect();
    let Some(bytes) = bytes else {
        vector.sections.push(Section { title: line.to_owned(), fields: Vec::new() });
        return;
    };
    vector.bytes.extend_from_slice(&bytes);
    let fields = &mut vector.sections.last_mut().expect("the header at least").fields;
    match meaning.trim() {
        "" => {
            let before = fields.last_mut().unwrap_or_else(|| panic!("{place}: nothing to go on with"));
            before.bytes.extend(bytes);
        }
        meaning => {
            let (name, value) = meaning.split_once(" = ").unwrap_or((meaning, ""));
            fields.push(Field { name: name.into(), value: value.into(), bytes });
        }
    }
}
