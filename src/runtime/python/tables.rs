//! The layouts of versions that do not publish their own: 2.7, and 3.6 to 3.12.
//!
//! The numbers are those of builds for machines of 64 bits, as each version's
//! own headers have them (`fixtures/programs/layout.c` prints them, and a test
//! compares). A version is written as what it changes of the one before.

use super::layout::{
    CFrame, Chain, Code, Collecting, Dict, DictKeys, Field, Frames, Gil, InstanceFields,
    Instruction, Integer, InterpreterState, Layout, LineTable, Objects, RuntimeState, Text,
    ThreadState,
};

/// The versions that there are tables for, as (major, minor).
pub const VERSIONS: [(u8, u8); 8] =
    [(2, 7), (3, 6), (3, 7), (3, 8), (3, 9), (3, 10), (3, 11), (3, 12)];

/// The layout of a version, as (major, minor).
pub const fn layout(version: (u8, u8)) -> Option<&'static Layout> {
    Some(match version {
        (2, 7) => &V2_7,
        (3, 6) => &V3_6,
        (3, 7) => &V3_7,
        (3, 8) => &V3_8,
        (3, 9) => &V3_9,
        (3, 10) => &V3_10,
        (3, 11) => &V3_11,
        (3, 12) => &V3_12,
        _ => return None,
    })
}

/// The same build with `Py_TRACE_REFS`, as debug builds before 3.8 are: every
/// object begins with two more words, which link it to all others.
pub fn with_traced_references(layout: &Layout) -> Layout {
    let mut layout = layout.clone();
    if layout.frame.chain == Chain::Objects {
        let frame = &mut layout.frame;
        [&mut frame.previous, &mut frame.code, &mut frame.locals].into_iter().for_each(moved);
        if let Instruction::Bytes(at) | Instruction::Units(at) = &mut frame.instruction {
            moved(at);
        }
    }
    let code = &mut layout.code;
    for field in [&mut code.filename, &mut code.name, &mut code.lines, &mut code.local_names] {
        moved(field);
    }
    for field in [&mut code.qualname, &mut code.local_kinds, &mut code.instructions] {
        field.iter_mut().for_each(moved);
    }
    [&mut code.first_line, &mut code.arguments, &mut code.flags].into_iter().for_each(moved);
    code.keyword_only.iter_mut().chain(&mut code.first_traceable).for_each(moved);
    code.cell_names.iter_mut().flatten().for_each(moved);
    objects_with_traced_references(&mut layout.objects);
    layout
}

fn objects_with_traced_references(objects: &mut Objects) {
    let addresses = [
        &mut objects.class,
        &mut objects.type_name,
        &mut objects.type_base,
        &mut objects.tuple_items,
        &mut objects.list_items,
        &mut objects.set.2,
    ];
    addresses.into_iter().chain(&mut objects.type_keys).for_each(moved);
    let numbers = [
        &mut objects.size,
        &mut objects.type_size,
        &mut objects.type_dict,
        &mut objects.set.0,
        &mut objects.set.1,
    ];
    numbers.into_iter().for_each(moved);
    [&mut objects.type_flags, &mut objects.float].into_iter().for_each(moved);
    moved(&mut objects.bytes);
    match &mut objects.text {
        Text::Compact { length, state, ascii, compact, data, .. } => {
            moved(length);
            moved(state);
            *ascii += LINKS;
            *compact += LINKS;
            data.iter_mut().for_each(moved);
        }
        Text::Wide { length, data, .. } => {
            moved(length);
            moved(data);
        }
    }
    match &mut objects.dict {
        Dict::Open { mask, table } => {
            moved(mask);
            moved(table);
        }
        Dict::Compact { used, keys, values, .. } => {
            moved(used);
            moved(keys);
            moved(values);
        }
    }
    match &mut objects.integer {
        Integer::Sized { digits, machine, .. } => {
            moved(digits);
            machine.iter_mut().for_each(moved);
        }
        Integer::Tagged { tag, digits } => {
            moved(tag);
            moved(digits);
        }
    }
}

/// Two words: `_ob_next` and `_ob_prev` (Include/object.h).
const LINKS: u32 = 16;

fn moved<T>(field: &mut Field<T>) {
    *field = Field::at(field.offset.saturating_add(LINKS));
}

/// A variable of the process that is found by its name holds the thread state
/// of whoever has the lock; the lock itself is not part of anything.
const VARIABLE: Gil = Gil::Global { holder: Field::at(0), absolute: true, lock: None };

const fn of_runtime(holder: u32, lock: u32) -> Gil {
    let lock = Some(Field::at(lock));
    Gil::Global { holder: Field::at(holder), absolute: false, lock }
}

static V2_7: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(0) },
    interpreter: InterpreterState {
        next: Field::at(0),
        threads_head: Field::at(8),
        modules: Field::at(16),
        gil: VARIABLE,
        collecting: Collecting::Unknown,
        collects_for: None,
    },
    thread: ThreadState {
        next: Field::at(0),
        interpreter: Field::at(8),
        thread_id: Field::at(144),
        native_thread_id: None,
        frame: Field::at(16),
        holds_gil: None,
        gil_requested: None,
        attachment: None,
    },
    frame: FRAME_2_7,
    code: CODE_2_7,
    objects: OBJECTS_2_7,
};

const FRAME_2_7: Frames = Frames {
    chain: Chain::Objects,
    previous: Field::at(24),
    code: Field::at(32),
    tag: 0,
    instruction: Instruction::Bytes(Field::at(120)),
    owner: None,
    locals: Field::at(376),
};

const CODE_2_7: Code = Code {
    filename: Field::at(80),
    name: Field::at(88),
    qualname: None,
    lines: Field::at(104),
    line_table: LineTable::Growing,
    first_line: Field::at(96),
    arguments: Field::at(16),
    keyword_only: None,
    flags: Field::at(28),
    version: None,
    local_names: Field::at(56),
    local_kinds: None,
    cell_names: Some([Field::at(72), Field::at(64)]),
    instructions: None,
    first_traceable: None,
    copies: None,
};

const OBJECTS_2_7: Objects = Objects {
    class: Field::at(8),
    size: Field::at(16),
    type_name: Field::at(24),
    type_flags: Field::at(168),
    type_size: Field::at(32),
    type_dict: Field::at(288),
    type_base: Field::at(256),
    type_keys: None,
    fields: InstanceFields::Dictionary,
    // A build can also have units of 2 bytes; `detect` asks it.
    text: Text::Wide { length: Field::at(16), data: Field::at(24), unit: 4 },
    bytes: Field::at(36),
    tuple_items: Field::at(24),
    list_items: Field::at(24),
    dict: Dict::Open { mask: Field::at(32), table: Field::at(40) },
    set: (Field::at(24), Field::at(32), Field::at(40)),
    float: Field::at(16),
    integer: Integer::Sized { digits: Field::at(24), bits: 30, machine: Some(Field::at(16)) },
};

static V3_6: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(0) },
    interpreter: INTERPRETER_3_6,
    thread: THREAD_3_6,
    frame: Frames { instruction: Instruction::Bytes(Field::at(120)), ..FRAME_2_7 },
    code: CODE_3_6,
    objects: OBJECTS_3_6,
};

const INTERPRETER_3_6: InterpreterState = InterpreterState {
    next: Field::at(0),
    threads_head: Field::at(8),
    modules: Field::at(16),
    gil: VARIABLE,
    collecting: Collecting::Unknown,
    collects_for: None,
};

const THREAD_3_6: ThreadState = ThreadState {
    next: Field::at(8),
    interpreter: Field::at(16),
    thread_id: Field::at(152),
    native_thread_id: None,
    frame: Field::at(24),
    holds_gil: None,
    gil_requested: None,
    attachment: None,
};

const CODE_3_6: Code = Code {
    filename: Field::at(96),
    name: Field::at(104),
    lines: Field::at(112),
    line_table: LineTable::Signed,
    first_line: Field::at(36),
    keyword_only: Some(Field::at(20)),
    flags: Field::at(32),
    local_names: Field::at(64),
    cell_names: Some([Field::at(80), Field::at(72)]),
    ..CODE_2_7
};

const OBJECTS_3_6: Objects = Objects {
    type_keys: Some(Field::at(856)),
    text: Text::Compact {
        length: Field::at(16),
        state: Field::at(32),
        kind_bit: 2,
        ascii: 48,
        compact: 72,
        data: Some(Field::at(72)),
    },
    bytes: Field::at(32),
    dict: dict(DictKeys::Words),
    integer: Integer::Sized { digits: Field::at(24), bits: 30, machine: None },
    ..OBJECTS_2_7
};

const fn dict(form: DictKeys) -> Dict {
    Dict::Compact { used: Field::at(16), keys: Field::at(32), values: Field::at(40), form }
}

static V3_7: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(24) },
    interpreter: InterpreterState {
        modules: Field::at(40),
        gil: of_runtime(1480, 1264),
        collecting: Collecting::Runtime(Field::at(632)),
        ..INTERPRETER_3_6
    },
    thread: THREAD_3_7,
    frame: FRAME_3_7,
    code: CODE_3_6,
    objects: OBJECTS_3_6,
};

const THREAD_3_7: ThreadState = ThreadState { thread_id: Field::at(176), ..THREAD_3_6 };

const FRAME_3_7: Frames =
    Frames { instruction: Instruction::Bytes(Field::at(104)), locals: Field::at(360), ..FRAME_2_7 };

static V3_8: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(32) },
    interpreter: InterpreterState {
        modules: Field::at(56),
        gil: of_runtime(1368, 1152),
        collecting: Collecting::Runtime(Field::at(544)),
        ..INTERPRETER_3_6
    },
    thread: THREAD_3_7,
    frame: FRAME_3_7,
    code: CODE_3_8,
    objects: Objects { type_keys: Some(Field::at(872)), ..OBJECTS_3_6 },
};

const CODE_3_8: Code = Code {
    filename: Field::at(104),
    name: Field::at(112),
    lines: Field::at(120),
    first_line: Field::at(40),
    keyword_only: Some(Field::at(24)),
    flags: Field::at(36),
    local_names: Field::at(72),
    cell_names: Some([Field::at(88), Field::at(80)]),
    ..CODE_3_6
};

static V3_9: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(32) },
    interpreter: INTERPRETER_3_9,
    thread: THREAD_3_7,
    frame: FRAME_3_7,
    code: CODE_3_8,
    objects: Objects { type_keys: Some(Field::at(864)), ..OBJECTS_3_6 },
};

const INTERPRETER_3_9: InterpreterState = InterpreterState {
    modules: Field::at(856),
    gil: of_runtime(568, 352),
    collecting: Collecting::Interpreter(Field::at(816)),
    ..INTERPRETER_3_6
};

static V3_10: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(32) },
    interpreter: INTERPRETER_3_9,
    thread: THREAD_3_7,
    frame: Frames {
        instruction: Instruction::Units(Field::at(96)),
        locals: Field::at(352),
        ..FRAME_2_7
    },
    code: Code { line_table: LineTable::Ranges, ..CODE_3_8 },
    objects: Objects { type_keys: Some(Field::at(872)), ..OBJECTS_3_6 },
};

static V3_11: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(40) },
    interpreter: InterpreterState {
        next: Field::at(0),
        threads_head: Field::at(16),
        modules: Field::at(888),
        gil: of_runtime(576, 360),
        collecting: Collecting::Interpreter(Field::at(848)),
        collects_for: None,
    },
    thread: ThreadState {
        thread_id: Field::at(152),
        native_thread_id: Some(Field::at(160)),
        frame: Field::at(56),
        ..THREAD_3_6
    },
    frame: Frames {
        chain: Chain::CFrames {
            cframe: CFrame { current_frame: Field::at(8), previous: Field::at(16) },
            is_entry: Field::at(68),
        },
        previous: Field::at(48),
        code: Field::at(32),
        tag: 0,
        instruction: Instruction::Pointer(Field::at(56)),
        owner: Some(Field::at(69)),
        locals: Field::at(72),
    },
    code: CODE_3_11,
    objects: OBJECTS_3_11,
};

const CODE_3_11: Code = Code {
    filename: Field::at(112),
    name: Field::at(120),
    qualname: Some(Field::at(128)),
    lines: Field::at(136),
    line_table: LineTable::Locations,
    first_line: Field::at(72),
    arguments: Field::at(56),
    keyword_only: Some(Field::at(64)),
    flags: Field::at(48),
    version: None,
    local_names: Field::at(96),
    local_kinds: Some(Field::at(104)),
    cell_names: None,
    instructions: Some(Field::at(184)),
    first_traceable: Some(Field::at(168)),
    copies: None,
};

const OBJECTS_3_11: Objects = Objects {
    type_keys: Some(Field::at(872)),
    fields: InstanceFields::Managed311,
    dict: dict(DictKeys::Logarithms),
    ..OBJECTS_3_6
};

static V3_12: Layout = Layout {
    runtime: RuntimeState { interpreters_head: Field::at(40) },
    interpreter: InterpreterState {
        next: Field::at(0),
        threads_head: Field::at(72),
        modules: Field::at(944),
        gil: Gil::Each {
            pointer: Field::at(384),
            last_holder: Field::at(8),
            locked: Field::at(16),
            enabled: None,
        },
        collecting: Collecting::Interpreter(Field::at(312)),
        collects_for: None,
    },
    thread: ThreadState {
        thread_id: Field::at(136),
        native_thread_id: Some(Field::at(144)),
        frame: Field::at(56),
        ..THREAD_3_6
    },
    frame: Frames {
        // Owner 3 is the C stack (Include/internal/pycore_frame.h).
        chain: Chain::Shims {
            cframe: Some(CFrame { current_frame: Field::at(0), previous: Field::at(8) }),
            shim: 3,
        },
        previous: Field::at(8),
        code: Field::at(0),
        tag: 0,
        instruction: Instruction::Pointer(Field::at(56)),
        owner: Some(Field::at(70)),
        locals: Field::at(72),
    },
    code: Code {
        first_line: Field::at(68),
        arguments: Field::at(52),
        keyword_only: Some(Field::at(60)),
        version: Some(Field::at(92)),
        instructions: Some(Field::at(192)),
        first_traceable: Some(Field::at(176)),
        ..CODE_3_11
    },
    objects: Objects {
        type_keys: Some(Field::at(880)),
        fields: InstanceFields::Managed312,
        text: Text::Compact {
            length: Field::at(16),
            state: Field::at(32),
            kind_bit: 2,
            ascii: 40,
            compact: 56,
            data: None,
        },
        integer: Integer::Tagged { tag: Field::at(16), digits: Field::at(24) },
        ..OBJECTS_3_11
    },
};
