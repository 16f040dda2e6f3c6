//! Subscriptions: a queue each, for what its subscriber does not take at once (SPEC 9.4 to 9.6).
//!
//! A message goes out directly where the subscriber has granted credit and reads; else it waits in the
//! subscription's own queue, and what becomes of a full one is for the subscription's policy to say.
//! Positions have no gaps: what is not delivered stands in the queue as [`Delivery::Lost`].

use crate::broker::{Broker, Turn, Work};
use crate::call::Target;
use crate::control::Refusal;
use crate::list::{Links, List};
use crate::peer::Stage;
use crate::slab::NONE;
use crate::topic::{Post, Publication};
use crate::{Payload, SendTail};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::topic::{Delivery, SlowPolicy, Subscribe};
use switchboard_protocol::{HEADER_BYTES, Header, Kind, Name, Outcome, Pattern, PeerId, Verb, flags, padded};

/// One subscription. Its call, and with it its subscriber, outlive it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) call: u32,
    /// The subscriber's slot.
    pub(crate) peer: u32,
    pub(crate) user: u32,
    /// The topic; [`NONE`] for a subscription by pattern.
    pub(crate) topic: u32,
    /// The handle it was made through; [`NONE`] for a subscription by pattern.
    pub(crate) handle: u32,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) policy: SlowPolicy,
    pub(crate) messages_max: u64,
    pub(crate) bytes_max: u64,
    /// The last position that it was given a message for, delivered or not.
    position: u64,
    /// What comes before any message: that it is in force, and earlier messages. Never dropped.
    pub(crate) earlier: List,
    /// Messages that wait, and those lost among them.
    pub(crate) queue: List,
    pub(crate) queued_messages: u64,
    pub(crate) queued_bytes: u64,
    /// Of policy `latest`: which message of each topic waits, by the topic's word.
    pub(crate) latest: BTreeMap<u64, u32>,
    /// In its peer's list of those held up by a full out queue.
    pub(crate) stalled: bool,
    pub(crate) by_topic: Links,
    pub(crate) by_handle: Links,
    pub(crate) by_stall: Links,
}

/// Something that waits for a subscription to take it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Pending<P> {
    pub(crate) kind: Delivery,
    /// Positions that it stands for.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The message, unless there is none to it.
    pub(crate) message: Option<Letter<P>>,
    pub(crate) in_queue: Links,
}

/// A message in the queue of a subscription.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Letter<P> {
    pub(crate) it: Publication<P>,
    /// Its extensions with the topic's name, for a subscription by pattern.
    area: Option<Rc<[u8]>>,
    /// The word of its topic.
    topic: u64,
}

/// Work on topics that is done a slice at a time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Chore {
    /// Look at the topics with held messages, so many of them.
    Release { left: u32 },
    /// Give a peer more of what waits for its subscriptions.
    Drain { peer: PeerId },
    /// Let peers try again for whom there was no room with their user's other connections.
    Quench,
    /// Throw away the queues of subscriptions that have ended.
    Sweep,
}

/// What the subscriptions before one of the same audience need of what all of a user share.
#[derive(Default)]
pub(crate) struct Needs {
    /// The peer looked at last: what goes to it directly may leave no room for the next.
    peer: Option<u32>,
    all: u64,
    by_user: BTreeMap<u32, u64>,
}

/// Items that subscriptions are given for one input at most; the rest follows in slices.
const DRAIN_MAX: u32 = 1024;

impl Subscription {
    /// Whether anything waits for it.
    fn is_behind(&self) -> bool {
        !self.earlier.is_empty() || !self.queue.is_empty()
    }

    /// Whether its own bounds let it take a message more. One it always may, or none of that size ever
    /// could be taken.
    fn has_place(&self, messages: u64, bytes: u64) -> bool {
        self.queued_messages == 0
            || self.queued_messages + messages <= self.messages_max
                && self.queued_bytes + bytes <= self.bytes_max
    }
}

impl<P: Payload> Letter<P> {
    fn bytes(&self) -> u64 {
        self.it.bytes(self.area.as_ref())
    }
}

impl<P: Payload> Pending<P> {
    /// Its length on the wire.
    pub(crate) fn bytes(&self) -> u64 {
        self.message.as_ref().map_or(HEADER_BYTES as u64, Letter::bytes)
    }

    /// What is charged for it.
    pub(crate) fn charge(&self) -> u64 {
        self.message.as_ref().map_or(0, Letter::bytes)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.last + 1 - self.first
    }

    pub(crate) fn topic(&self) -> Option<u64> {
        self.message.as_ref().map(|letter| letter.topic)
    }
}

impl<P: Payload> Broker<P> {
    /// SPEC 6.2, Subscribe. The call was not entered yet.
    pub(crate) fn subscribe(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        ask: &Subscribe,
    ) -> Result<(), Refusal> {
        if header.flags & flags::STREAM == 0 {
            let message = "a subscription is a streamed call: set the flag STREAM (SPEC 6.2)";
            return Err((Outcome::Invalid, message.to_string()));
        }
        let Some(policy) = SlowPolicy::from_wire(ask.policy) else {
            let message = format!(
                "no policy for slow subscribers has the number {}: 0 drop_oldest, 1 latest, 2 block, 3 disconnect (SPEC 9.6)",
                ask.policy
            );
            return Err((Outcome::Invalid, message));
        };
        let (topic, handle, pattern) = match (ask.handle, ask.pattern.as_str()) {
            (0, pattern) => {
                let pattern = Pattern::new(pattern).map_err(|error| (Outcome::Invalid, error.to_string()))?;
                (NONE, NONE, Some(pattern))
            }
            (word, "") => {
                let handle = self.find_handle(from, word)?;
                self.check_topic_right(handle, Verb::Subscribe)?;
                (self.objects[self.handles[handle].object].body, handle, None)
            }
            (..) => {
                let message = "subscribe by a handle, or by a pattern with handle 0, not by both (SPEC 9.4)";
                return Err((Outcome::Invalid, message.to_string()));
            }
        };
        if policy == SlowPolicy::Block && !self.may_block(from, topic) {
            let message = "policy `block` is for topics that are configured to allow it (`block = true`), named by a handle, or for the user that the broker runs as (SPEC 9.6)";
            return Err((Outcome::Denied, message.to_string()));
        }
        self.check_subscription_quota(from)?;
        let call = self.keep_open(turn, from, header)?;
        let position = if topic == NONE { 0 } else { self.topics.table[topic].sequence };
        let or_default = |asked: u32, default: u32| if asked == 0 { default } else { asked };
        let most = self.limits.subscription_bytes;
        let peer = self.peer_mut(from);
        peer.subscriptions += 1;
        let user = peer.user;
        self.users[user].subscriptions += 1;
        let subscription = self.topics.subscriptions.insert(Subscription {
            call,
            peer: from,
            user,
            topic,
            handle,
            pattern,
            policy,
            messages_max: or_default(ask.messages, self.limits.subscription_messages).into(),
            bytes_max: or_default(ask.bytes, most).min(most).into(),
            position,
            earlier: List::EMPTY,
            queue: List::EMPTY,
            queued_messages: 0,
            queued_bytes: 0,
            latest: BTreeMap::new(),
            stalled: false,
            by_topic: Links::OUT,
            by_handle: Links::OUT,
            by_stall: Links::OUT,
        });
        self.calls[call].target = Target::Subscription(subscription);
        let told = Pending {
            kind: Delivery::Subscribed,
            first: position,
            last: position,
            message: None,
            in_queue: Links::OUT,
        };
        self.wait_earlier(subscription, told);
        if topic == NONE {
            let pattern = self.topics.subscriptions[subscription].pattern.clone();
            let pattern = pattern.expect("a subscription without a topic has a pattern");
            self.topics.patterns.insert(&pattern, subscription);
            self.topics.change_audiences();
            if ask.history != 0 {
                self.give_history_by_pattern(subscription, &pattern, ask.history);
            }
        } else {
            let mut list = self.topics.table[topic].own;
            list.push(&mut self.topics.subscriptions, subscription, |it| &mut it.by_topic);
            self.topics.table[topic].own = list;
            self.topics.change_audience(topic);
            let mut list = self.handles[handle].subscriptions;
            list.push(&mut self.topics.subscriptions, subscription, |it| &mut it.by_handle);
            self.handles[handle].subscriptions = list;
            self.give_history(subscription, topic, ask.history);
        }
        Ok(())
    }

    fn check_subscription_quota(&self, from: u32) -> Result<(), Refusal> {
        let peer = self.peer(from);
        let most = self.limits.of_user(peer.identity.uid).subscriptions;
        if most <= peer.subscriptions {
            let message =
                format!("this connection has {most} subscriptions already (limits.user.subscriptions)");
            return Err((Outcome::Busy, message));
        }
        let most = self.limits.subscriptions_max;
        if most <= self.topics.subscriptions() || most / 2 <= self.users[peer.user].subscriptions {
            let message = format!(
                "of the {most} subscriptions of this broker your user has half, or all are in use (limits.subscriptions_max)"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    /// SPEC 9.6: who may hold publishers back.
    fn may_block(&self, from: u32, topic: u32) -> bool {
        let who = &self.peer(from).identity;
        topic != NONE && self.topics.table[topic].block
            || self.policy.own_user == Some(who.uid) && who.is_known()
    }

    /// A topic is not configured (any more) to let everybody hold publishers back.
    pub(crate) fn end_blocking_strangers(&mut self, turn: &mut Turn<'_, P>, topic: u32) {
        let mut strangers = Vec::new();
        let mut next = self.topics.table[topic].own.first();
        while let Some(subscription) = next {
            let it = &self.topics.subscriptions[subscription];
            next = it.by_topic.next();
            if it.policy == SlowPolicy::Block && !self.may_block(it.peer, topic) {
                strangers.push(self.calls.word(it.call));
            }
        }
        let why = "a reload took from the topic that subscribers may hold publishers back (its `block`)";
        for call in strangers {
            if let Some(call) = self.calls.find(call) {
                self.end_by_broker(turn, call, Outcome::Denied, why);
            }
        }
    }

    /// Ends the subscriptions that were made through a handle.
    pub(crate) fn end_subscriptions(
        &mut self,
        turn: &mut Turn<'_, P>,
        handle: u32,
        outcome: Outcome,
        why: &str,
    ) {
        while let Some(subscription) = self.handles[handle].subscriptions.first() {
            self.end_by_broker(turn, self.topics.subscriptions[subscription].call, outcome, why);
        }
    }

    /// The call of a subscription is being erased; what it was goes too.
    pub(crate) fn end_subscription(&mut self, subscription: u32) {
        self.unstall_subscription(subscription);
        let Subscription { topic, handle, peer, user, policy, .. } = self.topics.subscriptions[subscription];
        if topic == NONE {
            let pattern = self.topics.subscriptions[subscription].pattern.take();
            let pattern = pattern.expect("a subscription without a topic has a pattern");
            self.topics.patterns.remove(&pattern, subscription);
            self.topics.change_audiences();
        } else {
            let mut list = self.topics.table[topic].own;
            list.remove(&mut self.topics.subscriptions, subscription, |it| &mut it.by_topic);
            self.topics.table[topic].own = list;
            self.topics.change_audience(topic);
            let mut list = self.handles[handle].subscriptions;
            list.remove(&mut self.topics.subscriptions, subscription, |it| &mut it.by_handle);
            self.handles[handle].subscriptions = list;
        }
        let it = self.topics.subscriptions.remove(subscription);
        self.peer_mut(peer).subscriptions -= 1;
        self.users[user].subscriptions -= 1;
        for list in [it.earlier, it.queue] {
            if !list.is_empty() {
                if self.topics.debris.is_empty() {
                    self.work.push_back(Work::Topic(Chore::Sweep));
                }
                self.users[user].debris += 1;
                self.topics.debris.push_back((list, user));
            }
        }
        if policy == SlowPolicy::Block {
            self.release_later();
        }
    }

    /// Throws away part of what waited for subscriptions that have ended.
    fn sweep(&mut self, turn: &mut Turn<'_, P>, budget: &mut u32) -> Option<Work> {
        while let Some(&(mut list, user)) = self.topics.debris.front() {
            while let Some(pending) = list.first() {
                if *budget == 0 {
                    self.topics.debris[0].0 = list;
                    return Some(Work::Topic(Chore::Sweep));
                }
                *budget -= 1;
                list.remove(&mut self.topics.pending, pending, |pending| &mut pending.in_queue);
                let bytes = self.topics.pending.remove(pending).charge();
                self.uncharge_subscribed(user, bytes);
            }
            self.topics.debris.pop_front();
            self.users[user].debris -= 1;
            self.forget_user_if_unused(turn.now, user);
        }
        self.release_later();
        None
    }

    /// The latest messages of each topic that a subscription by pattern covers, as far as kept.
    fn give_history_by_pattern(&mut self, subscription: u32, pattern: &Pattern, history: u32) {
        let from = self.topics.subscriptions[subscription].peer;
        let names: Vec<Name> = self.topics.keeping().filter(|name| pattern.matches(name)).cloned().collect();
        for name in names {
            if let Some(&object) = self.names.get(&name)
                && self.check_policy(from, Verb::Subscribe, &name).is_ok()
                && self.objects[object].kind == switchboard_protocol::ObjectKind::Topic
            {
                self.give_history(subscription, self.objects[object].body, history);
            }
        }
    }

    /// The latest `history` messages of a topic, as far as it keeps them and the bounds of the
    /// subscription and the quota of its user have room.
    fn give_history(&mut self, subscription: u32, topic: u32, history: u32) {
        let it = &self.topics.subscriptions[subscription];
        let (by_pattern, user) = (it.pattern.is_some(), it.user);
        let (mut messages_left, mut bytes_left) = (it.messages_max, it.bytes_max);
        let mut next = it.earlier.first();
        while let Some(pending) = next {
            let pending = &self.topics.pending[pending];
            next = pending.in_queue.next();
            bytes_left = bytes_left.saturating_sub(pending.charge());
            messages_left = messages_left
                .saturating_sub(pending.message.as_ref().map_or(0, |letter| u64::from(letter.it.messages)));
        }
        let word = self.topics.table.word(topic);
        let (mut wanted, mut charged) = (u64::from(history), 0);
        let mut letters = Vec::new();
        for at in (0..self.topics.table[topic].kept.len()).rev() {
            if wanted == 0 {
                break;
            }
            // Of a batch only the latest, as of single messages.
            let it = self.topics.table[topic].kept[at].clone().latest(wanted.min(messages_left));
            let area = by_pattern.then(|| self.area_of(topic, &it));
            let bytes = it.bytes(area.as_ref());
            let messages = u64::from(it.messages);
            if bytes_left < bytes
                || messages_left < messages
                || !self.may_be_subscribed(user, charged + bytes)
            {
                break;
            }
            bytes_left -= bytes;
            messages_left -= messages;
            charged += bytes;
            wanted = wanted.saturating_sub(messages);
            letters.push(Letter { it, area, topic: word });
        }
        for letter in letters.into_iter().rev() {
            let first = if by_pattern { 0 } else { letter.it.sequence };
            let last = first + u64::from(letter.it.messages) - 1;
            let last = if by_pattern { 0 } else { last };
            let pending =
                Pending { kind: Delivery::Earlier, first, last, message: Some(letter), in_queue: Links::OUT };
            self.wait_earlier(subscription, pending);
        }
    }

    fn wait_earlier(&mut self, subscription: u32, pending: Pending<P>) {
        let user = self.topics.subscriptions[subscription].user;
        self.charge_subscribed(user, pending.charge());
        let pending = self.topics.pending.insert(pending);
        let mut list = self.topics.subscriptions[subscription].earlier;
        list.push(&mut self.topics.pending, pending, |pending| &mut pending.in_queue);
        self.topics.subscriptions[subscription].earlier = list;
    }

    fn charge_subscribed(&mut self, user: u32, bytes: u64) {
        self.users[user].subscribed_bytes += bytes;
        self.topics.subscribed_bytes += bytes;
    }

    fn uncharge_subscribed(&mut self, user: u32, bytes: u64) {
        self.users[user].subscribed_bytes -= bytes;
        self.topics.subscribed_bytes -= bytes;
    }

    /// Whether `bytes` more may wait for a user's subscriptions.
    fn may_be_subscribed(&self, user: u32, bytes: u64) -> bool {
        let it = &self.users[user];
        let most = self.limits.subscribed_bytes_max;
        let users = self.limits.of_user(it.uid).subscribed_bytes.min(most / 2);
        it.subscribed_bytes + bytes <= users && self.topics.subscribed_bytes + bytes <= most
    }

    /// Whether an item of `bytes` may go out to a peer now.
    #[inline]
    fn may_go_out(&self, peer: u32, bytes: u64) -> bool {
        let it = self.peer(peer);
        let all = it.unread + bytes;
        it.stage == Stage::Ready
            && it.unread <= u64::from(self.limits.link_bytes_high)
            && (all <= u64::from(self.limits.link_bytes_low) || self.has_unread_room(peer, bytes))
    }

    /// Whether a subscription that holds publishers back has room for a message. `needs` is what those
    /// looked at before it need.
    pub(crate) fn has_room_without_loss(
        &self,
        subscription: u32,
        messages: u64,
        bytes: u64,
        needs: &mut Needs,
    ) -> bool {
        let it = &self.topics.subscriptions[subscription];
        if self.peer(it.peer).stage != Stage::Ready {
            // It is leaving, and gets nothing any more.
            return true;
        }
        let first_of_peer = needs.peer.replace(it.peer) != Some(it.peer);
        if first_of_peer
            && !it.is_behind()
            && 0 < self.calls[it.call].credit
            && self.may_go_out(it.peer, bytes)
        {
            return true;
        }
        let of_user = needs.by_user.entry(it.user).or_default();
        *of_user += bytes;
        needs.all += bytes;
        it.has_place(messages, bytes)
            && self.may_be_subscribed(it.user, *of_user)
            && self.topics.subscribed_bytes + needs.all <= self.limits.subscribed_bytes_max
    }

    /// Gives a subscription a message, now or later; `false` if it gets it never.
    #[inline]
    pub(crate) fn deliver(&mut self, turn: &mut Turn<'_, P>, subscription: u32, post: &mut Post<P>) -> bool {
        let it = &mut self.topics.subscriptions[subscription];
        let by_pattern = it.topic == NONE;
        let first = if by_pattern { it.position + 1 } else { post.it.sequence };
        it.position = first + u64::from(post.it.messages) - 1;
        let (call, peer, behind) = (it.call, it.peer, it.is_behind());
        if by_pattern && post.area.is_none() {
            self.name_post(post);
        }
        let header = if by_pattern { &post.named } else { &post.plain };
        let bytes = padded(header.len as usize) as u64;
        let it = &mut self.calls[call];
        if behind || it.credit == 0 || !self.may_go_out(peer, bytes) {
            return self.deliver_later(turn, subscription, first, post);
        }
        let it = &mut self.calls[call];
        it.credit -= 1;
        it.items += 1;
        let header = Header { call: it.caller_call, seq: it.items, epoch: first, ..*header };
        self.counters.topic_deliveries += u64::from(post.it.messages);
        let tail = post.it.tail.clone();
        let tail = match &post.area {
            Some(area) if by_pattern => SendTail::Extended(Rc::clone(area), tail, post.it.ext_len),
            Some(_) | None => SendTail::Forward(tail),
        };
        self.push(turn, peer, header, tail);
        true
    }

    /// Puts a message into the queue of a subscription, as its policy has it where that is full.
    #[inline(never)]
    fn deliver_later(
        &mut self,
        turn: &mut Turn<'_, P>,
        subscription: u32,
        first: u64,
        post: &mut Post<P>,
    ) -> bool {
        let it = &self.topics.subscriptions[subscription];
        let (policy, user, call, last) = (it.policy, it.user, it.call, it.position);
        let area = if it.topic == NONE { post.area.clone() } else { None };
        if self.peer(it.peer).stage != Stage::Ready {
            return false;
        }
        if policy == SlowPolicy::Latest
            && let Some(&replaced) = it.latest.get(&post.word)
        {
            self.lose(subscription, replaced);
        }
        let (messages, bytes) = (u64::from(post.it.messages), post.it.bytes(area.as_ref()));
        let room = loop {
            let it = &self.topics.subscriptions[subscription];
            let place = it.has_place(messages, bytes);
            if place && self.may_be_subscribed(user, bytes) {
                break true;
            }
            match policy {
                SlowPolicy::Disconnect => {
                    let message = if place {
                        "what waits for your user's subscriptions is all it may be (limits.user.subscribed_bytes, limits.subscribed_bytes_max), and the policy is `disconnect`".to_string()
                    } else {
                        format!(
                            "the subscription fell {} messages behind, and its policy is `disconnect`",
                            it.queued_messages + messages
                        )
                    };
                    self.end_by_broker(turn, call, Outcome::Busy, &message);
                    return false;
                }
                // Room was seen to before the message was published. If something has taken it since, of
                // what all of a user share, the loss is told like any other.
                SlowPolicy::Block => break false,
                SlowPolicy::DropOldest | SlowPolicy::Latest => {
                    let Some(oldest) = self.oldest(subscription) else { break false };
                    self.lose(subscription, oldest);
                }
            }
        };
        if room {
            let letter = Letter { it: post.keep(), area, topic: post.word };
            self.charge_subscribed(user, bytes);
            let pending = self.topics.pending.insert(Pending {
                kind: Delivery::Message,
                first,
                last,
                message: Some(letter),
                in_queue: Links::OUT,
            });
            let it = &mut self.topics.subscriptions[subscription];
            it.queued_messages += messages;
            it.queued_bytes += bytes;
            if policy == SlowPolicy::Latest {
                it.latest.insert(post.word, pending);
            }
            it.queue.push(&mut self.topics.pending, pending, |pending| &mut pending.in_queue);
        } else {
            self.counters.topic_lost += messages;
            let pending = self.topics.pending.insert(Pending {
                kind: Delivery::Lost,
                first,
                last,
                message: None,
                in_queue: Links::OUT,
            });
            let it = &mut self.topics.subscriptions[subscription];
            it.queue.push(&mut self.topics.pending, pending, |pending| &mut pending.in_queue);
            self.merge_lost(subscription, pending);
        }
        if 0 < self.calls[call].credit && !self.topics.subscriptions[subscription].stalled {
            self.advance(turn, subscription, &mut { DRAIN_MAX });
        }
        room
    }

    /// The message that has waited longest: behind a loss, if not the first of all, for losses side by
    /// side are one.
    fn oldest(&self, subscription: u32) -> Option<u32> {
        let first = self.topics.subscriptions[subscription].queue.first()?;
        let it = &self.topics.pending[first];
        if it.kind == Delivery::Message { Some(first) } else { it.in_queue.next() }
    }

    /// Turns a message that waits into a loss.
    fn lose(&mut self, subscription: u32, pending: u32) {
        self.strike_off(subscription, pending);
        let it = &mut self.topics.pending[pending];
        it.kind = Delivery::Lost;
        it.message = None;
        self.counters.topic_lost += it.messages();
        self.merge_lost(subscription, pending);
    }

    /// Takes a message that waits out of what is counted of its subscription.
    fn strike_off(&mut self, subscription: u32, pending: u32) {
        let it = &self.topics.pending[pending];
        let (messages, bytes, topic) = (it.messages(), it.charge(), it.topic());
        let at = &mut self.topics.subscriptions[subscription];
        at.queued_messages -= messages;
        at.queued_bytes -= bytes;
        if let Some(topic) = topic
            && at.latest.get(&topic) == Some(&pending)
        {
            at.latest.remove(&topic);
        }
        let user = at.user;
        self.uncharge_subscribed(user, bytes);
    }

    /// Makes one loss of those side by side.
    fn merge_lost(&mut self, subscription: u32, pending: u32) {
        let lost = |broker: &Self, at: Option<u32>| {
            at.filter(|&at| broker.topics.pending[at].kind == Delivery::Lost)
        };
        let (before, after) = {
            let links = self.topics.pending[pending].in_queue;
            (lost(self, links.prev()), lost(self, links.next()))
        };
        let mut list = self.topics.subscriptions[subscription].queue;
        for other in [before, after].into_iter().flatten() {
            list.remove(&mut self.topics.pending, other, |pending| &mut pending.in_queue);
            let Pending { first, last, .. } = self.topics.pending.remove(other);
            let it = &mut self.topics.pending[pending];
            it.first = it.first.min(first);
            it.last = it.last.max(last);
        }
        self.topics.subscriptions[subscription].queue = list;
    }

    /// The subscriber has granted credit.
    pub(crate) fn advance_subscription(&mut self, turn: &mut Turn<'_, P>, subscription: u32) {
        let it = &self.topics.subscriptions[subscription];
        let blocks = it.policy == SlowPolicy::Block;
        if it.is_behind() {
            self.advance(turn, subscription, &mut { DRAIN_MAX });
        }
        if blocks {
            self.release_later();
        }
    }

    /// Gives a subscription what waits for it, as far as it has credit and its peer room.
    fn advance(&mut self, turn: &mut Turn<'_, P>, subscription: u32, budget: &mut u32) {
        loop {
            let it = &self.topics.subscriptions[subscription];
            let (call, peer) = (it.call, it.peer);
            let next = it.earlier.first().or(it.queue.first());
            let Some(next) = next.filter(|_| 0 < self.calls[call].credit) else {
                return self.unstall_subscription(subscription);
            };
            let bytes = self.topics.pending[next].bytes();
            if !self.may_go_out(peer, bytes) {
                match self.peer(peer) {
                    it if it.stage != Stage::Ready => return self.unstall_subscription(subscription),
                    it if it.unread != 0 => return self.stall_subscription(subscription),
                    _ if self.is_readable(peer, bytes) => {
                        self.parch(peer);
                        return self.stall_subscription(subscription);
                    }
                    // It could never go out. An earlier message was only worth a try.
                    _ => match self.topics.pending[next].kind {
                        Delivery::Message => {
                            self.lose(subscription, next);
                            continue;
                        }
                        Delivery::Earlier => {
                            self.take_next(subscription);
                            continue;
                        }
                        Delivery::Subscribed | Delivery::Lost => {}
                    },
                }
            }
            if *budget == 0 {
                self.stall_subscription(subscription);
                return self.drain_later(peer);
            }
            *budget -= 1;
            let Pending { kind, first, last, message, .. } = self.take_next(subscription);
            let Some(Letter { it, area, .. }) = message else {
                let at = &mut self.calls[call];
                at.credit -= 1;
                at.items += 1;
                let header = Header {
                    handle: kind as u64,
                    call: at.caller_call,
                    seq: at.items,
                    epoch: first,
                    deadline: if kind == Delivery::Lost { last } else { 0 },
                    ..Header::new(Kind::Item)
                };
                self.push(turn, peer, header, SendTail::Empty);
                continue;
            };
            let at = &mut self.calls[call];
            at.credit -= 1;
            at.items += 1;
            let header = Header {
                handle: kind as u64,
                call: at.caller_call,
                seq: at.items,
                epoch: first,
                ..it.item(area.as_ref())
            };
            self.counters.topic_deliveries += u64::from(it.messages);
            let tail = match area {
                None => SendTail::Forward(it.tail),
                Some(area) => SendTail::Extended(area, it.tail, it.ext_len),
            };
            self.push(turn, peer, header, tail);
        }
    }

    /// Takes out what a subscription is given next.
    fn take_next(&mut self, subscription: u32) -> Pending<P> {
        let it = &self.topics.subscriptions[subscription];
        let user = it.user;
        if let Some(pending) = it.earlier.first() {
            let mut list = it.earlier;
            list.remove(&mut self.topics.pending, pending, |pending| &mut pending.in_queue);
            self.topics.subscriptions[subscription].earlier = list;
            let it = self.topics.pending.remove(pending);
            self.uncharge_subscribed(user, it.charge());
            return it;
        }
        let pending = it.queue.first().expect("something that waits");
        if self.topics.pending[pending].kind == Delivery::Message {
            self.strike_off(subscription, pending);
        }
        let mut list = self.topics.subscriptions[subscription].queue;
        list.remove(&mut self.topics.pending, pending, |pending| &mut pending.in_queue);
        self.topics.subscriptions[subscription].queue = list;
        // There is room for a publisher, perhaps: of this subscription, or of its user's quota.
        self.release_later();
        self.topics.pending.remove(pending)
    }

    /// Whether an item of `bytes` could go out to a peer if nobody else of its user had anything unread.
    fn is_readable(&self, peer: u32, bytes: u64) -> bool {
        let charge = bytes.saturating_sub(self.limits.link_bytes_low.into());
        let quota = self.limits.of_user(self.peer(peer).identity.uid).unread_bytes;
        bytes <= self.limits.link_bytes_max.into()
            && charge <= quota
            && charge <= self.limits.unread_bytes_max
    }

    fn stall_subscription(&mut self, subscription: u32) {
        let it = &mut self.topics.subscriptions[subscription];
        if !core::mem::replace(&mut it.stalled, true) {
            let peer = it.peer;
            let mut list = self.peer(peer).subscriptions_stalled;
            list.push(&mut self.topics.subscriptions, subscription, |it| &mut it.by_stall);
            self.peer_mut(peer).subscriptions_stalled = list;
        }
    }

    fn unstall_subscription(&mut self, subscription: u32) {
        let it = &mut self.topics.subscriptions[subscription];
        if core::mem::take(&mut it.stalled) {
            let peer = it.peer;
            let mut list = self.peer(peer).subscriptions_stalled;
            list.remove(&mut self.topics.subscriptions, subscription, |it| &mut it.by_stall);
            self.peer_mut(peer).subscriptions_stalled = list;
        }
    }

    /// A peer's out queue has room again.
    pub(crate) fn advance_stalled_subscriptions(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        if !self.peer(slot).subscriptions_stalled.is_empty() {
            self.drain(turn, slot, &mut { DRAIN_MAX });
        }
        // One that has nothing waiting may take directly what its user's quota does not let it queue.
        self.release_later();
    }

    /// Gives the stalled subscriptions of a peer what waits, in turns, until one has no room again.
    fn drain(&mut self, turn: &mut Turn<'_, P>, slot: u32, budget: &mut u32) {
        for _ in 0..self.peer(slot).subscriptions_stalled.len() {
            let Some(subscription) = self.peer(slot).subscriptions_stalled.first() else { return };
            self.unstall_subscription(subscription);
            self.advance(turn, subscription, budget);
            let Subscription { policy, stalled, .. } = self.topics.subscriptions[subscription];
            if policy == SlowPolicy::Block {
                self.release_later();
            }
            if stalled && 0 < *budget {
                return;
            }
            if *budget == 0 {
                return self.drain_later(slot);
            }
        }
    }

    /// Goes on with a peer's subscriptions between inputs.
    fn drain_later(&mut self, slot: u32) {
        let peer = self.peer_mut(slot);
        if !core::mem::replace(&mut peer.draining, true) {
            let peer = peer.id;
            self.work.push_back(Work::Topic(Chore::Drain { peer }));
        }
    }

    /// Nothing is on its way to this peer, but its user has no room for what waits.
    fn parch(&mut self, slot: u32) {
        let peer = self.peer_mut(slot);
        if core::mem::replace(&mut peer.parched, true) {
            return;
        }
        let id = peer.id;
        // Some may have left meanwhile. They are forgotten now and then, as in [`Broker::reserve`].
        if 2 * self.connections as usize + 16 <= self.topics.parched.len() {
            let peers = &self.peers;
            self.topics.parched.retain(|id| {
                peers[id.slot as usize].as_ref().is_some_and(|peer| peer.id == *id && peer.parched)
            });
        }
        self.topics.parched.push_back(id);
    }

    /// Somebody has read something: whoever had no room for that reason may try again.
    pub(crate) fn quench_later(&mut self) {
        if !self.topics.parched.is_empty() && !core::mem::replace(&mut self.topics.quenching, true) {
            self.work.push_back(Work::Topic(Chore::Quench));
        }
    }

    /// A slice of the work on topics; `Some` with what is left of it.
    pub(crate) fn do_chore(
        &mut self,
        turn: &mut Turn<'_, P>,
        chore: Chore,
        budget: &mut u32,
    ) -> Option<Work> {
        match chore {
            Chore::Release { left } => self.release_held(turn, left, budget),
            Chore::Sweep => self.sweep(turn, budget),
            Chore::Drain { peer } => {
                let slot = self.find_peer(peer)?;
                self.peer_mut(slot).draining = false;
                self.drain(turn, slot, budget);
                None
            }
            Chore::Quench => {
                for _ in 0..self.topics.parched.len() {
                    if *budget == 0 {
                        return Some(Work::Topic(Chore::Quench));
                    }
                    *budget -= 1;
                    let Some(peer) = self.topics.parched.pop_front() else { break };
                    if let Some(slot) = self.find_peer(peer) {
                        self.peer_mut(slot).parched = false;
                        self.drain(turn, slot, budget);
                    }
                }
                self.topics.quenching = false;
                None
            }
        }
    }
}
