//! How large the frames of a function are, by its code.
//!
//! A thread that sleeps is read without its frame pointer. What was compiled
//! with frame pointers then says only that its frame is found by a register
//! that is not known. But a function that moves the stack pointer nowhere but
//! in its prologue and its epilogues has, at each of its calls, a frame of one
//! size.

use super::instruction::{self, Effect};

/// No larger function is looked at.
pub(super) const LARGEST: usize = 64 << 10;

/// How far the CFA is above the stack pointer at every call that the function
/// `code` makes, which is entered at its first byte. `None` where that is not
/// certain.
///
/// What is held, for every instruction of it:
/// - before the first call or jump, the stack pointer is moved by constants;
/// - after that it is moved only on the way out: the next instruction that
///   is a call or a jump is a return, or a jump behind the function's end;
/// - nothing jumps back into the prologue, to where a table says, or elsewhere
///   out of the function.
///
/// So every call is reached with what the prologue has taken.
pub(super) fn of(code: &[u8]) -> Option<u64> {
    // The return address.
    let mut size = 8_u64;
    // Where the prologue's last such instruction ends; and the body begins, if
    // it has.
    let (mut prologue, mut in_body) = (0, false);
    let mut is_leaving = false;
    let (mut at, mut first_target) = (0, usize::MAX);
    while at < code.len() {
        let found = instruction::first(code.get(at..)?)?;
        at = at.checked_add(found.len)?;
        match found.effect {
            Effect::None => continue,
            Effect::Takes(bytes) if !in_body => {
                size = size.checked_add(bytes.into())?;
                prologue = at;
                continue;
            }
            Effect::Moves if !in_body => return None,
            Effect::Takes(_) | Effect::Moves => {
                is_leaving = true;
                continue;
            }
            Effect::Return => {}
            Effect::Call if !is_leaving => {}
            Effect::JumpAnywhere if is_leaving => {}
            Effect::Jump(distance) | Effect::Branch(distance) => {
                let target = at.checked_add_signed(isize::try_from(distance).ok()?);
                let is_certain = matches!(found.effect, Effect::Jump(_));
                match target.filter(|target| *target < code.len()) {
                    Some(target) if !is_leaving => first_target = first_target.min(target),
                    None if is_leaving && is_certain => {}
                    _ => return None,
                }
            }
            Effect::Call | Effect::JumpAnywhere => return None,
        }
        (in_body, is_leaving) = (true, false);
    }
    (in_body && !is_leaving && first_target >= prologue).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROLOGUE: &[u8] = &[0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 0x18];
    const CALL: &[u8] = &[0xe8, 0, 0, 0, 0];

    /// A function with this body and an epilogue.
    fn with(body: &[&[u8]]) -> Option<u64> {
        of(&[PROLOGUE, CALL, &body.concat(), CALL, &[0xc9, 0xc3]].concat())
    }

    #[test]
    fn what_the_prologue_takes_is_the_size() {
        assert_eq!(with(&[]), Some(8 + 8 + 8 + 0x18));
        // A loop; an early return; a jump to another function on the way out.
        assert_eq!(with(&[&[0xeb, 0xf9]]), Some(48));
        assert_eq!(with(&[&[0x75, 0x02, 0xc9, 0xc3]]), Some(48));
        assert_eq!(with(&[&[0xc9, 0xe9, 0, 1, 0, 0]]), Some(48));
        assert_eq!(with(&[&[0xc9, 0xff, 0xe0]]), Some(48));
        // mov %rsp,%rdi; cmp $1,%eax
        assert_eq!(with(&[&[0x48, 0x89, 0xe7], &[0x83, 0xf8, 1]]), Some(48));
        assert_eq!(
            of(&[&[0xf3, 0x0f, 0x1e, 0xfa, 0x55][..], CALL, &[0x5d, 0xc3]].concat()),
            Some(16)
        );
        // add $-128,%rsp
        assert_eq!(of(&[&[0x55, 0x48, 0x83, 0xc4, 0x80], CALL, &[0xc9, 0xc3]].concat()), Some(144));
    }

    #[test]
    fn what_is_not_certain_has_no_size() {
        for body in [
            &[0x6a, 1][..],                        // push $1, for a call
            &[0x50],                               // push %rax
            &[0xff, 0x75, 8],                      // push 8(%rbp)
            &[0x48, 0x29, 0xc4],                   // sub %rax,%rsp
            &[0x48, 0x83, 0xec, 0x10],             // sub $16,%rsp
            &[0x48, 0x83, 0xc4, 0x10],             // add $16,%rsp
            &[0x48, 0x83, 0xe4, 0xe0],             // and $-32,%rsp
            &[0x48, 0x89, 0xc4],                   // mov %rax,%rsp
            &[0x48, 0x8b, 0x20],                   // mov (%rax),%rsp
            &[0x48, 0x8d, 0x64, 0x24, 0xf0],       // lea -16(%rsp),%rsp
            &[0x48, 0x94],                         // xchg %rax,%rsp
            &[0x48, 0x0f, 0x44, 0xe0],             // cmove %rax,%rsp
            &[0xc4, 0xe2, 0xd8, 0xf3, 0xc8],       // blsr %rax,%rsp
            &[0xc8, 0, 0, 0],                      // enter
            &[0xeb, 0xed],                         // to before sub
            &[0xe9, 0, 1, 0, 0],                   // out of the function
            &[0x0f, 0x84, 0, 1, 0, 0],             // the same by a condition
            &[0xff, 0xe0],                         // jmp *%rax
            &[0xc9, 0x0f, 0x84, 0, 1, 0, 0],       // leave, and perhaps go
            &[0xc9, 0xeb, 0],                      // leave, and stay
            &[0x06],                               // no instruction
            &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1], // vmovaps %zmm1,%zmm0
        ] {
            assert_eq!(with(&[body]), None, "{body:x?}");
        }
        assert_eq!(of(&[0x55, 0xe8, 0]), None);
        assert_eq!(of(&[0x48, 0x29, 0xc4, 0xc3]), None);
        assert_eq!(of(&[0x55, 0xc3, 0xc9]), None);
    }
}
