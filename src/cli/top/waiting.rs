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

    /// What each of `threads` waits for, as `part` tells whose each is. One that
    /// has slept since it was looked at is not looked at again.
    pub(super) fn of(&mut self, threads: &[Now], part: &Part) -> Vec<Option<String>> {
        let locks: FxHashMap<ThreadId, Lock> =
            part.samples.iter().map(|sample| (sample.key.thread, sample.key.lock)).collect();
        let mut known = FxHashMap::default();
        let mut left = AT_ONCE;
        let mut texts = Vec::with_capacity(threads.len());
        for now in threads {
            let before = self.known.remove(&now.thread);
            let before = before.filter(|(since, _)| since.is_some() && *since == now.asleep_since);
            let is_blocked = matches!(now.state, State::Blocked(_));
            let found = match (before, is_blocked) {
                (Some((_, text)), true) => Some(text),
                (None, true) if left > 0 => {
                    left -= 1;
                    let thread = part.threads().get(now.thread.0 as usize);
                    let lock = locks.get(&now.thread).copied().unwrap_or_default();
                    Some(thread.and_then(|thread| self.look(thread.process, now, lock)))
                }
                _ => None,
            };
            if let Some(text) = &found {
                known.insert(now.thread, (now.asleep_since, text.clone()));
            }
            texts.push(found.flatten());
        }
        // Threads that have ended are forgotten.
        self.known = known;
        texts
    }

    fn look(&mut self, process: ProcessId, now: &Now, lock: Lock) -> Option<String> {
        let mut wait = sampler::wait(self.processes.get_mut(&process)?, now.tid, lock)?;
        // How much is left changes all the time, and since when it has slept is
        // told beside it.
        if matches!(wait.timeout, Some(Timeout::At(_))) {
            wait.timeout = None;
        }
        Some(wait.to_string())
    }
}
