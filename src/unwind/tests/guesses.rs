//! Code without unwind data, on x86-64.

use super::*;
use super::{cfa as c, returning as r};

/// Without data from here on.
const BARE: u64 = 0x80;

/// Two functions with unwind data; and behind them, code without: a call of
/// `BARE` that returns to `BARE + 0x45`.
fn process() -> Process {
    let mut text = vec![0x90; 0x100];
    text[0xc0..0xc5].copy_from_slice(&[0xe8, 0xbb, 0xff, 0xff, 0xff]);
    // A call through a register that returns to 0x12.
    text[0x10..0x12].copy_from_slice(&[0xff, 0xd0]);
    Process::new(X86, &text, &[plain(), (0x10, false, c::undefined(RIP))])
}

/// Where the two calls return to.
const CALLED: u64 = BARE + 0x45;
const ROOT: u64 = 0x12;

#[test]
fn the_innermost_function_may_be_at_its_beginning() {
    let words = [code(ROOT)];
    process().stands(code(BARE), &words).walks(&[at(BARE), r(ROOT)], End::Root);
    // It has pushed the frame pointer.
    let words = [STACK + 64, code(ROOT)];
    let framed = process().stands(code(BARE), &words);
    framed.with(RBP, STACK + 64).walks(&[at(BARE), r(ROOT)], End::Root);
    // The direct call led here, or to before here, but not to behind.
    let words = [code(CALLED), STACK + 24, 7, 0, code(ROOT)];
    let process_at = |pc| process().stands(code(pc), &words).with(RBP, STACK + 24);
    process_at(BARE + 2).walks(&[at(BARE + 2), r(CALLED), r(ROOT)], End::Root);
    process_at(BARE - 2).walks(&[at(BARE - 2), r(ROOT)], End::Root);
}

#[test]
fn what_is_not_behind_a_call_is_no_return_address() {
    let words = [code(ROOT + 1), 0, 0];
    process().stands(code(BARE), &words).walks(&[at(BARE)], End::UnknownRegister);
    process().stands(code(BARE), &words).with(RBP, 7).walks(&[at(BARE)], End::NoUnwindInfo);
    let words = [1, STACK + 64, code(ROOT + 1)];
    let process = process().stands(code(BARE), &words).with(RBP, STACK + 8);
    { process }.walks(&[at(BARE)], End::NoUnwindInfo);
}

#[test]
fn a_chain_of_frame_pointers_is_followed_to_its_end() {
    let words = [1, STACK + 24, code(CALLED), STACK + 40, code(CALLED), 0, code(CALLED)];
    let expected = [at(BARE), r(CALLED), r(CALLED), r(CALLED)];
    process().stands(code(BARE), &words).with(RBP, STACK + 8).walks(&expected, End::Root);
}

#[test]
fn a_chain_that_does_not_move_up_ends() {
    for next in [STACK + 8, STACK, 3] {
        let words = [1, next, code(CALLED)];
        let process = process().stands(code(BARE), &words).with(RBP, STACK + 8);
        { process }.walks(&[at(BARE), r(CALLED)], End::NoUnwindInfo);
    }
}

#[test]
fn compiled_code_is_followed_to_a_known_image() {
    let words = [1, STACK + 24, JIT + 0x20, STACK + 64, code(ROOT)];
    let jit = |offset| CodeAddress::Return(Address(JIT + offset));
    let expected = [CodeAddress::Instruction(Address(JIT + 8)), jit(0x20), r(ROOT)];
    process().stands(JIT + 8, &words).with(RBP, STACK + 8).walks(&expected, End::Root);
    // It is at its beginning, and its caller's code can be read.
    let words = [JIT + 0x20, 0, 0, 0, code(ROOT)];
    let called = process().stands(JIT + 0x80, &words).with(RBP, STACK + 24);
    let mut called = called.holds(JIT, &[&[0x90; 0x1b][..], &[0xe8, 0x60, 0, 0, 0]].concat());
    let expected = [CodeAddress::Instruction(Address(JIT + 0x80)), jit(0x20), r(ROOT)];
    called.walks(&expected, End::Root);
}

#[test]
fn a_call_through_a_bad_pointer_is_left_by_what_it_pushed() {
    for pc in [0, 0x1234, STACK + 0x100] {
        let bad = CodeAddress::Instruction(Address(pc));
        let words = [code(ROOT)];
        let walk = process().stands(pc, &words).walks(&[bad, r(ROOT)], End::Root);
        assert_eq!(walk.unmapped, None);
        process().stands(pc, &[7]).walks(&[bad], End::Implausible);
    }
}

#[test]
fn a_program_begins_at_its_entry() {
    let functions = [(0x10, false, c::at(RSP, 16))];
    let image = elf(X86, &[0x90; 0x100], &eh_frame(X86, &functions), TEXT + 0x40);
    let process = Process::of(X86, &image, Tables::Never);
    let mut process = process.stands(code(1), &[7, code(0x44)]);
    process.walks(&[at(1), r(0x44)], End::Root);
}

#[test]
fn a_thread_of_which_nothing_is_known_has_no_frames() {
    process().walks(&[], End::UnknownRegister);
}
