//! Recordings of a core in hand: what goes round, what is cut, what is changed, and what does not fit.

use super::*;
use crate::replay::{Finding, Report, replay};
use std::path::PathBuf;
use switchboard_core::{Departure, Identity, Instance, Limits, Policy, SendTail, Settings};
use switchboard_protocol::control::{self, Open, Operation, Serve};
use switchboard_protocol::{HELLO_MAGIC, Hello, Kind, VERSION, Verb, decode, encode, write_frame};

const MIB: u64 = 1 << 20;
const CLIENT: PeerId = PeerId { slot: 0, generation: 1 };

/// A core with its recorder, and everything that is told to both.
struct Desk {
    folder: tempfile::TempDir,
    core: Broker<Slice>,
    recorder: Option<Recorder>,
    now: u64,
    effects: Vec<Effect<Slice>>,
}

fn settings() -> Settings {
    Settings {
        policy: Policy::user_instance(1),
        limits: Limits::default(),
        topics: Vec::new(),
        queues: Vec::new(),
        files: Vec::new(),
    }
}

impl Desk {
    fn new(bytes: u64, payloads: bool) -> Self {
        let instance =
            Instance { incarnation: 1, version: "0".into(), pid: 1, system: false, secret: [1, 2] };
        let core = Broker::new(settings(), instance, Instant(1_000));
        let folder = tempfile::tempdir().expect("a folder");
        let mut desk = Self { folder, core, recorder: None, now: 1_000, effects: Vec::new() };
        desk.record(bytes, payloads).expect("a recorder");
        desk
    }

    /// Records from now on.
    fn record(&mut self, bytes: u64, payloads: bool) -> Result<(), String> {
        let recorder =
            Recorder::start(self.folder.path(), bytes, payloads, 1, &self.core, Instant(self.now))?;
        self.recorder = Some(recorder);
        Ok(())
    }

    fn tell(&mut self, input: Input<Slice>) {
        self.now += 1_000;
        let now = Instant(self.now);
        match &mut self.recorder {
            Some(recorder) => recorder.handle(&mut self.core, now, input, &mut self.effects),
            None => self.core.handle(now, input, &mut self.effects),
        }
    }

    fn connect(&mut self) {
        let identity = Identity { uid: 1, pid: 7, ..Identity::default() };
        self.tell(Input::Connect { peer: CLIENT, identity });
        let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "desk".into() };
        self.frame(Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &encode(&hello));
    }

    fn frame(&mut self, header: Header, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, header, &[], &[], payload);
        let header = Header::from_bytes(bytes.first_chunk().expect("a header")).expect("a kind");
        let tail = Slice::from(bytes[64..header.len as usize].to_vec());
        self.tell(Input::Frame { from: CLIENT, header, tail });
    }

    fn control(&mut self, operation: Operation, body: &[u8]) {
        let header = Header { method: operation as u32, call: 1 << 32, ..Header::new(Kind::Call) };
        self.frame(header, body);
    }

    /// Names of its own, which a snapshot holds.
    fn serve(&mut self, names: std::ops::Range<u32>) {
        for name in names {
            let serve = Serve {
                name: format!("desk.service-{name}"),
                mode: 0,
                flags: 0,
                calls: 1,
                send_bytes: 0,
                about: "x".repeat(100),
            };
            self.control(Operation::Serve, &encode(&serve));
            self.wrote();
        }
    }

    /// What goes on all the time, and leaves nothing behind.
    fn chatter(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.control(Operation::Status, b"");
            self.wrote();
        }
    }

    fn chatter_until(&mut self, done: fn(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            self.chatter(100);
        }
        panic!("that never comes: {:?}", self.files());
    }

    /// What the broker says of its recorder, without a word to the recorder.
    fn status(&mut self) -> control::Recorder {
        let header = Header { method: Operation::Status as u32, call: 1 << 32, ..Header::new(Kind::Call) };
        let mut effects = Vec::new();
        let input = Input::Frame { from: CLIENT, header, tail: Slice::default() };
        self.core.handle(Instant(self.now), input, &mut effects);
        let status = effects.iter().find_map(|effect| match effect {
            Effect::Send { tail: SendTail::Own(body), .. } => decode::<control::Status>(body),
            _ => None,
        });
        status.expect("an answer").recorder
    }

    /// Handles, which stay.
    fn open(&mut self, count: u32) {
        for _ in 0..count {
            let rights = Verb::Call.right().0;
            let open = Open { name: "desk.one".into(), kind: 1, rights, on_behalf_of: 0 };
            self.control(Operation::Open, &encode(&open));
            self.wrote();
        }
    }

    /// The client has read everything.
    fn wrote(&mut self) {
        self.effects.clear();
        self.tell(Input::Wrote { peer: CLIENT, bytes: 1 << 20 });
    }

    fn files(&self) -> Vec<u64> {
        numbers(&self.recordings()).expect("a folder")
    }

    fn recordings(&self) -> PathBuf {
        self.folder.path().join(FOLDER)
    }

    fn replay(&self) -> Report {
        replay(&self.recordings()).expect("a recording")
    }

    fn bytes_of(&self, number: u64) -> Vec<u8> {
        fs::read(path_of(&self.recordings(), number)).expect("a file")
    }
}

/// A few numbers by chance, the same each time.
fn dice(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_recording_comes_out_the_same() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.serve(0..20);
    desk.chatter(50);
    desk.tell(Input::Disconnect { peer: CLIENT, how: Departure::default() });
    let report = desk.replay();
    assert_eq!(report.finding, None, "{report:?}");
    assert_eq!((report.files.len(), report.brokers, report.peers, report.payloads), (1, 1, 1, false));
    // One more is the recorder's own, which tells the core of itself.
    assert_eq!(report.inputs, 2 + 40 + 100 + 1 + 1);
    assert_eq!(report.to_ns, desk.now);
}

#[test]
fn four_files_go_round_and_each_goes_on_where_the_one_before_ended() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.serve(0..50);
    desk.chatter_until(|desk| desk.files().first() == Some(&5));
    assert_eq!(desk.files(), [5, 6, 7, 8]);
    let on_disk: u64 = (5..9).map(|number| desk.bytes_of(number).len() as u64).sum();
    assert_eq!(on_disk, MIB);
    let report = desk.replay();
    assert_eq!(report.finding, None, "{report:?}");
    assert_eq!((report.files.len(), report.brokers), (4, 1));
    assert!(report.first_input > 1000, "{report:?}");
    let one = replay(&path_of(&desk.recordings(), 7)).expect("a recording");
    assert_eq!((one.finding, one.files.len()), (None, 1));
    let whole = replay(desk.folder.path()).expect("the state directory will do");
    assert_eq!(whole.inputs, report.inputs);
}

#[test]
fn no_flipped_byte_goes_unseen() {
    let mut desk = Desk::new(MIB, true);
    desk.connect();
    desk.serve(0..10);
    desk.chatter(40);
    let path = path_of(&desk.recordings(), 1);
    let whole = desk.bytes_of(1);
    let used = format::end_of(&whole).expect("an end");
    let mut state = 0x1234_5678_9abc_def1;
    for round in 0..500 {
        let mut flipped = whole.clone();
        let at = dice(&mut state) as usize % used;
        flipped[at] ^= 1 + (dice(&mut state) % 255) as u8;
        fs::write(&path, &flipped).expect("written");
        let report = replay(&path).expect("still a recording");
        assert!(report.finding.is_some(), "round {round}: a flip at {at} of {used} goes unseen");
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(desk.replay().finding, None);
}

#[test]
fn a_recording_that_was_cut_says_where() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.chatter(40);
    let path = path_of(&desk.recordings(), 1);
    let whole = desk.bytes_of(1);
    let used = format::end_of(&whole).expect("an end");
    let inputs = desk.replay().inputs;
    for len in (format::HEAD_BYTES..used).step_by(97) {
        fs::write(&path, &whole[..len]).expect("written");
        let report = replay(&path).expect("still a recording");
        assert!(matches!(report.finding, Some(Finding::Damaged { .. })), "{report:?}");
        assert!(report.inputs < inputs);
    }
    fs::write(&path, &whole[..used]).expect("written");
    assert_eq!(replay(&path).expect("a recording").finding, None, "what was never written is not missed");
    fs::write(&path, &whole[..4]).expect("written");
    assert!(replay(&path).expect_err("nothing").to_string().contains("no recording"));
}

#[test]
fn what_reached_the_core_past_its_inputs_is_found_with_its_input() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.open(3);
    let mut other = settings();
    other.limits.user_default.handles = 5;
    // Nobody recorded this.
    desk.core.handle(Instant(desk.now), Input::Reloaded { result: Ok(other) }, &mut desk.effects);
    desk.open(2);
    assert_eq!(desk.replay().finding, None, "five handles are allowed by either limit");
    desk.open(2);
    let report = desk.replay();
    let Some(Finding::Diverged { input, at_ns, what, .. }) = report.finding else { panic!("{report:?}") };
    // The sixth of them; each is two inputs, after three others.
    assert_eq!(input, 3 + 5 * 2, "{what}");
    assert_eq!(at_ns, report.to_ns);
    assert!(what.contains("Reply"), "{what}");
}

#[test]
fn a_state_that_differs_at_the_turn_of_a_file_is_found() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    let other = settings();
    desk.core.handle(Instant(desk.now), Input::Clock { wall_ns: 5 }, &mut desk.effects);
    desk.core.handle(Instant(desk.now), Input::Reloaded { result: Ok(other) }, &mut desk.effects);
    desk.chatter_until(|desk| desk.files().len() == 2);
    let Some(Finding::Diverged { file, what, .. }) = desk.replay().finding else { panic!("not seen") };
    assert!(file.ends_with("2.rec") && what.contains("held"), "{what}");
}

#[test]
fn the_input_in_which_the_core_dies_is_in_the_recording() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.chatter(3);
    let before = desk.replay().inputs;
    let stranger = PeerId { slot: 77, generation: 1 };
    let death = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        desk.tell(Input::Disconnect { peer: stranger, how: Departure::default() });
    }));
    death.expect_err("a driver that breaks its part");
    let report = desk.replay();
    assert_eq!((report.finding.as_ref(), report.inputs), (None, before), "{report:?}");
    let last = report.unanswered.expect("the last input");
    assert!(last.what.contains("Disconnect"), "{last:?}");
    assert!(last.panic.expect("it dies again").contains("not connected"));
}

#[test]
fn payloads_are_recorded_by_choice_only() {
    let secret = b"the secret of the desk";
    for payloads in [false, true] {
        let mut desk = Desk::new(MIB, payloads);
        desk.connect();
        desk.frame(Header { call: 1 << 32, handle: 5 | 1 << 32, ..Header::new(Kind::Call) }, secret);
        let file = desk.bytes_of(1);
        assert_eq!(file.windows(secret.len()).any(|bytes| bytes == secret), payloads);
        let report = desk.replay();
        assert_eq!((report.finding, report.payloads), (None, payloads));
    }
}

#[test]
fn payloads_too_large_for_a_file_are_left_out() {
    let mut desk = Desk::new(MIB, true);
    desk.connect();
    desk.frame(Header { handle: 5 | 1 << 32, ..Header::new(Kind::Send) }, &vec![7; 300 << 10]);
    assert!(desk.recorder.as_ref().is_some_and(|recorder| recorder.tape.is_some()));
    assert_eq!(desk.replay().finding, None);
}

#[test]
fn a_broker_that_holds_too_much_stops_recording_loudly() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.serve(0..100);
    let well = desk.status();
    assert_eq!((well.bytes, well.file, well.failure.as_str()), (MIB, 1, ""));
    desk.serve(100..2000);
    let ill = desk.status();
    assert!(ill.bytes == 0 && ill.failure.contains("a quarter of a file"), "{ill:?}");
    assert!(desk.replay().finding.is_none(), "what was recorded before is whole");
}

#[test]
fn a_change_of_files_that_keeps_the_broker_too_long_is_the_last_one_and_is_said() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.chatter_until(|desk| desk.files().len() == 2);
    // From here on no time at all is allowed.
    desk.recorder.as_mut().expect("a recorder").pause_max = 0;
    desk.chatter_until(|desk| desk.recorder.as_ref().is_some_and(|it| it.tape.is_none()));
    // The broker goes on, and nothing more is written.
    let (files, inputs) = (desk.files(), desk.replay().inputs);
    desk.chatter(10);
    assert_eq!((desk.files(), desk.replay().inputs), (files, inputs));
    assert_eq!(desk.replay().finding, None, "what was recorded before is whole");
    let told = desk.status();
    assert!(told.bytes == 0 && told.failure.contains("kept the broker for"), "{told:?}");
    assert!(0 < told.pause_ns, "{told:?}");
}

#[test]
fn a_broker_that_starts_again_leaves_what_the_last_one_recorded() {
    let mut desk = Desk::new(MIB, false);
    desk.connect();
    desk.chatter(3);
    fs::write(desk.recordings().join("9.rec.new"), "half made").expect("written");
    for last in 2..7 {
        desk.record(MIB, false).expect("again");
        desk.chatter(1);
        assert_eq!(desk.files().last(), Some(&last));
        assert!(desk.files().len() <= FILES as usize);
    }
    assert_eq!(desk.files(), [3, 4, 5, 6]);
    assert!(!desk.recordings().join("9.rec.new").exists());
    let report = desk.replay();
    assert_eq!((report.finding.as_ref(), report.files.len()), (None, 4), "{report:?}");
}

#[test]
fn what_cannot_be_recorded_is_told_at_once() {
    let mut desk = Desk::new(MIB, false);
    assert!(desk.record(1000, false).expect_err("too little").contains("1 MiB at least"));
    fs::remove_dir_all(desk.recordings()).expect("removed");
    fs::write(desk.recordings(), "in the way").expect("written");
    assert!(desk.record(MIB, false).expect_err("in the way").contains("not a directory"));
}

#[test]
fn what_is_no_recording_or_of_another_build_is_told_apart() {
    let desk = Desk::new(MIB, false);
    let path = path_of(&desk.recordings(), 1);
    let (head, _) = Head::read(&desk.bytes_of(1)).expect("a head");
    fs::write(&path, Head { build: "0.0.7".into(), ..head }.to_bytes()).expect("written");
    let error = replay(&path).expect_err("another build").to_string();
    assert!(error.contains("switchboard 0.0.7") && error.contains(BUILD), "{error}");
    fs::write(&path, "[Unit]\nDescription=a unit\n").expect("written");
    assert!(replay(&path).expect_err("no recording").to_string().contains("no recording"));
    fs::remove_file(&path).expect("removed");
    assert!(replay(&desk.recordings()).expect_err("nothing").to_string().contains("1.rec"));
}
