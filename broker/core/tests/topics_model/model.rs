//! What must come out: the log of each topic, and the queue of each subscription as a plain list.

use std::collections::{BTreeMap, BTreeSet};
use switchboard_protocol::topic::SlowPolicy;
use switchboard_protocol::{Name, Pattern, padded, part_bytes};

pub(crate) type Checked<T = ()> = Result<T, String>;

/// A message, or a batch, as it was published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) topic: usize,
    pub(crate) sequence: u64,
    /// Each message has an id, which is all its meaning.
    pub(crate) ids: Vec<u64>,
    /// Whether it is a batch, be it of one.
    pub(crate) batched: bool,
    /// Bytes of the payload of each.
    pub(crate) sizes: Vec<usize>,
}

impl Entry {
    /// Length of its frame by handle and by pattern: the name of each topic takes one piece of 16 bytes.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        let payload = match self.sizes[..] {
            [single] if !self.batched => single,
            ref sizes => sizes.iter().map(|&size| part_bytes(size)).sum(),
        };
        [0, 16].map(|name| padded(64 + payload + name) as u64)
    }

    /// The latest `most` messages of it, at least one.
    pub(crate) fn latest(&self, most: u64) -> Self {
        let skipped = self.ids.len().saturating_sub(most.max(1) as usize);
        let (ids, sizes) = (self.ids[skipped..].to_vec(), self.sizes[skipped..].to_vec());
        let batched = self.batched && (skipped == 0 || 1 < ids.len());
        Self { sequence: self.sequence + skipped as u64, ids, sizes, batched, ..*self }
    }
}

/// What a subscriber may be given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Subscribed(u64),
    Earlier(u64, Entry),
    Message(u64, Entry),
    Lost(u64, u64),
}

/// A subscription as it must be.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// The topics it covers.
    covers: Vec<bool>,
    by_pattern: bool,
    policy: SlowPolicy,
    messages_max: u64,
    bytes_max: u64,
    position: u64,
    waiting: Vec<Item>,
    /// Whether the last item of `waiting` came this moment: it may go out at once, or it has to wait.
    fresh: bool,
    credit: u64,
    items: u64,
}

/// Everything that was promised.
#[derive(Default)]
pub(crate) struct Model {
    names: Vec<Name>,
    /// Messages that each topic keeps.
    keeps: Vec<u64>,
    pub(crate) log: Vec<Vec<Entry>>,
    /// Subscriptions by peer and call.
    pub(crate) queues: BTreeMap<(u64, u64), Queue>,
    /// By publisher and topic, the last id that was published.
    order: BTreeMap<(u64, usize), u64>,
    /// Ids that were published: by which call's reply, and to how many.
    published: BTreeMap<u64, (u64, u64)>,
    refused: BTreeSet<u64>,
}

/// What a subscription asked for.
pub(crate) struct Asked<'a> {
    pub(crate) topic: Option<usize>,
    pub(crate) pattern: Option<&'a Pattern>,
    pub(crate) policy: SlowPolicy,
    pub(crate) messages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) history: u64,
}

impl Item {
    fn messages(&self) -> u64 {
        match self {
            Self::Message(_, entry) => entry.ids.len() as u64,
            Self::Subscribed(_) | Self::Earlier(..) | Self::Lost(..) => 0,
        }
    }
}

impl Queue {
    fn bytes(&self) -> u64 {
        let of = |item: &Item| match item {
            Item::Message(_, entry) => entry.bytes()[usize::from(self.by_pattern)],
            Item::Subscribed(_) | Item::Earlier(..) | Item::Lost(..) => 0,
        };
        self.waiting.iter().map(of).sum()
    }

    fn messages(&self) -> u64 {
        self.waiting.iter().map(Item::messages).sum()
    }

    fn lose(&mut self, at: usize) {
        let Item::Message(first, entry) = &self.waiting[at] else { panic!("a message") };
        self.waiting[at] = Item::Lost(*first, first + entry.ids.len() as u64 - 1);
        self.merge();
    }

    fn merge(&mut self) {
        let mut merged: Vec<Item> = Vec::new();
        for item in self.waiting.drain(..) {
            match (merged.last_mut(), item) {
                (Some(Item::Lost(_, last)), Item::Lost(_, to)) => *last = to,
                (_, item) => merged.push(item),
            }
        }
        self.waiting = merged;
    }

    /// The fresh message has to wait: makes room for it as the policy has it. `false` if there is none.
    fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.fresh) {
            return true;
        }
        let new = self.waiting.pop().expect("the fresh one");
        let Item::Message(_, entry) = &new else { panic!("a message") };
        let (messages, bytes) = (new.messages(), entry.bytes()[usize::from(self.by_pattern)]);
        if self.policy == SlowPolicy::Latest {
            let same = |item: &Item| matches!(item, Item::Message(_, other) if other.topic == entry.topic);
            if let Some(at) = self.waiting.iter().position(same) {
                self.lose(at);
            }
        }
        while self.messages() != 0
            && (self.messages_max < self.messages() + messages || self.bytes_max < self.bytes() + bytes)
        {
            match self.policy {
                SlowPolicy::Block | SlowPolicy::Disconnect => return false,
                SlowPolicy::DropOldest | SlowPolicy::Latest => {}
            }
            let oldest = self.waiting.iter().position(|item| item.messages() != 0).expect("a message");
            self.lose(oldest);
        }
        self.waiting.push(new);
        true
    }
}

impl Model {
    /// Topics that keep so many messages each.
    pub(crate) fn new(names: Vec<Name>, keeps: Vec<u64>) -> Self {
        let log = vec![Vec::new(); names.len()];
        Self { names, keeps, log, ..Self::default() }
    }

    pub(crate) fn subscribe(&mut self, key: (u64, u64), asked: &Asked<'_>) {
        let covers: Vec<bool> = (0..self.names.len())
            .map(|topic| {
                asked.topic == Some(topic) || asked.pattern.is_some_and(|it| it.matches(&self.names[topic]))
            })
            .collect();
        let by_pattern = asked.pattern.is_some();
        let sequence =
            |topic: usize| self.log[topic].last().map_or(0, |it| it.sequence + it.ids.len() as u64 - 1);
        let position = asked.topic.map_or(0, sequence);
        let mut waiting = vec![Item::Subscribed(position)];
        let (mut messages_left, mut bytes_left) = (asked.messages_max, asked.bytes_max);
        let mut topics: Vec<usize> = (0..self.names.len()).filter(|&topic| covers[topic]).collect();
        topics.sort_by_key(|&topic| &self.names[topic]);
        for topic in topics {
            let (mut wanted, mut kept, mut given) = (asked.history, self.keeps[topic], Vec::new());
            for entry in self.log[topic].iter().rev() {
                // Of a batch only as many as are kept and wanted.
                let entry = entry.latest(self.keeps[topic]).latest(wanted.min(messages_left));
                let (messages, bytes) = (entry.ids.len() as u64, entry.bytes()[usize::from(by_pattern)]);
                if wanted == 0 || kept == 0 || messages_left < messages || bytes_left < bytes {
                    break;
                }
                messages_left -= messages;
                bytes_left -= bytes;
                wanted = wanted.saturating_sub(messages);
                kept = kept.saturating_sub(messages);
                given.push(Item::Earlier(if by_pattern { 0 } else { entry.sequence }, entry));
            }
            waiting.extend(given.into_iter().rev());
        }
        let queue = Queue {
            covers,
            by_pattern,
            policy: asked.policy,
            messages_max: asked.messages_max,
            bytes_max: asked.bytes_max,
            position,
            waiting,
            fresh: false,
            credit: 0,
            items: 0,
        };
        self.queues.insert(key, queue);
    }

    pub(crate) fn credit(&mut self, key: (u64, u64), more: u64) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.credit += more;
        }
    }

    /// A message was published by this peer.
    pub(crate) fn publish(&mut self, by: u64, entry: &Entry) -> Checked {
        self.settle()?;
        let topic = entry.topic;
        let last = self.log[topic].last().map_or(0, |it| it.sequence + it.ids.len() as u64 - 1);
        if entry.sequence != last + 1 {
            return Err(format!("number {} after {last}", entry.sequence));
        }
        let to = self.queues.values().filter(|queue| queue.covers[topic]).count() as u64;
        for &id in &entry.ids {
            if self.refused.contains(&id) {
                return Err(format!("message {id} was published although it was refused"));
            }
            let last = entry.sequence + entry.ids.len() as u64 - 1;
            if self.published.insert(id, (last, to)).is_some() {
                return Err(format!("message {id} was published twice"));
            }
            let before = self.order.insert((by, topic), id);
            if before.is_some_and(|before| id <= before) {
                return Err(format!("message {id} of one publisher came after {before:?}"));
            }
        }
        self.log[topic].push(entry.clone());
        for queue in self.queues.values_mut().filter(|queue| queue.covers[topic]) {
            let first = queue.position + 1;
            queue.position += entry.ids.len() as u64;
            queue.waiting.push(Item::Message(first, entry.clone()));
            queue.fresh = true;
        }
        Ok(())
    }

    /// What did not go out at once waits.
    pub(crate) fn settle(&mut self) -> Checked {
        for (key, queue) in &mut self.queues {
            if !queue.settle() {
                return Err(format!("{key:?} was given a message for which it had no room: {queue:?}"));
            }
        }
        Ok(())
    }

    /// A subscriber was given something.
    pub(crate) fn given(&mut self, key: (u64, u64), number: u64, item: &Item) -> Checked {
        let Some(queue) = self.queues.get_mut(&key) else {
            return Err(format!("an item for {key:?}, which is no subscription: {item:?}"));
        };
        queue.items += 1;
        if number != queue.items {
            return Err(format!("item {number} where {} was due", queue.items));
        }
        if queue.credit == 0 {
            return Err(format!("an item without credit: {item:?}"));
        }
        queue.credit -= 1;
        // A fresh message goes out at once only where nothing waits.
        if queue.waiting.len() != 1 && !queue.settle() {
            return Err("a message for which there was no room".to_string());
        }
        if queue.waiting.first() != Some(item) {
            return Err(format!("{key:?} got {item:?} where {:?} was due", queue.waiting.first()));
        }
        queue.waiting.remove(0);
        queue.fresh = false;
        Ok(())
    }

    /// A subscription has ended, and the broker says that it was too slow.
    pub(crate) fn ended_as_slow(&mut self, key: (u64, u64)) -> Checked {
        let mut queue = self.queues.remove(&key).ok_or("no such subscription")?;
        let Some(Item::Message(_, last)) = queue.waiting.last().cloned() else {
            return Err(format!("{key:?} was ended as slow, and nothing waits for it"));
        };
        if queue.policy != SlowPolicy::Disconnect || queue.settle() {
            return Err(format!("{key:?} was ended as slow, and was not: {queue:?}"));
        }
        // What it had no room for has gone to one less.
        for id in last.ids {
            self.published.entry(id).and_modify(|(_, to)| *to -= 1);
        }
        Ok(())
    }

    /// A call to publish was answered.
    pub(crate) fn answered(&self, ids: &[u64], sequence: u64, to: u64) -> Checked {
        for id in ids {
            if self.published.get(id) != Some(&(sequence, to)) {
                let really = self.published.get(id);
                return Err(format!("message {id} was said to be {sequence} to {to}, and is {really:?}"));
            }
        }
        Ok(())
    }

    /// Messages were refused.
    pub(crate) fn refuse(&mut self, ids: &[u64]) -> Checked {
        for id in ids {
            if self.published.contains_key(id) || !self.refused.insert(*id) {
                return Err(format!("message {id} was refused, and published or refused before"));
            }
        }
        Ok(())
    }

    /// Whether something came of each of these.
    pub(crate) fn are_settled<'a>(&self, ids: impl Iterator<Item = &'a u64>) -> Checked {
        for id in ids {
            if self.published.contains_key(id) == self.refused.contains(id) {
                return Err(format!("nothing came of message {id}"));
            }
        }
        Ok(())
    }

    /// Whether everybody has everything.
    pub(crate) fn is_drained(&self) -> Checked {
        let behind = self.queues.iter().find(|(_, queue)| !queue.waiting.is_empty());
        behind.map_or(Ok(()), |(key, queue)| Err(format!("{key:?} was not given {:?}", queue.waiting)))
    }
}
