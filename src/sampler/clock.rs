//! When to look.

use std::time::{Duration, Instant};

/// The times of the ticks: one at random in each period, so that there are as
/// many as the rate asks for and a program with a rhythm of its own cannot
/// hide between them.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    period: Duration,
    next: u64,
    random: fastrand::Rng,
}

/// A time to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick {
    /// When.
    pub at: Instant,
    /// How many ticks were given up before it, because their time had passed.
    pub skipped: u64,
}

impl Clock {
    /// A clock that starts now, for `rate` ticks a second.
    pub(super) fn new(rate: f64, random: fastrand::Rng) -> Self {
        let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
        let period = period.clamp(Duration::from_nanos(1), LONGEST);
        Self { start: Instant::now(), period, next: 0, random }
    }

    pub(super) const fn period(&self) -> Duration {
        self.period
    }

    /// The next tick. Ticks whose whole period has passed are skipped: to make
    /// up for them would put many looks in one moment.
    pub(super) fn next(&mut self, now: Instant) -> Tick {
        let nanos = self.period.as_nanos().max(1);
        let passed = now.saturating_duration_since(self.start).as_nanos() / nanos;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let skipped = passed.saturating_sub(self.next);
        let index = self.next + skipped;
        self.next = index + 1;
        let within = self.period.mul_f64(self.random.f64());
        let before = u128::from(index) * nanos;
        let offset = Duration::from_nanos(u64::try_from(before).unwrap_or(u64::MAX));
        let at = self.start.checked_add(offset + within);
        Tick { at: at.unwrap_or(now + LONGEST), skipped }
    }
}

/// The longest period: one look a day.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tick_in_each_period_at_a_random_place() {
        let mut clock = Clock::new(1000.0, fastrand::Rng::with_seed(7));
        let mut places = Vec::new();
        for index in 0..1000 {
            let tick = clock.next(clock.start);
            assert_eq!(tick.skipped, 0);
            let offset = tick.at.duration_since(clock.start).as_nanos();
            assert_eq!(offset / 1_000_000, index);
            places.push(offset % 1_000_000);
        }
        for tenth in 0..10 {
            let range = tenth * 100_000..(tenth + 1) * 100_000_u128;
            let share = places.iter().filter(|place| range.contains(*place)).count();
            assert!((60..140).contains(&share), "{share} of 1000 in tenth {tenth}");
        }
    }

    #[test]
    fn what_has_passed_is_skipped_and_counted() {
        let mut clock = Clock::new(1000.0, fastrand::Rng::with_seed(7));
        clock.next(clock.start);
        let late = clock.start + Duration::from_micros(5_500);
        let tick = clock.next(late);
        assert_eq!(tick.skipped, 4);
        assert_eq!(tick.at.duration_since(clock.start).as_millis(), 5);
    }
}
