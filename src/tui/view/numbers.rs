//! Numbers in few cells, and how they change.

use std::time::Duration;

use super::Letters;

/// A share as percent, without the sign: `41.2`. What is not nothing does not
/// read as nothing, and what is not all not as all.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        "-".to_owned()
    } else if percent > 0.0 && percent < 0.05 {
        "<0.1".to_owned()
    } else if (99.95..100.0).contains(&percent) {
        "99.9".to_owned()
    } else if percent.abs() >= 1000.0 {
        format!("{:.0}", percent.min(99_999.0))
    } else {
        // Not `-0.0`.
        format!("{:.1}", percent.max(0.0))
    }
}

/// Half the width of an interval, likewise.
pub(super) fn margin(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if !percent.is_finite() => "-".to_owned(),
        ..9.95 => format!("{:.1}", percent.max(0.0)),
        _ => format!("{:.0}", percent.min(100.0)),
    }
}

/// A change of a share, in points of percent, with its sign: `+3.4`.
pub(super) fn change(change: f64) -> String {
    let points = change * 100.0;
    if !points.is_finite() {
        "-".to_owned()
    } else if points.abs() < 0.05 {
        "0.0".to_owned()
    } else {
        format!("{points:+.1}")
    }
}

/// A share as percent, in a sentence: `91 %`.
pub(super) fn whole(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if !percent.is_finite() => "-".to_owned(),
        ..=0.0 => "0 %".to_owned(),
        ..0.05 => "<0.1 %".to_owned(),
        ..9.95 => format!("{percent:.1} %"),
        99.5..100.0 => "99 %".to_owned(),
        _ => format!("{:.0} %", percent.min(99_999.0)),
    }
}

/// How long something has been going on: `00:42`, `1:02:03`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes:02}:{seconds:02}"),
        1..24 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} d {}:{minutes:02}", hours / 24, hours % 24),
    }
}

/// How long ago, in six cells: `12 ms`, `41 s`, `12m05s`, `3h12m`, `9d23h`.
pub(super) fn ago(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The letters for how high something is, the lowest first. The first is for
/// nothing at all.
pub(super) const fn steps(letters: Letters) -> &'static [char] {
    match letters {
        Letters::Unicode => &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        Letters::Ascii => &[' ', '.', ':', '-', '=', '+', '*', '#'],
    }
}

/// How high `value` is on a scale from 0 to `top`, as a letter.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "there are nine letters at most"
)]
pub(super) fn step(value: f64, top: f64, letters: Letters) -> char {
    let steps = steps(letters);
    let highest = steps.len() - 1;
    if value.is_nan() || top.is_nan() || value <= 0.0 || top <= 0.0 {
        return steps[0];
    }
    let height = (value / top).min(1.0) * highest as f64;
    steps[(height.round() as usize).clamp(1, highest)]
}

/// A line of values, the newest at its end, in `cells` cells: a letter each, or
/// the mean of several where there are more.
#[expect(clippy::cast_precision_loss, reason = "there are some hundred at most")]
pub(super) fn spark(values: &[f64], top: f64, cells: usize, letters: Letters) -> String {
    if values.len() <= cells {
        let blank = " ".repeat(cells - values.len());
        return blank + &values.iter().map(|&v| step(v, top, letters)).collect::<String>();
    }
    (0..cells)
        .map(|cell| {
            let from = cell * values.len() / cells;
            let to = ((cell + 1) * values.len() / cells).max(from + 1);
            let part = &values[from..to];
            step(part.iter().sum::<f64>() / part.len() as f64, top, letters)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_tell_little_from_nothing_and_much_from_all() {
        let texts = [0.0, 0.0004, 0.412, 0.9999, 1.0, 1.43, -0.0001, f64::NAN].map(percent);
        assert_eq!(texts, ["0.0", "<0.1", "41.2", "99.9", "100.0", "143.0", "0.0", "-"]);
        assert_eq!([0.018, 0.12, f64::INFINITY].map(margin), ["1.8", "12", "-"]);
        assert_eq!([0.034, -0.12, 0.0, -0.0001].map(change), ["+3.4", "-12.0", "0.0", "0.0"]);
        assert_eq!(
            [0.0, 0.0001, 0.008, 0.91, 0.999].map(whole),
            ["0 %", "<0.1 %", "0.8 %", "91 %", "99 %"]
        );
    }

    #[test]
    fn times_stay_short() {
        let times = [0, 42, 3723, 90_000].map(|s| clock(Duration::from_secs(s)));
        assert_eq!(times, ["00:00", "00:42", "1:02:03", "1 d 1:00"]);
        let times =
            [12, 59_990, 725_000, 11_520_000, 860_400_000].map(|ms| ago(Duration::from_millis(ms)));
        assert_eq!(times, ["12 ms", "59 s", "12m05s", "3h12m", "9d23h"]);
    }

    #[test]
    fn a_line_of_values_ends_with_the_newest() {
        let line = |values: &[f64], cells| spark(values, 1.0, cells, Letters::Unicode);
        assert_eq!(line(&[0.0, 0.001, 0.5, 1.0, 9.0], 7), "   ▁▄██");
        assert_eq!(line(&[0.0, 0.0, 1.0, 1.0], 2), " █");
        assert_eq!(line(&[], 3), "   ");
        assert_eq!(line(&[f64::NAN, f64::INFINITY], 2), " █");
        assert_eq!(spark(&[0.0, 0.01, 1.0], 1.0, 3, Letters::Ascii), " .#");
        assert_eq!(spark(&[1.0, 1.0], 0.0, 1, Letters::Ascii), " ");
    }
}
