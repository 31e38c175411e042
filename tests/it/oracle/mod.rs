//! One and the same stop, unwound by several; and how many stacks of running
//! threads are whole.
//!
//! Of each thread, gdb and libunwind must see every frame as `spy` does, no
//! more and no less, and framehop too. Where one of them sees something else,
//! that must be in [`known`], and another must agree.

mod capture;
mod compare;
mod known;
mod others;
mod raw;
mod roots;
mod servers;

pub(crate) use capture::Live;
use compare::Outcome;
use spy::stack::End;

use crate::target::{Target, together};

/// How often a program is stopped and looked at by all.
const STOPS: usize = 2;
/// How many stacks of running threads are counted.
const CATCHES: usize = 200;
/// How many of a thousand of them must be whole.
const WHOLE: usize = 995;

/// Compare the stacks of `program` with those that others see.
fn agree(program: &str, pid: i32) {
    for stop in 0..STOPS {
        if stop > 0 {
            capture::go_on(pid);
        }
        for thread in compare::compare(pid) {
            let compare::Compared { name, inside, listing, .. } = &thread;
            let others = [
                ("gdb", thread.gdb),
                ("libunwind", thread.libunwind),
                ("framehop", thread.framehop),
            ];
            let same = [Outcome::Same, Outcome::SkipsCaller];
            let agreed = others.iter().any(|(_, outcome)| same.contains(outcome));
            // Where Go changes stacks none of them can follow; `go.rs` judges.
            assert!(
                agreed || program.starts_with("hot.go"),
                "{program}: {name}: nobody agrees\n{listing}"
            );
            for (by, outcome) in others {
                let known = known::is_known(program, inside, by, outcome);
                assert!(known, "{program}: {name}: {by}: {outcome:?}\n{listing}");
            }
        }
    }
    capture::go_on(pid);
}

/// Count the whole stacks of running threads of `program`.
fn whole(program: &str, pid: i32) {
    let ends = roots::watch(pid, CATCHES);
    let (whole, total) = (ends.whole(), ends.total());
    eprintln!("{program}: {whole} of {total} stacks are whole, {:?}", ends.counts);
    let examples = ends.examples.join("\n");
    assert!(total >= CATCHES, "{program}: caught only {total}");
    assert!(whole * 1000 >= total * WHOLE, "{program}: {whole} of {total}\n{examples}");
}

fn check(program: &str, pid: i32) {
    let _together = together();
    agree(program, pid);
    whole(program, pid);
}

/// A fixture, of which only stops are compared where no thread of it is busy.
fn check_fixture(source: &str, flags: &[&str], arguments: &[&str], busy: bool) {
    let _together = together();
    let target = Target::start(source, flags, arguments);
    let program = format!("{source} {}", flags.join(" "));
    agree(&program, target.pid());
    if busy {
        whole(&program, target.pid());
    }
}

#[test]
fn shapes() {
    for flags in [&["-O0"][..], &["-O2"], &["-O2", "-static"], &["-O2", "-s"]] {
        check_fixture("shapes.c", flags, &[], true);
    }
}

#[test]
fn c() {
    for flags in [&["-O0"][..], &["-O2", "-fomit-frame-pointer"], &["-O2", "-static", "-s"]] {
        check_fixture("hot.c", flags, &["2"], true);
    }
}

#[test]
fn other_languages() {
    check_fixture("hot.cpp", &["-O2"], &[], true);
    check_fixture("hot.rs", &["-O"], &[], true);
    check_fixture("hot.go", &[], &[], true);
}

#[test]
fn blocked_and_signalled() {
    check_fixture("waits.c", &["-O2"], &[], false);
    check_fixture("signals.c", &["-O2"], &[], true);
    check_fixture("libraries.c", &["-O2"], &[], false);
}

#[test]
fn python() {
    check("python3", servers::script(&["python3"], "hot.py").pid);
}

#[test]
fn node() {
    check("node", servers::script(&["node"], "hot.js").pid);
}

#[test]
fn java_with_frame_pointers() {
    check("java", servers::script(&["java", "-XX:+PreserveFramePointer"], "Hot.java").pid);
}

/// Compiled Java uses the frame pointer for something else unless it is told
/// not to, and has no unwind data. Then a stack ends in it, and says so.
#[test]
fn java() {
    let _together = together();
    let java = servers::script(&["java"], "Hot.java");
    let ends = roots::watch(java.pid, CATCHES);
    eprintln!("java: {:?}", ends.counts);
    let jit = ends.counts.get(&End::NoUnwindInfo).copied().unwrap_or_default();
    let examples = ends.examples.join("\n");
    assert!((ends.whole() + jit) * 1000 >= ends.total() * WHOLE, "{examples}");
    assert_eq!(ends.in_images, 0, "{examples}");
}

#[test]
fn ruby() {
    check("ruby", servers::script(&["ruby"], "hot.rb").pid);
}

#[test]
fn perl() {
    check("perl", servers::script(&["perl"], "hot.pl").pid);
}

#[test]
fn openssl() {
    let algorithms: [&[&str]; 6] = [
        &["-evp", "aes-256-gcm"],
        &["-evp", "chacha20-poly1305"],
        &["-evp", "sha256"],
        &["rsa2048"],
        &["ecdhx25519"],
        &["ecdsap256"],
    ];
    for algorithm in algorithms {
        check("openssl", servers::openssl(algorithm).pid);
    }
}

#[test]
fn redis() {
    check("redis", servers::redis().pid);
}

#[test]
fn nginx() {
    check("nginx", servers::nginx().pid);
}

#[test]
fn postgres() {
    check("postgres", servers::postgres().pid);
}
