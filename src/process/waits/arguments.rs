//! What lies behind the arguments of a system call, in the target's memory.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::{
    memory::{Address, Memory, Plain},
    wait::{Timeout, calls::Limit},
};

/// The arguments of a call, and the memory that they point into.
pub(super) struct Arguments<'a> {
    pub(super) memory: &'a dyn Memory,
    pub(super) values: [u64; 6],
    /// Whether clocks that count from the machine's start are the target's,
    /// too: a namespace may have them shifted.
    pub(super) same_clocks: bool,
}

/// A `struct flock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flock {
    pub(super) exclusive: Option<bool>,
    /// The first and the last byte, where they are counted from the start.
    pub(super) range: Option<(u64, Option<u64>)>,
}

/// The most entries of `poll`, and the highest descriptor of `select`, that
/// are looked at.
const MOST: usize = 4096;

impl Arguments<'_> {
    /// An argument; 0 for one that does not exist.
    pub(super) fn value(&self, index: usize) -> u64 {
        self.values.get(index).copied().unwrap_or_default()
    }

    /// An argument that is an `int`.
    pub(super) fn int(&self, index: usize) -> i32 {
        let [a, b, c, d, ..] = self.value(index).to_le_bytes();
        i32::from_le_bytes([a, b, c, d])
    }

    /// What an argument points to; `None` for a null pointer, too.
    fn behind<T: Plain>(&self, index: usize, offset: u64) -> Option<T> {
        let at = Some(self.value(index)).filter(|at| *at != 0)?;
        self.memory.get(Address(at).plus(offset)).ok()
    }

    /// When the call ends by itself.
    pub(super) fn timeout(&self, limit: Limit) -> Option<Timeout> {
        /// `TIMER_ABSTIME` of `clock_nanosleep`.
        const ABSOLUTE: u64 = 1;
        match limit {
            Limit::None => None,
            Limit::Milliseconds(index) => {
                let millis = u64::try_from(self.int(index)).ok()?;
                Some(Timeout::After(Duration::from_millis(millis)))
            }
            Limit::Span(index) => self.span(index, 1).map(Timeout::After),
            Limit::Micro(index) => self.span(index, 1000).map(Timeout::After),
            Limit::Moment(index) => Some(self.at(index, libc::CLOCK_REALTIME)?),
            Limit::Sleep if self.value(1) & ABSOLUTE != 0 => self.at(2, self.int(0)),
            Limit::Sleep => self.span(2, 1).map(Timeout::After),
            Limit::Futex => self.futex_timeout(),
            Limit::Waitv => self.at(3, self.int(4)),
        }
    }

    /// `man 2 futex`, "Timeouts".
    fn futex_timeout(&self) -> Option<Timeout> {
        let clock = match self.int(1) & libc::FUTEX_CLOCK_REALTIME {
            0 => libc::CLOCK_MONOTONIC,
            _ => libc::CLOCK_REALTIME,
        };
        match self.int(1) & libc::FUTEX_CMD_MASK {
            libc::FUTEX_WAIT => self.span(3, 1).map(Timeout::After),
            libc::FUTEX_LOCK_PI => self.at(3, libc::CLOCK_REALTIME),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI | libc::FUTEX_LOCK_PI2 => {
                self.at(3, clock)
            }
            _ => None,
        }
    }

    /// Seconds and a fraction, in units of `nanos`.
    fn span(&self, index: usize, nanos: u64) -> Option<Duration> {
        let seconds = u64::try_from(self.behind::<i64>(index, 0)?).ok()?;
        let fraction = u64::try_from(self.behind::<i64>(index, 8)?).ok()?;
        let fraction = Duration::from_nanos(fraction.checked_mul(nanos)?);
        Duration::from_secs(seconds).checked_add(fraction)
    }

    /// A time of a clock.
    fn at(&self, index: usize, clock: i32) -> Option<Timeout> {
        let then = self.span(index, 1)?;
        let readable = match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_TAI => true,
            libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME => self.same_clocks,
            _ => false,
        };
        let now = || clock_gettime(ClockId::from_raw(clock)).ok().map(Duration::from);
        let now = readable.then(now).flatten();
        Some(Timeout::At(now.map(|now| then.saturating_sub(now))))
    }

    /// The set of signals behind an argument.
    pub(super) fn signals(&self, index: usize) -> Option<u64> {
        self.behind(index, 0)
    }

    /// The `struct flock` behind argument 2.
    pub(super) fn flock(&self) -> Option<Flock> {
        let exclusive = match i32::from(self.behind::<i16>(2, 0)?) {
            libc::F_WRLCK => Some(true),
            libc::F_RDLCK => Some(false),
            _ => None,
        };
        let whence = i32::from(self.behind::<i16>(2, 2)?);
        let first = u64::try_from(self.behind::<i64>(2, 8)?).ok();
        let len = u64::try_from(self.behind::<i64>(2, 16)?).ok();
        let range = match (whence, first, len) {
            (libc::SEEK_SET, Some(first), Some(0)) => Some((first, None)),
            (libc::SEEK_SET, Some(first), Some(len)) => {
                first.checked_add(len - 1).map(|last| (first, Some(last)))
            }
            _ => None,
        };
        Some(Flock { exclusive, range })
    }

    /// The descriptors of a `poll`: at most `most`, and how many there are.
    /// Those that are negative are left out, as the kernel does.
    pub(super) fn polled(&self, most: usize) -> Option<(usize, Vec<i32>)> {
        // `struct pollfd` is a descriptor, and two words of two bytes each.
        const ENTRY: usize = 8;
        let count = usize::try_from(self.value(1)).ok()?;
        let bytes = self.array(0, count.min(MOST) * ENTRY)?;
        let all = bytes.chunks_exact(ENTRY).filter_map(i32::decode).filter(|fd| *fd >= 0);
        let all: Vec<i32> = all.collect();
        let count = if count <= MOST { all.len() } else { count };
        Some((count, all.into_iter().take(most).collect()))
    }

    /// The same of a `select`.
    pub(super) fn selected(&self, most: usize) -> Option<(usize, Vec<i32>)> {
        let highest = usize::try_from(self.int(0)).ok()?.min(MOST);
        let words = highest.div_ceil(64);
        let mut union = vec![0; words];
        for set in 1..=3 {
            if self.value(set) == 0 {
                continue;
            }
            let bytes = self.array(set, words * 8)?;
            for (word, bytes) in union.iter_mut().zip(bytes.chunks_exact(8)) {
                *word |= u64::decode(bytes)?;
            }
        }
        let is_in = |fd: &usize| union.get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 == 1);
        let all: Vec<i32> =
            (0..highest).filter(is_in).filter_map(|fd| i32::try_from(fd).ok()).collect();
        Some((all.len(), all.into_iter().take(most).collect()))
    }

    fn array(&self, index: usize, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        if len > 0 {
            self.memory.read(Address(self.value(index)), &mut bytes).ok()?;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Piece;

    fn piece(words: &[u64]) -> Piece {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Piece { start: Address(0x1000), bytes }
    }

    fn arguments(memory: &Piece, values: [u64; 6]) -> Arguments<'_> {
        Arguments { memory, values, same_clocks: true }
    }

    #[test]
    fn timeouts_are_what_the_manual_says() {
        let memory = piece(&[2, 500_000, u64::MAX, 0, 1, u64::MAX]);
        let check = |limit, values, expected: Option<u64>| {
            let timeout = arguments(&memory, values).timeout(limit);
            let expected = expected.map(|micros| Timeout::After(Duration::from_micros(micros)));
            assert_eq!(timeout, expected, "{limit:?} {values:x?}");
        };
        check(Limit::Milliseconds(3), [0, 0, 0, 100, 0, 0], Some(100_000));
        // An int: what is above it is none of it.
        check(Limit::Milliseconds(3), [0, 0, 0, 0xffff_ffff, 0, 0], None);
        check(Limit::Milliseconds(3), [0, 0, 0, u64::MAX, 0, 0], None);
        check(Limit::Span(0), [0x1000, 0, 0, 0, 0, 0], Some(2_000_500));
        check(Limit::Micro(0), [0x1000, 0, 0, 0, 0, 0], Some(2_500_000));
        check(Limit::Span(0), [0; 6], None);
        check(Limit::Span(0), [0x9000, 0, 0, 0, 0, 0], None);
        check(Limit::Span(0), [0x1010, 0, 0, 0, 0, 0], None);
        check(Limit::Span(0), [0x1020, 0, 0, 0, 0, 0], None);
        check(Limit::Span(0), [u64::MAX, 0, 0, 0, 0, 0], None);
        check(Limit::Sleep, [1, 0, 0x1000, 0, 0, 0], Some(2_000_500));
        check(Limit::Futex, [0, 128, 2, 0x1000, 0, 0], Some(2_000_500));
    }

    #[test]
    fn a_time_of_a_clock_is_told_from_now() {
        let memory = piece(&[u64::MAX >> 8, 0, 0, 1]);
        let sleep = |clock, at| {
            let arguments = arguments(&memory, [clock, 1, at, 0, 0, 0]);
            arguments.timeout(Limit::Sleep)
        };
        assert!(
            matches!(sleep(1, 0x1000), Some(Timeout::At(Some(left))) if left.as_secs() > 1 << 50)
        );
        assert_eq!(sleep(0, 0x1010), Some(Timeout::At(Some(Duration::ZERO))));
        // The CPU time of a process of the target's.
        assert_eq!(sleep(0xffff_fff0, 0x1000), Some(Timeout::At(None)));
        let elsewhere =
            Arguments { same_clocks: false, ..arguments(&memory, [1, 1, 0x1000, 0, 0, 0]) };
        assert_eq!(elsewhere.timeout(Limit::Sleep), Some(Timeout::At(None)));
    }

    #[test]
    fn descriptors_of_poll_and_select_are_bounded() {
        let entry = |fd: i32| u64::from(fd.cast_unsigned()) | 1 << 32;
        let memory = piece(&[entry(5), entry(-1), entry(7), entry(9)]);
        let poll = |at, count| arguments(&memory, [at, count, 0, 0, 0, 0]).polled(2);
        assert_eq!(poll(0x1000, 4), Some((3, vec![5, 7])));
        assert_eq!(poll(0x1000, 0), Some((0, vec![])));
        assert_eq!(poll(0x1000, 5), None);
        assert_eq!(poll(0x1000, u64::MAX), None);
        let memory = piece(&[1 << 3 | 1 << 63, 1 << 1, 1 << 4, 1 << 1]);
        let select = |values| arguments(&memory, values).selected(8);
        assert_eq!(select([66, 0x1000, 0, 0, 0, 0]), Some((3, vec![3, 63, 65])));
        assert_eq!(select([65, 0x1000, 0x1010, 0, 0, 0]), Some((3, vec![3, 4, 63])));
        assert_eq!(select([0, 0, 0, 0, 0, 0]), Some((0, vec![])));
        assert_eq!(select([u64::MAX, 0x1000, 0, 0, 0, 0]), None);
        assert_eq!(select([1 << 30, 0x1000, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_lock_of_a_file_has_a_range() {
        // Exclusive, from the start; then bytes 120 to 127, then all after 8.
        let memory = piece(&[1, 120, 8, 0, 8, 0, 1 << 16, 0, 0]);
        let at = |at| arguments(&memory, [0, 0, at, 0, 0, 0]).flock();
        let range = Some((120, Some(127)));
        assert_eq!(at(0x1000), Some(Flock { exclusive: Some(true), range }));
        assert_eq!(at(0x1018), Some(Flock { exclusive: Some(false), range: Some((8, None)) }));
        // Counted from where the file stands.
        assert_eq!(at(0x1030), Some(Flock { exclusive: Some(false), range: None }));
        assert_eq!(at(0x1040), None);
        assert_eq!(at(0), None);
    }
}
