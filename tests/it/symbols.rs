//! Names, held against binutils, and against themselves when the debug
//! information lies elsewhere.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SegmentFlags};
use spy::{
    memory::{Address, Piece},
    module::{AddressSpace, Module, Modules, Place},
    snapshot::{Backing, Mapping, Root},
    stack::{CodeAddress, Symbol},
    symbolize::Symbolizer,
};

/// A directory that is the root of a target that never was.
struct Target {
    directory: PathBuf,
}

impl Target {
    fn new(name: &str) -> Self {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/build/symbols");
        let directory = build.join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name.trim_start_matches('/'))
    }

    /// Compile a fixture; say where the program is.
    fn compile(&self, program: &str, source: &str, flags: &[&str]) -> PathBuf {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs").join(source);
        let compiler: &[&str] = match source.rsplit('.').next().unwrap() {
            "c" => &["gcc", "-O2", "-g"],
            "cpp" => &["g++", "-O2", "-g"],
            "rs" => &["rustc", "--edition=2024", "-O", "-g"],
            "go" => &["go", "build"],
            other => panic!("who compiles .{other}?"),
        };
        let path = self.path(program);
        let out = ["-o".as_ref(), path.as_os_str(), fixture.as_os_str()];
        let flags = compiler.iter().chain(flags).map(OsStr::new);
        self.run(&flags.chain(out).collect::<Vec<_>>());
        path
    }

    /// Run a program of the binutils or the like here.
    fn run<S: AsRef<OsStr>>(&self, words: &[S]) {
        let mut command = Command::new(&words[0]);
        let made = command.args(&words[1..]).current_dir(&self.directory).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{command:?}: {said}");
    }

    /// The image of a program below this root.
    fn module(&self, path: &Path) -> Arc<Module> {
        let below = Path::new("/").join(path.strip_prefix(&self.directory).unwrap());
        module(&self.directory, path, &below)
    }
}

fn module(root: &Path, path: &Path, below: &Path) -> Arc<Module> {
    let bytes = fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let segment = file.segments().find(|segment| match segment.flags() {
        SegmentFlags::Elf { p_flags, .. } => p_flags.0 & 1 != 0,
        _ => false,
    });
    let segment = segment.unwrap();
    let (offset, _) = segment.file_range();
    let page = 4096;
    let (start, end) = (segment.address() / page * page, segment.address() + segment.size());
    let about = fs::metadata(path).unwrap();
    let mapping = Mapping {
        range: Address(start)..Address(end.next_multiple_of(page)),
        offset: offset / page * page,
        readable: true,
        executable: true,
        device: about.dev(),
        inode: about.ino(),
        backing: Backing::File(below.to_owned()),
    };
    let root = Root { directory: root.to_owned(), map_files: None };
    let mut space = AddressSpace::new(vec![mapping], root);
    match space.find(Address(segment.address()), &mut Modules::default(), &Piece::default()) {
        Place::Module { module, bias: 0 } => module,
        other => panic!("{}: {other:?}", path.display()),
    }
}

fn symbolizer() -> Symbolizer {
    Symbolizer::new("/nonexistent".into())
}

fn names(symbolizer: &mut Symbolizer, module: &Arc<Module>, at: u64) -> Vec<Symbol> {
    symbolizer.image(module, CodeAddress::Instruction(Address(at)))
}

/// Every `step`th address of the functions that `wanted` takes by their names.
fn addresses(program: &Path, step: usize, wanted: impl Fn(&str) -> bool) -> Vec<u64> {
    let bytes = fs::read(program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let functions = file.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text);
    let functions = functions.filter(|symbol| symbol.name().is_ok_and(&wanted));
    let ranges = functions.map(|symbol| symbol.address()..symbol.address() + symbol.size());
    let all: BTreeSet<u64> = ranges.flatten().collect();
    assert!(!all.is_empty());
    all.into_iter().step_by(step).collect()
}

/// A function, a file's name without its directory, and a line.
type Place3 = (String, String, u32);

/// What binutils say of each address.
fn binutils(program: &Path, addresses: &[u64]) -> Vec<Vec<Place3>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-f", "-i", "-C", "-e"]).arg(program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let asked: String = addresses.iter().map(|at| format!("{at:#x}\n")).collect();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()).unwrap());
    let said = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let mut lines = said.lines().peekable();
    let mut answers = Vec::new();
    while let Some(address) = lines.next() {
        assert!(address.starts_with("0x"), "{address}");
        let mut frames = Vec::new();
        while let Some(function) = lines.next_if(|line| !line.starts_with("0x0")) {
            let place = lines.next().unwrap().split(" (discriminator").next().unwrap();
            let (file, line) = place.rsplit_once(':').unwrap();
            frames.push((plain(function), name(file), line.parse().unwrap_or(0)));
        }
        answers.push(frames);
    }
    assert_eq!(answers.len(), addresses.len());
    answers
}

fn name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A demangled name without what demanglers disagree about: parameters, and
/// everything else in brackets.
fn plain(function: &str) -> String {
    function.split(['(', '<', '{']).next().unwrap_or_default().trim().to_owned()
}

fn ours(symbols: &[Symbol]) -> Vec<Place3> {
    let place = |symbol: &Symbol| {
        let file = symbol.file.as_deref().map_or_else(|| "??".to_owned(), name);
        (plain(&symbol.function), file, symbol.line.unwrap_or(0))
    };
    symbols.iter().map(place).collect()
}

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
    let (mut of_whole, mut of_variant) = (symbolizer(), symbolizer());
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

fn section(path: &Path, name: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    Some(file.section_by_name(name)?.data().unwrap().to_vec())
}

/// Where a debug file of this build id belongs, below a directory of them.
fn by_build_id(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().unwrap().to_vec();
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(".build-id/{}/{}.debug", &digits[..2], &digits[2..])
}

/// Whether a tool is here; if not, say that the test goes without it.
fn is_here(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: `{tool}` is not installed");
    }
    found
}

#[test]
fn a_linked_debug_file_is_found_where_it_may_lie() {
    for place in ["bin/a.debug", "bin/.debug/a.debug", "usr/lib/debug/bin/a.debug"] {
        for flags in [&["-Wl,--build-id=none"][..], &["-Wl,--build-id"]] {
            let target = Target::new(&format!("link-{}-{}", place.len(), flags[0].len()));
            fs::create_dir_all(target.path(place).parent().unwrap()).unwrap();
            fs::create_dir_all(target.path("bin")).unwrap();
            let whole = target.compile("whole", "symbols.c", flags);
            target.run(&["objcopy", "--only-keep-debug", "whole", "a.debug"]);
            target.run(&["objcopy", "-S", "--add-gnu-debuglink=a.debug", "whole", "bin/a"]);
            let stripped = target.path("bin/a");
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
    let host = target.path("host");
    for directory in ["usr/lib/debug", "host"] {
        target.run(&["objcopy", "-S", "whole", "stripped"]);
        let stripped = target.path("stripped");
        has_no_lines(&target, &stripped, &whole);
        let place = target.path(directory).join(by_build_id(&whole));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        target.run(&["objcopy", "--only-keep-debug", "whole", place.to_str().unwrap()]);
        if directory == "host" {
            let at = addresses(&whole, 1, in_c)[0];
            let found = names(&mut Symbolizer::new(host.clone()), &target.module(&stripped), at);
            assert!(found[0].line.is_some(), "{found:?}");
        } else {
            same_names(&target, &whole, &stripped, in_c);
        }
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
        for tool in ["llvm-dwp", "dwp"] {
            // That of binutils 2.40 does not know version 5, and that of LLVM
            // 14 does not come to an end with what gcc makes of it.
            if !is_here(tool) || version == "-gdwarf-5" {
                continue;
            }
            target.run(&[tool, "-e", "a", "-o", "a.dwp"]);
            fs::rename(target.path("a.dwo"), target.path("moved")).unwrap();
            same_names(&target, &whole, &program, in_c);
            fs::remove_file(target.path("a.dwp")).unwrap();
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
        if found != expected {
            differences.push(format!("{at:#x}\n  ours     {found:?}\n  binutils {expected:?}"));
        }
    }
    let (count, all) = (differences.len(), asked.len());
    assert!(count == 0, "{count} of {all}\n{}", differences.join("\n"));
}
