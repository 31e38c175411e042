//! One and the same stop, unwound by several.

mod capture;
mod compare;
mod others;
mod roots;
mod target;

#[test]
fn probe() {
    let all: Vec<(&str, fn() -> target::Target)> = vec![
        ("shapes", || target::shapes(&["-O2"])),
        ("python", || target::script(&["python3"], "hot.py")),
        ("node", || target::script(&["node"], "hot.js")),
        ("java", || target::script(&["java"], "Hot.java")),
        ("jfp", || target::script(&["java", "-XX:+PreserveFramePointer"], "Hot.java")),
        ("jit", || target::script(&["node", "--no-opt"], "hot.js")),
        ("ruby", || target::script(&["ruby"], "hot.rb")),
        ("perl", || target::script(&["perl"], "hot.pl")),
        ("openssl", || target::openssl(&["-evp", "aes-256-gcm"])),
        ("rsa", || target::openssl(&["rsa2048"])),
        ("x25519", || target::openssl(&["ecdhx25519"])),
        ("sha256", || target::openssl(&["-evp", "sha256"])),
        ("chacha", || target::openssl(&["-evp", "chacha20-poly1305"])),
        ("p256", || target::openssl(&["ecdsap256"])),
        ("redis", target::redis),
        ("nginx", target::nginx),
        ("postgres", target::postgres),
    ];
    let only = std::env::var("ONLY").unwrap_or_default();
    for (name, start) in all {
        if !name.contains(&only) {
            continue;
        }
        let target = start();
        eprintln!("== {name} {}", target.pid);
        let ends = roots::watch(target.pid, 300);
        eprintln!(
            "   {name} ENDS {:?} {:.2}%",
            ends.counts,
            100.0 * ends.whole() as f64 / ends.total() as f64
        );
        for e in &ends.examples {
            eprintln!("{e}");
        }
        for c in compare::compare(target.pid) {
            let (g, l) = (c.gdb, c.libunwind);
            eprintln!(
                "   {name} {:?}: {} frames, {}, gdb {g:?} libunwind {l:?} framehop {:?} jit {}",
                c.name, c.frames, c.end, c.framehop, c.jit
            );
            if [g, l, c.framehop].iter().any(|o| *o != compare::Outcome::Same) {
                eprintln!("{}", c.listing);
            }
        }
    }
}
