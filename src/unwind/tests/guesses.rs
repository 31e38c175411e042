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
fn a_frame_pointer_of_0_is_no_root_without_a_chain() {
    let bare = |words: &[u64]| process().stands(code(BARE), words).with(RBP, 0);
    // In the innermost frame, in the one that its call led to, and in one that
    // code with unwind data leaves it to.
    bare(&[1]).walks(&[at(BARE)], End::NoUnwindInfo);
    bare(&[code(CALLED), 0, 0]).walks(&[at(BARE), r(CALLED)], End::NoUnwindInfo);
    let mut called = process().stands(code(0), &[code(CALLED), 0, 0]).with(RBP, 0);
    called.walks(&[at(0), r(CALLED)], End::NoUnwindInfo);
    let saves = [c::at(RSP, 16), c::saved(RBP, 2)].concat();
    let framed = [c::at(RBP, 16), c::saved(RBP, 2)].concat();
    for (rows, end) in [(saves, End::NoUnwindInfo), (framed, End::Root)] {
        let process = Process::new(X86, &[0x90; 0x100], &[(0x10, false, rows)]);
        let mut process = process.stands(code(0), &[0, code(BARE), 0, 0]).with(RBP, STACK);
        process.walks(&[at(0), r(BARE)], end);
    }
}

#[test]
fn a_return_address_of_0_is_no_root_without_a_chain() {
    for (next, end) in [(0, End::Root), (STACK + 24, End::NoUnwindInfo)] {
        let words = [1, next, 0, 0, 0];
        process().stands(code(BARE), &words).with(RBP, STACK + 8).walks(&[at(BARE)], end);
    }
    let words = [1, STACK + 24, code(CALLED), STACK + 64, 0];
    let mut linked = process().stands(code(BARE), &words).with(RBP, STACK + 8);
    linked.walks(&[at(BARE), r(CALLED)], End::Root);
}

#[test]
fn a_thread_that_has_not_run_yet_is_at_its_root() {
    let mut text = vec![0x90; 0x100];
    text[8..10].copy_from_slice(&[0xff, 0xd0]);
    let at_distance = |distance: u64, first: Vec<u8>, words: &[u64]| {
        let functions = [(0x10, false, first), (0x10, false, c::undefined(RIP))];
        Process::new(X86, &text, &functions).stands(code(0) - distance, words)
    };
    let before = |distance: u64| CodeAddress::Instruction(Address(TEXT - distance));
    for distance in [1, 16] {
        let mut new = at_distance(distance, c::undefined(RIP), &[0, 0]);
        new.walks(&[before(distance)], End::Root);
        // The one that made it comes by there, too, and has a caller.
        let mut maker = at_distance(distance, c::undefined(RIP), &[code(10)]);
        maker.walks(&[before(distance), r(10)], End::Root);
        at_distance(distance, vec![], &[0]).walks(&[before(distance)], End::UnknownRegister);
    }
    at_distance(17, c::undefined(RIP), &[0]).walks(&[before(17)], End::UnknownRegister);
    // A call returned to is not where a thread begins.
    let functions = [(0x10, false, vec![]), (0x10, false, c::undefined(RIP))];
    let process = Process::new(X86, &text, &functions);
    let mut called = process.stands(code(0), &[code(0) - 8]);
    called.walks(&[at(0), CodeAddress::Return(Address(TEXT - 8))], End::UnknownRegister);
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
    // What lies behind a beginning that has unwind data is something else.
    let functions = [(0x10, false, c::undefined(RIP))];
    let image = elf(X86, &[0x90; 0x100], &eh_frame(X86, &functions), TEXT);
    let process = Process::of(X86, &image, Tables::Never);
    let mut process = process.stands(code(0x20), &[7, code(0x44)]);
    process.walks(&[at(0x20)], End::UnknownRegister);
}

#[test]
fn a_thread_of_which_nothing_is_known_has_no_frames() {
    process().walks(&[], End::UnknownRegister);
}
