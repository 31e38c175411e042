//! The name of a file that was given none: `spy-NAME-PID-TIME.svg`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::task::Pid;

/// The longest name of a program in a file's name.
const LONGEST: usize = 40;

/// A name for a file about the program `name`, with a UTC time of
/// `20261123T025604Z`.
pub(super) fn file(name: &str, pid: Option<Pid>, extension: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let pid = pid.map(|pid| format!("-{pid}")).unwrap_or_default();
    format!("spy-{}{pid}-{}.{extension}", harmless(name), utc(now.as_secs()))
}

/// Letters that no shell and no file system reads anything into.
fn harmless(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let name: String =
        name.chars().take(LONGEST).map(|it| if plain(it) { it } else { '_' }).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// Seconds since 1970 as a time of the Gregorian calendar.
///
/// Years are counted from March, so that a leap day is the last of its year;
/// 400 of them have 146,097 days, and five months in turn 153.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (400 * era + year, month + 3),
        _ => (400 * era + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // The seconds are those of `date -u -d … +%s`.
        assert_eq!(utc(0), "19700101T000000Z");
        assert_eq!(utc(951_782_399), "20000228T235959Z");
        assert_eq!(utc(951_782_400), "20000229T000000Z");
        assert_eq!(utc(1_709_251_199), "20240229T235959Z");
        assert_eq!(utc(1_795_402_564), "20261123T025604Z");
        assert_eq!(utc(4_107_542_399), "21000228T235959Z");
        assert_eq!(utc(4_107_542_400), "21000301T000000Z");
    }

    #[test]
    fn names_are_harmless() {
        assert_eq!(harmless("python3.11"), "python3.11");
        assert_eq!(harmless("../a b\x1b"), ".._a_b_");
        assert_eq!(harmless(""), "unnamed");
        assert!(file("nginx: w", Some(Pid(7)), "svg").starts_with("spy-nginx__w-7-2"));
    }
}
