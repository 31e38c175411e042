//! What sleeping threads wait for, in one line each.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::{
    process::Waits,
    profile::{Part, ProcessId, ThreadId},
    sampler::{self, Now, Watched},
    task::{Lock, State},
    wait::Timeout,
};

/// So many threads at most are looked at each time: the others come next. It
/// takes tens of microseconds a thread, and more where sockets are many.
const AT_ONCE: usize = 64;

/// What is known of the threads that sleep.
#[derive(Default)]
pub(super) struct Waiting {
    processes: FxHashMap<ProcessId, Waits>,
    /// By thread: since when it has slept when it was looked at, and what for.
    known: FxHashMap<ThreadId, (Option<Duration>, Option<String>)>,
    /// The first thread for which there was no time: it comes first the next
    /// time.
    next: Option<ThreadId>,
}

impl Waiting {
    /// These are the processes that are watched now.
    pub(super) fn begin(&mut self, watched: &[Watched]) {
        self.processes.retain(|id, waits| {
            watched.iter().any(|it| it.process == *id && it.pid == waits.pid())
        });
        for it in watched {
            self.processes.entry(it.process).or_insert_with(|| Waits::new(it.pid)).begin();
        }
    }

    /// What each of `threads` waits for, which were last seen in `part`. One that
    /// has slept since it was looked at is not looked at again.
    pub(super) fn of(&mut self, threads: &[Now], part: &Part) -> Vec<Option<String>> {
        let locks: FxHashMap<ThreadId, Lock> =
            part.samples.iter().map(|sample| (sample.key.thread, sample.key.lock)).collect();
        self.in_turn(threads, |it, now| {
            let lock = locks.get(&now.thread).copied().unwrap_or_default();
            it.look(now, lock)
        })
    }

    /// The same, where `look` tells what one waits for.
    fn in_turn(
        &mut self,
        threads: &[Now],
        mut look: impl FnMut(&mut Self, &Now) -> Option<String>,
    ) -> Vec<Option<String>> {
        let mut known = FxHashMap::default();
        let mut left = AT_ONCE;
        let first = self.next.take();
        let first = threads.iter().position(|now| Some(now.thread) == first).unwrap_or(0);
        let mut texts = vec![None; threads.len()];
        for at in (first..threads.len()).chain(0..first) {
            let Some(now) = threads.get(at) else { continue };
            let before = self.known.remove(&now.thread);
            let before = before.filter(|(since, _)| since.is_some() && *since == now.asleep_since);
            let is_blocked = matches!(now.state, State::Blocked(_));
            let found = match (before, is_blocked) {
                (Some((_, text)), true) => Some(text),
                (None, true) if left > 0 => {
                    left -= 1;
                    Some(look(self, now))
                }
                (None, true) => {
                    self.next.get_or_insert(now.thread);
                    None
                }
                _ => None,
            };
            if let Some(text) = found {
                known.insert(now.thread, (now.asleep_since, text.clone()));
                if let Some(slot) = texts.get_mut(at) {
                    *slot = text;
                }
            }
        }
        // Threads that have ended are forgotten.
        self.known = known;
        texts
    }

    fn look(&mut self, now: &Now, lock: Lock) -> Option<String> {
        let mut wait = sampler::wait(self.processes.get_mut(&now.process)?, now.tid, lock)?;
        // How much is left changes all the time, and since when it has slept is
        // told beside it.
        if matches!(wait.timeout, Some(Timeout::At(_))) {
            wait.timeout = None;
        }
        Some(wait.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Syscall, Tid};

    /// Threads that all sleep anew from one time to the next.
    #[test]
    fn each_thread_has_its_turn() {
        let count = AT_ONCE * 2 + AT_ONCE / 2;
        let threads = |round: u64| -> Vec<Now> {
            let now = |thread| Now {
                thread: ThreadId(thread),
                process: ProcessId(0),
                tid: Tid(1),
                state: State::Blocked(Syscall(0)),
                asleep_since: Some(Duration::from_secs(round)),
            };
            (0..u32::try_from(count).unwrap()).map(now).collect()
        };
        let mut waiting = Waiting::default();
        let mut seen = vec![0; count];
        for round in 0..5 {
            let texts = waiting.in_turn(&threads(round), |_, _| Some("read".to_owned()));
            assert_eq!(texts.iter().flatten().count(), AT_ONCE);
            for (seen, text) in seen.iter_mut().zip(texts) {
                *seen += usize::from(text.is_some());
            }
        }
        assert!(seen.iter().all(|&times| times == 2), "{seen:?}");
    }
}
