//! The reactor's writing half: one vectored write a touched link and turn.

use std::io::{self, IoSlice};

use switchboard_core::Input;
use switchboard_protocol::PeerId;
use switchboard_transport::Interest;

use crate::out_queue::PIECES_MAX;
use crate::reactor::{Reactor, recycle};

impl Reactor {
    /// Writes what waits for each touched link, as far as it goes, and closes those to be closed.
    pub(crate) fn write_touched(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let mut left_over = std::mem::take(&mut self.buffers.left_over);
        for &peer in &touched {
            self.write(peer);
        }
        recycle(&mut self.touched, touched);
        // Who has taken something meanwhile and not all is in the new list. To the others it may not go for
        // a while.
        for (peer, bytes) in left_over.drain(..) {
            if let Some(link) = self.links.get_mut(peer)
                && link.out.bytes() >= bytes
            {
                link.out.trim();
            }
        }
        if self.buffers.left_over.is_empty() {
            self.buffers.left_over = left_over;
        }
    }

    /// Tells the core what was written.
    pub(crate) fn report_written(&mut self) {
        let reports = std::mem::take(&mut self.reports);
        for &peer in &reports {
            let Some(link) = self.links.get_mut(peer) else { continue };
            let bytes = std::mem::take(&mut link.wrote);
            self.handle(Input::Wrote { peer, bytes });
        }
        recycle(&mut self.reports, reports);
    }

    fn write(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else { return };
        link.touched = false;
        let mut is_cramped = false;
        if link.out.bytes() > 0 && !link.blocked && !link.mute {
            let sent = match link.out.plain() {
                Some(run) => link.stream.send(&[IoSlice::new(run)], &[]),
                None => {
                    let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
                    let count = link.out.pieces(&mut pieces);
                    link.stream.send(&pieces[..count], &[])
                }
            };
            match sent {
                Ok(bytes) => {
                    link.out.written(bytes, &mut self.buffers);
                    if link.wrote == 0 {
                        self.reports.push(peer);
                    }
                    link.wrote += bytes;
                    if link.out.bytes() > 0 {
                        self.buffers.left_over.push((peer, link.out.bytes()));
                        is_cramped = !link.roomy && link.out.plain().is_none();
                    }
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    link.out.trim();
                }
                Err(_) => {
                    // Nobody reads any more. What the peer has sent is still read to its end.
                    link.mute = true;
                    link.hung_up = true;
                    self.revisit.push(peer);
                }
            }
        }
        if link.mute {
            link.out.clear(&mut self.buffers);
        }
        if link.closing {
            return self.depart(peer);
        }
        let Some(asked) = link.asked else { return };
        let waits = link.out.bytes() > 0;
        link.blocked = waits;
        if is_cramped {
            self.links.make_roomy(peer);
        }
        if asked.writable != waits {
            self.ask(peer, Interest { writable: waits, ..asked });
        }
    }
}
