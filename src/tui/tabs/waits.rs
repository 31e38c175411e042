//! Where threads sleep.

use std::{cmp::Reverse, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::place;
use crate::{
    profile::ThreadId,
    task::{State, Syscall},
    tui::{
        population::{Path, Population},
        screen::WaitRow,
        update::ThreadNow,
    },
};

/// The innermost frames by which places are told apart, and which are shown.
const FRAMES: usize = 8;
/// Of those, at most so many of machine code, where there is a language runtime:
/// between a system call and the line that led to it can be dozens.
const NATIVE_FRAMES: usize = 2;
/// The most rows that are made, of the heaviest.
const MOST_ROWS: usize = 1_000;
/// Threads that wait in one place for more objects than these are one row all
/// the same: a pool of workers, each with a connection of its own.
const MOST_OBJECTS: usize = 4;
/// The most letters of an object: a path can have 4,096 (PATH_MAX).
const LONGEST_OBJECT: usize = 512;

/// A place where threads sleep: the system call, and the innermost frames that
/// are shown, innermost first.
type Place = (Syscall, Vec<(usize, Option<u32>)>);

/// What was seen in a place.
#[derive(Default)]
struct Seen {
    time: Duration,
    by_thread: FxHashMap<ThreadId, Duration>,
}

/// The places where threads sleep, the heaviest first, told apart by system
/// call, by what is waited for, and by the innermost frames.
///
/// `now` is what threads do at the moment `at`, by which it is known what is
/// waited for and since when. Which of several places with the same system call
/// a thread is in now is not told: it is taken to be the one in which it was
/// seen for as long as it has been asleep, or else for the longest.
pub fn waits(
    population: &Population,
    now: &[ThreadNow],
    at: Duration,
    names: &dyn Fn(ThreadId) -> String,
) -> Vec<WaitRow> {
    let mut places: FxHashMap<Place, Seen> = FxHashMap::default();
    for path in &population.stacks {
        let State::Blocked(call) = path.state else { continue };
        let seen = places.entry((call, innermost(population, path, call))).or_default();
        seen.time = seen.time.saturating_add(path.time);
        let own = seen.by_thread.entry(path.thread).or_default();
        *own = own.saturating_add(path.time);
    }
    let there = there(&places, now, at);
    let mut rows = Vec::new();
    for (place, seen) in &places {
        let there = there.get(place).map_or(&[][..], Vec::as_slice);
        rows.extend(split(seen, there).into_iter().map(|part| (place, part)));
    }
    let weight = |part: &Part<'_>| (Reverse(part.time), Reverse(part.there.len()));
    rows.sort_by(|((call, frames), part), ((other_call, other_frames), other)| {
        let by_place =
            || (call, frames, &part.object).cmp(&(other_call, other_frames, &other.object));
        weight(part).cmp(&weight(other)).then_with(by_place)
    });
    rows.truncate(MOST_ROWS);
    rows.into_iter().map(|(place, part)| row(population, place, part, at, names)).collect()
}

/// The frames by which the place of a stack is told.
fn innermost(population: &Population, path: &Path, call: Syscall) -> Vec<(usize, Option<u32>)> {
    let name = call.name().unwrap_or_default();
    let mut left = NATIVE_FRAMES;
    let is_shown = |&(index, _): &(usize, Option<u32>)| {
        let Some(function) = population.functions.get(index) else { return false };
        // The C library's function of the call says nothing new.
        let repeats = function.name.trim_start_matches('_') == name;
        let is_one_more = !function.native || left > 0;
        if function.native && !repeats {
            left = left.saturating_sub(1);
        }
        is_one_more && !(repeats && (function.native || function.module.is_some()))
    };
    let mut frames = Vec::with_capacity(FRAMES);
    frames.extend(path.frames.iter().rev().copied().filter(is_shown).take(FRAMES));
    for (index, line) in &mut frames {
        // One function of a library is one place, wherever in it.
        if population.functions.get(*index).is_some_and(|it| it.native) {
            *line = None;
        }
    }
    frames
}

/// The threads that are in each place now.
fn there<'p, 'n>(
    places: &'p FxHashMap<Place, Seen>,
    now: &'n [ThreadNow],
    at: Duration,
) -> FxHashMap<&'p Place, Vec<&'n ThreadNow>> {
    let mut of_thread: FxHashMap<(ThreadId, Syscall), Vec<(&Place, Duration)>> =
        FxHashMap::default();
    for (place, seen) in places {
        for (&thread, &time) in &seen.by_thread {
            of_thread.entry((thread, place.0)).or_default().push((place, time));
        }
    }
    let mut there: FxHashMap<&Place, Vec<&ThreadNow>> = FxHashMap::default();
    for thread in now {
        let State::Blocked(call) = thread.state else { continue };
        let Some(known) = of_thread.get(&(thread.thread, call)) else { continue };
        let asleep = thread.asleep_since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
        // The last tick may have been a while ago, and the first a while after
        // it fell asleep.
        let long = asleep.mul_f64(0.9);
        let best = known.iter().max_by_key(|&&(place, time)| (time >= long, time, Reverse(place)));
        if let Some(&(place, _)) = best {
            there.entry(place).or_default().push(thread);
        }
    }
    there
}

/// A place, or what was seen there by those who wait for one object.
struct Part<'n> {
    time: Duration,
    there: Vec<&'n ThreadNow>,
    /// Of these threads the time is.
    threads: Vec<ThreadId>,
    object: String,
}

/// What was seen in a place, by what is waited for. Threads of which it is not
/// known are with the others where all others wait for the same.
fn split<'n>(seen: &Seen, there: &[&'n ThreadNow]) -> Vec<Part<'n>> {
    let mut objects: FxHashMap<String, Vec<&'n ThreadNow>> = FxHashMap::default();
    for &thread in there {
        let object = thread.wait.as_deref().map(object).filter(|text| !text.is_empty());
        if let Some(object) = object {
            objects.entry(object).or_default().push(thread);
        }
    }
    let mut threads: Vec<ThreadId> = seen.by_thread.keys().copied().collect();
    threads.sort_unstable();
    if objects.len() <= 1 || objects.len() > MOST_OBJECTS {
        let count = objects.len();
        let object = match objects.into_keys().min() {
            Some(first) if count > 1 => format!("{first} and {} others", count - 1),
            first => first.unwrap_or_default(),
        };
        return vec![Part { time: seen.time, there: there.to_vec(), threads, object }];
    }
    let mut rest: FxHashSet<ThreadId> = threads.into_iter().collect();
    let mut parts = Vec::new();
    let time = |threads: &[ThreadId]| {
        let times = threads.iter().filter_map(|thread| seen.by_thread.get(thread));
        times.fold(Duration::ZERO, |sum, &time| sum.saturating_add(time))
    };
    for (object, there) in objects {
        let threads: Vec<ThreadId> =
            there.iter().map(|it| it.thread).filter(|thread| rest.remove(thread)).collect();
        parts.push(Part { time: time(&threads), there, threads, object });
    }
    if !rest.is_empty() {
        let there = there.iter().copied().filter(|it| rest.contains(&it.thread)).collect();
        let mut threads: Vec<ThreadId> = rest.into_iter().collect();
        threads.sort_unstable();
        parts.push(Part { time: time(&threads), there, threads, object: String::new() });
    }
    parts
}

/// What is waited for, from a line such as `recvfrom(16) of tcp …`: without the
/// system call, which is told apart, and without how long it will wait at most,
/// which changes.
fn object(wait: &str) -> String {
    let wait = wait.chars().take(LONGEST_OBJECT).collect::<String>();
    let word = wait.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let (_, rest) = wait.split_at(word.unwrap_or(wait.len()));
    let rest = match rest.rsplit_once(", ") {
        Some((before, after)) if is_time(after) => before,
        _ => rest,
    };
    if is_time(rest.trim_start()) {
        return String::new();
    }
    let (descriptor, rest) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((descriptor, rest)) => (Some(descriptor), rest),
        None => (None, rest),
    };
    let rest = rest.trim_start_matches([':', ' ']);
    let rest =
        ["of ", "for ", "on "].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
    match descriptor {
        Some(descriptor) if rest.is_empty() => format!("fd {descriptor}"),
        Some(descriptor) => format!("{rest} (fd {descriptor})"),
        None => rest.to_owned(),
    }
}

/// Whether `text` is a time, such as `60 ms` or `1.2 s left`.
fn is_time(text: &str) -> bool {
    let text = text.strip_suffix(" left").unwrap_or(text);
    let mut words = text.split(' ');
    let is_number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
    let is_unit = |word: &str| ["ns", "µs", "ms", "s", "min"].contains(&word);
    let mut count = 0;
    while let Some(number) = words.next() {
        if !is_number(number) || !words.next().is_some_and(is_unit) {
            return false;
        }
        count += 1;
    }
    count > 0
}

fn row(
    population: &Population,
    (call, frames): &Place,
    part: Part<'_>,
    at: Duration,
    names: &dyn Fn(ThreadId) -> String,
) -> WaitRow {
    let object = match part.threads.as_slice() {
        _ if !part.object.is_empty() => part.object,
        [] => String::new(),
        [only] => format!("in {}", names(*only)),
        [first, more @ ..] => format!("in {} and {} more", names(*first), more.len()),
    };
    let frame = |&(index, line): &(usize, Option<u32>)| {
        let function = population.functions.get(index)?;
        let name = &function.name;
        let place = place(function, line.or(function.line));
        Some(if function.native || place.is_empty() {
            name.clone()
        } else {
            format!("{name} ({place})")
        })
    };
    WaitRow {
        share: population.share(part.time),
        threads: part.there.len(),
        call: call.to_string(),
        object,
        stack: frames.iter().filter_map(frame).collect(),
        longest: part
            .there
            .iter()
            .filter_map(|it| it.asleep_since)
            .min()
            .map(|since| at.saturating_sub(since)),
        found: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{task::Tid, tui::tabs::made};

    fn now(thread: u32, call: i64, since: u64, wait: Option<&str>) -> ThreadNow {
        ThreadNow {
            thread: ThreadId(thread),
            tid: Tid(1),
            state: made::asleep(call),
            asleep_since: Some(Duration::from_secs(since)),
            wait: wait.map(str::to_owned),
        }
    }

    /// Rows as `share threads call object longest innermost`.
    #[track_caller]
    fn check(population: &Population, now: &[ThreadNow], expected: &[&str]) {
        let names = |thread: ThreadId| format!("t{}", thread.0);
        let rows = waits(population, now, Duration::from_secs(20), &names);
        let text = |row: &WaitRow| {
            let longest = row.longest.map_or("-".to_owned(), |time| time.as_secs().to_string());
            let (share, frame) = (row.share * 100.0, row.stack.first().map_or("", String::as_str));
            format!("{share:.0} {} {} [{}] {longest} {frame}", row.threads, row.call, row.object)
        };
        assert_eq!(rows.iter().map(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn threads_that_sleep_in_one_place_are_one_row() {
        let mut population = made::running(&[("main work", 20)]);
        let client = "!call ".repeat(40);
        for thread in [1, 2] {
            let state = made::asleep(libc::SYS_recvfrom);
            made::add(
                &mut population,
                thread,
                state,
                &format!("main ask@/srv/db.py:7 {client} !PQgetResult !__recvfrom"),
                30,
            );
        }
        made::add(&mut population, 0, made::asleep(libc::SYS_futex), "main lock@a.py:3", 20);
        let wait = Some("recvfrom(16) of tcp 10.0.0.1:4 -> 10.0.0.2:5432, 9.5 s left");
        let there = [
            now(1, libc::SYS_recvfrom, 12, wait),
            now(2, libc::SYS_recvfrom, 8, None),
            // Somewhere else by now.
            now(0, libc::SYS_poll, 3, None),
        ];
        let expected = [
            "60 2 recvfrom [tcp 10.0.0.1:4 -> 10.0.0.2:5432 (fd 16)] 12 PQgetResult",
            "20 0 futex [in t0] - lock (a.py:3)",
        ];
        check(&population, &there, &expected);
        let rows = waits(&population, &there, Duration::ZERO, &|_| String::new());
        assert_eq!(rows[0].stack, ["PQgetResult", "call", "ask (db.py:7)", "main"]);
    }

    #[test]
    fn what_is_waited_for_tells_rows_apart_unless_it_is_too_much() {
        let mut population = Population::default();
        for thread in 0..9 {
            made::add(&mut population, thread, made::asleep(libc::SYS_flock), "main take", 10);
        }
        let wait = |thread: u32, kinds: u32| {
            let text = format!("flock(3, exclusive) of /var/lock/{}", thread % kinds);
            now(thread, libc::SYS_flock, u64::from(thread), Some(&text))
        };
        let two: Vec<_> = (0..4).map(|thread| wait(thread, 2)).collect();
        let expected = [
            "56 0 flock [in t4 and 4 more] - take",
            "22 2 flock [/var/lock/0 (fd 3, exclusive)] 20 take",
            "22 2 flock [/var/lock/1 (fd 3, exclusive)] 19 take",
        ];
        check(&population, &two, &expected);
        let many: Vec<_> = (0..9).map(|thread| wait(thread, 9)).collect();
        check(
            &population,
            &many,
            &["100 9 flock [/var/lock/0 (fd 3, exclusive) and 8 others] 20 take"],
        );
    }

    #[test]
    fn a_thread_is_where_it_was_seen_for_as_long_as_it_sleeps() {
        let mut population = Population::default();
        made::add(&mut population, 1, made::asleep(libc::SYS_futex), "a", 1_000);
        made::add(&mut population, 1, made::asleep(libc::SYS_futex), "b", 300);
        let there = [now(1, libc::SYS_futex, 19, None)];
        check(&population, &there, &["77 1 futex [in t1] 1 a", "23 0 futex [in t1] - b"]);
        check(&population, &[], &["77 0 futex [in t1] - a", "23 0 futex [in t1] - b"]);
        check(&Population::default(), &there, &[]);
    }

    #[test]
    fn the_object_is_taken_out_of_the_line() {
        let check = |line: &str, expected: &str| assert_eq!(object(line), expected, "{line}");
        check("epoll_wait(5) on 3 descriptors, 60 ms", "3 descriptors (fd 5)");
        check("clock_nanosleep, 60 ms", "");
        check("clock_nanosleep 1.5 s left", "");
        check(
            "flock(17, exclusive) of run/audit.log, held by PID 7 sh",
            "run/audit.log, held by PID 7 sh (fd 17, exclusive)",
        );
        check("futex: pthread mutex owned by thread 9", "pthread mutex owned by thread 9");
        check(
            "poll of 2: tcp a -> b (fd 21); 1 more, 2 min 5 s left",
            "2: tcp a -> b (fd 21); 1 more",
        );
        check("wait4 for child 12", "child 12");
        check("read(0)", "fd 0");
        check("futex", "");
        check("", "");
        check("(((,, ", "(((,, ");
        assert!(object(&"é(".repeat(9_000)).chars().count() <= LONGEST_OBJECT);
    }

    #[test]
    fn a_great_many_places_are_bounded() {
        let mut population = made::many(10_000, 2_0);
        for path in &mut population.stacks {
            path.state = made::asleep(libc::SYS_read);
        }
        let rows = waits(&population, &[], Duration::ZERO, &|_| "t".to_owned());
        assert_eq!(rows.len(), MOST_ROWS);
        assert!(rows.iter().all(|row| row.stack.len() == FRAMES));
    }
}
