//! What threads wait for, as long as they do.

use crate::{
    capture::{ARGUMENTS, Gate, Look},
    process::Waits,
    snapshot::{Architecture, Registers},
    task::{Lock, State, Syscall, Tid},
    wait::{RuntimeLock, Wait},
};

/// What a thread of the process of `waits` waits for now, which was last seen
/// to have so much to do with the interpreter lock; `None` if it runs, or does
/// not stay where it is for as long as it takes to look.
///
/// It opens files of the thread's: for a look at hundreds of threads twice a
/// second, not for each sample.
pub fn wait(waits: &mut Waits, tid: Tid, lock: Lock) -> Option<Wait> {
    let gate = Gate::open(waits.pid(), tid).ok()?;
    let Look::Asleep(state, registers) = gate.look() else { return None };
    of(waits, (tid, &gate), (state, &registers), lock)
}

/// What a thread waits for, which was seen in `state` with these `registers`;
/// `None` if it is in no system call, or in another one by now: then what its
/// arguments mean cannot be read any more.
pub(super) fn of(
    waits: &mut Waits,
    (tid, gate): (Tid, &Gate),
    (state, registers): (State, &Registers),
    lock: Lock,
) -> Option<Wait> {
    let State::Blocked(call) = state else { return None };
    let arguments = arguments(registers)?;
    let wait = waits.of(tid, call, arguments);
    let Look::Asleep(State::Blocked(now), after) = gate.look() else { return None };
    let sp = Architecture::HOST.sp();
    let same = same(call, now) && after.get(sp) == registers.get(sp);
    if !same || self::arguments(&after) != Some(arguments) {
        return None;
    }
    // Which thread holds it was seen at another moment, if at all.
    let gil = || RuntimeLock { name: "the GIL".to_owned(), owner: None };
    Some(if lock == Lock::Wanted { wait.for_runtime(gil()) } else { wait })
}

fn arguments(registers: &Registers) -> Option<[u64; 6]> {
    let mut values = [0; 6];
    for (value, register) in values.iter_mut().zip(ARGUMENTS) {
        *value = registers.get(register)?;
    }
    Some(values)
}

/// Whether a thread that was in one call may be in the same when it is in the
/// other: after a stop some go on as `restart_syscall`.
fn same(before: Syscall, after: Syscall) -> bool {
    before == after || after.name() == Some("restart_syscall")
}
