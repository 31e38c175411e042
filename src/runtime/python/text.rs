//! Strings and bytes of the target's.
//!
//! What is no text by Unicode's rules is written as Python would write it with
//! escapes: a lone surrogate, and a byte of Python 2's that is no UTF-8, as
//! `\udc80`. Control characters stay: who shows a name escapes it.

use super::layout::{Field, Objects, Text};
use crate::memory::{Address, Memory};

/// The most characters of a name that are kept; longer ones end in `…`.
pub const NAME: usize = 4096;

/// The most bytes that are copied at a time, whatever is asked for.
const LONGEST: usize = 4 << 20;

/// The most characters of a type's name.
const TYPE_NAME: usize = 256;

/// Bytes of the target's: all, or as many as were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The first ones.
    pub kept: Vec<u8>,
    /// How many the object has.
    pub length: u64,
}

impl Bytes {
    /// Whether there are more than were kept.
    pub fn is_cut(&self) -> bool {
        u64::try_from(self.kept.len()).is_ok_and(|kept| kept < self.length)
    }
}

/// The name of something: a string, or bytes where names are (Python 2).
/// `None` when it cannot be read, or is no string.
pub fn name(objects: &Objects, at: Address, memory: &dyn Memory) -> Option<String> {
    match objects.text {
        Text::Compact { .. } => string(objects, at, NAME, memory),
        Text::Wide { .. } => Some(utf8(&bytes(objects, at, NAME, memory)?)),
    }
}

/// The first `most` characters of a string (`str`; `unicode` of Python 2), with
/// `…` behind them when it has more. `None` when it cannot be read, or is no
/// string.
pub fn string(objects: &Objects, at: Address, most: usize, memory: &dyn Memory) -> Option<String> {
    let (characters, all) = characters(objects, at, most, memory)?;
    let mut text = points(characters.into_iter());
    if !all {
        text.push('…');
    }
    Some(text)
}

/// The same as numbers, lone surrogates among them, and whether those are all.
pub fn characters(
    objects: &Objects,
    at: Address,
    most: usize,
    memory: &dyn Memory,
) -> Option<(Vec<u32>, bool)> {
    let units = Units::find(objects, at, memory)?;
    let kept = units.length.min(most).min(LONGEST / units.size);
    let mut bytes = vec![0; kept.checked_mul(units.size)?];
    if !bytes.is_empty() {
        memory.read(units.data, &mut bytes).ok()?;
    }
    let halves = || bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let characters = match units.size {
        1 => bytes.iter().copied().map(u32::from).collect(),
        2 if units.pairs => char::decode_utf16(halves())
            .map(|found| found.map_or_else(|lone| lone.unpaired_surrogate().into(), u32::from))
            .collect(),
        2 => halves().map(u32::from).collect(),
        _ => bytes.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
    };
    Some((characters, kept == units.length))
}

/// The first `most` bytes of a bytes object (`str` of Python 2). `None` when
/// they cannot be read, or it is none.
pub fn bytes(objects: &Objects, at: Address, most: usize, memory: &dyn Memory) -> Option<Bytes> {
    let length = u64::try_from(objects.size.get(memory, at).ok()?).ok()?;
    let mut kept = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(most).min(LONGEST)];
    if !kept.is_empty() {
        memory.read(objects.bytes.of(at), &mut kept).ok()?;
    }
    Some(Bytes { kept, length })
}

/// The name of a type (`tp_name`), of at most 256 characters. `None` when it
/// cannot be read, or is longer.
pub fn type_name(objects: &Objects, class: Address, memory: &dyn Memory) -> Option<String> {
    /// Nothing that begins in a piece of this size ends in another page.
    const PIECE: usize = 32;
    let mut at = objects.type_name.get(memory, class).ok().filter(|&at| at != Address(0))?;
    let mut name = Vec::new();
    while name.len() < TYPE_NAME {
        let mut piece = [0; PIECE];
        let len = PIECE - usize::try_from(at.0).ok()? % PIECE;
        let piece = piece.get_mut(..len)?;
        memory.read(at, piece).ok()?;
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            name.extend_from_slice(piece.get(..end)?);
            return Some(utf8(&Bytes { length: 0, kept: name }));
        }
        name.extend_from_slice(piece);
        at = at.plus(u64::try_from(len).ok()?);
    }
    None
}

/// Bytes of a source file's, as text.
pub fn utf8(bytes: &Bytes) -> String {
    let mut text = String::with_capacity(bytes.kept.len());
    let mut chunks = bytes.kept.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        // Where it was cut in the midst of a character, that is no error.
        if chunks.peek().is_none() && bytes.is_cut() {
            break;
        }
        for &byte in chunk.invalid() {
            push(&mut text, 0xdc00 + u32::from(byte));
        }
    }
    if bytes.is_cut() {
        text.push('…');
    }
    text
}

fn points(points: impl Iterator<Item = u32>) -> String {
    let mut text = String::with_capacity(points.size_hint().0);
    points.for_each(|point| push(&mut text, point));
    text
}

fn push(text: &mut String, point: u32) {
    match char::from_u32(point) {
        Some(found) => text.push(found),
        None if point <= 0xffff => text.push_str(&format!("\\u{point:04x}")),
        None => text.push_str(&format!("\\U{point:08x}")),
    }
}

/// Where the characters of a string lie.
struct Units {
    data: Address,
    length: usize,
    /// Bytes of each.
    size: usize,
    /// Whether two can be one character.
    pairs: bool,
}

impl Units {
    fn find(objects: &Objects, at: Address, memory: &dyn Memory) -> Option<Self> {
        let count = |length: Field<i64>| -> Option<usize> {
            usize::try_from(length.get(memory, at).ok()?).ok()
        };
        match objects.text {
            Text::Compact { length, state, kind_bit, ascii, compact, data } => {
                let state = state.get(memory, at).ok()?.checked_shr(kind_bit)?;
                // `PyUnicode_1BYTE_KIND` and so on are the sizes; 0 is a string
                // that is not made ready (3.11 and older), which no name is.
                let size = usize::try_from(state & 7).ok()?;
                let is_compact = state & 8 != 0;
                let is_ascii = state & 16 != 0;
                let data = match (size, is_compact, is_ascii) {
                    (1, true, true) => at.plus(ascii.into()),
                    (1 | 2 | 4, true, false) => at.plus(compact.into()),
                    (1 | 2 | 4, false, _) => data?.get(memory, at).ok()?,
                    _ => return None,
                };
                Some(Self { data, length: count(length)?, size, pairs: false })
            }
            Text::Wide { length, data, unit } => {
                let size = usize::try_from(unit).ok().filter(|size| matches!(size, 2 | 4))?;
                let data = data.get(memory, at).ok()?;
                Some(Self { data, length: count(length)?, size, pairs: true })
            }
        }
    }
}

#[cfg(test)]
mod tests;
