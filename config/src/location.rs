//! Where the files of an instance are.

use crate::Diagnostics;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use switchboard_transport::paths::{Environment, Instance};

/// Where to read a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Whose it is.
    pub instance: Instance,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Directories; a file in an earlier one hides the file of the same name in a later one.
    Directories(Vec<PathBuf>),
    /// A main file, which must exist, with the drop-in folders beside it.
    File(PathBuf),
}

const MAIN_FILE: &str = "switchboard.toml";
/// The drop-in folders, in the order in which they are read.
const FOLDERS: [&str; 2] = ["conf.d", "services.d"];

impl Location {
    /// The instance's own place: `/etc/switchboard` over `/usr/lib/switchboard` for the system,
    /// `$XDG_CONFIG_HOME/switchboard` or `~/.config/switchboard` for a user.
    pub fn standard(instance: Instance) -> Self {
        Self::directories(instance, Environment::from_process().config_directories(instance))
    }

    /// These directories; a file in an earlier one hides the file of the same name in a later one.
    pub fn directories(instance: Instance, directories: Vec<PathBuf>) -> Self {
        Self { instance, place: Place::Directories(directories) }
    }

    /// That file, which must exist, and the folders `conf.d` and `services.d` beside it.
    pub fn file(instance: Instance, path: impl Into<PathBuf>) -> Self {
        Self { instance, place: Place::File(path.into()) }
    }

    /// The files to read, in order. Folders that cannot be listed are diagnosed; those that are not
    /// there are empty.
    pub(crate) fn files(&self, diagnostics: &mut Diagnostics) -> Vec<PathBuf> {
        let (mut files, directories) = match &self.place {
            Place::File(path) => {
                let beside = path.parent().unwrap_or(Path::new("")).to_owned();
                (vec![path.clone()], vec![beside])
            }
            Place::Directories(directories) => {
                let main = directories.iter().map(|directory| directory.join(MAIN_FILE));
                // Not `exists`: a file that we may not see must be diagnosed, not skipped.
                let main = main.into_iter().find(|path| match path.symlink_metadata() {
                    Ok(_) => true,
                    Err(error) => !is_absent(&error),
                });
                (main.into_iter().collect(), directories.clone())
            }
        };
        for folder in FOLDERS {
            let folders = directories.iter().map(|directory| directory.join(folder));
            files.extend(drop_ins(folders, diagnostics));
        }
        files
    }
}

/// The `*.toml` files of `folders`, sorted by name; of two with one name, that of the earlier folder.
fn drop_ins(folders: impl Iterator<Item = PathBuf>, diagnostics: &mut Diagnostics) -> Vec<PathBuf> {
    let mut found = BTreeMap::<OsString, PathBuf>::new();
    for folder in folders {
        let listing = std::fs::read_dir(&folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        });
        let paths = match listing {
            Ok(paths) => paths,
            Err(error) if is_absent(&error) => continue,
            Err(error) => {
                diagnostics.unreadable(&folder, &error);
                continue;
            }
        };
        for path in paths {
            let hidden = |name: &OsString| name.as_encoded_bytes().first() == Some(&b'.');
            let Some(name) = path.file_name().map(OsString::from).filter(|name| !hidden(name)) else {
                continue;
            };
            if path.extension().is_some_and(|extension| extension == "toml") {
                found.entry(name).or_insert(path);
            }
        }
    }
    found.into_values().collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
