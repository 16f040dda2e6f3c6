//! The account of all ledgers.

use std::collections::BTreeMap;

use super::{Entry, Message};

/// A message that was still in the queue at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Which.
    pub message: Message,
    /// Where in the queue.
    pub position: u64,
}

/// All that is known of one message.
#[derive(Debug, Default)]
struct Known {
    pushing: bool,
    pushed: bool,
    /// Where it was seen, or said to be.
    positions: Vec<u64>,
    got: Vec<Got>,
    /// When each acknowledgement of its consumption had come.
    consumed_ns: Vec<u64>,
    drained: usize,
}

#[derive(Debug)]
struct Got {
    asked_ns: u64,
    /// It is not known how this delivery ended: its acknowledgement may have been the last thing that
    /// the broker did.
    open: bool,
}

/// Holds the ledgers of all producers and consumers, each of which has ended, against what was left in
/// the queue, in the order of popping. Returns everything that must not be.
pub fn account(ledgers: &[Vec<Entry>], drained: &[Drained]) -> Vec<String> {
    let mut messages: BTreeMap<Message, Known> = BTreeMap::new();
    let mut findings = Vec::new();
    for ledger in ledgers {
        enter(ledger, &mut messages, &mut findings);
    }
    for left in drained {
        let known = messages.entry(left.message.clone()).or_default();
        known.drained += 1;
        known.positions.push(left.position);
    }
    for pair in drained.windows(2) {
        if pair[1].position <= pair[0].position {
            findings.push(format!("{} was left in the queue before {}", pair[0].message, pair[1].message));
        }
    }
    for (message, known) in &messages {
        known.judge(message, &mut findings);
    }
    check_order(&messages, &mut findings);
    findings
}

fn enter(ledger: &[Entry], messages: &mut BTreeMap<Message, Known>, findings: &mut Vec<String>) {
    // Of a consumer: the connection and the position of the delivery before.
    let mut before = (0, 0);
    for entry in ledger {
        match entry {
            Entry::Pushing(message) => messages.entry(message.clone()).or_default().pushing = true,
            Entry::Pushed(message, position) => {
                let known = messages.entry(message.clone()).or_default();
                if known.pushed {
                    findings.push(format!("the push of {message} was acknowledged twice"));
                }
                known.pushed = true;
                known.positions.extend((*position != 0).then_some(*position));
            }
            Entry::Doubtful(message) => {
                messages.entry(message.clone()).or_default();
            }
            Entry::Got { message, position, connection, asked_ns } => {
                // Nobody gives anything back while a broker lives, so a consumer only goes forward.
                if (*connection, *position) <= before {
                    findings.push(format!("{message} came out of order: {position} after {}", before.1));
                }
                before = (*connection, *position);
                let known = messages.entry(message.clone()).or_default();
                known.positions.push(*position);
                known.got.push(Got { asked_ns: *asked_ns, open: true });
            }
            Entry::Consumed(message, at_ns) => {
                let known = messages.entry(message.clone()).or_default();
                known.consumed_ns.push(*at_ns);
                known.got.last_mut().expect("got before it is consumed").open = false;
            }
            Entry::Lost(message) => {
                let known = messages.entry(message.clone()).or_default();
                known.got.last_mut().expect("got before it is lost").open = false;
            }
        }
    }
}

impl Known {
    fn judge(&self, message: &Message, findings: &mut Vec<String>) {
        let mut wrong = |why: String| findings.push(format!("{message} {why}"));
        if !self.pushing {
            wrong("came from nowhere".to_owned());
        }
        let ends = self.consumed_ns.len() + self.drained;
        if 1 < ends {
            let (consumed, drained) = (self.consumed_ns.len(), self.drained);
            wrong(format!("is there more than once: consumed {consumed} times, and {drained} are left"));
        }
        // Where an acknowledgement was under way when the broker died it may have counted.
        let may_be_gone = self.got.iter().any(|got| got.open);
        if self.pushed && ends == 0 && !may_be_gone {
            wrong(format!("was acknowledged at {:?} and is lost", self.positions));
        }
        if let Some(consumed) = self.consumed_ns.iter().min()
            && self.got.iter().any(|got| consumed < &got.asked_ns)
        {
            wrong("came again after its consumption was acknowledged".to_owned());
        }
        if self.positions.windows(2).any(|pair| pair[0] != pair[1]) {
            wrong(format!("was at several positions: {:?}", self.positions));
        }
    }
}

/// A producer's messages are in the queue in the order in which it pushed them.
fn check_order(messages: &BTreeMap<Message, Known>, findings: &mut Vec<String>) {
    let mut last: Option<(&Message, u64)> = None;
    for (message, known) in messages {
        let Some(&position) = known.positions.first() else { continue };
        if let Some((before, at)) = last
            && before.producer == message.producer
            && position <= at
        {
            findings.push(format!("{message} is at {position}, and {before} behind it at {at}"));
        }
        last = Some((message, position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        text.parse().expect("PRODUCER:NUMBER")
    }

    /// Ledgers divided by `--`; behind `==` what was left in the queue, as `MESSAGE POSITION`.
    fn found(text: &str) -> Vec<String> {
        let (ledgers, left) = text.split_once("==").expect("a part for what was left");
        let lines = |part: &str| {
            part.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        let ledgers: Vec<Vec<String>> = ledgers.split("--").map(lines).collect();
        let parse = |lines: &Vec<String>| lines.iter().map(|line| line.parse().expect("an entry")).collect();
        let ledgers: Vec<Vec<Entry>> = ledgers.iter().map(parse).collect();
        let left: Vec<String> = lines(left);
        let left = left.iter().map(|line| line.split_once(' ').expect("a message and a position"));
        let left = left
            .map(|(text, at)| Drained { message: message(text), position: at.parse().expect("a position") });
        account(&ledgers, &left.collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = found(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }

    #[test]
    fn what_may_happen_is_no_finding() {
        let text = "
            pushing a:1
            pushing a:2
            pushed a:1 1
            pushed a:2 2
            pushing a:3
            doubtful a:3
            pushing a:4
            doubtful a:4
            pushing a:5
            pushed a:5 4
            --
            got a:1 1 1 10
            consumed a:1 20
            got a:2 2 1 30
            got a:2 2 2 40
            lost a:2
            --
            got a:2 2 1 50
            consumed a:2 60
            got a:5 4 1 70
            ==
            a:3 3
            ";
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn a_lost_message_is_seen() {
        check("pushing a:1\n pushed a:1 1\n ==", "is lost");
        check("pushing a:1\n pushed a:1 1\n --\n got a:1 1 1 5\n lost a:1\n ==", "is lost");
    }

    #[test]
    fn a_message_that_comes_back_is_seen() {
        let consumed = "pushing a:1\n pushed a:1 1\n --\n got a:1 1 1 5\n consumed a:1 9\n";
        check(&format!("{consumed} ==\n a:1 1"), "more than once");
        check(&format!("{consumed} --\n got a:1 1 1 10\n lost a:1\n =="), "came again");
    }

    #[test]
    fn a_message_that_is_there_twice_is_seen() {
        let found = found("pushing a:1\n pushed a:1 1\n ==\n a:1 1\n a:1 2");
        assert!(found.iter().any(|finding| finding.contains("more than once")), "{found:?}");
        assert!(found.iter().any(|finding| finding.contains("several positions")), "{found:?}");
    }

    #[test]
    fn a_message_from_nowhere_is_seen() {
        check("==\n a:1 1", "from nowhere");
    }

    #[test]
    fn a_wrong_order_is_seen() {
        check("pushing a:1\n pushed a:1 2\n pushing a:2\n pushed a:2 1\n ==\n a:2 1\n a:1 2", "behind it");
        let two = "pushing a:1\n pushed a:1 1\n pushing b:1\n pushed b:1 2\n --\n";
        check(
            &format!("{two} got b:1 2 1 5\n consumed b:1 6\n got a:1 1 1 7\n consumed a:1 8\n =="),
            "out of order",
        );
    }
}
