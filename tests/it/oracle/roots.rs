//! How many stacks of running threads are whole.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use spy::stack::End;

use super::{
    capture::{self, Completed, Held},
    compare::Ours,
};

/// The most of one stack that is copied.
const MOST: u64 = 1 << 20;
/// A thread is looked at again when it has run for so long: other code runs
/// by then.
const BETWEEN: u64 = 500_000;
/// How long looking may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The ends of the stacks of running threads.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) counts: BTreeMap<End, usize>,
    /// How many that are not whole end in code that an image holds.
    pub(super) in_images: usize,
    /// Where the first few that are not whole end.
    pub(super) examples: Vec<String>,
}

impl Ends {
    pub(super) fn total(&self) -> usize {
        self.counts.values().sum()
    }

    pub(super) fn whole(&self) -> usize {
        self.counts.get(&End::Root).copied().unwrap_or_default()
    }
}

/// Catch running threads of `pid` `wanted` times.
pub(super) fn watch(pid: i32, wanted: usize) -> Ends {
    let limit = Instant::now() + PATIENCE;
    let mut ends = Ends::default();
    let mut ran = BTreeMap::new();
    let mut process = capture::process(pid);
    let mut ours = Ours::new(&process);
    while ends.total() < wanted && Instant::now() < limit {
        for tid in capture::threads(pid) {
            let now = capture::run_time(pid, tid);
            let due = ran.get(&tid).is_none_or(|before| now > before + BETWEEN);
            if !due || capture::state(pid, tid) != Some('R') {
                continue;
            }
            ran.insert(tid, now);
            let Some(held) = Held::new(tid) else { continue };
            // Code comes and goes while we look.
            process.mappings = capture::mappings(pid);
            let thread = capture::thread(&process, tid, &held, MOST);
            ours.update(&process);
            // A signal handler may have a stack of its own, beside the copied one.
            let memory = Completed::new(&process, &thread);
            let (frames, walk) = ours.unwind(&thread, &memory);
            drop(held);
            *ends.counts.entry(walk.end).or_default() += 1;
            let last = frames.last().is_some_and(|(module, _)| module.is_some());
            ends.in_images += usize::from(walk.end != End::Root && last);
            if walk.end != End::Root && ends.examples.len() < 5 {
                let listing: Vec<String> =
                    frames.iter().map(|&point| ours.describe(point)).collect();
                ends.examples.push(format!(
                    "{walk:?} {:?}\n{}",
                    thread.registers,
                    listing.join("\n")
                ));
            }
        }
    }
    ends
}
