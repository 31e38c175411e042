//! Dictionaries of every shape.

use super::{
    super::layout::{Dict, DictKeys, InstanceFields},
    reader::Reader,
};
use crate::memory::{Address, Plain};

/// The most places of a table that are looked at.
const MOST: u64 = 1 << 16;

/// Places that are read at a time.
const CHUNK: u64 = 64;

/// The most entries that share their keys. From 3.11 on there are never more
/// than 30 (`SHARED_KEYS_MAX_SIZE`); older ones grow, and are cut.
const MOST_SHARED: u64 = 4096;

/// The keys and values of a dictionary, in its own order.
#[derive(Debug)]
pub struct Items<'a> {
    reader: &'a Reader<'a>,
    entries: Entries,
    next: u64,
    ready: std::vec::IntoIter<(Address, Address)>,
}

/// Where key and value pairs are.
#[derive(Clone, Copy, Debug, Default)]
struct Entries {
    start: Address,
    /// Bytes from one to the next: 24 with a hash before the key, else 16.
    stride: u64,
    count: u64,
}

impl Entries {
    /// Pairs from number `from` on, at most `count` of them. A place that is
    /// not in use has no value.
    fn read(self, reader: &Reader<'_>, from: u64, count: u64) -> Option<Vec<(Address, Address)>> {
        let stride = usize::try_from(self.stride).ok()?;
        let len = usize::try_from(count.min(self.count.saturating_sub(from))).ok()?;
        let start = self.start.plus(from.checked_mul(self.stride)?);
        let bytes = reader.bytes(start, len.checked_mul(stride)?)?;
        let pair = |entry: &[u8]| {
            let key = entry.len().checked_sub(16)?;
            let key = entry.get(key..)?;
            Some((Address::decode(key)?, Address::decode(key.get(8..)?)?))
        };
        Some(bytes.chunks_exact(stride.max(1)).filter_map(pair).collect())
    }
}

impl Iterator for Items<'_> {
    type Item = (Address, Address);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.ready.find(|(key, value)| key.0 != 0 && value.0 != 0) {
                return Some(pair);
            }
            if self.next >= self.entries.count.min(MOST) {
                return None;
            }
            let pairs = self.entries.read(self.reader, self.next, CHUNK)?;
            self.next += CHUNK;
            self.ready = pairs.into_iter();
        }
    }
}

/// The items of the dictionary at `at`: none, when it cannot be read.
pub fn items<'a>(reader: &'a Reader<'a>, at: Address) -> Items<'a> {
    let (entries, ready) = match reader.layout.objects.dict {
        Dict::Open { mask, table } => {
            let open = || {
                let mask: i64 = reader.field(mask, at)?;
                let count = u64::try_from(mask).ok()?.checked_add(1)?;
                Some(Entries { start: reader.field(table, at)?, stride: 24, count })
            };
            (open().unwrap_or_default(), Vec::new())
        }
        Dict::Compact { keys, values, form, .. } => {
            let own = || {
                let keys = self::keys(reader, reader.field(keys, at)?, form)?;
                match reader.field(values, at)? {
                    Address(0) => Some((keys, Vec::new())),
                    values => Some((Entries::default(), pair(reader, keys, values)?)),
                }
            };
            own().unwrap_or_default()
        }
    };
    Items { reader, entries, next: 0, ready: ready.into_iter() }
}

/// The fields of an object whose values lie at `values`, apart from their
/// names: those are the keys at `keys`.
pub fn shared<'a>(reader: &'a Reader<'a>, keys: Address, values: Address) -> Items<'a> {
    let ready = match reader.layout.objects.dict {
        Dict::Open { .. } => None,
        Dict::Compact { form, .. } => {
            self::keys(reader, keys, form).and_then(|keys| pair(reader, keys, values))
        }
    };
    let ready = ready.unwrap_or_default().into_iter();
    Items { reader, entries: Entries::default(), next: 0, ready }
}

/// How many entries the dictionary at `at` has in use.
pub fn used(reader: &Reader<'_>, at: Address) -> Option<i64> {
    match reader.layout.objects.dict {
        // `ma_used` is the word before `ma_mask` (Include/dictobject.h of 2.7).
        Dict::Open { mask, .. } => reader.get(at.plus(u64::from(mask.offset.checked_sub(8)?))),
        Dict::Compact { used, .. } => reader.field(used, at),
    }
}

/// The value under the name `name`, which is ASCII, in the dictionary at `at`.
pub fn find(reader: &Reader<'_>, at: Address, name: &str) -> Option<Address> {
    let found = items(reader, at).find(|(key, _)| reader.is_name(*key, name));
    found.map(|(_, value)| value)
}

/// The entries of the `PyDictKeysObject` at `at` (Objects/dict-common.h,
/// Include/internal/pycore_dict.h).
fn keys(reader: &Reader<'_>, at: Address, form: DictKeys) -> Option<Entries> {
    match form {
        // dk_refcnt, dk_size, dk_lookup, dk_usable, dk_nentries, dk_indices.
        DictKeys::Words => {
            let head = reader.addresses(at, 5)?;
            let (size, count) = (head.get(1)?.0, head.get(4)?.0);
            let index = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            let start = at.plus(40).plus(size.checked_mul(index)?);
            Some(Entries { start, stride: 24, count })
        }
        // dk_refcnt, dk_log2_size, dk_log2_index_bytes, dk_kind, dk_version,
        // dk_usable, dk_nentries, dk_indices.
        DictKeys::Logarithms => {
            let head = reader.bytes(at, 32)?;
            let indices = 1_u64.checked_shl((*head.get(9)?).into())?;
            // DICT_KEYS_GENERAL is 0: only its entries have a hash.
            let stride = if *head.get(10)? == 0 { 24 } else { 16 };
            let count = u64::decode(head.get(24..)?)?;
            Some(Entries { start: at.plus(32).plus(indices), stride, count })
        }
    }
}

/// The keys of `keys` with the values at `values`, in the order in which those
/// were set.
fn pair(reader: &Reader<'_>, keys: Entries, values: Address) -> Option<Vec<(Address, Address)>> {
    let count = keys.count.min(MOST_SHARED);
    let names = keys.read(reader, 0, count)?;
    // `struct _dictvalues` (Include/internal/pycore_dict.h): 3.13 put four
    // bytes before the values, and the order behind the room for them; before
    // that the bytes lie below the values, the order growing downwards.
    let (start, order) = match reader.layout.objects.fields {
        InstanceFields::Dictionary => (values, None),
        InstanceFields::Managed311 | InstanceFields::Managed312 => {
            let used = reader.get::<u8>(Address(values.0.wrapping_sub(2)))?;
            let lowest = Address(values.0.wrapping_sub(2).wrapping_sub(used.into()));
            let mut order = reader.bytes(lowest, used.into())?;
            order.reverse();
            (values, Some(order))
        }
        InstanceFields::Inline313 { .. } => {
            let (room, used) = (reader.get::<u8>(values)?, reader.get::<u8>(values.plus(1))?);
            let start = values.plus(8);
            let order = start.plus(u64::from(room) * 8);
            (start, Some(reader.bytes(order, used.into())?))
        }
    };
    let values = reader.addresses(start, names.len())?;
    let of = |at: usize| Some((names.get(at)?.0, *values.get(at)?));
    Some(match order {
        Some(order) => order.into_iter().filter_map(|at| of(at.into())).collect(),
        None => (0..names.len()).filter_map(of).collect(),
    })
}
