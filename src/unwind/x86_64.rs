//! x86-64: the System V ABI (AMD64 supplement), and the kernel's signal frame.

use crate::snapshot::{Architecture, Register};

use super::{frame_size, machine::Machine};

pub(super) static MACHINE: Machine = Machine {
    architecture: Architecture::X86_64,
    general: 17,
    vendor: gimli::Vendor::Default,
    link: None,
    // rbx, rbp, r12 to r15: section 3.2.1.
    preserved: 1 << 3 | 1 << 6 | 0b1111 << 12,
    // The return address and the caller's rbp lie there, and nothing else.
    frame_record: Some(16),
    // mov $__NR_rt_sigreturn,%rax; syscall. gdb and libgcc look for it, too,
    // and so the libraries and the kernel keep it (sigreturn(2)).
    trampoline: &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05],
    // The handler's `ret` has taken the first word of `struct rt_sigframe`, so
    // that sp is at its `uc`; `uc_mcontext` follows flags, link and stack, and
    // is a `struct sigcontext` (arch/x86/include/uapi/asm/sigcontext.h).
    context: &[
        (Register(8), 40),
        (Register(9), 48),
        (Register(10), 56),
        (Register(11), 64),
        (Register(12), 72),
        (Register(13), 80),
        (Register(14), 88),
        (Register(15), 96),
        (Register(5), 104),
        (Register(4), 112),
        (Register(6), 120),
        (Register(3), 128),
        (Register(1), 136),
        (Register(0), 144),
        (Register(2), 152),
        (Register(7), 160),
        (Register(16), 168),
    ],
    longest_call: 8,
    ends_in_call,
    call_target,
    is_stub,
    frame_size: frame_size::of,
    signs_return_addresses: false,
};

/// call rel32 (E8), or call r/m64 (FF /2), with any prefix before it.
fn ends_in_call(code: &[u8]) -> bool {
    call_target(code).is_some() || (2..=7).any(|len| is_indirect_call(code, len))
}

fn call_target(code: &[u8]) -> Option<i64> {
    let [opcode, distance @ ..] = code.last_chunk::<5>()?;
    (*opcode == 0xe8).then(|| i32::from_le_bytes(*distance).into())
}

/// jmp *x(%rip), perhaps behind an endbr64 or with a prefix.
fn is_stub(code: &[u8]) -> bool {
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    code.strip_prefix(&[0xf2]).unwrap_or(code).starts_with(&[0xff, 0x25])
}

/// Whether the last `len` bytes are `FF /2` with its addressing bytes
/// (Intel's manual, volume 2, tables 2-2 and 2-3).
fn is_indirect_call(code: &[u8], len: usize) -> bool {
    let Some([0xff, modrm, rest @ ..]) = code.len().checked_sub(len).and_then(|at| code.get(at..))
    else {
        return false;
    };
    let (mode, operation, place) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    let index = usize::from(mode != 3 && place == 4);
    let base_is_absent = index == 1 && rest.first().is_some_and(|sib| sib & 7 == 5);
    let displacement = match mode {
        0 if place == 5 || base_is_absent => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    operation == 2 && rest.len() == index + displacement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_other_code() {
        for call in [
            &[0xe8, 1, 2, 3, 4][..],
            &[0xff, 0xd0],                         // call *%rax
            &[0x41, 0xff, 0xd2],                   // call *%r10
            &[0xff, 0x10],                         // call *(%rax)
            &[0xff, 0x14, 0x24],                   // call *(%rsp)
            &[0xff, 0x50, 0x18],                   // call *0x18(%rax)
            &[0xff, 0x54, 0x24, 8],                // call *8(%rsp)
            &[0xff, 0x15, 1, 2, 3, 4],             // call *x(%rip)
            &[0xff, 0x93, 1, 2, 3, 4],             // call *x(%rbx)
            &[0xff, 0x14, 0xc5, 1, 2, 3, 4],       // call *x(,%rax,8)
            &[0x41, 0xff, 0x94, 0xc4, 1, 2, 3, 4], // call *x(%r12,%rax,8)
        ] {
            assert!(ends_in_call(call), "{call:x?}");
            assert!(ends_in_call(&[&[0x90; 8], call].concat()), "{call:x?}");
        }
        for other in [
            &[][..],
            &[0xff],
            &[0xc3],
            &[0xff, 0xe0],             // jmp *%rax
            &[0xff, 0x25, 1, 2, 3, 4], // jmp *x(%rip)
            &[0xe9, 1, 2, 3, 4],       // jmp
            &[0xe8, 1, 2, 3],
            &[0xff, 0x15, 1, 2, 3],
        ] {
            assert!(!ends_in_call(other), "{other:x?}");
        }
        assert_eq!(call_target(&[0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff]), Some(-5));
        assert_eq!(call_target(&[0xff, 0xd0]), None);
    }
}
