//! The fuzz targets' seeds, through what the fuzz targets do with them.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use std::{fs, path::Path};

fn check(name: &str, body: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut count = 0;
    for seed in fs::read_dir(seeds).unwrap() {
        body(&fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{name} has no seeds");
}

#[test]
fn maps() {
    check("maps", bodies::maps);
}

#[test]
fn archive() {
    check("archive", bodies::archive);
}

#[test]
fn perf_map() {
    check("perf_map", bodies::perf_map);
}

#[test]
fn elf() {
    check("elf", bodies::elf);
}

#[test]
fn cfi() {
    check("cfi", bodies::cfi);
}

#[test]
fn python() {
    // They were recorded of live interpreters, four functions deep.
    check("python", |input| assert!(bodies::python(input) >= 4));
}
