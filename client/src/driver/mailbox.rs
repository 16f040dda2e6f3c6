//! Where the ends of one pipeline's calls come together, until they are handed over.
//!
//! Short replies lie side by side in one buffer: nothing is made of them before somebody wants them, and
//! nothing large is moved. Their calls have no tickets; the session's `tag` says whose they are.

use super::state::{Guard, Shared, State};
use super::ticket::End;
use super::wait::{Awaits, Until};

/// Longer replies are kept as they are handed over, so that they are not copied twice.
const SHORT_BYTES: usize = 1 << 10;

/// Tags of tickets never have this bit.
const MAIL: u64 = 1 << 63;

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    mail: Vec<Mail>,
    /// The payloads of the short replies, in their order.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Mail {
    call: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    /// So many bytes more of the buffer.
    Short {
        epoch: u64,
        len: u32,
    },
    Other(Box<End>),
}

/// How a call has ended.
pub(crate) enum Ended<'a> {
    /// By a reply of nothing but its payload, which is still where it came to lie.
    Short {
        epoch: u64,
        payload: &'a [u8],
    },
    Other(End),
}

/// Names a call of a pipeline: which mailbox, and the pipeline's number of the call. One word, which is
/// the session's `tag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MailId {
    pub(crate) mailbox: u32,
    pub(crate) call: u32,
}

impl MailId {
    #[inline]
    pub(crate) fn to_tag(self) -> u64 {
        MAIL | u64::from(self.mailbox) << 32 | u64::from(self.call)
    }

    /// `None` for the tag of a ticket.
    #[inline]
    pub(crate) fn of_tag(tag: u64) -> Option<Self> {
        (tag & MAIL != 0).then_some(Self { mailbox: ((tag & !MAIL) >> 32) as u32, call: tag as u32 })
    }
}

impl Mailbox {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.mail.is_empty()
    }

    /// How many ends there are.
    pub(crate) fn len(&self) -> usize {
        self.mail.len()
    }

    /// Whether a reply is kept by [`Mailbox::put_short`].
    #[inline]
    pub(super) fn is_short(payload: &[u8]) -> bool {
        payload.len() <= SHORT_BYTES
    }

    /// A reply that says nothing but its payload.
    #[inline]
    pub(super) fn put_short(&mut self, call: u32, epoch: u64, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.mail.push(Mail { call, what: What::Short { epoch, len: payload.len() as u32 } });
    }

    pub(super) fn put(&mut self, call: u32, end: End) {
        self.mail.push(Mail { call, what: What::Other(Box::new(end)) });
    }

    /// Takes every end out, with its call.
    #[inline]
    pub(crate) fn hand_over(&mut self, mut each: impl FnMut(u32, Ended<'_>)) {
        let mut rest = &self.bytes[..];
        for Mail { call, what } in self.mail.drain(..) {
            // One call of `each`, so that it is inlined: moving what it is given costs more than the rest.
            let end = match what {
                What::Short { epoch, len } => {
                    let (payload, after) = rest.split_at(len as usize);
                    rest = after;
                    Ended::Short { epoch, payload }
                }
                What::Other(end) => Ended::Other(*end),
            };
            each(call, end);
        }
        self.bytes.clear();
    }
}

impl Shared {
    /// Waits until a pipeline's calls have ended, at least one, and takes all ends that there are.
    pub(crate) fn wait_mail(&self, state: Guard<'_>, slot: u32, ended: &mut Mailbox) {
        let (state, _) = self.wait(
            state,
            Until::CallEnds,
            Awaits::Mailbox(slot),
            |_, _| {},
            |state| {
                let mailbox = state.mailboxes[slot as usize].as_mut().expect("this pipeline's own");
                if mailbox.is_empty() {
                    return None;
                }
                std::mem::swap(mailbox, ended);
                Some(())
            },
        );
        self.release(state);
    }

    /// A pipeline is gone.
    pub(crate) fn close_mailbox(&self, slot: u32) {
        let mut state = self.lock();
        state.remove_mailbox(slot);
        self.write_and_release(state);
    }
}

impl State {
    /// Room for a pipeline's ends.
    pub(crate) fn add_mailbox(&mut self) -> u32 {
        let free = self.mailboxes.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.mailboxes.push(None);
            self.mailboxes.len() - 1
        });
        self.mailboxes[slot] = Some(Mailbox::default());
        slot as u32
    }

    /// The pipeline is gone: its open calls are given up, and what has come is given back.
    fn remove_mailbox(&mut self, slot: u32) {
        let mailbox = self.mailboxes[slot as usize].take();
        mailbox.unwrap_or_default().hand_over(|_, end| {
            if let Ended::Other(Ok(reply)) = end {
                for entry in reply.handles {
                    self.discard_handle(entry.handle, reply.connection);
                }
            }
        });
        self.session.forget_all(|tag| MailId::of_tag(tag).is_some_and(|mail| mail.mailbox == slot));
    }

    /// Ends a call of a pipeline.
    pub(crate) fn end_mail(&mut self, mail: MailId, end: End) {
        self.post(mail, |mailbox, call| mailbox.put(call, end));
    }

    #[inline]
    pub(super) fn post(&mut self, mail: MailId, put: impl FnOnce(&mut Mailbox, u32)) {
        let Some(Some(mailbox)) = self.mailboxes.get_mut(mail.mailbox as usize) else { return };
        let was_empty = mailbox.is_empty();
        put(mailbox, mail.call);
        if was_empty {
            self.wake_awaiting(Awaits::Mailbox(mail.mailbox));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallError, Payload};

    #[test]
    fn ends_are_handed_over_as_they_came() {
        let mut mailbox = Mailbox::default();
        mailbox.put_short(3, 7, b"three");
        mailbox.put(1, Err(CallError::not_connected("why")));
        mailbox.put_short(0, 8, b"");
        mailbox.put_short(2, 9, &[5; SHORT_BYTES]);
        assert_eq!(mailbox.len(), 4);
        let mut seen = Vec::new();
        mailbox.hand_over(|call, end| {
            let end = match end {
                Ended::Short { epoch, payload } => Ok((epoch, Payload::copy_from(payload))),
                Ended::Other(end) => end.map(|reply| (reply.epoch, reply.payload)),
            };
            seen.push((call, end));
        });
        assert!(mailbox.is_empty() && mailbox.bytes.is_empty());
        let calls: Vec<u32> = seen.iter().map(|(call, _)| *call).collect();
        assert_eq!(calls, [3, 1, 0, 2]);
        assert!(seen[1].1.is_err());
        assert_eq!(seen[0].1, Ok((7, Payload::from("three"))));
        assert_eq!(seen[2].1, Ok((8, Payload::new())));
        assert_eq!(seen[3].1, Ok((9, Payload::copy_from(&[5; SHORT_BYTES]))));
    }

    #[test]
    fn tags_of_mail_are_not_those_of_tickets() {
        let mail = MailId { mailbox: 0x7FFF_FFFF, call: u32::MAX };
        assert_eq!(MailId::of_tag(mail.to_tag()), Some(mail));
        assert_eq!(MailId::of_tag(!MAIL), None);
    }
}
