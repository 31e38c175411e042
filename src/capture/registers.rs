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
/// as it should). It then begins its time again, which is right if it waits
/// for ever, or has `just_begun`. A call that has just begun does so also where
/// it would go on through `restart_syscall`, which a seccomp filter may forbid.
#[cfg(target_arch = "x86_64")]
pub(super) fn unnoticed(kernel: &user_regs_struct, just_begun: bool) -> Option<user_regs_struct> {
    const ERESTARTNOHAND: i64 = 514;
    const ERESTART_RESTARTBLOCK: i64 = 516;
    let call = u32::try_from(kernel.orig_rax).ok().map(Syscall)?;
    let result = kernel.rax.cast_signed();
    let again = match result {
        _ if result == i64::from(-libc::EINTR) => super::harm::may_start_again(call),
        _ => result == -ERESTART_RESTARTBLOCK && just_begun,
    };
    again.then(|| user_regs_struct { rax: (-ERESTARTNOHAND).cast_unsigned(), ..*kernel })
}

/// Not known here: the first argument, which the result has overwritten, is
/// not among the registers.
#[cfg(target_arch = "aarch64")]
pub(super) fn unnoticed(_kernel: &user_regs_struct, _just_begun: bool) -> Option<user_regs_struct> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    fn stopped_in(call: i64, result: i64) -> user_regs_struct {
        let (orig_rax, rax, rip) = (call.cast_unsigned(), result.cast_unsigned(), 7);
        user_regs_struct {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            orig_rax,
            rip,
            cs: 0,
            eflags: 0,
            rsp: 0,
            ss: 0,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }

    #[test]
    fn a_call_that_a_stop_has_failed_starts_again() {
        let (epoll, futex, close) = (libc::SYS_epoll_wait, libc::SYS_futex, libc::SYS_close);
        let table = [
            (epoll, -4, false, Some(-514)),
            (epoll, -4, true, Some(-514)),
            (epoll, 1, true, None),
            (futex, -516, true, Some(-514)),
            (futex, -516, false, None),
            (futex, -512, true, None),
            (close, -4, true, None),
            // No system call: the number is -1.
            (-1, -4, true, None),
        ];
        for (call, result, just_begun, expected) in table {
            let again = unnoticed(&stopped_in(call, result), just_begun);
            let found = again.map(|kernel| (kernel.rax.cast_signed(), kernel.rip));
            assert_eq!(found, expected.map(|rax| (rax, 7)), "{call} {result} {just_begun}");
        }
    }

    #[test]
    fn a_thread_was_blocked_if_its_call_was_interrupted() {
        let call = Syscall(u32::try_from(libc::SYS_futex).unwrap());
        assert_eq!(interrupted(&stopped_in(libc::SYS_futex, -516)), Some(call));
        assert_eq!(interrupted(&stopped_in(libc::SYS_futex, -4)), Some(call));
        assert_eq!(interrupted(&stopped_in(libc::SYS_futex, -11)), None);
        assert_eq!(interrupted(&stopped_in(-1, -516)), None);
    }
}
