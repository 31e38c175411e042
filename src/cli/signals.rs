//! Signals that end a recording.
//!
//! They are blocked before the first thread is started, so that every thread
//! has them blocked, and one thread waits for them. There is no handler, and
//! so nothing that must be safe inside one. SIGCHLD is blocked likewise: the
//! thread that samples waits for it.

use std::{fs, sync::mpsc::Sender, thread};

use nix::sys::signal::{SigSet, Signal, raise};

/// Those that end a recording.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Signals that are blocked in this thread and in those that it starts.
#[derive(Debug)]
pub(super) struct Blocked {
    awaited: SigSet,
}

/// Those by which a terminal is taken away for a while and given back.
const JOB_CONTROL: [Signal; 2] = [Signal::SIGTSTP, Signal::SIGCONT];

/// The others that end a program and can be waited for: without them a terminal
/// would be left as it is. Those of a fault of this program's own are not among
/// them, for such a one cannot be blocked.
const ALSO_ENDING: [Signal; 14] = [
    Signal::SIGQUIT,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGSTKFLT,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
];

/// Block the signals.
pub(super) fn block() -> anyhow::Result<Blocked> {
    block_all(&ENDING)
}

/// Block them, every other that would end this program, and those of job
/// control, which then are heard, too.
pub(super) fn block_for_a_screen() -> anyhow::Result<Blocked> {
    block_all(&[ENDING.as_slice(), &ALSO_ENDING, &JOB_CONTROL].concat())
}

fn block_all(signals: &[Signal]) -> anyhow::Result<Blocked> {
    let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let mut awaited = SigSet::empty();
    for &signal in signals {
        // Whoever started this program to outlive the terminal (nohup) meant it.
        if ignored >> (signal as i32 - 1) & 1 == 0 {
            awaited.add(signal);
        }
    }
    let mut blocked = awaited;
    blocked.add(Signal::SIGCHLD);
    blocked.thread_block()?;
    Ok(Blocked { awaited })
}

/// Be told when a child ends and when a traced thread stops, even if whoever
/// started this program ignored both. To be called before a child is started.
pub(super) fn hear_children() {
    crate::sys::signal::hear_children();
}

impl Blocked {
    /// Have each signal that arrives sent, as an `E`, until nobody listens.
    pub(super) fn send<E: From<Signal> + Send + 'static>(self, to: Sender<E>) {
        if self.awaited == SigSet::empty() {
            return;
        }
        thread::spawn(move || {
            while let Ok(signal) = self.awaited.wait() {
                if to.send(signal.into()).is_err() {
                    break;
                }
            }
        });
    }

    /// Have each signal that arrives sent, up to the first of those that end this
    /// program. At the second one whoever listens is taken to be stuck: do
    /// `at_last`, and have the signal do what it does by default.
    pub(super) fn send_once<E: From<Signal> + Send + 'static>(
        self,
        to: Sender<E>,
        at_last: impl FnOnce() + Send + 'static,
    ) {
        if self.awaited == SigSet::empty() {
            return;
        }
        thread::spawn(move || {
            let mut is_told = false;
            while let Ok(signal) = self.awaited.wait() {
                let ends = !JOB_CONTROL.contains(&signal);
                if ends && is_told {
                    at_last();
                    let mut set = SigSet::empty();
                    set.add(signal);
                    // For this thread alone, which is enough to end them all.
                    let _ = set.thread_unblock().and_then(|()| raise(signal));
                    return;
                }
                is_told |= ends;
                // Where nobody listens any more something else is waited for.
                let _ = to.send(signal.into());
            }
        });
    }
}

/// The ignored signals: bit 0 is signal 1 (`man 5 proc_pid_status`).
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        let ignored = ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert_eq!(ignored >> (Signal::SIGHUP as i32 - 1) & 1, 1);
        assert_eq!(ignored >> (Signal::SIGINT as i32 - 1) & 1, 0);
        assert_eq!(super::ignored(""), 0);
    }
}
