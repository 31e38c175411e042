//! A recording while it runs: told in parts to whoever shows it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Control, Origin, shared::Shared, target::Target};
use crate::{
    module::Module,
    profile::{Costs, Part, ProcessId, ThreadId},
    task::{Pid, State, Tid},
};

/// What a recording has found since it last told, and what is so now.
#[derive(Debug)]
pub struct Live {
    /// When this was, by the clock of the recording, whose beginning is 0.
    pub at: Duration,
    /// What was seen.
    pub part: Part,
    /// What it has cost so far.
    pub costs: Costs,
    /// What each thread does that is watched now.
    pub now: Vec<Now>,
    /// The processes that are watched now.
    pub processes: Vec<Watched>,
    /// The images that are new: their numbers follow those told before.
    pub modules: Vec<Arc<Module>>,
    /// Where the files of the processes are that are new, likewise.
    pub origins: Vec<Origin>,
}

/// A process that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub process: ProcessId,
    /// Its number.
    pub pid: Pid,
    /// The name and version of its language runtime, such as `CPython 3.12.1`,
    /// once one was found.
    pub runtime: Option<String>,
}

/// What a thread does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Which.
    pub thread: ThreadId,
    /// Whose it is.
    pub process: ProcessId,
    /// Its number.
    pub tid: Tid,
    /// What the kernel last had to say.
    pub state: State,
    /// Since when it has been asleep without a pause, by the clock of the
    /// recording: since the tick at which it was first found so; `None` for one
    /// that has run since the tick before.
    pub asleep_since: Option<Duration>,
}

/// So many updates may wait for whoever is told. It is never more than one or
/// two unless a terminal stalls, and then nobody would see them one by one.
const MOST_UNTAKEN: u64 = 8;

/// Whom to tell, and when.
pub(super) struct Teller<'a> {
    every: Duration,
    next: Instant,
    tell: Box<dyn FnMut(Live) + Send + 'a>,
    /// How many images and origins were told.
    modules: usize,
    origins: usize,
}

impl<'a> Teller<'a> {
    pub(super) fn new(every: Duration, tell: Box<dyn FnMut(Live) + Send + 'a>) -> Self {
        Self { every, next: Instant::now() + every, tell, modules: 0, origins: 0 }
    }

    /// Whether it is time, and whoever is told takes what is told. If not, it
    /// is asked again when the next is due.
    pub(super) fn is_due(&mut self, now: Instant, control: &Control) -> bool {
        if now < self.next {
            return false;
        }
        let is_taken = control.untaken.load(Ordering::Acquire) < MOST_UNTAKEN;
        if !is_taken {
            self.next = now + self.every;
        }
        is_taken
    }

    /// When it is next to be told.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn tell(&mut self, targets: &mut [Target], shared: &mut Shared, costs: Costs) {
        let now = Instant::now();
        // A pause is not made up for.
        self.next = (self.next + self.every).max(now);
        let mut found = Vec::new();
        for target in &mut *targets {
            target.tell(shared, &mut found);
        }
        let processes = targets.iter().map(Target::watched).collect();
        let modules: Vec<_> = shared.modules.iter().skip(self.modules).map(Arc::clone).collect();
        let origins = shared.origins.get(self.origins..).unwrap_or_default().to_vec();
        (self.modules, self.origins) = (self.modules + modules.len(), shared.origins.len());
        let (at, part) = (costs.duration, shared.profile.take_part());
        (self.tell)(Live { at, part, costs, now: found, processes, modules, origins });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_nothing_is_told_nothing_more() {
        let (control, every) = (Control::default(), Duration::from_millis(1));
        let mut teller = Teller::new(every, Box::new(|_| {}));
        let due = teller.next();
        assert!(!teller.is_due(due - every, &control), "too soon");
        assert!(teller.is_due(due, &control));
        control.untaken.store(MOST_UNTAKEN, Ordering::Release);
        assert!(!teller.is_due(due, &control));
        assert_eq!(teller.next(), due + every, "nor is it asked all the time");
        control.untaken.fetch_sub(1, Ordering::AcqRel);
        assert!(teller.is_due(teller.next(), &control));
    }
}
