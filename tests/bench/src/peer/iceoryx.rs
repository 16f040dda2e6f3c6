//! iceoryx2, which has no broker: memory shared directly between the two processes. A call is a message
//! each way over two publish-subscribe services, the least that the library offers. Full buffers make
//! the sender wait (its default would drop the oldest message).
//!
//! Two rows: `iceoryx2` sleeps on the library's event service; `iceoryx2-spin` polls on two cores.

use crate::candidate::{Candidate, Connect, Kind, Mode, Sample, Session, Site, measure_pair};
use crate::work::{Budget, End, Port, Work};
use anyhow::{Result, anyhow};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use std::fmt::Debug;

/// The peer, in one of its two ways of waiting.
pub struct Iceoryx {
    spin: bool,
}

impl Iceoryx {
    /// Blocking on its events.
    pub fn blocking() -> Iceoryx {
        Iceoryx { spin: false }
    }

    /// Polling on two cores.
    pub fn spinning() -> Iceoryx {
        Iceoryx { spin: true }
    }
}

impl Candidate for Iceoryx {
    fn name(&self) -> &'static str {
        if self.spin { "iceoryx2-spin" } else { "iceoryx2" }
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        let how = if self.spin { "polled on two cores" } else { "woken by its events" };
        format!("iceoryx2 0.10, no broker, {how}")
    }

    fn missing(&self) -> Option<String> {
        let cores = crate::floor::spin::all_cores().len();
        (self.spin && cores < 2).then(|| format!("iceoryx2-spin: needs two cores, the bench may use {cores}"))
    }

    fn does(&self, work: Work, mode: Mode) -> bool {
        // Two processes that poll on one core would only measure the scheduler's time slices.
        work.is_everybodys() && !(self.spin && mode == Mode::Pinned)
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Running { site, spin: self.spin }))
    }
}

struct Running<'a> {
    site: &'a Site,
    spin: bool,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let place = Place { config: config(self.site)?, spin: self.spin };
        let sample = measure_pair(&place, self.site, work, budget);
        // The processes were killed, so their shared memory is still there.
        crate::leftovers::remove_shared_memory(std::process::id());
        sample
    }
}

/// The library's default configuration, in a place of our own.
fn config(site: &Site) -> Result<Config> {
    let mut config = Config::default();
    config.global.prefix =
        FileName::new(crate::leftovers::shared_memory_prefix(std::process::id()).as_bytes()).map_err(said)?;
    let root = site.dir.join("iceoryx2");
    config.global.set_root_path(&Path::new(root.as_os_str().as_encoded_bytes()).map_err(said)?);
    Ok(config)
}

struct Place {
    config: Config,
    spin: bool,
}

/// Its errors are enums without a source.
fn said(error: impl Debug) -> anyhow::Error {
    anyhow!("iceoryx2: {error:?}")
}

/// How many messages fit between the two.
fn buffered(work: Work) -> usize {
    match work {
        Work::Call | Work::Large => 2,
        Work::InFlight => 128,
        // Four times what is sent between two wake-ups: the receiver never sleeps before a full buffer.
        Work::OneWay => 4096,
        Work::Publish | Work::FanOut | Work::Queue | Work::Durable | Work::Durable64 | Work::Durable256 => {
            unreachable!("{work:?} is not among what this candidate does")
        }
    }
}

impl Connect for Place {
    type Port = Client;

    fn open(&self, end: End, work: Work) -> Result<Client> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new()
            .config(&self.config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(said)?;
        let (there, back) = (format!("{}.there", work.name()), format!("{}.back", work.name()));
        let (outward, inward) = match end {
            End::Caller => (Some(there), Some(back)),
            End::Echo => (Some(back), Some(there)),
            End::Sender => (Some(there), None),
            End::Sink => (None, Some(there)),
        };
        Ok(Client {
            inward: inward.map(|name| Inward::open(&node, &name, work, self.spin)).transpose()?,
            outward: outward.map(|name| Outward::open(&node, &name, work, self.spin)).transpose()?,
            size: work.size(),
            _node: node,
        })
    }
}

type Messages = iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8], ()>;
type Events = iceoryx2::service::port_factory::event::PortFactory<ipc::Service>;

fn messages(node: &Node<ipc::Service>, name: &str, work: Work) -> Result<Messages> {
    node.service_builder(&name.try_into().map_err(said)?)
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(buffered(work))
        .subscriber_max_borrowed_samples(1)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
        .map_err(said)
}

fn events(node: &Node<ipc::Service>, name: &str) -> Result<Events> {
    node.service_builder(&name.try_into().map_err(said)?).event().open_or_create().map_err(said)
}

struct Inward {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    listener: Option<Listener<ipc::Service>>,
}

impl Inward {
    fn open(node: &Node<ipc::Service>, name: &str, work: Work, spin: bool) -> Result<Inward> {
        let subscriber = messages(node, name, work)?.subscriber_builder().create().map_err(said)?;
        let listener =
            if spin { None } else { Some(events(node, name)?.listener_builder().create().map_err(said)?) };
        Ok(Inward { subscriber, listener })
    }

    /// Waits for at least one message, then hands over every one that is there.
    fn each_message(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut taken = 0;
        loop {
            match self.subscriber.receive().map_err(said)? {
                Some(sample) => {
                    each(sample.payload())?;
                    taken += 1;
                }
                None if taken > 0 => return Ok(()),
                None => match &self.listener {
                    Some(listener) => drop(listener.blocking_wait(|_| ()).map_err(said)?),
                    None => std::hint::spin_loop(),
                },
            }
        }
    }
}

struct Outward {
    publisher: Publisher<ipc::Service, [u8], ()>,
    notifier: Option<Notifier<ipc::Service>>,
}

impl Outward {
    fn open(node: &Node<ipc::Service>, name: &str, work: Work, spin: bool) -> Result<Outward> {
        let publisher = messages(node, name, work)?
            .publisher_builder()
            .initial_max_slice_len(work.size())
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(said)?;
        let notifier =
            if spin { None } else { Some(events(node, name)?.notifier_builder().create().map_err(said)?) };
        Ok(Outward { publisher, notifier })
    }

    /// A full buffer makes the library wait, except while the receiver has not yet met this sender: then
    /// it delivers to nobody, and the message is sent anew.
    fn send(&self, message: &[u8], size: usize) -> Result<()> {
        loop {
            let sample = self.publisher.loan_slice_uninit(size).map_err(said)?;
            if sample.write_from_slice(message).send().map_err(said)? == 1 {
                return Ok(());
            }
            self.wake()?;
            std::thread::yield_now();
        }
    }

    fn wake(&self) -> Result<()> {
        if let Some(notifier) = &self.notifier {
            notifier.notify().map_err(said)?;
        }
        Ok(())
    }
}

struct Client {
    inward: Option<Inward>,
    outward: Option<Outward>,
    size: usize,
    _node: Node<ipc::Service>,
}

impl Client {
    fn inward(&self) -> &Inward {
        self.inward.as_ref().expect("an end that receives")
    }

    fn outward(&self) -> &Outward {
        self.outward.as_ref().expect("an end that sends")
    }
}

impl Port for Client {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.outward().send(message, self.size)
    }

    fn flush(&mut self) -> Result<()> {
        self.outward().wake()
    }

    fn take(&mut self, each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.inward().each_message(each)
    }

    fn echo(&mut self) -> Result<()> {
        self.inward().each_message(|message| self.outward().send(message, self.size))?;
        self.outward().wake()
    }
}
