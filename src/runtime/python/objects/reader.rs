//! Reading objects within bounds.

use std::{cell::RefCell, rc::Rc};

use rustc_hash::FxHashMap;

use super::super::{
    layout::{Field, Integer, Layout, Text},
    text,
};
use crate::memory::{Address, Fault, Memory, Plain};

/// Reads the target's objects: at most so many times, each type once.
#[derive(Debug)]
pub struct Reader<'a> {
    /// How the interpreter lays out its structs.
    pub layout: &'a Layout,
    memory: Source<'a>,
    state: RefCell<State>,
}

/// A memory that can be printed.
struct Source<'a>(&'a dyn Memory);

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

#[derive(Debug, Default)]
struct State {
    left: u32,
    classes: FxHashMap<Address, Option<Rc<Class>>>,
}

/// A type, as far as is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its own address.
    pub at: Address,
    /// `tp_name`: with its module, where it is not written in Python.
    pub name: String,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_basicsize`, in bytes.
    pub size: i64,
    /// `tp_dictoffset`, in bytes; 0 for none.
    pub dict: i64,
    /// `tp_base`; 0 for none.
    pub base: Address,
}

impl Class {
    /// `Py_TPFLAGS_HEAPTYPE` (Include/object.h, every version): made at run
    /// time. The interpreter's own types are not.
    const HEAP: u64 = 1 << 9;

    /// Whether the flag `bit` is set.
    pub const fn has(&self, bit: u32) -> bool {
        self.flags & (1 << bit) != 0
    }

    /// Whether it was made at run time, as all are that are written in Python.
    pub const fn is_heap(&self) -> bool {
        self.flags & Self::HEAP != 0
    }
}

/// Where the value of an integer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Here: an `int` of Python 2.
    Word(i64),
    /// In digits, the least significant first.
    Digits {
        /// The first.
        start: Address,
        /// How many, as the target has it.
        count: u64,
        /// Bits of each: 15, in units of two bytes, or 30, in units of four.
        bits: u32,
        /// Whether the number is negative.
        negative: bool,
    },
}

impl<'a> Reader<'a> {
    /// A reader that reads at most `reads` times.
    pub fn new(layout: &'a Layout, memory: &'a dyn Memory, reads: u32) -> Self {
        let state = State { left: reads, ..State::default() };
        Self { layout, memory: Source(memory), state: RefCell::new(state) }
    }

    /// Let it read `reads` times from here on.
    pub fn allow(&self, reads: u32) {
        self.state.borrow_mut().left = reads;
    }

    /// Whether it has read as often as it may.
    pub fn is_spent(&self) -> bool {
        self.state.borrow().left == 0
    }

    fn spend(&self) -> Option<()> {
        let mut state = self.state.borrow_mut();
        state.left = state.left.checked_sub(1)?;
        Some(())
    }

    /// The value at `at`; `None` when it cannot be read.
    pub fn get<T: Plain>(&self, at: Address) -> Option<T> {
        self.spend()?;
        self.memory.0.get(at).ok()
    }

    /// The field `field` of the struct at `base`; `None` when it cannot be read.
    pub fn field<T: Plain>(&self, field: Field<T>, base: Address) -> Option<T> {
        self.get(field.of(base))
    }

    /// Fill `into` from `at`; `None` when that cannot be read.
    pub fn fill(&self, at: Address, into: &mut [u8]) -> Option<()> {
        self.spend()?;
        self.memory.0.read(at, into).ok()
    }

    /// `len` bytes from `at`. The caller has capped `len`.
    pub fn bytes(&self, at: Address, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        if len > 0 {
            self.fill(at, &mut bytes)?;
        }
        Some(bytes)
    }

    /// `count` addresses from `at`. The caller has capped `count`.
    pub fn addresses(&self, at: Address, count: usize) -> Option<Vec<Address>> {
        let bytes = self.bytes(at, count.checked_mul(8)?)?;
        Some(bytes.chunks_exact(8).filter_map(Address::decode).collect())
    }

    /// The number of items of a list, tuple, string of bytes, or long integer.
    pub fn size(&self, at: Address) -> Option<i64> {
        self.field(self.layout.objects.size, at)
    }

    /// The bytes of every object before its own fields: they end with its type.
    pub const fn header(&self) -> u64 {
        self.layout.objects.class.offset as u64 + 8
    }

    /// The word at `offset` in the fields that the object at `at` has of its own.
    pub fn own(&self, at: Address, offset: u64) -> Option<Address> {
        self.get(at.plus(self.header()).plus(offset))
    }

    /// The type of the object at `at`.
    pub fn class_of(&self, at: Address) -> Option<Rc<Class>> {
        self.class(self.field(self.layout.objects.class, at)?)
    }

    /// The type at `at`.
    pub fn class(&self, at: Address) -> Option<Rc<Class>> {
        if let Some(known) = self.state.borrow().classes.get(&at) {
            return known.clone();
        }
        let class = self.read_class(at).map(Rc::new);
        self.state.borrow_mut().classes.insert(at, class.clone());
        class
    }

    fn read_class(&self, at: Address) -> Option<Class> {
        let objects = &self.layout.objects;
        let name = text::type_name(objects, at, self).filter(|name| !name.is_empty())?;
        Some(Class {
            at,
            name,
            flags: self.field(objects.type_flags, at)?,
            size: self.field(objects.type_size, at)?,
            dict: self.field(objects.type_dict, at)?,
            base: self.field(objects.type_base, at)?,
        })
    }

    /// The first `most` characters of the string at `at` (of 2.7: of a
    /// `unicode`), and whether those are all.
    pub fn characters(&self, at: Address, most: usize) -> Option<(Vec<u32>, bool)> {
        text::characters(&self.layout.objects, at, most, self)
    }

    /// The first `most` bytes of the bytes at `at` (of 2.7: of a `str`), and
    /// whether those are all.
    pub fn octets(&self, at: Address, most: usize) -> Option<(Vec<u8>, bool)> {
        let bytes = text::bytes(&self.layout.objects, at, most, self)?;
        let all = !bytes.is_cut();
        Some((bytes.kept, all))
    }

    /// Where the value of the integer at `at` is.
    pub fn number(&self, at: Address) -> Option<Number> {
        Some(match self.layout.objects.integer {
            Integer::Sized { digits, bits, machine } => {
                if let Some(machine) = machine
                    && !self.class_of(at)?.has(super::LONG)
                {
                    return self.field(machine, at).map(Number::Word);
                }
                let size = self.size(at)?;
                let count = size.unsigned_abs();
                Number::Digits { start: digits.of(at), count, bits, negative: size < 0 }
            }
            Integer::Tagged { tag, digits } => {
                // Two bits of sign: 0 positive, 1 zero, 2 negative; the third
                // says that the number is kept for ever. A zero has a digit.
                let tag: u64 = self.field(tag, at)?;
                let negative = tag & 3 == 2;
                Number::Digits { start: digits.of(at), count: tag >> 3, bits: 30, negative }
            }
        })
    }

    /// `count` digits of `bits` bits from `start` on. The caller has capped `count`.
    pub fn digits(&self, start: Address, count: usize, bits: u32) -> Option<Vec<u32>> {
        let unit = if bits == 15 { 2 } else { 4 };
        let bytes = self.bytes(start, count.checked_mul(unit)?)?;
        let digit = |bytes: &[u8]| match unit {
            2 => u16::decode(bytes).map(u32::from),
            _ => u32::decode(bytes),
        };
        Some(bytes.chunks_exact(unit).filter_map(digit).collect())
    }

    /// The integer at `at`, if it is in the range of the result.
    pub fn unsigned(&self, at: Address) -> Option<u64> {
        /// Digits of the smaller kind that 64 bits have.
        const MOST: u64 = 5;
        match self.number(at)? {
            Number::Word(value) => u64::try_from(value).ok(),
            Number::Digits { start, count, bits, negative: false } if count <= MOST => {
                let digits = self.digits(start, usize::try_from(count).ok()?, bits)?;
                let step = 1_u64.checked_shl(bits)?;
                digits.iter().rev().try_fold(0, |number: u64, digit| {
                    number.checked_mul(step)?.checked_add(u64::from(*digit))
                })
            }
            Number::Digits { .. } => None,
        }
    }

    /// The text of a name: a string, or the bytes that names are in 2.7; of a
    /// longer one `most` characters and `…`.
    pub fn name(&self, at: Address, most: usize) -> Option<String> {
        let objects = &self.layout.objects;
        if matches!(objects.text, Text::Wide { .. }) && self.class_of(at)?.has(super::BYTES) {
            return text::bytes(objects, at, most, self).map(|bytes| text::utf8(&bytes));
        }
        text::string(objects, at, most, self)
    }

    /// Whether the object at `at` is the name `expected`, which is ASCII. One
    /// read: dictionaries are searched with this.
    pub fn is_name(&self, at: Address, expected: &str) -> bool {
        let objects = &self.layout.objects;
        let (start, length, state) = match objects.text {
            Text::Compact { length, state, kind_bit, ascii, .. } => {
                (ascii, length.offset, Some((state.offset, kind_bit)))
            }
            Text::Wide { .. } => (objects.bytes.offset, objects.size.offset, None),
        };
        let within = |offset: u32, len: usize| offset as usize..(offset as usize + len);
        let data = within(start, expected.len());
        let Some(bytes) = self.bytes(at, data.end) else { return false };
        let length = bytes.get(within(length, 8)).and_then(i64::decode);
        let is_ascii = state.is_none_or(|(offset, kind_bit)| {
            // Kind 1, compact, ASCII.
            let state = bytes.get(within(offset, 4)).and_then(u32::decode).unwrap_or(0);
            state.checked_shr(kind_bit).unwrap_or(0) & 0b1_1111 == 0b1_1001
        });
        is_ascii
            && length == i64::try_from(expected.len()).ok()
            && bytes.get(data) == Some(expected.as_bytes())
    }
}

/// What is read through it counts.
impl Memory for Reader<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.spend().ok_or(Fault { at, len: into.len() })?;
        self.memory.0.read(at, into)
    }
}
