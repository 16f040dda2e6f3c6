//! What the broker tells, as people and scripts see it.

use std::io;
use std::time::Duration;

use serde::Serialize;
use switchboard::{Level, Overflow, QueueInfo};
use switchboard_config::units::format_duration;
use switchboard_config::users;
use switchboard_protocol::control::{NameInfo, PeerStats, ServerInfo, WaitEdge};
use switchboard_protocol::{Epoch, ObjectKind, PeerId};

use crate::output::{Output, printable};

/// A name, in listings.
#[derive(Debug, Serialize)]
pub(crate) struct NameView {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// Of a service: what else there is has no owner.
    pub(crate) mode: Option<&'static str>,
    pub(crate) owned: bool,
    pub(crate) epoch: u64,
    pub(crate) owner: Option<String>,
    pub(crate) owners: u32,
    pub(crate) standby: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) user: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) program: Option<String>,
}

impl From<NameInfo> for NameView {
    fn from(info: NameInfo) -> Self {
        let owned = info.owner != 0;
        Self {
            kind: kind(info.kind),
            mode: (info.kind == ObjectKind::Service as u8).then(|| mode(info.mode)),
            owned,
            epoch: info.epoch,
            owner: owned.then(|| peer(info.owner)),
            owners: info.owners,
            standby: info.standby,
            uid: owned.then_some(info.uid),
            user: owned.then(|| users::name_of(info.uid)).flatten(),
            pid: owned.then_some(info.pid),
            program: owned.then_some(info.program),
            name: info.name,
        }
    }
}

/// One server of a name.
#[derive(Debug, Serialize)]
pub(crate) struct ServerView {
    pub(crate) peer: String,
    pub(crate) uid: u32,
    pub(crate) user: Option<String>,
    pub(crate) pid: u32,
    pub(crate) program: String,
    pub(crate) standby: u32,
    pub(crate) outstanding: u32,
    pub(crate) calls: u32,
}

impl From<ServerInfo> for ServerView {
    fn from(info: ServerInfo) -> Self {
        Self {
            peer: peer(info.peer),
            uid: info.uid,
            user: users::name_of(info.uid),
            pid: info.pid,
            program: info.program,
            standby: info.standby,
            outstanding: info.outstanding,
            calls: info.calls,
        }
    }
}

/// One connection and what it has done.
#[derive(Debug, Serialize)]
pub(crate) struct PeerView {
    pub(crate) peer: String,
    pub(crate) uid: u32,
    pub(crate) user: Option<String>,
    pub(crate) pid: u32,
    pub(crate) program: String,
    pub(crate) frames_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) calls_open: u32,
    pub(crate) serving: u32,
    pub(crate) unread_bytes: u64,
    pub(crate) handles: u32,
}

impl From<PeerStats> for PeerView {
    fn from(stats: PeerStats) -> Self {
        Self {
            peer: peer(stats.peer),
            uid: stats.uid,
            user: users::name_of(stats.uid),
            pid: stats.pid,
            program: stats.program,
            frames_in: stats.frames_in,
            bytes_in: stats.bytes_in,
            frames_out: stats.frames_out,
            bytes_out: stats.bytes_out,
            calls_open: stats.calls_open,
            serving: stats.serving,
            unread_bytes: stats.unread_bytes,
            handles: stats.handles,
        }
    }
}

/// An open call.
#[derive(Debug, Serialize)]
pub(crate) struct WaitView {
    pub(crate) request: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) caller: String,
    pub(crate) caller_pid: u32,
    pub(crate) caller_program: String,
    pub(crate) name: String,
    /// Null while the call waits for a server.
    pub(crate) server: Option<String>,
    pub(crate) server_pid: Option<u32>,
    pub(crate) server_program: Option<String>,
    pub(crate) age_ns: u64,
    /// Null without a deadline.
    pub(crate) left_ns: Option<u64>,
    pub(crate) priority: u8,
}

impl From<WaitEdge> for WaitView {
    fn from(edge: WaitEdge) -> Self {
        let served = edge.server != 0;
        Self {
            request: edge.request,
            parent: (edge.parent != 0).then_some(edge.parent),
            caller: peer(edge.caller),
            caller_pid: edge.caller_pid,
            caller_program: edge.caller_program,
            name: edge.name,
            server: served.then(|| peer(edge.server)),
            server_pid: served.then_some(edge.server_pid),
            server_program: served.then_some(edge.server_program),
            age_ns: edge.age_ns,
            left_ns: (edge.left_ns != 0).then_some(edge.left_ns),
            priority: edge.priority,
        }
    }
}

/// A payload in JSON: as text, or, where it is none, in hexadecimal digits.
#[derive(Debug, Serialize)]
pub(crate) enum PayloadView<'p> {
    #[serde(rename = "payload")]
    Text(&'p str),
    #[serde(rename = "payload_hex")]
    Bytes(String),
}

impl<'p> PayloadView<'p> {
    pub(crate) fn of(payload: &'p [u8]) -> Self {
        match std::str::from_utf8(payload) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Bytes(payload.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// A queue at a glance.
#[derive(Debug, Serialize)]
pub(crate) struct QueueView {
    pub(crate) name: String,
    pub(crate) durability: &'static str,
    pub(crate) overflow: &'static str,
    pub(crate) max_messages: u64,
    pub(crate) max_bytes: u64,
    pub(crate) max_deliveries: u32,
    pub(crate) dead_letters: String,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) ready: u64,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    pub(crate) grouped: u64,
    pub(crate) consumers: u32,
    pub(crate) blocked: u32,
    pub(crate) position: u64,
    pub(crate) pushed: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
    pub(crate) dead: u64,
    pub(crate) duplicates: u64,
    /// Null where all is well.
    pub(crate) read_only: Option<String>,
}

impl QueueView {
    pub(crate) fn of(name: &str, info: QueueInfo) -> Self {
        Self {
            name: name.to_owned(),
            durability: level(info.durability),
            overflow: Overflow::from_wire(info.overflow).map_or("unknown", Overflow::as_str),
            max_messages: info.messages_max,
            max_bytes: info.bytes_max,
            max_deliveries: info.deliveries_max,
            dead_letters: info.dead_letters,
            messages: info.messages,
            bytes: info.bytes,
            ready: info.ready,
            leased: info.leased,
            delayed: info.delayed,
            grouped: info.grouped,
            consumers: info.consumers,
            blocked: info.blocked,
            position: info.position,
            pushed: info.pushed,
            delivered: info.delivered,
            acked: info.acked,
            dropped: info.dropped,
            expired: info.expired,
            dead: info.dead,
            duplicates: info.duplicates,
            read_only: (!info.read_only.is_empty()).then_some(info.read_only),
        }
    }

    /// For people, a fact a line, without the name.
    pub(crate) fn print(&self, output: &mut Output) -> io::Result<()> {
        output.line(format_args!("durability  {}", self.durability))?;
        output.line(format_args!(
            "messages    {} of {}, {} of {}, {} when full",
            count(self.messages),
            count(self.max_messages),
            bytes(self.bytes),
            bytes(self.max_bytes),
            self.overflow
        ))?;
        output.line(format_args!(
            "of them     {} ready, {} leased, {} delayed, {} behind others of their group",
            count(self.ready),
            count(self.leased),
            count(self.delayed),
            count(self.grouped)
        ))?;
        output.line(format_args!("waiting     {} consumers, {} pushes", self.consumers, self.blocked))?;
        output.line(format_args!("latest id   {}", self.position))?;
        output.line(format_args!(
            "so far      {} pushed, {} delivered, {} acknowledged, {} dropped, {} expired, {} dead, {} duplicates",
            count(self.pushed),
            count(self.delivered),
            count(self.acked),
            count(self.dropped),
            count(self.expired),
            count(self.dead),
            count(self.duplicates)
        ))?;
        output.line(format_args!(
            "dead        after {} deliveries, to {}",
            self.max_deliveries,
            printable(&self.dead_letters)
        ))?;
        match &self.read_only {
            Some(why) => output.line(format_args!("READ ONLY   {}", printable(why))),
            None => Ok(()),
        }
    }
}

/// How durable something is.
fn level(wire: u8) -> &'static str {
    Level::from_wire(wire.into()).map_or("unknown", Level::as_str)
}

/// A connection's id; 0 is the broker itself.
pub(crate) fn peer(wire: u64) -> String {
    match wire {
        0 => "broker".to_owned(),
        _ => PeerId::from_wire(wire).to_string(),
    }
}

/// A kind of object.
pub(crate) fn kind(wire: u8) -> &'static str {
    ObjectKind::from_wire(wire).map_or("unknown", ObjectKind::as_str)
}

/// How a name is owned.
fn mode(wire: u8) -> &'static str {
    if wire == 0 { "exclusive" } else { "pool" }
}

/// An epoch, as the broker's incarnation and its counter.
pub(crate) fn epoch(wire: u64) -> String {
    match wire {
        0 => "-".to_owned(),
        _ => format!("{}.{}", Epoch(wire).incarnation(), wire & u64::from(u32::MAX)),
    }
}

/// A user by name, else by number.
pub(crate) fn user(uid: u32) -> String {
    users::name_of(uid).unwrap_or_else(|| uid.to_string())
}

/// Nothing, as a dash.
pub(crate) fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

/// A time for people: three digits and a unit.
pub(crate) fn time(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => digits(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => digits(nanos, 1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => digits(nanos, 1_000_000_000, "s"),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
            match (days, hours) {
                (0, 0) => format!("{minutes} min {} s", seconds % 60),
                (0, _) => format!("{hours} h {minutes} min"),
                _ => format!("{days} d {hours} h"),
            }
        }
    }
}

/// A size for people: three digits and a unit.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..0x10_0000 => digits(bytes, 1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => digits(bytes, 1 << 20, "MiB"),
        _ => digits(bytes, 1 << 30, "GiB"),
    }
}

/// A count for people: in groups of three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A limit's value, in the unit that its name tells.
pub(crate) fn limit(name: &str, value: u64) -> String {
    if name.ends_with("_timeout") || name.ends_with("_step") {
        format_duration(Duration::from_nanos(value))
    } else if name.contains("bytes") {
        bytes(value)
    } else {
        count(value)
    }
}

fn digits(number: u64, unit: u64, name: &str) -> String {
    let value = number as f64 / unit as f64;
    match value {
        ..10.0 => format!("{value:.2} {name}"),
        10.0..100.0 => format!("{value:.1} {name}"),
        _ => format!("{value:.0} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        for (nanos, text) in [
            (7, "7 ns"),
            (21_740, "21.7 µs"),
            (250_000_000, "250 ms"),
            (1_500_000_000, "1.50 s"),
            (61_000_000_000, "1 min 1 s"),
            (7_260_000_000_000, "2 h 1 min"),
            (180_000_000_000_000, "2 d 2 h"),
        ] {
            assert_eq!(time(nanos), text);
        }
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(16 << 20), "16.0 MiB");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(12), "12");
        assert_eq!(epoch(3 << 32 | 17), "3.17");
        assert_eq!(epoch(0), "-");
    }
}
