//! The broker's promises as texts: one line per input, `->` before what comes of it. How the lines
//! read stands in `script.rs`.

mod calls;
mod connections;
mod durable_queues;
mod durable_topics;
mod events;
mod handles;
mod inspection;
mod names;
mod policy;
mod queue_storm;
mod queues;
mod quotas;
mod script;
mod sends;
mod streams;
mod topics;
mod waiting;
