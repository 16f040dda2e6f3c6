//! Who waits on whom, as it is now, and where that goes round in a circle.

use crate::Payload;
use crate::broker::Broker;
use crate::call::{Call, Target};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use switchboard_protocol::control::{WaitEdge, Waits};
use switchboard_protocol::{Instant, Name, PeerId};

/// Open calls shown, and cycles named.
const EDGES_MAX: usize = 256;
const CYCLES_MAX: usize = 16;

impl<P: Payload> Broker<P> {
    /// The open calls that others answer, oldest first, and the cycles among all of them.
    pub(crate) fn waits(&self, now: Instant) -> Waits {
        let open = |call: &&Call| call.open && matches!(call.target, Target::Server(_) | Target::Waiting(_));
        let mut calls: Vec<(Instant, u32)> =
            self.calls.iter().filter(|(_, call)| open(call)).map(|(slot, call)| (call.since, slot)).collect();
        calls.sort_unstable();
        let truncated = EDGES_MAX < calls.len();
        let cycles = self.cycles(&calls);
        calls.truncate(EDGES_MAX);
        Waits { edges: calls.iter().map(|&(_, call)| self.edge(now, call)).collect(), cycles, truncated }
    }

    fn edge(&self, now: Instant, slot: u32) -> WaitEdge {
        let call = &self.calls[slot];
        let caller = self.peer(call.caller.slot);
        let server = self.waits_on(call).first().map(|id| self.peer(id.slot));
        let at_server = matches!(call.target, Target::Server(_));
        WaitEdge {
            request: self.calls.word(slot),
            parent: call.parent,
            caller: call.caller.to_wire(),
            caller_pid: caller.identity.pid,
            caller_program: caller.program.clone(),
            name: self.objects[call.object].name.as_ref().map_or(String::new(), Name::to_string),
            server: server.filter(|_| at_server).map_or(0, |peer| peer.id.to_wire()),
            server_pid: server.map_or(0, |peer| peer.identity.pid),
            server_program: server.map_or(String::new(), |peer| peer.program.to_string()),
            age_ns: now.since(call.since).as_nanos() as u64,
            left_ns: if call.deadline == Instant::NEVER {
                0
            } else {
                call.deadline.since(now).as_nanos() as u64
            },
            priority: call.priority,
        }
    }

    /// Whoever could end a call's wait: the server that has it, else every owner of the name.
    fn waits_on(&self, call: &Call) -> Vec<PeerId> {
        match call.target {
            Target::Server(server) => alloc::vec![self.servers[server].peer],
            _ => self.objects[call.object].owners.iter().map(|&owner| self.servers[owner].peer).collect(),
        }
    }

    /// Cycles of peers that wait on each other, each given from its smallest peer.
    fn cycles(&self, calls: &[(Instant, u32)]) -> Vec<Vec<u64>> {
        let mut graph: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for &(_, call) in calls {
            let call = &self.calls[call];
            let on = self.waits_on(call).into_iter().map(PeerId::to_wire);
            graph.entry(call.caller.to_wire()).or_default().extend(on);
        }
        let mut found: BTreeSet<Vec<u64>> = BTreeSet::new();
        let mut done: BTreeSet<u64> = BTreeSet::new();
        for &start in graph.keys() {
            // Depth first with the path in hand; a peer on the path again closes a cycle.
            let mut path: Vec<(u64, Vec<u64>)> = Vec::new();
            if done.insert(start) {
                path.push((start, graph[&start].iter().copied().collect()));
            }
            while let Some((_, nexts)) = path.last_mut() {
                let Some(next) = nexts.pop() else {
                    path.pop();
                    continue;
                };
                if let Some(at) = path.iter().position(|&(peer, _)| peer == next) {
                    let mut cycle: Vec<u64> = path[at..].iter().map(|&(peer, _)| peer).collect();
                    let least = (0..cycle.len()).min_by_key(|&i| cycle[i]).expect("a cycle has members");
                    cycle.rotate_left(least);
                    found.insert(cycle);
                    if found.len() == CYCLES_MAX {
                        return found.into_iter().collect();
                    }
                } else if let Some(on) = graph.get(&next)
                    && done.insert(next)
                {
                    path.push((next, on.iter().copied().collect()));
                }
            }
        }
        found.into_iter().collect()
    }
}
