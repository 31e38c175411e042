//! Values that no interpreter has: what a target makes up to do harm. What
//! interpreters have is held by `tests/it/python/objects.rs`.

use std::cell::Cell;

use super::{super::tables, *};
use crate::{
    memory::{Fault, Piece},
    runtime::{RawFrame, python::names::Names},
};

/// Memory in which every address can be read, and says something: what, only
/// its address and the seed decide. Words are often addresses, and small ones.
struct Noise {
    seed: u64,
    /// What every type's flags are.
    flags: u64,
    reads: Cell<u32>,
}

impl Noise {
    fn new(seed: u64, flags: u64) -> Self {
        Self { seed, flags, reads: Cell::new(0) }
    }

    fn word(&self, at: u64) -> u64 {
        // The finalizer of SplitMix64: every bit depends on every bit.
        let mut word = (at ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        match word % 8 {
            0 => 0,
            1 => word >> 60,
            2 => word,
            3 => u64::MAX - (word >> 56),
            4 => word >> 33,
            // Types lie apart, at multiples of 0x1000.
            5 => word >> 50 << 12,
            _ => (word >> 48) << 3,
        }
    }
}

impl Memory for Noise {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.reads.set(self.reads.get() + 1);
        for (bytes, place) in into.chunks_mut(8).zip((0..).step_by(8)) {
            let at = at.0.wrapping_add(place);
            // `tp_flags` lies 168 bytes into a type (184 with traced references).
            let word = if at % 0x1000 == 168 { self.flags } else { self.word(at) };
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }
}

/// Flags that make each basic type of what has them, and none.
fn kinds() -> impl Iterator<Item = u64> {
    (23..32).map(|bit| 1 << bit).chain([0, 1 << 9, 1 << 9 | 1 << 4, 1 << 9 | 1 << 4 | 1 << 2])
}

#[test]
fn noise_is_shown_within_bounds() {
    for version in tables::VERSIONS {
        let layout = tables::layout(version).unwrap();
        for flags in kinds() {
            for seed in 0..8 {
                let noise = Noise::new(seed, flags);
                let at = Address(noise.word(seed) & !7);
                for characters in [0, 2, 128] {
                    let detail = Detail { characters, fields: seed % 2 == 0 };
                    noise.reads.set(0);
                    let text = show(layout, at, detail, &noise);
                    assert!(text.chars().count() <= characters, "{characters}: {text}");
                    assert!(noise.reads.get() <= READS);
                }
            }
        }
    }
}

#[test]
fn noise_has_bounded_variables_and_names() {
    for version in tables::VERSIONS {
        let layout = tables::layout(version).unwrap();
        for flags in kinds() {
            for seed in 0..4 {
                let noise = Noise::new(seed, flags);
                let frame =
                    RawFrame { at: Address(0x1000), code: Address(0x2000), ..RawFrame::default() };
                let detail = Detail { characters: 20, fields: true };
                let variables = locals(layout, &frame, detail, &noise);
                assert!(variables.len() <= 512);
                assert!(variables.iter().all(|it| it.value.chars().count() <= 20));
                Names::default().thread_name(layout, Address(0x3000), seed, &noise);
            }
        }
    }
}

#[test]
fn nothing_is_shown_of_what_cannot_be_read() {
    let layout = tables::layout((3, 12)).unwrap();
    let detail = Detail { characters: 128, fields: true };
    let nothing = Piece::default();
    assert_eq!(show(layout, Address(0x10), detail, &nothing), "<unreadable at 0x10>");
    assert_eq!(show(layout, Address(u64::MAX), detail, &nothing).find("<unreadable"), Some(0));
    assert_eq!(show(layout, Address(0), detail, &nothing), "<NULL>");
    let frame = RawFrame { at: Address(8), code: Address(8), ..RawFrame::default() };
    assert_eq!(locals(layout, &frame, detail, &nothing), []);
}

#[test]
fn a_value_that_is_cut_ends_in_dots_within_its_limit() {
    let layout = tables::layout((3, 12)).unwrap();
    let check = |characters, text: &str| {
        let detail = Detail { characters, fields: false };
        assert_eq!(show(layout, Address(0x10), detail, &Piece::default()), text);
    };
    check(20, "<unreadable at 0x10>");
    check(19, "<unreadable at 0...");
    check(3, "...");
    check(2, "..");
    check(0, "");
}
