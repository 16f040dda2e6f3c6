//! The blocking driver: one connection, any number of threads, none of its own.
//!
//! One lock guards the [`State`]; no system call is made under it. The thread that waits reads the
//! socket for everyone (the *leader* holds the inbox meanwhile); others who wait (*followers*) sleep
//! until what they wait for is there, or until the leader's own wait is over and one of them is
//! made the leader. Whoever has something to write writes it, together with what others added
//! meanwhile. So a program with one thread pays one send and one receive per call.
//!
//! What is whose: `state` the state and its lock, `wait` leading and following, `write` the output,
//! `dispatch` what each event does, `connect` and `restore` new connections, `call` opening calls, `send`
//! one-way messages.

mod batches;
mod call;
mod config;
mod connect;
mod dispatch;
mod items;
mod mailbox;
mod notice;
mod object;
mod restore;
mod send;
mod serving;
mod state;
mod target;
mod ticket;
mod wait;
mod waiter;
mod write;

pub(crate) use call::{CallParams, after, decode_reply};
#[cfg(feature = "tokio")]
pub(crate) use call::{gone, open_body};
pub use config::Reconnect;
pub(crate) use config::{Config, NoticeCallback};
pub use connect::ConnectError;
pub(crate) use connect::{establish, greet};
pub(crate) use items::{Item, Items, Taken};
pub(crate) use mailbox::{Ended, MailId, Mailbox};
pub use notice::Notice;
#[cfg(feature = "tokio")]
pub(crate) use restore::GOING_DOWN;
#[cfg(feature = "tokio")]
pub(crate) use send::no_room_in_time;
pub(crate) use serving::{Boxes, Delivery, ServerState};
pub(crate) use state::{Guard, Shared, State};
#[cfg(feature = "tokio")]
pub(crate) use target::What;
pub(crate) use target::{Known, Target};
pub(crate) use ticket::{End, Facts, Owner, RawReply, TicketId};
pub(crate) use wait::{Awaits, Until};
pub(crate) use waiter::Waiter;
pub(crate) use write::Patience;
