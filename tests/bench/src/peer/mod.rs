//! The peers: other message systems, each started privately and driven by a lean client of our own.

pub mod dbus_broker;
pub mod dbus_daemon;
pub mod dbus_wire;
#[cfg(feature = "iceoryx2")]
pub mod iceoryx;
#[cfg(not(feature = "iceoryx2"))]
#[path = "iceoryx_absent.rs"]
pub mod iceoryx;
pub mod jetstream;
pub mod mosquitto;
pub mod nats;
pub mod redis;
pub mod switchboard;
pub mod zeromq;
pub mod zeromq_ffi;
