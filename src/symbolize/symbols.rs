//! The symbol tables of an image, by address.

use std::cmp::Reverse;

use super::{
    bytes::Bytes,
    elf::{Elf, Extent},
};
use crate::memory::Plain;

/// The size of an entry of a symbol table (`Elf64_Sym`, `man 5 elf`).
const ENTRY: usize = 24;

/// How many symbols are kept at most. The largest programs have two million.
const MAX_SYMBOLS: usize = 4 << 20;

/// How many symbols that begin before an address are tried, when they end
/// before it, too.
const MAX_TRIES: usize = 256;

/// The longest name that is taken from a table.
const MAX_NAME: usize = 64 << 10;

/// How much of a name is looked at to choose between aliases.
const MAX_COMPARED: usize = 256;

/// A table as it lies in a file: entries, and the names that they point to.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The entries.
    pub(super) entries: Bytes,
    /// The names, each ended by a zero.
    pub(super) names: Bytes,
}

impl Table {
    /// The table of an ELF file in these two sections.
    pub(super) fn of(elf: &Elf, entries: &str, names: &str) -> Option<Self> {
        Some(Self { entries: elf.section(entries)?, names: elf.section(names)? })
    }

    /// The name at an offset among the names, if it is not empty.
    pub(super) fn name(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.names.slice().get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().take(MAX_NAME).position(|&byte| byte == 0)?;
        rest.get(..end).filter(|name| !name.is_empty())
    }

    /// The name of the symbol with this number.
    pub(super) fn symbol(&self, number: u32) -> Option<&[u8]> {
        let at = usize::try_from(number).ok()?.checked_mul(ENTRY)?;
        self.name(u32::decode(self.entries.slice().get(at..)?)?)
    }

    /// The beginning of a name, and what follows it: enough to tell names
    /// apart without looking for their ends.
    fn beginning(&self, offset: u32) -> &[u8] {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.names.slice().get(at..).unwrap_or_default();
        rest.get(..rest.len().min(MAX_COMPARED)).unwrap_or_default()
    }
}

/// What a symbol's binding and type are worth, when several have one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Untyped,
    Local,
    Weak,
    Global,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u64,
    end: u64,
    name: u32,
    table: u8,
    rank: Rank,
}

/// The functions of an image's symbol tables, by address.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    tables: Vec<Table>,
    /// Those with a size. Of those that begin at one address, the preferred
    /// one comes last.
    sized: Vec<Symbol>,
    /// Those without, which reach to the next symbol, or to the end of their
    /// section: hand-written assembly.
    open: Vec<Symbol>,
}

impl Symbols {
    /// The functions in `tables`, the more trusted table first; `extents` says
    /// where code is.
    pub(super) fn new(tables: Vec<Table>, extents: &[Extent]) -> Self {
        let (mut sized, mut open) = (Vec::new(), Vec::new());
        for (number, table) in (0..).zip(&tables) {
            for entry in table.entries.slice().chunks_exact(ENTRY) {
                let Some(symbol) = function(entry, number, extents) else { continue };
                let list = if symbol.end > symbol.start { &mut sized } else { &mut open };
                if list.len() < MAX_SYMBOLS {
                    list.push(symbol);
                }
            }
        }
        let mut symbols = Self { tables, sized: Vec::new(), open: Vec::new() };
        symbols.order(&mut sized);
        symbols.order(&mut open);
        symbols.sized = sized;
        symbols.open = close(open, &symbols.sized, extents);
        symbols
    }

    fn order(&self, list: &mut Vec<Symbol>) {
        list.sort_unstable_by(|a, b| {
            let key = |symbol: &Symbol| (symbol.start, Reverse(symbol.end), symbol.rank);
            key(a).cmp(&key(b)).then_with(|| self.preference(b).cmp(&self.preference(a)))
        });
        // What has the same range is an alias; the last is preferred.
        list.dedup_by(|later, kept| {
            let alias = later.start == kept.start && later.end == kept.end;
            if alias {
                *kept = *later;
            }
            alias
        });
    }

    /// Small for a name that a programmer would use. The name itself comes
    /// last, so that the choice is the same each time.
    fn preference(&self, symbol: &Symbol) -> (usize, usize, &[u8], u8) {
        let beginning = self.beginning(symbol);
        let end = beginning.iter().position(|&byte| byte == 0);
        let name = end.and_then(|end| beginning.get(..end)).unwrap_or(beginning);
        let underscores = name.iter().take_while(|&&byte| byte == b'_').count();
        // A mangled name begins with one, and that says nothing.
        let mangled = name.starts_with(b"_Z") || name.starts_with(b"_R");
        (if mangled { 0 } else { underscores }, name.len(), name, symbol.table)
    }

    fn beginning(&self, symbol: &Symbol) -> &[u8] {
        let table = self.tables.get(usize::from(symbol.table));
        table.map(|table| table.beginning(symbol.name)).unwrap_or_default()
    }

    fn name_of(&self, symbol: &Symbol) -> Option<&[u8]> {
        self.tables.get(usize::from(symbol.table))?.name(symbol.name)
    }

    /// The name, as the linker has it, of the function at an address.
    pub(super) fn find(&self, at: u64) -> Option<String> {
        let symbol = covering(&self.sized, at).or_else(|| covering(&self.open, at))?;
        let name = String::from_utf8_lossy(self.name_of(symbol)?);
        // `memcpy@@GLIBC_2.14`: the version is no part of the name.
        let end = name.find('@').filter(|&at| at > 0).unwrap_or(name.len());
        name.get(..end).map(str::to_owned)
    }

    /// The value of the symbol with this name, in any table.
    pub(super) fn address(&self, name: &str) -> Option<u64> {
        let named = |symbol: &&Symbol| {
            let rest = self.beginning(symbol).strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(&[0]))
        };
        self.sized.iter().chain(&self.open).find(named).map(|symbol| symbol.start)
    }
}

fn covering(list: &[Symbol], at: u64) -> Option<&Symbol> {
    let before = list.partition_point(|symbol| symbol.start <= at);
    let candidates = list.get(..before)?.iter().rev().take(MAX_TRIES);
    candidates.into_iter().find(|symbol| at < symbol.end)
}

/// A function in a symbol table's entry; its end is its start if it has no
/// size.
fn function(entry: &[u8], table: u8, extents: &[Extent]) -> Option<Symbol> {
    const FUNCTION: u8 = 2;
    const INDIRECT: u8 = 10;
    const UNTYPED: u8 = 0;
    const RESERVED: u16 = 0xff00;
    let info = *entry.get(4)?;
    let section = u16::decode(entry.get(6..)?)?;
    // Undefined here; or absolute, and so no address. 0xffff says that there
    // are more sections than fit.
    if section == 0 || (RESERVED..0xffff).contains(&section) {
        return None;
    }
    let (name, start, size) =
        (u32::decode(entry)?, u64::decode(entry.get(8..)?)?, u64::decode(entry.get(16..)?)?);
    let rank = match (info & 0xf, info >> 4) {
        (FUNCTION | INDIRECT, 0) => Rank::Local,
        (FUNCTION | INDIRECT, 2) => Rank::Weak,
        (FUNCTION | INDIRECT, _) => Rank::Global,
        (UNTYPED, _) if in_code(start, extents) => Rank::Untyped,
        _ => return None,
    };
    (name != 0).then_some(Symbol { start, end: start.checked_add(size)?, name, table, rank })
}

fn in_code(at: u64, extents: &[Extent]) -> bool {
    extents.iter().any(|extent| extent.code && extent.holds(at))
}

/// Let each symbol without a size reach to the next symbol, or to the end of
/// its section.
fn close(mut open: Vec<Symbol>, sized: &[Symbol], extents: &[Extent]) -> Vec<Symbol> {
    let mut next = u64::MAX;
    let mut bound = u64::MAX;
    for symbol in open.iter_mut().rev() {
        if symbol.start < next {
            bound = next;
            next = symbol.start;
        }
        let after = sized.partition_point(|other| other.start <= symbol.start);
        let other = sized.get(after).map_or(u64::MAX, |other| other.start);
        let section = extents.iter().find(|extent| extent.holds(symbol.start));
        let section = section.map_or(u64::MAX, |extent| extent.address.saturating_add(extent.size));
        symbol.end = bound.min(other).min(section);
    }
    // In an image without sections nothing says where the last one ends.
    open.retain(|symbol| symbol.end != u64::MAX);
    open
}
