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
