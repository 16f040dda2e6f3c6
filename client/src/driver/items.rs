//! The items of a stream that wait to be taken, side by side.
//!
//! Short ones lie in one buffer, as the ends of a pipeline's calls do in a mailbox: nothing is made of them
//! before somebody takes them, and then it is made where it will stay. Whoever takes many swaps all of
//! it for what it has taken out before, so that the buffers go back and forth and none is allocated.

use std::collections::VecDeque;

use switchboard_protocol::queue::LeaseId;
use switchboard_protocol::{Extensions, HandleEntry, Header, Tail, flags};

use super::ticket::{Facts, RawReply};
use crate::Payload;
use crate::session::Frame;

/// An item of a stream.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) reply: RawReply,
    pub(crate) facts: Facts,
}

#[derive(Debug, Default)]
pub(crate) struct Items {
    heads: VecDeque<Head>,
    /// Extension areas and payloads of the short ones, in their order.
    bytes: Vec<u8>,
    /// Of which so many were taken.
    taken: usize,
}

#[derive(Debug)]
struct Head {
    said: Said,
    what: What,
}

/// What the header of an item says, by kind of object (SPEC 9.5, 10.7).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) method: u32,
    pub(crate) is_batch: bool,
    pub(crate) handle: u64,
    pub(crate) deadline: u64,
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) caller: u64,
    connection: u64,
}

#[derive(Debug)]
enum What {
    /// So many bytes more of the buffer.
    Short {
        extensions: u16,
        payload: u32,
    },
    Whole(Box<Whole>),
}

/// An item that came with more than a few bytes.
#[derive(Debug)]
struct Whole {
    payload: Payload,
    handles: Vec<HandleEntry>,
    extensions: Box<[u8]>,
}

/// An item that is being taken, where it lies.
pub(crate) struct Taken<'a> {
    pub(crate) said: Said,
    body: Body<'a>,
}

enum Body<'a> {
    Short { extensions: &'a [u8], payload: &'a [u8] },
    Whole(Box<Whole>),
}

/// Longer payloads are kept as they are handed out, so that they are not copied twice.
const SHORT_BYTES: usize = 1 << 10;

/// With so many bytes taken, those behind are moved to the front once they are fewer.
const TAKEN_BYTES: usize = 4 << 10;

impl Said {
    #[inline]
    fn of(header: &Header, connection: u64) -> Self {
        Self {
            method: header.method,
            is_batch: header.flags & flags::BATCH != 0,
            handle: header.handle,
            deadline: header.deadline,
            seq: header.seq,
            epoch: header.epoch,
            caller: header.caller,
            connection,
        }
    }

    #[inline]
    pub(crate) fn lease(&self) -> LeaseId {
        LeaseId { low: self.epoch, high: self.caller }
    }
}

impl Items {
    /// Whether an item with this header is one for [`Items::push_short`].
    #[inline]
    pub(super) fn is_short(header: &Header) -> bool {
        header.handles == 0 && header.payload_len() <= SHORT_BYTES
    }

    #[inline]
    pub(super) fn push_short(&mut self, header: &Header, tail: &Tail<'_>, connection: u64) {
        if self.heads.is_empty() {
            self.bytes.clear();
            self.taken = 0;
        }
        self.bytes.extend_from_slice(tail.extensions);
        self.bytes.extend_from_slice(tail.payload);
        let what = What::Short { extensions: header.ext_len, payload: tail.payload.len() as u32 };
        self.heads.push_back(Head { said: Said::of(header, connection), what });
    }

    pub(super) fn push(&mut self, frame: Frame<'_>, connection: u64) {
        let said = Said::of(frame.header, connection);
        let handles = frame.handles();
        let extensions =
            if frame.header.ext_len == 0 { Box::default() } else { frame.tail().extensions.into() };
        let whole = Whole { payload: frame.into_payload(), handles, extensions };
        self.heads.push_back(Head { said, what: What::Whole(Box::new(whole)) });
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Takes the next one.
    #[inline]
    pub(crate) fn take<T>(&mut self, take: impl FnOnce(Taken<'_>) -> T) -> Option<T> {
        let Head { said, what } = self.heads.pop_front()?;
        Some(match what {
            What::Short { extensions, payload } => {
                let (extensions, rest) = self.bytes[self.taken..].split_at(extensions.into());
                let payload = &rest[..payload as usize];
                self.taken += extensions.len() + payload.len();
                let item = take(Taken { said, body: Body::Short { extensions, payload } });
                // Where one always waits, the buffer would grow for ever.
                if TAKEN_BYTES < self.taken && self.bytes.len() < 2 * self.taken {
                    self.bytes.drain(..self.taken);
                    self.taken = 0;
                }
                item
            }
            What::Whole(whole) => take(Taken { said, body: Body::Whole(whole) }),
        })
    }

    /// Takes the next one out.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        self.take(|item| item.into_item())
    }
}

impl Taken<'_> {
    /// Its extension area.
    #[inline]
    pub(crate) fn extensions(&self) -> &[u8] {
        match &self.body {
            Body::Short { extensions, .. } => extensions,
            Body::Whole(whole) => &whole.extensions,
        }
    }

    /// The value of an extension.
    #[inline]
    pub(crate) fn extension(&self, kind: u16) -> Option<&[u8]> {
        let area = self.extensions();
        if area.is_empty() { None } else { Extensions::parse(area)?.find(kind) }
    }

    /// The payload, kept.
    #[inline]
    pub(crate) fn into_payload(self) -> Payload {
        match self.body {
            Body::Short { payload, .. } => Payload::copy_from(payload),
            Body::Whole(whole) => whole.payload,
        }
    }

    pub(crate) fn into_item(self) -> Item {
        let Said { method, deadline, seq, epoch, caller, connection, .. } = self.said;
        let extensions = self.extensions().into();
        let facts = Facts { method, deadline, seq, epoch, caller, extensions };
        let (payload, handles) = match self.body {
            Body::Short { payload, .. } => (Payload::copy_from(payload), Vec::new()),
            Body::Whole(whole) => (whole.payload, whole.handles),
        };
        Item { reply: RawReply { epoch: 0, payload, handles, connection, facts: None }, facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Inbox;
    use switchboard_protocol::{ExtensionsBuilder, Kind, extension_type, write_frame};

    fn extensions(number: u64) -> Vec<u8> {
        let mut builder = ExtensionsBuilder::default();
        if number.is_multiple_of(3) {
            builder.add(extension_type::GROUP, &number.to_le_bytes());
        }
        builder.finish()
    }

    fn payload(number: u64) -> Vec<u8> {
        vec![number as u8; number as usize * 37 % 1500]
    }

    fn put(items: &mut Items, number: u64) {
        let mut bytes = Vec::new();
        let header = Header { seq: number, epoch: number * 2, caller: 7, ..Header::new(Kind::Item) };
        write_frame(&mut bytes, header, &extensions(number), &[], &payload(number));
        let mut inbox = Inbox::new();
        inbox.push(&bytes);
        let frame = inbox.next_frame().expect("well formed").expect("whole");
        if Items::is_short(frame.header) {
            items.push_short(frame.header, &frame.tail(), 5);
        } else {
            items.push(frame, 5);
        }
    }

    fn take(items: &mut Items, number: u64) {
        let item = items.pop().expect("it waits");
        assert_eq!((item.facts.seq, item.facts.epoch, item.facts.caller), (number, number * 2, 7));
        assert_eq!((&item.facts.extensions[..], item.reply.connection), (&extensions(number)[..], 5));
        assert_eq!(item.reply.payload, payload(number)[..]);
    }

    #[test]
    fn items_are_taken_as_they_came_however_many_wait() {
        for waiting in [1, 2, 50] {
            let mut items = Items::default();
            for number in 0..1000 {
                put(&mut items, number);
                if waiting <= number {
                    take(&mut items, number - waiting);
                }
            }
            (1000 - waiting..1000).for_each(|number| take(&mut items, number));
            assert!(items.is_empty() && items.pop().is_none());
            assert!(items.bytes.len() < 200_000, "{} bytes are kept of so few that wait", items.bytes.len());
        }
    }
}
