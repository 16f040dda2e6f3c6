//! Messages that are the lines of stdin or of a file.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read};

use crate::failure::Failure;
use crate::values::PayloadArgument;

/// Lines, one after the other, without what ends them.
pub(crate) struct Lines {
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    count: u64,
}

impl Lines {
    /// The lines of stdin where nothing else is said, else of the file or the word.
    pub(crate) fn of(payload: PayloadArgument) -> Result<Self, Failure> {
        let source: Box<dyn Read> = match payload {
            PayloadArgument::Empty | PayloadArgument::Stdin => Box::new(io::stdin()),
            PayloadArgument::Word(bytes) => Box::new(Cursor::new(bytes)),
            PayloadArgument::File(path) => Box::new(File::open(&path).map_err(|error| {
                Failure::usage(format_args!("cannot read the lines of `{}`: {error}", path.display()))
            })?),
        };
        Ok(Self { reader: BufReader::new(source), line: Vec::new(), count: 0 })
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        if read.map_err(|error| Failure::usage(format_args!("cannot read the lines: {error}")))? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        self.count += 1;
        Ok(Some(&self.line))
    }

    /// Whether the next one is here already: without that, asking for it may wait for whoever writes.
    pub(crate) fn has_next(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// Lines that were given out.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_a_newline_or_with_the_input() {
        let mut lines = Lines::of(PayloadArgument::Word(b"one\n\nthree".to_vec())).expect("a word");
        let mut read = Vec::new();
        while let Some(line) = lines.next().expect("in memory") {
            read.push(line.to_vec());
        }
        assert_eq!(read, [&b"one"[..], b"", b"three"]);
        assert_eq!(lines.count(), 3);
    }
}
