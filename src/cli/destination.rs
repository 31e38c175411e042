//! The file that a recording goes to.
//!
//! It is opened before anything is watched, so that nobody waits a minute to
//! read that a directory is missing. A regular file is written beside its
//! place and put there as a whole at the end: whoever reads it meanwhile has
//! the old one, and a failure leaves it as it was.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::NamedTempFile;

use super::{exit::Failure, plan::Place};

/// An open file, not yet in its place.
#[derive(Debug)]
pub(super) struct Destination {
    file: Opened,
    /// Where it is to be, and how it is told to people.
    path: PathBuf,
}

#[derive(Debug)]
enum Opened {
    Beside(NamedTempFile),
    Direct(File),
}

impl Destination {
    /// Open `place`; `default` is the name for one that was given none.
    pub(super) fn open(place: &Place, default: &Path) -> anyhow::Result<Self> {
        let direct = |file, path: &Path| Self { file: Opened::Direct(file), path: path.to_owned() };
        match place {
            Place::Standard => {
                let file = io::stdout().as_fd().try_clone_to_owned();
                let file = file.context("standard output cannot be written")?;
                Ok(direct(file.into(), Path::new("standard output")))
            }
            Place::Stream(path) => {
                let file = OpenOptions::new().write(true).open(path);
                Ok(direct(file.map_err(|error| refused(path, &error))?, path))
            }
            Place::File(path) => Self::beside(path),
            Place::Default => Self::beside(default),
        }
    }

    fn beside(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            let fix = format!("-o {}", path.join("flame.svg").display());
            return Err(refused(path, &io::ErrorKind::IsADirectory.into()).fix(fix).into());
        }
        // What a link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            let what = format!("{} cannot be written", path.display());
            let why = format!("there is no directory {}", directory.display());
            let fix = format!("mkdir -p {}", directory.display());
            return Err(Failure::usage(what).why(why).fix(fix).into());
        }
        // What the file is allowed follows from the umask, as for any program.
        let file = tempfile::Builder::new()
            .prefix(".spy-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)
            .map_err(|error| refused(&path, &error))?;
        Ok(Self { file: Opened::Beside(file), path })
    }

    /// What to write to. Another thread may have it.
    pub(super) fn writer(&self) -> anyhow::Result<File> {
        let file = match &self.file {
            Opened::Beside(file) => file.as_file().try_clone(),
            Opened::Direct(file) => file.try_clone(),
        };
        file.with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// Where it is to be: not standard output.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Call it so, in the directory where it is.
    pub(super) fn rename(&mut self, name: &Path) {
        self.path = self.path.with_file_name(name);
    }

    /// What was written is all: put it in its place.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let shown = self.path.display().to_string();
        match self.file {
            Opened::Beside(file) => file.persist(&self.path).map(drop).map_err(|error| error.error),
            Opened::Direct(mut file) => file.flush(),
        }
        .with_context(|| format!("{shown} cannot be written"))
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{} cannot be written", path.display());
    // A temporary file's error tells its name, which means nothing to anybody.
    let kind = error.get_ref().map(|_| error.kind().to_string());
    Failure::usage(what).why(kind.unwrap_or_else(|| error.to_string()))
}
