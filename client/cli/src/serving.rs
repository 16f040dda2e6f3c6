//! What commands that serve a name tell the user.

use switchboard::{BoardBuilder, Notice, Server};
use switchboard_protocol::Name;

use crate::output::note;

/// Has later changes of the ownership told on stderr.
pub(crate) fn tell_changes(builder: BoardBuilder) -> BoardBuilder {
    builder.on_notice(|notice| match notice {
        Notice::OwnerGained { name, .. } => note(format_args!("serving {name}")),
        Notice::OwnerReplaced { name, place } => {
            note(format_args!("replaced: standing by for {name}, place {place}"));
        }
        _ => {}
    })
}

/// Says on stderr that the name is served, or where in line this server stands.
pub(crate) fn announce(server: &Server, name: &Name) {
    match server.standby() {
        Some(place) if place > 0 => note(format_args!("standing by for {name}, place {place}")),
        _ => note(format_args!("serving {name}")),
    }
}
