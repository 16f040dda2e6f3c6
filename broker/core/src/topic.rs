//! Topics: every message to everybody who subscribes (SPEC 9).
//!
//! Who is subscribed to a topic is remembered with it, and looked up anew only where the set of
//! subscriptions, or the policy, has changed since. So a message costs a walk over those it goes to.

use crate::broker::{Broker, Turn};
use crate::control::Refusal;
use crate::held::Held;
use crate::list::List;
use crate::slab::{NONE, Slab};
use crate::subscription::{Pending, Subscription};
use crate::trie::Trie;
use crate::{Identity, Payload, SendTail, TopicSettings};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::Level;
use switchboard_protocol::topic::{Delivery, SlowPolicy, TopicInfo};
use switchboard_protocol::{
    EXTENSION_BYTES_MAX, Extensions, ExtensionsBuilder, HEADER_BYTES, Header, Kind, Name, ObjectKind,
    Outcome, Parts, PeerId, Tail, Verb, extension_type, flags, padded, write_part,
};

/// All topics, and who listens to them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Topics<P> {
    /// What is configured, whether the topic is there yet or its name stands for something else.
    declared: BTreeMap<Name, TopicSettings>,
    pub(crate) table: Slab<Topic<P>>,
    pub(crate) subscriptions: Slab<Subscription>,
    /// What waits in the queues of subscriptions.
    pub(crate) pending: Slab<Pending<P>>,
    /// Messages that are held back until every subscription has room for them.
    pub(crate) held: Slab<Held<P>>,
    /// Subscriptions by pattern.
    pub(crate) patterns: Trie,
    /// Grows with every change of what a topic's audience may depend on, other than its own list.
    generation: u64,
    /// Places in the audiences that are remembered.
    pub(crate) remembered: u64,
    /// The topic whose audience is forgotten next to make room for another one.
    hand: u32,
    /// Bytes that wait for subscriptions, of all users.
    pub(crate) subscribed_bytes: u64,
    /// Bytes of retained messages and histories.
    pub(crate) kept_bytes: u64,
    /// Topics with held messages, each once, in the order in which they are looked at.
    pub(crate) holding: VecDeque<u32>,
    /// Whether [`Chore::Release`] is to be done.
    pub(crate) releasing: bool,
    /// Whether something has changed that may let a held message go since its round began.
    pub(crate) release_again: bool,
    /// Peers for whom something waits although they have read everything: there is no room for it with
    /// their user's other connections.
    pub(crate) parched: VecDeque<PeerId>,
    /// Whether [`Chore::Quench`] is to be done.
    pub(crate) quenching: bool,
    /// Queues of subscriptions that have ended, with the user who is charged for them.
    pub(crate) debris: VecDeque<(List, u32)>,
}

/// What a topic is beside its name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Topic<P> {
    pub(crate) object: u32,
    declared: bool,
    retain: bool,
    /// Messages kept, the retained one included.
    keep: u64,
    keep_bytes: u64,
    durability: Level,
    pub(crate) block: bool,
    /// The number of the latest message.
    pub(crate) sequence: u64,
    pub(crate) kept: VecDeque<Publication<P>>,
    kept_messages: u64,
    pub(crate) kept_bytes: u64,
    /// Subscriptions by handle.
    pub(crate) own: List,
    /// Everybody subscribed, as of `generation`: those that hold publishers back first, those of one
    /// peer side by side.
    pub(crate) audience: Vec<u32>,
    /// How many of them hold publishers back.
    pub(crate) blocking: u32,
    /// Of [`Topics`]; 0 where the audience is not known.
    generation: u64,
    /// The extension that tells subscribers by pattern the name; made when first needed.
    area: Option<Rc<[u8]>>,
    pub(crate) held: List,
}

/// A message, or a batch, as it was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Publication<P> {
    /// Its number in the topic; that of the first one in a batch.
    pub(crate) sequence: u64,
    /// How many messages it is.
    pub(crate) messages: u32,
    pub(crate) method: u32,
    /// User and process id of the publisher, as in SPEC 5.1.
    pub(crate) caller: u64,
    pub(crate) flags: u8,
    pub(crate) priority: u8,
    pub(crate) ext_len: u16,
    /// Extensions and payload.
    pub(crate) tail: P,
}

/// A publication on its way to the audience.
pub(crate) struct Post<P> {
    pub(crate) it: Publication<P>,
    /// The topic, by slot and as a word that no later one has.
    pub(crate) topic: u32,
    pub(crate) word: u64,
    /// The item that it is, but for call, number and position.
    pub(crate) plain: Header,
    /// The same with its extensions and the topic's name, and these; once somebody needs them.
    pub(crate) named: Header,
    pub(crate) area: Option<Rc<[u8]>>,
    /// Whether the tail was copied out of the receive buffer.
    kept: bool,
}

/// By what a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// This frame of a call, which is entered only where it has to wait: [`NONE`] before that.
    Call(u32),
    /// A one-way message, within its window.
    Send,
    /// A client's death.
    Will,
}

/// What comes of a publication.
pub(crate) struct Published {
    /// The number of the (last) message.
    sequence: u64,
    /// Subscriptions it went to.
    subscriptions: u32,
    /// Where its topic is durable, its position in the log.
    pub(crate) position: Option<u64>,
    pub(crate) level: Level,
}

/// Places in remembered audiences for each subscription that there may be.
pub(crate) const REMEMBERED_EACH: u64 = 16;

/// Topics whose audiences may be forgotten to remember another one.
const FORGOTTEN_AT_ONCE: u32 = 8;

impl<P: Payload> Topics<P> {
    pub(crate) fn new(declared: Vec<TopicSettings>) -> Self {
        Self {
            declared: by_name(declared),
            table: Slab::new(),
            subscriptions: Slab::new(),
            pending: Slab::new(),
            held: Slab::new(),
            patterns: Trie::default(),
            generation: 1,
            remembered: 0,
            hand: 0,
            subscribed_bytes: 0,
            kept_bytes: 0,
            holding: VecDeque::new(),
            releasing: false,
            release_again: false,
            parched: VecDeque::new(),
            quenching: false,
            debris: VecDeque::new(),
        }
    }

    /// Subscriptions of all peers.
    pub(crate) fn subscriptions(&self) -> u32 {
        self.subscriptions.len()
    }

    /// Topics that are configured to keep messages, by name.
    pub(crate) fn keeping(&self) -> impl Iterator<Item = &Name> {
        self.declared.values().filter(|topic| keeps(topic) != 0).map(|topic| &topic.name)
    }

    /// Whether configuration wants a topic of that name.
    pub(crate) fn is_declared(&self, name: &Name) -> bool {
        self.declared.contains_key(name)
    }

    /// Subscriptions by pattern, or what they may have, are others than before.
    pub(crate) fn change_audiences(&mut self) {
        self.generation += 1;
    }

    pub(crate) fn knows_audience(&self, topic: u32) -> bool {
        self.table[topic].generation == self.generation
    }

    /// The subscriptions by handle of one topic are others than before.
    pub(crate) fn change_audience(&mut self, topic: u32) {
        self.table[topic].generation = 0;
    }
}

impl<P: Payload> Publication<P> {
    /// Its length on the wire, behind a header, with an extension area of `area` bytes for its own.
    pub(crate) fn bytes(&self, area: Option<&Rc<[u8]>>) -> u64 {
        let tail = match area {
            Some(area) => area.len() + self.tail.len() - usize::from(self.ext_len),
            None => self.tail.len(),
        };
        padded(HEADER_BYTES + tail) as u64
    }

    /// The latest `most` messages of it, at least one: all of it, or what is left of a batch, copied.
    pub(crate) fn latest(self, most: u64) -> Self {
        let skipped = u64::from(self.messages).saturating_sub(most.max(1));
        if skipped == 0 {
            return self;
        }
        let (extensions, batch) = self.tail.bytes().split_at(usize::from(self.ext_len));
        let mut tail = extensions.to_vec();
        let messages = self.messages - skipped as u32;
        let mut parts = Parts::of(batch).skip(skipped as usize);
        let flags = if messages == 1 {
            tail.extend_from_slice(parts.next().expect("a batch has its messages").payload);
            self.flags & !flags::BATCH
        } else {
            parts.for_each(|part| write_part(&mut tail, part.attribute, part.payload));
            self.flags
        };
        Self { sequence: self.sequence + skipped, messages, flags, tail: P::own(tail), ..self }
    }

    /// The item that it is (SPEC 9.5), but for call, number and position; with this extension area for
    /// its own.
    pub(crate) fn item(&self, area: Option<&Rc<[u8]>>) -> Header {
        let ext_len = area.map_or(self.ext_len, |area| area.len() as u16);
        let payload = self.tail.len() - usize::from(self.ext_len);
        Header {
            len: (HEADER_BYTES + usize::from(ext_len) + payload) as u32,
            ext_len,
            flags: self.flags,
            priority: self.priority,
            method: self.method,
            handle: Delivery::Message as u64,
            deadline: self.sequence,
            caller: self.caller,
            ..Header::new(Kind::Item)
        }
    }
}

impl<P: Payload> Topic<P> {
    /// Lets the oldest messages go that are not wanted beside `messages` new ones, and those for which
    /// there is no room.
    fn let_go(&mut self, messages: u64, room: u64) {
        while let Some(oldest) = self.kept.front() {
            let behind = self.kept_messages - u64::from(oldest.messages);
            if behind + messages < self.keep && self.kept_bytes <= room {
                break;
            }
            self.kept_messages = behind;
            self.kept_bytes -= oldest.bytes(None);
            self.kept.pop_front();
        }
    }
}

impl Published {
    /// SPEC 9.3, without what says to which call.
    pub(crate) fn reply(&self) -> Header {
        Header {
            seq: self.sequence,
            method: self.level as u32,
            epoch: self.position.unwrap_or(0),
            caller: u64::from(self.subscriptions),
            ..Header::new(Kind::Reply)
        }
    }
}

/// Messages that a topic is configured to keep.
fn keeps(settings: &TopicSettings) -> u64 {
    u64::from(settings.history.max(u32::from(settings.retain)))
}

fn by_name(declared: Vec<TopicSettings>) -> BTreeMap<Name, TopicSettings> {
    declared.into_iter().map(|settings| (settings.name.clone(), settings)).collect()
}

/// An extension area with the name of a topic, and what else there was in the publisher's.
fn area_with(name: &Name, area: &[u8]) -> Rc<[u8]> {
    let mut builder = ExtensionsBuilder::default();
    builder.add(extension_type::TOPIC, name.as_str().as_bytes());
    // A name that the publisher claims would pass for ours.
    let others = Extensions::parse(area).into_iter().flatten();
    for extension in others.filter(|extension| extension.kind != extension_type::TOPIC) {
        builder.add(extension.kind, extension.value);
    }
    builder.finish().into()
}

impl<P: Payload> Post<P> {
    fn new(it: Publication<P>, topic: u32, word: u64) -> Self {
        let plain = it.item(None);
        Self { it, topic, word, plain, named: plain, area: None, kept: false }
    }

    /// It, to be kept for later: copied out of the receive buffer, once for all who keep it.
    pub(crate) fn keep(&mut self) -> Publication<P> {
        if !core::mem::replace(&mut self.kept, true) {
            self.it.tail = self.it.tail.clone().keep();
        }
        self.it.clone()
    }
}

impl<P: Payload> Broker<P> {
    /// Makes the topics that are configured, before anybody is connected.
    pub(crate) fn declare_first_topics(&mut self) {
        let names: Vec<Name> = self.topics.declared.keys().cloned().collect();
        for name in names {
            let object = self.insert_object(Some(name.clone()), ObjectKind::Topic, NONE);
            self.names.insert(name, object);
            self.new_topic(object);
        }
    }

    /// New configuration is in force.
    pub(crate) fn declare_topics(&mut self, turn: &mut Turn<'_, P>, declared: Vec<TopicSettings>) {
        let before = core::mem::replace(&mut self.topics.declared, by_name(declared));
        // With the policy, the rights of those who subscribed by pattern.
        self.topics.change_audiences();
        let mut names: Vec<Name> = before.into_keys().collect();
        names.extend(self.topics.declared.keys().cloned());
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.declare_topic(turn, &name);
        }
        self.release_later();
        self.forget_unwanted_retained(turn);
    }

    /// Whether the latest message of a topic is kept in the log.
    pub(crate) fn is_retained_durably(&self, name: &Name) -> bool {
        let declared = self.topics.declared.get(name);
        declared.is_some_and(|it| it.retain && it.durability != Level::Memory)
    }

    /// Makes the topic of a name be as it is configured, or as any other if it is not (any more).
    pub(crate) fn declare_topic(&mut self, turn: &mut Turn<'_, P>, name: &Name) {
        let declared = self.topics.is_declared(name);
        let object = match self.names.get(name) {
            Some(&object) if self.is_only_waited_for(object) && declared => {
                self.begin_object(turn, object, ObjectKind::Topic);
                object
            }
            Some(&object) => object,
            None if !declared => return,
            None => {
                let object = self.insert_object(Some(name.clone()), ObjectKind::Topic, NONE);
                self.names.insert(name.clone(), object);
                self.begin_object(turn, object, ObjectKind::Topic);
                object
            }
        };
        let it = &mut self.objects[object];
        if it.kind != ObjectKind::Topic {
            // It begins when the name is free.
            return;
        }
        if declared && it.user != NONE {
            // What is configured counts against nobody.
            let user = core::mem::replace(&mut it.user, NONE);
            self.users[user].names -= 1;
            self.forget_user_if_unused(turn.now, user);
        }
        let topic = self.objects[object].body;
        self.configure_topic(topic);
        if !self.topics.table[topic].block {
            self.end_blocking_strangers(turn, topic);
        }
        self.release_object(turn, object);
    }

    /// An object has become a topic.
    pub(crate) fn new_topic(&mut self, object: u32) {
        let topic = self.topics.table.insert(Topic {
            object,
            declared: false,
            retain: false,
            keep: 0,
            keep_bytes: 0,
            durability: Level::Memory,
            block: false,
            sequence: 0,
            kept: VecDeque::new(),
            kept_messages: 0,
            kept_bytes: 0,
            own: List::EMPTY,
            audience: Vec::new(),
            blocking: 0,
            generation: 0,
            area: None,
            held: List::EMPTY,
        });
        self.objects[object].body = topic;
        self.configure_topic(topic);
    }

    /// Gives a topic the settings that its name has, and lets go of what it keeps beyond them.
    fn configure_topic(&mut self, topic: u32) {
        let object = self.topics.table[topic].object;
        let name = self.objects[object].name.as_ref().expect("a topic has a name");
        let declared = self.topics.declared.get(name);
        let unconfigured = TopicSettings::of(name.clone());
        let settings = declared.unwrap_or(&unconfigured);
        let it = &mut self.topics.table[topic];
        it.declared = declared.is_some();
        it.retain = settings.retain;
        it.keep = keeps(settings);
        it.keep_bytes = settings.history_bytes;
        it.durability = settings.durability;
        it.block = settings.block;
        let before = it.kept_bytes;
        it.let_go(0, it.keep_bytes);
        self.topics.kept_bytes = self.topics.kept_bytes - before + it.kept_bytes;
    }

    pub(crate) fn topic_is_wanted(&self, object: u32) -> bool {
        let it = &self.topics.table[self.objects[object].body];
        it.declared || !it.held.is_empty()
    }

    /// A topic that nobody holds goes.
    pub(crate) fn forget_topic(&mut self, object: u32) {
        let topic = self.topics.table.remove(self.objects[object].body);
        assert!(topic.own.is_empty() && topic.held.is_empty(), "who subscribes or publishes holds a handle");
        self.topics.remembered -= topic.audience.len() as u64;
        self.topics.kept_bytes -= topic.kept_bytes;
    }

    /// A handle on a topic is being given back or taken away: what was made through it goes with it.
    pub(crate) fn leave_topic(&mut self, turn: &mut Turn<'_, P>, handle: u32) {
        self.end_subscriptions(
            turn,
            handle,
            Outcome::HandleRevoked,
            "the handle of the topic was given back",
        );
        let (word, holder) = (self.handles.word(handle), self.handles[handle].holder);
        if holder != NONE {
            self.take_back_will(turn, holder, word);
        }
    }

    /// Whether a handle is on a topic, with that right.
    pub(crate) fn check_topic_right(&self, handle: u32, verb: Verb) -> Result<(), Refusal> {
        let grip = &self.handles[handle];
        let kind = self.objects[grip.object].kind;
        if kind != ObjectKind::Topic {
            return Err((Outcome::Invalid, format!("the handle is on a {}, not on a topic", kind.as_str())));
        }
        if !grip.rights.contains(verb.right()) {
            return Err((Outcome::Denied, format!("the handle does not have the right `{}`", verb.as_str())));
        }
        Ok(())
    }

    /// A CALL on a topic's handle (SPEC 9.3). Its payload is within the limit and its deadline and priority as
    /// they are inherited; nothing else was checked: neither right nor call slot nor deadline.
    pub(crate) fn publish_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        handle: u32,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        self.check_topic_right(handle, Verb::Publish)?;
        if header.flags & flags::STREAM != 0 {
            let message = "a message is published by a call without STREAM (SPEC 9.3)";
            return Err((Outcome::Invalid, message.to_string()));
        }
        self.check_call_slot(from, &header)?;
        let object = self.handles[handle].object;
        self.publish_or_hold(turn, from, object, Origin::Call(NONE), header, tail)
    }

    /// A SEND on a topic's handle (SPEC 9.2), within its window; else checked as [`Self::publish_call`].
    pub(crate) fn publish_send(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        handle: u32,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        self.check_topic_right(handle, Verb::Publish)?;
        let object = self.handles[handle].object;
        self.publish_or_hold(turn, from, object, Origin::Send, header, tail)
    }

    /// Publishes a message, or holds it back until every subscription has room for it.
    pub(crate) fn publish_or_hold(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        object: u32,
        origin: Origin,
        mut header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        if header.deadline != 0 && header.deadline <= turn.now.0 {
            let message = "the deadline had passed when the message came";
            return Err((Outcome::DeadlineExceeded, message.to_string()));
        }
        let topic = self.objects[object].body;
        let messages = self.check_publication(topic, &header, &tail)?;
        self.refresh_audience(topic);
        if !self.topics.table[topic].held.is_empty() || self.is_blocked(topic, &header, messages) {
            return self.hold_back(turn, from, topic, origin, header, tail);
        }
        let identity = &self.peer(from).identity;
        header.caller = u64::from(identity.uid) | u64::from(identity.pid) << 32;
        let from = self.peer(from).id;
        let done = self.publish(turn, from, topic, &header, tail, messages)?;
        match origin {
            Origin::Call(_) => {
                let reply = Header { handle: header.handle, call: header.call, ..done.reply() };
                match done.position {
                    None => self.answer_publish(turn, from.slot, reply),
                    Some(position) => {
                        let call = self.enter_call(turn, from.slot, object, &header);
                        self.answer_when_stored(turn, call, position, done.level, reply, Vec::new());
                    }
                }
            }
            Origin::Send => self.give_back(turn, header.handle, padded(header.len as usize) as u64),
            Origin::Will => {}
        }
        Ok(())
    }

    /// Whether a frame can be published at all, and how many messages it is.
    pub(crate) fn check_publication(&self, topic: u32, header: &Header, tail: &P) -> Result<u32, Refusal> {
        if header.handles != 0 {
            let message = "a message to a topic has no handles: it goes to many (SPEC 9.2)";
            return Err((Outcome::Unsupported, message.to_string()));
        }
        let it = &self.topics.table[topic];
        if header.ext_len != 0 {
            let name = self.topic_name(topic);
            // What the name takes as an extension, with its padding.
            let room = usize::from(EXTENSION_BYTES_MAX) - (name.as_str().len() + 4).next_multiple_of(16) - 16;
            if room < usize::from(header.ext_len) {
                let message = format!(
                    "{} bytes of extensions leave no room for the topic's name, which subscribers get with them; at most {room}",
                    header.ext_len
                );
                return Err((Outcome::TooLarge, message));
            }
        }
        let bytes = padded(header.len as usize) as u64;
        if it.keep != 0 && it.keep_bytes < bytes {
            let message = format!(
                "{bytes} bytes; the topic keeps {} of its latest messages (its history_bytes)",
                it.keep_bytes
            );
            return Err((Outcome::TooLarge, message));
        }
        if header.flags & flags::BATCH == 0 {
            return Ok(1);
        }
        let parts = Parts::of(Tail::of(header, tail.bytes()).payload);
        parts.count_whole().ok_or_else(|| {
            let message = "the payload is no batch: one message or more, each with its length and padding, and nothing left over (SPEC 2.9)";
            (Outcome::Invalid, message.to_string())
        })
    }

    pub(crate) fn topic_name(&self, topic: u32) -> &Name {
        let object = self.topics.table[topic].object;
        self.objects[object].name.as_ref().expect("a topic has a name")
    }

    /// Gives a message its number and everybody who is subscribed the message.
    pub(crate) fn publish(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: PeerId,
        topic: u32,
        header: &Header,
        tail: P,
        messages: u32,
    ) -> Result<Published, Refusal> {
        let it = &mut self.topics.table[topic];
        let object = it.object;
        let sequence = it.sequence + 1;
        let bytes = padded(header.len as usize) as u64;
        let keeps = it.keep != 0;
        let most = self.limits.kept_bytes_max;
        if keeps && most < self.topics.kept_bytes - it.kept_bytes + bytes {
            let message = format!(
                "the topic keeps its latest messages, and {bytes} bytes more would pass the {most} that all topics may keep (limits.kept_bytes_max)"
            );
            return Err((Outcome::Busy, message));
        }
        it.sequence += u64::from(messages);
        let last = it.sequence;
        let (durable, durability) = (it.retain && it.durability != Level::Memory, it.durability);
        let it = Publication {
            sequence,
            messages,
            method: header.method,
            caller: header.caller,
            flags: header.flags & flags::BATCH,
            priority: header.priority,
            ext_len: header.ext_len,
            tail,
        };
        let word = self.topics.table.word(topic);
        let mut post = Post::new(it, topic, word);
        let mut position = None;
        if keeps {
            let kept = post.keep();
            if durable {
                position = self.append_latest(turn, object, last, header, &kept.tail);
            }
            self.keep_message(topic, kept);
        }
        if !self.monitors.is_empty() {
            let shown = SendTail::Forward(post.it.tail.clone());
            self.tap(turn, from, NONE, header, &shown, object);
        }
        // Taken out for the while: whoever leaves meanwhile makes it stale, and nobody joins.
        let audience = core::mem::take(&mut self.topics.table[topic].audience);
        let mut subscriptions = 0;
        for &subscription in &audience {
            subscriptions += u32::from(self.deliver(turn, subscription, &mut post));
        }
        self.topics.table[topic].audience = audience;
        self.counters.published += u64::from(messages);
        let level = if position.is_some() { durability } else { Level::Memory };
        Ok(Published { sequence: last, subscriptions, position, level })
    }

    /// Adds the name of the topic to a publication, for those who subscribed by pattern.
    #[inline(never)]
    pub(crate) fn name_post(&mut self, post: &mut Post<P>) {
        let area = self.area_of(post.topic, &post.it);
        post.named = post.it.item(Some(&area));
        post.area = Some(area);
    }

    /// The extensions of a message with the name of its topic.
    pub(crate) fn area_of(&mut self, topic: u32, message: &Publication<P>) -> Rc<[u8]> {
        let name = self.topic_name(topic).clone();
        if message.ext_len != 0 {
            return area_with(&name, &message.tail.bytes()[..usize::from(message.ext_len)]);
        }
        let known = &mut self.topics.table[topic].area;
        Rc::clone(known.get_or_insert_with(|| area_with(&name, &[])))
    }

    /// Looks up who is subscribed to a topic, if that is not known.
    pub(crate) fn refresh_audience(&mut self, topic: u32) {
        if !self.topics.knows_audience(topic) {
            self.look_up_audience(topic);
        }
    }

    #[inline(never)]
    fn look_up_audience(&mut self, topic: u32) {
        let it = &mut self.topics.table[topic];
        let mut audience = core::mem::take(&mut it.audience);
        self.topics.remembered -= audience.len() as u64;
        audience.clear();
        let mut next = it.own.first();
        while let Some(subscription) = next {
            audience.push(subscription);
            next = self.topics.subscriptions[subscription].by_topic.next();
        }
        if self.topics.patterns.len() != 0 {
            let mut found = Vec::new();
            let name = self.topic_name(topic);
            self.topics.patterns.matches(name, &mut found);
            // Those of one client come one after the other more often than not.
            let mut asked: Option<(&Rc<Identity>, bool)> = None;
            for subscription in found {
                let peer = self.peer(self.topics.subscriptions[subscription].peer);
                let allowed = match asked {
                    Some((who, allowed)) if Rc::ptr_eq(who, &peer.identity) => allowed,
                    _ => self.policy.decide(&peer.identity, Verb::Subscribe, name).allowed(),
                };
                asked = Some((&peer.identity, allowed));
                if allowed {
                    audience.push(subscription);
                }
            }
        }
        let subscriptions = &self.topics.subscriptions;
        let blocks = |subscription: u32| subscriptions[subscription].policy == SlowPolicy::Block;
        audience.sort_unstable_by_key(|&one| (!blocks(one), subscriptions[one].peer, one));
        let blocking = audience.iter().take_while(|&&one| blocks(one)).count() as u32;
        if 2 * audience.len() + 16 < audience.capacity() {
            audience.shrink_to_fit();
        }
        self.make_room_to_remember(topic, audience.len() as u64);
        self.topics.remembered += audience.len() as u64;
        let it = &mut self.topics.table[topic];
        it.audience = audience;
        it.blocking = blocking;
        it.generation = self.topics.generation;
    }

    /// Forgets the audiences of other topics where all of them together would take too much memory: a
    /// few at a time, for those that are published to often come back.
    fn make_room_to_remember(&mut self, topic: u32, places: u64) {
        let most = u64::from(self.limits.subscriptions_max) * REMEMBERED_EACH;
        let slots = self.topics.table.slots();
        for _ in 0..FORGOTTEN_AT_ONCE.min(slots) {
            if self.topics.remembered + places <= most {
                break;
            }
            self.topics.hand = (self.topics.hand + 1) % slots;
            let hand = self.topics.hand;
            if hand != topic && self.topics.table.get(hand).is_some() {
                let other = &mut self.topics.table[hand];
                other.generation = 0;
                self.topics.remembered -= core::mem::take(&mut other.audience).len() as u64;
            }
        }
    }

    /// The reply of a published call that never had to be entered.
    fn answer_publish(&mut self, turn: &mut Turn<'_, P>, to: u32, reply: Header) {
        self.counters.outcomes[Outcome::Reply as usize] += 1;
        self.push(turn, to, reply, SendTail::Empty);
    }

    /// Appends the latest message of a publication to the log: of a batch, the last one by itself.
    fn append_latest(
        &mut self,
        turn: &mut Turn<'_, P>,
        object: u32,
        sequence: u64,
        header: &Header,
        tail: &P,
    ) -> Option<u64> {
        if header.flags & flags::BATCH == 0 {
            return self.append_retained(turn, object, sequence, header, tail);
        }
        let parts = Tail::of(header, tail.bytes());
        let latest = Parts::of(parts.payload).last().expect("a batch has messages").payload;
        let alone = [parts.extensions, latest].concat();
        let header = Header {
            len: (HEADER_BYTES + alone.len()) as u32,
            flags: header.flags & !flags::BATCH,
            ..*header
        };
        self.append_retained(turn, object, sequence, &header, &P::own(alone))
    }

    /// The retained message of a durable topic is found in the log, in this segment of it. A later one
    /// takes its place.
    #[expect(clippy::too_many_arguments, reason = "a retained message is all of this")]
    pub(crate) fn restore_retained(
        &mut self,
        _turn: &mut Turn<'_, P>,
        name: &Name,
        sequence: u64,
        method: u32,
        ext_len: u16,
        tail: P,
        _segment: u32,
    ) {
        let Some(&object) = self.names.get(name) else { return };
        let topic = self.objects[object].body;
        if self.objects[object].kind != ObjectKind::Topic || !self.topics.table[topic].retain {
            return;
        }
        let it = &mut self.topics.table[topic];
        it.sequence = it.sequence.max(sequence);
        let (priority, caller, flags) = (0, 0, 0);
        let tail = tail.keep();
        let kept = Publication { sequence, messages: 1, method, caller, flags, priority, ext_len, tail };
        self.keep_message(topic, kept);
    }

    /// Keeps a message for those who subscribe later; what it makes too much goes.
    fn keep_message(&mut self, topic: u32, message: Publication<P>) {
        let it = &mut self.topics.table[topic];
        // Of a batch only as many as the topic keeps.
        let message = message.latest(it.keep);
        let bytes = message.bytes(None);
        let others = self.topics.kept_bytes - it.kept_bytes;
        let room = self.limits.kept_bytes_max.saturating_sub(others).min(it.keep_bytes);
        if room < bytes {
            // Only of what an earlier broker kept; what is published was checked.
            return;
        }
        it.let_go(u64::from(message.messages), room - bytes);
        it.kept_messages += u64::from(message.messages);
        it.kept_bytes += bytes;
        it.kept.push_back(message);
        self.topics.kept_bytes = others + it.kept_bytes;
    }

    /// SPEC 9.8.
    pub(crate) fn topic_stat(&mut self, from: u32, handle: u64) -> Result<TopicInfo, Refusal> {
        let handle = self.find_handle(from, handle)?;
        let object = self.handles[handle].object;
        let kind = self.objects[object].kind;
        if kind != ObjectKind::Topic {
            return Err((Outcome::Invalid, format!("the handle is on a {}, not on a topic", kind.as_str())));
        }
        let topic = self.objects[object].body;
        self.refresh_audience(topic);
        let it = &self.topics.table[topic];
        Ok(TopicInfo {
            subscriptions: it.audience.len() as u32,
            sequence: it.sequence,
            held: it.held.len(),
            kept: it.kept_messages as u32,
            kept_bytes: it.kept_bytes,
            retain: it.retain,
        })
    }
}
