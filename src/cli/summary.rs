//! What is said at the end of a recording, and while it runs.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    output::{self, Mode, Options},
    profile::{Costs, Profile},
    sampler::Control,
    style::{bytes, count, share, time},
};

/// How many waits are told.
const WAITS: usize = 3;

/// At most five lines: what was written, what it cost, how far it can be
/// trusted, what else is to be known, and where the time went that is not
/// shown.
pub(super) fn lines(
    file: &str,
    profile: &Profile,
    costs: &Costs,
    options: &Options,
) -> Vec<String> {
    let samples = output::samples(profile, options);
    let mut lines = vec![
        format!(
            "Wrote {file}: {} {} samples{} in {}",
            count(samples),
            options.kind(),
            match costs.met.watched {
                0 | 1 => String::new(),
                several => format!(" of {} processes", count(several)),
            },
            time(costs.duration)
        ),
        cost(costs),
        trust(profile, costs, options),
    ];
    match costs.notes.as_slice() {
        [] => {}
        [note] => lines.push(format!("Note: {note}")),
        [note, more @ ..] => {
            lines.push(format!("Note: {note} (and {} more: --stats FILE)", more.len()));
        }
    }
    lines.extend(waits(profile, options.mode));
    lines
}

/// What it cost, to the target and to the machine.
fn cost(costs: &Costs) -> String {
    let own = nanos(costs.own_cpu);
    let held = |part| time(Duration::from_nanos(costs.held.quantile(part)));
    let stops = match costs.held.count() {
        0 => "no thread was stopped".to_owned(),
        stops => format!("{} stops of {} (p99 {})", count(stops), held(0.5), held(0.99)),
    };
    format!(
        "Cost: {stops}; spy used {} of a CPU, {}",
        share(own, nanos(costs.duration)),
        bytes(costs.own_memory)
    )
}

/// How far the samples are what the kernel saw.
fn trust(profile: &Profile, costs: &Costs, options: &Options) -> String {
    let mut text = format!(
        "CPU time: {} sampled, {} by the kernel",
        time(costs.sampled_cpu),
        time(costs.kernel_cpu)
    );
    if differ(costs.sampled_cpu, costs.kernel_cpu) {
        text += " (too far apart to trust how much of the time it ran)";
    }
    let (cut, all) = output::cut(profile, options);
    text += &format!("; {} of stacks cut", share(cut, all));
    text += &format!(", {} lost", share(costs.caught.missed, costs.caught.total()));
    if costs.caught.torn > 0 {
        text += &format!(", {} torn", share(costs.caught.torn, costs.caught.total()));
    }
    let unmade = costs.ticks_wanted.saturating_sub(costs.ticks);
    if unmade * 50 > costs.ticks_wanted {
        text += &format!(", {} of ticks not made", share(unmade, costs.ticks_wanted));
    }
    text
}

/// Whether two times that should be the same are further apart than the luck
/// of the draw explains: by a third, and by half a second.
fn differ(one: Duration, other: Duration) -> bool {
    let (less, more) = (one.min(other), one.max(other));
    more > less * 4 / 3 && more > less + Duration::from_millis(500)
}

/// Where blocked time went, since it was seen for nothing.
fn waits(profile: &Profile, mode: Mode) -> Option<String> {
    let waits = output::waits(profile);
    let all: u64 = waits.iter().map(|(_, ticks)| ticks).sum();
    let told: Vec<String> = waits
        .iter()
        .take(WAITS)
        // One that is next to nothing beside the first is noise.
        .filter(|(_, ticks)| ticks * 50 >= all)
        .map(|&(state, ticks)| {
            let wait = output::text::wait(state).unwrap_or_default();
            format!("{} {}", wait.trim_matches(['[', ']']), share(ticks, all))
        })
        .collect();
    let hint = if mode == Mode::OnCpu { "  (--wall shows where)" } else { "" };
    (!told.is_empty()).then(|| format!("Blocked time: {}{hint}", told.join(", ")))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The line that changes while a recording runs.
pub(super) fn progress(control: &Control, elapsed: Duration, whole: Option<Duration>) -> String {
    let clock = |time: Duration| format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    let of = whole.map(|whole| format!(" / {}", clock(whole))).unwrap_or_default();
    let ticks = control.ticks.load(Ordering::Relaxed);
    let rate = u128::from(ticks) * 10_000 / elapsed.as_millis().max(1);
    let processes = match control.processes.load(Ordering::Relaxed) {
        0 | 1 => String::new(),
        several => format!(" in {} processes", count(several)),
    };
    format!(
        "{}{of}  {} running, {} blocked{processes} at {}.{} Hz  (Ctrl-C ends and writes)",
        clock(elapsed),
        count(control.running.load(Ordering::Relaxed)),
        count(control.blocked.load(Ordering::Relaxed)),
        rate / 10,
        rate % 10,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luck_is_no_reason_to_doubt() {
        let differ = |one, other| differ(Duration::from_millis(one), Duration::from_millis(other));
        assert!(!differ(0, 0) && !differ(0, 400) && !differ(3000, 2900) && !differ(9000, 10_000));
        assert!(differ(640, 2900) && differ(2900, 640) && differ(0, 600));
    }
}
