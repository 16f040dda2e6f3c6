//! The vectors of `tests/vectors` hold: every frame decodes to the meaning beside it, and the meaning
//! encodes to the same bytes. `tests/vectors/README.md` describes their format.

mod bodies;

use bodies::{Body, Visit, number};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use switchboard_protocol::control::Operation;
use switchboard_protocol::{
    Decoder, Event, ExtensionsBuilder, FrameError, GoodbyeReason, HEADER_BYTES, HELLO_MAGIC, HandleEntry,
    Header, Kind, Outcome, Parsed, Parser, Rights, Tail, decode, encode, extension_type, write_frame,
};

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
        let Some(wanted) = vector.error.as_deref().filter(|name| *name != "Body") else { continue };
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
    let bodies: BTreeSet<&str> = good().filter_map(Vector::body).collect();
    assert!(bodies::NAMES.iter().copied().collect::<BTreeSet<_>>() == bodies, "{bodies:?}");
    assert_eq!(methods(Kind::Hello, true), BTreeSet::from([HELLO_MAGIC]));
    assert!(methods(Kind::Goodbye, false).contains(&(GoodbyeReason::NotReading as u32)));
}

impl Vector {
    fn section(&self, title: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.title == title)
    }

    /// What kind of body the payload is.
    fn body(&self) -> Option<&str> {
        self.sections.iter().find_map(|section| section.title.strip_prefix("payload "))
    }

    fn payload(&self) -> Vec<u8> {
        let payload = self.sections.iter().find(|section| section.title.starts_with("payload"));
        payload.map(Section::bytes).unwrap_or_default()
    }

    fn extensions(&self) -> Vec<(u16, Vec<u8>)> {
        let records = self.sections.iter().filter(|section| section.title == "extension");
        records
            .map(|it| {
                (it.number("type") as u16, it.get("value").map(|v| v.bytes.clone()).unwrap_or_default())
            })
            .collect()
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
            bodies::visit(body, &mut BothWays { fields: &section.fields });
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
        write_frame(&mut bytes, header, &area, &self.handles(), &self.payload());
        assert_eq!(bytes, self.bytes, "{}", self.place);
    }
}

/// Takes a frame apart as the broker does, without a `Decoder`.
fn parse_in_place(bytes: &[u8]) -> Result<(), FrameError> {
    let Parsed::Header(header) = Parser::header(bytes)? else { panic!("less than a header") };
    Parser::tail(&header, &bytes[HEADER_BYTES..header.len as usize]).map(|_| ())
}

/// Checks that a body's bytes are what its fields say, and the other way round.
struct BothWays<'a> {
    fields: &'a [Field],
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
            "METHOD_NAME" => extension_type::METHOD_NAME.into(),
            "TRACEPARENT" => extension_type::TRACEPARENT.into(),
            other => number(other),
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
