//! Text for eyes: colours, and what the target wrote made harmless.
//!
//! When to colour is decided by `cli`; here is only how.

use std::{borrow::Cow, fmt};

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// With the terminal's own colours.
    Coloured,
    /// Bare text.
    Plain,
}

/// What a piece of text is, which says how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the eye should find first.
    Strong,
    /// What may be read last.
    Faint,
    /// A thread that runs: warm, as in a flame graph.
    Running,
    /// A thread that waits: cool, as in a flame graph.
    Waiting,
    /// Something went wrong.
    Error,
    /// Something may be wrong.
    Warning,
    /// A command to type.
    Command,
}

impl Role {
    /// The parameters of the "select graphic rendition" sequence: only the
    /// sixteen colours that every terminal's user has chosen for themselves.
    const fn sequence(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Running => "33",
            Self::Waiting => "36",
            Self::Error => "1;31",
            Self::Warning => "1;33",
            Self::Command => "32",
        }
    }
}

impl Paint {
    /// `text`, looking like a `role`.
    pub fn text<T: fmt::Display>(self, role: Role, text: T) -> Painted<T> {
        Painted { paint: self, role, text }
    }
}

/// Text that shows its role.
#[derive(Clone, Copy, Debug)]
pub struct Painted<T> {
    paint: Paint,
    role: Role,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.paint {
            Paint::Coloured => write!(f, "\x1b[{}m{}\x1b[0m", self.role.sequence(), self.text),
            Paint::Plain => self.text.fmt(f),
        }
    }
}

/// `text` without anything that a terminal, an XML reader or an eye could be
/// fooled by: control characters and invisible ones (those that turn the
/// direction of writing among them) are spelt out, as in `\x1b` or `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            _ if !is_unsafe(letter) => safe.push(letter),
            _ if letter.is_ascii() => safe.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ => safe.extend(letter.escape_unicode()),
        }
    }
    Cow::Owned(safe)
}

/// Characters that do something other than be seen. XML 1.0 (section 2.2)
/// allows neither the control characters nor the last two.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `text` cut to at most `letters` letters, the last of them then `…`.
pub fn clip(text: &str, letters: usize) -> Cow<'_, str> {
    if text.chars().count() <= letters {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    Cow::Owned(kept + "…")
}

/// `text` cut to at most `letters` letters, of which one in the middle then is
/// `…`: the end of a function's name tells more than the middle.
pub fn clip_middle(text: &str, letters: usize) -> Cow<'_, str> {
    let all = text.chars().count();
    if all <= letters {
        return Cow::Borrowed(text);
    }
    let kept = letters.saturating_sub(1);
    let head = kept.div_ceil(2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(all - (kept - head)).collect();
    Cow::Owned(start + "…" + &end)
}

/// A count with its thousands set apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What part of `whole` is, as `12 %`, `1.2 %` or, for a little that is not
/// nothing, `<0.1 %`.
#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
pub fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if percent < 0.1 {
        "<0.1 %".to_owned()
    } else if percent < 9.95 || (percent > 99.0 && part < whole) {
        // Rounded down near the top: what is not all must not read as all.
        format!("{:.1} %", if percent > 99.0 { (percent * 10.0).floor() / 10.0 } else { percent })
    } else {
        format!("{percent:.0} %")
    }
}

/// A time in the unit that fits it: `950 ns`, `31 µs`, `4.2 ms`, `30.0 s`,
/// `12 min 5 s`.
#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
pub fn time(time: std::time::Duration) -> String {
    let nanos = time.as_nanos() as f64;
    match nanos {
        ..1e3 => format!("{nanos:.0} ns"),
        ..1e4 => format!("{:.1} µs", nanos / 1e3),
        ..1e6 => format!("{:.0} µs", nanos / 1e3),
        ..1e7 => format!("{:.1} ms", nanos / 1e6),
        ..1e9 => format!("{:.0} ms", nanos / 1e6),
        ..600e9 => format!("{:.1} s", nanos / 1e9),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// Bytes in the unit that fits them: `12 MiB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..=0x3ff => format!("{bytes} B"),
        0x400..=0xf_ffff => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_unsafe_is_spelt_out() {
        let check = |text: &str, safe: &str| assert_eq!(escape(text), safe);
        check("worker", "worker");
        check("grüße 東京", "grüße 東京");
        check("a\x1b[31mb", "a\\x1b[31mb");
        check("a\nb\tc\rd\0", "a\\nb\\tc\\rd\\x00");
        check("\u{202e}gnp.exe", "\\u{202e}gnp.exe");
        check("\u{9b}2J", "\\u{9b}2J");
        check("\u{ffff}", "\\u{ffff}");
    }

    #[test]
    fn plain_paint_leaves_text_bare() {
        assert_eq!(Paint::Plain.text(Role::Error, "no").to_string(), "no");
        assert_eq!(Paint::Coloured.text(Role::Faint, 1).to_string(), "\x1b[2m1\x1b[0m");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(share(0, 7), "0 %");
        assert_eq!(share(1, 0), "0 %");
        assert_eq!(share(1, 100_000), "<0.1 %");
        assert_eq!(share(12, 1000), "1.2 %");
        assert_eq!(share(1, 2), "50 %");
        assert_eq!(share(99_999, 100_000), "99.9 %");
        assert_eq!(share(5, 5), "100 %");
        assert_eq!(time(Duration::from_nanos(31_400)), "31 µs");
        assert_eq!(time(Duration::from_millis(30_000)), "30.0 s");
        assert_eq!(time(Duration::from_secs(725)), "12 min 5 s");
        assert_eq!(bytes(12 << 20), "12 MiB");
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("abcd", 4), "abcd");
        assert_eq!(clip_middle("abcdefgh", 6), "abc…gh");
        assert_eq!(clip_middle("abcdefgh", 8), "abcdefgh");
        assert_eq!(clip_middle("abcdefgh", 0), "…");
    }
}
