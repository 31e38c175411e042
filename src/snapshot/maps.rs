//! The lines of `/proc/PID/maps`.
//!
//! Half of each line is the target's to write: the path. It may hold spaces
//! and anything else but a newline, which the kernel writes as `\012`. A path
//! in which somebody wrote those four letters, or ` (deleted)` at its end,
//! cannot be told from the real thing; such a file is then not found by its
//! path, and is taken from memory.

use std::{ffi::OsString, ops::Range, os::unix::ffi::OsStringExt, path::PathBuf};

use super::{Backing, Mapping};
use crate::memory::Address;

/// The mappings that `text` lists, by address, none overlapping another.
///
/// `text` is a whole `/proc/PID/maps`. A line that makes no sense is skipped;
/// [`parse_counting`] says how many there were.
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    parse_counting(text).0
}

/// As [`parse`], with the number of lines that were skipped: those that make
/// no sense, and those that overlap one before (the kernel hands the text out
/// a page at a time, and the mappings can change between two pages).
pub fn parse_counting(text: &[u8]) -> (Vec<Mapping>, usize) {
    let mut skipped = 0;
    let mut mappings = Vec::new();
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(mapping) => mappings.push(mapping),
            None => skipped += 1,
        }
    }
    mappings.sort_by_key(|mapping| mapping.range.start);
    let mut end = Address(0);
    mappings.retain(|mapping| {
        let fits = mapping.range.start >= end;
        if fits {
            end = mapping.range.end;
        } else {
            skipped += 1;
        }
        fits
    });
    (mappings, skipped)
}

/// One line without its newline, such as
/// `7f0000000000-7f0000001000 r-xp 00001000 fd:01 42   /usr/lib/libc.so.6`.
pub fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let range = parse_range(fields.next()?)?;
    let &[readable, _, executable, _] = fields.next()? else { return None };
    let offset = hexadecimal(fields.next()?)?;
    let device = parse_device(fields.next()?)?;
    let inode = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let name = fields.next().unwrap_or_default();
    Some(Mapping {
        range,
        offset,
        readable: readable == b'r',
        executable: executable == b'x',
        device,
        inode,
        backing: parse_backing(name.trim_ascii_start()),
    })
}

fn parse_range(text: &[u8]) -> Option<Range<Address>> {
    let dash = text.iter().position(|&byte| byte == b'-')?;
    let start = hexadecimal(text.get(..dash)?)?;
    let end = hexadecimal(text.get(dash + 1..)?)?;
    (start < end).then_some(Address(start)..Address(end))
}

/// `major:minor`, made into the number that `stat` gives.
fn parse_device(text: &[u8]) -> Option<u64> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let major = u32::try_from(hexadecimal(text.get(..colon)?)?).ok()?;
    let minor = u32::try_from(hexadecimal(text.get(colon + 1..)?)?).ok()?;
    Some(libc::makedev(major, minor))
}

fn parse_backing(name: &[u8]) -> Backing {
    // The file lies in a mount that the target's root does not lead to.
    if let Some(path) = name.strip_prefix(b"(unreachable)") {
        return Backing::Deleted(unescape(path.strip_suffix(b" (deleted)").unwrap_or(path)));
    }
    match name {
        b"[vdso]" => Backing::Vdso,
        [b'/', ..] => match name.strip_suffix(b" (deleted)") {
            Some(path) => Backing::Deleted(unescape(path)),
            None => Backing::File(unescape(name)),
        },
        // `[heap]`, `[stack]`, `[anon:name]`, `anon_inode:..`, `socket:..`.
        _ => Backing::Anonymous,
    }
}

fn unescape(path: &[u8]) -> PathBuf {
    let mut left = path;
    let mut plain = Vec::with_capacity(path.len());
    while let [first, after @ ..] = left {
        if let Some(after) = left.strip_prefix(br"\012") {
            plain.push(b'\n');
            left = after;
        } else {
            plain.push(*first);
            left = after;
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    // `from_str_radix` would let a sign pass.
    let text = str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn backing(line: &str) -> Backing {
        parse_line(line.as_bytes()).unwrap().backing
    }

    #[test]
    fn a_line_is_read_field_by_field() {
        let line = b"7f10-7f20 r-xp 00001a00 fd:01 42                 /usr/lib/libc.so.6";
        let expected = Mapping {
            range: Address(0x7f10)..Address(0x7f20),
            offset: 0x1a00,
            readable: true,
            executable: true,
            device: libc::makedev(0xfd, 1),
            inode: 42,
            backing: Backing::File("/usr/lib/libc.so.6".into()),
        };
        assert_eq!(parse_line(line), Some(expected));
        let guard = parse_line(b"1000-2000 ---p 00000000 00:00 0 ").unwrap();
        assert!(!guard.readable && !guard.executable);
    }

    #[test]
    fn what_is_behind_a_mapping_is_told_from_its_name() {
        let head = "1000-2000 r-xp 00000000 00:01 7 ";
        let path = |name: &str| backing(&format!("{head}         {name}"));
        assert_eq!(path("[vdso]"), Backing::Vdso);
        assert_eq!(path("/a b/c  d"), Backing::File("/a b/c  d".into()));
        assert_eq!(path(r"/a\012b"), Backing::File("/a\nb".into()));
        assert_eq!(path(r"/a\01"), Backing::File(r"/a\01".into()));
        assert_eq!(path("/lib/x.so (deleted)"), Backing::Deleted("/lib/x.so".into()));
        assert_eq!(path("/memfd:jit (deleted)"), Backing::Deleted("/memfd:jit".into()));
        assert_eq!(path("(unreachable)/x.so"), Backing::Deleted("/x.so".into()));
        for name in ["", "[heap]", "[stack]", "[anon:jit]", "[vsyscall]", "anon_inode:[perf_event]"]
        {
            assert_eq!(path(name), Backing::Anonymous, "{name}");
        }
    }

    #[test]
    fn a_path_need_not_be_text() {
        let mapping = parse_line(b"1000-2000 r-xp 0 00:01 7 /\xff\xfe").unwrap();
        let path = PathBuf::from(OsString::from_vec(b"/\xff\xfe".to_vec()));
        assert_eq!(mapping.backing, Backing::File(path));
    }

    #[test]
    fn nonsense_is_skipped_and_counted() {
        let text = b"1000-2000 r-xp 0 00:00 0\n\
            3000-2000 r-xp 0 00:00 0\n\
            2000-2000 r-xp 0 00:00 0\n\
            4000 r-xp 0 00:00 0\n\
            +4000-5000 r-xp 0 00:00 0\n\
            4000-5000 r-x 0 00:00 0\n\
            4000-5000 r-xp 0 0000 0\n\
            4000-5000 r-xp 0 00:00 -1\n\
            4000-5000 r-xp 0\n\
            10000000000000000-10000000000000001 r-xp 0 00:00 0\n\
            \xff\n\
            \n\
            1800-3000 r-xp 0 00:00 0\n\
            500-600 r--p 0 00:00 0\n";
        let (mappings, skipped) = parse_counting(text);
        let starts: Vec<u64> = mappings.iter().map(|mapping| mapping.range.start.0).collect();
        assert_eq!(starts, [0x500, 0x1000]);
        assert_eq!(skipped, 11);
    }

    #[test]
    fn our_own_mappings_make_sense() {
        let text = fs::read("/proc/self/maps").unwrap();
        // Other tests may map and unmap meanwhile, so overlaps can be skipped.
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            assert!(parse_line(line).is_some(), "{}", line.escape_ascii());
        }
        let mappings = parse(&text);
        let here = Address(our_own_mappings_make_sense as fn() as usize as u64);
        let ours = mappings.iter().find(|mapping| mapping.range.contains(&here)).unwrap();
        let file = fs::metadata("/proc/self/exe").unwrap();
        assert!(ours.executable && ours.readable);
        assert_eq!(ours.inode, file.ino());
        assert_eq!(ours.backing, Backing::File(fs::read_link("/proc/self/exe").unwrap()));
    }
}
