//! Versions, as numbers and as text.

use std::fmt;

use memchr::memmem;

/// The longest version that is read, in bytes.
const LONGEST: usize = 24;

/// `PY_VERSION_HEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 2 or 3.
    pub major: u8,
    /// The minor version: structs are laid out anew in each.
    pub minor: u8,
    /// The patch level.
    pub micro: u8,
    /// 10 for an alpha version, 11 for a beta, 12 for a candidate, 15 for a
    /// release.
    pub level: u8,
    /// Which alpha version, beta or candidate.
    pub serial: u8,
}

impl Version {
    /// From the bytes of the number: one each, and level and serial share one.
    pub const fn from_hex(hex: u32) -> Self {
        let [major, minor, micro, last] = hex.to_be_bytes();
        Self { major, minor, micro, level: last >> 4, serial: last & 15 }
    }

    /// The first version in `bytes` that stands as `sys.version` begins.
    pub fn find(bytes: &[u8]) -> Option<Self> {
        memmem::find_iter(bytes, b" (").find_map(|end| {
            (end.saturating_sub(LONGEST)..end).find_map(|at| {
                let before = at.checked_sub(1).and_then(|at| bytes.get(at));
                let begins = matches!(bytes.get(at), Some(b'2' | b'3'))
                    && !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
                begins.then(|| Self::from_text(bytes.get(at..)?)).flatten()
            })
        })
    }

    /// From what `sys.version` begins with, such as `3.13.0rc1+ (`.
    pub fn from_text(bytes: &[u8]) -> Option<Self> {
        let (text, _) =
            bytes.split_at(bytes.windows(2).take(LONGEST).position(|two| two == b" (")?);
        let text = std::str::from_utf8(text).ok()?.trim_end_matches('+');
        let mut parts = text.splitn(3, '.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let last = parts.next()?;
        let digits = last.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(last.len());
        let (micro, rest) = last.split_at_checked(digits)?;
        let micro = micro.parse().ok()?;
        let (level, serial) = match rest {
            "" => (15, 0),
            _ => {
                let names = [("a", 10), ("b", 11), ("rc", 12), ("c", 12)];
                let mut levels = names.into_iter();
                levels.find_map(|(name, level)| {
                    Some((level, rest.strip_prefix(name)?.parse().ok()?))
                })?
            }
        };
        Some(Self { major, minor, micro, level, serial })
    }

    /// Whether structs may still have changed after it.
    pub const fn is_preliminary(self) -> bool {
        self.level != 15
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)?;
        match self.level {
            10 => write!(f, "a{}", self.serial),
            11 => write!(f, "b{}", self.serial),
            12 => write!(f, "rc{}", self.serial),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_among_other_things() {
        for (text, expected) in [
            ("\0\0v (\x003.8.18 (default, Jun  1 2023)\0", Some("3.8.18")),
            ("13.8.18 (default", None),
            ("1.3.8.18 (default", None),
            ("GCC 12.2.0 (\0 2.7.18 (default", Some("2.7.18")),
            ("3.8.18(default", None),
            (" (", None),
        ] {
            let found = Version::find(text.as_bytes()).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn versions_are_read_as_they_are_written() {
        for (text, expected) in [
            ("3.10.13 (main, Jun  1 2023, 10:00:00) [GCC 12.2.0]", Some("3.10.13")),
            ("2.7.18 (default, ", Some("2.7.18")),
            ("3.13.0rc1+ (heads", Some("3.13.0rc1")),
            ("3.15.0b4 (main", Some("3.15.0b4")),
            ("3.15.0a1+ (main", Some("3.15.0a1")),
            ("3.45.1 2024-01-30", None),
            ("3.10.13", None),
            ("3.10 (main", None),
            ("3.10.13x (main", None),
            ("3.10.13rc (main", None),
            ("3.999.1 (main", None),
            ("3.1\u{e9}.1 (main", None),
            ("", None),
        ] {
            let found = Version::from_text(text.as_bytes()).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert_eq!(Version::from_hex(0x030f_00f0).to_string(), "3.15.0");
        assert_eq!(Version::from_hex(0x030f_00b4).to_string(), "3.15.0b4");
        assert!(Version::from_hex(0x030e_00c2).is_preliminary());
    }
}
