//! One connected Unix stream socket.
//!
//! Always `recvmsg`: a plain `read` silently drops the descriptors that came along. What is one piece and
//! has none leaves by `send`, which saves the kernel the reading of two structures.
//! The socket itself stays in blocking mode; whether a call waits is said call by call.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{self, RecvFlags, ReturnFlags, SendFlags, sockopt};

use super::fds::{FDS_MAX, Fds};
use super::poller::Interest;
use super::timespec;
use super::waker::Waker;

/// A connected stream socket.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes written to the front of the buffer; 0 is the end of the stream.
    pub bytes: usize,
    /// Descriptors were sent that did not arrive: more than [`FDS_MAX`], or this process has no
    /// free descriptor. What belongs to what is lost, so the connection cannot go on.
    pub truncated: bool,
}

/// What [`Stream::wait`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read will not block.
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The peer is gone or has closed its end.
    pub hangup: bool,
    /// The waker given to [`Stream::wait_or_woken`] was woken.
    pub woken: bool,
}

impl Stream {
    /// Two ends of one connection in this process, for tests and for spawned children.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = net::socketpair(
            net::AddressFamily::UNIX,
            net::SocketType::STREAM,
            net::SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::from(one), Self::from(other)))
    }

    /// Receives what is there, without waiting; `WouldBlock` if nothing is. Descriptors that came
    /// along are appended to `fds`, close-on-exec.
    pub fn recv(&self, buffer: &mut [u8], fds: &mut Fds) -> io::Result<Received> {
        self.receive(buffer, fds, RecvFlags::DONTWAIT)
    }

    /// Receives, waiting for the first bytes, for at most the receive time-out if one is set
    /// (`WouldBlock` when it has passed).
    pub fn recv_wait(&self, buffer: &mut [u8], fds: &mut Fds) -> io::Result<Received> {
        loop {
            match self.receive(buffer, fds, RecvFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn receive(&self, buffer: &mut [u8], fds: &mut Fds, flags: RecvFlags) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = net::RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buffer)];
        let got = net::recvmsg(&self.fd, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
        let mut arrived = 0;
        for message in control.drain() {
            if let net::RecvAncillaryMessage::ScmRights(rights) = message {
                for fd in rights {
                    arrived += 1;
                    fds.push(fd);
                }
            }
        }
        // The kernel's alignment leaves room for one or two more than we asked room for.
        Ok(Received {
            bytes: got.bytes,
            truncated: got.flags.contains(ReturnFlags::CTRUNC) || arrived > FDS_MAX,
        })
    }

    /// Sends as much as the socket takes without waiting; `WouldBlock` if that is nothing. `fds`
    /// travel with the first byte, so a send that took anything took them all.
    ///
    /// # Panics
    ///
    /// With more than [`FDS_MAX`] descriptors: the caller counts them frame by frame.
    pub fn send(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.transmit(parts, fds, SendFlags::DONTWAIT)
    }

    /// Sends, waiting for room (for at most the send time-out, if one is set), and returns how many
    /// bytes went.
    pub fn send_wait(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            match self.transmit(parts, fds, SendFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn transmit(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<usize> {
        assert!(fds.len() <= FDS_MAX, "{} descriptors in one send", fds.len());
        let flags = flags | SendFlags::NOSIGNAL;
        if fds.is_empty() {
            if let [part] = parts {
                return Ok(net::send(&self.fd, part, flags)?);
            }
            return Ok(net::sendmsg(&self.fd, parts, &mut net::SendAncillaryBuffer::default(), flags)?);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = net::SendAncillaryBuffer::new(&mut space);
        let fits = control.push(net::SendAncillaryMessage::ScmRights(fds));
        assert!(fits, "room for {FDS_MAX} descriptors was made");
        Ok(net::sendmsg(&self.fd, parts, &mut control, flags)?)
    }

    /// Bounds [`Stream::recv_wait`]; `None` waits for ever.
    pub fn set_receive_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Recv, timeout.map(at_least_a_tick))?)
    }

    /// Bounds [`Stream::send_wait`]; `None` waits for ever.
    pub fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Send, timeout.map(at_least_a_tick))?)
    }

    /// How many bytes the kernel holds for the peer before a send comes back short. The kernel
    /// doubles the number for its own bookkeeping and caps it at `net.core.wmem_max`.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_send_buffer_size(&self.fd, bytes)?)
    }

    /// Waits until what `interest` names is possible, the peer hangs up, or `timeout` has passed
    /// (then nothing is set). A signal ends it early, with nothing set.
    pub fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<Readiness> {
        let mut fds = [PollFd::new(&self.fd, flags(interest))];
        wait(&mut fds, timeout)?;
        Ok(readiness(fds[0].revents()))
    }

    /// [`Stream::wait`], also ended by `waker`, which is then reset.
    pub fn wait_or_woken(
        &self,
        interest: Interest,
        waker: &Waker,
        timeout: Option<Duration>,
    ) -> io::Result<Readiness> {
        let mut fds = [PollFd::new(&self.fd, flags(interest)), PollFd::new(waker, PollFlags::IN)];
        wait(&mut fds, timeout)?;
        let woken = fds[1].revents().contains(PollFlags::IN);
        if woken {
            waker.reset();
        }
        Ok(Readiness { woken, ..readiness(fds[0].revents()) })
    }

    /// Ends both directions: the peer reads to the end of what was sent, whoever waits here wakes.
    pub fn shutdown(&self) -> io::Result<()> {
        Ok(net::shutdown(&self.fd, net::Shutdown::Both)?)
    }

    /// Ends our direction only: the peer reads to the end, and can still answer.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(net::shutdown(&self.fd, net::Shutdown::Write)?)
    }
}

impl From<OwnedFd> for Stream {
    /// The descriptor must be a connected stream socket; calls on another kind fail.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.fd
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn flags(interest: Interest) -> PollFlags {
    let mut flags = PollFlags::RDHUP;
    flags.set(PollFlags::IN, interest.readable);
    flags.set(PollFlags::OUT, interest.writable);
    flags
}

fn readiness(flags: PollFlags) -> Readiness {
    let hangup = flags.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
    Readiness {
        readable: hangup || flags.contains(PollFlags::IN),
        writable: flags.contains(PollFlags::OUT),
        hangup,
        woken: false,
    }
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    match poll(fds, timeout.map(timespec).as_ref()) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::INTR) => {
            fds.iter_mut().for_each(PollFd::clear_revents);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Zero means "for ever" to the kernel, which is the opposite of what is asked for.
fn at_least_a_tick(timeout: Duration) -> Duration {
    timeout.max(Duration::from_micros(1))
}
