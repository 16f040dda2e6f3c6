//! What the threads of a board share.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use switchboard_protocol::Outcome;
use switchboard_protocol::control::PeerInfo;
use switchboard_transport::Stream;

use super::config::Config;
use super::connect::Established;
use super::mailbox::{MailId, Mailbox};
use super::notice::{Notice, Notices};
use super::serving::{Boxes, ServerState};
use super::target::Target;
use super::ticket::{End, Owner, TicketId, Tickets};
use super::wait::{Awaits, Follower};
use super::waiter::Waiter;
use crate::CallError;
use crate::session::{EndedCall, Inbox, Output, Session};

/// A board: what its clones, services, requests and handles hold.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    state: Mutex<State>,
}

pub(crate) type Guard<'a> = MutexGuard<'a, State>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    pub(crate) link: Link,
    pub(crate) output: Outbound,
    /// At home while nobody reads.
    pub(crate) inbox: Option<Inbox>,
    /// Whole frames are left in the inbox: they are taken before more is read.
    pub(crate) is_paused: bool,
    pub(crate) tickets: Tickets,
    /// Of pipelines; `None` where the place is free.
    pub(crate) mailboxes: Vec<Option<Mailbox>>,
    pub(crate) followers: Vec<Follower>,
    /// Followers to be woken once the lock is released.
    pub(crate) wakes: Vec<Arc<Waiter>>,
    /// Tasks to be woken once the lock is released.
    pub(crate) wakers: Vec<Waker>,
    /// Tasks that wait for something other than a ticket.
    pub(crate) tasks: Vec<(Awaits, Waker)>,
    /// By `serving`, which is never used again.
    pub(crate) servers: BTreeMap<u64, ServerState>,
    pub(crate) servings: u64,
    /// Boxes of deliveries that were worked off, to be used again.
    pub(crate) spare: Boxes,
    pub(crate) notices: Notices,
    /// Notices for the callback, once the lock is released.
    pub(crate) told: Vec<Notice>,
    /// By name; few of them have the same one.
    pub(crate) targets: HashMap<Box<str>, Vec<Weak<Target>>>,
    /// Handles on topics that nobody holds any more and by which a will is left, with their connection.
    pub(crate) wills: HashMap<Box<str>, (u64, u64)>,
    pub(crate) identities: HashMap<u64, Arc<PeerInfo>>,
}

/// The connection as such.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Arc<Stream>,
    /// Tells the connections of this process apart: handles and requests are good on one only.
    pub(crate) connection: u64,
    pub(crate) is_up: bool,
    /// Why it is not.
    pub(crate) why: String,
    /// The broker has said that it goes down.
    pub(crate) is_going_down: bool,
    /// A lost one is made anew.
    pub(crate) reconnects: bool,
    /// The program wants no more of it.
    pub(crate) is_closed: bool,
    /// Some thread is making a new one.
    pub(crate) is_connecting: bool,
    /// Failed attempts since the last success.
    pub(crate) attempts: u32,
    /// Blocking receives return every second, so that deadlines hold even if the broker stops.
    pub(crate) ticks: bool,
    /// A task does all the reading (the tokio driver), and this wakes it to write.
    pub(crate) writer_task: Option<Waker>,
    /// Somebody else's task leads; threads only ever follow.
    pub(crate) is_led_by_task: bool,
}

/// What is on its way to the socket.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// What the socket did not take yet; it goes before the session's output.
    pub(crate) rest: Output,
    /// A thread is at it, and has what it writes with it.
    pub(crate) is_writing: bool,
    /// Writing failed: reading will tell why.
    pub(crate) is_broken: bool,
}

impl Shared {
    pub(crate) fn new(config: Config, established: Established) -> Arc<Self> {
        let Established { stream, session, inbox } = established;
        let state = State {
            session,
            link: Link {
                stream,
                connection: next_connection(),
                is_up: true,
                is_going_down: false,
                why: String::new(),
                reconnects: config.reconnect.enabled,
                is_closed: false,
                is_connecting: false,
                attempts: 0,
                ticks: false,
                writer_task: None,
                is_led_by_task: false,
            },
            output: Outbound::default(),
            inbox: Some(inbox),
            is_paused: false,
            tickets: Tickets::default(),
            mailboxes: Vec::new(),
            followers: Vec::new(),
            wakes: Vec::new(),
            wakers: Vec::new(),
            tasks: Vec::new(),
            servers: BTreeMap::new(),
            servings: 0,
            spare: Vec::new(),
            notices: Notices::default(),
            told: Vec::new(),
            targets: HashMap::new(),
            wills: HashMap::new(),
            identities: HashMap::new(),
        };
        Arc::new(Self { config, state: Mutex::new(state) })
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_> {
        // Nothing of ours panics under the lock; a handler's panic never happens under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock to wake those who were given something, and takes it again.
    #[inline]
    pub(crate) fn settle<'a>(&'a self, mut state: Guard<'a>) -> Guard<'a> {
        if state.wakes.is_empty() && state.wakers.is_empty() && state.told.is_empty() {
            return state;
        }
        let wakes = std::mem::take(&mut state.wakes);
        let wakers = std::mem::take(&mut state.wakers);
        let told = std::mem::take(&mut state.told);
        drop(state);
        self.wake(wakes, wakers, told);
        self.lock()
    }

    /// [`Shared::settle`], and the lock stays released.
    #[inline]
    pub(crate) fn release(&self, mut state: Guard<'_>) {
        if state.wakes.is_empty() && state.wakers.is_empty() && state.told.is_empty() {
            return;
        }
        let wakes = std::mem::take(&mut state.wakes);
        let wakers = std::mem::take(&mut state.wakers);
        let told = std::mem::take(&mut state.told);
        drop(state);
        self.wake(wakes, wakers, told);
    }

    #[cold]
    fn wake(&self, wakes: Vec<Arc<Waiter>>, wakers: Vec<Waker>, told: Vec<Notice>) {
        wakes.iter().for_each(|waiter| waiter.wake());
        wakers.into_iter().for_each(Waker::wake);
        if let Some(callback) = &self.config.on_notice {
            told.iter().for_each(|notice| callback(notice));
        }
    }
}

impl State {
    /// Ends a ticket, and has its owner told.
    #[inline]
    pub(crate) fn end_ticket(&mut self, tag: u64, end: End) {
        if matches!(&end, Err(error) if error.outcome == Outcome::ShuttingDown) {
            self.link.is_going_down = true;
        }
        if let Some(mail) = MailId::of_tag(tag) {
            return self.end_mail(mail, end);
        }
        let Some(ticket) = self.tickets.get(TicketId(tag)) else { return };
        ticket.call = None;
        match std::mem::replace(&mut ticket.owner, Owner::Nobody) {
            Owner::Nobody => ticket.end = Some(end),
            Owner::Thread(waiter) => {
                ticket.end = Some(end);
                self.wakes.push(waiter);
            }
            Owner::Task(waker) => {
                ticket.end = Some(end);
                self.wakers.push(waker);
            }
            Owner::Restore { serving } => {
                self.tickets.remove(TicketId(tag));
                self.restored(serving, end);
            }
        }
    }

    pub(crate) fn end_tickets(&mut self, ended: Vec<EndedCall>, error: impl Fn() -> CallError) {
        for call in ended {
            self.end_ticket(call.tag, Err(error()));
        }
    }

    /// Wakes everyone who waits for that.
    #[inline]
    pub(crate) fn wake_awaiting(&mut self, awaits: Awaits) {
        if !self.followers.is_empty() {
            for follower in self.followers.iter().filter(|follower| follower.awaits == awaits) {
                self.wakes.push(Arc::clone(&follower.waiter));
            }
        }
        if !self.tasks.is_empty() {
            for (_, waker) in self.tasks.extract_if(.., |(awaited, _)| *awaited == awaits) {
                self.wakers.push(waker);
            }
        }
    }

    /// Wakes everyone, to look at what has become of the connection.
    pub(crate) fn wake_all(&mut self) {
        self.wakes.extend(self.followers.iter().map(|follower| Arc::clone(&follower.waiter)));
        self.wakers.extend(self.tasks.drain(..).map(|(_, waker)| waker));
        self.wakers.extend(self.link.writer_task.take());
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.notices.push(notice.clone());
        self.told.push(notice);
        self.wake_awaiting(Awaits::Notice);
    }

    #[inline]
    pub(crate) fn has_output(&mut self) -> bool {
        !self.session.output().is_empty() || !self.output.rest.is_empty()
    }

    /// A handle that nobody needs any more, if it is of this connection.
    pub(crate) fn discard_handle(&mut self, handle: u64, connection: u64) {
        if connection == self.link.connection && self.link.is_up {
            self.session.discard(handle);
        }
    }
}

/// A number that no other connection of this process has had.
pub(crate) fn next_connection() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Shared {
    /// SPEC 1.7: a clean end, if the socket takes it.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !state.link.is_up || !state.output.rest.is_empty() {
            return;
        }
        state.session.goodbye();
        let _ = super::write::transmit(&state.link.stream, state.session.output());
    }
}
