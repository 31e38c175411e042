//! Go's own table of functions, files and lines, which is in every Go program,
//! stripped or not.
//!
//! The layouts are those of Go's `debug/gosym` (`src/debug/gosym/pclntab.go`)
//! and `runtime/symtab.go`, at versions 1.2, 1.16, 1.18 and 1.20. Functions
//! that were inlined are not told apart: the line is that of the inlined code,
//! the name that of the function it was inlined into.

use super::{
    bytes::Bytes,
    elf::{Elf, Extent},
    symbols::Symbols,
};
use crate::{memory::Plain, module::go_value};

/// The longest name or path, in bytes.
const MAX_NAME: usize = 4 << 10;

/// What a table's version says of its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Go 1.2 to 1.15: offsets are from the beginning of the table.
    V2,
    /// Go 1.16 and 1.17: parts of their own for names, files and changes.
    V16,
    /// Go 1.18 and later: addresses count from the beginning of the code.
    /// What 1.20 added comes after what is read here.
    V18,
}

impl Version {
    fn of(magic: u32) -> Option<Self> {
        match magic {
            0xffff_fffb => Some(Self::V2),
            0xffff_fffa => Some(Self::V16),
            0xffff_fff0 | 0xffff_fff1 => Some(Self::V18),
            _ => None,
        }
    }
}

/// A Go program's table of functions.
#[derive(Debug)]
pub(super) struct Go {
    version: Version,
    /// What the address of an instruction is a multiple of.
    quantum: u64,
    /// The size of a pointer, in bytes.
    pointer: usize,
    /// Where the code begins; 0 where entries are whole addresses.
    text: u64,
    /// How many functions there are.
    count: usize,
    whole: Bytes,
    names: Bytes,
    units: Bytes,
    files: Bytes,
    changes: Bytes,
    /// The sorted entries, and what they point to.
    functions: Bytes,
}

/// A function of a Go program, at an address in it.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name, with its package.
    pub(super) name: String,
    /// The source file.
    pub(super) file: Option<String>,
    /// The line, from 1.
    pub(super) line: Option<u32>,
}

impl Go {
    /// The table in `elf`, if it is of a Go program.
    pub(super) fn new(elf: &Elf, symbols: &Symbols) -> Option<Self> {
        let name =
            [".gopclntab", ".data.rel.ro.gopclntab"].into_iter().find(|name| elf.has(name))?;
        let whole = elf.section(name)?;
        let bytes = whole.slice();
        let version = Version::of(u32::decode(bytes)?)?;
        let quantum = u64::from(*bytes.get(6)?);
        let pointer = usize::from(*bytes.get(7)?);
        if !matches!(quantum, 1 | 2 | 4) || pointer != 8 {
            return None;
        }
        let word = |number: usize| u64::decode(bytes.get(8 + number * pointer..)?);
        let part = |number: usize| {
            let offset = word(number)?;
            whole.part(offset, (bytes.len() as u64).checked_sub(offset)?)
        };
        let count = usize::try_from(word(0)?).ok()?;
        let mut go = Self {
            version,
            quantum,
            pointer,
            text: 0,
            count,
            names: whole.clone(),
            units: Bytes::default(),
            files: whole.clone(),
            changes: whole.clone(),
            functions: whole.part(16, (bytes.len() as u64).checked_sub(16)?)?,
            whole: whole.clone(),
        };
        match version {
            Version::V2 => {
                let after = count.checked_mul(2 * pointer)?.checked_add(8 + 2 * pointer)?;
                let offset = u64::from(u32::decode(bytes.get(after..)?)?);
                go.files = whole.part(offset, (bytes.len() as u64).checked_sub(offset)?)?;
            }
            Version::V16 => {
                (go.names, go.units, go.files) = (part(2)?, part(3)?, part(4)?);
                (go.changes, go.functions) = (part(5)?, part(6)?);
            }
            Version::V18 => {
                (go.names, go.units, go.files) = (part(3)?, part(4)?, part(5)?);
                (go.changes, go.functions) = (part(6)?, part(7)?);
                go.text = text(word(2)?, elf.extent(".text")?, symbols);
            }
        }
        Some(go)
    }

    /// The size in bytes of what an entry of the table of functions is made of.
    fn unit(&self) -> usize {
        if self.version == Version::V18 { 4 } else { self.pointer }
    }

    /// The `number`th value of the table of functions: an address and an offset
    /// by turns.
    fn value(&self, number: usize) -> Option<u64> {
        let at = self.functions.slice().get(number.checked_mul(self.unit())?..)?;
        match self.version {
            Version::V18 => u32::decode(at).map(u64::from),
            Version::V2 | Version::V16 => u64::decode(at),
        }
    }

    /// The function at an address of the image.
    pub(super) fn find(&self, at: u64) -> Option<Found> {
        let at = at.checked_sub(self.text)?;
        // The first whose successor begins after the address.
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.value(middle.checked_mul(2)?.checked_add(2)?)? <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let entry = self.value(low.checked_mul(2)?)?;
        if low >= self.count || at < entry {
            return None;
        }
        let offset = usize::try_from(self.value(low.checked_mul(2)?.checked_add(1)?)?).ok()?;
        let about = match self.version {
            Version::V2 => self.whole.slice().get(offset..)?,
            Version::V16 | Version::V18 => self.functions.slice().get(offset..)?,
        };
        // The fields after the address, each of 4 bytes.
        let fields = about.get(self.unit()..)?;
        let field = |number: usize| u32::decode(fields.get(4 * number..)?);
        let name = string(&self.names, field(0)?)?;
        let file = self.change(field(4)?, entry, at).and_then(|file| match self.version {
            Version::V2 => string(&self.files, number(&self.files, file)?),
            Version::V16 | Version::V18 => {
                let unit = field(7)?;
                string(&self.files, number(&self.units, unit.checked_add(file)?)?)
            }
        });
        let line = self.change(field(5)?, entry, at).filter(|&line| line != 0);
        Some(Found { name, file, line })
    }

    /// The value at an address in a table of changes.
    fn change(&self, table: u32, entry: u64, at: u64) -> Option<u32> {
        let list = self.changes.slice().get(usize::try_from(table).ok()?..)?;
        u32::try_from(go_value(list, entry, self.quantum, at)?.value).ok()
    }
}

/// Where the code begins that the entries count from. The header says it; in a
/// position-independent program a relocation does, and from Go 1.26 on none.
fn text(said: u64, section: Extent, symbols: &Symbols) -> u64 {
    if section.holds(said) {
        return said;
    }
    symbols.address("runtime.text").unwrap_or(section.address)
}

/// The `at`th number of 4 bytes.
fn number(bytes: &Bytes, at: u32) -> Option<u32> {
    u32::decode(bytes.slice().get(usize::try_from(at).ok()?.checked_mul(4)?..)?)
}

/// The text at an offset, to the zero that ends it.
fn string(bytes: &Bytes, at: u32) -> Option<String> {
    let rest = bytes.slice().get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().take(MAX_NAME).position(|&byte| byte == 0)?;
    let text = rest.get(..end).filter(|text| !text.is_empty())?;
    Some(String::from_utf8_lossy(text).into_owned())
}
