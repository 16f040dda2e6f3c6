//! The peers: other message systems, each started privately and driven by a lean client of our own.

pub mod dbus_broker;
pub mod dbus_daemon;
pub mod dbus_wire;
pub mod mosquitto;
pub mod nats;
pub mod redis;
pub mod zeromq;
pub mod zeromq_ffi;
