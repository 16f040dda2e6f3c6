//! One journal through several lives on one disk, by dice, and what must hold after each.
//!
//! The world remembers what it appended and what it was promised. After each start: the records are those
//! that were appended, in order and without a gap; all that were reported synced are there, and, if only
//! the process died, all that were reported written; a segment has gone only if it was dropped, and
//! only after what was appended before that was safe.

use std::cell::Cell;

use switchboard_broker::journal::{Batch, Faults, JournalError, Layout, SimDisk, Writer, recover};

use crate::dice::Dice;
use crate::lying::{Lie, Lying};

const LAYOUT: Layout = Layout { preallocated_bytes: 6000, salt: 0x5EED };

/// What happened in a world, so that a test can say that it saw enough.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) power_losses: u64,
    pub(crate) deaths: u64,
    pub(crate) failures: u64,
    pub(crate) cuts: u64,
    pub(crate) drops: u64,
    pub(crate) starts_cut_short: u64,
    pub(crate) records: u64,
}

struct World {
    dice: Dice,
    lie: Lie,
    /// What was appended, by position - 1.
    truth: Vec<Vec<u8>>,
    /// Through here everything must be there after the next start.
    promised: u64,
    /// Through here it was reported synced.
    synced: u64,
    /// Segments with the position of their first record, oldest first, dropped ones too.
    segments: Vec<(u32, u64)>,
    dropped: Vec<Dropped>,
    seen: Seen,
}

struct Dropped {
    segment: u32,
    /// What was appended before it was dropped.
    appended: u64,
    /// Whether the writer has said that it is gone.
    done: bool,
}

/// Runs the world of a seed: what it saw, or which promise was broken.
pub(crate) fn run(seed: u64, lie: Lie) -> Result<Seen, String> {
    let mut disk = SimDisk::new(seed ^ 0xD15C);
    let mut world = World {
        dice: Dice(seed),
        lie,
        truth: Vec::new(),
        promised: 0,
        synced: 0,
        segments: Vec::new(),
        dropped: Vec::new(),
        seen: Seen::default(),
    };
    for life in 0..3 + world.dice.below(4) {
        world.live(&mut disk).map_err(|broken| format!("life {life}: {broken}"))?;
    }
    // A last look, on a good day.
    world.start(&mut disk, &Cell::new(false)).map_err(|broken| format!("last look: {broken}"))?;
    Ok(world.seen)
}

impl World {
    fn live(&mut self, disk: &mut SimDisk) -> Result<(), String> {
        let running = Cell::new(false);
        disk.faults.torn_sectors = self.dice.one_in(2);
        disk.faults.preallocates = !self.dice.one_in(4);
        disk.faults.short_writes = self.dice.one_in(2);
        if self.dice.one_in(4) {
            disk.faults.power_off_at = Some(disk.changes() + self.dice.below(8));
        } else if self.dice.one_in(4) {
            // Starting twice is starting once.
            drop(self.start(disk, &running)?);
        }
        let reached = match self.start(disk, &running)? {
            None => None,
            Some(mut writer) => {
                running.set(true);
                self.plan(writer.disk().disk);
                let failed = self.work(&mut writer)?;
                self.seen.failures += u64::from(failed);
                Some((writer.written(), writer.synced()))
            }
        };
        let Some((written, synced)) = reached else {
            self.seen.starts_cut_short += 1;
            self.seen.power_losses += 1;
            disk.lose_power();
            // What was only written before is no longer promised: no start has made it safe.
            self.promised = self.synced;
            return Ok(());
        };
        self.synced = if self.lie == Lie::ReportsEarly { written } else { synced };
        if self.dice.one_in(2) || disk.faults.power_off_at.is_some() {
            self.seen.power_losses += 1;
            disk.lose_power();
            self.promised = self.synced;
        } else {
            // Whatever was written survives the death of the process, synced or not.
            self.seen.deaths += 1;
            self.promised = written;
            disk.faults = Faults::default();
        }
        Ok(())
    }

    /// Starts on what is there and checks it. No writer if the power goes meanwhile.
    fn start<'a>(
        &mut self,
        disk: &'a mut SimDisk,
        running: &'a Cell<bool>,
    ) -> Result<Option<Writer<Lying<'a>>>, String> {
        let may_fail = disk.faults.power_off_at.is_some();
        let mut records: Vec<(u32, u64, Vec<u8>)> = Vec::new();
        let lying = Lying { disk, lie: self.lie, running, last_created: None };
        let outcome = recover(lying, LAYOUT, &mut |record| {
            records.push((record.segment, record.position, record.bytes.to_vec()));
        });
        let recovery = match outcome {
            Ok(recovery) => recovery,
            Err(JournalError::Io { .. }) if may_fail => return Ok(None),
            Err(error) => return Err(format!("does not start: {error}")),
        };
        let there: Vec<(u32, u64)> =
            recovery.segments.iter().map(|segment| (segment.number, segment.first_position)).collect();
        let next = recovery.next_position;
        self.seen.cuts += u64::from(recovery.cut.is_some());
        self.check(&records, &there, next)?;
        self.truth.truncate(next as usize - 1);
        (self.promised, self.synced) = (next - 1, next - 1);
        self.segments = there;
        self.dropped.clear();
        Ok(Some(recovery.writer))
    }

    fn check(&self, records: &[(u32, u64, Vec<u8>)], there: &[(u32, u64)], next: u64) -> Result<(), String> {
        let first = there.first().map_or(1, |&(_, first)| first);
        if next <= self.promised {
            return Err(format!("{} was promised, but record {next} is the next", self.promised));
        }
        if next - 1 > self.truth.len() as u64 || next - first != records.len() as u64 {
            return Err(format!("records {first} to {next} are none, or not all of them were handed out"));
        }
        for (position, (segment, found, bytes)) in (first..).zip(records) {
            let home = there.iter().rfind(|&&(_, first)| first <= position).map(|&(number, _)| number);
            if *found != position || Some(*segment) != home {
                return Err(format!(
                    "record {found} of segment {segment} where {position} of {home:?} should be"
                ));
            }
            if *bytes != self.truth[position as usize - 1] {
                return Err(format!("record {position} is not what was appended"));
            }
        }
        if let Some(stranger) = there.iter().find(|segment| !self.segments.contains(segment)) {
            return Err(format!("segment {stranger:?} was never begun"));
        }
        for &(number, _) in &self.segments {
            let dropped = self.dropped.iter().find(|dropped| dropped.segment == number);
            let is_there = there.iter().any(|&(there, _)| there == number);
            let is_older = there.first().is_some_and(|&(oldest, _)| number < oldest);
            match dropped {
                None if is_older => return Err(format!("segment {number} is gone and was not dropped")),
                Some(dropped) if is_older && dropped.appended >= next => {
                    let appended = dropped.appended;
                    return Err(format!("segment {number} went before record {appended} was safe"));
                }
                Some(dropped) if is_there && dropped.done => {
                    return Err(format!("segment {number} has come back"));
                }
                None | Some(_) => {}
            }
        }
        Ok(())
    }

    /// Decides what will go wrong in this life.
    fn plan(&mut self, disk: &mut SimDisk) {
        let dice = &mut self.dice;
        let (changes, writes, syncs) = (disk.changes(), disk.writes(), disk.syncs());
        let used: usize = disk.names().filter_map(|name| disk.contents(name)).map(<[u8]>::len).sum();
        let faults = &mut disk.faults;
        faults.power_off_at = None;
        match dice.below(8) {
            0 => faults.fail_write_at = Some(writes + dice.below(20)),
            1 | 2 => {
                faults.fail_sync_at = Some(syncs + dice.below(15));
                faults.failed_sync_forgets = !dice.one_in(3);
            }
            3 => faults.capacity = used as u64 + dice.below(12_000),
            4..=6 => faults.power_off_at = Some(changes + dice.below(60)),
            _good_day => {}
        }
    }

    /// Works until the end of this life; whether by a failure.
    fn work(&mut self, writer: &mut Writer<Lying<'_>>) -> Result<bool, String> {
        let mut batch = Batch::default();
        for _ in 0..1 + self.dice.below(12) {
            self.fill(&mut batch);
            let mut outcome = writer.write(&mut batch);
            batch.clear();
            if outcome.is_ok() {
                self.dropped.iter_mut().for_each(|dropped| dropped.done = true);
                if !self.dice.one_in(3) {
                    outcome = writer.sync();
                }
            }
            if let Err(failure) = outcome {
                let reached = (writer.written(), writer.synced());
                let again = (writer.sync().err(), writer.close().err());
                if again != (Some(failure.clone()), Some(failure))
                    || reached != (writer.written(), writer.synced())
                {
                    return Err("it went on after a failure".to_owned());
                }
                return Ok(true);
            }
        }
        Ok(self.dice.one_in(3) && writer.close().is_err())
    }

    fn fill(&mut self, batch: &mut Batch) {
        if self.segments.is_empty() {
            self.roll(batch);
        }
        let count = if self.dice.one_in(3) { 1 } else { 1 + self.dice.below(6) };
        for _ in 0..count {
            match self.dice.below(12) {
                0 => self.roll(batch),
                1 => self.drop_oldest(batch),
                2 => self.append(batch, 3000),
                _small => self.append(batch, 150),
            }
        }
    }

    fn append(&mut self, batch: &mut Batch, below: u64) {
        // Often of one size: what is left of an old record then ends where a new one does.
        let bytes = if self.dice.one_in(2) {
            self.dice.roll().to_le_bytes().repeat(5)
        } else {
            self.dice.bytes(below)
        };
        let (one, other) = bytes.split_at(bytes.len() / 3);
        self.truth.push(bytes.clone());
        self.seen.records += 1;
        batch.append(self.truth.len() as u64, &[one, other]);
    }

    fn roll(&mut self, batch: &mut Batch) {
        let number = self.segments.last().map_or(1, |&(number, _)| number + 1);
        self.segments.push((number, self.truth.len() as u64 + 1));
        batch.roll(number);
    }

    fn drop_oldest(&mut self, batch: &mut Batch) {
        let gone = self.dropped.len();
        if self.segments.len() < gone + 2 {
            return;
        }
        let segment = self.segments[gone].0;
        if self.lie == Lie::DropsEarly {
            batch.drop_segment(segment);
            self.append(batch, 150);
        } else {
            self.append(batch, 150);
            batch.drop_segment(segment);
        }
        self.dropped.push(Dropped { segment, appended: self.truth.len() as u64, done: false });
        self.seen.drops += 1;
    }
}
