//! Watches: a snapshot of names, then every change, as one stream (SPEC 6.3).

use crate::broker::{Broker, Turn, Work};
use crate::call::Target;
use crate::{Payload, SendTail};
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control::{NameChange, NameInfo};
use switchboard_protocol::{Header, Kind, Outcome, Pattern, encode};

/// One watch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Watch {
    pub(crate) call: u32,
    pattern: Pattern,
    /// The last name that the snapshot has looked at; `None` once it is over.
    cursor: Option<String>,
    /// Changes that the watcher has no room for yet.
    backlog: VecDeque<Vec<u8>>,
}

/// Changes that may wait for a watcher.
const BACKLOG_MAX: usize = 1024;

const SNAPSHOT: u8 = 0;
const SNAPSHOT_END: u8 = 1;
const OWNED: u8 = 2;
const ORPHANED: u8 = 3;

impl<P: Payload> Broker<P> {
    pub(crate) fn start_watch(&mut self, call: u32, pattern: Pattern) {
        let watch = Watch { call, pattern, cursor: Some(String::new()), backlog: VecDeque::new() };
        let watch = self.watches.insert(watch);
        self.calls[call].target = Target::Watch(watch);
        self.go_on_with_snapshot(watch);
    }

    /// A slice of a snapshot; `Some` with the work left.
    pub(crate) fn show_names(&mut self, turn: &mut Turn<'_, P>, word: u64, budget: &mut u32) -> Option<Work> {
        let watch = self.watches.find(word)?;
        while 0 < self.calls[self.watches[watch].call].credit {
            let Some(cursor) = &self.watches[watch].cursor else { break };
            if *budget == 0 {
                return Some(Work::Snapshot { watch: word });
            }
            *budget -= 1;
            let pattern = &self.watches[watch].pattern;
            let next = self.names_after(pattern, cursor).next().map(|(name, &object)| (name.clone(), object));
            let Some((name, object)) = next else {
                self.watches[watch].cursor = None;
                let end = NameChange { what: SNAPSHOT_END, info: empty_info() };
                self.give_change(turn, watch, encode(&end));
                break;
            };
            let shown = pattern.matches(&name) && self.is_there(object);
            self.watches[watch].cursor = Some(name.to_string());
            let from = self.calls[self.watches[watch].call].caller.slot;
            if shown && self.may_see(from, &name) {
                let item = NameChange { what: SNAPSHOT, info: self.name_info(object) };
                self.give_change(turn, watch, encode(&item));
            }
        }
        None
    }

    /// A name has another owner, or none any more, or what it stands for comes or goes (`there`):
    /// whoever watches it is told.
    pub(crate) fn announce(&mut self, turn: &mut Turn<'_, P>, object: u32, there: bool) {
        if self.watches.is_empty() {
            return;
        }
        let Some(name) = self.objects[object].name.clone() else { return };
        let mut change = None;
        for watch in 0..self.watches.slots() {
            let Some(it) = self.watches.get(watch) else { continue };
            if !it.pattern.matches(&name) {
                continue;
            }
            // What the snapshot has not reached yet, it will show as it is then.
            if it.cursor.as_ref().is_some_and(|cursor| cursor.as_str() < name.as_str()) {
                continue;
            }
            let call = it.call;
            if !self.may_see(self.calls[call].caller.slot, &name) {
                continue;
            }
            let bytes = change.get_or_insert_with(|| {
                let info = self.name_info(object);
                let what = if there { OWNED } else { ORPHANED };
                encode(&NameChange { what, info })
            });
            let bytes = bytes.clone();
            if self.watches[watch].backlog.len() == BACKLOG_MAX {
                let message = "the watcher fell 1024 changes behind; watch again to get a new snapshot";
                self.end_by_broker(turn, call, Outcome::Busy, message);
            } else if self.calls[call].credit == 0
                || !self.watches[watch].backlog.is_empty()
                || u64::from(self.limits.link_bytes_high) < self.peer(self.calls[call].caller.slot).unread
            {
                self.watches[watch].backlog.push_back(bytes);
            } else {
                self.give_change(turn, watch, bytes);
            }
        }
    }

    /// The watcher has room for more.
    pub(crate) fn advance_watch(&mut self, turn: &mut Turn<'_, P>, watch: u32) {
        let call = self.watches[watch].call;
        while 0 < self.calls[call].credit {
            let Some(bytes) = self.watches[watch].backlog.pop_front() else { break };
            self.give_change(turn, watch, bytes);
        }
        if self.watches[watch].cursor.is_some() {
            self.go_on_with_snapshot(watch);
        }
    }

    fn give_change(&mut self, turn: &mut Turn<'_, P>, watch: u32, bytes: Vec<u8>) {
        let call = self.watches[watch].call;
        let it = &mut self.calls[call];
        // The end mark may find the credit used up; it counts as granted, once.
        it.credit = it.credit.saturating_sub(1);
        it.items += 1;
        let header = Header { call: it.caller_call, seq: it.items, ..Header::new(Kind::Item) };
        let to = it.caller.slot;
        self.push(turn, to, header, SendTail::Own(bytes));
    }
}

fn empty_info() -> NameInfo {
    NameInfo {
        name: String::new(),
        kind: 0,
        mode: 0,
        epoch: 0,
        owner: 0,
        owners: 0,
        standby: 0,
        uid: 0,
        pid: 0,
        program: String::new(),
    }
}
