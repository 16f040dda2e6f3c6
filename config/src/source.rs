//! A file's text, and places in it.

use crate::Diagnostics;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// One configuration file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path as shown to people.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A stretch of a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Range<usize>,
}

/// A value, and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// No configuration is longer; a device or a dump given by mistake is not read to its end.
const FILE_BYTES_MAX: u64 = 16 << 20;

impl Source {
    /// Reads a file; what is wrong with it as a file is diagnosed.
    pub(crate) fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Arc<Self>> {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                diagnostics.unreadable(path, &error);
                return None;
            }
        };
        let name = path.display().to_string();
        match String::from_utf8(bytes) {
            Ok(text) => Some(Arc::new(Self { name, text })),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Arc::new(Self { name, text });
                // The valid part is the same in both texts, so its length is the place in either.
                let end = valid + char::REPLACEMENT_CHARACTER.len_utf8();
                let place = Place { source, span: valid..end };
                diagnostics.add(&place, "this is not UTF-8; expected a text file in TOML");
                None
            }
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64;
    if read > FILE_BYTES_MAX {
        return Err(std::io::Error::other("longer than 16 MiB; expected a configuration file"));
    }
    Ok(bytes)
}

impl Place {
    /// Line and column, both from 1; the column counts characters.
    pub(crate) fn line_column(&self) -> (usize, usize) {
        let text = &self.source.text;
        let start = text.floor_char_boundary(self.span.start.min(text.len()));
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// `FILE:LINE`, as rules and logs cite it.
    pub(crate) fn file_line(&self) -> String {
        format!("{}:{}", self.source.name, self.line_column().0)
    }
}
