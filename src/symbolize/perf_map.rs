//! The names that a process gives to the code it makes while it runs.
//!
//! A runtime with a compiler of its own (node, a JVM) writes a line for each
//! function to `/tmp/perf-PID.map`: start and size, hexadecimal, and a name.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    str,
};

use super::demangle::cut;
use crate::{memory::Address, snapshot::Root, task::Pid};

/// How much of a map is read at most. A large server writes tens of megabytes.
const MAX_SIZE: u64 = 512 << 20;

/// How much is read in one go.
const MAX_CHUNK: u64 = 1 << 20;

/// How many functions are kept at most.
const MAX_ENTRIES: usize = 2 << 20;

/// The longest line that is understood.
const MAX_LINE: usize = 16 << 10;

/// The map of one process; nothing until the process writes one.
#[derive(Debug)]
pub struct PerfMap {
    path: PathBuf,
    /// Device and inode of what was read.
    file: Option<(u64, u64)>,
    /// How much was read, to the end of the last whole line.
    read: u64,
    /// The code by its first address: the address after its last, and the name.
    code: BTreeMap<u64, (u64, Box<str>)>,
}

impl PerfMap {
    /// The map of the process that its own namespace calls `pid`, whose files
    /// are below `root`.
    pub fn new(root: &Root, pid: Pid) -> Self {
        let path = root.directory.join(format!("tmp/perf-{pid}.map"));
        Self { path, file: None, read: 0, code: BTreeMap::new() }
    }

    /// The name of the code at an address, as it was last given. What the
    /// process wrote since the last call is read first.
    pub fn symbol(&mut self, at: Address) -> Option<&str> {
        self.refresh();
        let (_, (end, name)) = self.code.range(..=at.0).next_back()?;
        (at.0 < *end).then_some(name)
    }

    /// Read what is new. A file that cannot be read leaves what is known.
    fn refresh(&mut self) {
        let Ok(about) = self.path.symlink_metadata() else { return };
        if !about.is_file() {
            return;
        }
        let same = self.file == Some((about.dev(), about.ino())) && about.len() >= self.read;
        if same && about.len() == self.read {
            return;
        }
        // What was written to the place of an ordinary file meanwhile is not
        // followed, and not waited for.
        let patient = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let Ok(mut file) = OpenOptions::new().read(true).custom_flags(patient).open(&self.path)
        else {
            return;
        };
        let Ok(about) = file.metadata() else { return };
        let identity = Some((about.dev(), about.ino()));
        if !about.is_file() {
            return;
        }
        if identity != self.file || about.len() < self.read {
            self.file = identity;
            self.read = 0;
            self.code.clear();
        }
        self.append(&mut file, about.len().min(MAX_SIZE));
    }

    fn append(&mut self, file: &mut File, end: u64) {
        while self.read < end {
            let mut text = Vec::new();
            let chunk = MAX_CHUNK.min(end - self.read);
            let got = file.seek(SeekFrom::Start(self.read));
            let got = got.and_then(|_| file.by_ref().take(chunk).read_to_end(&mut text));
            let whole = match text.iter().rposition(|&byte| byte == b'\n') {
                Some(last) => last + 1,
                // No line is that long: leave it out.
                None if chunk == MAX_CHUNK => text.len(),
                None => 0,
            };
            if got.is_err() || whole == 0 {
                return;
            }
            for line in text.get(..whole).unwrap_or_default().split(|&byte| byte == b'\n') {
                if let Some((start, end, name)) = parse(line) {
                    self.insert(start, end, name);
                }
            }
            self.read = self.read.saturating_add(whole as u64);
        }
    }

    /// Take over a piece of code; what was there before it is no more.
    fn insert(&mut self, start: u64, end: u64, name: String) {
        if self.code.len() >= MAX_ENTRIES {
            return;
        }
        let below = self.code.range_mut(..start).next_back();
        if let Some((_, (old_end, old_name))) = below.filter(|(_, (old_end, _))| *old_end > start) {
            let cut_off = (*old_end > end).then(|| (*old_end, old_name.clone()));
            *old_end = start;
            self.code.extend(cut_off.map(|rest| (end, rest)));
        }
        while let Some((&old, _)) = self.code.range(start..end).next() {
            let Some((old_end, old_name)) = self.code.remove(&old) else { break };
            if old_end > end {
                self.code.insert(end, (old_end, old_name));
            }
        }
        self.code.insert(start, (end, name.into_boxed_str()));
    }
}

/// Start, end and name of a line. Names may hold spaces, and any bytes.
fn parse(line: &[u8]) -> Option<(u64, u64, String)> {
    let mut words = line.get(..line.len().min(MAX_LINE))?.splitn(3, |&byte| byte == b' ');
    let mut number = || {
        let word = str::from_utf8(words.next()?).ok()?;
        let digits = word.strip_prefix("0x").unwrap_or(word);
        // `from_str_radix` would take a sign.
        digits.starts_with(|letter: char| letter.is_ascii_hexdigit()).then_some(())?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = String::from_utf8_lossy(words.next()?.trim_ascii()).into_owned();
    let end = start.checked_add(size).filter(|&end| end > start)?;
    (!name.is_empty()).then(|| (start, end, cut(&name)))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn map() -> (tempfile::TempDir, PathBuf, PerfMap) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let root = Root { directory: directory.path().to_owned(), map_files: None };
        let path = directory.path().join("tmp/perf-7.map");
        (directory, path, PerfMap::new(&root, Pid(7)))
    }

    #[test]
    fn the_newest_name_wins_and_the_file_may_grow() {
        let (_directory, path, mut map) = map();
        assert_eq!(map.symbol(Address(0x1000)), None);
        fs::write(&path, "1000 100 LazyCompile:*a b /x.js:1\n0x2000 10 two\n1040 10 in").unwrap();
        assert_eq!(map.symbol(Address(0x1040)), Some("LazyCompile:*a b /x.js:1"));
        assert_eq!(map.symbol(Address(0x2010)), None);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ner\n2000 8 new\n").unwrap();
        for (at, expected) in [
            (0xfff, None),
            (0x103f, Some("LazyCompile:*a b /x.js:1")),
            (0x1040, Some("inner")),
            (0x1050, Some("LazyCompile:*a b /x.js:1")),
            (0x2007, Some("new")),
            (0x2008, Some("two")),
        ] {
            assert_eq!(map.symbol(Address(at)), expected, "{at:#x}");
        }
        fs::write(&path, "1000 1 again\n").unwrap();
        assert_eq!(map.symbol(Address(0x1000)), Some("again"));
        assert_eq!(map.symbol(Address(0x2000)), None);
    }

    #[test]
    fn hostile_lines_are_left_out() {
        let (_directory, path, mut map) = map();
        let mut text = b"\n \n1\n1 2\n+1 2 sign\nffffffffffffffff 2 wraps\n5 0 empty\n6 1  \n1g 1 no\n\xff \xff \xff\n8 1 \xff\n".to_vec();
        text.extend(b"9 1 ");
        text.extend(b"x".repeat(3 << 20));
        text.extend(b"\na 1 last\n");
        fs::write(&path, text).unwrap();
        assert_eq!(map.symbol(Address(8)), Some("\u{fffd}"));
        assert_eq!(map.symbol(Address(0xa)), Some("last"));
        for at in [1, 5, 6, u64::MAX] {
            assert_eq!(map.symbol(Address(at)), None, "{at:#x}");
        }
    }

    #[test]
    fn random_bytes_are_read_without_harm() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (_directory, path, mut map) = map();
            let text: Vec<u8> = (0..random.usize(..2000))
                .map(|_| *random.choice(b"0123f x\n\xff").unwrap())
                .collect();
            fs::write(&path, text).unwrap();
            map.symbol(Address(random.u64(..0x400)));
            let ends: Vec<_> = map.code.iter().map(|(start, (end, _))| (*start, *end)).collect();
            assert!(ends.iter().all(|(start, end)| start < end));
            assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ends:?}");
        }
    }
}
