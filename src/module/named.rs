//! What an image defines under a name that is known beforehand.
//!
//! `symbolize` goes from addresses to names and reads whole tables for it. Who
//! asks for a handful of names in every image of a process cannot afford that:
//! the hash table that the dynamic linker uses answers in a few reads.

use std::ops::Range;

use memchr::memmem;
use object::elf;

use super::{
    Module,
    elf::{Segment, field},
};

/// The size of an entry of a symbol table.
const SYMBOL: usize = 24;

/// The most entries of a chain of hashes, and the most symbols of a table,
/// that are looked at.
const MAX_CHAIN: u64 = 1 << 16;
const MAX_SYMBOLS: usize = 1 << 24;

/// The most places that one name is looked for at in a table of names.
const MAX_PLACES: usize = 64;

impl Module {
    /// The virtual address, as the image counts, of the function or variable
    /// that the image exports as `name`.
    pub fn exported(&self, name: &str) -> Option<u64> {
        Some(self.export(name)?.value)
    }

    fn export(&self, name: &str) -> Option<Symbol> {
        match self.image().gnu_hash() {
            Some(table) => self.by_gnu_hash(table, name),
            None => self.by_table((".dynsym", ".dynstr"), name),
        }
    }

    /// The virtual address of the variable that the image defines as `name`,
    /// exported or not: also by the symbol table that only linkers need, where
    /// the file is there and has one. That one is read whole.
    pub fn defined(&self, name: &str) -> Option<u64> {
        Some(self.definition(name)?.value)
    }

    /// The virtual addresses, as the image counts, of the function that the
    /// image defines as `name`, found as [`Self::defined`] does.
    pub fn function(&self, name: &str) -> Option<Range<u64>> {
        self.definition(name)?.range()
    }

    /// The same of a function that the image exports.
    pub fn exported_function(&self, name: &str) -> Option<Range<u64>> {
        self.export(name)?.range()
    }

    /// The same of all functions that the compiler made of the one called
    /// `name`: that itself, `name.constprop.0` and the like. Only by the symbol
    /// table that linkers need.
    pub fn variants(&self, name: &str) -> Vec<Range<u64>> {
        let Some((symbols, strings)) = self.section(".symtab").zip(self.section(".strtab")) else {
            return Vec::new();
        };
        let ends = |place: &usize| {
            let after = strings.bytes.get(place.saturating_add(name.len()));
            after.is_some_and(|&after| after == 0 || after == b'.')
        };
        let places = memmem::find_iter(strings.bytes, name).filter(ends).take(MAX_PLACES);
        let places: Vec<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
        if places.is_empty() {
            return Vec::new();
        }
        let found = symbols.bytes.chunks_exact(SYMBOL).take(MAX_SYMBOLS).filter_map(|bytes| {
            places.contains(&field(bytes, 0)?).then_some(())?;
            let symbol = Symbol::parse(bytes).filter(|symbol| symbol.is_function())?;
            symbol.range()
        });
        found.take(MAX_PLACES).collect()
    }

    fn definition(&self, name: &str) -> Option<Symbol> {
        self.export(name).or_else(|| self.by_table((".symtab", ".strtab"), name))
    }

    /// The virtual addresses, as the image counts, that it may write to: its
    /// variables, those included that are not in the file.
    pub fn writable(&self) -> impl Iterator<Item = Range<u64>> {
        let segments = self.image().segments().iter();
        let writable = |segment: &&Segment| segment.is_load() && segment.is_writable();
        segments.filter(writable).filter_map(|segment| {
            Some(segment.address..segment.address.checked_add(segment.memory_size)?)
        })
    }

    /// Look `name` up as the dynamic linker does.
    fn by_gnu_hash(&self, table: u64, name: &str) -> Option<Symbol> {
        let word = |at: u64| field::<u32>(self.loaded(at, 4)?, 0);
        let (buckets, first) = (word(table)?, word(table.checked_add(4)?)?);
        let (filters, shift) = (word(table.checked_add(8)?)?, word(table.checked_add(12)?)?);
        let hash = gnu_hash(name);
        // A Bloom filter answers for most of the names that are not there.
        let filter_at = table.checked_add(16)?;
        let index = u64::from((hash / 64).checked_rem(filters)?);
        let filter: u64 = field(self.loaded(filter_at.checked_add(index * 8)?, 8)?, 0)?;
        let second = hash.checked_shr(shift).unwrap_or(0);
        if filter >> (hash % 64) & filter >> (second % 64) & 1 == 0 {
            return None;
        }
        let buckets_at = filter_at.checked_add(u64::from(filters) * 8)?;
        let bucket = u64::from(hash.checked_rem(buckets)?);
        let start = word(buckets_at.checked_add(bucket * 4)?)?;
        let chains_at = buckets_at.checked_add(u64::from(buckets) * 4)?;
        let mut index = u64::from(start.checked_sub(first)?);
        for _ in 0..MAX_CHAIN {
            let found = word(chains_at.checked_add(index * 4)?)?;
            if found | 1 == hash | 1 {
                let symbol = index.checked_add(first.into())?;
                if let Some(symbol) = self.dynamic_symbol(symbol, name) {
                    return Some(symbol);
                }
            }
            if found & 1 == 1 {
                return None;
            }
            index = index.checked_add(1)?;
        }
        None
    }

    /// The dynamic symbol with this number, if it is `name`.
    fn dynamic_symbol(&self, number: u64, name: &str) -> Option<Symbol> {
        let (symbols, strings) = self.image().dynamic_tables()?;
        let at = symbols.checked_add(number.checked_mul(SYMBOL as u64)?)?;
        let symbol = Symbol::parse(self.loaded(at, SYMBOL)?)?;
        let text = strings.checked_add(symbol.name.into())?;
        let fits = is_name(self.loaded(text, name.len() + 1)?, name);
        (fits && symbol.is_defined()).then_some(symbol)
    }

    /// Look for the variable or function `name` in a whole table.
    fn by_table(&self, (symbols, strings): (&str, &str), name: &str) -> Option<Symbol> {
        let (symbols, strings) = (self.section(symbols)?.bytes, self.section(strings)?.bytes);
        // Where the name is written; it can also be the end of a longer one.
        let text = [name.as_bytes(), b"\0"].concat();
        let places = memmem::find_iter(strings, &text).take(MAX_PLACES);
        let places: Vec<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
        if places.is_empty() {
            return None;
        }
        symbols.chunks_exact(SYMBOL).take(MAX_SYMBOLS).find_map(|bytes| {
            places.contains(&field(bytes, 0)?).then_some(())?;
            Symbol::parse(bytes).filter(|symbol| symbol.is_defined())
        })
    }
}

/// Whether the string that `bytes` begin with is `name`.
fn is_name(bytes: &[u8], name: &str) -> bool {
    bytes.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

/// What the dynamic linker's hash table has of a name.
fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// An entry of a symbol table.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    name: u32,
    info: u8,
    section: u16,
    value: u64,
    size: u64,
}

impl Symbol {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name: field(bytes, 0)?,
            info: field(bytes, 4)?,
            section: field(bytes, 6)?,
            value: field(bytes, 8)?,
            size: field(bytes, 16)?,
        })
    }

    fn range(self) -> Option<Range<u64>> {
        Some(self.value..self.value.checked_add(self.size)?)
    }

    fn is_function(self) -> bool {
        self.info & 0xf == elf::STT_FUNC.0 && self.is_defined()
    }

    /// Whether it is a function's or variable's that lies in this image.
    fn is_defined(self) -> bool {
        let kind = self.info & 0xf;
        let named = [elf::STT_OBJECT.0, elf::STT_FUNC.0, elf::STT_NOTYPE.0].contains(&kind);
        named && self.section != elf::SHN_UNDEF.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_published_hashes() {
        // From the description of the table in binutils' mailing list, 2006.
        for (name, hash) in [("", 0x1505), ("printf", 0x156b_2bb8), ("exit", 0x7c96_7e3f)] {
            assert_eq!(gnu_hash(name), hash, "{name}");
        }
    }
}
