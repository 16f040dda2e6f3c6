//! The Switchboard client library: calls, services and messages between the processes of one machine.
