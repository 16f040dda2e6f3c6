//! The floors: the least that this machine takes for the same work, without any message system.

pub mod eventfd;
pub mod fdatasync;
pub mod fixed;
pub mod relay;
pub mod spin;
pub mod unix;
