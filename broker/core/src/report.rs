//! The broker at a glance: counters, limits, and the memory they can add up to.

use crate::broker::{Broker, Timer};
use crate::call::Call;
use crate::handle::Grip;
use crate::held::Held;
use crate::object::{Object, Server};
use crate::peer::{Peer, Stage};
use crate::queue::Queues;
use crate::signal::Left;
use crate::subscription::{Pending, Subscription};
use crate::timers::Timers;
use crate::topic::{Publication, REMEMBERED_EACH, Topic};
use crate::waiting::Waiting;
use crate::will::{WILLS_MAX, Will};
use crate::{Limits, Payload};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control::{Counter, LimitInfo, List, PeerStats, Stats, Status};
use switchboard_protocol::{Instant, Outcome};

/// Everything counted since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) connections: u64,
    pub(crate) connections_delayed: u64,
    pub(crate) expelled: u64,
    pub(crate) calls: u64,
    pub(crate) sends: u64,
    pub(crate) sends_failed: u64,
    pub(crate) controls: u64,
    /// Messages that had to wait for a server.
    pub(crate) waited: u64,
    /// Answers that nobody waited for any more, or never had.
    pub(crate) answers_late: u64,
    pub(crate) handles_revoked: u64,
    /// Handles for which a receiver had no room.
    pub(crate) handles_dropped: u64,
    /// Large frames that had to wait for memory.
    pub(crate) starved: u64,
    pub(crate) monitor_lost: u64,
    pub(crate) raised: u64,
    pub(crate) pulses: u64,
    /// Pulses that found no room.
    pub(crate) pulses_dropped: u64,
    /// Messages published to topics; those that subscriptions were given, and those that they lost.
    pub(crate) published: u64,
    pub(crate) topic_deliveries: u64,
    pub(crate) topic_lost: u64,
    /// Messages that waited for a subscription to have room.
    pub(crate) publishes_held: u64,
    /// Wills that were published, and those that could not be.
    pub(crate) wills: u64,
    pub(crate) wills_failed: u64,
    /// Ends of calls, by outcome.
    pub(crate) outcomes: [u64; 18],
}

/// Bytes that a driver needs for a connection beside what the core has, at most, while it is idle.
const LINK_BYTES: u64 = 512;
/// What a name costs beside its object: the text, twice counted, and its place in the tree.
const NAME_BYTES: u64 = 2 * 256 + 64;
/// What a watch costs with a full backlog.
const WATCH_BYTES: u64 = 1024 * 512;
/// What a block of memory of its own, or a place in a table or a map, costs beside what is in it, at most.
const PLACE_BYTES: u64 = 32;
/// The least that is charged for a message: its header.
const CHARGE_BYTES: u64 = 64;

/// Connections on one page of stats.
const PAGE: usize = 256;

impl<P: Payload> Broker<P> {
    /// SPEC 6.2, Status.
    pub(crate) fn status(&self, now: Instant) -> Status {
        let limits = self.limit_infos();
        Status {
            version: self.instance.version.clone(),
            pid: self.instance.pid,
            incarnation: self.incarnation,
            uptime_ns: now.since(self.started).as_nanos() as u64,
            system: self.instance.system,
            connections: self.connections,
            names: self.objects.len(),
            names_owned: self.names_owned,
            handles: self.handles.len(),
            calls_open: self.calls_open,
            waiting: self.waiting.len(),
            waiting_bytes: self.buffered_bytes,
            watches: self.watches.len() + self.monitors.len(),
            subscriptions: self.topics.subscriptions(),
            queued: self.queues.messages(),
            queued_bytes: self.queues.bytes(),
            storage: self.storage.info(),
            recorder: self.recording.info(),
            memory_bytes_max: limits.iter().map(|limit| limit.bytes).sum(),
            limits,
            counters: self.counters.list(),
        }
    }

    /// Each shared maximum with what one of its kind costs, which is all the memory that can be needed.
    fn limit_infos(&self) -> Vec<LimitInfo> {
        let Limits {
            connections_max,
            names_max,
            handles_max,
            calls_open_max,
            waiting_max,
            buffered_bytes_max,
            watches_max,
            pulses_max,
            link_bytes_low,
            unread_bytes_max,
            subscriptions_max,
            subscribed_bytes_max,
            kept_bytes_max,
            queued_max,
            queued_bytes_max,
            log_bytes_max,
            ..
        } = self.limits;
        let of = |name: &str, value: u64, used: u64, each: u64| LimitInfo {
            name: name.to_string(),
            value,
            used,
            bytes: value.saturating_mul(each),
        };
        let size = |bytes: usize| bytes as u64;
        // A message that waits may stand behind one that was lost, which is charged nothing.
        let pending = 2 * size(size_of::<Pending<P>>()) + 4 * PLACE_BYTES;
        let kept = 2 * size(size_of::<Publication<P>>()) + PLACE_BYTES;
        let topic = size(size_of::<Topic<P>>()) + NAME_BYTES;
        alloc::vec![
            of(
                "connections_max",
                connections_max.into(),
                self.connections.into(),
                size(size_of::<Option<Peer>>() + WILLS_MAX * size_of::<Will>())
                    + LINK_BYTES
                    + u64::from(link_bytes_low)
            ),
            of(
                "names_max",
                names_max.into(),
                self.objects.len().into(),
                size(size_of::<Object>())
                    + topic.max(size(size_of::<Server>())).max(Queues::<P>::QUEUE_BYTES)
                    + NAME_BYTES
            ),
            of("handles_max", handles_max.into(), self.handles.len().into(), size(size_of::<Grip>()) + 8),
            of(
                "calls_open_max",
                calls_open_max.into(),
                self.calls.len().into(),
                size(size_of::<Call>() + Timers::<Timer>::BYTES_EACH) + 16
            ),
            of(
                "waiting_max",
                waiting_max.into(),
                (self.waiting.len() + self.topics.held.len()).into(),
                size(size_of::<Waiting<P>>().max(size_of::<Held<P>>())) + 8
            ),
            of("buffered_bytes_max", buffered_bytes_max, self.buffered_bytes, 1),
            of("watches_max", watches_max.into(), self.watching.into(), WATCH_BYTES),
            of("pulses_max", pulses_max.into(), self.signals.pulses.into(), 2 * size(size_of::<Left>())),
            of(
                "subscriptions_max",
                subscriptions_max.into(),
                self.topics.subscriptions().into(),
                size(size_of::<Subscription>()) + NAME_BYTES + pending + 4 * REMEMBERED_EACH
            ),
            of(
                "subscribed_bytes_max",
                subscribed_bytes_max,
                self.topics.subscribed_bytes,
                1 + pending.div_ceil(CHARGE_BYTES)
            ),
            of("kept_bytes_max", kept_bytes_max, self.topics.kept_bytes, 1 + kept.div_ceil(CHARGE_BYTES)),
            of("unread_bytes_max", unread_bytes_max + unread_bytes_max / 8, self.unread_bytes, 1),
            of("queued_max", queued_max.into(), self.queues.messages(), Queues::<P>::MESSAGE_BYTES),
            of("queued_bytes_max", queued_bytes_max, self.queues.bytes(), 1),
            of("log_bytes_max", log_bytes_max, self.storage.bytes, 0),
        ]
    }

    /// SPEC 6.2, Stats.
    pub(crate) fn stats(&self, ask: &List) -> Result<Stats, (Outcome, String)> {
        let after = if ask.after.is_empty() {
            0
        } else {
            let slot = ask.after.parse::<usize>();
            slot.map_err(|_| {
                (Outcome::Invalid, "`after` is not what the page before gave as `next`".to_string())
            })?
        };
        let mut rest =
            self.peers.iter().enumerate().skip(after).filter_map(|(slot, peer)| Some((slot, peer.as_ref()?)));
        let info = |(_, peer): (usize, &Peer)| PeerStats {
            peer: peer.id.to_wire(),
            uid: peer.identity.uid,
            pid: peer.identity.pid,
            program: peer.program.clone(),
            frames_in: peer.traffic.frames_in,
            bytes_in: peer.traffic.bytes_in,
            frames_out: peer.traffic.frames_out,
            bytes_out: peer.traffic.bytes_out,
            calls_open: peer.calls.len(),
            serving: peer.requests.len(),
            unread_bytes: peer.unread,
            handles: peer.handles.len(),
        };
        let peers =
            rest.by_ref().take(PAGE).filter(|(_, peer)| peer.stage != Stage::Gone).map(info).collect();
        let next = rest.next().map_or(String::new(), |(slot, _)| slot.to_string());
        Ok(Stats { peers, next })
    }
}

impl Counters {
    fn list(&self) -> Vec<Counter> {
        let Self {
            connections,
            connections_delayed,
            expelled,
            calls,
            sends,
            sends_failed,
            controls,
            waited,
            answers_late,
            handles_revoked,
            handles_dropped,
            starved,
            monitor_lost,
            raised,
            pulses,
            pulses_dropped,
            published,
            topic_deliveries,
            topic_lost,
            publishes_held,
            wills,
            wills_failed,
            outcomes,
        } = self;
        let named = [
            ("connections", connections),
            ("connections_delayed", connections_delayed),
            ("expelled", expelled),
            ("calls", calls),
            ("sends", sends),
            ("sends_failed", sends_failed),
            ("controls", controls),
            ("waited", waited),
            ("answers_late", answers_late),
            ("handles_revoked", handles_revoked),
            ("handles_dropped", handles_dropped),
            ("starved", starved),
            ("monitor_lost", monitor_lost),
            ("raised", raised),
            ("pulses", pulses),
            ("pulses_dropped", pulses_dropped),
            ("published", published),
            ("topic_deliveries", topic_deliveries),
            ("topic_lost", topic_lost),
            ("publishes_held", publishes_held),
            ("wills", wills),
            ("wills_failed", wills_failed),
        ];
        let by_outcome = Outcome::ALL.iter().zip(outcomes).map(|(outcome, value)| {
            let name = alloc::format!("outcome_{outcome}");
            Counter { name, value: *value }
        });
        let named = named.iter().map(|&(name, value)| Counter { name: name.to_string(), value: *value });
        named.chain(by_outcome).collect()
    }
}
