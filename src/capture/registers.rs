//! The kernel's register sets, and ours.

use libc::user_regs_struct;

use crate::{
    snapshot::{Register, Registers},
    task::Syscall,
};

/// By DWARF number: see [`Architecture`](crate::snapshot::Architecture).
#[cfg(target_arch = "x86_64")]
pub(super) fn from_kernel(kernel: &user_regs_struct) -> Registers {
    let by_number = [
        kernel.rax, kernel.rdx, kernel.rcx, kernel.rbx, kernel.rsi, kernel.rdi, kernel.rbp,
        kernel.rsp, kernel.r8, kernel.r9, kernel.r10, kernel.r11, kernel.r12, kernel.r13,
        kernel.r14, kernel.r15, kernel.rip,
    ];
    let mut registers = Registers::unknown();
    for (number, value) in (0..).zip(by_number) {
        registers.set(Register(number), value);
    }
    registers
}

/// By DWARF number: see [`Architecture`](crate::snapshot::Architecture).
#[cfg(target_arch = "aarch64")]
pub(super) fn from_kernel(kernel: &user_regs_struct) -> Registers {
    let mut registers = Registers::unknown();
    for (number, value) in (0..).zip(kernel.regs) {
        registers.set(Register(number), value);
    }
    registers.set(Register(31), kernel.sp);
    registers.set(Register(32), kernel.pc);
    registers
}

/// Not in the C library: `include/linux/errno.h` of the kernel. What a call
/// that a signal or a stop has interrupted returns to the kernel itself.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

/// The system call that a stopped thread was blocked in; `None` when it was
/// not, as far as the registers tell.
#[cfg(target_arch = "x86_64")]
pub(super) fn interrupted(kernel: &user_regs_struct) -> Option<Syscall> {
    let result = kernel.rax.cast_signed();
    let was_blocked = RESTARTS.contains(&result) || result == i64::from(-libc::EINTR);
    let call = u32::try_from(kernel.orig_rax).ok().map(Syscall)?;
    was_blocked.then_some(call)
}

/// The system call that a stopped thread was blocked in; `None` when it was
/// not, as far as the registers tell.
#[cfg(target_arch = "aarch64")]
pub(super) fn interrupted(kernel: &user_regs_struct) -> Option<Syscall> {
    let result = kernel.regs[0].cast_signed();
    let was_blocked = RESTARTS.contains(&result) || result == i64::from(-libc::EINTR);
    let call = u32::try_from(kernel.regs[8]).ok().map(Syscall)?;
    was_blocked.then_some(call)
}

/// The registers to give to a thread that was stopped in a system call, so
/// that it does not notice; `None` where it would not anyway.
///
/// A call that failed with `EINTR` for our stop alone is made to start again,
/// by the error that the kernel itself uses for that (`ERESTARTNOHAND`: if a
/// handler of the target's is to run first, the call still fails with `EINTR`,
/// as it should). The same for a call that would go on through
/// `restart_syscall` where a filter may forbid that. Right only if the call
/// has just begun, or waits for ever: it begins its time again.
#[cfg(target_arch = "x86_64")]
pub(super) fn unnoticed(
    kernel: &user_regs_struct,
    is_filtered: impl FnOnce() -> bool,
) -> Option<user_regs_struct> {
    const ERESTARTNOHAND: i64 = 514;
    const ERESTART_RESTARTBLOCK: i64 = 516;
    let call = u32::try_from(kernel.orig_rax).ok().map(Syscall)?;
    let result = kernel.rax.cast_signed();
    let again = match result {
        _ if result == i64::from(-libc::EINTR) => super::harm::fails_when_stopped(call),
        _ if result == -ERESTART_RESTARTBLOCK => is_filtered(),
        _ => false,
    };
    again.then(|| user_regs_struct { rax: (-ERESTARTNOHAND).cast_unsigned(), ..*kernel })
}

/// Not known here: the first argument, which the result has overwritten, is
/// not among the registers.
#[cfg(target_arch = "aarch64")]
pub(super) fn unnoticed(
    _kernel: &user_regs_struct,
    _is_filtered: impl FnOnce() -> bool,
) -> Option<user_regs_struct> {
    None
}
