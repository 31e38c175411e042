//! Files of `/proc`, read up to a limit.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::{task::Pid, wait::Party};

/// The bytes of a file, `most` of them, and whether there were more.
///
/// # Errors
/// Those of opening and of reading it.
pub(super) fn read(path: impl AsRef<Path>, most: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    let more = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, more))
}

/// The longest command line that is kept, in bytes.
const LONGEST: usize = 4096;

/// A process by its number; `None` when there is none.
pub(super) fn party(pid: Pid) -> Option<Party> {
    let (bytes, _) = read(format!("/proc/{pid}/cmdline"), LONGEST).ok()?;
    let words: Vec<_> = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        let (name, _) = read(format!("/proc/{pid}/comm"), LONGEST).ok()?;
        let name = String::from_utf8_lossy(&name);
        return Some(Party { pid, command: format!("[{}]", name.trim_end()) });
    }
    Some(Party { pid, command: String::from_utf8_lossy(&words.join(&b' ')).into_owned() })
}
