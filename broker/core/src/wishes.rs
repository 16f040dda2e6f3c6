//! What a push says: its extensions, and the messages of a batch (SPEC 10.3).

use crate::control::Refusal;
use crate::queue::check_extensions;
use alloc::format;
use alloc::string::ToString;
use switchboard_protocol::queue::{Producer, PushOptions, QUEUE_PRIORITIES, group_key};
use switchboard_protocol::{
    Header, Outcome, PART_HEADER_BYTES, Part, Parts, Tail, extension_type, flags, part_bytes,
};

/// What a push says beside its messages.
#[derive(Default)]
pub(crate) struct Wishes<'a> {
    pub(crate) options: PushOptions,
    /// Whether it said so itself.
    pub(crate) has_options: bool,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) producer: Option<Producer>,
    /// The value of QUEUES, which is read by who has the handles.
    pub(crate) queues: Option<&'a [u8]>,
}

/// Messages and bytes that a queue is to take.
#[derive(Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// One message of a push.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Which of the queues.
    pub(crate) queue: usize,
    pub(crate) priority: u8,
    /// Where its bytes are in the frame's tail.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The messages of a push: one, or those of a batch that was found sound.
#[derive(Clone)]
pub(crate) struct Pieces<'a> {
    one: Option<Piece>,
    parts: Parts<'a>,
    at: usize,
    /// The priority of each, where the push itself says one.
    priority: Option<u8>,
}

/// Messages in one batch.
const BATCH_MAX: u64 = 16_384;

impl<'a> Wishes<'a> {
    /// Reads the extensions of a push.
    pub(crate) fn of(header: &Header, bytes: &'a [u8]) -> Result<Self, Refusal> {
        use extension_type::{GROUP, METHOD_NAME, PRODUCER, PUSH, QUEUES};
        if header.ext_len == 0 {
            return Ok(Self::default());
        }
        let invalid = |message: &str| (Outcome::Invalid, message.to_string());
        let tail = Tail::of(header, bytes);
        check_extensions(&tail, &[METHOD_NAME, PUSH, GROUP, PRODUCER, QUEUES])?;
        let mut wishes = Self::default();
        for extension in tail.extensions().into_iter().flatten() {
            let value = extension.value;
            match extension.kind {
                PUSH => {
                    let options = PushOptions::from_bytes(value);
                    wishes.options = options.ok_or_else(|| {
                        invalid("the extension PUSH is 20 bytes, 3 of them zeros (SPEC 2.5)")
                    })?;
                    wishes.has_options = true;
                }
                GROUP => {
                    let key = group_key(value);
                    wishes.key =
                        Some(key.ok_or_else(|| invalid("the key of a group is 1 to 128 bytes (SPEC 2.5)"))?);
                }
                PRODUCER => {
                    let producer = Producer::from_bytes(value);
                    wishes.producer = Some(
                        producer.ok_or_else(|| invalid("the extension PRODUCER is 16 bytes (SPEC 2.5)"))?,
                    );
                }
                QUEUES => wishes.queues = Some(value),
                _ => {}
            }
        }
        check_priority(wishes.options.priority)?;
        Ok(wishes)
    }

    /// The messages of a push; [`Self::weigh`] has found them sound if they are a batch.
    #[inline(always)]
    pub(crate) fn pieces<'b>(&self, header: &Header, bytes: &'b [u8]) -> Pieces<'b> {
        let priority = self.has_options.then_some(self.options.priority);
        if header.flags & flags::BATCH == 0 {
            let piece = Piece { queue: 0, priority: self.options.priority, start: 0, end: bytes.len() };
            return Pieces { one: Some(piece), parts: Parts::of(&[]), at: 0, priority };
        }
        let payload = Tail::of(header, bytes).payload;
        Pieces { one: None, parts: Parts::of(payload), at: bytes.len() - payload.len(), priority }
    }

    /// What of a push each queue gets; why not, if it says that it is a batch and is none.
    #[inline(always)]
    pub(crate) fn weigh(&self, header: &Header, bytes: &[u8], loads: &mut [Load]) -> Result<(), Refusal> {
        if header.flags & flags::BATCH == 0 {
            loads[0] = Load { count: 1, bytes: bytes.len() as u64 };
            return Ok(());
        }
        self.weigh_batch(header, bytes, loads)
    }

    fn weigh_batch(&self, header: &Header, bytes: &[u8], loads: &mut [Load]) -> Result<(), Refusal> {
        let payload = Tail::of(header, bytes).payload;
        let (mut count, mut whole) = (0, 0);
        let mut sound = true;
        for part in Parts::of(payload) {
            let Some((queue, _)) = self.address_of(&part) else {
                sound = false;
                break;
            };
            let Some(load) = loads.get_mut(queue) else {
                sound = false;
                break;
            };
            load.count += 1;
            load.bytes += part.payload.len() as u64;
            count += 1;
            whole += part_bytes(part.payload.len());
        }
        if sound && 0 < count && count <= BATCH_MAX && whole == payload.len() {
            return Ok(());
        }
        Err(self.unsound(payload, loads.len()))
    }

    /// Which queue a message of a batch goes to, and its priority; `None` if its attribute says nothing.
    #[inline(always)]
    fn address_of(&self, part: &Part<'_>) -> Option<(usize, u8)> {
        let [priority, queue, 0, 0] = part.attribute.to_le_bytes() else { return None };
        let priority = if self.has_options { self.options.priority } else { priority };
        (priority < QUEUE_PRIORITIES).then_some((queue.into(), priority))
    }

    /// What is wrong with a batch for so many queues.
    #[cold]
    fn unsound(&self, payload: &[u8], queues: usize) -> Refusal {
        let Some(count) = Parts::of(payload).count_whole() else {
            let message = "the payload is no batch: empty, or not exactly its messages (SPEC 2.9)";
            return (Outcome::Invalid, message.to_string());
        };
        if BATCH_MAX < count.into() {
            return (Outcome::TooLarge, format!("{count} messages in one push; at most {BATCH_MAX}"));
        }
        let wrong = |part: Part<'_>| {
            let [priority, queue, 0, 0] = part.attribute.to_le_bytes() else {
                return Some(format!(
                    "attribute {:#x} has bits that mean nothing (SPEC 10.3)",
                    part.attribute
                ));
            };
            if queues <= usize::from(queue) {
                return Some(format!("a message for queue {queue} of {queues} (SPEC 10.3)"));
            }
            self.address_of(&part).is_none().then(|| priority_message(priority))
        };
        (Outcome::Invalid, Parts::of(payload).find_map(wrong).expect("something is wrong with it"))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    #[inline(always)]
    fn next(&mut self) -> Option<Piece> {
        if let Some(one) = self.one.take() {
            return Some(one);
        }
        let part = self.parts.next()?;
        let [priority, queue, ..] = part.attribute.to_le_bytes();
        let start = self.at + PART_HEADER_BYTES;
        let end = start + part.payload.len();
        self.at += part_bytes(part.payload.len());
        Some(Piece { queue: queue.into(), priority: self.priority.unwrap_or(priority), start, end })
    }
}

fn check_priority(priority: u8) -> Result<(), Refusal> {
    if priority < QUEUE_PRIORITIES { Ok(()) } else { Err((Outcome::Invalid, priority_message(priority))) }
}

fn priority_message(priority: u8) -> alloc::string::String {
    format!("priority {priority}; a queue has 0 to 31 (SPEC 10.4)")
}
