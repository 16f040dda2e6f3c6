//! Segments that anybody made up or chewed on, for a bounded time. Nothing panics, hangs or takes more
//! memory than a file has; what is wrong is an error that changes nothing, or a cut; and what is read
//! once is read again. `SWITCHBOARD_FUZZ_SECONDS` sets how long, 4 unless told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use switchboard_broker::journal::{Batch, JournalError, Layout, SimDisk, recover};

use crate::dice::Dice;

const LAYOUT: Layout = Layout { preallocated_bytes: 1500, salt: 9 };

#[test]
fn no_bytes_break_the_reader() {
    let seconds = std::env::var("SWITCHBOARD_FUZZ_SECONDS").map_or(4, |text| text.parse().expect("a number"));
    let begin = Instant::now();
    let (mut seed, mut good, mut cuts, mut alarms) = (0, 0, 0, 0);
    while seed < 2000 || begin.elapsed() < Duration::from_secs(seconds) {
        let mut dice = Dice(seed);
        let (mut disk, truth) = journal(&mut dice);
        for _ in 0..1 + dice.below(3) {
            chew(&mut disk, &mut dice);
        }
        let before: Vec<_> = contents(&disk);
        let size: usize = before.iter().map(|(_, bytes)| bytes.len()).sum();
        let reads = disk.reads();
        match read(&mut disk) {
            Ok((records, cut)) => {
                for (position, bytes) in &records {
                    assert_eq!(truth.get(position), Some(bytes), "seed {seed}: record {position}");
                }
                good += 1;
                cuts += u32::from(cut);
                let (again, cut) = read(&mut disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                assert!(again == records && !cut, "seed {seed}: it is mended");
            }
            Err(JournalError::Io { source, .. }) => panic!("seed {seed}: {source}"),
            Err(_) => {
                assert_eq!(contents(&disk), before, "seed {seed}: nothing is changed");
                alarms += 1;
            }
        }
        let reads = disk.reads() - reads;
        assert!(reads < 100 + size as u64 / 256, "seed {seed}: {reads} reads for {size} bytes");
        seed += 1;
    }
    println!("{seed} journals: {good} good, of which {cuts} cut, and {alarms} alarms");
    assert!(good > 100 && cuts > 50 && alarms > 100);
}

type Truth = HashMap<u64, Vec<u8>>;

type Records = Vec<(u64, Vec<u8>)>;

/// The records, and whether something was cut.
fn read(disk: &mut SimDisk) -> Result<(Records, bool), JournalError> {
    let mut records = Records::new();
    let recovery =
        recover(disk, LAYOUT, &mut |record| records.push((record.position, record.bytes.to_vec())))?;
    Ok((records, recovery.cut.is_some()))
}

fn contents(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().map(|name| (name.to_owned(), disk.contents(name).expect("there").to_vec())).collect()
}

fn journal(dice: &mut Dice) -> (SimDisk, Truth) {
    let mut disk = SimDisk::new(dice.roll());
    let mut writer = recover(&mut disk, LAYOUT, &mut |_| {}).expect("an empty disk").writer;
    let (mut truth, mut batch) = (Truth::new(), Batch::default());
    let mut position = 0;
    for segment in 1..=1 + dice.below(3) as u32 {
        batch.roll(segment);
        for _ in 0..dice.below(4) {
            for _ in 0..dice.below(5) {
                position += 1;
                let bytes = dice.bytes(200);
                batch.append(position, &[&bytes]);
                truth.insert(position, bytes);
            }
            writer.write(&mut batch).expect("written");
            batch.clear();
            if dice.one_in(2) {
                writer.sync().expect("synced");
            }
        }
    }
    writer.write(&mut batch).expect("written");
    if dice.one_in(2) {
        writer.close().expect("closed");
    }
    (disk, truth)
}

/// Does something to one of the files.
fn chew(disk: &mut SimDisk, dice: &mut Dice) {
    let files = contents(disk);
    // The last one most of the time: elsewhere nearly everything is an alarm.
    let which = if dice.one_in(4) { dice.below(files.len() as u64) as usize } else { files.len() - 1 };
    let (name, mut bytes) = files[which].clone();
    let any = |dice: &mut Dice, below: usize| if below == 0 { 0 } else { dice.below(below as u64) as usize };
    let at = any(dice, bytes.len());
    let end = at + any(dice, (bytes.len() - at).min(700) + 1);
    match dice.below(9) {
        0 => bytes.truncate(at),
        1 => bytes[at..end].fill(0),
        2 => bytes[at..end].iter_mut().for_each(|byte| *byte = dice.roll() as u8),
        3 => {
            // Some of it again, somewhere else, aligned like a record.
            let (from, to) = (at / 8 * 8, any(dice, bytes.len()) / 8 * 8);
            let piece = bytes[from..end.max(from)].to_vec();
            bytes.resize(bytes.len().max(to + piece.len()), 0);
            bytes[to..to + piece.len()].copy_from_slice(&piece);
        }
        4 => bytes.extend((0..end - at).map(|_| dice.roll() as u8)),
        5 => bytes = (0..end).map(|_| dice.roll() as u8).collect(),
        6 if bytes.len() >= 4 => {
            // A length that lies.
            let word = at.min(bytes.len() - 4) / 8 * 8;
            bytes[word..word + 4].copy_from_slice(&(dice.roll() as u32 >> dice.below(32)).to_le_bytes());
        }
        7 => {
            // Another segment under this name.
            let other = dice.below(files.len() as u64) as usize;
            bytes.clone_from(&files[other].1);
        }
        _flip => {
            return (0..1 + dice.below(3)).for_each(|_| disk.flip_bit(&name, any(dice, bytes.len() * 8)));
        }
    }
    disk.put(&name, &bytes);
}
