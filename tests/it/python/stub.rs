//! Images for recordings: of an image that takes megabytes, what a runtime is
//! found by.

use std::{fs, path::Path};

use spy::module::Module;

/// The names that are asked of images when an interpreter is looked for.
const NAMES: [&str; 17] = [
    "_PyRuntime",
    "_PyThreadState_Current",
    "_Py_NegativeRefcount",
    "Py_IsInitialized",
    "Py_Version",
    "PyUnicodeUCS2_FromUnicode",
    "collecting",
    "gil_cond",
    "interp_head",
    "interpreter_lock",
    "_PyEval_EvalFrameDefault",
    "_PyEval_EvalFrameDefault.cold",
    "PyEval_EvalFrameEx",
    "collect",
    "gc_collect_main",
    "invoke_gc_callback",
    "_thread_db_pthread_tid",
];

const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: u16 = 64;
const LOAD: u32 = 1;

/// A table of symbols, and their names.
#[derive(Default)]
struct Table {
    symbols: Vec<u8>,
    names: Vec<u8>,
}

impl Table {
    fn add(&mut self, name: &str, value: u64, size: u64) {
        let at = u32::try_from(self.names.len()).unwrap();
        self.names.extend(name.bytes().chain([0]));
        // A global variable or function (kind 1, 2) of some section.
        let kind = if size == 0 { 0x11 } else { 0x12 };
        self.symbols.extend(at.to_le_bytes());
        self.symbols.extend([kind, 0, 1, 0]);
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
    }
}

/// Write to `path` an ELF file that is laid out and defines as `module` does
/// what is asked of it; whether it defines anything of that.
pub(super) fn write(module: &Module, path: &Path) -> bool {
    let Some(file) = module.file() else { return false };
    let (mut exported, mut defined) = (Table::default(), Table::default());
    for name in NAMES {
        if let Some(value) = module.exported(name) {
            exported.add(name, value, size(module.exported_function(name)));
        } else if let Some(value) = module.defined(name) {
            defined.add(name, value, size(module.function(name)));
        }
    }
    if exported.symbols.is_empty() && defined.symbols.is_empty() {
        return false;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, image(file, &exported, &defined)).unwrap();
    true
}

fn size(range: Option<std::ops::Range<u64>>) -> u64 {
    range.map_or(0, |range| range.end - range.start)
}

/// The headers of `file`, and the two tables.
fn image(file: &[u8], exported: &Table, defined: &Table) -> Vec<u8> {
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let count = usize::from(u16::from_le_bytes(file[56..58].try_into().unwrap()));
    let headers = usize::try_from(number(32)).unwrap();
    let mut image = file[..FILE_HEADER].to_vec();
    // Only where it is loaded: what else the headers tell of is not there.
    let programs = file[headers..headers + count * PROGRAM_HEADER].chunks_exact(PROGRAM_HEADER);
    let loads: Vec<_> = programs.filter(|header| header[..4] == LOAD.to_le_bytes()).collect();
    image.extend(loads.concat());
    let mut text = Vec::from(*b"\0");
    let mut sections = vec![0; SECTION_HEADER.into()];
    let mut add = |name: &str, kind: u32, bytes: &[u8]| {
        let name_at = u32::try_from(text.len()).unwrap();
        text.extend(name.bytes().chain([0]));
        let bytes = if name == ".shstrtab" { &text } else { bytes };
        let (offset, len) = (image.len() as u64, bytes.len() as u64);
        image.extend(bytes);
        sections.extend([name_at.to_le_bytes(), kind.to_le_bytes()].concat());
        // Flags, address, where, how much; link and info, alignment, entries.
        sections.extend([0, 0, offset, len, 0, 0, 0].map(u64::to_le_bytes).concat());
    };
    for (name, kind, bytes) in [
        (".dynsym", 11, &exported.symbols),
        (".dynstr", 3, &exported.names),
        (".symtab", 2, &defined.symbols),
        (".strtab", 3, &defined.names),
    ] {
        add(name, kind, bytes);
    }
    add(".shstrtab", 3, &[]);
    let at = image.len() as u64;
    image.extend(sections);
    image[32..40].copy_from_slice(&(FILE_HEADER as u64).to_le_bytes());
    image[40..48].copy_from_slice(&at.to_le_bytes());
    let numbers = [u16::try_from(loads.len()).unwrap(), SECTION_HEADER, 6, 5];
    image[56..64].copy_from_slice(&numbers.map(u16::to_le_bytes).concat());
    image
}
