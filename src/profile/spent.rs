//! Where the time of threads went, as the kernel counts it: unlike samples this
//! misses nothing, and says nothing of stacks.

use std::time::Duration;

use super::{ProcessId, Profile, ThreadId};

/// What a thread did with its time while it was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// All of that time.
    pub wall: Duration,
    /// On a processor.
    pub cpu: Duration,
    /// Ready to run, and waiting for a processor.
    pub queued: Duration,
}

/// How a limit of its control group kept a process from running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// How often the group had used up its time.
    pub times: u64,
    /// For how long its threads were kept waiting then, summed over
    /// processors.
    pub time: Duration,
}

impl Spent {
    /// The rest: asleep, stopped, or waiting for a page.
    pub const fn blocked(&self) -> Duration {
        self.wall.saturating_sub(self.cpu).saturating_sub(self.queued)
    }
}

impl Profile {
    /// Add to what a thread has done.
    pub fn spend(&mut self, thread: ThreadId, spent: Spent) {
        self.changed(|journal| &mut journal.spent, thread);
        let at = thread.0 as usize;
        if self.spent.len() <= at {
            self.spent.resize(at + 1, Spent::default());
        }
        if let Some(sum) = self.spent.get_mut(at) {
            sum.wall += spent.wall;
            sum.cpu += spent.cpu;
            sum.queued += spent.queued;
        }
    }

    /// What a thread has done.
    pub fn spent(&self, thread: ThreadId) -> Spent {
        self.spent.get(thread.0 as usize).copied().unwrap_or_default()
    }

    /// Say how a process was throttled while it was watched.
    pub fn set_throttled(&mut self, process: ProcessId, throttled: Throttled) {
        self.changed(|journal| &mut journal.throttled, process);
        let at = process.0 as usize;
        if self.throttled.len() <= at {
            self.throttled.resize(at + 1, None);
        }
        if let Some(slot) = self.throttled.get_mut(at) {
            *slot = Some(throttled);
        }
    }

    /// How a process was throttled; `None` where no limit is in sight.
    pub fn throttled(&self, process: ProcessId) -> Option<Throttled> {
        self.throttled.get(process.0 as usize).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_running_nor_queued_is_blocked() {
        let mut profile = Profile::default();
        let millis = Duration::from_millis;
        assert_eq!(profile.spent(ThreadId(3)), Spent::default());
        let spent = Spent { wall: millis(10), cpu: millis(3), queued: millis(2) };
        profile.spend(ThreadId(3), spent);
        profile.spend(ThreadId(3), spent);
        assert_eq!(profile.spent(ThreadId(3)).blocked(), millis(10));
        assert_eq!(profile.spent(ThreadId(2)), Spent::default());
        // The kernel's clocks and ours are not read at one moment.
        assert_eq!(Spent { cpu: millis(11), ..spent }.blocked(), Duration::ZERO);
        assert_eq!(profile.throttled(ProcessId(1)), None);
        profile.set_throttled(ProcessId(1), Throttled { times: 2, time: millis(5) });
        assert_eq!(profile.throttled(ProcessId(1)).map(|it| it.times), Some(2));
        assert_eq!(profile.throttled(ProcessId(0)), None);
    }
}
