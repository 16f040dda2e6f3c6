//! Does once more what a recorded broker did, and says where it would come out differently.
//!
//! A recording is a snapshot of the core and everything that the core was told from then on. The core is a
//! function of just that: told the same again, it must ask for the same. If it does not, the recording is
//! damaged, the core is another one, or something reached the core past its inputs.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use switchboard_core::{Broker, Digest, Effect, Fact, Input};
use switchboard_protocol::{Header, Instant, PeerId};

use crate::buffer::Slice;
use crate::recorder::format::{self, BUILD, Flaw, Head, Record, Told};
use crate::recorder::{FOLDER, numbers, path_of};

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The files that were replayed, the oldest first.
    pub files: Vec<PathBuf>,
    /// Brokers whose recordings these are: 1, or more where one was restarted in between.
    pub brokers: u32,
    /// Whether payloads were recorded.
    pub payloads: bool,
    /// Inputs that were replayed.
    pub inputs: u64,
    /// The number of the first of them, counted from the start of the recording.
    pub first_input: u64,
    /// Broker time at the first snapshot and at the last input, in nanoseconds.
    pub from_ns: u64,
    /// See `from_ns`.
    pub to_ns: u64,
    /// Wall time at the first snapshot, in nanoseconds since 1970.
    pub from_wall_ns: u64,
    /// Connections that were made, or from which something came.
    pub peers: u64,
    /// The input that a broker was handling when it ended, of the last one that was.
    pub unanswered: Option<Unanswered>,
    /// What is wrong, if anything is; then the replay ended there.
    pub finding: Option<Finding>,
}

/// An input of which no effect was recorded: the broker ended in the middle of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Its number.
    pub input: u64,
    /// When it came, in broker time.
    pub at_ns: u64,
    /// What it is.
    pub what: String,
    /// How the core panics when it is told that, if it does.
    pub panic: Option<String>,
}

/// What is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The replay came out differently.
    Diverged {
        /// The file.
        file: PathBuf,
        /// The number of the input.
        input: u64,
        /// When it came, in broker time.
        at_ns: u64,
        /// What was different.
        what: String,
    },
    /// Bytes of the file are not what they were.
    Damaged {
        /// The file.
        file: PathBuf,
        /// The number of the input that cannot be read.
        input: u64,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What is damaged.
        what: String,
    },
}

/// Why there is nothing to replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Something else is there.
    #[error("{} is no recording: {why}", path.display())]
    NoRecording {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It was made by another build, whose core this one does not have.
    #[error(
        "{} was recorded by switchboard {theirs}, and this is {ours}; replay it with the very program that recorded it",
        path.display()
    )]
    OtherBuild {
        /// Where.
        path: PathBuf,
        /// The build that made it.
        theirs: String,
        /// This one.
        ours: String,
    },
    /// The system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged { file, input, at_ns, what } => {
                write!(f, "diverged at input {input} ({}, broker time {at_ns} ns): {what}", file.display())
            }
            Self::Damaged { file, input, offset, what } => {
                write!(f, "damaged: {} at byte {offset}, input {input}: {what}", file.display())
            }
        }
    }
}

/// Replays a file of a recording, or all that lie in a folder, the oldest first. A recording that came out
/// differently or is damaged is no error: [`Report::finding`] says so.
///
/// The core may panic on its way, which is caught; whoever does not want to see the panic's message sets a
/// panic hook.
pub fn replay(path: &Path) -> Result<Report, ReplayError> {
    let io = |source| ReplayError::Io { path: path.to_path_buf(), source };
    let files: Vec<PathBuf> = if fs::metadata(path).map_err(io)?.is_dir() {
        // The state directory will do too.
        let inside = path.join(FOLDER);
        let folder = if inside.is_dir() { &inside } else { path };
        numbers(folder).map_err(io)?.into_iter().map(|number| path_of(folder, number)).collect()
    } else {
        vec![path.to_path_buf()]
    };
    if files.is_empty() {
        let why = "no file in it is named as one (1.rec, 2.rec and so on)".to_owned();
        return Err(ReplayError::NoRecording { path: path.to_path_buf(), why });
    }
    let mut replay = Replay::default();
    for file in files {
        replay.file(file)?;
        if replay.report.finding.is_some() {
            break;
        }
    }
    Ok(replay.finish())
}

/// A replay under way.
#[derive(Default)]
struct Replay {
    report: Report,
    /// The core, where the last file ended.
    core: Option<Broker<Slice>>,
    /// The head of the last file, without its snapshot.
    last: Option<Head>,
    /// The number of the next input.
    next: u64,
    peers: BTreeSet<(u64, PeerId)>,
}

/// A file on the desk.
struct Page<'a> {
    path: &'a Path,
    bytes: &'a [u8],
}

impl Replay {
    fn finish(mut self) -> Report {
        self.report.peers = self.peers.len() as u64;
        self.report
    }

    fn file(&mut self, path: PathBuf) -> Result<(), ReplayError> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // A broker that goes on recording has removed it since we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.last.is_none() => return Ok(()),
            Err(source) => return Err(ReplayError::Io { path, source }),
        };
        let page = Page { path: &path, bytes: &bytes };
        let (head, at) = match Head::read(&bytes) {
            Ok(read) => read,
            Err(flaw @ (Flaw::Foreign | Flaw::Format)) => {
                return Err(ReplayError::NoRecording { path, why: flaw.to_string() });
            }
            Err(flaw) => {
                self.report.files.push(path.clone());
                self.damaged(&page, 0, flaw);
                return Ok(());
            }
        };
        if head.build != BUILD {
            return Err(ReplayError::OtherBuild { path, theirs: head.build, ours: BUILD.to_owned() });
        }
        self.report.files.push(path.clone());
        if let Err(panic) = caught(|| self.replay_file(&page, head, at)) {
            self.diverged(&page, 0, format!("the core panics, and it did not then: {panic}"));
        }
        Ok(())
    }

    fn replay_file(&mut self, page: &Page<'_>, mut head: Head, mut at: usize) {
        let snapshot = std::mem::take(&mut head.snapshot);
        if self.core.is_none() {
            self.report.from_ns = head.at_ns;
            self.report.from_wall_ns = head.wall_ns;
            self.report.first_input = head.first_input;
        }
        self.report.payloads |= head.payloads;
        let goes_on = self.last.as_ref().is_some_and(|last| {
            last.incarnation == head.incarnation
                && last.number + 1 == head.number
                && self.next == head.first_input
        });
        if !goes_on {
            self.report.brokers +=
                u32::from(self.last.as_ref().is_none_or(|last| last.incarnation != head.incarnation));
        } else if self.core.as_ref().and_then(|core| core.snapshot(usize::MAX)).as_ref() != Some(&snapshot) {
            let what = "what the broker held when it began the file is not what the replay has come to";
            return self.diverged(page, head.at_ns, what.to_owned());
        }
        let Some(mut core) = Broker::<Slice>::restore(&snapshot) else {
            return self.diverged(page, head.at_ns, "the snapshot is none of this broker's".to_owned());
        };
        self.next = head.first_input;
        self.report.to_ns = self.report.to_ns.max(head.at_ns);
        let incarnation = head.incarnation;
        self.last = Some(head);

        let end = match format::end_of(page.bytes) {
            Ok(end) => end,
            Err(flaw) => return self.damaged(page, format::END_AT, flaw),
        };
        let mut chain = Head::chain(page.bytes);
        while at < end {
            let Some(rest) = page.bytes.get(at..end) else {
                return self.damaged(page, page.bytes.len(), Flaw::Cut);
            };
            let record = match format::read(rest, chain) {
                Ok(record) => record,
                Err(flaw) => return self.damaged(page, at, flaw),
            };
            (at, chain) = (at + record.len, record.chain);
            self.report.to_ns = record.at_ns;
            self.peers.extend(peer_of(&record.told).map(|peer| (incarnation, peer)));
            if let Err(what) = step(&mut core, record) {
                return self.diverged(page, self.report.to_ns, what);
            }
            self.next += 1;
            self.report.inputs += 1;
        }
        if at != end {
            return self.damaged(page, format::END_AT, Flaw::End);
        }
        if let Some(record) = page.bytes.get(end..).and_then(|rest| format::read_open(rest, chain)) {
            self.unanswered(&core, record);
        }
        self.core = Some(core);
    }

    /// Tries the input in which the broker ended, on a core of its own: it may panic in the middle.
    fn unanswered(&mut self, core: &Broker<Slice>, record: Record) {
        let (at_ns, what) = (record.at_ns, describe_told(&record.told));
        let twin = core.snapshot(usize::MAX).and_then(|snapshot| Broker::<Slice>::restore(&snapshot));
        let mut twin = twin.expect("a snapshot that was just taken");
        let panic = caught(|| tell(&mut twin, record)).err();
        self.report.unanswered = Some(Unanswered { input: self.next, at_ns, what, panic });
    }

    fn damaged(&mut self, page: &Page<'_>, offset: usize, flaw: Flaw) {
        let (file, input) = (page.path.to_path_buf(), self.next);
        let (offset, what) = (offset as u64, flaw.to_string());
        self.report.finding = Some(Finding::Damaged { file, input, offset, what });
    }

    fn diverged(&mut self, page: &Page<'_>, at_ns: u64, what: String) {
        let at_ns = if at_ns == 0 { self.report.to_ns } else { at_ns };
        let file = page.path.to_path_buf();
        self.report.finding = Some(Finding::Diverged { file, input: self.next, at_ns, what });
    }
}

/// Tells the core what it was told, and holds what it asks for against what it asked for then.
fn step(core: &mut Broker<Slice>, record: Record) -> Result<(), String> {
    let (then, count) = (record.digest, record.effects);
    let what = describe_told(&record.told);
    let (effects, digest) = tell(core, record);
    if digest == then && effects.len() as u32 == count {
        return Ok(());
    }
    let now = effects.iter().map(describe).collect::<Vec<_>>().join("; ");
    let now = if now.is_empty() { "nothing".to_owned() } else { now };
    let difference = match effects.len() as u32 {
        same if same == count => {
            format!("the {count} effects are others (digest {digest:#x}, then {then:#x})")
        }
        other => format!("{other} effects, and there were {count}"),
    };
    Err(format!("on {what}: {difference}; the replay asks for {now}"))
}

fn tell(core: &mut Broker<Slice>, record: Record) -> (Vec<Effect<Slice>>, u64) {
    let mut effects = Vec::new();
    let now = Instant(record.at_ns);
    let admitted = match record.told {
        Told::Input(input) => {
            core.handle(now, input, &mut effects);
            None
        }
        Told::Admit { from, bytes } => Some(core.admit(now, from, bytes, &mut effects)),
    };
    let mut digest = Digest::new(0);
    for effect in &effects {
        digest.effect(effect);
    }
    if let Some(admitted) = admitted {
        digest.word(admitted.into());
    }
    (effects, digest.value())
}

/// What `work` gives, or the message of its panic.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What a panic leaves half done is looked at no more, except for plain numbers.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
    })
}

fn peer_of(told: &Told) -> Option<PeerId> {
    match told {
        Told::Admit { from, .. } => Some(*from),
        Told::Input(input) => match input {
            Input::Connect { peer, .. } | Input::Disconnect { peer, .. } | Input::Wrote { peer, .. } => {
                Some(*peer)
            }
            Input::Frame { from, .. } | Input::Oversized { from, .. } | Input::Broken { from, .. } => {
                Some(*from)
            }
            Input::Clock { .. }
            | Input::Recovered { .. }
            | Input::LogReady { .. }
            | Input::Persisted { .. }
            | Input::LogFailed { .. }
            | Input::Recording(_)
            | Input::Wake
            | Input::Reloaded { .. }
            | Input::Shutdown => None,
        },
    }
}

fn describe_told(told: &Told) -> String {
    match told {
        Told::Admit { from, bytes } => format!("the question of {from} for room for {bytes} bytes"),
        Told::Input(Input::Frame { from, header, .. }) => {
            format!("a frame of {from}: {}", describe_header(header))
        }
        Told::Input(Input::Reloaded { result }) => {
            let how = if result.is_ok() { "new configuration" } else { "a wrong configuration" };
            format!("a reload: {how}")
        }
        Told::Input(input) => format!("{input:?}"),
    }
}

fn describe(effect: &Effect<Slice>) -> String {
    match effect {
        Effect::Send { to, header, .. } => format!("a frame to {to}: {}", describe_header(header)),
        Effect::Append { position, .. } => format!("the record {position} in the log"),
        Effect::Log(fact) => describe_fact(fact),
        Effect::Resume { .. }
        | Effect::Pause { .. }
        | Effect::Close { .. }
        | Effect::Forget { .. }
        | Effect::Roll { .. }
        | Effect::DropSegment { .. }
        | Effect::Sync
        | Effect::Reload => format!("{effect:?}"),
    }
}

fn describe_fact(fact: &Fact) -> String {
    format!("the log line {fact:?}")
}

fn describe_header(header: &Header) -> String {
    let Header { kind, len, method, handle, call, seq, .. } = header;
    format!("{kind:?} method {method} handle {handle:#x} call {call:#x} seq {seq:#x}, {len} bytes")
}
