//! A blocking byte stream with one buffer each way: what all hand-written clients stand on. One
//! `recv` fetches whatever has arrived, one `send` takes whatever was queued.

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Queued bytes go out when this much has gathered.
const FLUSH_AT: usize = 64 * 1024;
/// A payload of this size is not copied behind its header but sent from where it lies.
const LARGE: usize = 16 * 1024;

/// The stream.
pub struct Stream {
    fd: OwnedFd,
    inward: Inward,
    out: Vec<u8>,
}

/// Received bytes. Apart from [`Stream`] so that a message can be read while an answer is queued.
pub struct Inward {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inward {
    /// What has arrived and was not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks `count` bytes as read.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "consumed more than had arrived");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Takes the next whole line without its CR LF, if it has arrived.
    pub fn line(&self) -> Option<&[u8]> {
        let end = self.unread().iter().position(|byte| *byte == b'\n')?;
        Some(self.unread()[..end].strip_suffix(b"\r").unwrap_or(&self.unread()[..end]))
    }
}

impl Stream {
    /// Takes over a connected socket.
    pub fn new(fd: OwnedFd) -> Stream {
        Stream { fd, inward: Inward { bytes: vec![0; 256 * 1024], start: 0, end: 0 }, out: Vec::new() }
    }

    /// Connects to a Unix socket.
    pub fn unix(path: &Path) -> Result<Stream> {
        let stream =
            UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
        Ok(Stream::new(stream.into()))
    }

    /// Connects to a loopback port, without Nagle's delay.
    pub fn loopback(port: u16) -> Result<Stream> {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("connecting to port {port}"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        Ok(Stream::new(stream.into()))
    }

    /// What has arrived.
    pub fn inward(&mut self) -> &mut Inward {
        &mut self.inward
    }

    /// What has arrived, and the queue for answers to it.
    pub fn split(&mut self) -> (&mut Inward, Outward<'_>) {
        (&mut self.inward, Outward { fd: &self.fd, out: &mut self.out })
    }

    /// The queue.
    pub fn outward(&mut self) -> Outward<'_> {
        Outward { fd: &self.fd, out: &mut self.out }
    }

    /// Waits for more bytes: one `recv`.
    pub fn fill(&mut self) -> Result<()> {
        let inward = &mut self.inward;
        if inward.end == inward.bytes.len() {
            // The message that lies here goes on beyond the buffer: to the front with it, or a larger buffer.
            if inward.start > 0 {
                inward.bytes.copy_within(inward.start..inward.end, 0);
                (inward.start, inward.end) = (0, inward.end - inward.start);
            } else {
                inward.bytes.resize(inward.bytes.len() * 2, 0);
            }
        }
        let count = loop {
            match recv(&self.fd, &mut inward.bytes[inward.end..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                other => break other.context("receiving")?.0,
            }
        };
        ensure!(count > 0, "the other side closed the connection");
        inward.end += count;
        Ok(())
    }

    /// Waits for the next line, hands it to `use_line` and consumes it.
    pub fn next_line<T>(&mut self, use_line: impl FnOnce(&[u8]) -> T) -> Result<T> {
        while self.inward.line().is_none() {
            self.fill()?;
        }
        let line = self.inward.line().expect("a line has arrived");
        let result = use_line(line);
        let length = self.inward.unread().iter().position(|byte| *byte == b'\n').expect("its end") + 1;
        self.inward.consume(length);
        Ok(result)
    }
}

/// The sending half.
pub struct Outward<'a> {
    fd: &'a OwnedFd,
    out: &'a mut Vec<u8>,
}

impl Outward<'_> {
    /// Where headers are written.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Queues a payload and what follows it; a large one goes out at once, uncopied.
    pub fn payload(&mut self, payload: &[u8], tail: &[u8]) -> Result<()> {
        if payload.len() >= LARGE {
            self.send_behind(payload, tail)
        } else {
            self.out.extend_from_slice(payload);
            self.out.extend_from_slice(tail);
            if self.out.len() >= FLUSH_AT { self.flush() } else { Ok(()) }
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<()> {
        if self.out.is_empty() { Ok(()) } else { self.send_behind(&[], &[]) }
    }

    /// Sends what is queued, then `payload`, then `tail`, without copying them.
    pub fn send_behind(&mut self, payload: &[u8], tail: &[u8]) -> Result<()> {
        let total = self.out.len() + payload.len() + tail.len();
        let mut sent = 0;
        while sent < total {
            let mut skip = sent;
            let mut rest = [self.out.as_slice(), payload, tail];
            for part in &mut rest {
                let gone = skip.min(part.len());
                *part = &part[gone..];
                skip -= gone;
            }
            let rest = rest.map(IoSlice::new);
            match sendmsg(self.fd.as_fd(), &rest, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.out.clear();
        Ok(())
    }
}
