//! What unwinding must know of a processor, as data.

use crate::snapshot::{Architecture, Register};

use super::{aarch64, x86_64};

/// A processor and its calling convention.
#[derive(Debug)]
pub(super) struct Machine {
    /// The names of its registers.
    pub(super) architecture: Architecture,
    /// How many registers have the first numbers and may hold an address; the
    /// rest are vectors.
    pub(super) general: u16,
    /// Whose call frame instructions its compilers use.
    pub(super) vendor: gimli::Vendor,
    /// The register that holds the return address when a function begins;
    /// `None` where a call puts it on the stack.
    pub(super) link: Option<Register>,
    /// The registers (1 << number) that a function gives back as it got them,
    /// unless its tables say otherwise. What is not here is unknown in every
    /// frame but the innermost.
    pub(super) preserved: u64,
    /// How far the caller's stack pointer is above the frame pointer; `None`
    /// where a frame record may lie anywhere in its frame.
    pub(super) frame_record: Option<u64>,
    /// The code that the kernel lets a signal handler return to.
    pub(super) trampoline: &'static [u8],
    /// Where the kernel saved the registers: distances from the stack pointer
    /// of a thread in `trampoline`.
    pub(super) context: &'static [(Register, u64)],
    /// How many bytes before a return address [`ends_in_call`](Self::ends_in_call)
    /// wants to see.
    pub(super) longest_call: usize,
    /// Whether the last of these bytes are a call instruction.
    pub(super) ends_in_call: fn(&[u8]) -> bool,
    /// Where a direct call that ends these bytes goes, relative to their end.
    pub(super) call_target: fn(&[u8]) -> Option<i64>,
    /// Whether code begins with a jump that every caller shares: what leads
    /// to another image.
    pub(super) is_stub: fn(&[u8]) -> bool,
    /// How far the CFA is above the stack pointer at every call of a function
    /// with this code, if that is certain.
    pub(super) frame_size: fn(&[u8]) -> Option<u64>,
    /// Whether a return address carries a signature in its upper bits.
    pub(super) signs_return_addresses: bool,
}

impl Machine {
    /// The description of `architecture`.
    pub(super) const fn of(architecture: Architecture) -> &'static Self {
        match architecture {
            Architecture::X86_64 => &x86_64::MACHINE,
            Architecture::Aarch64 => &aarch64::MACHINE,
        }
    }
}
