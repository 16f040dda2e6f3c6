//! The configuration in force, as TOML that says where each value comes from.

use crate::Driver;
use crate::draft::{Draft, Values};
use crate::limits::{LIMITS, LimitKey, USER_LIMITS};
use crate::objects::{QueueDraft, TopicDraft};
use crate::reader::{Unit, format_in};
use crate::source::At;
use crate::units::format_duration;
use std::fmt;
use switchboard_core::{Limits, Policy, QueueSettings, Rule, TopicSettings};

/// Every key with its value and where that was set. Displays as a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The files that were read, in order.
    pub files: Vec<String>,
    /// The tables, in order; the first is the top level.
    pub tables: Vec<ShownTable>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownTable {
    /// Its header, `[limits]`; empty for the top level.
    pub header: String,
    /// Where it was written, `FILE:LINE`, where that is one place.
    pub source: Option<String>,
    /// Its keys.
    pub settings: Vec<Setting>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// Where it was set, `FILE:LINE`; `None` for a default.
    pub source: Option<String>,
}

impl Shown {
    pub(crate) fn of(draft: &Draft, limits: &Limits, policy: &Policy, driver: &Driver) -> Self {
        let spin = driver.spin.map_or_else(|| "auto".to_owned(), format_duration);
        let recorder = driver.recorder.map_or_else(|| quoted("off"), size);
        let top = vec![
            setting("log", quoted(&driver.log), source_of(draft.log.as_ref())),
            setting("spin", quoted(&spin), source_of(draft.spin.as_ref())),
            setting("priority", policy.priority_max.to_string(), source_of(draft.priority.as_ref())),
            setting("recorder", recorder, source_of(draft.recorder.as_ref())),
            setting(
                "recorder_payloads",
                driver.recorder_payloads.to_string(),
                source_of(draft.recorder_payloads.as_ref()),
            ),
        ];
        let mut tables = vec![
            ShownTable { header: String::new(), source: None, settings: top },
            limits_table("[limits]".to_owned(), LIMITS, limits, &draft.limits),
            limits_table(
                "[limits.user.default]".to_owned(),
                USER_LIMITS,
                &limits.user_default,
                &draft.user_default,
            ),
        ];
        for user in &draft.users {
            let header = format!("[limits.user.{}]", key_text(&user.name));
            let limits = user.limits(&limits.user_default);
            tables.push(limits_table(header, USER_LIMITS, &limits, &user.values));
        }
        let objects = &draft.objects;
        for (topic, draft) in objects.topics().iter().zip(objects.topics.values()) {
            tables.push(topic_table(topic, draft));
        }
        for (queue, draft) in objects.queues().iter().zip(objects.queues.values()) {
            tables.push(queue_table(queue, draft));
        }
        tables.extend(policy.rules.iter().map(rule_table));
        tables.extend(driver.listens.iter().map(|listen| ShownTable {
            header: "[[listen]]".to_owned(),
            source: Some(listen.source.clone()),
            settings: vec![
                setting("path", quoted(&listen.path.display().to_string()), None),
                setting("mode", quoted(&format!("{:04o}", listen.mode)), None),
            ],
        }));
        Self { files: draft.files.clone(), tables }
    }
}

fn limits_table<T>(header: String, keys: &[LimitKey<T>], limits: &T, values: &Values) -> ShownTable {
    let settings = keys.iter().map(|key| {
        let number = (key.read)(limits);
        let text = format_in(key.unit, number);
        // Plain numbers stay numbers; whatever carries a unit is text.
        let value = if key.unit != Unit::Time && text == number.to_string() { text } else { quoted(&text) };
        setting(key.name, value, source_of(values.get(key.name)))
    });
    ShownTable { header, source: None, settings: settings.collect() }
}

fn topic_table(topic: &TopicSettings, draft: &TopicDraft) -> ShownTable {
    let settings = vec![
        setting("retain", topic.retain.to_string(), source_of(draft.retain.as_ref())),
        setting("history", topic.history.to_string(), source_of(draft.history.as_ref())),
        setting("history_bytes", size(topic.history_bytes), source_of(draft.history_bytes.as_ref())),
        setting("durability", quoted(topic.durability.as_str()), source_of(draft.durability.as_ref())),
        setting("block", topic.block.to_string(), source_of(draft.block.as_ref())),
    ];
    let header = format!("[topic.{}]", quoted(topic.name.as_str()));
    ShownTable { header, source: Some(draft.place.file_line()), settings }
}

fn queue_table(queue: &QueueSettings, draft: &QueueDraft) -> ShownTable {
    let mut settings = vec![
        setting("durability", quoted(queue.durability.as_str()), source_of(draft.durability.as_ref())),
        setting("max_messages", queue.messages_max.to_string(), source_of(draft.messages_max.as_ref())),
        setting("max_bytes", size(queue.bytes_max), source_of(draft.bytes_max.as_ref())),
        setting("overflow", quoted(queue.overflow.as_str()), source_of(draft.overflow.as_ref())),
        setting("lossy", queue.lossy.to_string(), source_of(draft.lossy.as_ref())),
        setting("max_deliveries", queue.deliveries_max.to_string(), source_of(draft.deliveries_max.as_ref())),
    ];
    if let Some(dead_letters) = &queue.dead_letters {
        settings.push(setting(
            "dead_letters",
            quoted(dead_letters.as_str()),
            source_of(draft.dead_letters.as_ref()),
        ));
    }
    let header = format!("[queue.{}]", quoted(queue.name.as_str()));
    ShownTable { header, source: Some(draft.place.file_line()), settings }
}

/// A size as TOML.
fn size(bytes: u64) -> String {
    let text = format_in(Unit::Bytes, bytes);
    if text == bytes.to_string() { text } else { quoted(&text) }
}

fn rule_table(rule: &Rule) -> ShownTable {
    let mut settings = Vec::new();
    let mut add = |key: &str, list: Vec<String>| match list.as_slice() {
        [] => {}
        [one] => settings.push(setting(key, one.clone(), None)),
        more => settings.push(setting(key, format!("[{}]", more.join(", ")), None)),
    };
    add("user", rule.subject.users.iter().map(u32::to_string).collect());
    add("group", rule.subject.groups.iter().map(u32::to_string).collect());
    add("label", rule.subject.labels.iter().map(|label| quoted(label)).collect());
    add("anyone", rule.subject.anyone.then(|| "true".to_owned()).into_iter().collect());
    for (verb, patterns) in &rule.grants {
        add(verb.as_str(), patterns.iter().map(|pattern| quoted(pattern.as_str())).collect());
    }
    add("priority", rule.priority_max.map(|priority| priority.to_string()).into_iter().collect());
    ShownTable { header: "[[allow]]".to_owned(), source: Some(rule.source.clone()), settings }
}

fn setting(key: &str, value: String, source: Option<String>) -> Setting {
    Setting { key: key.to_owned(), value, source }
}

fn source_of<T>(at: Option<&At<T>>) -> Option<String> {
    at.map(|at| at.place.file_line())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key, quoted only where it must be.
fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files.as_slice() {
            [] => writeln!(f, "# No configuration file; these are the defaults.")?,
            files => writeln!(f, "# Read: {}", files.join(", "))?,
        }
        let values = self.tables.iter().flat_map(|table| &table.settings);
        let width = values.map(|setting| setting.key.len() + setting.value.len()).max().unwrap_or(0).min(48);
        for table in &self.tables {
            writeln!(f)?;
            match &table.source {
                Some(source) => writeln!(f, "{:<1$}  # {source}", table.header, width + 3)?,
                None if !table.header.is_empty() => writeln!(f, "{}", table.header)?,
                None => {}
            }
            for Setting { key, value, source } in &table.settings {
                let line = format!("{key} = {value}");
                match source {
                    Some(source) => writeln!(f, "{line:<0$}  # {source}", width + 3)?,
                    None => writeln!(f, "{line}")?,
                }
            }
        }
        Ok(())
    }
}
