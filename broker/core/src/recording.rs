//! What the broker knows of the flight recorder: what to tell those who ask.

use crate::broker::{Broker, Turn};
use crate::{Fact, Payload};
use alloc::string::String;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control;

/// The flight recorder, which keeps every input of the broker in files, so that what it did can be seen
/// again. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Bytes that its files take; 0 if nothing is recorded.
    pub bytes: u64,
    /// Whether payloads are recorded too.
    pub payloads: bool,
    /// The number of the file that is written.
    pub file: u64,
    /// Nanoseconds that the longest change of files has kept the broker.
    pub pause_ns: u64,
    /// Why it has stopped, if it has.
    pub failure: Option<String>,
}

impl Recording {
    /// For [`control::Status`].
    pub(crate) fn info(&self) -> control::Recorder {
        let Self { bytes, payloads, file, pause_ns, ref failure } = *self;
        control::Recorder { bytes, payloads, file, pause_ns, failure: failure.clone().unwrap_or_default() }
    }
}

impl<P: Payload> Broker<P> {
    pub(crate) fn take_recording(&mut self, turn: &mut Turn<'_, P>, recording: Recording) {
        match &recording.failure {
            Some(why) => turn.log(Fact::RecordingStopped { why: why.clone() }),
            None if self.recording.bytes == 0 && recording.bytes != 0 => {
                turn.log(Fact::RecordingBegan { payloads: recording.payloads });
            }
            None => {}
        }
        self.recording = recording;
    }
}
