//! The same walk on aarch64.

use super::*;
use super::{cfa as c, returning as r};

const ARM: Architecture = Architecture::Aarch64;
const FP: u16 = 29;
const LR: u16 = 30;
const SP: u16 = 31;

fn process(functions: &[Vec<u8>]) -> (Process, u64) {
    let mut all: Vec<_> = functions.iter().map(|rows| (0x10, false, rows.clone())).collect();
    all.push(first(ARM));
    // Everywhere a call: bl to 16 bytes before.
    let text: Vec<u8> = (0..64).flat_map(|_| 0x97ff_fffc_u32.to_le_bytes()).collect();
    (Process::new(ARM, &text, &all), functions.len() as u64 * 0x10)
}

/// stp x29, x30, [sp, #-32]!
fn framed() -> Vec<u8> {
    [c::at(SP, 32), c::saved(FP, 4), c::saved(LR, 3)].concat()
}

#[test]
fn a_leaf_has_its_return_address_in_the_link_register() {
    let (process, start) = process(&[vec![], framed()]);
    let words = [STACK + 100, code(start + 4), 0, 0];
    let mut process = process.stands(code(4), &words).with(LR, code(0x14));
    process.walks(&[at(4), r(0x14), r(start + 4)], End::Root);
}

#[test]
fn a_leaf_that_is_no_leaf_is_not_believed() {
    // Only an innermost function can have its return address in a register.
    let (process, _) = process(&[vec![], vec![]]);
    let mut process = process.stands(code(4), &[0; 4]).with(LR, code(0x14));
    process.walks(&[at(4), r(0x14)], End::UnknownRegister);
}

#[test]
fn signed_return_addresses_lose_their_signature() {
    // paciasp; stp: DW_CFA_AARCH64_negate_ra_state, and then the frame.
    let rows = [vec![0x2d], framed()].concat();
    let (process, start) = process(&[vec![], rows]);
    let signed = |address: u64| address | 0x00a5 << 48;
    let words = [STACK + 100, signed(code(start + 4)), 0, 0];
    let mut process = process.stands(code(4), &words).with(LR, signed(code(0x14)));
    process.walks(&[at(4), r(0x14), r(start + 4)], End::Root);
}

#[test]
fn preserved_registers_come_from_where_they_were_saved() {
    let saves = [framed(), c::saved(19, 1), c::saved(28, 2)].concat();
    // cfa = x19 + 16
    let by_x19 = [c::at(19, 16), c::saved(LR, 1)].concat();
    let (process, start) = process(&[saves, by_x19]);
    let words = [0, code(0x14), 28, STACK + 32, 0, code(start + 4)];
    let mut process = process.stands(code(4), &words);
    process.walks(&[at(4), r(0x14), r(start + 4)], End::Root);
}

#[test]
fn frame_records_lie_anywhere_in_their_frames() {
    let (process, start) = process(&[c::at(FP, 32), framed()]);
    let bare = start + 0x40;
    let words = [0, STACK + 40, code(bare), 0, 0, 0, code(start + 4)];
    // Two functions without data by their records, and then one with data that
    // finds its frame by its stack pointer, which is not known any more.
    let expected = [at(bare), r(bare), r(start + 4)];
    let mut process = process.stands(code(bare), &words).with(FP, STACK + 8);
    process.walks(&expected, End::Root);
    let words = [0, STACK + 40, code(0x14), 0, 0, 0, code(start + 4)];
    let (process, start) = super::aarch64::process(&[c::at(FP, 32), framed()]);
    let bare = start + 0x40;
    let mut process = process.stands(code(bare), &words).with(FP, STACK + 8);
    process.walks(&[at(bare), r(0x14)], End::UnknownRegister);
}

#[test]
fn a_function_without_data_may_be_at_its_beginning() {
    let (process, start) = process(&[framed()]);
    // The call before 0x64 leads to 0x50.
    let _ = start;
    let words = [0, code(0x14), 0, 0];
    let mut process = process.stands(code(0x50), &words).with(LR, code(0x64)).with(FP, 0);
    process.walks(&[at(0x50), r(0x64)], End::NoUnwindInfo);
    // It has led elsewhere: what is in the register is left from another call.
    process.registers.set(Register(LR), code(0x84));
    process.walks(&[at(0x50)], End::NoUnwindInfo);
}

#[test]
fn a_signal_frame_is_known_by_its_code() {
    let mut text = vec![0; 0x100];
    text[0x80..0x88].copy_from_slice(&[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    // The interrupted leaf has its return address in the link register.
    let functions = [(0x10, false, framed()), (0x10, false, vec![]), first(ARM)];
    let mut words = vec![0, code(0x80), 0, 0];
    words.resize(4 + 72, 0);
    words[4 + (312 + 30 * 8) / 8] = code(0x24);
    words[4 + (312 + 31 * 8) / 8] = STACK + 76 * 8;
    words[4 + (312 + 32 * 8) / 8] = code(0x18);
    let mut process = Process::new(ARM, &text, &functions).stands(code(0), &words);
    process.walks(&[at(0), r(0x80), at(0x18), r(0x24)], End::Root);
}

#[test]
fn a_signed_address_is_stripped_by_the_size_of_the_address_space() {
    let (process, start) = process(&[framed()]);
    let words = [0, code(start + 4) | 0x7f << 55, 0, 0];
    let mut process = process.stands(code(4), &words);
    process.walks(&[at(4), r(start + 4)], End::Root);
}
