//! Results on stdout: raw bytes, aligned tables, or one JSON object a line.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, StdoutLock, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// Where results go. Flushed by [`Output::finish`], so that a full disk is noticed.
pub(crate) struct Output {
    stdout: io::BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { stdout: io::BufWriter::new(io::stdout().lock()), json }
    }

    /// Whether `--json` was given.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// A line.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.stdout, "{line}")
    }

    /// One JSON object on a line of its own.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, object)?;
        self.stdout.write_all(b"\n")
    }

    /// A table; nothing at all if it has no rows.
    pub(crate) fn table(&mut self, table: &Columns) -> io::Result<()> {
        if table.rows > 0 { writeln!(self.stdout, "{}", table.render()) } else { Ok(()) }
    }

    /// Whatever is written should be seen now: for streams.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Everything is written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Rows under headings; columns that begin with `>` are aligned to the right.
pub(crate) struct Columns {
    table: Table,
    rows: usize,
}

impl Columns {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(headings.map(|heading| heading.trim_start_matches('>')));
        for (at, heading) in headings.into_iter().enumerate() {
            let column = table.column_mut(at).expect("the header has made it");
            column.set_padding((0, 2));
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table, rows: 0 }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells.map(|cell| printable(&cell)));
        self.rows += 1;
    }

    fn render(&self) -> String {
        let lines = self.table.lines().map(|line| line.trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Text of other programs, without what would move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Whether people look at stderr in colour.
pub(crate) fn stderr_in_colour() -> bool {
    let stderr = io::stderr();
    stderr.is_terminal() && anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never
}

/// A line for people, on stderr. That nobody listens is no failure.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
