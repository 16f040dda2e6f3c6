//! Stands in for iceoryx2 in a build without it (it needs libclang to be built).

use crate::candidate::{Candidate, Kind, Mode, Session, Site};
use crate::work::Work;
use anyhow::{Result, bail};

/// The peer, absent.
pub struct Iceoryx {
    name: &'static str,
}

impl Iceoryx {
    /// Blocking on its events.
    pub fn blocking() -> Iceoryx {
        Iceoryx { name: "iceoryx2" }
    }

    /// Polling on two cores.
    pub fn spinning() -> Iceoryx {
        Iceoryx { name: "iceoryx2-spin" }
    }
}

impl Candidate for Iceoryx {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        "not built".to_string()
    }

    fn missing(&self) -> Option<String> {
        Some(format!("{}: not built, it needs libclang (run with --install)", self.name))
    }

    fn does(&self, _: Work, _: Mode) -> bool {
        false
    }

    fn start<'a>(&'a self, _: &'a Site) -> Result<Box<dyn Session + 'a>> {
        bail!("iceoryx2 was not built")
    }
}
