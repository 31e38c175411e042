//! Text in the cells of a terminal: how many it takes, and how it is cut.
//!
//! A letter takes as many cells as terminals give it, one by one (`man 3
//! wcwidth`), and marks that take none stay with the letter before them.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

use super::Letters;
use crate::style;

/// More letters of one text than this are never looked at: no terminal shows
/// as many in a row.
const LONGEST: usize = 1024;

/// More marks on one letter than this are not drawn. Vietnamese needs two.
const MARKS: usize = 3;

/// `text` with nothing in it that a terminal could be fooled by, in `letters`.
pub(super) fn clean(text: &str, letters: Letters) -> Cow<'_, str> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let text = style::escape(text);
    let mut clean = String::with_capacity(text.len());
    let (mut marks, mut seen) = (MARKS, false);
    for letter in text.chars() {
        match letter {
            '±' if letters == Letters::Ascii => clean.push_str("+-"),
            _ if letters == Letters::Ascii => clean.push(ascii(letter)),
            // They ask for another width of the letter before, which some
            // terminals grant.
            '\u{fe00}'..='\u{fe0f}' => {}
            _ if cells(letter) > 0 => {
                (marks, seen) = (0, true);
                clean.push(letter);
            }
            // One with nothing to stand on.
            _ if !seen => clean.extend(letter.escape_unicode()),
            _ if marks < MARKS => {
                marks += 1;
                clean.push(letter);
            }
            _ => {}
        }
    }
    Cow::Owned(clean)
}

/// The letter that is meant where there is only ASCII; `?` for one that has
/// nothing like it there.
fn ascii(letter: char) -> char {
    match letter {
        ' '..='~' => letter,
        '▼' | '▾' | '↓' => 'v',
        '▲' | '▴' | '↑' => '^',
        '←' => '<',
        '→' => '>',
        '…' => '~',
        '─' | '–' | '—' | '−' => '-',
        '│' => '|',
        'µ' | 'μ' => 'u',
        '×' => 'x',
        '·' => '.',
        _ => '?',
    }
}

/// The cells that `letter` takes.
fn cells(letter: char) -> usize {
    match letter {
        // The voiced sound marks of half width are marks to Unicode, and
        // letters of their own to terminals, and to ratatui.
        '\u{ff9e}' | '\u{ff9f}' => 1,
        _ => letter.width().unwrap_or(0),
    }
}

/// The cells that `text` takes, which is clean.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

/// The cells that `text` takes once it is clean, or those of as much of it as is
/// ever looked at.
pub(super) fn measure(text: &str, letters: Letters) -> usize {
    width(&clean(first(text), letters))
}

/// The letters of `text`, which is clean, with their marks and their cells.
pub(super) fn split(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut letters = rest.char_indices();
        let (_, first) = letters.next()?;
        let end = letters.find(|&(_, next)| cells(next) > 0).map_or(rest.len(), |(at, _)| at);
        let (letter, left) = rest.split_at(end);
        rest = left;
        Some((letter, cells(first)))
    })
}

/// The beginning of `text`, which is clean, in at most `most` cells.
fn head(text: &str, most: usize) -> &str {
    let (mut end, mut taken) = (0, 0);
    for (letter, cells) in split(text) {
        taken += cells;
        if taken > most {
            break;
        }
        end += letter.len();
    }
    &text[..end]
}

/// The end of `text`, which is clean, in at most `most` cells.
fn tail(text: &str, most: usize) -> &str {
    let mut over = width(text).saturating_sub(most);
    let mut start = 0;
    for (letter, cells) in split(text) {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(cells);
        start += letter.len();
    }
    &text[start..]
}

/// Where a text is cut that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// At its end.
    End,
    /// In the middle: of a function's name both ends tell much.
    Middle,
    /// At its start.
    Start,
    /// At its start, and at a `/`: a directory that is half there misleads.
    Path,
}

/// `text` made clean, in at most `most` cells.
pub(super) fn fit(text: &str, most: usize, cut: Cut, letters: Letters) -> String {
    if most == 0 {
        return String::new();
    }
    let text = match cut {
        Cut::End | Cut::Middle => first(text),
        Cut::Start | Cut::Path => last(text),
    };
    let text = clean(text, letters);
    if width(&text) <= most {
        return text.into_owned();
    }
    let gap = match letters {
        Letters::Unicode => "…",
        Letters::Ascii => "~",
    };
    let kept = most - 1;
    match cut {
        Cut::End => head(&text, kept).to_owned() + gap,
        Cut::Middle => {
            let end = tail(&text, kept / 2);
            head(&text, kept - width(end)).to_owned() + gap + end
        }
        Cut::Start => gap.to_owned() + tail(&text, kept),
        Cut::Path => {
            let end = tail(&text, kept);
            let whole = end.find('/').map_or(end, |slash| &end[slash..]);
            gap.to_owned() + whole
        }
    }
}

/// The first letters of a text that may be very long.
fn first(text: &str) -> &str {
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

/// The last letters of a text that may be very long.
fn last(text: &str) -> &str {
    text.char_indices().nth_back(LONGEST).map_or(text, |(start, _)| &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, most: usize, cut: Cut) -> String {
        fit(text, most, cut, Letters::Unicode)
    }

    #[test]
    fn text_is_cut_where_it_says_least() {
        assert_eq!(cut("tokenize", 8, Cut::End), "tokenize");
        assert_eq!(cut("tokenize", 5, Cut::End), "toke…");
        assert_eq!(cut("tokenize", 5, Cut::Middle), "to…ze");
        assert_eq!(cut("tokenize", 5, Cut::Start), "…nize");
        assert_eq!(cut("srv/shop/parser.py:118", 20, Cut::Path), "…/shop/parser.py:118");
        assert_eq!(cut("srv/shop/parser.py:118", 19, Cut::Path), "…/parser.py:118");
        assert_eq!(cut("srv/shop/parser.py:118", 12, Cut::Path), "…rser.py:118");
        assert_eq!(cut("tokenize", 1, Cut::Middle), "…");
        assert_eq!(cut("tokenize", 0, Cut::Middle), "");
    }

    #[test]
    fn wide_letters_and_marks_are_measured_as_terminals_do() {
        assert_eq!(width("東京"), 4);
        assert_eq!(cut("東京都", 5, Cut::End), "東京…");
        assert_eq!(cut("東京都", 4, Cut::End), "東…", "half a letter is none");
        assert_eq!(cut("東京都", 4, Cut::Start), "…都");
        assert_eq!(cut("東京都", 5, Cut::Middle), "東…都");
        assert_eq!(width("e\u{301}a"), 2);
        assert_eq!(cut("e\u{301}abc", 3, Cut::End), "e\u{301}a…");
        assert_eq!(split("e\u{301}a").collect::<Vec<_>>(), [("e\u{301}", 1), ("a", 1)]);
        // As in ratatui, which would else draw another width than is counted.
        assert_eq!(split("ｶﾞ").map(|(_, cells)| cells).sum::<usize>(), 2);
    }

    #[test]
    fn what_could_fool_a_terminal_is_spelt_out() {
        let clean = |text: &str| clean(text, Letters::Unicode).into_owned();
        assert_eq!(clean("a\x1b[2Jb\u{7f}"), "a\\x1b[2Jb\\x7f");
        assert_eq!(clean("\u{301}a"), "\\u{301}a");
        assert_eq!(clean(&format!("e{}!", "\u{301}".repeat(99))), "e\u{301}\u{301}\u{301}!");
        assert_eq!(clean("\u{263a}\u{fe0f}"), "\u{263a}");
    }

    #[test]
    fn ascii_is_ascii() {
        let clean = |text: &str| clean(text, Letters::Ascii).into_owned();
        assert_eq!(clean("self▼ ±2 31 µs"), "selfv +-2 31 us");
        assert_eq!(clean("größe 東\x07"), "gr??e ?\\x07");
        assert_eq!(fit("größenwahn", 5, Cut::End, Letters::Ascii), "gr??~");
    }

    #[test]
    fn a_very_long_text_is_not_looked_at() {
        let long = "東".repeat(1 << 20) + "!";
        assert_eq!(cut(&long, 4, Cut::End), "東…");
        assert_eq!(cut(&long, 4, Cut::Start), "…東!");
    }
}
