//! The client of the socket floors: messages of one known size, back to back, with no header at all.

use crate::stream::Stream;
use crate::work::Port;
use anyhow::Result;

/// The client.
pub struct FixedSize {
    stream: Stream,
    size: usize,
}

impl FixedSize {
    /// Speaks messages of `size` bytes over `stream`.
    pub fn new(stream: Stream, size: usize) -> FixedSize {
        FixedSize { stream, size }
    }

    /// Waits for at least one whole message; says how many bytes of whole messages there are.
    fn wait_whole(&mut self) -> Result<usize> {
        while self.stream.inward().unread().len() < self.size {
            self.stream.fill()?;
        }
        let arrived = self.stream.inward().unread().len();
        Ok(arrived - arrived % self.size)
    }
}

impl Port for FixedSize {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.stream.outward().payload(message, &[])
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.outward().flush()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let whole = self.wait_whole()?;
        for message in self.stream.inward().unread()[..whole].chunks_exact(self.size) {
            each(message)?;
        }
        self.stream.inward().consume(whole);
        Ok(())
    }

    fn echo(&mut self) -> Result<()> {
        let whole = self.wait_whole()?;
        let (inward, mut outward) = self.stream.split();
        outward.send_behind(&inward.unread()[..whole], &[])?;
        inward.consume(whole);
        Ok(())
    }
}
