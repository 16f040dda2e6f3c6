//! The reactor's reading half: one bounded read a link and turn, cut into frames and handed in. (A second
//! one where the first was only to see that a large frame comes.)

use std::io;
use std::rc::Rc;

use switchboard_core::{Breach, Input};
use switchboard_protocol::{FrameError, Header, Kind, PeerId};
use switchboard_transport::{Fds, Interest, Received};

use crate::buffer::{Slice, TURN_BYTES};
use crate::incoming::{Cut, Incoming, Window};
use crate::reactor::Reactor;

/// What a read came to.
enum Read {
    Bytes,
    /// As much as shows the header of a large frame, which was expected.
    Head,
    /// Nothing is there now.
    Nothing,
    /// The end of the stream, or an error that is one.
    Over,
}

impl Reactor {
    /// Reads a link once and hands in what came.
    pub(crate) fn read(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if !link.may_be_heard() {
            return self.do_not_read(peer);
        }
        let hung_up = link.hung_up;
        let mut incoming = std::mem::take(&mut link.incoming);
        let mut read = match incoming.large_room() {
            Some(_) => self.read_large(peer, &mut incoming),
            None => self.read_turn(peer, &mut incoming),
        };
        if let Ok(Read::Head) = read {
            let heard = self.links.get_mut(peer).is_some_and(|link| link.may_be_heard());
            read = match incoming.large_room() {
                Some(_) if heard => self.read_large(peer, &mut incoming),
                _ => Ok(Read::Bytes),
            };
            // What the first one brought was something.
            if let Ok(Read::Nothing) = read {
                read = Ok(Read::Bytes);
            }
        }
        if let Some(link) = self.links.get_mut(peer) {
            link.incoming = incoming;
        }
        match read {
            Ok(Read::Bytes | Read::Head) if hung_up => self.revisit.push(peer),
            Ok(Read::Bytes | Read::Head) => {}
            // Its end was seen from the writing side; there is nothing more to come.
            Ok(Read::Nothing) if hung_up => self.depart(peer),
            Ok(Read::Nothing) => {}
            Ok(Read::Over) => self.depart(peer),
            Err(breach) => {
                self.close_fds();
                self.broken(peer, breach);
            }
        }
        if self.buffers.crowded() {
            self.write_touched();
        }
    }

    /// Reads into the turn buffer, and cuts.
    fn read_turn(&mut self, peer: PeerId, incoming: &mut Incoming) -> Result<Read, Breach> {
        let held = if incoming.held() > 0 { incoming.unstash(&mut self.buffers) } else { 0 };
        let room = incoming.turn_room();
        let Some(link) = self.links.get_mut(peer) else { return Ok(Read::Nothing) };
        let (read, fresh) = if held > TURN_BYTES / 2 {
            // After a pause whole frames may wait; they come first.
            (Ok(Read::Bytes), 0)
        } else {
            let end = TURN_BYTES.min(held + room);
            let received = link.stream.recv(&mut self.buffers.turn_mut()[held..end], &mut self.fds);
            classify(received, &self.fds)
        };
        self.cut(peer, incoming, Window { at: 0, end: held + fresh });
        match read {
            Ok(Read::Bytes) if held == 0 && fresh == room => Ok(Read::Head),
            read => read,
        }
    }

    /// Reads into the buffer of a large frame.
    fn read_large(&mut self, peer: PeerId, incoming: &mut Incoming) -> Result<Read, Breach> {
        let Some(link) = self.links.get_mut(peer) else { return Ok(Read::Nothing) };
        let room = incoming.large_room().expect("a large frame is being received");
        let (read, bytes) = classify(link.stream.recv(room, &mut self.fds), &self.fds);
        if let Ok(Read::Bytes) = read {
            self.take_large(peer, incoming, bytes);
        }
        read
    }

    /// A link that is not to be heard was reported as readable.
    fn do_not_read(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if link.hung_up && !link.admitted {
            // It left before it was let in.
            return self.depart(peer);
        }
        if let Some(asked) = link.asked
            && asked.readable
            && !link.closing
        {
            self.ask(peer, Interest { readable: false, ..asked });
        }
    }

    /// Hands in the frames of a window of the turn buffer, and keeps what is left of it.
    fn cut(&mut self, peer: PeerId, incoming: &mut Incoming, mut window: Window) {
        let turn = Rc::clone(self.buffers.turn());
        let mut header = Header::new(Kind::Goodbye);
        // One for all frames of the window: each is lent to the core, which clones what it keeps.
        let mut tail = Slice::new(&turn, 0, window.end);
        while self.links.get_mut(peer).is_some_and(|link| link.may_be_heard()) {
            match self.cut_while_heard(peer, incoming, &turn, &mut window, &mut header, &mut tail) {
                Ok(Cut::Frame) => {}
                Ok(Cut::Oversized) => self.handle(Input::Oversized { from: peer, header }),
                Ok(Cut::Large(bytes)) => {
                    if self.admit(peer, bytes) {
                        drop(tail);
                        incoming.begin_large(bytes, &mut window, &mut self.buffers);
                    } else if self.links.get_mut(peer).is_some_and(|link| link.hung_up) {
                        // It does not stay to wait for room.
                        return self.depart(peer);
                    }
                    break;
                }
                Ok(Cut::More) => break,
                Err(error) => {
                    self.broken(peer, Breach::Frame(error));
                    return;
                }
            }
        }
        // What comes after a broken or last frame is nobody's.
        if self.links.get_mut(peer).is_some_and(|link| !link.deaf) {
            incoming.stash(window, &mut self.buffers);
        }
    }

    /// Hands in frames up to what is none, or up to one with which the core asked for more than that frames
    /// be sent: it may be that the link is not to be heard any more.
    #[inline(always)]
    fn cut_while_heard(
        &mut self,
        peer: PeerId,
        incoming: &mut Incoming,
        turn: &Rc<Vec<u8>>,
        window: &mut Window,
        header: &mut Header,
        tail: &mut Slice,
    ) -> Result<Cut, FrameError> {
        let payload_bytes_max = self.core.payload_bytes_max() as usize;
        loop {
            let next = incoming.next(turn, window, header, payload_bytes_max)?;
            let Cut::Frame = next else { return Ok(next) };
            let is_all = if header.tail_len() == 0 {
                self.frame(peer, header, &Slice::Empty)
            } else {
                tail.aim(window.tail_of(header), header.tail_len());
                self.frame(peer, header, tail)
            };
            if !is_all {
                return Ok(next);
            }
        }
    }

    fn take_large(&mut self, peer: PeerId, incoming: &mut Incoming, bytes: usize) {
        let mut header = Header::new(Kind::Goodbye);
        match incoming.large_received(bytes, &mut header, &mut self.buffers) {
            Ok(Some(tail)) => {
                self.frame(peer, &mut header, &tail);
            }
            Ok(None) => {}
            Err(error) => self.broken(peer, Breach::Frame(error)),
        }
    }
}

/// What a read came to, and how many bytes it brought.
fn classify(received: io::Result<Received>, fds: &Fds) -> (Result<Read, Breach>, usize) {
    let read = match received {
        // SPEC 2.8: no frame of this version carries descriptors.
        _ if !fds.is_empty() => Err(Breach::FileDescriptors),
        Ok(Received { truncated: true, .. }) => Err(Breach::FileDescriptors),
        Ok(Received { bytes: 0, .. }) => Ok(Read::Over),
        Ok(Received { bytes, .. }) => return (Ok(Read::Bytes), bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(Read::Nothing)
        }
        Err(_) => Ok(Read::Over),
    };
    (read, 0)
}
