//! The stubs through which a program calls functions of other images.
//!
//! A stub has no symbol: it jumps through a slot, and a relocation says which
//! function the dynamic linker puts there.

use rustc_hash::FxHashMap;

use super::{
    bytes::Bytes,
    elf::{Elf, Extent},
    symbols::{Symbols, Table},
};
use crate::memory::Plain;

/// How many relocations are looked at, at most.
const MAX_RELOCATIONS: usize = 1 << 20;

/// The size of a relocation (`Elf64_Rela`, `man 5 elf`).
const RELOCATION: usize = 24;

/// The linkage stubs of an image (x86-64).
#[derive(Debug, Default)]
pub(super) struct Stubs {
    sections: Vec<Section>,
    /// The function that a slot leads to, by the slot's address.
    slots: FxHashMap<u64, Target>,
    /// The symbols that slots are for.
    table: Option<Table>,
    /// The slots in the order of the relocations for lazy linking.
    lazy: Vec<u64>,
}

/// The function that a slot leads to.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// The dynamic symbol with this number.
    Symbol(u32),
    /// What the function at this address chooses.
    Choice(u64),
}

#[derive(Debug)]
struct Section {
    extent: Extent,
    /// The size of a stub.
    stub: u64,
    code: Bytes,
}

impl Stubs {
    /// The stubs of `elf`.
    pub(super) fn new(elf: &Elf) -> Self {
        let mut stubs = Self::default();
        for (name, stub) in [(".plt", 16), (".plt.sec", 16), (".plt.got", 8)] {
            let Some((extent, code)) = elf.extent(name).zip(elf.section(name)) else { continue };
            // With branch protection, those of `.plt.got` are longer.
            let longer = code.slice().starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]);
            stubs.sections.push(Section { extent, stub: if longer { 16 } else { stub }, code });
        }
        stubs.table = Table::of(elf, ".dynsym", ".dynstr");
        for section in [".rela.plt", ".rela.dyn"] {
            let Some(relocations) = elf.section(section).filter(|_| !stubs.sections.is_empty())
            else {
                continue;
            };
            for relocation in relocations.slice().chunks_exact(RELOCATION).take(MAX_RELOCATIONS) {
                if section == ".rela.plt" {
                    stubs.lazy.push(u64::decode(relocation).unwrap_or_default());
                }
                stubs.slots.extend(target(relocation));
            }
        }
        stubs
    }

    /// The name, as the linker has it, of the function that the stub at an
    /// address leads to. Where a relocation has an address in place of a
    /// symbol, `symbols` name what is there.
    pub(super) fn find(&self, at: u64, symbols: &Symbols) -> Option<String> {
        let section = self.sections.iter().find(|section| section.extent.holds(at))?;
        let offset = at.checked_sub(section.extent.address)?;
        let offset = offset - offset % section.stub;
        let stub = section.code.part(offset, section.stub)?;
        let slot = self.slot(stub.slice(), section.extent.address.checked_add(offset)?)?;
        match *self.slots.get(&slot)? {
            Target::Symbol(number) => {
                let name = self.table.as_ref()?.symbol(number)?;
                Some(String::from_utf8_lossy(name).into_owned())
            }
            Target::Choice(address) => symbols.find(address),
        }
    }

    /// The slot that a stub at `address` jumps through.
    fn slot(&self, stub: &[u8], address: u64) -> Option<u64> {
        // `jmp *offset(%rip)`, after an `endbr64` and a `bnd` where the
        // program has them.
        let jump = stub.windows(2).position(|pair| pair == [0xff, 0x25]);
        if let Some(at) = jump.filter(|&at| at <= 5) {
            let offset = i32::decode(stub.get(at + 2..)?)?;
            let next = address.checked_add(at as u64 + 6)?;
            return next.checked_add_signed(offset.into());
        }
        // `push number`, and a jump to the first stub, which has the slot's
        // number for an argument.
        let stub = stub.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(stub);
        let number = u32::decode(stub.strip_prefix(&[0x68])?)?;
        self.lazy.get(usize::try_from(number).ok()?).copied()
    }
}

/// The slot of a relocation, and the function that it is for.
fn target(relocation: &[u8]) -> Option<(u64, Target)> {
    const GLOBAL: u32 = 6;
    const JUMP: u32 = 7;
    const INDIRECT: u32 = 37;
    let slot = u64::decode(relocation)?;
    let kind = u32::decode(relocation.get(8..)?)?;
    let target = match kind {
        GLOBAL | JUMP => Target::Symbol(u32::decode(relocation.get(12..)?)?),
        INDIRECT => Target::Choice(u64::decode(relocation.get(16..)?)?),
        _ => return None,
    };
    Some((slot, target))
}
