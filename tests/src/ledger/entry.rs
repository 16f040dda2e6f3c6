//! A line of a ledger.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

/// A message, as its payload says it: `PRODUCER:NUMBER`. A producer counts its messages from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Who pushed it.
    pub producer: String,
    /// As the how manieth.
    pub number: u64,
}

/// What is written down before anything else is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This message is about to be pushed, for the first time or again.
    Pushing(Message),
    /// Its push was acknowledged: it is there, at this position (0 where that was not told).
    Pushed(Message, u64),
    /// Nobody knows whether it was pushed, and it will not be pushed again.
    Doubtful(Message),
    /// It was popped.
    Got {
        /// Which.
        message: Message,
        /// Where in the queue it was.
        position: u64,
        /// On the how manieth connection of this consumer.
        connection: u64,
        /// When the pop began, by the monotonic clock.
        asked_ns: u64,
    },
    /// Its consumption was acknowledged, before this moment.
    Consumed(Message, u64),
    /// Its lease was lost: it is not consumed by this.
    Lost(Message),
}

/// A ledger that is being written. Each line is one write to the file, which outlives its writer.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// Begins a ledger, or goes on with it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// Writes a line.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.file.write_all(format!("{entry}\n").as_bytes())
    }
}

/// Reads a ledger.
pub fn read(path: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parse = |line: &str| line.parse().unwrap_or_else(|_| panic!("{}: `{line}`", path.display()));
    text.lines().map(parse).collect()
}

impl Message {
    /// The `number`th of a producer.
    pub fn new(producer: &str, number: u64) -> Self {
        Self { producer: producer.to_owned(), number }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.producer, self.number)
    }
}

impl FromStr for Message {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (producer, number) = text.split_once(':').ok_or(())?;
        Ok(Self::new(producer, number.parse().map_err(drop)?))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pushing(message) => write!(f, "pushing {message}"),
            Self::Pushed(message, position) => write!(f, "pushed {message} {position}"),
            Self::Doubtful(message) => write!(f, "doubtful {message}"),
            Self::Got { message, position, connection, asked_ns } => {
                write!(f, "got {message} {position} {connection} {asked_ns}")
            }
            Self::Consumed(message, at_ns) => write!(f, "consumed {message} {at_ns}"),
            Self::Lost(message) => write!(f, "lost {message}"),
        }
    }
}

impl FromStr for Entry {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().map_err(drop);
        Ok(match words[..] {
            ["pushing", message] => Self::Pushing(message.parse()?),
            ["pushed", message, position] => Self::Pushed(message.parse()?, number(position)?),
            ["doubtful", message] => Self::Doubtful(message.parse()?),
            ["got", message, position, connection, asked_ns] => Self::Got {
                message: message.parse()?,
                position: number(position)?,
                connection: number(connection)?,
                asked_ns: number(asked_ns)?,
            },
            ["consumed", message, at_ns] => Self::Consumed(message.parse()?, number(at_ns)?),
            ["lost", message] => Self::Lost(message.parse()?),
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back() {
        let message = || Message::new("a", 7);
        for entry in [
            Entry::Pushing(message()),
            Entry::Pushed(message(), 3),
            Entry::Doubtful(message()),
            Entry::Got { message: message(), position: 3, connection: 1, asked_ns: 99 },
            Entry::Consumed(message(), 100),
            Entry::Lost(message()),
        ] {
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
        assert_eq!("pushed a7 3".parse::<Entry>(), Err(()));
    }
}
