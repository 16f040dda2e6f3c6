//! Topics and queues that configuration declares: the keys of `[topic."NAME"]` and `[queue."NAME"]`.

use crate::Diagnostics;
use crate::reader::{Key, Reader, Unit, Value};
use crate::source::{At, Place};
use std::collections::BTreeMap;
use std::ops::Range;
use switchboard_core::{QueueSettings, TopicSettings};
use switchboard_protocol::Name;
use switchboard_protocol::queue::{Level, Overflow};
use toml::de::DeValue;

const TOPIC: [&str; 6] = ["transport", "retain", "history", "history_bytes", "durability", "block"];
const QUEUE: [&str; 7] =
    ["durability", "max_messages", "max_bytes", "overflow", "lossy", "max_deliveries", "dead_letters"];

/// Numbers that TOML can write.
const MOST: u64 = i64::MAX as u64;

/// Everything declared, by name.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) topics: BTreeMap<Name, TopicDraft>,
    pub(crate) queues: BTreeMap<Name, QueueDraft>,
}

/// A `[topic."NAME"]`, from all files: a later one amends single values.
pub(crate) struct TopicDraft {
    pub(crate) place: Place,
    pub(crate) retain: Option<At<bool>>,
    pub(crate) history: Option<At<u32>>,
    pub(crate) history_bytes: Option<At<u64>>,
    pub(crate) durability: Option<At<Level>>,
    pub(crate) block: Option<At<bool>>,
}

/// A `[queue."NAME"]`, likewise.
pub(crate) struct QueueDraft {
    pub(crate) place: Place,
    pub(crate) durability: Option<At<Level>>,
    pub(crate) messages_max: Option<At<u64>>,
    pub(crate) bytes_max: Option<At<u64>>,
    pub(crate) overflow: Option<At<Overflow>>,
    pub(crate) lossy: Option<At<bool>>,
    pub(crate) deliveries_max: Option<At<u32>>,
    pub(crate) dead_letters: Option<At<Name>>,
}

/// Reads the tables of `[topic]`.
pub(crate) fn read_topics(reader: &mut Reader<'_>, value: &Value<'_>, into: &mut Objects) {
    let Some(tables) = reader.table("topic", value) else { return };
    for (key, value) in tables {
        let Some((name, path)) = read_name(reader, "topic", key) else { continue };
        let Some(table) = reader.table(&path, value) else { continue };
        let place = reader.place(key.span());
        let topic = into.topics.entry(name).or_insert_with(|| TopicDraft::at(place));
        for (key, value) in table {
            let word = key.get_ref().as_ref();
            let (table, path, span) = (&path, format!("{path}.{word}"), key.span());
            match word {
                "transport" => read_transport(reader, &path, value),
                "retain" => set(&mut topic.retain, reader.boolean(&path, value), reader, span),
                "history" => {
                    let number = reader.number(&path, Unit::Count, 0..=u32::MAX.into(), value);
                    set(&mut topic.history, number.map(|number| number as u32), reader, span);
                }
                "history_bytes" => {
                    let number = reader.number(&path, Unit::Bytes, 1..=MOST, value);
                    set(&mut topic.history_bytes, number, reader, span);
                }
                "durability" => set(&mut topic.durability, read_level(reader, &path, value), reader, span),
                "block" => set(&mut topic.block, reader.boolean(&path, value), reader, span),
                _ => unknown_key(reader, table, key, value, &TOPIC),
            }
        }
    }
}

/// Reads the tables of `[queue]`.
pub(crate) fn read_queues(reader: &mut Reader<'_>, value: &Value<'_>, into: &mut Objects) {
    let Some(tables) = reader.table("queue", value) else { return };
    for (key, value) in tables {
        let Some((name, path)) = read_name(reader, "queue", key) else { continue };
        let Some(table) = reader.table(&path, value) else { continue };
        let place = reader.place(key.span());
        let queue = into.queues.entry(name).or_insert_with(|| QueueDraft::at(place));
        for (key, value) in table {
            let word = key.get_ref().as_ref();
            let (table, path, span) = (&path, format!("{path}.{word}"), key.span());
            match word {
                "durability" => set(&mut queue.durability, read_level(reader, &path, value), reader, span),
                "max_messages" => {
                    let number = reader.number(&path, Unit::Count, 1..=MOST, value);
                    set(&mut queue.messages_max, number, reader, span);
                }
                "max_bytes" => {
                    let number = reader.number(&path, Unit::Bytes, 1..=MOST, value);
                    set(&mut queue.bytes_max, number, reader, span);
                }
                "overflow" => {
                    let words = Overflow::ALL.map(|overflow| (overflow.as_str(), overflow));
                    set(&mut queue.overflow, reader.word(&path, &words, value), reader, span);
                }
                "lossy" => set(&mut queue.lossy, reader.boolean(&path, value), reader, span),
                "max_deliveries" => {
                    let number = reader.number(&path, Unit::Count, 1..=u32::MAX.into(), value);
                    set(&mut queue.deliveries_max, number.map(|number| number as u32), reader, span);
                }
                "dead_letters" => {
                    let Some(text) = reader.text(&path, "the name of a queue", value) else { continue };
                    let name = to_name(reader, text, value.span());
                    set(&mut queue.dead_letters, name, reader, value.span());
                }
                _ => unknown_key(reader, table, key, value, &QUEUE),
            }
        }
    }
}

fn set<T>(field: &mut Option<At<T>>, value: Option<T>, reader: &Reader<'_>, span: Range<usize>) {
    if let Some(value) = value {
        *field = Some(reader.at(value, span));
    }
}

/// The name that a table is about, and the table's path for messages.
fn read_name(reader: &mut Reader<'_>, kind: &str, key: &Key<'_>) -> Option<(Name, String)> {
    let text = key.get_ref().as_ref();
    let name = to_name(reader, text, key.span())?;
    Some((name, format!("{kind}.{text}")))
}

fn to_name(reader: &mut Reader<'_>, text: &str, span: Range<usize>) -> Option<Name> {
    match Name::new(text) {
        Ok(name) if name.is_reserved() => {
            reader.wrong(span, format!("`{name}` is the broker's own, as all of `switchboard.**` is"));
            None
        }
        Ok(name) => Some(name),
        Err(error) => {
            reader.wrong(span, error.to_string());
            None
        }
    }
}

fn read_level(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<Level> {
    reader.word(path, &Level::ALL.map(|level| (level.as_str(), level)), value)
}

fn read_transport(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) {
    if reader.word(path, &[("broker", false), ("ring", true)], value) == Some(true) {
        let message = format!("`{path}` is \"ring\", and this version has no ring topics");
        reader.wrong(value.span(), message).help("write \"broker\", or leave it out");
    }
}

/// A key that the table at `path` does not have.
fn unknown_key(
    reader: &mut Reader<'_>,
    path: &str,
    key: &Key<'_>,
    value: &Value<'_>,
    known: &[&'static str],
) {
    let (kind, name) = path.split_once('.').expect("a kind and a name");
    let DeValue::Table(table) = value.get_ref() else {
        return reader.unknown_key(key, &format!("[{kind}.\"{name}\"]"), known.iter().copied());
    };
    // `[topic.acme.clock]` is TOML for a table `clock` of a topic `acme`.
    let mut whole = format!("{name}.{}", key.get_ref());
    let mut table = table;
    while let Some((key, DeValue::Table(inner))) = table.iter().next().map(|(key, it)| (key, it.get_ref())) {
        whole = format!("{whole}.{}", key.get_ref());
        table = inner;
    }
    let message = format!("a {kind} has no tables in it; a name with dots stands in quotes");
    reader.wrong(key.span(), message).help(format!("write [{kind}.\"{whole}\"]"));
}

impl Objects {
    /// What only shows when every file was read.
    pub(crate) fn check(&self, diagnostics: &mut Diagnostics) {
        for (name, queue) in &self.queues {
            if let Some(topic) = self.topics.get(name) {
                let message = format!("`{name}` is declared twice: as a topic and as a queue");
                diagnostics.add(&queue.place, message).related(&topic.place, "the topic is declared here");
            }
            queue.check(name, self, diagnostics);
        }
        for topic in self.topics.values() {
            topic.check(diagnostics);
        }
    }

    /// The topics, in the order of their names.
    pub(crate) fn topics(&self) -> Vec<TopicSettings> {
        self.topics.iter().map(|(name, topic)| topic.settings(name)).collect()
    }

    /// The queues, in the order of their names.
    pub(crate) fn queues(&self) -> Vec<QueueSettings> {
        self.queues.iter().map(|(name, queue)| queue.settings(name)).collect()
    }
}

impl TopicDraft {
    const fn at(place: Place) -> Self {
        Self { place, retain: None, history: None, history_bytes: None, durability: None, block: None }
    }

    fn settings(&self, name: &Name) -> TopicSettings {
        let default = TopicSettings::of(name.clone());
        TopicSettings {
            retain: value_of(self.retain.as_ref(), default.retain),
            history: value_of(self.history.as_ref(), default.history),
            history_bytes: value_of(self.history_bytes.as_ref(), default.history_bytes),
            durability: value_of(self.durability.as_ref(), default.durability),
            block: value_of(self.block.as_ref(), default.block),
            name: default.name,
        }
    }

    fn check(&self, diagnostics: &mut Diagnostics) {
        if let Some(durability) = self.durability.as_ref().filter(|at| at.value != Level::Memory)
            && !value_of(self.retain.as_ref(), false)
        {
            let message =
                "`durability` is that of the message that a topic retains, and this one retains none";
            diagnostics.add(&durability.place, message).help("add `retain = true`");
        }
    }
}

impl QueueDraft {
    const fn at(place: Place) -> Self {
        Self {
            place,
            durability: None,
            messages_max: None,
            bytes_max: None,
            overflow: None,
            lossy: None,
            deliveries_max: None,
            dead_letters: None,
        }
    }

    fn settings(&self, name: &Name) -> QueueSettings {
        let default = QueueSettings::of(name.clone());
        QueueSettings {
            durability: value_of(self.durability.as_ref(), default.durability),
            messages_max: value_of(self.messages_max.as_ref(), default.messages_max),
            bytes_max: value_of(self.bytes_max.as_ref(), default.bytes_max),
            overflow: value_of(self.overflow.as_ref(), default.overflow),
            lossy: value_of(self.lossy.as_ref(), default.lossy),
            deliveries_max: value_of(self.deliveries_max.as_ref(), default.deliveries_max),
            dead_letters: self.dead_letters.as_ref().map(|at| at.value.clone()),
            name: default.name,
        }
    }

    fn check(&self, name: &Name, all: &Objects, diagnostics: &mut Diagnostics) {
        if let Some(overflow) = self.overflow.as_ref().filter(|at| at.value == Overflow::DropOldest)
            && let Some(durability) = self.durability.as_ref().filter(|at| at.value != Level::Memory)
            && !value_of(self.lossy.as_ref(), false)
        {
            // Whoever asks for durability does not expect messages to be dropped.
            let message =
                "a durable queue with `overflow = \"drop_oldest\"` drops messages that were acknowledged";
            let found = diagnostics.add(&overflow.place, message);
            found.related(&durability.place, "made durable here");
            found.help("add `lossy = true` if that is wanted, or write \"reject\" or \"block\"");
        }
        if let Some(dead_letters) = &self.dead_letters {
            let place = &dead_letters.place;
            if dead_letters.value == *name {
                let message =
                    format!("the dead letters of `{name}` would go back to it; expected another queue");
                diagnostics.add(place, message);
            } else if let Some(topic) = all.topics.get(&dead_letters.value) {
                let message =
                    format!("`{}` is a topic; expected a queue for dead letters", dead_letters.value);
                diagnostics.add(place, message).related(&topic.place, "the topic is declared here");
            }
        }
    }
}

fn value_of<T: Clone>(at: Option<&At<T>>, default: T) -> T {
    at.map_or(default, |at| at.value.clone())
}
