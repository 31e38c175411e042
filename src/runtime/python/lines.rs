//! Line tables: which place in the source an instruction was made from.
//!
//! A table is decoded once into rows that are sorted by offset, so that a
//! lookup is a binary search. Offsets are in bytes of bytecode everywhere.

use super::layout::LineTable;

/// A place in a source file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1; `None` for instructions that belong to none.
    pub line: Option<u32>,
    /// The first and the last column on that line, in bytes from 1. `None` where
    /// the table has none, and for what goes on over several lines: the table
    /// says where it ends, but not where its first line does.
    pub columns: Option<(u32, u32)>,
}

/// A line table, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Ascending, no two with the same offset; each holds up to the next.
    rows: Vec<Row>,
    first: Option<u32>,
    end: Option<u32>,
}

/// 16 bytes: a function of 100 KB of table has some 50,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    offset: u32,
    /// 0: none.
    line: u32,
    /// From 1, inclusive; (0, 0): none.
    columns: (u32, u32),
}

const _: () = assert!(size_of::<Row>() == 16);

impl Lines {
    /// The longest table that is decoded, in bytes. What generated code has
    /// was seen to be a few hundred thousand.
    pub const MOST: usize = 4 << 20;

    /// Decode a table of code whose first line is `first`. What is damaged in
    /// it belongs to no line.
    pub fn decode(kind: LineTable, table: &[u8], first: i32) -> Self {
        let table = table.get(..Self::MOST).unwrap_or(table);
        let mut rows = Rows { rows: Vec::new() };
        let end = match kind {
            LineTable::Growing => increments(table, first, &mut rows, i64::from),
            LineTable::Signed => {
                increments(table, first, &mut rows, |by| i64::from(by.cast_signed()))
            }
            LineTable::Ranges => ranges(table, first, &mut rows),
            LineTable::Locations => locations(table, first, &mut rows),
        };
        let mut rows = rows.rows;
        rows.shrink_to_fit();
        Self { rows, first: line(first.into()), end }
    }

    /// The place of the instruction at `offset`. Before the first one, where a
    /// frame is that has not begun, it is the line of the definition.
    pub fn at(&self, offset: i64) -> Place {
        if offset < 0 {
            return Place { line: self.first, columns: None };
        }
        let Ok(offset) = u32::try_from(offset) else { return Place::default() };
        let after = self.rows.partition_point(|row| row.offset <= offset);
        let row = after.checked_sub(1).and_then(|last| self.rows.get(last));
        row.map_or_else(Place::default, |row| Place {
            line: (row.line != 0).then_some(row.line),
            columns: (row.columns != (0, 0)).then_some(row.columns),
        })
    }

    /// How long the code is, in bytes, where the table says so.
    pub fn end(&self) -> Option<u32> {
        self.end
    }

    /// How many rows it was decoded into: what it costs to keep.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no instruction belongs to any line.
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.line == 0)
    }
}

/// A line of the source; tables also say 0, of what the compiler added.
fn line(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|&line| line != 0)
}

struct Rows {
    rows: Vec<Row>,
}

impl Rows {
    /// From `offset` on it is `place`.
    fn push(&mut self, offset: u32, place: Place) {
        let line = place.line.unwrap_or(0);
        let row = Row { offset, line, columns: place.columns.unwrap_or((0, 0)) };
        if self.rows.last().is_some_and(|last| last.offset == offset) {
            self.rows.pop();
        }
        let last = self.rows.last();
        if last.is_none_or(|last| (last.line, last.columns) != (row.line, row.columns)) {
            self.rows.push(row);
        }
    }
}

/// `co_lnotab`: pairs of increments, of the offset and of the line
/// (`Objects/lnotab_notes.txt` of CPython 3.6). It does not say where the code
/// ends.
fn increments(table: &[u8], first: i32, rows: &mut Rows, step: fn(u8) -> i64) -> Option<u32> {
    let (mut offset, mut number) = (0_u32, i64::from(first));
    rows.push(0, Place { line: line(number), columns: None });
    for pair in table.as_chunks().0 {
        let [by, lines]: [u8; 2] = *pair;
        offset = offset.saturating_add(by.into());
        number = number.saturating_add(step(lines));
        rows.push(offset, Place { line: line(number), columns: None });
    }
    None
}

/// `co_linetable` of 3.10: pairs of a length and a change of the line, of which
/// -128 means that there is none (`Objects/lnotab_notes.txt` of CPython 3.10).
fn ranges(table: &[u8], first: i32, rows: &mut Rows) -> Option<u32> {
    const NONE: i8 = -128;
    let (mut offset, mut number) = (0_u32, i64::from(first));
    for pair in table.as_chunks().0 {
        let [length, by]: [u8; 2] = *pair;
        let by = by.cast_signed();
        if by != NONE {
            number = number.saturating_add(by.into());
        }
        if length != 0 {
            let line = line(number).filter(|_| by != NONE);
            rows.push(offset, Place { line, columns: None });
            offset = offset.saturating_add(length.into());
        }
    }
    rows.push(offset, Place::default());
    Some(offset)
}

/// `co_linetable` of 3.11 and later: entries that begin with a byte whose
/// highest bit is set, and no other byte's is (`Objects/locations.md` of
/// CPython 3.11).
fn locations(table: &[u8], first: i32, rows: &mut Rows) -> Option<u32> {
    const START: u8 = 0x80;
    /// Bytes of a code unit.
    const UNIT: u32 = 2;
    let (mut offset, mut number) = (0_u32, i64::from(first));
    let mut left = table;
    while let Some((&head, rest)) = left.split_first()
        && head & START != 0
    {
        let len = rest.iter().position(|byte| byte & START != 0).unwrap_or(rest.len());
        let (body, after) = rest.split_at_checked(len)?;
        left = after;
        let place = location((head >> 3) & 0xf, &mut body.iter().copied(), &mut number);
        rows.push(offset, place.unwrap_or_default());
        offset = offset.saturating_add(UNIT * (u32::from(head & 7) + 1));
    }
    rows.push(offset, Place::default());
    Some(offset)
}

/// The place that one entry says; `number` is the line so far. `None` for an
/// entry without a place, and for one that ends early.
fn location(code: u8, body: &mut impl Iterator<Item = u8>, number: &mut i64) -> Option<Place> {
    let (by, lines, start, end) = match code {
        // A short one: all on the same line, near its beginning.
        0..=9 => {
            let byte = body.next()?;
            let start = u64::from(code << 3 | byte >> 4);
            (0, 0, Some(start), Some(start + u64::from(byte & 0xf)))
        }
        10..=12 => {
            (i64::from(code) - 10, 0, Some(u64::from(body.next()?)), Some(u64::from(body.next()?)))
        }
        13 => (signed(body)?, 0, None, None),
        // Columns are one more than they are here, so that 0 means none.
        14 => {
            let (by, lines) = (signed(body)?, unsigned(body)?);
            (by, lines, unsigned(body)?.checked_sub(1), unsigned(body)?.checked_sub(1))
        }
        _ => return None,
    };
    *number = number.saturating_add(by);
    let column = |start: u64| u32::try_from(start).ok();
    let columns = match (start, end) {
        (Some(start), Some(end)) if lines == 0 && start < end => column(start + 1).zip(column(end)),
        _ => None,
    };
    Some(Place { line: line(*number), columns })
}

/// Groups of six bits, the lowest first; bit 6 says that there are more.
fn unsigned(body: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    // Six groups hold every `int`.
    for group in 0..6 {
        let byte = body.next()?;
        value |= u64::from(byte & 0x3f) << (6 * group);
        if byte & 0x40 == 0 {
            return Some(value);
        }
    }
    None
}

/// The lowest bit is the sign.
fn signed(body: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = unsigned(body)?;
    let size = i64::try_from(value >> 1).ok()?;
    Some(if value & 1 == 0 { size } else { -size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LineTable; 4] =
        [LineTable::Growing, LineTable::Signed, LineTable::Ranges, LineTable::Locations];

    fn at(lines: &Lines, offset: i64) -> Option<u32> {
        lines.at(offset).line
    }

    #[test]
    fn increments_add_up_to_the_last_that_is_not_beyond() {
        // Line 10 at 0, 11 at 6, 267 at 12 (an increment that is too large for
        // one pair), and only then back.
        let table = [6, 1, 6, 255, 0, 1, 4, 0xfe];
        let growing = Lines::decode(LineTable::Growing, &table, 10);
        let found = [-1, 0, 5, 6, 11, 12, 15, 16, 9999].map(|offset| at(&growing, offset));
        let wanted = [10, 10, 10, 11, 11, 267, 267, 521, 521].map(Some);
        assert_eq!(found, wanted);
        let signed = Lines::decode(LineTable::Signed, &table, 10);
        assert_eq!([0, 6, 12, 16].map(|offset| at(&signed, offset)), [10, 11, 11, 9].map(Some));
        assert_eq!(signed.end(), None);
    }

    #[test]
    fn ranges_end_and_may_have_no_line() {
        let table = [4, 0, 2, 0x80, 0, 5, 6, 1];
        let lines = Lines::decode(LineTable::Ranges, &table, 7);
        let found = [-1, 0, 3, 4, 5, 6, 11, 12].map(|offset| at(&lines, offset));
        assert_eq!(found, [Some(7), Some(7), Some(7), None, None, Some(13), Some(13), None]);
        assert_eq!(lines.end(), Some(12));
    }

    #[test]
    fn locations_of_every_form() {
        let table = [
            // One unit, column 1 * 8 + 2 to 15.
            0x80 | 1 << 3,
            2 << 4 | 5,
            // Two units, one line on, columns 4 to 8.
            0x80 | 11 << 3 | 1,
            4,
            8,
            // Two lines back, no columns.
            0x80 | 13 << 3,
            5,
            // Nothing.
            0x80 | 15 << 3,
            // 100 lines on, columns 99 to 199, on one line.
            0x80 | 14 << 3,
            0x40 | 200 & 0x3f,
            200 >> 6,
            0,
            0x40 | 100 & 0x3f,
            100 >> 6,
            0x40 | 200 & 0x3f,
            200 >> 6,
            // The same over two lines.
            0x80 | 14 << 3,
            0,
            1,
            1,
            9,
            // An entry that is cut.
            0x80 | 10 << 3,
            4,
        ];
        let lines = Lines::decode(LineTable::Locations, &table, 50);
        let place = |line, columns| Place { line: Some(line), columns };
        let wanted = [
            (-2, place(50, None)),
            (0, place(50, Some((11, 15)))),
            (2, place(51, Some((5, 8)))),
            (5, place(51, Some((5, 8)))),
            (6, place(49, None)),
            (8, Place::default()),
            (10, place(149, Some((100, 199)))),
            (12, place(149, None)),
            (14, Place::default()),
            (16, Place::default()),
        ];
        for (offset, wanted) in wanted {
            assert_eq!(lines.at(offset), wanted, "at {offset}");
        }
        assert_eq!(lines.end(), Some(16));
    }

    #[test]
    fn a_line_that_is_none_is_not_said() {
        let lines = Lines::decode(LineTable::Signed, &[2, 0xfb, 2, 9], 1);
        assert_eq!([0, 2, 4].map(|offset| at(&lines, offset)), [Some(1), None, Some(5)]);
        assert!(Lines::decode(LineTable::Locations, &[], 1).is_empty());
        let unknown = Lines::decode(LineTable::Ranges, &[], 3);
        assert_eq!((unknown.at(-1).line, unknown.at(0)), (Some(3), Place::default()));
    }

    #[test]
    fn a_long_table_is_decoded_to_its_end() {
        let table: Vec<u8> = [0x80 | 11 << 3, 4, 8].repeat(100_000);
        let lines = Lines::decode(LineTable::Locations, &table, 1);
        assert_eq!(lines.at(2 * 99_999).line, Some(100_001));
        assert_eq!(lines.len(), 100_001);
    }

    /// Whatever the bytes are: rows ascend, lookups answer, nothing overflows.
    #[test]
    fn any_bytes_are_a_table() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..4000 {
            let len = random.usize(..64);
            let table: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            let first = [i32::MIN, -1, 0, 1, i32::MAX][random.usize(..5)];
            for kind in ALL {
                let lines = Lines::decode(kind, &table, first);
                assert!(lines.rows.is_sorted_by(|a, b| a.offset < b.offset));
                for offset in [i64::MIN, -1, 0, 1, 17, 1 << 31, i64::MAX] {
                    let place = lines.at(offset);
                    assert!(place.columns.is_none_or(|(first, last)| 0 < first && first <= last));
                }
            }
        }
    }
}
