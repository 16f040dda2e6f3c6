//! What the broker looks at of a frame, and so all of it that a recording must have.

use crate::Payload;
use crate::broker::Broker;
use alloc::vec::Vec;
use switchboard_protocol::queue::QueueMethod;
use switchboard_protocol::{CONTROL_BYTES_MAX, Handle, Header, Kind, ObjectKind, PART_HEADER_BYTES, flags};

/// How much of a frame's tail the broker may look at while it handles it. Extensions and the handle table
/// always; of the payload:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Nothing.
    Head,
    /// It is a batch: where its messages begin, and their attributes.
    Parts,
    /// All of it: it is for the broker itself.
    All,
}

impl<P: Payload> Broker<P> {
    /// What the broker may look at of a frame with this header, if it is handed in next.
    ///
    /// Monitors are shown payloads too, but nothing is decided by what is in them:
    /// [`crate::SendTail::Shown`].
    pub fn reads_payload(&self, header: &Header) -> Reads {
        let batch = if header.flags & flags::BATCH == 0 { Reads::Head } else { Reads::Parts };
        match header.kind {
            Kind::Hello => Reads::All,
            // A larger one is refused for its length.
            Kind::Call if header.handle == Handle::BROKER.to_wire() => {
                if header.tail_len() <= CONTROL_BYTES_MAX { Reads::All } else { Reads::Head }
            }
            // Whoever holds it: one that is on its way may arrive before the frame is looked at.
            Kind::Call | Kind::Send => match self.handles.find(header.handle) {
                // How many messages are not delivered is told (SPEC 4.9).
                None if header.kind == Kind::Send => batch,
                None => Reads::Head,
                Some(handle) => match self.objects[self.handles[handle].object].kind {
                    ObjectKind::Service | ObjectKind::Topic => batch,
                    ObjectKind::Queue if header.method == QueueMethod::Push as u32 => batch,
                    ObjectKind::Queue | ObjectKind::Event => Reads::All,
                },
            },
            Kind::Reply
            | Kind::Outcome
            | Kind::Item
            | Kind::Cancel
            | Kind::Credit
            | Kind::Goodbye
            | Kind::Welcome
            | Kind::Event => Reads::Head,
        }
    }
}

impl Reads {
    /// Appends to `record` what is read of a tail.
    pub fn record(self, header: &Header, tail: &[u8], record: &mut Vec<u8>) {
        self.record_behind(header.tail_len() - header.payload_len(), tail, record);
    }

    /// [`Reads::record`] of a tail whose payload begins behind so many bytes.
    pub(crate) fn record_behind(self, head: usize, tail: &[u8], record: &mut Vec<u8>) {
        match self {
            Self::All => record.extend_from_slice(tail),
            Self::Head => record.extend_from_slice(&tail[..head]),
            Self::Parts => {
                record.extend_from_slice(&tail[..head]);
                let mut rest = &tail[head..];
                while let Some((part, message)) = rest.split_first_chunk() {
                    record.extend_from_slice(part);
                    let Some(next) = part_len(part).and_then(|len| message.get(len..)) else { return };
                    rest = next;
                }
            }
        }
    }

    /// The tail again, by what was recorded of it, with zeros for the rest; `None` if that is not what was
    /// recorded of a frame with this header.
    pub fn rebuild(self, header: &Header, record: &[u8]) -> Option<Vec<u8>> {
        self.rebuild_behind(header.tail_len() - header.payload_len(), header.tail_len(), record)
    }

    /// [`Reads::rebuild`] of a tail of so many bytes whose payload begins behind so many.
    pub(crate) fn rebuild_behind(self, head: usize, len: usize, record: &[u8]) -> Option<Vec<u8>> {
        let mut tail = Vec::new();
        let written = if self == Self::Parts { head } else { record.len() };
        tail.extend_from_slice(record.get(..written)?);
        let mut parts = &record[written..];
        if written != if self == Self::All { len } else { head } {
            return None;
        }
        tail.resize(len, 0);
        let mut at = head;
        while let Some((part, rest)) = parts.split_first_chunk() {
            parts = rest;
            tail.get_mut(at..at + PART_HEADER_BYTES)?.copy_from_slice(part);
            // One that is longer than its frame is the last one: there the batch ends, broken.
            at = part_len(part).map_or(tail.len(), |len| (at + PART_HEADER_BYTES).saturating_add(len));
        }
        parts.is_empty().then_some(tail)
    }
}

/// Bytes of a message, its padding included.
fn part_len(part: &[u8; PART_HEADER_BYTES]) -> Option<usize> {
    let [a, b, c, d, ..] = *part;
    (u32::from_le_bytes([a, b, c, d]) as usize).checked_next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use switchboard_protocol::{HEADER_BYTES, Parts, write_part};

    fn header(tail: &[u8], extensions: u16) -> Header {
        let len = (HEADER_BYTES + tail.len()) as u32;
        Header { len, ext_len: extensions, flags: flags::BATCH, ..Header::new(Kind::Call) }
    }

    fn there_and_back(reads: Reads, tail: &[u8], extensions: u16) -> Vec<u8> {
        let header = header(tail, extensions);
        let mut record = Vec::new();
        reads.record(&header, tail, &mut record);
        let again = reads.rebuild(&header, &record).expect("what was recorded");
        assert_eq!(again.len(), tail.len());
        let mut twice = Vec::new();
        reads.record(&header, &again, &mut twice);
        assert_eq!(twice, record, "what is read of it is the same");
        again
    }

    #[test]
    fn what_is_not_read_comes_back_as_zeros() {
        let mut tail = vec![7; 16];
        write_part(&mut tail, 5, b"secret");
        write_part(&mut tail, 6, b"");
        write_part(&mut tail, 7, b"more secrets");
        assert_eq!(there_and_back(Reads::All, &tail, 16), tail);
        let head = there_and_back(Reads::Head, &tail, 16);
        assert!(head[..16] == tail[..16] && head[16..].iter().all(|&byte| byte == 0));
        let parts = there_and_back(Reads::Parts, &tail, 16);
        let read: Vec<_> = Parts::of(&parts[16..]).map(|part| (part.attribute, part.payload)).collect();
        assert_eq!(read, [(5, &[0; 6][..]), (6, &[]), (7, &[0; 12])]);
    }

    #[test]
    fn a_broken_batch_stays_broken_in_the_same_place() {
        let mut batch = Vec::new();
        write_part(&mut batch, 1, b"hello");
        write_part(&mut batch, 2, b"world and all");
        for len in 0..=batch.len() {
            let again = there_and_back(Reads::Parts, &batch[..len], 0);
            assert_eq!(Parts::of(&again).count_whole(), Parts::of(&batch[..len]).count_whole(), "{len}");
        }
        there_and_back(Reads::Parts, &[0xff; 100], 0);
    }

    #[test]
    fn a_record_of_another_frame_is_none() {
        let header = header(&[0; 32], 16);
        for reads in [Reads::All, Reads::Head, Reads::Parts] {
            assert_eq!(reads.rebuild(&header, &[0; 8]), None);
            assert_eq!(reads.rebuild(&header, &[0; 100]), None);
        }
    }
}
