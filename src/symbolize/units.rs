//! Debug information one unit at a time.
//!
//! A unit is what came of one source file. To know which of them holds an
//! address, the library that reads them begins all: a C library has two
//! thousand, and a stack leads through five. So as long as `.debug_aranges`
//! says whose an address is, its unit alone is shown to the library, as a
//! program of one unit. Where nothing says so, or where a unit refers to
//! others, which it does after link-time optimisation, all are read.

use addr2line::Context;
use gimli::{DebugAbbrevOffset, DebugInfoOffset, DwForm, Dwarf, Reader, Result, Section, UnitType};
use rustc_hash::FxHashMap;

use super::bytes::Bytes;

/// Addresses, and the unit that they belong to.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    begin: u64,
    end: u64,
    /// Where the unit begins in `.debug_info`; `None` where several say that
    /// they hold some of these addresses.
    unit: Option<usize>,
}

/// The units that were read, and which holds what.
#[derive(Default)]
pub(super) struct Units {
    /// In order, and apart from each other.
    ranges: Vec<Range>,
    read: FxHashMap<usize, Option<Context<Bytes>>>,
    /// How many bytes of `.debug_info` may still be read. Units do not overlap,
    /// unless somebody wants more read than there is.
    left: usize,
}

impl Units {
    /// The units of `dwarf`, as far as there is an index of them.
    pub(super) fn new(dwarf: &Dwarf<Bytes>) -> Self {
        // Names are also in the file that several share.
        if dwarf.sup.is_some() {
            return Self::default();
        }
        let ranges = ranges(dwarf).map(apart).unwrap_or_default();
        let left = dwarf.debug_info.reader().len();
        Self { ranges, read: FxHashMap::default(), left }
    }

    /// The one unit of `dwarf` that holds an address, if it is known to be the
    /// only one, and to need no other.
    pub(super) fn holding(&mut self, dwarf: &Dwarf<Bytes>, at: u64) -> Option<&Context<Bytes>> {
        let after = self.ranges.partition_point(|range| range.begin <= at);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let unit = range.unit.filter(|_| at < range.end)?;
        let Self { read, left, .. } = self;
        read.entry(unit).or_insert_with(|| alone(dwarf, unit, left).ok().flatten()).as_ref()
    }
}

/// What `.debug_aranges` says.
fn ranges(dwarf: &Dwarf<Bytes>) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    let mut headers = dwarf.debug_aranges.headers();
    while let Some(header) = headers.next()? {
        let unit = Some(header.debug_info_offset().0);
        let mut entries = header.entries();
        while let Some(entry) = entries.next().transpose() {
            // After an error that is not of this entry alone there are no more.
            let Ok(entry) = entry else { continue };
            let gimli::Range { begin, end } = entry.range();
            if begin < end {
                ranges.push(Range { begin, end, unit });
            }
        }
    }
    Ok(ranges)
}

/// The same in order, with those joined that overlap.
fn apart(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable_by_key(|range| (range.begin, range.end));
    ranges.dedup_by(|later, kept| {
        let overlaps = later.begin < kept.end;
        if overlaps {
            kept.end = kept.end.max(later.end);
            kept.unit = kept.unit.filter(|_| kept.unit == later.unit);
        }
        overlaps
    });
    ranges
}

/// A unit as if it were the whole program; `None` if that would not do.
fn alone(dwarf: &Dwarf<Bytes>, unit: usize, left: &mut usize) -> Result<Option<Context<Bytes>>> {
    let header = dwarf.debug_info.header_from_offset(DebugInfoOffset(unit))?;
    let length = header.length_including_self();
    let fits = left.checked_sub(length);
    let is_plain = header.type_() == UnitType::Compilation;
    if fits.is_none() || !is_plain || refers_to_others(dwarf, header.debug_abbrev_offset())? {
        return Ok(None);
    }
    *left = fits.unwrap_or_default();
    let mut info = dwarf.debug_info.reader().clone();
    info.skip(unit)?;
    info.truncate(length)?;
    let part = Dwarf {
        debug_abbrev: dwarf.debug_abbrev.clone(),
        debug_addr: dwarf.debug_addr.clone(),
        debug_info: info.into(),
        debug_line: dwarf.debug_line.clone(),
        debug_line_str: dwarf.debug_line_str.clone(),
        debug_str: dwarf.debug_str.clone(),
        debug_str_offsets: dwarf.debug_str_offsets.clone(),
        ranges: dwarf.ranges.clone(),
        ..Dwarf::default()
    };
    Context::from_dwarf(part).map(Some)
}

/// Whether an entry of a unit with these abbreviations may refer to one of
/// another unit (DWARF 5, section 7.5.6).
fn refers_to_others(dwarf: &Dwarf<Bytes>, abbreviations: DebugAbbrevOffset) -> Result<bool> {
    let mut table = dwarf.debug_abbrev.reader().clone();
    table.skip(abbreviations.0)?;
    while table.read_uleb128()? != 0 {
        let (_tag, _has_children) = (table.read_uleb128()?, table.read_u8()?);
        loop {
            let (name, form) = (table.read_uleb128()?, table.read_uleb128_u16()?);
            match DwForm(form) {
                gimli::DW_FORM_null if name == 0 => break,
                gimli::DW_FORM_implicit_const => drop(table.read_sleb128()?),
                gimli::DW_FORM_ref_addr | gimli::DW_FORM_indirect => return Ok(true),
                _ => {}
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_units_hold_is_known_of_none() {
        let range = |(begin, end, unit)| Range { begin, end, unit };
        let check = |given: &[(u64, u64, usize)], expected: &[(u64, u64, Option<usize>)]| {
            let given = given.iter().map(|&(begin, end, unit)| range((begin, end, Some(unit))));
            let expected: Vec<_> = expected.iter().copied().map(range).collect();
            assert_eq!(apart(given.collect()), expected);
        };
        check(&[], &[]);
        check(&[(4, 6, 1), (0, 4, 0)], &[(0, 4, Some(0)), (4, 6, Some(1))]);
        check(&[(0, 4, 7), (2, 6, 7), (1, 2, 7)], &[(0, 6, Some(7))]);
        check(
            &[(0, 9, 1), (2, 3, 2), (8, 10, 1), (10, 11, 1)],
            &[(0, 10, None), (10, 11, Some(1))],
        );
        check(&[(0, 9, 1), (0, 9, 2)], &[(0, 9, None)]);
    }
}
