//! One connection, and the table of all of them.
//!
//! A link that is idle is a socket and the numbers below: no buffer belongs to it.

use std::os::fd::OwnedFd;

use switchboard_protocol::PeerId;
use switchboard_transport::{Interest, Stream};

use crate::incoming::Incoming;
use crate::out_queue::OutQueue;

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerId,
    pub(crate) pid: u32,
    pub(crate) stream: Stream,
    pub(crate) incoming: Incoming,
    pub(crate) out: OutQueue,
    /// What the poller is asked for; it lags behind what is wanted, to save system calls. `None`
    /// while it does not watch this link.
    pub(crate) asked: Option<Interest>,
    /// The last write came back short; the poller tells when there is room.
    pub(crate) blocked: bool,
    /// Its socket takes a large frame in one write: asked for when one first did not fit.
    pub(crate) roomy: bool,
    /// Written since the core was last told.
    pub(crate) wrote: usize,
    /// The core has let it in: it may be read.
    pub(crate) admitted: bool,
    /// The core wants no more from it for now.
    pub(crate) paused: bool,
    /// The peer has gone; what it still sent is read to the end, paused or not.
    pub(crate) hung_up: bool,
    /// Nothing more can be read from it: it ends, or its stream is broken.
    pub(crate) deaf: bool,
    /// Nothing more can be written to it.
    pub(crate) mute: bool,
    /// To be closed once its queue was written as far as it goes.
    pub(crate) closing: bool,
    /// In the list of links to write.
    pub(crate) touched: bool,
    /// Its process, whose exit status is waited for.
    pub(crate) mourned: Option<OwnedFd>,
}

impl Link {
    /// A new connection, not read yet and not with the poller.
    pub(crate) fn new(peer: PeerId, pid: u32, stream: Stream) -> Self {
        Self {
            peer,
            pid,
            stream,
            incoming: Incoming::default(),
            out: OutQueue::default(),
            asked: None,
            blocked: false,
            roomy: false,
            wrote: 0,
            admitted: false,
            paused: false,
            hung_up: false,
            deaf: false,
            mute: false,
            closing: false,
            touched: false,
            mourned: None,
        }
    }

    /// Whether frames may be handed in.
    pub(crate) fn may_be_heard(&self) -> bool {
        self.admitted && !self.deaf && self.mourned.is_none() && (self.hung_up || !self.paused)
    }
}

/// All connections, by slot. A slot is used again with the next generation, so that an id is never
/// used twice.
#[derive(Debug, Default)]
pub(crate) struct Links {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    /// Those whose socket takes a large frame in one write.
    roomy: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    link: Option<Box<Link>>,
}

impl Links {
    /// Adds a connection and gives it its id.
    pub(crate) fn add(&mut self, pid: u32, stream: Stream) -> PeerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, link: None });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.generation += 1;
        let peer = PeerId { slot, generation: entry.generation };
        entry.link = Some(Box::new(Link::new(peer, pid, stream)));
        self.count += 1;
        peer
    }

    /// The connection of that id, if it is still there.
    #[inline]
    pub(crate) fn get_mut(&mut self, peer: PeerId) -> Option<&mut Link> {
        self.slots.get_mut(peer.slot as usize)?.link.as_deref_mut().filter(|link| link.peer == peer)
    }

    /// Removes a connection. Its slot stays taken until [`Links::forget`].
    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<Box<Link>> {
        self.roomy -= usize::from(self.get_mut(peer)?.roomy);
        self.count -= 1;
        self.slots[peer.slot as usize].link.take()
    }

    /// The slot of a removed connection may be used again.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        let slot = &self.slots[peer.slot as usize];
        assert!(slot.link.is_none() && slot.generation == peer.generation, "{peer} was removed before");
        // After 2^32 users a slot retires, rather than use an id twice.
        if slot.generation < u32::MAX {
            self.free.push(peer.slot);
        }
    }

    /// Has a link's socket take a large frame in one write, unless too many do already.
    pub(crate) fn make_roomy(&mut self, peer: PeerId) {
        let is_room = self.roomy < ROOMY_MAX;
        let Some(link) = self.get_mut(peer).filter(|link| is_room && !link.roomy) else { return };
        // Where the system does not let us have it, large frames take more writes.
        let _ = link.stream.set_send_buffer(SEND_BUFFER_BYTES);
        link.roomy = true;
        self.roomy += 1;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

/// What is asked of a socket by which large frames leave: as much as clients ask of theirs, and for the same
/// reason.
const SEND_BUFFER_BYTES: usize = 288 << 10;

/// Links that may have it at once: kernel memory that peers who do not read hold back.
const ROOMY_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_used_twice() {
        let mut links = Links::default();
        let stream = || Stream::pair().expect("a pair").0;
        let (first, second) = (links.add(0, stream()), links.add(0, stream()));
        assert_ne!(first.slot, second.slot);
        assert!(links.remove(first).is_some());
        assert!(links.get_mut(first).is_none() && links.remove(first).is_none());
        assert_eq!(links.add(0, stream()).slot, 2, "the slot is taken until it is forgotten");
        links.forget(first);
        let third = links.add(0, stream());
        assert_eq!((third.slot, third.generation), (first.slot, first.generation + 1));
        assert!(links.get_mut(first).is_none() && links.get_mut(third).is_some());
        assert_eq!(links.len(), 3);
    }

    #[test]
    fn few_links_hold_much_kernel_memory_and_leave_it_to_others() {
        let mut links = Links::default();
        let peers: Vec<PeerId> =
            (0..ROOMY_MAX + 1).map(|_| links.add(0, Stream::pair().expect("a pair").0)).collect();
        for &peer in &peers {
            links.make_roomy(peer);
            links.make_roomy(peer);
        }
        let mut is_roomy = |peer| links.get_mut(peer).expect("it is there").roomy;
        assert!(is_roomy(peers[ROOMY_MAX - 1]) && !is_roomy(peers[ROOMY_MAX]));
        links.remove(peers[0]);
        links.make_roomy(peers[ROOMY_MAX]);
        assert!(links.get_mut(peers[ROOMY_MAX]).expect("it is there").roomy);
    }

    #[test]
    fn an_idle_link_is_small() {
        let bytes = size_of::<Link>() + size_of::<Slot>();
        assert!(bytes <= 320, "{bytes} bytes");
    }
}
