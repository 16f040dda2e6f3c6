//! What a push says: its extensions, and the messages of a batch (SPEC 10.3).

use crate::control::Refusal;
use crate::queue::check_extensions;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use switchboard_protocol::queue::{GROUP_KEY_BYTES_MAX, PushOptions, QUEUE_PRIORITIES};
use switchboard_protocol::{Header, Outcome, Parts, Tail, extension_type};

/// What a push says beside its messages.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) options: PushOptions,
    /// Whether it said so itself.
    pub(crate) has_options: bool,
    pub(crate) key: Option<Rc<[u8]>>,
    /// Producer and number.
    pub(crate) producer: Option<(u64, u64)>,
}

/// One message of a push.
pub(crate) struct Part {
    /// Which of the queues.
    pub(crate) queue: u32,
    pub(crate) priority: u8,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Messages in one batch.
const BATCH_MAX: usize = 16_384;
/// Reads the extensions of a push; those handles that QUEUES has are read by who can.
pub(crate) fn wishes_of<'a>(header: &Header, bytes: &'a [u8]) -> Result<(Wishes, Option<&'a [u8]>), Refusal> {
    use extension_type::{GROUP, METHOD_NAME, PRODUCER, PUSH, QUEUES};
    let invalid = |message: &str| (Outcome::Invalid, message.to_string());
    let tail = Tail::of(header, bytes);
    check_extensions(&tail, &[METHOD_NAME, PUSH, GROUP, PRODUCER, QUEUES])?;
    let mut wishes = Wishes::default();
    let mut further = None;
    for extension in tail.extensions().into_iter().flatten() {
        let value = extension.value;
        match extension.kind {
            PUSH => {
                wishes.options = PushOptions::from_bytes(value)
                    .ok_or_else(|| invalid("the extension PUSH is 20 bytes, 3 of them zeros (SPEC 2.5)"))?;
                wishes.has_options = true;
            }
            GROUP => {
                if value.is_empty() || GROUP_KEY_BYTES_MAX < value.len() {
                    return Err(invalid("the key of a group is 1 to 128 bytes (SPEC 2.5)"));
                }
                wishes.key = Some(Rc::from(value));
            }
            PRODUCER => {
                let Some((producer, number)) = value.split_first_chunk::<8>() else {
                    return Err(invalid("the extension PRODUCER is 16 bytes (SPEC 2.5)"));
                };
                let number: [u8; 8] = number
                    .try_into()
                    .map_err(|_| invalid("the extension PRODUCER is 16 bytes (SPEC 2.5)"))?;
                wishes.producer = Some((u64::from_le_bytes(*producer), u64::from_le_bytes(number)));
            }
            QUEUES => further = Some(value),
            _ => {}
        }
    }
    check_priority(wishes.options.priority)?;
    Ok((wishes, further))
}

fn check_priority(priority: u8) -> Result<(), Refusal> {
    if priority < QUEUE_PRIORITIES {
        return Ok(());
    }
    Err((Outcome::Invalid, format!("priority {priority}; a queue has 0 to 31 (SPEC 10.4)")))
}

/// The messages of a batch: where each is, and where it goes.
pub(crate) fn parts_of(
    header: &Header,
    bytes: &[u8],
    wishes: &Wishes,
    queues: usize,
) -> Result<Vec<Part>, Refusal> {
    let payload = Tail::of(header, bytes).payload;
    let count = Parts::of(payload).count_whole();
    let Some(count) = count.map(|count| count as usize) else {
        let message = "the payload is no batch: empty, or not exactly its messages (SPEC 2.9)".to_string();
        return Err((Outcome::Invalid, message));
    };
    if BATCH_MAX < count {
        return Err((Outcome::TooLarge, format!("{count} messages in one push; at most {BATCH_MAX}")));
    }
    let mut parts = Vec::with_capacity(count);
    let mut at = bytes.len() - payload.len();
    for part in Parts::of(payload) {
        let [priority, queue, 0, 0] = part.attribute.to_le_bytes() else {
            let message = format!("attribute {:#x} has bits that mean nothing (SPEC 10.3)", part.attribute);
            return Err((Outcome::Invalid, message));
        };
        if queues <= usize::from(queue) {
            let message = format!("a message for queue {queue} of {queues} (SPEC 10.3)");
            return Err((Outcome::Invalid, message));
        }
        let priority = if wishes.has_options { wishes.options.priority } else { priority };
        check_priority(priority)?;
        let start = at + switchboard_protocol::PART_HEADER_BYTES;
        let end = start + part.payload.len();
        parts.push(Part { queue: queue.into(), priority, start, end });
        at += switchboard_protocol::part_bytes(part.payload.len());
    }
    Ok(parts)
}
