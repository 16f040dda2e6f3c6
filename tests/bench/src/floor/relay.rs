//! The bare relay, the floor of every brokered message: a third process between the two that waits in
//! epoll (level triggered), receives, and sends on. It looks at nothing and knows nobody.

use super::unix::{Ends, stream_pair};
use crate::candidate::{Candidate, Kind, Mode, Sample, Session, Site, measure_pair, patience};
use crate::process::Role;
use crate::work::{Budget, Tally, Work};
use anyhow::{Context, Result, ensure};
use rustix::event::epoll;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

/// The floor.
pub struct Relay;

/// What one `recvmsg` of the relay may fetch: the best of 16 KiB to 1 MiB for each, because a floor is
/// the least that it takes. Measured on the machine of DESIGN 10, pinned, with 64 KiB and 1 MiB: calls of
/// 64 B 22.8 and 25.5 us, one way 34 and 29 M/s, calls of 1 MiB 620 and 575 us.
fn buffer_size(work: Work) -> usize {
    if work == Work::Large { 1 << 20 } else { 64 << 10 }
}

impl Candidate for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    fn kind(&self) -> Kind {
        Kind::Floor
    }

    fn describe(&self) -> String {
        "three processes; the middle one: epoll_wait, recvmsg, sendmsg".to_string()
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Running { site }))
    }
}

struct Running<'a> {
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let (near, near_relayed) = stream_pair()?;
        let (far, far_relayed) = stream_pair()?;
        let mut relay = Role::fork("relay", &self.site.cpus, patience(budget), |reporter| {
            let poller = watch(&near_relayed, &far_relayed)?;
            reporter.ready()?;
            relay_for_ever(&poller, &near_relayed, &far_relayed, vec![0; buffer_size(work)])
        })?;
        relay.wait_ready()?;
        measure_pair(&Ends((near, far)), self.site, work, budget)
    }
}

const NEAR: u64 = 0;
const FAR: u64 = 1;

fn watch(near: &OwnedFd, far: &OwnedFd) -> Result<OwnedFd> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
    for (fd, which) in [(near, NEAR), (far, FAR)] {
        epoll::add(&poller, fd, epoll::EventData::new_u64(which), epoll::EventFlags::IN).context("epoll")?;
    }
    Ok(poller)
}

/// Its sends block: both ends always read what they are sent before they send more, so no two wait
/// for each other, and a relay that could not wait would need a queue.
fn relay_for_ever(poller: &OwnedFd, near: &OwnedFd, far: &OwnedFd, mut buffer: Vec<u8>) -> Result<Tally> {
    let mut events = Vec::with_capacity(2);
    loop {
        events.clear();
        epoll::wait(poller, rustix::buffer::spare_capacity(&mut events), None).context("epoll_wait")?;
        for event in &events {
            let (from, to) = if event.data.u64() == NEAR { (near, far) } else { (far, near) };
            relay_once(from, to, &mut buffer)?;
        }
    }
}

fn relay_once(from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> Result<()> {
    let mut nothing_passed = RecvAncillaryBuffer::default();
    let received = recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut nothing_passed, RecvFlags::empty())
        .context("recvmsg")?
        .bytes;
    ensure!(received > 0, "an end of the relay was closed");
    let mut sent = 0;
    while sent < received {
        let rest = [IoSlice::new(&buffer[sent..received])];
        sent += sendmsg(to, &rest, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
            .context("sendmsg")?;
    }
    Ok(())
}
