//! Damage: an alarm with file and offset and nothing changed, or, at a torn end, a cut. Never a record
//! less that was proven to be on the disk, and never one that nobody wrote.

use switchboard_broker::journal::{Batch, JournalError, Layout, SimDisk, recover};

use crate::dice::Dice;

const LAYOUT: Layout = Layout { preallocated_bytes: 600, salt: 77 };

type Records = Vec<(u64, Vec<u8>)>;

/// Reads what is there.
fn read(disk: &mut SimDisk) -> Result<Records, JournalError> {
    let mut records = Vec::new();
    recover(disk, LAYOUT, &mut |record| records.push((record.position, record.bytes.to_vec())))?;
    Ok(records)
}

/// Three segments with a few synced batches each.
fn journal(closed: bool) -> (SimDisk, Records) {
    let mut disk = SimDisk::new(1);
    let mut dice = Dice(5);
    let mut writer = recover(&mut disk, LAYOUT, &mut |_| {}).expect("an empty disk").writer;
    let mut records = Records::new();
    let mut batch = Batch::default();
    for segment in 1..=3 {
        batch.roll(segment);
        for _ in 0..3 {
            for _ in 0..2 {
                let bytes = dice.bytes(40);
                let position = records.len() as u64 + 1;
                batch.append(position, &[&bytes]);
                records.push((position, bytes));
            }
            writer.write(&mut batch).expect("written");
            writer.sync().expect("synced");
            batch.clear();
        }
    }
    if closed {
        writer.close().expect("closed");
    }
    (disk, records)
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let contents = |name: &str| (name.to_owned(), disk.contents(name).expect("it is there").to_vec());
    disk.names().map(contents).collect()
}

/// Flips each bit of each file in turn: what `open` makes of it must be the records through `proven` at
/// least, or an alarm that changes nothing.
fn flip_everywhere(
    closed: bool,
    proven: usize,
    open: fn(&mut SimDisk) -> Result<Records, JournalError>,
) -> Result<u32, String> {
    let (disk, records) = journal(closed);
    let mut alarms = 0;
    for (name, bytes) in files(&disk) {
        for bit in 0..bytes.len() * 8 {
            let mut disk = disk.clone();
            disk.flip_bit(&name, bit);
            let before = files(&disk);
            match open(&mut disk) {
                Ok(found) if found.len() < proven || !records.starts_with(&found) => {
                    return Err(format!("{name}, bit {bit}: {} records are left", found.len()));
                }
                Ok(_) => {}
                Err(error) if files(&disk) != before => return Err(format!("changed, and then {error}")),
                Err(_) => alarms += 1,
            }
        }
    }
    Ok(alarms)
}

#[test]
fn after_a_clean_end_no_flipped_bit_takes_a_record_without_an_alarm() {
    let alarms = flip_everywhere(true, 18, read).expect("alarm or all of it");
    assert!(alarms > 1000, "{alarms}");
}

#[test]
fn without_a_clean_end_a_flipped_bit_takes_nothing_that_a_later_record_vouches_for() {
    // The last batch has nothing behind it that says that it was synced.
    let alarms = flip_everywhere(false, 16, read).expect("alarm or all that is proven");
    assert!(alarms > 1000, "{alarms}");
}

/// The planted bug: damage is cut like a torn end.
fn cuts_in_the_middle(disk: &mut SimDisk) -> Result<Records, JournalError> {
    loop {
        match read(disk) {
            Err(JournalError::Damaged { file, offset, .. }) => {
                let name = file.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
                let kept = disk.contents(&name).expect("it is there")[..offset as usize].to_vec();
                disk.put(&name, &kept);
                let later: Vec<String> =
                    disk.names().filter(|other| **other > *name).map(str::to_owned).collect();
                later.iter().for_each(|name| disk.take_away(name));
            }
            outcome => return outcome,
        }
    }
}

#[test]
fn a_recovery_that_cuts_in_the_middle_is_seen() {
    for (closed, proven) in [(true, 18), (false, 16)] {
        println!("{}", flip_everywhere(closed, proven, cuts_in_the_middle).expect_err("seen"));
    }
}

#[test]
fn a_file_cut_short_leaves_the_records_before_or_is_an_alarm() {
    let (disk, records) = journal(true);
    for (at, (name, bytes)) in files(&disk).into_iter().enumerate() {
        for length in 0..bytes.len() {
            let mut disk = disk.clone();
            disk.put(&name, &bytes[..length]);
            match read(&mut disk) {
                Ok(found) => {
                    assert!(at == 2, "{name} at {length}: another segment goes on behind it");
                    assert!(found.len() >= 12 && records.starts_with(&found), "{name} at {length}");
                }
                Err(JournalError::Damaged { .. } | JournalError::Header { .. }) => {}
                Err(error) => panic!("{name} at {length}: {error}"),
            }
        }
    }
}

#[test]
fn the_alarm_names_file_and_offset_and_what_was_expected() {
    let (mut disk, records) = journal(true);
    let second = records[7].1.len();
    disk.flip_bit("0000000002.log", 8 * (64 + 24));
    let error = read(&mut disk).expect_err("damaged");
    assert!(matches!(error, JournalError::Damaged { offset: 64, position: 7, .. }), "{error}");
    let text = error.to_string();
    for part in ["/sim/0000000002.log", "offset 64", "expected record 7", "backup"] {
        assert!(text.contains(part), "{part}: {text} ({second})");
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_an_alarm_and_a_removed_beginning_is_not() {
    let (disk, records) = journal(true);
    let mut holed = disk.clone();
    holed.take_away("0000000002.log");
    assert!(matches!(read(&mut holed), Err(JournalError::Missing { missing: 2, .. })));
    let mut begun_later = disk.clone();
    begun_later.take_away("0000000001.log");
    assert_eq!(read(&mut begun_later).expect("normal"), records[6..]);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (mut disk, _) = journal(true);
    let mut bytes = disk.contents("0000000003.log").expect("there").to_vec();
    bytes[8] = 9;
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    disk.put("0000000003.log", &bytes);
    let before = files(&disk);
    let error = read(&mut disk).expect_err("newer");
    assert!(matches!(error, JournalError::Newer { found: 9, known: 1, .. }), "{error}");
    assert_eq!(files(&disk), before);
}

#[test]
fn a_foreign_file_that_is_named_like_a_segment_is_an_alarm_and_other_files_are_left_alone() {
    let (disk, records) = journal(true);
    for bytes in [&b""[..], b"a log of somebody's", &[0; 600]] {
        let mut disk = disk.clone();
        disk.put("0000000004.log", bytes);
        assert!(matches!(read(&mut disk), Err(JournalError::Header { .. })));
    }
    let mut renamed = disk.clone();
    renamed.put("0000000004.log", disk.contents("0000000001.log").expect("there"));
    let error = read(&mut renamed).expect_err("another's name").to_string();
    assert!(error.contains("segment 4, but it says that it is segment 1"), "{error}");

    let mut more = disk.clone();
    for name in ["lock", "4.log", "00000000004.log", "0000000004.log.bak", "99999999999.log", "notes"] {
        more.put(name, b"somebody's");
    }
    more.put("0000000004.log.new", b"half a header");
    assert_eq!(read(&mut more).expect("good"), records);
    assert_eq!(more.names().count(), 9, "the half-made segment is gone and nothing else");
}

#[test]
fn a_disk_that_cannot_be_read_is_told_with_its_words() {
    let (disk, _) = journal(true);
    let reads = disk.reads();
    for nth in 0..3 {
        let mut disk = disk.clone();
        disk.faults.fail_read_at = Some(reads + nth);
        let error = read(&mut disk).expect_err("unreadable").to_string();
        assert!(error.contains("cannot read /sim/000000000") && error.contains("os error 5"), "{error}");
    }
}

/// A torn record whose payload looks like later records that vouch for it.
fn torn_around(payload: &[u8]) -> Result<Records, JournalError> {
    let mut disk = SimDisk::new(3);
    let mut writer = recover(&mut disk, LAYOUT, &mut |_| {}).expect("an empty disk").writer;
    let mut batch = Batch::default();
    batch.roll(1);
    batch.append(1, &[payload]);
    writer.write(&mut batch).expect("written");
    drop(writer);
    disk.flip_bit("0000000001.log", 64 * 8);
    read(&mut disk)
}

#[test]
fn a_payload_cannot_pass_for_records() {
    let (disk, _) = journal(true);
    let stolen = disk.contents("0000000001.log").expect("there")[64..].to_vec();
    // The dice of the checker: with the salt of this very segment it does raise the alarm.
    assert!(matches!(torn_around(&stolen), Err(JournalError::Damaged { .. })));

    let mut disk = SimDisk::new(1);
    let mut writer =
        recover(&mut disk, Layout { salt: 78, ..LAYOUT }, &mut |_| {}).expect("an empty disk").writer;
    let mut batch = Batch::default();
    batch.roll(1);
    (1..9).for_each(|position| batch.append(position, &[b"whatever"]));
    writer.write(&mut batch).expect("written");
    writer.close().expect("closed");
    let made_up = disk.contents("0000000001.log").expect("there")[64..].to_vec();
    assert_eq!(torn_around(&made_up).expect("cut"), []);
}

#[test]
fn what_is_left_of_a_torn_end_is_never_read_behind_a_new_record() {
    let mut disk = SimDisk::new(3);
    let mut batch = Batch::default();
    let mut writer = recover(&mut disk, LAYOUT, &mut |_| {}).expect("an empty disk").writer;
    batch.roll(1);
    (1..=3).for_each(|position| batch.append(position, &[b"old"]));
    writer.write(&mut batch).expect("written");
    drop(writer);
    disk.flip_bit("0000000001.log", 8 * (64 + 32));
    let recovery = recover(&mut disk, LAYOUT, &mut |_| {}).expect("torn");
    assert_eq!(recovery.cut.map(|cut| (cut.offset, cut.bytes)), Some((96, 59)));
    let mut writer = recovery.writer;
    batch.clear();
    batch.append(2, &[b"new"]);
    writer.write(&mut batch).expect("written");
    drop(writer);
    assert_eq!(read(&mut disk).expect("good"), [(1, b"old".to_vec()), (2, b"new".to_vec())]);
}
