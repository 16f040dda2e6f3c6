//! The Switchboard client library: calls, services and messages between the processes of one machine.
//!
//! A [`Board`] is a connection to the broker, shared by any number of threads. Through it a program
//! calls services by name, and serves names of its own:
//!
//! ```
//! # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
//! # let socket = broker.socket();
//! use switchboard::Board;
//!
//! let board = Board::builder().socket(socket).connect()?; // or just `Board::connect()`
//! let _server = board.serve("acme.upper").start(|request| Ok(request.payload().to_ascii_uppercase()))?;
//!
//! let reply = board.service("acme.upper").call("hello")?;
//! assert_eq!(&reply[..], b"HELLO");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What the library keeps is written down in `protocol/SPEC.md`; documentation cites its clauses.
//!
//! - Every call ends exactly once: by a [`Reply`], or by a [`CallError`] that names its [`Outcome`].
//! - No thread runs behind a board: whoever waits reads for everyone. A program that neither waits nor
//!   calls hears nothing (but loses nothing either).
//! - Calls made in a handler inherit its request's deadline and priority; see [`Context`].
//! - A lost connection is made anew; see [`Reconnect`].

mod ack;
mod batch;
mod board;
mod builder;
mod call_builder;
mod call_error;
mod codec;
mod consumer;
mod context;
mod control_stream;
mod driver;
mod fault;
mod flow;
mod handle;
mod inspect;
mod names;
mod payload;
mod pending;
mod pipeline;
mod push;
mod push_pipeline;
mod queue;
mod reply;
mod request;
mod serve;
mod server;
mod service;
pub mod session;
mod signal;
mod stream;
mod subscription;
#[cfg(feature = "tokio")]
pub mod tokio;
mod topic;

pub use ack::{Acked, PendingAck};
pub use batch::Batch;
pub use board::{Board, Notices};
pub use builder::BoardBuilder;
pub use call_builder::CallBuilder;
pub use call_error::CallError;
pub use consumer::{ConsumeBuilder, Consumer, Leased, Peek, Queued};
pub use context::{Context, Entered, Scoped, spawn};
pub use driver::{ConnectError, Notice, Reconnect};
pub use fault::Fault;
pub use handle::{Handle, Pass};
pub use inspect::{Monitor, PeerStatsPages, Principal};
pub use names::{Change, Names, Watch};
pub use payload::Payload;
pub use pending::{Pending, wait_any};
pub use pipeline::Pipeline;
pub use push::{PendingPush, PushBuilder, Pushed};
pub use push_pipeline::PushPipeline;
pub use queue::{Queue, QueueBuilder};
pub use reply::{LentReply, Reply};
pub use request::{ItemError, Request, Response};
pub use serve::ServeBuilder;
pub use server::Server;
pub use service::Service;
pub use session::Method;
pub use signal::Signal;
pub use stream::ReplyStream;
pub use subscription::{Delivery, LentDelivery, LentMessage, Message, SubscribeBuilder, Subscription};
pub use switchboard_protocol::queue::{
    DeadLetter, LeaseId, LeaseKind, Level, NackHow, Overflow, QueueInfo, Redriven,
};
pub use switchboard_protocol::signal::{Pulse, Raised};
pub use switchboard_protocol::topic::{SlowPolicy, TopicInfo};
pub use switchboard_protocol::{
    Epoch, Failure, Name, NameError, ObjectKind, Outcome, Pattern, PeerId, Rights, Verb, control,
};
pub use topic::{PublishBuilder, Published, Topic};
