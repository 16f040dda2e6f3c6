//! The same library for tokio: calls are awaited, requests are served by tasks.
//!
//! It drives the same session. One task of the runtime reads for all; whoever calls writes at once, and
//! what the socket does not take is that task's to finish. Every future here is cancel-safe: dropping
//! one that calls cancels the call.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
//! use switchboard::tokio::Board;
//!
//! let board = Board::connect_with(switchboard::Board::builder().socket(broker.socket())).await?;
//! let _server = board
//!     .serve("acme.upper")
//!     .start(|request| async move { Ok(request.payload().to_ascii_uppercase()) })
//!     .await?;
//! let reply = board.service("acme.upper").call("hello").await?;
//! assert_eq!(&reply[..], b"HELLO");
//! # Ok(()) }
//! ```
//!
//! Calls made in a handler inherit its deadline and priority, also across `.await`; tasks that it
//! spawns do if they are spawned by [`spawn`].

mod board;
mod call;
mod consumer;
mod guarded;
mod queue;
mod request;
mod runner;
mod serve;
mod signal;
mod stream;
mod subscription;
mod topic;
mod waiting;

pub use board::{Board, Watch};
pub use call::{CallBuilder, Service};
pub use consumer::{ConsumeBuilder, Consumer, Leased, Peek};
pub use queue::{PendingPush, PushBuilder, Queue, QueueBuilder};
pub use request::Request;
pub use serve::{ServeBuilder, Server};
pub use signal::Signal;
pub use stream::ReplyStream;
pub use subscription::{SubscribeBuilder, Subscription};
pub use topic::{PublishBuilder, Topic};

use std::future::Future;

use crate::Context;

/// [`::tokio::spawn`], in the context of the present task: calls made there inherit.
///
/// # Panics
///
/// Outside a runtime, as tokio's.
pub fn spawn<F>(future: F) -> ::tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match Context::current() {
        Some(context) => ::tokio::spawn(context.scope(future)),
        None => ::tokio::spawn(future),
    }
}
