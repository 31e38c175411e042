//! What watching cost, and what was lost.

use std::time::Duration;

use crate::stack::End;

/// What the profiler did and cost. Everything a reader needs in order to trust
/// a profile, or not to.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// How long the recording lasted.
    pub duration: Duration,
    /// Ticks that the rate asked for in that time.
    pub ticks_wanted: u64,
    /// Ticks that were made.
    pub ticks: u64,
    /// Ticks that began later than half a period after their time.
    pub ticks_late: u64,
    /// Samples of single threads, by how they were got.
    pub caught: Caught,
    /// Nanoseconds that a thread was held, one value a stop.
    pub held: Histogram,
    /// Nanoseconds from the first sight of the target to its first sample.
    pub first_sample: Duration,
    /// CPU time that this program used.
    pub own_cpu: Duration,
    /// The most memory that this program had resident, in bytes.
    pub own_memory: u64,
    /// Stacks by their end, in the order of [`End::ALL`].
    pub ends: [u64; End::ALL.len()],
    /// Samples whose native and managed frames did not fit together.
    pub unmerged: u64,
    /// CPU time of all targets, as the kernel counted it.
    pub kernel_cpu: Duration,
    /// The part of that which the samples of threads that ran stand for: the
    /// rest was used by threads that were not seen to run since.
    pub sampled_cpu: Duration,
    /// System calls made in order to read the targets.
    pub system_calls: u64,
    /// Processes, by what became of them.
    pub met: Met,
    /// What had to be done another way than wanted, a sentence each.
    pub notes: Vec<String>,
}

/// Processes that were to be watched, by what became of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// They were watched.
    pub watched: u64,
    /// They were found, and had ended before they could be looked at. Those
    /// that begin and end between two looks are not found.
    pub missed: u64,
    /// They may not be watched.
    pub refused: u64,
}

/// Samples of single threads, by how they were got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// The thread was stopped.
    pub stopped: u64,
    /// It was blocked, and was read without a stop.
    pub still: u64,
    /// It had not run since its last sample, whose stack was counted again.
    pub unchanged: u64,
    /// It ran, and its managed frames were read without a stop.
    pub glanced: u64,
    /// Its state is known but its stack is not: it ended, did not stop in
    /// time, or may not be stopped.
    pub missed: u64,
    /// Of those: its managed frames changed whenever they were read.
    pub torn: u64,
    /// Held for as long as is allowed before everything was copied.
    pub partial: u64,
    /// Stopped asleep, because the kernel does not say where it slept.
    pub blind: u64,
}

impl Caught {
    /// All samples of single threads.
    pub const fn total(&self) -> u64 {
        self.stopped + self.still + self.unchanged + self.glanced + self.missed
    }
}

/// Values counted in buckets of a sixteenth of their size, so that a quantile
/// is within about 6 % whatever was counted, in constant memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Sub-buckets of each power of two, as a power of two.
    const BITS: u32 = 4;

    /// Count `value`.
    pub fn add(&mut self, value: u64) {
        let bucket = Self::bucket(value);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(slot) = self.buckets.get_mut(bucket) {
            *slot += 1;
        }
        self.count += 1;
        self.total = self.total.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The largest.
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of the values do not exceed; 0 when
    /// nothing was counted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a count of values times a share of them is a count of values"
    )]
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::upper(bucket).min(self.max);
            }
        }
        self.max
    }

    fn bucket(value: u64) -> usize {
        let high = value.checked_ilog2().unwrap_or(0);
        let shift = high.saturating_sub(Self::BITS);
        let within = value >> shift;
        let bucket = (u64::from(shift) << Self::BITS) + within;
        usize::try_from(bucket).unwrap_or(usize::MAX)
    }

    /// The largest value that is counted in `bucket`.
    fn upper(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        let sub = 1 << Self::BITS;
        let shift = (bucket / sub).saturating_sub(1);
        let within = bucket - shift * sub;
        ((within + 1) << shift) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_sixteenth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        for value in 1..=100_000 {
            histogram.add(value);
        }
        for (share, exact) in [(0.5, 50_000), (0.95, 95_000), (0.99, 99_000), (1.0, 100_000)] {
            let found = histogram.quantile(share);
            assert!(found >= exact && found <= exact + exact / 16, "{share}: {found}");
        }
        assert_eq!(histogram.max(), 100_000);
        assert_eq!(histogram.total(), 5_000_050_000);
    }
}
