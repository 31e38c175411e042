//! Programs made for a test, and what others say of their addresses.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Write,
    ops::Range,
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
pub(super) struct Target {
    pub(super) directory: PathBuf,
}

impl Target {
    pub(super) fn new(name: &str) -> Self {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/build/symbols");
        let directory = build.join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name.trim_start_matches('/'))
    }

    /// Compile a fixture; say where the program is.
    pub(super) fn compile(&self, program: &str, source: &str, flags: &[&str]) -> PathBuf {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs").join(source);
        let compiler: &[&str] = match source.rsplit('.').next().unwrap() {
            "c" => &["gcc", "-O2", "-g"],
            "cpp" => &["g++", "-O2", "-g"],
            "rs" => &["rustc", "--edition=2024", "-O", "-g"],
            "go" => &["go", "build"],
            "s" => &["gcc", "-nostdlib", "-static", "-Wl,-e,deep"],
            other => panic!("who compiles .{other}?"),
        };
        let path = self.path(program);
        let out = ["-o".as_ref(), path.as_os_str(), fixture.as_os_str()];
        let flags = compiler.iter().chain(flags).map(OsStr::new);
        self.run(&flags.chain(out).collect::<Vec<_>>());
        path
    }

    /// Run a program of the binutils or the like here.
    pub(super) fn run<S: AsRef<OsStr>>(&self, words: &[S]) {
        let mut command = Command::new(&words[0]);
        let made = command.args(&words[1..]).current_dir(&self.directory).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{command:?}: {said}");
    }

    /// The image of a program below this root.
    pub(super) fn module(&self, path: &Path) -> Arc<Module> {
        let below = Path::new("/").join(path.strip_prefix(&self.directory).unwrap());
        module(&self.directory, path, &below)
    }
}

pub(super) fn module(root: &Path, path: &Path, below: &Path) -> Arc<Module> {
    let bytes = fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let segment = file.segments().find(|segment| match segment.flags() {
        SegmentFlags::Elf { p_flags, .. } => p_flags.0 & 1 != 0,
        _ => false,
    });
    let segment = segment.unwrap();
    let range = segment.address()..segment.address() + segment.size();
    let found = mapped(root, path, below, range, segment.file_range().0);
    found.unwrap_or_else(|| panic!("{}", path.display()))
}

/// The image of a file that may be damaged, as if `at` were where its code
/// begins.
pub(super) fn try_module(root: &Path, path: &Path, at: u64) -> Option<Arc<Module>> {
    let below = Path::new("/").join(path.strip_prefix(root).unwrap());
    mapped(root, path, &below, at..at + 1, at & 0xf_ffff)
}

pub(super) fn mapped(
    root: &Path,
    path: &Path,
    below: &Path,
    range: Range<u64>,
    offset: u64,
) -> Option<Arc<Module>> {
    let about = fs::metadata(path).unwrap();
    let page = 4096;
    let start = range.start / page * page;
    let mapping = Mapping {
        range: Address(start)..Address(range.end.next_multiple_of(page)),
        offset: offset / page * page,
        readable: true,
        executable: true,
        device: about.dev(),
        inode: about.ino(),
        backing: Backing::File(below.to_owned()),
    };
    let root = Root { directory: root.to_owned(), map_files: None };
    let mut space = AddressSpace::new(vec![mapping], root);
    match space.find(Address(start), &mut Modules::default(), &Piece::default()) {
        Place::Module { module, .. } => Some(module),
        _ => None,
    }
}

pub(super) fn symbolizer() -> Symbolizer {
    Symbolizer::new("/nonexistent".into())
}

pub(super) fn names(symbolizer: &mut Symbolizer, module: &Arc<Module>, at: u64) -> Vec<Symbol> {
    symbolizer.image(module, CodeAddress::Instruction(Address(at)))
}

/// Every `step`th address of the functions that `wanted` takes by their names.
pub(super) fn addresses(program: &Path, step: usize, wanted: impl Fn(&str) -> bool) -> Vec<u64> {
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
pub(super) type Place3 = (String, String, u32);

/// What binutils say of each address.
pub(super) fn binutils(program: &Path, addresses: &[u64]) -> Vec<Vec<Place3>> {
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

pub(super) fn name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A demangled name without what demanglers disagree about: everything in
/// brackets.
pub(super) fn plain(function: &str) -> String {
    let mut depth = 0_usize;
    let outside = function.chars().filter(|letter| {
        match letter {
            '(' | '<' | '{' | '[' => depth += 1,
            ')' | '>' | '}' | ']' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    });
    let outside: String = outside.collect();
    let cut = if function.ends_with('…') { "…" } else { "" };
    format!("{}{cut}", outside.replace(" const", "").trim())
}

pub(super) fn ours(symbols: &[Symbol]) -> Vec<Place3> {
    let place = |symbol: &Symbol| {
        let file = symbol.file.as_deref().map_or_else(|| "??".to_owned(), name);
        (plain(&symbol.function), file, symbol.line.unwrap_or(0))
    };
    symbols.iter().map(place).collect()
}

/// Whether two answers are the same. Of code that has no line binutils may
/// name the unit, as the symbol table has it.
pub(super) fn agree(ours: &[Place3], theirs: &[Place3]) -> bool {
    let same = |(ours, theirs): (&Place3, &Place3)| {
        let name = match ours.0.strip_suffix('…') {
            Some(beginning) => theirs.0.starts_with(beginning),
            None => ours.0 == theirs.0,
        };
        let file = ours.1 == theirs.1 || (ours.1 == "??" && theirs.2 == 0);
        name && file && ours.2 == theirs.2
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

pub(super) fn section(path: &Path, name: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    Some(file.section_by_name(name)?.data().unwrap().to_vec())
}

/// Where a debug file of this build id belongs, below a directory of them.
pub(super) fn by_build_id(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().unwrap().to_vec();
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(".build-id/{}/{}.debug", &digits[..2], &digits[2..])
}

/// Whether a tool is here; if not, say that the test goes without it.
pub(super) fn is_here(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: `{tool}` is not installed");
    }
    found
}
