//! switchboard: the Switchboard command line.

fn main() {}
