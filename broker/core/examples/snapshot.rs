//! How large a snapshot of a broker is, and how long it takes: `snapshot CONNECTIONS NAMES HANDLES`. The
//! flight recorder keeps the broker for so long whenever it begins a file.

use std::time::Instant as Clock;
use switchboard_core::{Broker, Effect, Identity, Input, Instance, Limits, Policy, Settings};
use switchboard_protocol::control::{Open, Operation, Serve};
use switchboard_protocol::{HELLO_MAGIC, Header, Hello, Instant, Kind, PeerId, VERSION, Verb, encode};

struct World {
    broker: Broker<Vec<u8>>,
    effects: Vec<Effect<Vec<u8>>>,
}

impl World {
    fn new() -> Self {
        let mut limits = Limits::default();
        limits.user_default.connections_per_second = 1_000_000;
        limits.user_default.connections = 1_000_000;
        limits.connections_max = 1_000_000;
        limits.names_max = 4_000_000;
        limits.handles_max = 8_000_000;
        let policy = Policy::user_instance(1);
        let settings = Settings { policy, limits, topics: Vec::new(), queues: Vec::new(), files: Vec::new() };
        Self { broker: Broker::new(settings, Instance::default(), Instant(1)), effects: Vec::new() }
    }

    fn tell(&mut self, input: Input<Vec<u8>>) {
        self.effects.clear();
        self.broker.handle(Instant(2), input, &mut self.effects);
    }

    fn frame(&mut self, from: PeerId, mut header: Header, payload: Vec<u8>) {
        header.len += payload.len() as u32;
        self.tell(Input::Frame { from, header, tail: payload });
        self.tell(Input::Wrote { peer: from, bytes: 1 << 20 });
    }

    fn join(&mut self, peer: PeerId) {
        let identity = Identity { uid: 1, pid: 7, ..Identity::default() };
        self.tell(Input::Connect { peer, identity });
        let hello =
            Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "crowd".into() };
        self.frame(peer, Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, encode(&hello));
    }

    fn control(&mut self, from: PeerId, operation: Operation, body: Vec<u8>) {
        self.frame(from, Header { method: operation as u32, call: 1 << 32, ..Header::new(Kind::Call) }, body);
    }
}

fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<u32>().expect("a number"));
    let mut next = || words.next().expect("CONNECTIONS NAMES HANDLES");
    let (connections, names, handles) = (next(), next(), next());
    let peer = |slot| PeerId { slot: slot % connections, generation: 1 };
    let mut world = World::new();
    (0..connections).for_each(|slot| world.join(peer(slot)));
    for at in 0..names {
        let name = format!("acme.building-{}.service-{at}", at / 100);
        let about = String::new();
        let serve = Serve { name, mode: 0, flags: 0, calls: 16, send_bytes: 0, about };
        world.control(peer(at), Operation::Serve, encode(&serve));
    }
    for at in 0..handles {
        let name = format!("acme.building-{}.service-{}", at % names / 100, at % names);
        let open = Open { name, kind: 1, rights: Verb::Call.right().0, on_behalf_of: 0 };
        world.control(peer(at), Operation::Open, encode(&open));
    }
    for _ in 0..5 {
        let begun = Clock::now();
        let snapshot = world.broker.snapshot(usize::MAX).expect("no bound");
        let took = begun.elapsed();
        println!("{} bytes in {:.2} ms", snapshot.len(), took.as_secs_f64() * 1e3);
    }
    let snapshot = world.broker.snapshot(usize::MAX).expect("no bound");
    let begun = Clock::now();
    Broker::<Vec<u8>>::restore(&snapshot).expect("a snapshot");
    println!("restored in {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
}
