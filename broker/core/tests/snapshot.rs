//! A snapshot costs no more than it may take.

use std::cell::Cell;
use switchboard_core::{
    Broker, Effect, Identity, Input, Instance, Limits, Payload, Policy, QueueSettings, SendTail, Settings,
};
use switchboard_protocol::control::{Open, Opened, Operation};
use switchboard_protocol::queue::QueueMethod;
use switchboard_protocol::{
    ExtensionsBuilder, HEADER_BYTES, HELLO_MAGIC, Header, Hello, Instant, Kind, Name, ObjectKind, PeerId,
    VERSION, Verb, decode, encode,
};

thread_local! {
    /// How often anybody has looked at the bytes of a payload.
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// A payload that notes who looks, and of which a snapshot has only the length, as the daemon's.
#[derive(Clone)]
struct Watched(Vec<u8>);

impl Payload for Watched {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> &[u8] {
        LOOKS.set(LOOKS.get() + 1);
        &self.0
    }

    fn keep(self) -> Self {
        self
    }

    fn own(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    fn cut(&self, start: usize, end: usize) -> Self {
        Self(self.0[start..end].to_vec())
    }
}

impl serde::Serialize for Watched {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.len() as u32)
    }
}

impl<'de> serde::Deserialize<'de> for Watched {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(vec![0; u32::deserialize(deserializer)? as usize]))
    }
}

const CLIENT: PeerId = PeerId { slot: 0, generation: 1 };
const EXTENSION_BYTES: usize = 4000;
const MESSAGES: u32 = 500;

/// A broker with a queue of messages that have long extensions, and of each as good as nothing else.
fn broker() -> Broker<Watched> {
    let queue = QueueSettings::of(Name::new("acme.q").expect("a name"));
    let settings = Settings {
        policy: Policy::user_instance(1),
        limits: Limits::default(),
        topics: Vec::new(),
        queues: vec![queue],
        files: Vec::new(),
    };
    let mut broker = Broker::new(settings, Instance { incarnation: 1, ..Instance::default() }, Instant(1));
    let mut tell = |input| {
        let mut effects: Vec<Effect<Watched>> = Vec::new();
        broker.handle(Instant(1), input, &mut effects);
        effects
    };
    let frame = |header: Header, area: &[u8], payload: &[u8]| {
        let tail = [area, payload].concat();
        let (len, ext_len) = ((HEADER_BYTES + tail.len()) as u32, area.len() as u16);
        Input::Frame { from: CLIENT, header: Header { len, ext_len, ..header }, tail: Watched(tail) }
    };
    tell(Input::Connect { peer: CLIENT, identity: Identity { uid: 1, pid: 7, ..Identity::default() } });
    let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: String::new() };
    tell(frame(Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &[], &encode(&hello)));
    let (kind, rights) = (ObjectKind::Queue as u8, Verb::Push.right().0);
    let open = Open { name: "acme.q".into(), kind, rights, on_behalf_of: 0 };
    let call = Header { call: 1 << 32, ..Header::new(Kind::Call) };
    let told = tell(frame(Header { method: Operation::Open as u32, ..call }, &[], &encode(&open)));
    let opened = told.iter().find_map(|effect| match effect {
        Effect::Send { tail: SendTail::Own(body), .. } => decode::<Opened>(body),
        _ => None,
    });
    let handle = opened.expect("a queue that is configured").handle;
    let mut area = ExtensionsBuilder::default();
    area.add(0x0077, &[b'x'; EXTENSION_BYTES]);
    let area = area.finish();
    for _ in 0..MESSAGES {
        let push = Header { method: QueueMethod::Push as u32, handle, ..call };
        let told = tell(frame(push, &area, b"x"));
        let reply = |effect: &Effect<Watched>| matches!(effect, Effect::Send { header, .. } if header.kind == Kind::Reply);
        assert!(told.iter().any(reply), "a push is answered");
        tell(Input::Wrote { peer: CLIENT, bytes: 1 << 20 });
    }
    broker
}

#[test]
fn no_more_is_looked_at_than_a_snapshot_may_take() {
    let broker = broker();
    let whole = broker.snapshot(usize::MAX).expect("no bound");
    assert!(MESSAGES as usize * EXTENSION_BYTES < whole.len());
    assert!(
        Broker::<Watched>::restore(&whole)
            .is_some_and(|again| again.snapshot(whole.len()) == Some(whole.clone()))
    );
    assert_eq!(broker.snapshot(whole.len() - 1), None);
    // What is held takes little beside the extensions; a tenth of these has room.
    let most = whole.len() / 10;
    LOOKS.set(0);
    assert_eq!(broker.snapshot(most), None);
    let looks = LOOKS.get();
    assert!(0 < looks && looks <= u64::from(MESSAGES) / 10, "{looks} payloads were looked at");
    // Where not even that has room, nothing else is looked at.
    LOOKS.set(0);
    assert_eq!(broker.snapshot(1000), None);
    assert_eq!(LOOKS.get(), 0);
}
