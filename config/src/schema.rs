//! What may stand in a configuration file: every key and every table, and what they mean.
//!
//! A new table is an arm of [`read_file`], a function here that reads it into the [`Draft`], and a
//! paragraph in `switchboard.toml`.

use crate::Diagnostics;
use crate::draft::{Draft, ListenDraft, UserDraft, Values};
use crate::limits::{LIMITS, LimitKey, USER_LIMITS};
use crate::objects::{read_queues, read_topics};
use crate::reader::{Key, Reader, Unit, Value, integer_of};
use crate::source::Source;
use crate::units::{SIZE_FORM, parse_size};
use crate::users;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use switchboard_core::{Identity, Rule, Subject};
use switchboard_protocol::{Pattern, Verb};
use toml::de::{DeTable, DeValue};

pub(crate) const TOP: [&str; 10] = [
    "log",
    "spin",
    "priority",
    "recorder",
    "recorder_payloads",
    "limits",
    "topic",
    "queue",
    "allow",
    "listen",
];
const SUBJECTS: [&str; 4] = ["user", "group", "label", "anyone"];
const LISTEN: [&str; 2] = ["path", "mode"];
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// A recording is four files, each of which begins with all that the broker knows.
const RECORDER_BYTES: RangeInclusive<u64> = 1 << 20..=64 << 30;
/// Bytes of a socket address's path on Linux, less the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads one file into the draft.
pub(crate) fn read_file(source: Arc<Source>, draft: &mut Draft, diagnostics: &mut Diagnostics) {
    draft.files.push(source.name.clone());
    let mut reader = Reader::new(source, diagnostics);
    let text = reader.valid_text();
    let (document, _) = DeTable::parse_recoverable(&text);
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "log" => read_log(&mut reader, value, draft),
            "spin" => read_spin(&mut reader, value, draft),
            "priority" => {
                if let Some(number) = reader.number("priority", Unit::Count, 0..=7, value) {
                    draft.priority = Some(reader.at(number as u8, key.span()));
                }
            }
            "recorder" => read_recorder(&mut reader, value, draft),
            "recorder_payloads" => {
                if let Some(payloads) = reader.boolean("recorder_payloads", value) {
                    draft.recorder_payloads = Some(reader.at(payloads, key.span()));
                }
            }
            "limits" => read_limits(&mut reader, value, draft),
            "topic" => read_topics(&mut reader, value, &mut draft.objects),
            "queue" => read_queues(&mut reader, value, &mut draft.objects),
            "allow" => {
                for (table, span) in reader.tables("allow", value) {
                    read_allow(&mut reader, table, span, draft);
                }
            }
            "listen" => {
                for (table, span) in reader.tables("listen", value) {
                    read_listen(&mut reader, table, span, draft);
                }
            }
            _ => reader.unknown_key(key, "the top level", TOP),
        }
    }
}

fn read_log(reader: &mut Reader<'_>, value: &Value<'_>, draft: &mut Draft) {
    let expected = "levels such as \"info\" or \"warn,switchboard_broker=debug\"";
    let Some(text) = reader.text("log", expected, value) else { return };
    if let Err(message) = check_log(text) {
        reader.wrong(value.span(), message).help(format!("write {expected}"));
        return;
    }
    draft.log = Some(reader.at(text.to_owned(), value.span()));
}

/// Whether every part of a log specification has a level. `loudly` alone could be read as a target,
/// of which everything is to be logged: nothing else would be, and nobody would know why.
pub fn check_log(spec: &str) -> Result<(), String> {
    for part in spec.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        if !LOG_LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            let known = LOG_LEVELS.join(", ");
            return Err(format!("`log` has no level `{level}`; expected one of {known}"));
        }
    }
    Ok(())
}

fn read_spin(reader: &mut Reader<'_>, value: &Value<'_>, draft: &mut Draft) {
    let expected = "\"auto\" or a duration such as \"20us\"";
    let Some(text) = reader.text("spin", expected, value) else { return };
    let spin = match text {
        "auto" => None,
        text => match reader.duration("spin", text, value) {
            Some(spin) if spin.as_millis() > 10 => {
                reader.wrong(value.span(), "`spin` is at most 10ms: it burns a processor");
                return;
            }
            Some(spin) => Some(spin),
            None => return,
        },
    };
    draft.spin = Some(reader.at(spin, value.span()));
}

fn read_recorder(reader: &mut Reader<'_>, value: &Value<'_>, draft: &mut Draft) {
    let bytes = match value.get_ref() {
        DeValue::String(text) if text == "off" => None,
        DeValue::String(text) if parse_size(text).is_none() => {
            return reader.mismatch("recorder", &format!("\"off\" or {SIZE_FORM}"), value);
        }
        _ => match reader.number("recorder", Unit::Bytes, RECORDER_BYTES, value) {
            Some(bytes) => Some(bytes),
            None => return,
        },
    };
    draft.recorder = Some(reader.at(bytes, value.span()));
}

fn read_limits(reader: &mut Reader<'_>, value: &Value<'_>, draft: &mut Draft) {
    let Some(table) = reader.table("limits", value) else { return };
    for (key, value) in table {
        if key.get_ref() == "user" {
            let Some(users) = reader.table("limits.user", value) else { continue };
            // In the order of the file, so that of two names for one user the later is the mistake.
            let mut users: Vec<_> = users.iter().collect();
            users.sort_by_key(|(user, _)| user.span().start);
            for (user, value) in users {
                read_user(reader, user, value, draft);
            }
        } else if !read_limit(reader, LIMITS, "limits", key, value, &mut draft.limits) {
            let known = LIMITS.iter().map(|key| key.name).chain(["user"]);
            reader.unknown_key(key, "[limits]", known);
        }
    }
}

fn read_user(reader: &mut Reader<'_>, user: &Key<'_>, value: &Value<'_>, draft: &mut Draft) {
    let name = user.get_ref().as_ref();
    let path = format!("limits.user.{name}");
    let Some(table) = reader.table(&path, value) else { return };
    let mut values = Values::new();
    for (key, value) in table {
        if !read_limit(reader, USER_LIMITS, &path, key, value, &mut values) {
            reader.unknown_key(key, &format!("[{path}]"), USER_LIMITS.iter().map(|key| key.name));
        }
    }
    if name == "default" {
        draft.user_default.extend(values);
        return;
    }
    let Some(uid) = read_uid_key(reader, user) else { return };
    let place = reader.place(user.span());
    match draft.users.iter_mut().find(|known| known.uid == uid) {
        // A later file may set some keys anew; the same user under another name is a mistake.
        Some(known) if known.name == name => known.values.extend(values),
        Some(known) => {
            let message = format!("user {uid} is limited twice: as `{}` and as `{name}`", known.name);
            reader.wrong(user.span(), message).related(&known.place, "limited here first");
        }
        None => draft.users.push(UserDraft { uid, name: name.to_owned(), place, values }),
    }
}

/// Reads `key` if it is one of `keys`.
fn read_limit<T>(
    reader: &mut Reader<'_>,
    keys: &[LimitKey<T>],
    table: &str,
    key: &Key<'_>,
    value: &Value<'_>,
    into: &mut Values,
) -> bool {
    let Some(known) = keys.iter().find(|known| known.name == key.get_ref()) else { return false };
    let path = format!("{table}.{}", known.name);
    if let Some(number) = reader.number(&path, known.unit, known.range.clone(), value) {
        into.insert(known.name, reader.at(number, key.span()));
    }
    true
}

fn read_allow(reader: &mut Reader<'_>, table: &DeTable<'_>, span: Range<usize>, draft: &mut Draft) {
    let mut subject = Subject::default();
    let mut unknown = false;
    let mut grants = Vec::new();
    let mut priority_max = None;
    for (key, value) in table {
        let word = key.get_ref().as_ref();
        match word {
            "user" => subject.users = read_ids(reader, "user", value, users::uid_of),
            "group" => subject.groups = read_ids(reader, "group", value, users::gid_of),
            "label" => {
                for value in reader.one_or_more("label", value) {
                    subject.labels.extend(reader.text("label", "a security label", value).map(str::to_owned));
                }
            }
            "anyone" => subject.anyone = reader.boolean("anyone", value).unwrap_or(true),
            "priority" => {
                let number = reader.number("priority", Unit::Count, 0..=7, value);
                priority_max = number.map(|number| number as u8);
            }
            word => match Verb::parse(word) {
                Some(verb) => grants.push((verb, read_patterns(reader, word, value))),
                None => {
                    unknown = true;
                    let verbs = Verb::ALL.into_iter().map(Verb::as_str);
                    reader.unknown_key(
                        key,
                        "[[allow]]",
                        SUBJECTS.into_iter().chain(["priority"]).chain(verbs),
                    );
                }
            },
        }
    }
    let given = |words: &[&str]| table.iter().any(|(key, _)| words.contains(&key.get_ref().as_ref()));
    if subject.anyone && given(&["user", "group", "label"]) {
        let message = "`anyone = true` contradicts `user`, `group` and `label`; expected one or the other";
        reader.wrong(span.clone(), message);
    } else if !subject.anyone && !given(&["user", "group", "label"]) && !unknown {
        let message = "this rule is about nobody; expected `user`, `group`, `label` or `anyone = true`";
        reader.wrong(span.clone(), message);
    }
    if grants.is_empty() && !given(&["priority"]) && !unknown {
        let message =
            "this rule allows nothing; expected a verb with a pattern, such as `call = \"acme.**\"`";
        reader.wrong(span.clone(), message);
    }
    let source = reader.place(span).file_line();
    draft.rules.push(Rule { source, subject, grants, priority_max });
}

fn read_patterns(reader: &mut Reader<'_>, verb: &str, value: &Value<'_>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for value in reader.one_or_more(verb, value) {
        let expected = "a pattern such as \"acme.**\", or a list of them";
        let Some(text) = reader.text(verb, expected, value) else { continue };
        match Pattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                reader.wrong(value.span(), format!("`{verb}` has a bad pattern: {error}"));
            }
        }
    }
    patterns
}

/// Names or numbers of users or groups. An unknown one leaves a rule that nobody can match.
fn read_ids(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Value<'_>,
    look_up: fn(&str) -> Result<u32, String>,
) -> Vec<u32> {
    let mut ids = Vec::new();
    for value in reader.one_or_more(key, value) {
        let id = match value.get_ref() {
            DeValue::Integer(integer) => {
                let number = integer_of(integer).and_then(|number| u32::try_from(number).ok());
                number
                    .ok_or_else(|| format!("`{key}` expects an id between 0 and 4294967293, found {integer}"))
            }
            DeValue::String(name) => look_up(name),
            _ => {
                reader.text(key, &format!("the name or number of a {key}, or a list of them"), value);
                continue;
            }
        };
        match id.and_then(|id| refuse_unmapped(key, id)) {
            Ok(id) => ids.push(id),
            Err(message) => {
                reader.wrong(value.span(), message);
            }
        }
    }
    if ids.is_empty() { vec![Identity::UNMAPPED] } else { ids }
}

/// A user as the key of a table: a name, or a number in quotes or plain.
fn read_uid_key(reader: &mut Reader<'_>, user: &Key<'_>) -> Option<u32> {
    let name = user.get_ref().as_ref();
    let uid = match name.parse::<u32>() {
        Ok(uid) => Ok(uid),
        Err(_) => users::uid_of(name),
    };
    match uid.and_then(|uid| refuse_unmapped("user", uid)) {
        Ok(uid) => Some(uid),
        Err(message) => {
            reader.wrong(user.span(), message);
            None
        }
    }
}

fn refuse_unmapped(kind: &str, id: u32) -> Result<u32, String> {
    if id == Identity::UNMAPPED || id == u32::MAX {
        return Err(format!(
            "{kind} {id} stands for ids that the kernel cannot map; no rule ever matches it"
        ));
    }
    Ok(id)
}

fn read_listen(reader: &mut Reader<'_>, table: &DeTable<'_>, span: Range<usize>, draft: &mut Draft) {
    let mut path = None;
    let mut mode = None;
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "path" => {
                let Some(text) = reader.text("path", "an absolute path", value) else { continue };
                let complaint = if !Path::new(text).is_absolute() {
                    Some(format!("`path` expects an absolute path, found \"{}\"", text.escape_debug()))
                } else if text.len() > SOCKET_PATH_BYTES_MAX {
                    Some(format!(
                        "`path` is longer than {SOCKET_PATH_BYTES_MAX} bytes, the most a socket may have"
                    ))
                } else if text.contains('\0') {
                    Some("`path` contains a zero byte".to_owned())
                } else {
                    None
                };
                match complaint {
                    Some(complaint) => {
                        reader.wrong(value.span(), complaint);
                    }
                    None => path = Some((text, value.span())),
                }
            }
            "mode" => mode = read_mode(reader, value),
            _ => reader.unknown_key(key, "[[listen]]", LISTEN),
        }
    }
    if !table.iter().any(|(key, _)| key.get_ref() == "path") {
        reader.wrong(span.clone(), "this [[listen]] has no `path`; expected an absolute path of a socket");
    }
    let Some((path, path_span)) = path else { return };
    let path = Path::new(path);
    if let Some(known) = draft.listens.iter().find(|known| known.value.path == path) {
        let message = format!("`{}` is listened on twice", path.display());
        reader.wrong(path_span, message).related(&known.place, "listened on here first");
        return;
    }
    let source = reader.place(span).file_line();
    let listen = ListenDraft { path: path.to_owned(), mode, source };
    draft.listens.push(reader.at(listen, path_span));
}

/// Permission bits, in octal so that they mean what they look like.
fn read_mode(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<u32> {
    let bits = match value.get_ref() {
        DeValue::Integer(integer) if integer.radix() == 8 => u32::from_str_radix(integer.as_str(), 8).ok(),
        DeValue::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            u32::from_str_radix(text, 8).ok()
        }
        _ => None,
    };
    let bits = bits.filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        reader
            .wrong(value.span(), "`mode` expects permission bits in octal, \"0660\" or 0o660, at most 0777");
    }
    bits
}
