//! What producers and consumers of a queue write down for themselves, each in a file of its own, and the
//! account that is drawn up of it in the end: nothing acknowledged is lost, nothing that was acknowledged
//! as consumed comes back, and each producer's messages keep their order, whatever the broker went through.

mod account;
mod entry;

pub use account::{Drained, account};
pub use entry::{Entry, Message, Writer, read};
