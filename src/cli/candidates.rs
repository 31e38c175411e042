//! The processes that could be meant when none was named.

use std::{
    collections::HashMap,
    io::{self, BufRead},
    thread,
    time::Duration,
};

use procfs::process::Stat;

use super::{console::Console, exit::Failure, target, typed};
use crate::{
    process::access::{self, Reason},
    style::{Role, clip, escape},
    task::Pid,
};

/// How long processes are looked at to see which of them use the CPU.
const LOOK: Duration = Duration::from_millis(200);

/// How many are listed.
const MOST: usize = 15;

/// A process that could be meant.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    pid: Pid,
    /// Of one CPU, while it was looked at.
    percent: f64,
    /// Since its start, in the kernel's ticks.
    used: u64,
    command: String,
}

/// Have one chosen, by who sits at the terminal; or the only one.
pub(super) fn choose(console: &Console) -> anyhow::Result<Pid> {
    let candidates = find();
    if !console.answers {
        let list = list(&candidates, console);
        let mut what = "which process? none was named, and there is nobody to ask".to_owned();
        if !list.is_empty() {
            what = format!("{what}; these could be meant:\n{list}");
        }
        let pid = candidates.first().map_or_else(|| "PID".to_owned(), |it| it.pid.to_string());
        return Err(Failure::usage(what).fix(format!("{} -p {pid}", typed::again())).into());
    }
    match candidates.as_slice() {
        [] => Err(Failure::usage("there is no process that could be watched").into()),
        [only] => {
            console.say(&format!("Taking the only candidate: {} ({})", only.pid, only.command));
            Ok(only.pid)
        }
        several => ask(several, console),
    }
}

fn ask(candidates: &[Candidate], console: &Console) -> anyhow::Result<Pid> {
    console.say(&list(candidates, console));
    loop {
        console.say("Which process? Its number, or Enter for the first:");
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 {
            return Err(Failure::usage("no process was chosen").into());
        }
        match answered(answer.trim(), candidates) {
            Ok(pid) => return Ok(pid),
            Err(why) => console.warn(&why),
        }
    }
}

/// The process that an answer means, or why it means none.
fn answered(answer: &str, candidates: &[Candidate]) -> Result<Pid, String> {
    match (answer, candidates) {
        ("", [first, ..]) => Ok(first.pid),
        (answer, _) => {
            let pid = super::quantity::pid(answer);
            let pid = pid.map_err(|why| format!("`{}` is no answer: {why}", escape(answer)))?;
            target::check(pid).map(|()| pid).map_err(|failure| failure.to_string())
        }
    }
}

fn list(candidates: &[Candidate], console: &Console) -> String {
    let mut lines = vec![console.err.text(Role::Strong, "    PID   CPU %  COMMAND").to_string()];
    for candidate in candidates {
        let Candidate { pid, percent, command, .. } = candidate;
        lines.push(format!("{:>7} {percent:>7.1}  {}", pid.to_string(), clip(command, 60)));
    }
    if candidates.is_empty() { String::new() } else { lines.join("\n") }
}

/// The processes that may be watched, and are neither this program nor its
/// ancestors (the shell, the session): those that use the CPU most first.
fn find() -> Vec<Candidate> {
    let before: HashMap<i32, u64> = stats().map(|stat| (stat.pid, used(&stat))).collect();
    thread::sleep(LOOK);
    let ancestors = ancestors();
    let hertz = procfs::ticks_per_second();
    let mut candidates = Vec::new();
    for stat in stats() {
        let Some(&was) = before.get(&stat.pid) else { continue };
        if ancestors.contains(&stat.pid) || access::facts(Pid(stat.pid)).reason() != Reason::Unknown
        {
            continue;
        }
        candidates.push(Candidate {
            pid: Pid(stat.pid),
            percent: percent(used(&stat).saturating_sub(was), hertz),
            used: used(&stat),
            command: command(&stat),
        });
    }
    candidates.sort_by(|a, b| {
        let busier = b.percent.total_cmp(&a.percent);
        busier.then(b.used.cmp(&a.used)).then(a.pid.cmp(&b.pid))
    });
    candidates.truncate(MOST);
    candidates
}

/// Processes end while they are listed; those are left out.
fn stats() -> impl Iterator<Item = Stat> {
    let all = procfs::process::all_processes().into_iter().flatten();
    all.filter_map(|process| process.ok()?.stat().ok())
}

fn used(stat: &Stat) -> u64 {
    stat.utime.saturating_add(stat.stime)
}

#[expect(clippy::cast_precision_loss, reason = "a few ticks, of which three digits are shown")]
fn percent(ticks: u64, hertz: u64) -> f64 {
    ticks as f64 * 100.0 / (hertz.max(1) as f64 * LOOK.as_secs_f64())
}

fn ancestors() -> Vec<i32> {
    let mut ancestors = Vec::new();
    let mut at = i32::try_from(std::process::id()).ok();
    while let Some(pid) = at.filter(|&pid| pid > 0 && ancestors.len() < 1000) {
        ancestors.push(pid);
        at = procfs::process::Process::new(pid).and_then(|it| it.stat()).ok().map(|it| it.ppid);
    }
    ancestors
}

/// The command line, or the name of a process that has overwritten its own.
fn command(stat: &Stat) -> String {
    let words = remoteprocess::Process::new(stat.pid).and_then(|process| process.cmdline());
    let line = words.map(|words| words.join(" ")).unwrap_or_default();
    let line = if line.trim().is_empty() { format!("[{}]", stat.comm) } else { line };
    escape(line.trim()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_its_own_candidate() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(ancestors().first(), Some(&own));
        let found = find();
        assert!(found.iter().all(|it| it.pid != Pid(own)), "{found:?}");
        assert!(found.is_sorted_by(|a, b| a.percent >= b.percent));
    }

    #[test]
    fn an_answer_is_the_number_of_a_process() {
        let one = Candidate { pid: Pid(4711), percent: 0.0, used: 0, command: String::new() };
        assert_eq!(answered("", &[one]), Ok(Pid(4711)));
        assert_eq!(answered("1", &[]), Ok(Pid(1)));
        let own = std::process::id().to_string();
        for wrong in ["", "x", "-1", "0", "2147483647", &own] {
            assert!(answered(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn twenty_ticks_in_a_fifth_of_a_second_are_one_cpu() {
        assert!((percent(20, 100) - 100.0).abs() < 1e-9);
        assert!((percent(0, 100)).abs() < 1e-9);
    }
}
