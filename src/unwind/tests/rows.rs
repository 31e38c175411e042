//! What unwind data can say, on x86-64.

use super::*;
use super::{cfa as c, returning as r};

/// A process whose functions are 16 bytes each: the given ones, and then one
/// that nobody called.
fn process(functions: &[Vec<u8>]) -> (Process, u64) {
    let mut all: Vec<_> = functions.iter().map(|rows| (0x10, false, rows.clone())).collect();
    all.push(first(X86));
    (Process::new(X86, &[0x90; 0x100], &all), functions.len() as u64 * 0x10)
}

#[test]
fn a_call_is_left_to_the_root() {
    let (process, start) = process(&[vec![], c::at(RSP, 24)]);
    let words = [code(0x15), 7, 8, code(start + 5)];
    let walk = process.stands(code(3), &words).walks(&[at(3), r(0x15), r(start + 5)], End::Root);
    assert_eq!(walk.highest, Address(STACK + 32));
    assert_eq!((walk.fault, walk.unmapped), (None, None));
}

#[test]
fn a_return_address_may_lie_behind_its_function() {
    // The call of a function that does not return is the last instruction.
    let (process, start) = process(&[vec![], c::at(RSP, 16), c::at(RSP, 80)]);
    let words = [code(0x20), 7, code(start + 1)];
    process.stands(code(0), &words).walks(&[at(0), r(0x20), r(start + 1)], End::Root);
}

#[test]
fn a_thread_of_which_two_registers_are_known_is_walked_as_far_as_they_lead() {
    let framed = [c::at(RBP, 16), c::saved(RBP, 2)].concat();
    let saves = [c::at(RSP, 16), c::saved(RBP, 2)].concat();
    let (known, start) = process(&[saves, framed.clone()]);
    let words = [STACK + 16, code(0x15), STACK + 64, code(start + 1)];
    known.stands(code(1), &words).walks(&[at(1), r(0x15), r(start + 1)], End::Root);
    let (unknown, _) = process(&[vec![], framed]);
    let words = [code(0x15), STACK + 64, code(0x25)];
    unknown.stands(code(1), &words).walks(&[at(1), r(0x15)], End::UnknownRegister);
}

#[test]
fn what_a_call_may_change_is_unknown_behind_it() {
    // Hand-written code keeps its frame in rax, which is fine while it runs.
    let (process, start) = process(&[c::at(0, 8), c::at(0, 8)]);
    let words = [1, 2, code(start + 1)];
    process.stands(code(0), &words).with(0, STACK + 16).walks(&[at(0), r(start + 1)], End::Root);
    let (process, start) = super::rows::process(&[c::at(0, 8), c::at(0, 8)]);
    let words = [1, 2, code(0x11), 4, code(start + 1)];
    process
        .stands(code(0), &words)
        .with(0, STACK + 16)
        .walks(&[at(0), r(0x11)], End::UnknownRegister);
}

#[test]
fn preserved_registers_come_from_where_they_were_saved() {
    let saves = [c::at(RSP, 24), c::saved(RBX, 3)].concat();
    let other = [c::at(RSP, 16), c::saved(12, 2)].concat();
    // The third finds its frame by the rbx that the first saved.
    let (process, start) = process(&[saves, other, c::at(RBX, 16)]);
    let words = [STACK + 48, 0, code(0x11), 7, code(0x21), 0, 0, code(start + 1)];
    process
        .stands(code(0), &words)
        .with(RBX, 99)
        .walks(&[at(0), r(0x11), r(0x21), r(start + 1)], End::Root);
}

#[test]
fn a_realigned_stack_is_found_by_what_was_saved_of_it() {
    // cfa = *(rbp - 8), rbp at rbp + 0, rbx at rbp - 16.
    let rows =
        [c::by(&[0x76, 0x78, 0x06]), c::saved_by(RBP, &[0x76, 0]), c::saved_by(RBX, &[0x76, 0x70])]
            .concat();
    let (process, start) = process(&[rows, c::at(RBX, 16)]);
    // The frame of the caller is at *(rbp - 8) = STACK + 56.
    let saved = [7, STACK + 64, STACK + 56, 5];
    let words = [&saved[..], &[0, 0, code(0x11), 0, 0, code(start + 1)]].concat();
    process
        .stands(code(0), &words)
        .with(RBP, STACK + 24)
        .walks(&[at(0), r(0x11), r(start + 1)], End::Root);
}

#[test]
fn the_prologue_of_a_realigned_stack_is_found_by_r10() {
    let (process, start) = process(&[c::at(R10, 0)]);
    let words = [1, 2, 3, code(start + 1)];
    process.stands(code(0), &words).with(R10, STACK + 32).walks(&[at(0), r(start + 1)], End::Root);
}

#[test]
fn a_return_address_may_be_in_a_register() {
    // vfork takes it from the stack, because its child would overwrite it.
    let rows = [c::at(RSP, 0), c::in_register(RIP, RDI)].concat();
    let (process, start) = process(&[rows]);
    process
        .stands(code(0), &[5])
        .with(RDI, code(start + 1))
        .walks(&[at(0), r(start + 1)], End::Root);
}

#[test]
fn a_stub_of_the_linkage_table_is_left_by_its_expression() {
    // cfa = rsp + 8 + ((rip & 15) >= 11) * 8
    let rows = c::by(&[0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22]);
    for (pc, words) in [(6, vec![code(0x11)]), (11, vec![9, code(0x11)])] {
        let (process, _) = process(std::slice::from_ref(&rows));
        process.stands(code(pc), &words).walks(&[at(pc), r(0x11)], End::Root);
    }
}

#[test]
fn no_expression_gets_more_than_the_stack() {
    for (expression, end) in [
        (&[0x9b][..], End::BadUnwindInfo),         // thread-local storage
        (&[0x2f, 0xfd, 0xff], End::BadUnwindInfo), // for ever
        (&[0x22], End::BadUnwindInfo),             // nothing to add
        (&[0x70, 0], End::UnknownRegister),        // rax
        (&[0x77, 0, 0x94, 4], End::Unreadable),    // 4 bytes of memory: 7
        (&[0x30, 0x06], End::Unreadable),          // memory at 0
        (&[], End::BadUnwindInfo),
    ] {
        let (process, _) = process(&[vec![], c::by(expression)]);
        process.stands(code(0), &[code(0x11), 7, 7]).walks(&[at(0), r(0x11)], end);
    }
}

#[test]
fn the_slot_of_a_popped_register_may_lie_below_the_stack_pointer() {
    // After `pop %rbp` compilers let the row stand until the return.
    let rows = [c::at(RSP, 8), c::saved(RBP, 2)].concat();
    let framed = c::at(RBP, 16);
    let words = [code(0x11), 0, 0, code(0x25)];
    let (process, start) = process(&[rows.clone(), framed.clone()]);
    let mut held = process.stands(code(0), &words);
    held.memory.0[0] = Piece {
        start: Address(STACK - 8),
        bytes: [STACK + 16, code(0x11), 0, 0, code(start + 1)]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect(),
    };
    held.walks(&[at(0), r(0x11), r(start + 1)], End::Root);
    let (process, _) = super::rows::process(&[rows, framed]);
    let walk = process.stands(code(0), &words).walks(&[at(0), r(0x11)], End::UnknownRegister);
    assert_eq!(walk.fault, Some(Address(STACK - 8)));
}

#[test]
fn a_signal_frame_gives_every_register_back() {
    // As glibc says it: the CFA and each register where the kernel saved it.
    let mut rows = c::by(&[0x77, 0xa0, 0x01, 0x06]);
    for (register, offset) in [(RIP, 168_u64), (RSP, 160), (RBX, 128), (0, 144)] {
        let low = u8::try_from(offset & 0x7f | 0x80).unwrap();
        rows.extend(c::saved_by(register, &[0x77, low, 1]));
    }
    let mut words = vec![code(0x18)];
    words.resize(24, 0);
    words[1 + 168 / 8] = code(0x20);
    words[1 + 160 / 8] = STACK + 23 * 8;
    words[1 + 144 / 8] = STACK + 25 * 8;
    words.extend([1, 2, code(0x31)]);
    // The interrupted function finds its frame by rax.
    let functions = [
        plain(),
        (0x10, true, rows),
        (0x10, false, c::at(0, 16)),
        (0x10, false, c::undefined(RIP)),
    ];
    let process = Process::new(X86, &[0x90; 0x100], &functions);
    let expected = [at(0), r(0x18), at(0x20), r(0x31)];
    process.stands(code(0), &words).walks(&expected, End::Root);
}

#[test]
fn a_signal_frame_is_known_by_its_code() {
    // As musl has it: no unwind data.
    let mut text = vec![0x90; 0x100];
    let trampoline = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    text[0x80..0x89].copy_from_slice(&trampoline);
    let functions = [plain(), (0x10, false, c::at(0, 16)), first(X86)];
    let mut context = vec![0; 40 + 40];
    context[1 + 168 / 8] = code(0x10);
    context[1 + 160 / 8] = STACK + 30 * 8;
    context[1 + 144 / 8] = STACK + 30 * 8;
    context[31] = code(0x21);
    context[32] = code(0x21);
    context[0] = code(0x80);
    let expected = [at(0), r(0x80), at(0x10), r(0x21)];
    let process = Process::new(X86, &text, &functions);
    process.stands(code(0), &context).walks(&expected, End::Root);
    // The handler has returned; the system call is next, or just done.
    for pc in [0x80, 0x87] {
        let process = Process::new(X86, &text, &functions);
        let expected = [at(pc), at(0x10), r(0x21)];
        process.stands(code(pc), &context[1..]).walks(&expected, End::Root);
    }
}

#[test]
fn a_stack_that_does_not_move_ends() {
    // cfa = rsp: where it comes from is where it goes.
    let rows = [c::at(RSP, 0), c::in_register(RIP, RBX)].concat();
    let (process, _) = process(&[rows]);
    process.stands(code(0), &[1]).with(RBX, code(1)).walks(&[at(0), r(1)], End::Implausible);
}

#[test]
fn a_stack_that_was_not_copied_far_enough_says_how_far() {
    let (process, _) = process(&[c::at(RSP, 64)]);
    let walk = process.stands(code(0), &[1, 2, 3]).walks(&[at(0)], End::Unreadable);
    assert_eq!(walk.fault, Some(Address(STACK + 56)));
    assert_eq!(walk.highest, Address(STACK + 64));
}

#[test]
fn a_stack_deeper_than_is_kept_ends() {
    let (process, _) = process(&[c::at(RSP, 8)]);
    let (codes, walk) = process.stands(code(0), &[code(1); 5000]).walk();
    assert_eq!((codes.len(), walk.end), (super::super::MAX_FRAMES, End::TooDeep));
}

#[test]
fn a_return_address_that_is_no_code_is_no_frame() {
    for (address, end, unmapped) in [
        (0, End::Root, None),
        (STACK + 8, End::Implausible, None),
        (0x1234, End::Implausible, Some(Address(0x1233))),
    ] {
        let (process, _) = process(&[vec![]]);
        let walk = process.stands(code(0), &[address]).walks(&[at(0)], end);
        assert_eq!(walk.unmapped, unmapped);
    }
}

#[test]
fn damaged_rows_end_the_walk() {
    // A state is restored that was never remembered.
    let (process, _) = process(&[vec![], vec![0x0b]]);
    process.stands(code(0), &[code(0x11)]).walks(&[at(0), r(0x11)], End::BadUnwindInfo);
}

#[test]
fn changed_mappings_change_what_is_known() {
    let (process, start) = process(&[vec![]]);
    let mut process = process.stands(code(0), &[code(start + 1), 0, code(start + 1)]);
    process.walks(&[at(0), r(start + 1)], End::Root);
    // Another image lies there now, in which the function has a larger frame.
    let functions = [(0x10, false, c::at(RSP, 24)), first(X86)];
    let other = elf(X86, &[0x90; 0x100], &eh_frame(X86, &functions), 0);
    let mappings = Process::mappings(&process.directory, "other", &other);
    process.memory.0[0].bytes[..8].fill(0);
    process.unwinder.update(mappings.clone());
    process.walks(&[at(0), r(start + 1)], End::Root);
    // Nothing lies there any more.
    process.unwinder.update(mappings[2..].to_vec());
    let walk = process.walks(&[CodeAddress::Instruction(Address(code(0)))], End::Implausible);
    assert_eq!(walk.unmapped, Some(Address(code(0))));
}
