//! One and the same stop, unwound by several.

mod capture;
mod others;
mod target;

#[test]
fn probe() {
    let all: Vec<(&str, fn() -> target::Target)> = vec![
        ("shapes", || target::shapes(&["-O2"])),
        ("python", || target::script("python3", "hot.py")),
        ("node", || target::script("node", "hot.js")),
        ("java", || target::script("java", "Hot.java")),
        ("ruby", || target::script("ruby", "hot.rb")),
        ("perl", || target::script("perl", "hot.pl")),
        ("openssl", || target::openssl(&["-evp", "aes-256-gcm"])),
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
        capture::halt(target.pid);
        let process = capture::halted(target.pid);
        let mut hop = others::Framehop::new(&process);
        let mut got = Vec::new();
        for thread in &process.threads {
            let memory = capture::Completed::new(&process, thread);
            let b = hop.unwind(thread, &memory);
            let held = capture::Held::new(thread.tid.0).unwrap();
            let c = others::libunwind(thread.tid.0, &held);
            got.push((thread, b, c));
        }
        let gdb = others::gdb(target.pid);
        for (thread, b, c) in got {
            let g = gdb.get(&thread.tid.0).cloned().unwrap_or_default();
            let same = |x: &others::Found, y: &others::Found| {
                x.frames.iter().zip(&y.frames).take_while(|(a, b)| a == b).count()
            };
            eprintln!(
                "{} {:?} {:?}: gdb {} ({}) libunwind {} ({}) framehop {} ({}) | g/l {} g/h {} l/h {}",
                thread.tid,
                thread.name,
                capture::state(target.pid, thread.tid.0),
                g.frames.len(),
                g.end,
                c.frames.len(),
                c.end,
                b.frames.len(),
                b.end,
                same(&g, &c),
                same(&g, &b),
                same(&c, &b)
            );
        }
    }
}
