//! What a board knows of the names it serves.

use std::collections::VecDeque;

use switchboard_protocol::{HandleEntry, Header, control};

use super::state::State;
use super::wait::Awaits;
use crate::session::RequestId;
use crate::{CallError, Payload};

/// A server of this board; it lives longer than its connection.
#[derive(Debug)]
pub(crate) struct ServerState {
    /// As it is asked for again on a new connection.
    pub(crate) body: control::Serve,
    /// The serving handle; 0 while there is none.
    pub(crate) handle: u64,
    /// Of a private service, the handle to pass on; 0 otherwise.
    pub(crate) reference: u64,
    /// 0 while it stands by.
    pub(crate) epoch: u64,
    /// Its place in line; 0 for an owner.
    pub(crate) standby: u64,
    /// Who works for it takes batches apart itself: one worker, which handles one message after the
    /// other anyway.
    pub(crate) takes_batches: bool,
    /// What came and was not yet taken up.
    pub(crate) queue: VecDeque<Box<Delivery>>,
    /// It has ended, and how.
    pub(crate) end: Option<ServerEnd>,
}

pub(crate) type ServerEnd = Result<(), CallError>;

/// A request or a one-way message as it came. Boxed, because it passes through many hands.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// As it came, except that the deadline is in our time.
    pub(crate) header: Header,
    /// What it takes of the serving's window: its frame, or its share of one.
    pub(crate) room: u64,
    /// `None` for a one-way message.
    pub(crate) request: Option<RequestId>,
    /// Its extension area; mostly empty.
    pub(crate) extensions: Box<[u8]>,
    pub(crate) payload: Payload,
    pub(crate) handles: Vec<HandleEntry>,
    /// The connection by which it came.
    pub(crate) connection: u64,
}

/// Deliveries that were worked off. It is the boxes that are of use.
pub(crate) type Boxes = Vec<Box<Delivery>>;

/// How many boxes are kept.
const SPARE_MAX: usize = 256;

impl State {
    /// Keeps boxes that were worked off.
    #[inline]
    pub(crate) fn keep_boxes(&mut self, boxes: &mut Boxes) {
        let room = SPARE_MAX.saturating_sub(self.spare.len()).min(boxes.len());
        self.spare.extend(boxes.drain(..room));
        boxes.clear();
    }
}

impl Delivery {
    pub(crate) fn empty(header: Header) -> Self {
        let (extensions, payload) = (Box::default(), Payload::new());
        Self { header, room: 0, request: None, extensions, payload, handles: Vec::new(), connection: 0 }
    }
}

impl ServerState {
    pub(crate) fn new(body: control::Serve) -> Self {
        Self {
            body,
            handle: 0,
            reference: 0,
            epoch: 0,
            standby: 0,
            takes_batches: false,
            queue: VecDeque::new(),
            end: None,
        }
    }

    pub(crate) fn served(&mut self, served: &control::Served) {
        self.handle = served.handle;
        self.reference = served.reference;
        self.epoch = served.epoch;
        self.standby = served.standby.into();
    }
}

impl State {
    /// A server has ended, the first time for this reason. What nobody took up is abandoned.
    pub(crate) fn end_server(&mut self, serving: u64, end: ServerEnd) {
        let Some(server) = self.server(serving).filter(|server| server.end.is_none()) else { return };
        server.end = Some(end);
        for delivery in std::mem::take(&mut server.queue) {
            self.abandon(*delivery);
        }
        self.wake_awaiting(Awaits::Server(serving));
        self.wake_awaiting(Awaits::ServerEnd(serving));
    }
}
