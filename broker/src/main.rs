//! switchboardd: the Switchboard broker daemon, as a program and as a library.

fn main() {}
