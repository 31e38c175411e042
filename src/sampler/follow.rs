//! When to look for new descendants of the targets.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

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
/// at most one part in so many of a processor, on average: where processes
/// begin by the hundred a second they are found later.
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

    /// What has begun, if it is time to look; [`rest`](Self::rest) is told
    /// when all was done that follows from it.
    pub(super) fn look(&mut self, now: Instant) -> Option<(Found, Began)> {
        if now < self.ask {
            return None;
        }
        self.ask = now + ASK;
        // Asked before the look: what begins during it is found by the next.
        if !self.family.may_have_grown() && now < self.sure {
            return None;
        }
        let began = Began { at: now, used: used() };
        Some((self.look_now(now), began))
    }

    /// What has begun.
    pub(super) fn look_now(&mut self, now: Instant) -> Found {
        self.sure = now + SURE;
        self.family.look()
    }

    /// All was done that follows from the look that began so.
    pub(super) fn rest(&mut self, began: Began) {
        let took = used().saturating_sub(began.used);
        self.ask = self.ask.max(began.at + took * SHARE);
    }
}

/// When a look began, and what CPU time this thread had used before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    at: Instant,
    used: Duration,
}

/// The CPU time that this thread has used. Time that others take from it on a
/// busy machine is no reason to look less often.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
