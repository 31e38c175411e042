//! Whether all the threads that slept at the tick before sleep still, without
//! a look at each of them.
//!
//! The kernel's CPU clock of a process is the sum of what `schedstat` says of
//! its threads, and of those that have ended. If it is what the last numbers
//! of all threads add up to, none has been on a processor and left it again;
//! and if no more threads are runnable on the whole machine than are known to
//! be, none is on one now. Both can be asked in three calls, however many
//! threads there are. Where either is not so, each thread is looked at.

use std::{fs::File, os::unix::fs::FileExt, time::Duration};

use crate::process::{Process, children};

/// With fewer sleeping threads it is cheaper to look at each.
const WORTHWHILE: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// The CPU time of threads that are not known: that have ended, most of all.
    others: Option<Duration>,
    /// `/proc/loadavg`, once it was wanted, if that can be trusted.
    load: Option<Option<File>>,
}

/// The clock of a process, at the begin of a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading(Duration);

impl Quiet {
    /// A look begins, at a process in which so many threads slept.
    pub(super) fn begin(process: &Process, asleep: usize) -> Option<Reading> {
        (asleep >= WORTHWHILE).then(|| process.cpu_time().map(Reading)).flatten()
    }

    /// A thread has begun or ended.
    pub(super) fn forget(&mut self) {
        self.others = None;
    }

    /// Whether the threads that slept still do, now that all others were
    /// looked at: `run` is the sum of the last numbers of all, and `awake`
    /// how many of them are runnable.
    pub(super) fn holds(
        &mut self,
        begun: Reading,
        process: &Process,
        run: Duration,
        awake: usize,
    ) -> bool {
        self.others.is_some_and(|others| others + run == begun.0)
            && process.cpu_time() == Some(begun.0)
            // This thread is one of them.
            && self.runnable().is_some_and(|all| all > 0 && all <= awake + 1)
    }

    /// A look at every thread ends; `run` is the sum of what was found.
    pub(super) fn learn(&mut self, begun: Reading, process: &Process, run: Duration) {
        // Otherwise somebody ran meanwhile: before or after he was looked at?
        if process.cpu_time() == Some(begun.0) {
            self.others = begun.0.checked_sub(run);
        }
    }

    /// How many threads of the machine run or wait for a processor.
    fn runnable(&mut self) -> Option<usize> {
        let load = self.load.get_or_insert_with(children::load).as_ref()?;
        let mut line = [0; 80];
        let len = load.read_at(&mut line, 0).ok()?;
        runnable(line.get(..len)?)
    }
}

/// The fourth word: `runnable/all` (`man 5 proc_loadavg`).
fn runnable(line: &[u8]) -> Option<usize> {
    let word = std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(3)?;
    word.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runnable_threads_are_the_fourth_word() {
        assert_eq!(runnable(b"0.83 1.98 2.27 3/345 12345\n"), Some(3));
        for line in [&b""[..], b"0.83 1.98 2.27", b"0 0 0 x/3 1", b"0 0 0 3 1", b"\xff"] {
            assert_eq!(runnable(line), None);
        }
    }
}
