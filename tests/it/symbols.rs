//! Names, held against binutils, and against themselves when the debug
//! information lies elsewhere.

mod programs;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use object::{Object, ObjectSection, ObjectSymbol};
use spy::{
    memory::{Address, Piece},
    module::{AddressSpace, Modules, Place},
    snapshot::{Backing, Mapping, Root},
    stack::CodeAddress,
    symbolize::{PerfMap, Symbolizer},
    task::Pid,
};

use programs::{
    Target, addresses, agree, binutils, by_build_id, is_here, module, names, ours, section,
    symbolizer, try_module,
};

/// Hold the names of a program's own functions against binutils'.
fn check(program: &str, source: &str, flags: &[&str], wanted: impl Fn(&str) -> bool) {
    let target = Target::new(&format!("check-{program}"));
    let path = target.compile(program, source, flags);
    let module = target.module(&path);
    let addresses = addresses(&path, 1, wanted);
    let mut symbolizer = symbolizer();
    let mut deepest = 0;
    for (at, expected) in addresses.iter().zip(binutils(&path, &addresses)) {
        let found = names(&mut symbolizer, &module, *at);
        assert_eq!(ours(&found), expected, "{at:#x}");
        let (last, inlined) = found.split_last().unwrap();
        assert!(!last.inlined && inlined.iter().all(|symbol| symbol.inlined), "{found:?}");
        assert_eq!(last.module.as_deref(), Some(program));
        deepest = deepest.max(found.len());
    }
    assert!(deepest >= 2, "nothing was inlined");
}

#[test]
fn functions_inlined_in_c() {
    check("c", "symbols.c", &[], |name| ["outer", "main", "hidden"].contains(&name));
}

#[test]
fn functions_inlined_in_cpp() {
    check("cpp", "symbols.cpp", &[], |name| name.contains("circumference") || name == "main");
}

#[test]
fn functions_inlined_in_rust() {
    check("rust", "symbols.rs", &[], |name| name.contains("area") || name.contains("total"));
}

/// Hold the names of `variant` against those of the program that it was made
/// of, at each address that lies in `wanted` functions.
fn same_names(target: &Target, whole: &Path, variant: &Path, wanted: impl Fn(&str) -> bool) {
    let (a, b) = (target.module(whole), target.module(variant));
    let host = target.path("host");
    let (mut of_whole, mut of_variant) = (symbolizer(), Symbolizer::new(host));
    for at in addresses(whole, 1, wanted) {
        let mut expected = names(&mut of_whole, &a, at);
        assert!(expected.iter().all(|symbol| symbol.line.is_some()), "{at:#x}: {expected:?}");
        for symbol in &mut expected {
            symbol.module = Some(b.name().to_owned());
        }
        assert_eq!(names(&mut of_variant, &b, at), expected, "{at:#x}");
    }
}

fn in_c(name: &str) -> bool {
    ["outer", "main", "hidden"].contains(&name)
}

/// Without what a test adds to it, a stripped program has no lines.
fn has_no_lines(target: &Target, stripped: &Path, whole: &Path) {
    let at = addresses(whole, 1, in_c)[0];
    let found = names(&mut symbolizer(), &target.module(stripped), at);
    assert_eq!((found.len(), found[0].line), (1, None), "{found:?}");
}

#[test]
fn a_linked_debug_file_is_found_where_it_may_lie() {
    let places = [
        "usr/bin/a.debug",
        "usr/bin/.debug/a.debug",
        "usr/lib/debug/usr/bin/a.debug",
        "usr/lib/debug/bin/a.debug",
        "host/usr/bin/a.debug",
    ];
    for flag in ["-Wl,--build-id=none", "-Wl,--build-id"] {
        for place in places {
            let target = Target::new(&format!("link-{}-{}", place.replace('/', "-"), flag.len()));
            fs::create_dir_all(target.path(place).parent().unwrap()).unwrap();
            fs::create_dir_all(target.path("usr/bin")).unwrap();
            let whole = target.compile("whole", "symbols.c", &[flag]);
            target.run(&["objcopy", "--only-keep-debug", "whole", "a.debug"]);
            target.run(&["objcopy", "-S", "--add-gnu-debuglink=a.debug", "whole", "usr/bin/a"]);
            let stripped = target.path("usr/bin/a");
            has_no_lines(&target, &stripped, &whole);
            fs::rename(target.path("a.debug"), target.path(place)).unwrap();
            same_names(&target, &whole, &stripped, in_c);
        }
    }
}

#[test]
fn a_debug_file_of_another_program_is_refused() {
    for flag in ["-Wl,--build-id=none", "-Wl,--build-id"] {
        let target = Target::new(&format!("refused-{}", flag.len()));
        let whole = target.compile("whole", "symbols.c", &[flag]);
        let other = target.compile("other", "symbols.c", &[flag, "-DOTHER", "-O1"]);
        target.run(&["objcopy", "--only-keep-debug", "whole", "a.debug"]);
        target.run(&["objcopy", "-S", "--add-gnu-debuglink=a.debug", "whole", "a"]);
        target.run(&["objcopy", "--only-keep-debug", other.to_str().unwrap(), "a.debug"]);
        has_no_lines(&target, &target.path("a"), &whole);
        if flag == "-Wl,--build-id" {
            let place = target.path(&format!("usr/lib/debug/{}", by_build_id(&whole)));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(target.path("a.debug"), place).unwrap();
            has_no_lines(&target, &target.path("a"), &whole);
        }
    }
}

#[test]
fn a_debug_file_is_found_by_build_id() {
    let target = Target::new("build-id");
    let whole = target.compile("whole", "symbols.c", &["-Wl,--build-id"]);
    target.run(&["objcopy", "-S", "whole", "stripped"]);
    let stripped = target.path("stripped");
    for directory in ["usr/lib/debug", "host"] {
        has_no_lines(&target, &stripped, &whole);
        let place = target.path(directory).join(by_build_id(&whole));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        target.run(&["objcopy", "--only-keep-debug", "whole", place.to_str().unwrap()]);
        same_names(&target, &whole, &stripped, in_c);
        fs::remove_file(place).unwrap();
    }
}

#[test]
fn what_debug_files_share_is_found_by_path_and_by_build_id() {
    if !is_here("dwz") {
        return;
    }
    let target = Target::new("dwz");
    let whole = target.compile("whole", "symbols.c", &["-Wl,--build-id"]);
    let other = target.compile("other", "symbols.c", &["-Wl,--build-id", "-DOTHER"]);
    fs::copy(&whole, target.path("a")).unwrap();
    fs::copy(&other, target.path("b")).unwrap();
    target.run(&["dwz", "-m", "shared.dwz", "a", "b"]);
    let program = target.path("a");
    let link = section(&program, ".gnu_debugaltlink").unwrap();
    assert!(link.starts_with(b"shared.dwz\0"));
    same_names(&target, &whole, &program, in_c);

    let place = target.path("usr/lib/debug").join(by_build_id(&target.path("shared.dwz")));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::rename(target.path("shared.dwz"), &place).unwrap();
    same_names(&target, &whole, &program, in_c);

    // A separate debug file, whose link is its own.
    target.run(&["objcopy", "--only-keep-debug", "a", "a.debug"]);
    target.run(&["objcopy", "-S", "--add-gnu-debuglink=a.debug", "a", "c"]);
    same_names(&target, &whole, &target.path("c"), in_c);
    fs::remove_file(place).unwrap();
    let at = addresses(&whole, 1, in_c)[0];
    assert!(!names(&mut symbolizer(), &target.module(&target.path("c")), at).is_empty());
}

#[test]
fn compressed_sections_are_read() {
    let target = Target::new("compressed");
    let whole = target.compile("whole", "symbols.c", &[]);
    for kind in ["zlib", "zlib-gnu", "zstd"] {
        let packed = target.path(kind);
        let flag = format!("--compress-debug-sections={kind}");
        let mut objcopy = Command::new("objcopy");
        let done = objcopy.args([flag.as_ref(), whole.as_os_str(), packed.as_os_str()]).output();
        if !done.unwrap().status.success() {
            eprintln!("skipped: this `objcopy` cannot compress with {kind}");
            continue;
        }
        same_names(&target, &whole, &packed, in_c);
    }
    let packed = target.compile("packed", "symbols.c", &["-gz=zlib"]);
    same_names(&target, &whole, &packed, in_c);
}

/// With an index of the units only those are read that hold an address; after
/// link-time optimisation they refer to each other.
#[test]
fn names_are_the_same_without_an_index_of_the_units() {
    for (number, flags) in
        [&[][..], &["-flto"], &["-gdwarf-4"], &["-gdwarf-4", "-flto"]].into_iter().enumerate()
    {
        let target = Target::new(&format!("index-{number}"));
        let whole = target.compile("whole", "symbols.c", flags);
        assert!(section(&whole, ".debug_aranges").is_some_and(|index| !index.is_empty()));
        target.run(&["objcopy", "--remove-section=.debug_aranges", "whole", "without"]);
        same_names(&target, &whole, &target.path("without"), in_c);
    }
}

/// What the index says is believed only where the unit knows the address, too.
#[test]
fn an_index_that_says_something_else_is_not_believed() {
    let target = Target::new("index-wrong");
    let whole = target.compile("whole", "symbols.c", &[]);
    let index = section(&whole, ".debug_aranges").unwrap();
    // After the header are addresses and lengths (DWARF 5, section 6.1.2).
    for value in [0, 1, 0xff] {
        for at in 16..index.len() {
            let mut wrong = index.clone();
            wrong[at] = value;
            fs::write(target.path("index"), wrong).unwrap();
            target.run(&["objcopy", "--update-section=.debug_aranges=index", "whole", "wrong"]);
            same_names(&target, &whole, &target.path("wrong"), |name| name == "outer");
        }
    }
}

#[test]
fn split_debug_information_is_read() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let target = Target::new(&format!("split{version}"));
        let whole = target.compile("whole", "symbols.c", &[version]);
        // The compiler notes where the parts are: where it runs.
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs/symbols.c");
        let source = source.to_str().unwrap();
        target.run(&["gcc", "-O2", "-g", version, "-gsplit-dwarf", "-c", "-o", "a.o", source]);
        target.run(&["gcc", "-o", "a", "a.o"]);
        let program = target.path("a");
        same_names(&target, &whole, &program, in_c);
        // Where the compiler put it, as the target sees it.
        let built = target.path(target.directory.to_str().unwrap());
        fs::create_dir_all(&built).unwrap();
        fs::rename(target.path("a.dwo"), built.join("a.dwo")).unwrap();
        same_names(&target, &whole, &program, in_c);
        // That of another program is refused.
        fs::rename(built.join("a.dwo"), target.path("own")).unwrap();
        target.run(&["gcc", "-O1", "-g", version, "-gsplit-dwarf", "-c", "-o", "a.o", source]);
        let at = addresses(&whole, 1, |name| name == "main")[1];
        let found = names(&mut symbolizer(), &target.module(&program), at);
        assert_eq!((found.len(), found[0].function.as_str()), (1, "main"));
        fs::rename(target.path("own"), target.path("a.dwo")).unwrap();
        for tool in ["llvm-dwp", "dwp"] {
            // That of binutils 2.40 does not know version 5, and that of LLVM
            // 14 does not come to an end with what gcc makes of it.
            if !is_here(tool) || version == "-gdwarf-5" {
                continue;
            }
            target.run(&[tool, "-e", "a", "-o", "a.dwp"]);
            fs::rename(target.path("a.dwo"), target.path("moved")).unwrap();
            same_names(&target, &whole, &program, in_c);
            // Beside the separate file of debug information.
            target.run(&["objcopy", "--only-keep-debug", "a", "a.debug"]);
            target.run(&["objcopy", "-S", "--add-gnu-debuglink=a.debug", "a", "b"]);
            fs::rename(target.path("a.dwp"), target.path("a.debug.dwp")).unwrap();
            same_names(&target, &whole, &target.path("b"), in_c);
            fs::remove_file(target.path("a.debug.dwp")).unwrap();
            // Without any of the parts there are lines, and names from the
            // symbol table.
            let at = addresses(&whole, 1, |name| name == "hidden")[0];
            let found = names(&mut symbolizer(), &target.module(&program), at);
            assert_eq!(found[0].function, "hidden");
            assert!(found[0].line.is_some());
            fs::rename(target.path("moved"), target.path("a.dwo")).unwrap();
        }
    }
}

#[test]
fn packages_that_the_compiler_makes_are_read() {
    for version in ["-Cdwarf-version=4", "-Cdwarf-version=5"] {
        let target = Target::new(&format!("package{version}"));
        let whole = target.compile("whole", "symbols.rs", &[version]);
        // The name of the program is part of what the compiler hashes.
        fs::rename(whole, target.path("kept")).unwrap();
        let program = target.compile("whole", "symbols.rs", &[version, "-Csplit-debuginfo=packed"]);
        assert!(target.path("whole.dwp").exists());
        same_names(&target, &target.path("kept"), &program, |name| {
            name.contains("area") || name.contains("total")
        });
    }
}

#[test]
fn symbols_are_taken_from_gnu_debugdata() {
    let target = Target::new("mini");
    let whole = target.compile("whole", "symbols.c", &[]);
    let at = addresses(&whole, 1, |name| name == "hidden")[0];
    target.run(&["objcopy", "-S", "whole", "stripped"]);
    let stripped = target.module(&target.path("stripped"));
    assert_eq!(names(&mut symbolizer(), &stripped, at)[0].function, format!("stripped+{at:#x}"));
    target.run(&["objcopy", "-S", "--keep-symbol=hidden", "whole", "mini"]);
    target.run(&["xz", "mini"]);
    target.run(&["objcopy", "--add-section=.gnu_debugdata=mini.xz", "stripped", "packed"]);
    let found = names(&mut symbolizer(), &target.module(&target.path("packed")), at);
    assert_eq!((found[0].function.as_str(), found[0].line), ("hidden", None));
}

#[test]
fn aliases_and_stubs_have_the_expected_names() {
    let target = Target::new("aliases");
    for (flags, name) in [(&["-fcf-protection=none"][..], "plain"), (&[], "protected")] {
        let program = target.compile(name, "symbols.c", flags);
        target.run(&["objcopy", "-g", name, "symbols"]);
        let module = target.module(&target.path("symbols"));
        let mut symbolizer = symbolizer();
        let outer = addresses(&program, 1, |name| name == "outer")[0];
        // Three global names: the one without underscores, and the shorter.
        assert_eq!(names(&mut symbolizer, &module, outer)[0].function, "outer");
        let mut called = BTreeSet::new();
        let bytes = fs::read(&program).unwrap();
        for section in [".plt", ".plt.sec", ".plt.got"] {
            let file = object::File::parse(&*bytes).unwrap();
            let Some(section) = file.section_by_name(section) else { continue };
            for at in section.address()..section.address() + section.size() {
                called.insert(names(&mut symbolizer, &module, at)[0].function.clone());
            }
        }
        assert!(called.contains("printf@plt") && called.contains("strtol@plt"), "{called:?}");
    }
}

#[test]
fn go_programs_are_named_with_and_without_symbols() {
    let target = Target::new("go");
    let whole = target.compile("whole", "symbols.go", &[]);
    let stripped = target.compile("stripped", "symbols.go", &["-ldflags=-s -w"]);
    let wanted = |name: &str| name.starts_with("main.");
    let addresses = addresses(&whole, 1, wanted);
    let (a, b) = (target.module(&whole), target.module(&stripped));
    let (mut described, mut listed) = (symbolizer(), symbolizer());
    let mut seen = BTreeSet::new();
    for at in addresses {
        let expected = names(&mut described, &a, at);
        let found = names(&mut listed, &b, at);
        // What was inlined is not told apart: the place is the innermost.
        let outer = expected.last().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].function, outer.function, "{at:#x}");
        assert_eq!(found[0].file, expected[0].file, "{at:#x}");
        assert_eq!(found[0].line, expected[0].line, "{at:#x}");
        seen.insert(found[0].function.clone());
    }
    for name in ["main.main", "main.(*square).area", "main.apply", "main.main.func1"] {
        assert!(seen.contains(name), "{name}: {seen:?}");
    }
}

/// The functions of this program itself, which is large, and holds code of
/// many crates and of C.
#[test]
fn a_large_program_is_named_as_binutils_name_it() {
    let path = std::env::current_exe().unwrap();
    let module = module(Path::new("/"), &path, &path);
    let all = addresses(&path, 1, |_| true);
    let asked: Vec<u64> = all.iter().copied().step_by(all.len() / 2000).collect();
    let mut symbolizer = symbolizer();
    let mut differences = Vec::new();
    for (at, expected) in asked.iter().zip(binutils(&path, &asked)) {
        let found = ours(&names(&mut symbolizer, &module, *at));
        if !agree(&found, &expected) {
            differences.push(format!("{at:#x}\n  ours     {found:?}\n  binutils {expected:?}"));
        }
    }
    let (count, all) = (differences.len(), asked.len());
    assert!(count == 0, "{count} of {all}\n{}", differences.join("\n"));
}

#[test]
fn debug_information_without_end_is_left_behind() {
    let target = Target::new("endless");
    let program = target.compile("endless", "symbols.s", &[]);
    let module = target.module(&program);
    for name in ["deep", "shared"] {
        let at = addresses(&program, 1, |symbol| symbol == name)[1];
        let found = names(&mut symbolizer(), &module, at);
        assert_eq!((found.len(), found[0].function.as_str()), (1, name));
    }
}

#[test]
fn damaged_programs_are_named_as_far_as_can_be() {
    let target = Target::new("damaged");
    target.compile("whole", "symbols.c", &["-Wl,--build-id"]);
    target.run(&["objcopy", "--compress-debug-sections=zlib", "whole", "packed"]);
    target.run(&["objcopy", "-S", "--keep-symbol=hidden", "whole", "mini"]);
    target.run(&["xz", "mini"]);
    target.run(&["objcopy", "-S", "--add-section=.gnu_debugdata=mini.xz", "whole", "small"]);
    target.compile("go", "symbols.go", &["-ldflags=-s -w"]);
    let mut random = fastrand::Rng::with_seed(42);
    let mut looked_at = 0;
    for program in ["whole", "packed", "small", "go"] {
        let bytes = fs::read(target.path(program)).unwrap();
        let at = target.module(&target.path(program)).entry();
        let rounds = if program == "go" { 20 } else { 150 };
        for round in 0..rounds {
            let mut damaged = bytes.clone();
            for _ in 0..random.usize(1..200) {
                // Often in the headers of the sections, which are last.
                let from = if random.bool() { damaged.len() - damaged.len().min(4000) } else { 64 };
                let index = random.usize(from..damaged.len());
                damaged[index] = random.u8(..);
            }
            if round % 5 == 0 {
                damaged.truncate(random.usize(64..damaged.len()));
            }
            let path = target.path("damaged");
            fs::write(&path, damaged).unwrap();
            let Some(module) = try_module(&target.directory, &path, at) else { continue };
            let mut symbolizer = symbolizer();
            for at in (at.saturating_sub(4096)..at + 4096).step_by(64) {
                let found = names(&mut symbolizer, &module, at);
                assert!(found.iter().all(|symbol| !symbol.function.is_empty()));
                looked_at += found.len();
            }
        }
    }
    assert!(looked_at > 10_000, "{looked_at}");
}

#[test]
fn the_vdso_has_names() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let (start, rest) = line.split_once('-').unwrap();
    let end = rest.split(' ').next().unwrap();
    let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).unwrap());
    let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
    let memory = fs::File::open("/proc/self/mem").unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, start).unwrap();
    let clock = {
        let file = object::File::parse(&*bytes).unwrap();
        let clock = file.dynamic_symbols().find(|symbol| symbol.name() == Ok("__vdso_getcpu"));
        clock.unwrap().address()
    };
    let mapping = Mapping {
        range: Address(start)..Address(end),
        offset: 0,
        readable: true,
        executable: true,
        device: 0,
        inode: 0,
        backing: Backing::Vdso,
    };
    let root = Root { directory: "/".into(), map_files: None };
    let mut space = AddressSpace::new(vec![mapping], root);
    let memory = Piece { start: Address(start), bytes };
    let place = space.find(Address(start), &mut Modules::default(), &memory);
    let Place::Module { module, .. } = place else { panic!("{place:?}") };
    let found = names(&mut symbolizer(), &module, clock);
    assert!(found[0].function.ends_with("getcpu"), "{found:?}");
    assert_eq!(found[0].module.as_deref(), Some("[vdso]"));
}

#[test]
fn code_in_no_image_is_named_by_the_map_of_its_process() {
    let target = Target::new("map");
    fs::create_dir_all(target.path("tmp")).unwrap();
    fs::write(target.path("tmp/perf-12.map"), "7f0000 20 JS:*busy loop /a b.js:3\n").unwrap();
    let root = Root { directory: target.directory.clone(), map_files: None };
    let mut map = PerfMap::new(&root, Pid(12));
    let mut symbolizer = symbolizer();
    let mut name = |code| symbolizer.anonymous(&mut map, code)[0].function.clone();
    assert_eq!(name(CodeAddress::Instruction(Address(0x7f_0000))), "JS:*busy loop /a b.js:3");
    assert_eq!(name(CodeAddress::Return(Address(0x7f_0020))), "JS:*busy loop /a b.js:3");
    assert_eq!(name(CodeAddress::Instruction(Address(0x7f_0020))), "[anon]");
}

#[test]
fn a_stripped_go_program_is_named_as_go_names_it() {
    let target = Target::new("gotool");
    let stripped = target.compile("stripped", "symbols.go", &["-ldflags=-s -w"]);
    let module = target.module(&stripped);
    let text = {
        let bytes = fs::read(&stripped).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let text = file.section_by_name(".text").unwrap();
        text.address()..text.address() + text.size()
    };
    let asked: Vec<u64> = text.step_by(997).collect();
    let lines: String = asked.iter().map(|at| format!("{at:#x}\n")).collect();
    fs::write(target.path("asked"), lines).unwrap();
    let input = fs::File::open(target.path("asked")).unwrap();
    let said = Command::new("go").args(["tool", "addr2line"]).arg(&stripped).stdin(input).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 2 * asked.len());
    let mut symbolizer = symbolizer();
    for (at, expected) in asked.iter().zip(said.chunks(2)) {
        let found = names(&mut symbolizer, &module, *at);
        assert_eq!(found[0].function, expected[0], "{at:#x}");
        let place = match (&found[0].file, found[0].line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            // Between functions.
            _ => ":-1".to_owned(),
        };
        assert_eq!(place, expected[1], "{at:#x}");
    }
}

#[test]
fn what_was_not_used_for_long_is_dropped_and_found_again() {
    let target = Target::new("memory");
    let programs = ["a", "b"].map(|name| target.compile(name, "symbols.c", &["-gz=zlib"]));
    let at = addresses(&programs[0], 1, |name| name == "outer");
    let modules = programs.map(|path| target.module(&path));
    let mut symbolizer = Symbolizer::holding("/nonexistent".into(), 0);
    for at in at.into_iter().take(20) {
        for module in &modules {
            let found = names(&mut symbolizer, module, at);
            assert!(found.iter().all(|symbol| symbol.line.is_some()), "{found:?}");
            assert!(format!("{symbolizer:?}").contains("images: 1,"), "{symbolizer:?}");
        }
    }
}
