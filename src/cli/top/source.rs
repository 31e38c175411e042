//! Source files, read as the target sees them.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use crate::{profile::ProcessId, snapshot::Root, task::Pid};

/// A source file that is larger is no source file.
const MOST: u64 = 4 << 20;

/// What was asked for, and its text, or why there is none.
pub(super) struct Read {
    pub(super) file: String,
    pub(super) process: ProcessId,
    pub(super) text: Result<String, String>,
}

/// Where a process sees its files.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) pid: Pid,
    pub(super) root: Root,
}

/// Read the source file that the process at `place` calls `file`. Another
/// process may have another one of that name.
pub(super) fn read(place: Option<&Place>, file: &str) -> Result<String, String> {
    let place = place.ok_or_else(|| "no process is there to ask".to_owned())?;
    read_at(place, Path::new(file)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        _ => error.to_string(),
    })
}

fn read_at(place: &Place, file: &Path) -> io::Result<String> {
    let whole = if file.is_absolute() {
        file.to_owned()
    } else {
        // As the program was started, mostly; it may have gone elsewhere since.
        fs::read_link(format!("/proc/{}/cwd", place.pid))?.join(file)
    };
    // To open a device can do things, and to open a pipe lets somebody go on who
    // waits for that: so first it is looked what it is.
    let found = File::from(open_below(&place.root.directory, &whole)?);
    if !found.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // The very file that was looked at, whatever its name means by now.
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other("it is larger than source files are"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Take hold of `path` below the directory `root`, without opening it. No link
/// leads out of it.
fn open_below(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let directory =
        open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    match openat2(&directory, path, how) {
        // Before Linux 5.6, and under a filter that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            Ok(open(&root.join(below(path)), flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// `path` without what leads up or to the root.
fn below(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::Normal(part) => whole.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    fn place(root: &Path) -> Place {
        let pid = Pid(std::process::id().try_into().unwrap());
        Place { pid, root: Root { directory: root.to_owned(), map_files: None } }
    }

    #[test]
    fn a_file_is_read_below_the_root_that_the_target_has() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "secret").unwrap();
        fs::create_dir(root.path().join("app")).unwrap();
        fs::write(root.path().join("app/main.py"), b"print(1)\xff\n").unwrap();
        symlink("/app/main.py", root.path().join("link.py")).unwrap();
        symlink(outside.path(), root.path().join("out.py")).unwrap();
        let read = |file: &str| read(Some(&place(root.path())), file);
        assert_eq!(read("/app/main.py").unwrap(), "print(1)\u{fffd}\n");
        assert_eq!(read("/../../app/./main.py").unwrap(), "print(1)\u{fffd}\n");
        // A link is followed as the target would follow it.
        assert_eq!(read("/link.py").unwrap(), "print(1)\u{fffd}\n");
        assert_eq!(read("/out.py").unwrap_err(), "it is not there");
        assert_eq!(read("/app").unwrap_err(), "it is no regular file");
        assert_eq!(read("/none.py").unwrap_err(), "it is not there");
        assert_eq!(super::read(None, "a").unwrap_err(), "no process is there to ask");
    }

    #[test]
    fn what_is_no_source_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        // To open one is an error of its own, so this one was not opened.
        let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
        let file = File::create(root.path().join("large")).unwrap();
        file.set_len(MOST + 1).unwrap();
        let read = |file: &str| read(Some(&place(root.path())), file).unwrap_err();
        assert_eq!(read("/pipe"), "it is no regular file");
        assert_eq!(read("/socket"), "it is no regular file");
        assert_eq!(read("/large"), "it is larger than source files are");
    }

    #[test]
    fn a_path_without_a_beginning_is_from_where_the_target_is() {
        let here = place(Path::new("/"));
        let text = read(Some(&here), "src/main.rs").unwrap();
        assert!(text.contains("fn main"));
    }
}
