//! What is wrong with a configuration, and where.

use crate::source::Place;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::io;
use std::path::Path;

/// One mistake.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The file, as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what was expected, in one line.
    pub message: String,
    /// What to do about it, if there is something to say.
    pub help: Option<String>,
    span: Option<Place>,
    related: Option<(Place, &'static str)>,
}

/// Every mistake of a configuration. Displays as plain text; the first line of each diagnostic is
/// `FILE:LINE:COLUMN: error: MESSAGE`.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostic {
    /// Text for people, in colour or plain.
    pub fn render(&self, color: bool) -> String {
        let (red, bold, reset) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let Self { file, line, column, message, .. } = self;
        let mut text =
            format!("{bold}{file}:{line}:{column}:{reset} {red}error:{reset} {bold}{message}{reset}\n");
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut groups = Vec::new();
        if let Some(place) = &self.span {
            let mut group = Group::with_level(Level::ERROR).element(snippet(place, AnnotationKind::Primary));
            if let Some(help) = &self.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            groups.push(group);
        }
        if let Some((place, what)) = &self.related {
            let snippet = snippet(place, AnnotationKind::Context).path(place.source.name.as_str());
            groups.push(Level::NOTE.secondary_title(*what).element(snippet));
        }
        if !groups.is_empty() {
            text.push_str(&renderer.render(&groups));
            text.push('\n');
        }
        text
    }
}

fn snippet(place: &Place, kind: AnnotationKind) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    let text = place.source.text.as_str();
    let start = text.floor_char_boundary(place.span.start.min(text.len()));
    let end = text.ceil_char_boundary(place.span.end.clamp(start, text.len()));
    // One line is enough to find the place; a table's span may cover a page.
    let end = text[start..end].find('\n').map_or(end, |length| start + length);
    Snippet::source(text).annotation(kind.span(start..end))
}

impl Diagnostics {
    /// The mistakes, file by file and line by line.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many mistakes there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Text for people, in colour or plain.
    pub fn render(&self, color: bool) -> String {
        let texts: Vec<_> = self.list.iter().map(|diagnostic| diagnostic.render(color)).collect();
        texts.join("\n")
    }

    pub(crate) fn add(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        let (line, column) = place.line_column();
        self.list.push(Diagnostic {
            file: place.source.name.clone(),
            line,
            column,
            message: message.into(),
            help: None,
            span: Some(place.clone()),
            related: None,
        });
        self.last()
    }

    /// The one that was added last.
    pub(crate) fn last(&mut self) -> &mut Diagnostic {
        self.list.last_mut().expect("one was added")
    }

    /// A file or folder that cannot be read at all.
    pub(crate) fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.list.push(Diagnostic {
            file: path.display().to_string(),
            line: 1,
            column: 1,
            message: format!("cannot read this: {error}"),
            help: None,
            span: None,
            related: None,
        });
    }

    /// In the order in which one reads: files as first met, then by place.
    pub(crate) fn sorted(mut self) -> Self {
        let mut files: Vec<String> = Vec::new();
        for diagnostic in &self.list {
            if !files.contains(&diagnostic.file) {
                files.push(diagnostic.file.clone());
            }
        }
        let rank = |file: &String| files.iter().position(|known| known == file);
        self.list.sort_by_key(|found| (rank(&found.file), found.line, found.column));
        self
    }
}

impl Diagnostic {
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn related(&mut self, place: &Place, what: &'static str) -> &mut Self {
        self.related = Some((place.clone(), what));
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
