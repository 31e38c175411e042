//! What all tables of Go's linker have in common: lists of how a value changes
//! from instruction to instruction (`runtime/symtab.go`, `pcvalue`, since 1.2).

/// The longest list that is walked, in steps.
const MAX_STEPS: usize = 1 << 20;

/// A value, and the code for which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoStep {
    /// The value.
    pub value: i32,
    /// The value before it; -1 before the first.
    pub before: i32,
    /// Where the code begins for which it stands.
    pub start: u64,
}

/// The value at `address` in a function that begins at `entry`, by the list
/// that `bytes` begin with: pairs of how much the value changes, and for how
/// many instructions of `quantum` bytes it then stands. `None` when the list
/// ends before, or is damaged.
pub fn go_value(mut bytes: &[u8], entry: u64, quantum: u64, address: u64) -> Option<GoStep> {
    let (mut value, mut start) = (-1_i32, entry);
    for step in 0..MAX_STEPS {
        let change = varint(&mut bytes)?;
        if change == 0 && step > 0 {
            return None;
        }
        let before = value;
        // The sign is the lowest bit.
        value = value.wrapping_add((change >> 1).cast_signed() ^ -(change & 1).cast_signed());
        let length = u64::from(varint(&mut bytes)?).checked_mul(quantum)?;
        let end = start.checked_add(length)?;
        if address < end {
            return Some(GoStep { value, before, start });
        }
        start = end;
    }
    None
}

/// Seven bits a byte, the lowest first; the last has no highest bit.
fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_seven_bits_a_byte() {
        assert_eq!(varint(&mut &[0x7f][..]), Some(0x7f));
        assert_eq!(varint(&mut &[0x80, 0x01][..]), Some(0x80));
        assert_eq!(varint(&mut &[0xff; 9][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
    }

    #[test]
    fn values_change_from_step_to_step() {
        // From -1 to 0 for 4 bytes, to 16 for 0x38, to 0 for 4; the end.
        let list = [2, 4, 32, 0x38, 31, 4, 0, 0];
        let at = |address| {
            go_value(&list, 0x1000, 1, address).map(|step| (step.value, step.before, step.start))
        };
        assert_eq!(at(0x1000), Some((0, -1, 0x1000)));
        assert_eq!(at(0x1004), Some((16, 0, 0x1004)));
        assert_eq!(at(0x103f), Some((0, 16, 0x103c)));
        assert_eq!(at(0x1040), None);
        assert_eq!(go_value(&list[..3], 0x1000, 1, 0x1004), None);
    }
}
