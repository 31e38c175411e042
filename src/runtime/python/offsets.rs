//! The layout that an interpreter publishes of itself (3.13 and later).
//!
//! `_PyRuntime` begins with `_Py_DebugOffsets` (Include/internal/
//! pycore_debug_offsets.h): a word for the size of each struct that matters, and
//! one for each of its fields. Which word means what is fixed in a minor version.
//! What the words do not say is put in here by minor version too.

use super::layout::{
    Chain, Code, Collecting, Dict, DictKeys, Field, Frames, Gil, InstanceFields, Instruction,
    Integer, InterpreterState, Layout, LineTable, Objects, RuntimeState, Text, ThreadState,
};
use crate::memory::{Address, Memory, Plain};

/// What `_PyRuntime` begins with.
pub const COOKIE: &[u8; 8] = b"xdebugpy";

/// A struct, and what there is a word for of it.
type Group = (&'static str, &'static [&'static str]);

const HEAD: Group = ("", &["cookie", "version", "free_threaded"]);
const RUNTIME: Group = ("runtime_state", &["size", "finalizing", "interpreters_head"]);
const TUPLE: Group = ("tuple_object", &["size", "ob_item", "ob_size"]);
const LIST: Group = ("list_object", &["size", "ob_item", "ob_size"]);
const SET: Group = ("set_object", &["size", "used", "table", "mask"]);
const DICT: Group = ("dict_object", &["size", "ma_keys", "ma_values"]);
const FLOAT: Group = ("float_object", &["size", "ob_fval"]);
const LONG: Group = ("long_object", &["size", "lv_tag", "ob_digit"]);
const BYTES: Group = ("bytes_object", &["size", "ob_size", "ob_sval"]);
const PYOBJECT: Group = ("pyobject", &["size", "ob_type"]);

#[rustfmt::skip]
const V3_13: &[Group] = &[
    HEAD,
    RUNTIME,
    ("interpreter_state", &["size", "id", "next", "threads_head", "gc", "imports_modules",
        "sysdict", "builtins", "ceval_gil", "gil_runtime_state", "gil_runtime_state_enabled",
        "gil_runtime_state_locked", "gil_runtime_state_holder"]),
    ("thread_state", &["size", "prev", "next", "interp", "current_frame", "thread_id",
        "native_thread_id", "datastack_chunk", "status"]),
    ("interpreter_frame", &["size", "previous", "executable", "instr_ptr", "localsplus", "owner"]),
    ("code_object", &["size", "filename", "name", "qualname", "linetable", "firstlineno",
        "argcount", "localsplusnames", "localspluskinds", "co_code_adaptive"]),
    PYOBJECT,
    ("type_object", &["size", "tp_name", "tp_repr", "tp_flags"]),
    TUPLE, LIST, DICT, FLOAT, LONG, BYTES,
    ("unicode_object", &["size", "state", "length", "asciiobject_size"]),
    ("gc", &["size", "collecting"]),
];

#[rustfmt::skip]
const INTERPRETER_3_14: Group = ("interpreter_state", &["size", "id", "next", "threads_head",
    "threads_main", "gc", "imports_modules", "sysdict", "builtins", "ceval_gil",
    "gil_runtime_state", "gil_runtime_state_enabled", "gil_runtime_state_locked",
    "gil_runtime_state_holder", "code_object_generation", "tlbc_generation"]);
#[rustfmt::skip]
const FRAME_3_14: Group = ("interpreter_frame", &["size", "previous", "executable", "instr_ptr",
    "localsplus", "owner", "stackpointer", "tlbc_index"]);
#[rustfmt::skip]
const CODE_3_14: Group = ("code_object", &["size", "filename", "name", "qualname", "linetable",
    "firstlineno", "argcount", "localsplusnames", "localspluskinds", "co_code_adaptive",
    "co_tlbc"]);

#[rustfmt::skip]
const V3_14: &[Group] = &[
    HEAD,
    RUNTIME,
    INTERPRETER_3_14,
    ("thread_state", &["size", "prev", "next", "interp", "current_frame", "thread_id",
        "native_thread_id", "datastack_chunk", "status"]),
    FRAME_3_14,
    CODE_3_14,
    PYOBJECT,
    ("type_object", &["size", "tp_name", "tp_repr", "tp_flags"]),
    TUPLE, LIST, SET, DICT, FLOAT, LONG, BYTES,
    ("unicode_object", &["size", "state", "length", "asciiobject_size"]),
    ("gc", &["size", "collecting"]),
];

#[rustfmt::skip]
const V3_15: &[Group] = &[
    HEAD,
    RUNTIME,
    INTERPRETER_3_14,
    ("thread_state", &["size", "prev", "next", "interp", "current_frame", "base_frame",
        "last_profiled_frame", "last_profiled_frame_seq", "thread_id", "native_thread_id",
        "datastack_chunk", "status", "holds_gil", "gil_requested", "current_exception",
        "exc_state"]),
    ("err_stackitem", &["exc_value"]),
    FRAME_3_14,
    CODE_3_14,
    PYOBJECT,
    ("type_object", &["size", "tp_name", "tp_repr", "tp_flags", "tp_basicsize",
        "tp_dictoffset"]),
    ("heap_type_object", &["size", "ht_cached_keys"]),
    TUPLE, LIST, SET, DICT, FLOAT, LONG, BYTES,
    ("unicode_object", &["size", "state", "length", "asciiobject_size",
        "compactunicodeobject_size"]),
    ("gc", &["size", "collecting", "frame"]),
];

/// The newest minor version whose words are known. Newer ones are read as it.
pub const NEWEST: u8 = 15;

/// The largest struct and the farthest field that is believed: several times
/// `PyInterpreterState`, which is the largest.
const MAX_SIZE: u64 = 4 << 20;

/// No field of a lock lies farther from its start, in bytes: with all its mutexes
/// it has little more than 200.
const LAST_IN_LOCK: u32 = 256;

/// What an interpreter publishes.
#[derive(Clone, Debug)]
pub struct Offsets {
    bytes: Vec<u8>,
    groups: &'static [Group],
    minor: u8,
}

/// Read `PY_VERSION_HEX` of the interpreter whose `_PyRuntime` lies at
/// `runtime`, if it publishes one.
pub fn version(runtime: Address, memory: &dyn Memory) -> Option<u32> {
    let mut head = [0; 16];
    memory.read(runtime, &mut head).ok()?;
    let version = u64::decode(head.get(8..)?)?;
    let version = u32::try_from(version).ok()?;
    (head.starts_with(COOKIE) && (0x030d..0x0400).contains(&(version >> 16))).then_some(version)
}

impl Offsets {
    /// Read what the interpreter whose `_PyRuntime` lies at `runtime` publishes;
    /// `None` when it is not plausible.
    pub fn read(runtime: Address, memory: &dyn Memory) -> Option<Self> {
        let [_, minor, _, _] = version(runtime, memory)?.to_be_bytes();
        let groups = match minor {
            ..=13 => V3_13,
            14 => V3_14,
            _ => V3_15,
        };
        let words: usize = groups.iter().map(|(_, names)| names.len()).sum();
        let mut bytes = vec![0; words * 8];
        memory.read(runtime, &mut bytes).ok()?;
        let offsets = Self { bytes, groups, minor };
        offsets.is_plausible().then_some(offsets)
    }

    /// Whether it is a free-threaded build.
    pub fn is_free_threaded(&self) -> bool {
        self.word("", "free_threaded") == Some(1)
    }

    fn word(&self, group: &str, name: &str) -> Option<u64> {
        let mut index = 0;
        for (other, names) in self.groups {
            if *other == group {
                index += names.iter().position(|candidate| *candidate == name)?;
                return u64::decode(self.bytes.get(index * 8..)?);
            }
            index += names.len();
        }
        None
    }

    /// The words that there are, by their names in the header, for a test that
    /// has the header.
    pub fn words(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let names =
            self.groups.iter().flat_map(|(group, names)| names.iter().map(|name| (*group, *name)));
        let words = self.bytes.chunks_exact(8).filter_map(u64::decode);
        names.zip(words).map(|((group, name), word)| (group, name, word))
    }

    /// Whether sizes are sizes, fields lie in their structs, and an object's
    /// type where builds have it.
    fn is_plausible(&self) -> bool {
        let flag = self.word("", "free_threaded").is_some_and(|flag| flag <= 1);
        let class = matches!(self.word("pyobject", "ob_type"), Some(8 | 24));
        let inside = self.words().all(|(group, name, word)| match (group, name) {
            ("", _) | ("gc" | "err_stackitem", _) => true,
            (_, "size") => (1..=MAX_SIZE).contains(&word),
            // What lies at a struct's end may lie past its size: an array of none.
            _ => self.word(group, "size").is_none_or(|size| word <= size),
        });
        flag && class && inside
    }

    fn offset(&self, group: &str, name: &str) -> Option<u32> {
        let word = self.word(group, name).filter(|&word| word < MAX_SIZE)?;
        u32::try_from(word).ok()
    }

    fn field<T>(&self, group: &str, name: &str) -> Option<Field<T>> {
        self.offset(group, name).map(Field::at)
    }

    /// The layout that this says; `None` when something in it cannot be.
    pub fn layout(&self) -> Option<Layout> {
        Some(Layout {
            runtime: RuntimeState {
                interpreters_head: self.field("runtime_state", "interpreters_head")?,
            },
            interpreter: self.interpreter()?,
            thread: self.thread()?,
            frame: self.frame()?,
            code: self.code()?,
            objects: self.objects()?,
        })
    }

    fn interpreter(&self) -> Option<InterpreterState> {
        const GROUP: &str = "interpreter_state";
        let lock = self.offset(GROUP, "gil_runtime_state")?;
        // The lock of the interpreter's own, which is one of all locks that it
        // may point to: where in it its fields are is the same in all.
        let in_lock = |name| self.offset(GROUP, name)?.checked_sub(lock);
        // This one is counted from the lock itself (pycore_debug_offsets.h), where
        // it is first; it is 0 also in builds that always have one.
        let enabled = self.offset(GROUP, "gil_runtime_state_enabled");
        let enabled = enabled.filter(|&at| at <= LAST_IN_LOCK).map(Field::at);
        let gil = if self.is_free_threaded() && enabled.is_none() {
            Gil::None
        } else {
            Gil::Each {
                pointer: self.field(GROUP, "ceval_gil")?,
                last_holder: Field::at(in_lock("gil_runtime_state_holder")?),
                locked: Field::at(in_lock("gil_runtime_state_locked")?),
                enabled: enabled.filter(|_| self.is_free_threaded()),
            }
        };
        let collector = self.offset(GROUP, "gc")?;
        let collecting = collector.checked_add(self.offset("gc", "collecting")?)?;
        let collects_for = self.offset("gc", "frame").and_then(|at| collector.checked_add(at));
        Some(InterpreterState {
            next: self.field(GROUP, "next")?,
            threads_head: self.field(GROUP, "threads_head")?,
            modules: self.field(GROUP, "imports_modules")?,
            gil,
            collecting: Collecting::Interpreter(Field::at(collecting)),
            collects_for: collects_for.map(Field::at),
        })
    }

    fn thread(&self) -> Option<ThreadState> {
        const GROUP: &str = "thread_state";
        // `state` is the second `int` after `_status` (3.13, 3.14), or after what
        // 3.15 has put behind that (Include/cpython/pystate.h).
        let before = self.offset(GROUP, "gil_requested").or(self.offset(GROUP, "status"));
        let attachment = before.filter(|_| self.is_free_threaded());
        let attachment = attachment.and_then(|before| before.checked_add(8));
        Some(ThreadState {
            next: self.field(GROUP, "next")?,
            interpreter: self.field(GROUP, "interp")?,
            thread_id: self.field(GROUP, "thread_id")?,
            native_thread_id: Some(self.field(GROUP, "native_thread_id")?),
            frame: self.field(GROUP, "current_frame")?,
            holds_gil: self.field(GROUP, "holds_gil"),
            gil_requested: self.field(GROUP, "gil_requested"),
            attachment: attachment.map(Field::at),
        })
    }

    fn frame(&self) -> Option<Frames> {
        const GROUP: &str = "interpreter_frame";
        Some(Frames {
            // Owner 3 is the C stack in 3.13, and the interpreter itself later,
            // with 4 for the C stack in 3.14 (pycore_frame.h,
            // pycore_interpframe_structs.h).
            chain: Chain::Shims { cframe: None, shim: 3 },
            previous: self.field(GROUP, "previous")?,
            code: self.field(GROUP, "executable")?,
            // From 3.14 on it is a `_PyStackRef`, with one bit of tag, and two
            // in 3.15 (pycore_stackref.h); objects lie at multiples of 8.
            tag: if self.minor >= 14 { 7 } else { 0 },
            instruction: Instruction::Pointer(self.field(GROUP, "instr_ptr")?),
            owner: Some(self.field(GROUP, "owner")?),
            locals: self.field(GROUP, "localsplus")?,
        })
    }

    fn code(&self) -> Option<Code> {
        const GROUP: &str = "code_object";
        let arguments = self.offset(GROUP, "argcount")?;
        let local_names = self.offset(GROUP, "localsplusnames")?;
        let copies = self.field(GROUP, "co_tlbc").filter(|_| self.is_free_threaded());
        Some(Code {
            filename: self.field(GROUP, "filename")?,
            name: self.field(GROUP, "name")?,
            qualname: Some(self.field(GROUP, "qualname")?),
            lines: self.field(GROUP, "linetable")?,
            line_table: LineTable::Locations,
            first_line: self.field(GROUP, "firstlineno")?,
            arguments: Field::at(arguments),
            // co_flags, co_argcount, co_posonlyargcount, co_kwonlyargcount: in
            // this order since 3.11 (Include/cpython/code.h).
            keyword_only: Some(Field::at(arguments.checked_add(8)?)),
            flags: Field::at(arguments.checked_sub(4)?),
            // The last of the numbers before them (Include/cpython/code.h).
            version: Some(Field::at(local_names.checked_sub(4)?)),
            local_names: Field::at(local_names),
            local_kinds: Some(self.field(GROUP, "localspluskinds")?),
            cell_names: None,
            instructions: Some(self.field(GROUP, "co_code_adaptive")?),
            first_traceable: None,
            copies,
        })
    }

    fn objects(&self) -> Option<Objects> {
        let head = self.offset("pyobject", "size")?;
        let name = self.offset("type_object", "tp_name")?;
        // What is not published of a type lies as far from its name as in every
        // version and build (Include/cpython/object.h).
        let beside_name = |published: &str, distance: u32| {
            self.offset("type_object", published).or_else(|| name.checked_add(distance))
        };
        // So do a type's keys from the type's end, and a set's fields from its
        // beginning.
        let keys = self.offset("heap_type_object", "ht_cached_keys");
        let keys = keys.or_else(|| self.offset("type_object", "size")?.checked_add(464))?;
        let set = |name: &str, distance: u32| {
            self.offset("set_object", name).or_else(|| head.checked_add(distance))
        };
        Some(Objects {
            class: self.field("pyobject", "ob_type")?,
            size: self.field("tuple_object", "ob_size")?,
            type_name: Field::at(name),
            type_flags: self.field("type_object", "tp_flags")?,
            type_size: Field::at(beside_name("tp_basicsize", 8)?),
            type_dict: Field::at(beside_name("tp_dictoffset", 264)?),
            type_base: Field::at(beside_name("tp_base", 232)?),
            type_keys: Some(Field::at(keys)),
            // Before the two words of the collector's, which free-threaded builds
            // do not have.
            fields: InstanceFields::Inline313 {
                dictionary: if self.is_free_threaded() { 8 } else { 24 },
            },
            text: self.text()?,
            bytes: self.field("bytes_object", "ob_sval")?,
            tuple_items: self.field("tuple_object", "ob_item")?,
            list_items: self.field("list_object", "ob_item")?,
            dict: Dict::Compact {
                // The first field (Include/cpython/dictobject.h).
                used: Field::at(head),
                keys: self.field("dict_object", "ma_keys")?,
                values: self.field("dict_object", "ma_values")?,
                form: DictKeys::Logarithms,
            },
            set: (
                Field::at(set("used", 8)?),
                Field::at(set("mask", 16)?),
                Field::at(set("table", 24)?),
            ),
            float: self.field("float_object", "ob_fval")?,
            integer: Integer::Tagged {
                tag: self.field("long_object", "lv_tag")?,
                digits: self.field("long_object", "ob_digit")?,
            },
        })
    }

    fn text(&self) -> Option<Text> {
        const GROUP: &str = "unicode_object";
        let ascii = self.offset(GROUP, "asciiobject_size")?;
        let published = self.offset(GROUP, "compactunicodeobject_size");
        Some(Text::Compact {
            length: self.field(GROUP, "length")?,
            state: self.field(GROUP, "state")?,
            // From 3.14 on a free-threaded build writes `interned` as a byte of
            // its own (Include/cpython/unicodeobject.h).
            kind_bit: if self.is_free_threaded() && self.minor >= 14 { 8 } else { 2 },
            ascii,
            // A length and a pointer more.
            compact: published.or_else(|| ascii.checked_add(16))?,
            data: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Piece;

    const RUNTIME: Address = Address(0x1000);

    /// What a process has at its `_PyRuntime`: each word by its name.
    fn published(version: u32, word: impl Fn(&str, &str) -> u64) -> Piece {
        let groups = match version.to_be_bytes()[1] {
            ..=13 => V3_13,
            14 => V3_14,
            _ => V3_15,
        };
        let names =
            groups.iter().flat_map(|(group, names)| names.iter().map(|name| (*group, *name)));
        let words = names.map(|(group, name)| match name {
            "cookie" => u64::from_le_bytes(*COOKIE),
            "version" => version.into(),
            _ => word(group, name),
        });
        Piece { start: RUNTIME, bytes: words.flat_map(u64::to_le_bytes).collect() }
    }

    fn plausible(group: &str, name: &str) -> u64 {
        match (group, name) {
            ("", "free_threaded") => 0,
            ("pyobject", "ob_type") => 8,
            ("pyobject", "size") => 16,
            (_, "size") => 500,
            ("interpreter_state", "gil_runtime_state") => 100,
            ("interpreter_state", name) if name.starts_with("gil_runtime_state") => 116,
            _ => 24,
        }
    }

    #[test]
    fn every_version_has_its_words() {
        // Debian's 3.14.8 and 3.15.0, pyenv's 3.13.0: where the last group begins.
        for (version, start, words) in
            [(0x030d_00f0, 568, 2), (0x030e_08f0, 648, 2), (0x030f_00f0, 752, 3)]
        {
            let piece = published(version, plausible);
            assert_eq!(piece.bytes.len(), start + words * 8, "{version:x}");
            let layout = Offsets::read(RUNTIME, &piece).and_then(|offsets| offsets.layout());
            let Gil::Each { locked, .. } = layout.unwrap().interpreter.gil else { panic!() };
            assert_eq!(locked.offset, 16);
        }
        // A version to come, as the newest.
        let piece = published(0x0310_00f0, plausible);
        assert!(Offsets::read(RUNTIME, &piece).is_some());
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        for (group, name, word) in [
            ("pyobject", "ob_type", 16),
            ("", "free_threaded", 2),
            ("thread_state", "size", MAX_SIZE + 1),
            ("thread_state", "size", 0),
            ("thread_state", "next", 501),
            ("code_object", "filename", u64::MAX),
        ] {
            let wrong =
                |g: &str, n: &str| if (g, n) == (group, name) { word } else { plausible(g, n) };
            let piece = published(0x030f_00f0, wrong);
            assert!(Offsets::read(RUNTIME, &piece).is_none(), "{group}.{name}: {word}");
        }
        // A lock whose fields lie before it, and a collector that is nowhere.
        for (group, name, word) in
            [("interpreter_state", "gil_runtime_state_holder", 99), ("gc", "collecting", u64::MAX)]
        {
            let wrong =
                |g: &str, n: &str| if (g, n) == (group, name) { word } else { plausible(g, n) };
            let piece = published(0x030f_00f0, wrong);
            let offsets = Offsets::read(RUNTIME, &piece).unwrap();
            assert!(offsets.layout().is_none(), "{group}.{name}: {word}");
        }
        for version in [0x030c_00f0, 0x0400_00f0, 0] {
            assert_eq!(super::version(RUNTIME, &published(version, plausible)), None);
        }
        let mut short = published(0x030f_00f0, plausible);
        short.bytes.pop();
        assert!(Offsets::read(RUNTIME, &short).is_none());
    }

    #[test]
    fn free_threaded_builds_may_have_no_lock() {
        let free = |g: &str, n: &str| match (g, n) {
            ("", "free_threaded") => 1,
            ("pyobject", "ob_type") => 24,
            ("pyobject", "size") => 32,
            _ => plausible(g, n),
        };
        for (version, bit) in [(0x030d_00f0, 2), (0x030e_00f0, 8)] {
            let piece = published(version, free);
            let layout = Offsets::read(RUNTIME, &piece).unwrap().layout().unwrap();
            let Gil::Each { enabled, .. } = layout.interpreter.gil else { panic!() };
            assert_eq!(enabled, Some(Field::at(116)));
            let unsaid = |g: &str, n: &str| match n {
                "gil_runtime_state_enabled" => 300,
                _ => free(g, n),
            };
            let unsaid = Offsets::read(RUNTIME, &published(version, unsaid)).unwrap();
            assert_eq!(unsaid.layout().unwrap().interpreter.gil, Gil::None);
            assert_eq!(layout.code.copies.is_some(), bit == 8);
            assert_eq!(layout.thread.attachment, Some(Field::at(24 + 8)));
            let Text::Compact { kind_bit, .. } = layout.objects.text else { panic!() };
            assert_eq!(kind_bit, bit);
        }
    }
}
