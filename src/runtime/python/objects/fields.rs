//! The fields of an instance, wherever its version of Python keeps them.

use super::{
    super::layout::InstanceFields,
    dict::{self, Items},
    reader::{Class, Reader},
};
use crate::memory::Address;

// Bits of `tp_flags` (Include/object.h): 3.13 and later, 3.11 and later.
const INLINE_VALUES: u32 = 2;
const MANAGED_DICT: u32 = 4;

/// The fields of the object at `at`, of the type `class`. `None` when it has
/// none of its own, or they cannot be read.
pub(super) fn of<'a>(reader: &'a Reader<'a>, at: Address, class: &Class) -> Option<Items<'a>> {
    let form = reader.layout.objects.fields;
    if form == InstanceFields::Dictionary || !class.has(MANAGED_DICT) {
        return in_dictionary(reader, at, class);
    }
    // `MANAGED_DICT_OFFSET` (Include/internal/pycore_object.h).
    let below = match form {
        InstanceFields::Inline313 { dictionary } => dictionary,
        _ => 24,
    };
    let word: Address = reader.get(Address(at.0.wrapping_sub(below)))?;
    match form {
        InstanceFields::Managed311 => {
            let values: Address = reader.get(Address(at.0.wrapping_sub(32)))?;
            if values.0 != 0 {
                return shared(reader, class, values);
            }
        }
        // The tag is made by taking one away.
        InstanceFields::Managed312 if word.0 & 1 == 1 => {
            return shared(reader, class, word.plus(1));
        }
        InstanceFields::Inline313 { .. } if word.0 == 0 && class.has(INLINE_VALUES) => {
            let values = at.plus(u64::try_from(class.size).ok()?);
            // The fourth byte says whether they are in use.
            let valid: u8 = reader.get(values.plus(3))?;
            return if valid == 0 { None } else { shared(reader, class, values) };
        }
        _ => {}
    }
    (word.0 != 0).then(|| dict::items(reader, word))
}

/// In the dictionary that the type says where to find.
fn in_dictionary<'a>(reader: &'a Reader<'a>, at: Address, class: &Class) -> Option<Items<'a>> {
    // A negative offset counts from the end of objects of varying size. Those
    // are numbers, tuples and bytes, which are shown as such.
    let offset = u64::try_from(class.dict).ok().filter(|offset| *offset > 0)?;
    let dict: Address = reader.get(at.plus(offset))?;
    (dict.0 != 0).then(|| dict::items(reader, dict))
}

fn shared<'a>(reader: &'a Reader<'a>, class: &Class, values: Address) -> Option<Items<'a>> {
    let keys: Address = reader.field(reader.layout.objects.type_keys?, class.at)?;
    (keys.0 != 0).then(|| dict::shared(reader, keys, values))
}

/// The field `name`, which is ASCII, of the object at `at`.
pub(crate) fn find(reader: &Reader<'_>, at: Address, names: &[&str]) -> Option<Address> {
    let class = reader.class_of(at)?;
    let is_one = |key: Address| names.iter().any(|name| reader.is_name(key, name));
    of(reader, at, &class)?.find(|(key, _)| is_one(*key)).map(|(_, value)| value)
}
