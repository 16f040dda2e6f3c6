//! Every body of the protocol, field by field: built from what a vector says, or from arbitrary bytes.
#![allow(dead_code, reason = "shared by two test programs, each of which uses a part")]

use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::fmt::Debug;
use switchboard_protocol::control::*;
use switchboard_protocol::queue::*;
use switchboard_protocol::signal::*;
use switchboard_protocol::topic::*;
use switchboard_protocol::{Failure, Goodbye, Hello, Welcome};

/// What can be on the wire in a body.
pub(crate) trait Wire: Sized {
    /// As a vector says: `fields` by path, this one at `path`.
    fn build(fields: &HashMap<&str, &str>, path: &str) -> Self;
    /// As chance has it.
    fn any(source: &mut Source) -> Self;
}

/// A whole body.
pub(crate) trait Body: Wire + Debug + PartialEq + Serialize + DeserializeOwned {}

/// Something to do with a body of each type.
pub(crate) trait Visit {
    fn visit<T: Body>(&mut self, name: &str);
}

/// Turns bytes that proptest made (and can shrink) into values.
pub(crate) struct Source<'a>(pub(crate) &'a [u8]);

impl Source<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// Of every width in turn, so that every length of varint comes.
    fn number(&mut self) -> u64 {
        let width = u32::from(self.byte() % 65);
        let all = (0..8).fold(0, |all, _| all << 8 | u64::from(self.byte()));
        if width == 0 { 0 } else { all >> (64 - width) }
    }
}

/// A number as vectors write it.
pub(crate) fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

fn at<'a>(fields: &HashMap<&str, &'a str>, path: &str) -> &'a str {
    fields.get(path).unwrap_or_else(|| panic!("no field `{path}`"))
}

macro_rules! numbers { ($($type:ident)*) => { $(
    impl Wire for $type {
        fn build(fields: &HashMap<&str, &str>, path: &str) -> Self {
            number(at(fields, path)).try_into().expect("it fits the field")
        }
        fn any(source: &mut Source) -> Self {
            source.number() as Self
        }
    }
)* } }

numbers! { u8 u32 u64 }

impl Wire for bool {
    fn build(fields: &HashMap<&str, &str>, path: &str) -> Self {
        at(fields, path).parse().expect("true or false")
    }
    fn any(source: &mut Source) -> Self {
        source.byte() & 1 == 1
    }
}

impl Wire for String {
    fn build(fields: &HashMap<&str, &str>, path: &str) -> Self {
        let text = at(fields, path).strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        text.expect("a string in quotes").to_owned()
    }
    fn any(source: &mut Source) -> Self {
        // Now and then longer than one byte of length can say.
        let len = source.byte() as usize % 12 * if source.byte() == 255 { 40 } else { 1 };
        (0..len).map(|_| char::from_u32(source.number() as u32 % 0x3000).unwrap_or('€')).collect()
    }
}

/// `none`; `some N`, of a number; or `some`, and the fields of what it is.
impl<T: Wire> Wire for Option<T> {
    fn build(fields: &HashMap<&str, &str>, path: &str) -> Self {
        match at(fields, path) {
            "none" => None,
            "some" => Some(T::build(fields, path)),
            some => {
                let it = some.strip_prefix("some ").expect("none or some");
                Some(T::build(&HashMap::from([(path, it)]), path))
            }
        }
    }
    fn any(source: &mut Source) -> Self {
        bool::any(source).then(|| T::any(source))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn build(fields: &HashMap<&str, &str>, path: &str) -> Self {
        (0..number(at(fields, &format!("{path}.len"))))
            .map(|index| T::build(fields, &format!("{path}[{index}]")))
            .collect()
    }
    fn any(source: &mut Source) -> Self {
        (0..source.byte() % 5).map(|_| T::any(source)).collect()
    }
}

macro_rules! structs { ($($type:ident { $($field:ident)* })*) => { $(
    impl Wire for $type {
        fn build(fields: &HashMap<&str, &str>, path: &str) -> Self {
            let dot = if path.is_empty() { "" } else { "." };
            Self { $($field: Wire::build(fields, &format!("{path}{dot}{}", stringify!($field)))),* }
        }
        fn any(source: &mut Source) -> Self {
            Self { $($field: Wire::any(source)),* }
        }
    }
)* } }

macro_rules! bodies { ($($type:ident)*) => {
    $(impl Body for $type {})*

    /// The names of all bodies.
    pub(crate) const NAMES: &[&str] = &[$(stringify!($type)),*];

    /// Does it with the body of that name.
    pub(crate) fn visit(name: &str, visitor: &mut impl Visit) {
        match name {
            $(stringify!($type) => visitor.visit::<$type>(name),)*
            _ => panic!("no body `{name}`"),
        }
    }
} }

bodies! {
    Hello Welcome Goodbye Failure Open Opened OnHandle OnName OnPattern OnPeer Narrow Found Serve Served NameChange
    List Listing Description PeerInfo Status Stats Waits Monitor MonitorItem Explain Explained Reloaded
    Subscribe Will TopicInfo CreateQueue Created Pop Nack Extend Peek Redrive Redriven QueueInfo DeadLetter Raise
    Pulse Await Raised
}

structs! {
    Hello { version_min version_max features program }
    Welcome { version features broker_ns incarnation peer payload_bytes_max calls_open_max priority_max }
    Goodbye { message }
    Failure { message domain code retry_after_ms exit_status details }
    Open { name kind rights on_behalf_of }
    Opened { handle rights epoch send_bytes }
    OnHandle { handle }
    OnName { name }
    OnPattern { pattern }
    OnPeer { peer }
    Narrow { handle rights }
    Found { epoch }
    Serve { name mode flags calls send_bytes about }
    Served { handle standby epoch reference calls send_bytes }
    NameInfo { name kind mode epoch owner owners standby uid pid program }
    NameChange { what info }
    List { pattern after }
    Listing { names next }
    ServerInfo { peer uid pid program standby outstanding calls }
    Description { info about servers waiting handles }
    PeerInfo { peer uid gid groups pid label program }
    Status {
        version pid incarnation uptime_ns system connections names names_owned handles calls_open waiting
        waiting_bytes watches subscriptions queued queued_bytes storage recorder limits memory_bytes_max
        counters
    }
    Storage { failure appended synced bytes segment_first segment_last }
    Recorder { bytes payloads file pause_ns failure }
    LimitInfo { name value used bytes }
    Counter { name value }
    Stats { peers next }
    PeerStats {
        peer uid pid program frames_in bytes_in frames_out bytes_out calls_open serving unread_bytes handles
    }
    Waits { edges cycles truncated }
    WaitEdge {
        request parent caller caller_pid caller_program name server server_pid server_program age_ns left_ns
        priority
    }
    Monitor { pattern payload_bytes }
    MonitorItem {
        lost at_ns kind from to name method method_name request priority payload_len payload
    }
    Explain { uid groups label verb name }
    Explained { allowed rule priority_max }
    Reloaded { files }
    Subscribe { handle pattern policy messages bytes history }
    Will { handle method payload }
    TopicInfo { subscriptions sequence held kept kept_bytes retain }
    CreateQueue { name durability messages_max bytes_max overflow lossy deliveries_max dead_letters }
    Created { existed }
    Pop { lease lease_ns }
    LeaseId { low high }
    Nack { lease how delay_ns }
    Extend { lease by_ns }
    Peek { after count }
    Redrive { count }
    Redriven { moved left }
    QueueInfo {
        durability overflow messages_max bytes_max deliveries_max dead_letters messages bytes ready leased delayed
        grouped consumers blocked position pushed delivered acked dropped expired dead duplicates read_only
    }
    DeadLetter { queue position deliveries pushed_wall_ns died_wall_ns reason }
    Raise { bits }
    Pulse { code value }
    Await { mask pulses }
    Raised { bits pulse overflow }
}
