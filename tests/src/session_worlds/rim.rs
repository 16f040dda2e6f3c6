//! The broker's rim as the simulation has it: byte streams in flight, frames cut out of them wherever
//! they end, out queues, and the core in the middle.

use std::collections::VecDeque;

use switchboard_core::{Breach, Broker, Departure, Effect, Identity, Input, Instance, SendTail, Settings};
use switchboard_protocol::{Extensions, HEADER_BYTES, Header, Instant, Kind, Parser, PeerId, padded};

use super::oracle::Oracle;
use super::tamper::Tamper;

/// Larger frames ask for room before they are received.
const SHARED_BUFFER: usize = 1024;
/// Bytes that a socket takes before its reader reads.
const SOCKET_BYTES: usize = 3000;
/// Lines that are kept of what happens.
const LINES_KEPT: usize = 100_000;

/// One connection, both directions.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: PeerId,
    /// Written by the client, on its way.
    pub(super) to_broker: VecDeque<u8>,
    /// Written by the broker, on its way.
    pub(super) to_client: VecDeque<u8>,
    /// Received and not yet handed in.
    arrived: Vec<u8>,
    out: VecDeque<u8>,
    /// Bytes of an oversized frame that are still to be thrown away.
    skip: usize,
    admitted: bool,
    paused: bool,
    closing: bool,
    /// Disconnected: the core knows that it is gone.
    pub(super) gone: bool,
}

impl Link {
    pub(super) fn describe(&self) -> String {
        let Self { paused, closing, admitted, skip, .. } = self;
        let [sent, arrived] = [self.to_broker.len(), self.arrived.len()];
        let [out, unread] = [self.out.len(), self.to_client.len()];
        format!(
            "paused={paused} closing={closing} admitted={admitted} skip={skip} sent={sent} arrived={arrived} out={out} unread={unread}"
        )
    }
}

/// The core and its links.
pub(super) struct Rim {
    pub(super) core: Broker<Vec<u8>>,
    pub(super) oracle: Oracle,
    tamper: Box<dyn Tamper>,
    pub(super) now: Instant,
    pub(super) links: Vec<Option<Link>>,
    generations: Vec<u32>,
    pub(super) reload_wanted: bool,
    /// Inputs handed in.
    pub(super) inputs: u64,
    pub(super) steps: VecDeque<String>,
    keep_steps: bool,
}

impl Rim {
    pub(super) fn new(
        settings: Settings,
        now: Instant,
        oracle: Oracle,
        tamper: Box<dyn Tamper>,
        keep_steps: bool,
    ) -> Self {
        let instance = Instance { incarnation: 3, version: "0".into(), pid: 1, system: true, secret: [1, 2] };
        Self {
            core: Broker::new(settings, instance, now),
            oracle,
            tamper,
            now,
            links: Vec::new(),
            generations: Vec::new(),
            reload_wanted: false,
            inputs: 0,
            steps: VecDeque::new(),
            keep_steps,
        }
    }

    pub(super) fn handle(&mut self, input: Input<Vec<u8>>) -> Result<(), String> {
        self.inputs += 1;
        let mut effects = Vec::new();
        let wake = matches!(input, Input::Wake);
        self.note(|| show_input(&input));
        self.oracle.input(self.now, &input);
        self.tamper.handle(&mut self.core, self.now, input, &mut effects);
        for effect in &effects {
            self.note(|| format!("    -> {}", show_effect(effect)));
        }
        self.oracle.effects(self.now, &effects)?;
        if wake && self.core.next_wake() != Some(Instant(0)) {
            self.oracle.woken(self.now)?;
        }
        for effect in effects {
            self.carry_out(effect);
        }
        Ok(())
    }

    /// Keeps a line of what happens, if somebody wants to read it.
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.keep_steps {
            if self.steps.len() == LINES_KEPT {
                self.steps.pop_front();
            }
            let line = format!("{:>12} {}", self.now.0, line());
            self.steps.push_back(line);
        }
    }

    fn carry_out(&mut self, effect: Effect<Vec<u8>>) {
        match effect {
            Effect::Send { to, header, tail } => {
                if let Some(link) = self.link(to) {
                    write(&mut link.out, &header, &tail);
                }
            }
            Effect::Resume { peer } => {
                if let Some(link) = self.link(peer) {
                    link.paused = false;
                }
            }
            Effect::Pause { peer } => {
                if let Some(link) = self.link(peer) {
                    link.paused = true;
                }
            }
            Effect::Close { peer } => {
                if let Some(link) = self.link(peer) {
                    link.closing = true;
                }
            }
            Effect::Forget { peer } => self.links[peer.slot as usize] = None,
            // No log is handed in, so that nothing is durable here; `queue_worlds` has one.
            Effect::Append { .. } | Effect::Sync | Effect::Roll { .. } | Effect::DropSegment { .. } => {
                unreachable!("no log was handed in")
            }
            Effect::Reload => self.reload_wanted = true,
            Effect::Log(_) => {}
        }
    }

    fn link(&mut self, peer: PeerId) -> Option<&mut Link> {
        self.links.get_mut(peer.slot as usize)?.as_mut().filter(|link| link.id == peer)
    }

    /// A client connects: its slot.
    pub(super) fn connect(&mut self, identity: Identity) -> Result<PeerId, String> {
        let slot = self.links.iter().position(Option::is_none).unwrap_or_else(|| {
            self.links.push(None);
            self.generations.push(0);
            self.links.len() - 1
        });
        self.generations[slot] += 1;
        let id = PeerId { slot: slot as u32, generation: self.generations[slot] };
        self.links[slot] = Some(Link {
            id,
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
            arrived: Vec::new(),
            out: VecDeque::new(),
            skip: 0,
            admitted: false,
            paused: true,
            closing: false,
            gone: false,
        });
        self.handle(Input::Connect { peer: id, identity })?;
        Ok(id)
    }

    /// A client's end of its link.
    pub(super) fn socket(&mut self, peer: PeerId) -> Option<&mut Link> {
        self.link(peer).filter(|link| !link.gone)
    }

    /// The client vanishes; what it wrote last may be lost.
    pub(super) fn hang_up(&mut self, peer: PeerId, status: Option<u32>) -> Result<(), String> {
        match self.link(peer) {
            Some(link) if !link.gone => {
                link.gone = true;
                self.handle(Input::Disconnect {
                    peer,
                    how: Departure { exit_status: status, process_ended: status.is_some() },
                })
            }
            _ => Ok(()),
        }
    }

    /// Lets up to so many bytes through to the broker, and hands in what frames there are.
    pub(super) fn receive(&mut self, slot: usize, most: usize) -> Result<(), String> {
        let Some(link) = self.links[slot].as_mut() else { return Ok(()) };
        if link.gone || link.closing {
            return Ok(());
        }
        if !link.paused {
            let count = most.min(link.to_broker.len());
            link.arrived.extend(link.to_broker.drain(..count));
        }
        // Bounded by the bytes that are there.
        while let Some(input) = self.next_input(slot) {
            self.handle(input)?;
        }
        Ok(())
    }

    /// The next thing that the bytes of a link say, as the daemon's receiving side has it.
    fn next_input(&mut self, slot: usize) -> Option<Input<Vec<u8>>> {
        let link = self.links[slot].as_mut()?;
        if link.paused || link.closing || link.gone {
            return None;
        }
        let skipped = link.skip.min(link.arrived.len());
        link.arrived.drain(..skipped);
        link.skip -= skipped;
        if 0 < link.skip {
            return None;
        }
        let from = link.id;
        let broken = |link: &mut Link, error| {
            link.arrived.clear();
            Some(Input::Broken { from, why: Breach::Frame(error) })
        };
        let mut header = Header::new(Kind::Goodbye);
        match Parser::read(&link.arrived, &mut header) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return broken(link, error),
        }
        let extensions_end = HEADER_BYTES + usize::from(header.ext_len);
        if let Some(area) = link.arrived.get(HEADER_BYTES..extensions_end)
            && Extensions::parse(area).is_none()
        {
            return broken(link, switchboard_protocol::FrameError::Extension);
        }
        let end = padded(header.len as usize);
        if (self.core.payload_bytes_max() as usize) < header.payload_len() {
            let have = end.min(link.arrived.len());
            link.arrived.drain(..have);
            link.skip = end - have;
            return Some(Input::Oversized { from, header });
        }
        if SHARED_BUFFER < end && !link.admitted {
            let mut effects = Vec::new();
            let bytes = header.tail_len() as u64;
            let admitted = self.tamper.admit(&mut self.core, self.now, from, bytes, &mut effects);
            for effect in effects {
                self.carry_out(effect);
            }
            let link = self.links[slot].as_mut()?;
            link.admitted = admitted;
            if !admitted {
                return None;
            }
        }
        let link = self.links[slot].as_mut()?;
        if link.arrived.len() < end {
            return None;
        }
        link.admitted = false;
        let tail = link.arrived[HEADER_BYTES..header.len as usize].to_vec();
        link.arrived.drain(..end);
        Some(Input::Frame { from, header, tail })
    }

    /// Writes up to so many bytes of a link's out queue; a link that is to be closed goes then.
    pub(super) fn transmit(&mut self, slot: usize, most: usize) -> Result<(), String> {
        let Some(link) = self.links[slot].as_mut() else { return Ok(()) };
        if link.gone {
            return Ok(());
        }
        let room = SOCKET_BYTES.saturating_sub(link.to_client.len());
        let bytes = most.min(room).min(link.out.len());
        link.to_client.extend(link.out.drain(..bytes));
        let (peer, closing) = (link.id, link.closing);
        if 0 < bytes {
            self.handle(Input::Wrote { peer, bytes })?;
        }
        if closing { self.hang_up(peer, None) } else { Ok(()) }
    }
}

/// Writes a frame as the daemon does.
fn write(out: &mut VecDeque<u8>, header: &Header, tail: &SendTail<Vec<u8>>) {
    let start = out.len();
    out.extend(header.to_bytes());
    out.extend(tail.to_bytes(header));
    out.resize(start + padded(header.len as usize), 0);
}

fn show_header(header: &Header) -> String {
    format!(
        "{:?} handle={:#x} call={:#x} method={} seq={:#x} epoch={:#x} priority={} deadline={} len={}",
        header.kind,
        header.handle,
        header.call,
        header.method,
        header.seq,
        header.epoch,
        header.priority,
        header.deadline,
        header.len
    )
}

fn show_input(input: &Input<Vec<u8>>) -> String {
    match input {
        Input::Frame { from, header, .. } => format!("{from} {}", show_header(header)),
        Input::Reloaded { result } => format!("reloaded {}", result.is_ok()),
        other => format!("{other:?}"),
    }
}

fn show_effect(effect: &Effect<Vec<u8>>) -> String {
    match effect {
        Effect::Send { to, header, tail } if header.kind == Kind::Outcome => {
            let message = match tail {
                SendTail::Own(bytes) => switchboard_protocol::decode::<switchboard_protocol::Failure>(bytes),
                _ => None,
            };
            format!("{to} {} {:?}", show_header(header), message.map(|failure| failure.message))
        }
        Effect::Send { to, header, .. } => format!("{to} {}", show_header(header)),
        other => format!("{other:?}"),
    }
}
