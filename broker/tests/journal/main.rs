//! The journal against bad days: lost power, failing disks, flipped bits, bytes that anybody made up.

mod damage;
mod dice;
mod fuzz;
mod kill;
mod lying;
mod thread;
mod world;
mod worlds;
