//! Arm 64-bit: the procedure call standard (AAPCS64), signed return addresses,
//! and the kernel's signal frame.

use crate::snapshot::{Architecture, Register};

use super::machine::Machine;

pub(super) static MACHINE: Machine = Machine {
    architecture: Architecture::Aarch64,
    general: 32,
    // DW_CFA_AARCH64_negate_ra_state has the number of another vendor's.
    vendor: gimli::Vendor::AArch64,
    link: Some(Register(30)),
    // x19 to x29: section 6.1.1. The link register is not among them: a call
    // overwrites it.
    preserved: 0x7ff << 19,
    frame_record: None,
    // mov x8, #__NR_rt_sigreturn; svc #0: the vdso's `__kernel_rt_sigreturn`.
    trampoline: &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4],
    context: &CONTEXT,
    longest_call: 4,
    ends_in_call,
    call_target,
    is_stub: |_| false,
    // Its code is not taken apart.
    frame_size: |_| None,
    signs_return_addresses: true,
};

/// sp is at the 128 bytes of a `siginfo_t`. Then come flags, link, stack and
/// the 128 bytes of the signal mask of a `struct ucontext`, padded to 16; then
/// `fault_address`, x0 to x30, sp and pc of a `struct sigcontext`
/// (arch/arm64/include/uapi/asm/{ucontext,sigcontext}.h).
const CONTEXT: [(Register, u64); 33] = {
    let mut context = [(Register(0), 0); 33];
    let (mut number, mut at) = (0, 312);
    while number < 33 {
        context[number as usize] = (Register(number), at);
        number += 1;
        at += 8;
    }
    context
};

/// The bits of `address` that are an address: the rest of a return address is
/// its signature, in as many of the upper bits as the address space leaves
/// free. `highest` is an address at least as high as any that is mapped.
pub(super) fn strip(address: u64, highest: u64) -> u64 {
    // A user's address space has 48 bits unless something is mapped above.
    let bits = (u64::BITS - highest.leading_zeros()).max(48);
    address & u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(u64::MAX)
}

fn instruction(code: &[u8]) -> Option<u32> {
    code.last_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// `bl`, `blr`, or `blr` with authentication (`blraa` and its kin).
fn ends_in_call(code: &[u8]) -> bool {
    instruction(code).is_some_and(|word| {
        word & 0xfc00_0000 == 0x9400_0000
            || word & 0xffff_fc1f == 0xd63f_0000
            || word & 0xfeff_f800 == 0xd63f_0800
    })
}

fn call_target(code: &[u8]) -> Option<i64> {
    let word = instruction(code).filter(|word| word & 0xfc00_0000 == 0x9400_0000)?;
    // 26 bits, signed, in instructions, counted from the call itself.
    let distance = (word << 6).cast_signed() >> 6;
    Some(i64::from(distance) * 4 - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_stripped_and_an_address_is_kept() {
        assert_eq!(strip(0x00ab_aaaa_1234_5678, 0xffff_ffff_f000), 0xaaaa_1234_5678);
        assert_eq!(strip(0xaaaa_1234_5678, 0xffff_ffff_f000), 0xaaaa_1234_5678);
        assert_eq!(strip(0x1f8a_aaaa_1234_5678, 0x000f_ffff_ffff_f000), 0x000a_aaaa_1234_5678);
        assert_eq!(strip(7, u64::MAX), 7);
        assert_eq!(strip(7, 0), 7);
    }

    #[test]
    fn calls_are_told_from_other_code() {
        for call in [0x9400_0001_u32, 0x97ff_ffff, 0xd63f_0100, 0xd63f_0901, 0xd73f_0901] {
            assert!(ends_in_call(&call.to_le_bytes()), "{call:#x}");
        }
        for other in [0x1400_0001_u32, 0xd61f_0100, 0xd65f_03c0, 0xd503_201f] {
            assert!(!ends_in_call(&other.to_le_bytes()), "{other:#x}");
        }
        assert!(!ends_in_call(&[]));
        assert_eq!(call_target(&0x9400_0001_u32.to_le_bytes()), Some(0));
        assert_eq!(call_target(&0x97ff_ffff_u32.to_le_bytes()), Some(-8));
        assert_eq!(call_target(&0xd63f_0100_u32.to_le_bytes()), None);
    }

    #[test]
    fn the_context_is_where_the_kernel_puts_it() {
        assert_eq!(CONTEXT.first(), Some(&(Register(0), 312)));
        assert_eq!(CONTEXT.get(31), Some(&(Register(31), 560)));
        assert_eq!(CONTEXT.last(), Some(&(Register(32), 568)));
    }
}
