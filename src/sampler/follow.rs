//! When to look for new descendants of the targets.

use std::time::{Duration, Instant};

use crate::{
    process::children::{Family, Found},
    task::Pid,
};

/// Whether any process has begun is asked this often: what lives for less may
/// not be met.
const ASK: Duration = Duration::from_millis(10);

/// So often they are looked for in any case: a look can be incomplete.
const SURE: Duration = Duration::from_secs(1);

/// To look for descendants, and to begin to watch those that were found, takes
/// at most one part in so many of the time, on average: where processes begin
/// by the hundred a second they are found later.
const SHARE: u32 = 20;

/// The targets and what descends from them.
#[derive(Debug)]
pub(super) struct Follower {
    family: Family,
    /// When to ask next.
    ask: Instant,
    /// When to look in any case.
    sure: Instant,
}

impl Follower {
    pub(super) fn new(targets: &[Pid], now: Instant) -> Self {
        Self { family: Family::of(targets), ask: now, sure: now }
    }

    /// What has begun, if it is time to look.
    pub(super) fn look(&mut self, now: Instant) -> Option<Found> {
        if now < self.ask {
            return None;
        }
        self.ask = now + ASK;
        // Asked before the look: what begins during it is found by the next.
        (self.family.may_have_grown() || now >= self.sure).then(|| self.look_now(now))
    }

    /// What has begun.
    pub(super) fn look_now(&mut self, now: Instant) -> Found {
        self.sure = now + SURE;
        self.family.look()
    }

    /// All was done that followed from a look at `began`.
    pub(super) fn rest(&mut self, began: Instant) {
        self.ask = self.ask.max(began + began.elapsed() * SHARE);
    }
}
