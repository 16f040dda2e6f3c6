//! `switchboard config`: what the files say, without a broker.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use switchboard_config::{Diagnostics, Instance, Loaded, Location, load};

use crate::context::Context;
use crate::failure::{Failure, WRONG_USAGE};
use crate::output::{note, stderr_in_colour};

/// Check configuration files, or show what they say
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    Check(Check),
    Show(Show),
}

/// Check configuration files: every mistake with FILE:LINE:COLUMN; exit status 2 if there is one
#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    files: Files,
}

/// Show every setting with its value and where it was set
#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    files: Files,
}

#[derive(Args, Debug)]
struct Files {
    /// A file (with the conf.d and services.d beside it) or a directory such as /etc/switchboard
    /// [default: where the broker looks]
    path: Option<PathBuf>,
}

#[derive(Serialize)]
struct CheckedJson<'c> {
    valid: bool,
    files: &'c [String],
    diagnostics: Vec<DiagnosticJson<'c>>,
}

#[derive(Serialize)]
struct DiagnosticJson<'d> {
    file: &'d str,
    line: usize,
    column: usize,
    message: &'d str,
    help: Option<&'d str>,
}

#[derive(Serialize)]
struct SettingJson<'s> {
    table: &'s str,
    key: &'s str,
    value: &'s str,
    /// `FILE:LINE`, or null for a default.
    source: Option<&'s str>,
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Check(command) => command.run(context),
            Self::Show(command) => command.run(context),
        }
    }
}

impl Files {
    fn load(&self, context: &Context) -> Result<Loaded, Diagnostics> {
        let instance = context.instance();
        let location = match &self.path {
            Some(path) if path.is_dir() => Location::directories(instance, vec![path.clone()]),
            Some(path) => Location::file(instance, path),
            None => Location::standard(instance),
        };
        load(&location)
    }
}

/// Tells every mistake on stderr.
fn complain(diagnostics: &Diagnostics) -> Failure {
    note(diagnostics.render(stderr_in_colour()));
    note(match diagnostics.len() {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    });
    Failure::silent(WRONG_USAGE)
}

impl Check {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = self.files.load(context);
        let mut output = context.output();
        if output.json() {
            let diagnostics = loaded.as_ref().err().map(Diagnostics::iter).into_iter().flatten();
            output.object(&CheckedJson {
                valid: loaded.is_ok(),
                files: loaded.as_ref().map_or(&[], |loaded| &loaded.settings.files),
                diagnostics: diagnostics
                    .map(|found| DiagnosticJson {
                        file: &found.file,
                        line: found.line,
                        column: found.column,
                        message: &found.message,
                        help: found.help.as_deref(),
                    })
                    .collect(),
            })?;
            output.finish()?;
            return loaded.map(drop).map_err(|_| Failure::silent(WRONG_USAGE));
        }
        let loaded = loaded.map_err(|diagnostics| complain(&diagnostics))?;
        for file in &loaded.settings.files {
            output.line(file)?;
        }
        output.finish()?;
        note(match (loaded.settings.files.len(), context.instance()) {
            (0, Instance::User) => "valid: no file, so the defaults of a user's broker hold",
            (0, Instance::System) => "valid: no file, so the defaults of the system's broker hold",
            _ => "valid",
        });
        Ok(())
    }
}

impl Show {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let shown = self.files.load(context).map_err(|diagnostics| complain(&diagnostics))?.shown;
        let mut output = context.output();
        if output.json() {
            for table in &shown.tables {
                for setting in &table.settings {
                    output.object(&SettingJson {
                        table: &table.header,
                        key: &setting.key,
                        value: &setting.value,
                        source: setting.source.as_deref().or(table.source.as_deref()),
                    })?;
                }
            }
        } else {
            output.raw(shown.to_string().as_bytes())?;
        }
        Ok(output.finish()?)
    }
}
