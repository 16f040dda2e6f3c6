//! What can be said on a Switchboard connection: names, header, frames, handshake, outcomes.
