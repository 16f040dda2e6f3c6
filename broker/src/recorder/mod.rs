//! The flight recorder: keeps what the core is told, so that what it did can be seen again on another
//! desk.
//!
//! Four files of a quarter each go round. Each begins with a snapshot of the core, so that a replay can
//! start at any of them, and is written through memory: no system call for a record, and whatever ends
//! the broker, what it was told last is there. The layout is in `format.rs`; reading is `replay.rs`.
//!
//! Recording never makes the broker wait without bound and never makes it fail: where it cannot go on it
//! stops, and says so in the log and to whoever asks for the status.

pub(crate) mod format;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use switchboard_core::{Broker, Digest, Effect, Effects, Input, Payload, Recording};
use switchboard_protocol::{Header, Instant, PeerId};
use switchboard_transport::{Mapping, clock, directories};

use crate::buffer::Slice;
use format::{BUILD, END_AT, Head, RECORD_BYTES};

/// The folder in the state directory.
pub(crate) const FOLDER: &str = "recorder";

/// Files at once.
pub(crate) const FILES: u64 = 4;

/// The least that is worth while, in bytes: of all files.
const BYTES_MIN: u64 = 1 << 20;
/// The most: where a file ends is told in 35 bits.
const BYTES_MAX: u64 = 64 << 30;

/// How long a change of files may keep the broker, in nanoseconds. A snapshot is of one moment and so cannot
/// be taken in slices; its size is bounded, and where that still takes too long there is not a second one.
const PAUSE_MAX: u64 = 50_000_000;

/// A frame's payload is recorded, where payloads are, if it takes at most one part in so many of a file.
const PAYLOAD_SHARE: usize = 8;

/// The recorder of one broker.
#[derive(Debug)]
pub(crate) struct Recorder {
    folder: PathBuf,
    bytes: u64,
    payloads: bool,
    incarnation: u32,
    /// `None` once it has stopped.
    tape: Option<Tape>,
    /// Inputs recorded.
    inputs: u64,
    /// How long the longest change of files kept the broker, and how long one may, in nanoseconds.
    pause_ns: u64,
    pause_max: u64,
    /// What the core is to be told of us.
    news: Option<Recording>,
    record: Vec<u8>,
}

/// The file that is being written.
#[derive(Debug)]
struct Tape {
    mapping: Mapping,
    number: u64,
    /// Where the next record goes.
    at: usize,
    chain: u64,
}

/// A record whose input is being handled.
struct Open {
    len: usize,
    check: u64,
}

/// Lets effects pass, and digests them.
struct Digesting<'a> {
    effects: &'a mut dyn Effects<Slice>,
    digest: Digest,
    count: u32,
}

impl Effects<Slice> for Digesting<'_> {
    #[inline]
    fn forward(&mut self, to: PeerId, header: &Header, tail: &Slice) {
        self.digest.forward(to, header, tail.len());
        self.count += 1;
        self.effects.forward(to, header, tail);
    }

    fn push(&mut self, effect: Effect<Slice>) {
        self.digest.effect(&effect);
        self.count += 1;
        self.effects.push(effect);
    }
}

impl Recorder {
    /// Begins to record a core that has been told everything before by somebody else. `now` is its time.
    /// The error says why it cannot, for people.
    pub(crate) fn start(
        state: &Path,
        bytes: u64,
        payloads: bool,
        incarnation: u32,
        core: &Broker<Slice>,
        now: Instant,
    ) -> Result<Self, String> {
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
            return Err(format!(
                "a recorder of {bytes} bytes; it takes {} MiB at least and {} GiB at most",
                BYTES_MIN >> 20,
                BYTES_MAX >> 30
            ));
        }
        let folder = state.join(FOLDER);
        directories::ensure_private(&folder).map_err(|error| error.to_string())?;
        let last =
            tidy_up(&folder).map_err(|error| format!("cannot look into {}: {error}", folder.display()))?;
        let mut recorder = Self {
            folder,
            bytes,
            payloads,
            incarnation,
            tape: None,
            inputs: 0,
            pause_ns: 0,
            pause_max: PAUSE_MAX,
            news: None,
            record: Vec::new(),
        };
        recorder.change_files(last + 1, core, now)?;
        Ok(recorder)
    }

    /// Hands an input to the core and records it. What is left to tell the core about the recorder itself
    /// follows.
    #[inline(never)]
    pub(crate) fn handle(
        &mut self,
        core: &mut Broker<Slice>,
        now: Instant,
        input: Input<Slice>,
        effects: &mut dyn Effects<Slice>,
    ) {
        if self.tape.is_none() {
            return core.handle(now, input, effects);
        }
        let payload_max = if self.payloads { self.file_bytes() / PAYLOAD_SHARE } else { 0 };
        // A frame without any tail has nothing to be left out.
        format::write_input(
            &mut self.record,
            now.0,
            &input,
            |header| core.reads_payload(header),
            payload_max,
        );
        let open = self.begin(core, now);
        let mut digesting = Digesting { effects, digest: Digest::new(0), count: 0 };
        core.handle(now, input, &mut digesting);
        let Digesting { effects, digest, count } = digesting;
        self.complete(open, count, digest);
        if let Some(news) = self.news.take() {
            self.handle(core, now, Input::Recording(news), effects);
        }
    }

    /// Asks the core for room and records that.
    pub(crate) fn admit(
        &mut self,
        core: &mut Broker<Slice>,
        now: Instant,
        from: PeerId,
        bytes: u64,
        effects: &mut dyn Effects<Slice>,
    ) -> bool {
        if self.tape.is_none() {
            return core.admit(now, from, bytes, effects);
        }
        format::write_admit(&mut self.record, now.0, from, bytes);
        let open = self.begin(core, now);
        let mut digesting = Digesting { effects, digest: Digest::new(0), count: 0 };
        let admitted = core.admit(now, from, bytes, &mut digesting);
        let Digesting { mut digest, count, .. } = digesting;
        digest.word(admitted.into());
        self.complete(open, count, digest);
        admitted
    }

    /// What is to be told to the core after the start.
    pub(crate) fn take_news(&mut self) -> Option<Recording> {
        self.news.take()
    }

    /// Writes the record of an input before it is handled: if that is the broker's end, it is there.
    #[inline]
    fn begin(&mut self, core: &Broker<Slice>, now: Instant) -> Option<Open> {
        let len = self.record.len();
        if let Some(tape) = &self.tape
            && tape.mapping.len() - tape.at < len
        {
            self.turn_over(core, now, len);
        }
        let tape = self.tape.as_mut()?;
        let check = format::seal(&mut self.record, tape.chain);
        tape.mapping.write_at(tape.at, &self.record);
        Some(Open { len, check })
    }

    /// Completes the record with what came of it, and moves the end mark behind it.
    #[inline]
    fn complete(&mut self, open: Option<Open>, count: u32, digest: Digest) {
        let (Some(Open { len, check }), Some(tape)) = (open, &mut self.tape) else { return };
        let end = tape.at + len;
        tape.chain = format::complete(check, count, digest.value());
        tape.mapping.write_at(tape.at + 12, &count.to_le_bytes());
        tape.mapping.write_at(end - 16, &digest.value().to_le_bytes());
        tape.mapping.write_at(end - 8, &tape.chain.to_le_bytes());
        tape.mapping.store_at(END_AT, format::end_mark(end));
        tape.at = end;
        self.inputs += 1;
    }

    /// Goes on with a new file, or stops.
    #[cold]
    fn turn_over(&mut self, core: &Broker<Slice>, now: Instant, wanted: usize) {
        let number = self.tape.as_ref().map_or(0, |tape| tape.number);
        let begun = clock::monotonic_ns();
        let changed = self.change_files(number + 1, core, now);
        let pause = clock::monotonic_ns().saturating_sub(begun);
        self.pause_ns = self.pause_ns.max(pause);
        let room = self.tape.as_ref().map_or(0, |tape| tape.mapping.len() - tape.at);
        let failure = match changed {
            Err(why) => Some(why),
            Ok(()) if self.pause_max < pause => Some(format!(
                "to begin a file kept the broker for {} ms, and {} ms is the most",
                pause / 1_000_000,
                self.pause_max / 1_000_000
            )),
            Ok(()) if room < wanted => Some(format!(
                "one input takes {wanted} bytes, and a file has room for {room}; give the recorder more"
            )),
            Ok(()) => None,
        };
        if failure.is_some() {
            self.tape = None;
        }
        self.tell(failure);
    }

    fn tell(&mut self, failure: Option<String>) {
        self.news = Some(Recording {
            bytes: if failure.is_none() { self.bytes } else { 0 },
            payloads: self.payloads,
            file: self.tape.as_ref().map_or(0, |tape| tape.number),
            pause_ns: self.pause_ns,
            failure,
        });
    }

    /// Begins the file of this number, which shows up under its name when it is whole, and removes the
    /// oldest one.
    fn change_files(&mut self, number: u64, core: &Broker<Slice>, now: Instant) -> Result<(), String> {
        let file_bytes = self.file_bytes();
        let snapshot = core.snapshot(file_bytes / 4).ok_or_else(|| {
            format!(
                "what the broker holds takes more than {} KiB, a quarter of a file; give the recorder more",
                file_bytes >> 12
            )
        })?;
        let head = Head {
            number,
            first_input: self.inputs,
            at_ns: now.0,
            wall_ns: clock::wall_ns(),
            incarnation: self.incarnation.into(),
            payloads: self.payloads,
            build: BUILD.to_owned(),
            snapshot,
        };
        let draft = self.folder.join(format!("{number}.{DRAFT}"));
        let failed = |what: &str, path: &Path| {
            let text = format!("cannot {what} {} ({} KiB)", path.display(), file_bytes >> 10);
            move |error: io::Error| format!("{text}: {error}")
        };
        // The oldest one first: there may be no room for five.
        if let Some(oldest) = number.checked_sub(FILES) {
            remove(&path_of(&self.folder, oldest))
                .map_err(failed("remove", &path_of(&self.folder, oldest)))?;
        }
        let mut mapping = Mapping::create(&draft, file_bytes).map_err(failed("make", &draft))?;
        let bytes = head.to_bytes();
        mapping.write_at(0, &bytes);
        let path = path_of(&self.folder, number);
        fs::rename(&draft, &path).map_err(failed("name", &path))?;
        self.tape = Some(Tape { mapping, number, at: bytes.len(), chain: Head::chain(&bytes) });
        self.tell(None);
        Ok(())
    }

    fn file_bytes(&self) -> usize {
        // The least that has a head and a record is far below the least that is taken.
        const { assert!(BYTES_MIN as usize / FILES as usize > 64 * RECORD_BYTES) };
        (self.bytes / FILES) as usize & !7
    }
}

/// What a file is named as long as it is not whole.
const DRAFT: &str = "rec.new";

/// The path of the file of that number.
pub(crate) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.rec"))
}

/// The numbers of the files in a folder, the oldest first.
pub(crate) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".rec")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what earlier brokers left half made and what is too old; the number of their last file. That
/// one and those before it stay, as many as there may be: they may tell how that broker ended.
fn tidy_up(folder: &Path) -> io::Result<u64> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(DRAFT)) {
            remove(&entry.path())?;
        }
    }
    let numbers = numbers(folder)?;
    let last = numbers.last().copied().unwrap_or(0);
    for &number in numbers.iter().filter(|&&number| number + FILES <= last) {
        remove(&path_of(folder, number))?;
    }
    Ok(last)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
