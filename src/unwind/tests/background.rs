//! Tables that another thread compiles.

use std::time::{Duration, Instant};

use super::*;
use super::{cfa as c, returning as r};

#[test]
fn the_walk_is_the_same_before_and_after_the_table_is_there() {
    let functions: Vec<_> =
        (0..32).map(|n| (0x10, false, c::at(RSP, 8 + 8 * (n % 8)))).chain([first(X86)]).collect();
    let image = elf(X86, &[0x90; 0x300], &eh_frame(X86, &functions), 0);
    let words = {
        let mut words = [0; 40];
        words[0] = code(0x13);
        words[2] = code(0x201);
        words
    };
    let tables = Tables::background();
    let Tables::Background(builder) = &tables else { panic!() };
    let process = Process::of(X86, &image, tables.clone());
    let mut process = process.stands(code(0), &words);
    let expected = [at(0), r(0x13), r(0x201)];
    process.walks(&expected, End::Root);
    let module = std::sync::Arc::clone(process.modules.iter().next().unwrap());
    // No step of the walk waits for the thread; only this test does.
    let end = Instant::now() + Duration::from_secs(60);
    while builder.table(&module).is_none() {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    process.walks(&expected, End::Root);
    // Another process with the same images has it at once.
    let mut other = Process::of(X86, &image, tables.clone()).stands(code(0), &words);
    std::mem::swap(&mut other.modules, &mut process.modules);
    other.walks(&expected, End::Root);
}
