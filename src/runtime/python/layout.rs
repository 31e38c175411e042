//! How one build of CPython lays out its structs.
//!
//! All that differs between versions is a [`Layout`] value. The code that walks
//! frames and reads objects is written once, and never asks which version it
//! has: it asks the layout. From 3.13 on the target publishes its own
//! (`offsets`); older versions are `tables`.

use std::marker::PhantomData;

use crate::memory::{Address, Fault, Memory, Plain};

/// Where a `T` lies in a struct of the target's.
#[derive(Debug)]
pub struct Field<T> {
    /// In bytes from the struct's start.
    pub offset: u32,
    ty: PhantomData<fn() -> T>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

impl<T> PartialEq for Field<T> {
    fn eq(&self, other: &Self) -> bool {
        self.offset == other.offset
    }
}

impl<T> Eq for Field<T> {}

impl<T> Field<T> {
    /// A field at `offset`.
    pub const fn at(offset: u32) -> Self {
        Self { offset, ty: PhantomData }
    }

    /// Where it lies in the struct at `base`.
    pub const fn of(self, base: Address) -> Address {
        base.plus(self.offset as u64)
    }
}

impl<T: Plain> Field<T> {
    /// Read it from the struct at `base`.
    ///
    /// # Errors
    /// A [`Fault`] when it cannot be read.
    pub fn get(self, memory: &dyn Memory, base: Address) -> Result<T, Fault> {
        memory.get(self.of(base))
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How the interpreters of the process are found.
    pub runtime: RuntimeState,
    /// `PyInterpreterState`.
    pub interpreter: InterpreterState,
    /// `PyThreadState`.
    pub thread: ThreadState,
    /// Frames, and how a thread's are chained.
    pub frame: Frames,
    /// `PyCodeObject`.
    pub code: Code,
    /// Objects of all kinds.
    pub objects: Objects,
}

/// `_PyRuntimeState`, or what there was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeState {
    /// The first interpreter: a field of `_PyRuntime` (3.7 and later), or 0 where
    /// the variable `interp_head` itself is what was found.
    pub interpreters_head: Field<Address>,
}

/// `PyInterpreterState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpreterState {
    /// The next interpreter; 0 ends the list.
    pub next: Field<Address>,
    /// Its first thread.
    pub threads_head: Field<Address>,
    /// The dictionary `sys.modules`.
    pub modules: Field<Address>,
    /// Where the interpreter lock is.
    pub gil: Gil,
    /// Whether the collector runs.
    pub collecting: Collecting,
    /// The frame that the collector was begun by, while it runs (3.15).
    pub collects_for: Option<Field<Address>>,
}

/// Where the interpreter lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gil {
    /// One for the process: a variable that holds the thread state of whoever
    /// holds it (`_PyThreadState_Current` before 3.7; `gilstate.tstate_current`
    /// of `_PyRuntime` up to 3.11), and where the lock's own memory is, by
    /// which a thread that waits for it is recognised.
    Global {
        /// From the place that `RuntimeState` counts from, or absolute where
        /// `absolute`.
        holder: Field<Address>,
        /// Whether `holder` is a variable of its own, not a field of `_PyRuntime`.
        absolute: bool,
        /// The lock (`ceval.gil`), in `_PyRuntime`; `None` where it is not known.
        lock: Option<Field<u8>>,
    },
    /// The interpreter points to it (3.12 and later).
    Each {
        /// In `PyInterpreterState`: its address.
        pointer: Field<Address>,
        /// In the lock: the thread state of whoever holds it, or held it last.
        last_holder: Field<Address>,
        /// In the lock: whether anybody does.
        locked: Field<i32>,
        /// In the lock: whether there is one at all, in builds that can do
        /// without (free-threaded).
        enabled: Option<Field<i32>>,
    },
    /// There is none (a free-threaded build that does not say where it would be).
    None,
}

/// Whether the garbage collector runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collecting {
    /// An `int` of the interpreter (3.9 and later), from its start.
    Interpreter(Field<i32>),
    /// An `int` of the process: of `_PyRuntime` (3.7, 3.8).
    Runtime(Field<i32>),
    /// It is not said (a static variable before 3.7, if it has no symbol).
    Unknown,
}

/// `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// The next thread; 0 ends the list.
    pub next: Field<Address>,
    /// Its interpreter.
    pub interpreter: Field<Address>,
    /// Its `pthread_t`.
    pub thread_id: Field<u64>,
    /// The kernel's number of it (3.11 and later).
    pub native_thread_id: Option<Field<u64>>,
    /// The first field to follow to its innermost frame: what it leads to is
    /// said by `Frames::chain`.
    pub frame: Field<Address>,
    /// Whether it holds the interpreter lock (3.15), an `int`.
    pub holds_gil: Option<Field<i32>>,
    /// Whether it wants it (3.15), an `int`.
    pub gil_requested: Option<Field<i32>>,
    /// Whether it may run Python now, an `int`: 1 is that it may (free-threaded
    /// builds, which stop all others while the collector runs on one).
    pub attachment: Option<Field<i32>>,
}

/// How a thread's frames are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// `PyFrameObject`s by `f_back`, each run by a loop of its own (3.10 and older).
    Objects,
    /// The thread has a `_PyCFrame` (3.11), which lies in the native frame of a loop,
    /// and has the innermost frame and the next outer `_PyCFrame`. A frame
    /// with `is_entry` is the outermost of its loop's.
    CFrames {
        /// The struct.
        cframe: CFrame,
        /// In the frame: whether it is the outermost of its loop's, a byte.
        is_entry: Field<u8>,
    },
    /// The outermost of a loop's frames is one that runs no function, and lies in
    /// the loop's native frame (3.12 and later).
    Shims {
        /// The struct that has the innermost frame (3.12); `None` where the thread
        /// itself has it.
        cframe: Option<CFrame>,
        /// Owners, from this one on, that are no functions' frames.
        shim: u8,
    },
}

/// `_PyCFrame` (3.11, 3.12): lies in the native frame of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CFrame {
    /// The innermost frame.
    pub current_frame: Field<Address>,
    /// The `_PyCFrame` of the next outer loop.
    pub previous: Field<Address>,
}

impl Chain {
    /// The struct of each loop, where there is one.
    pub const fn cframe(self) -> Option<CFrame> {
        match self {
            Self::Objects => None,
            Self::CFrames { cframe, .. } => Some(cframe),
            Self::Shims { cframe, .. } => cframe,
        }
    }
}

/// Frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// How they are chained.
    pub chain: Chain,
    /// The next outer frame (`f_back`, `previous`); 0 ends the chain.
    pub previous: Field<Address>,
    /// What it executes. Low bits are tags: mask with [`Self::tag`].
    pub code: Field<Address>,
    /// Bits of `code`, and of values of the stack, that are no address.
    pub tag: u64,
    /// Where in it.
    pub instruction: Instruction,
    /// Who owns it, a byte (3.11 and later): see [`Chain::Shims`], and 1 for a generator.
    pub owner: Option<Field<u8>>,
    /// The first local variable.
    pub locals: Field<Address>,
}

/// How a frame says where in its code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `f_lasti`, an `int`: the last instruction's offset in bytes; -1 before the first (3.9 and older).
    Bytes(Field<i32>),
    /// `f_lasti`, an `int`: counted in units of two bytes (3.10).
    Units(Field<i32>),
    /// A pointer into the code object (3.11 and later): to the last instruction
    /// that was begun, or (3.13) to the one that runs or is to be resumed.
    Pointer(Field<Address>),
}

/// `PyCodeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `co_filename`, a string.
    pub filename: Field<Address>,
    /// `co_name`, a string.
    pub name: Field<Address>,
    /// `co_qualname` (3.11 and later), a string.
    pub qualname: Option<Field<Address>>,
    /// The line table, bytes.
    pub lines: Field<Address>,
    /// How that is to be read.
    pub line_table: LineTable,
    /// `co_firstlineno`.
    pub first_line: Field<i32>,
    /// `co_argcount`.
    pub arguments: Field<i32>,
    /// `co_kwonlyargcount` (3.0 and later).
    pub keyword_only: Option<Field<i32>>,
    /// `co_flags`.
    pub flags: Field<i32>,
    /// `co_version` (3.12 and later): another one for each that was made.
    pub version: Option<Field<u32>>,
    /// The names of the local variables: a tuple of strings (`co_varnames`, or
    /// `co_localsplusnames` from 3.11 on).
    pub local_names: Field<Address>,
    /// Their kinds, bytes (`co_localspluskinds`, 3.11 and later).
    pub local_kinds: Option<Field<Address>>,
    /// The names of cells and free variables where those are separate (3.10 and older): tuples.
    pub cell_names: Option<[Field<Address>; 2]>,
    /// Where the instructions begin that frames point into (3.11 and later).
    pub instructions: Option<Field<Address>>,
    /// The index of the first instruction that a user knows of (3.11, 3.12): a
    /// frame that has not come so far is not complete, and not shown.
    pub first_traceable: Option<Field<i32>>,
    /// Copies of the code, one a thread (free-threaded builds): `co_tlbc`.
    pub copies: Option<Field<Address>>,
}

/// How a line table is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`, with lines that only grow (3.5 and older).
    Growing,
    /// `co_lnotab`, with lines that may also go back (3.6 to 3.9).
    Signed,
    /// `co_linetable` of 3.10.
    Ranges,
    /// Locations with columns (3.11 and later).
    Locations,
}

/// Objects of all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objects {
    /// The type of an object (`ob_type`).
    pub class: Field<Address>,
    /// The number of items (`ob_size`) of an object that has some.
    pub size: Field<i64>,
    /// `tp_name`: a C string.
    pub type_name: Field<Address>,
    /// `tp_flags`: which of the basic types it is derived from, as bits.
    pub type_flags: Field<u64>,
    /// `tp_basicsize`.
    pub type_size: Field<i64>,
    /// `tp_dictoffset`.
    pub type_dict: Field<i64>,
    /// `tp_base`.
    pub type_base: Field<Address>,
    /// `ht_cached_keys` of a heap type (3.3 and later).
    pub type_keys: Option<Field<Address>>,
    /// Where the fields of objects are kept that keep them inline.
    pub fields: InstanceFields,
    /// Strings.
    pub text: Text,
    /// `ob_sval` of bytes (`str` of Python 2).
    pub bytes: Field<u8>,
    /// `ob_item` of a tuple: the first item.
    pub tuple_items: Field<Address>,
    /// `ob_item` of a list: a pointer to the first item.
    pub list_items: Field<Address>,
    /// Dictionaries.
    pub dict: Dict,
    /// `used`, `mask` and `table` of a set.
    pub set: (Field<i64>, Field<i64>, Field<Address>),
    /// `ob_fval` of a float.
    pub float: Field<u64>,
    /// Integers.
    pub integer: Integer,
}

/// Where objects keep their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceFields {
    /// Always in a dictionary (3.10 and older).
    Dictionary,
    /// In values before the object, at these distances below it (3.11: values 32, dictionary 24;
    /// 3.12: one word 24 below, tagged by its lowest bit), where the type's flags say so.
    Managed311,
    /// As 3.11, one word for both.
    Managed312,
    /// Values behind the object (3.13 and later).
    Inline313 {
        /// How far below the object the dictionary is: 24, and 8 in free-threaded builds.
        dictionary: u64,
    },
}

/// Strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// PEP 393 (3.3 and later).
    Compact {
        /// Characters.
        length: Field<i64>,
        /// Kind, compact, ascii.
        state: Field<u32>,
        /// The number of the lowest bit of the kind in `state`; compact and ascii are the
        /// fourth and the fifth from there. 2, and 8 in free-threaded builds from 3.14 on.
        kind_bit: u32,
        /// Where ASCII data begins.
        ascii: u32,
        /// Where other data begins that lies in the object.
        compact: u32,
        /// A pointer to data that lies elsewhere (3.11 and older).
        data: Option<Field<Address>>,
    },
    /// An array of 2-byte or 4-byte units (2.7): names are bytes there, and
    /// this is `unicode`.
    Wide {
        /// Units.
        length: Field<i64>,
        /// A pointer to the data.
        data: Field<Address>,
        /// Bytes of a unit: 2 or 4.
        unit: u32,
    },
}

/// Dictionaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dict {
    /// An open hash table of (hash, key, value) (2.7): `ma_mask` and `ma_table`.
    Open {
        /// Slots less one.
        mask: Field<i64>,
        /// The first slot.
        table: Field<Address>,
    },
    /// Indices and entries (3.6 and later).
    Compact {
        /// `ma_used`.
        used: Field<i64>,
        /// `ma_keys`.
        keys: Field<Address>,
        /// `ma_values`, of a dictionary that shares its keys.
        values: Field<Address>,
        /// How `PyDictKeysObject` looks.
        form: DictKeys,
    },
}

/// How `PyDictKeysObject` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DictKeys {
    /// Sizes as words; entries of (hash, key, value) (3.6 to 3.10).
    Words,
    /// Sizes as binary logarithms; a kind that says whether entries have a hash (3.11 and later).
    Logarithms,
}

/// Integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// `ob_size`, negative for a negative number, and digits of `bits` bits (3.11 and older).
    Sized {
        /// The first digit.
        digits: Field<u32>,
        /// 15 or 30.
        bits: u32,
        /// `ob_ival` of Python 2's `int`.
        machine: Option<Field<i64>>,
    },
    /// `lv_tag`: the count above three bits of sign (3.12 and later).
    Tagged {
        /// `lv_tag`.
        tag: Field<u64>,
        /// The first digit, of 30 bits.
        digits: Field<u32>,
    },
}
