//! Numbers as people type them: process numbers, rates, times.

use std::time::Duration;

use super::args::Span;
use crate::task::Pid;

/// The rates that make sense. Beyond the upper one, threads would be stopped
/// for longer than they run.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=20_000.0;

/// The longest time: a year. More is a slip of the finger.
const LONGEST: f64 = 366.0 * 24.0 * 3600.0;

const NO_PID: &str = "a process number is needed; `ps` or `pgrep NAME` tell it";

/// A process number, in decimal, or in hexadecimal after `0x`.
pub(super) fn pid(text: &str) -> Result<Pid, String> {
    let text = text.trim();
    let number = match text.strip_prefix("0x") {
        // A sign is part of no digits.
        Some(digits) if digits.starts_with(['+', '-']) => return Err(NO_PID.to_owned()),
        Some(digits) => i32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match number {
        Ok(pid @ 1..) => Ok(Pid(pid)),
        Ok(_) => Err("a process number is greater than 0".to_owned()),
        Err(_) => Err(NO_PID.to_owned()),
    }
}

/// A rate, in hertz: `100`, `100hz`, `1khz`.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "hz" => 1.0,
        "khz" => 1000.0,
        _ => return Err("a rate is a number, or one with hz or khz".to_owned()),
    };
    let rate = number.parse::<f64>().map_err(|_| "a rate is a number, as 100".to_owned())? * factor;
    if RATES.contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("a rate is between {} and {} Hz", RATES.start(), RATES.end()))
    }
}

/// A time: `10`, `10s`, `500ms`, `2m`, `1h`, or `unlimited`.
pub(super) fn duration(text: &str) -> Result<Span, String> {
    if text.trim().eq_ignore_ascii_case("unlimited") {
        return Ok(Span::Unlimited);
    }
    let (number, unit) = split(text);
    let seconds = match unit.to_ascii_lowercase().as_str() {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is a number with ms, s, m or h".to_owned()),
    };
    let time =
        number.parse::<f64>().map_err(|_| "a time is a number, as 10s".to_owned())? * seconds;
    // Not-a-number is in no range.
    if !(0.001..=LONGEST).contains(&time) {
        return Err("a time is between 1ms and a year".to_owned());
    }
    Duration::try_from_secs_f64(time).map(Span::Time).map_err(|error| error.to_string())
}

/// The shortest time after which to show something anew: faster than anybody
/// reads, and slow enough to cost little.
const SHORTEST_DELAY: Duration = Duration::from_millis(100);

/// A time after which something happens: not less than a tenth of a second.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Span::Time(time) if time >= SHORTEST_DELAY => Ok(time),
        Span::Time(_) | Span::Unlimited => Err("a time is between 100ms and a year".to_owned()),
    }
}

/// The number, and the letters after it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let unit = text.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic());
    let number = text.strip_suffix(unit).unwrap_or(text);
    (number.trim(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, millis: u64| {
            assert_eq!(duration(text), Ok(Span::Time(Duration::from_millis(millis))), "{text}");
        };
        check("10", 10_000);
        check("10s", 10_000);
        check("500ms", 500);
        check("1.5s", 1_500);
        check("2m", 120_000);
        check("2 min", 120_000);
        check("1h", 3_600_000);
        assert_eq!(duration("unlimited"), Ok(Span::Unlimited));
        for text in ["", "0", "-1", "s", "10x", "1e999", "nan", "inf", "-inf", "9999999h", "1 0"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, hertz) in [("100", 100.0), ("100hz", 100.0), ("100 Hz", 100.0), ("1khz", 1000.0)]
        {
            assert_eq!(rate(text), Ok(hertz), "{text}");
        }
        for text in ["", "0", "-1", "nan", "inf", "1e300", "1e-300", "10ms", "khz", "1mhz"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn process_numbers() {
        assert_eq!(pid("4711"), Ok(Pid(4711)));
        assert_eq!(pid("0x1267"), Ok(Pid(4711)));
        assert_eq!(pid("0xfF"), Ok(Pid(255)));
        for text in ["0x", "0x0", "0x-1", "0x+1", "0x80000000", "0xg", "1267h"] {
            assert!(pid(text).is_err(), "{text}");
        }
        for text in ["", "0", "-1", "nginx", "1.5", "99999999999"] {
            assert!(pid(text).is_err(), "{text}");
        }
    }
}
