//! The whole broker as bytes, to go on from later: what a recording begins with.
//!
//! A snapshot is for the very build that took it. Whatever the broker holds is in it, in the layout that
//! derivation gives it. Of payloads that it holds there is what [`Payload`] writes, and beside that what
//! the broker will look at again: their extensions, and where the messages of a batch begin.

use crate::broker::Broker;
use crate::{Payload, Reads};
use alloc::vec::Vec;
use switchboard_protocol::{Header, decode, encode_within, flags};

/// What the broker will look at again of a payload that it holds: how it reads what is behind so many
/// bytes, of which it reads all.
#[derive(Clone, Copy)]
struct Look {
    reads: Reads,
    head: usize,
}

impl Look {
    fn of(header: &Header) -> Self {
        Self::behind(header.tail_len() - header.payload_len(), header.flags)
    }

    /// Of a tail whose payload begins behind so many bytes, in a frame with these flags.
    fn behind(head: usize, flags: u8) -> Self {
        let reads = if flags & flags::BATCH == 0 { Reads::Head } else { Reads::Parts };
        Self { reads, head }
    }

    fn is_something(self) -> bool {
        self.head != 0 || self.reads != Reads::Head
    }
}

impl<P: Payload> Broker<P> {
    /// The broker as it is; `None` if that takes more than `bytes_max`, after about as much work as so
    /// many bytes cost.
    pub fn snapshot(&self, bytes_max: usize) -> Option<Vec<u8>> {
        // First what everything takes that is held, so that there are not too many payloads to look at.
        let mut snapshot = encode_within(self, bytes_max)?;
        let mut room = bytes_max - snapshot.len();
        let mut looks = Vec::new();
        for (look, tail) in self.kept().filter(|(look, _)| look.is_something()) {
            let mut record = Vec::new();
            look.reads.record_behind(look.head, tail.bytes(), &mut record);
            // With its length, which takes a byte at least.
            room = room.checked_sub(1 + record.len())?;
            looks.push(record);
        }
        snapshot.extend(encode_within(&looks, bytes_max - snapshot.len())?);
        Some(snapshot)
    }

    /// The broker of a snapshot; `None` if the bytes are none that this build takes. They must be a
    /// snapshot's: of others it may make a broker that panics.
    pub fn restore(snapshot: &[u8]) -> Option<Self> {
        let (mut broker, looks): (Self, Vec<Vec<u8>>) = decode(snapshot)?;
        let mut looks = looks.into_iter();
        for (look, tail) in broker.kept_mut().filter(|(look, _)| look.is_something()) {
            // As the payload was written it may be whole; then this changes nothing.
            let record = looks.next()?;
            let blank = look.reads.rebuild_behind(look.head, tail.len(), &record)?;
            let merged = tail.bytes().iter().zip(&blank).map(|(there, looked)| there | looked);
            *tail = P::own(merged.collect());
        }
        looks.next().is_none().then_some(broker)
    }

    /// Every payload that is held, in an order of its own.
    fn kept(&self) -> impl Iterator<Item = (Look, &P)> {
        let Self { waiting, topics, queues, storage, .. } = self;
        let waiting = waiting.iter().map(|(_, it)| (Look::of(&it.header), &it.tail));
        let held = topics.held.iter().map(|(_, it)| (Look::of(&it.header), &it.tail));
        let blocked = queues.blocked.iter().map(|(_, it)| (Look::of(&it.header), &it.tail));
        let letters = topics.pending.iter().filter_map(|(_, it)| it.message.as_ref()).map(|it| &it.it);
        let published = topics.table.iter().flat_map(|(_, it)| &it.kept).chain(letters);
        let published = published.map(|it| (Look::behind(it.ext_len.into(), it.flags), &it.tail));
        let queued = queues.messages.iter().map(|(_, it)| (Look::behind(it.ext_len.into(), 0), &it.tail));
        let retained = storage.retained.iter().map(|(_, it)| (Look::behind(it.ext_len.into(), 0), &it.tail));
        waiting.chain(held).chain(blocked).chain(published).chain(queued).chain(retained)
    }

    /// The same, in the same order.
    fn kept_mut(&mut self) -> impl Iterator<Item = (Look, &mut P)> {
        let Self { waiting, topics, queues, storage, .. } = self;
        let waiting = waiting.values_mut().map(|it| (Look::of(&it.header), &mut it.tail));
        let held = topics.held.values_mut().map(|it| (Look::of(&it.header), &mut it.tail));
        let blocked = queues.blocked.values_mut().map(|it| (Look::of(&it.header), &mut it.tail));
        let letters = topics.pending.values_mut().filter_map(|it| it.message.as_mut()).map(|it| &mut it.it);
        let published = topics.table.values_mut().flat_map(|it| &mut it.kept).chain(letters);
        let published = published.map(|it| (Look::behind(it.ext_len.into(), it.flags), &mut it.tail));
        let queued =
            queues.messages.values_mut().map(|it| (Look::behind(it.ext_len.into(), 0), &mut it.tail));
        let retained =
            storage.retained.values_mut().map(|it| (Look::behind(it.ext_len.into(), 0), &mut it.tail));
        waiting.chain(held).chain(blocked).chain(published).chain(queued).chain(retained)
    }
}

/// Bytes of a payload that the broker holds as such: written as their number, read back as zeros.
pub(crate) mod blank {
    use alloc::vec::Vec;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(bytes.len() as u32)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let len = u32::deserialize(deserializer)?;
        if switchboard_protocol::FRAME_BYTES_MAX < len {
            return Err(D::Error::custom("a payload longer than any frame"));
        }
        Ok(alloc::vec![0; len as usize])
    }
}
