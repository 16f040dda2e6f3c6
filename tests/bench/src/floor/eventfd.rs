//! Two processes that wake each other through two eventfds: the floor of a blocking wake-up. No
//! payload; the number written is the number of the call, so a lost wake-up is noticed.

use crate::candidate::{Candidate, Kind, Mode, Sample, Session, Site, call_sample, patience};
use crate::process::{Role, wait_done};
use crate::work::{Budget, Port, Work, call_one_by_one};
use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::OwnedFd;

/// The floor.
pub struct Eventfd;

impl Candidate for Eventfd {
    fn name(&self) -> &'static str {
        "eventfd"
    }

    fn kind(&self) -> Kind {
        Kind::Floor
    }

    fn describe(&self) -> String {
        "two processes wake each other, no payload".to_string()
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work == Work::Call
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
        let there = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?;
        let back = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?;
        let mut echo = Role::fork("echo process", &self.site.cpus, patience(budget), |_| {
            loop {
                let number = read_number(&there)?;
                write_number(&back, number)?;
            }
        })?;
        let mut caller = Role::fork("caller", &self.site.cpus, patience(budget), |_| {
            call_one_by_one(&mut Bell { there: &there, back: &back, number: 0 }, 8, budget)
        })?;
        let tallies = wait_done(&mut [&mut caller], &mut [&mut echo])?;
        Ok(Sample { per_second: None, ..call_sample(tallies[0], work) })
    }
}

/// A port whose whole message is its number: an eventfd carries eight bytes.
struct Bell<'a> {
    there: &'a OwnedFd,
    back: &'a OwnedFd,
    number: u64,
}

impl Port for Bell<'_> {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.number = u64::from_le_bytes(message.try_into().context("eight bytes")?);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        // Zero would not wake anybody, so every number travels one higher.
        write_number(self.there, self.number + 1)
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let number = read_number(self.back)? - 1;
        each(&number.to_le_bytes())
    }

    fn echo(&mut self) -> Result<()> {
        unreachable!("the echo process is a loop of its own")
    }
}

fn read_number(fd: &OwnedFd) -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::io::read(fd, &mut bytes).context("reading an eventfd")?;
    Ok(u64::from_ne_bytes(bytes))
}

fn write_number(fd: &OwnedFd, number: u64) -> Result<()> {
    rustix::io::write(fd, &number.to_ne_bytes()).context("writing an eventfd")?;
    Ok(())
}
