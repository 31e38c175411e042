//! The time of day where the machine is.

use std::mem::MaybeUninit;

/// Hour, minute and second of the time zone that the environment or the system
/// names, at so many seconds since 1970; `None` for a time beyond its calendar.
pub(crate) fn local(seconds: i64) -> Option<[u8; 3]> {
    let seconds: libc::time_t = seconds;
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both are ours, and live until the call returns.
    let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: it was filled, and every bit pattern of it is valid but that of
    // a pointer, which is not followed.
    let parts = unsafe { parts.assume_init() };
    let part = |number: i32| u8::try_from(number).ok();
    Some([part(parts.tm_hour)?, part(parts.tm_min)?, part(parts.tm_sec)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_minutes_are_those_of_the_calendar() {
        // No zone differs from UTC by less than a quarter of an hour.
        let [hour, minute, second] = local(1_795_402_564).unwrap();
        assert!(hour < 24);
        assert_eq!((minute % 15, second), (56 % 15, 4));
        assert_eq!(local(i64::MAX), None);
    }
}
