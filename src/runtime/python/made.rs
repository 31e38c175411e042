//! Memory and layouts that tests make up.

use std::collections::BTreeMap;

use super::layout::{
    CFrame, Chain, Code, Collecting, Dict, DictKeys, Field, Frames, Gil, InstanceFields,
    Instruction, Integer, InterpreterState, Layout, LineTable, Objects, RuntimeState, Text,
    ThreadState,
};
use crate::memory::{Address, Fault, Memory};

/// Bytes at addresses.
#[derive(Debug, Default)]
pub(super) struct Made {
    bytes: BTreeMap<u64, u8>,
}

impl Made {
    pub(super) fn bytes(&mut self, at: u64, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes.iter().zip(at..).map(|(byte, at)| (at, *byte)));
        self
    }

    pub(super) fn word(&mut self, at: u64, word: u64) -> &mut Self {
        self.bytes(at, &word.to_le_bytes())
    }

    /// A compact string of 3.12 and later, or one of 1 to 4 bytes a character.
    pub(super) fn text(&mut self, at: u64, size: u32, ascii: bool, data: &[u8]) -> &mut Self {
        let state = size << 2 | 1 << 5 | u32::from(ascii) << 6;
        let length = data.len() as u64 / u64::from(size);
        self.word(at + 16, length).word(at + 32, state.into());
        self.bytes(at + if ascii { 40 } else { 56 }, data)
    }

    /// A bytes object.
    pub(super) fn blob(&mut self, at: u64, data: &[u8]) -> &mut Self {
        self.word(at + 16, data.len() as u64).bytes(at + 32, data)
    }
}

impl Memory for Made {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let fault = Fault { at, len: into.len() };
        for (place, into) in into.iter_mut().enumerate() {
            let at = at.0.checked_add(place as u64).ok_or(fault)?;
            *into = *self.bytes.get(&at).ok_or(fault)?;
        }
        Ok(())
    }
}

/// As 3.13 has it on x86-64, more or less.
pub(super) fn layout() -> Layout {
    Layout {
        runtime: RuntimeState { interpreters_head: Field::at(632) },
        interpreter: InterpreterState {
            next: Field::at(7264),
            threads_head: Field::at(7344),
            modules: Field::at(7656),
            gil: Gil::None,
            collecting: Collecting::Unknown,
            collects_for: None,
        },
        thread: ThreadState {
            next: Field::at(8),
            interpreter: Field::at(16),
            thread_id: Field::at(152),
            native_thread_id: Some(Field::at(160)),
            frame: Field::at(72),
            holds_gil: None,
            gil_requested: None,
            attachment: None,
        },
        frame: Frames {
            chain: Chain::Shims { cframe: None, shim: 3 },
            previous: Field::at(8),
            code: Field::at(0),
            tag: 7,
            instruction: Instruction::Pointer(Field::at(56)),
            owner: Some(Field::at(74)),
            locals: Field::at(80),
        },
        code: Code {
            filename: Field::at(112),
            name: Field::at(120),
            qualname: Some(Field::at(128)),
            lines: Field::at(136),
            line_table: LineTable::Locations,
            first_line: Field::at(68),
            arguments: Field::at(52),
            keyword_only: Some(Field::at(60)),
            flags: Field::at(48),
            version: Some(Field::at(92)),
            local_names: Field::at(96),
            local_kinds: Some(Field::at(104)),
            cell_names: None,
            instructions: Some(Field::at(200)),
            first_traceable: None,
            copies: None,
        },
        objects: objects(),
    }
}

fn objects() -> Objects {
    Objects {
        class: Field::at(8),
        size: Field::at(16),
        type_name: Field::at(24),
        type_flags: Field::at(168),
        type_size: Field::at(32),
        type_dict: Field::at(288),
        type_base: Field::at(256),
        type_keys: None,
        fields: InstanceFields::Inline313 { dictionary: 24 },
        text: Text::Compact {
            length: Field::at(16),
            state: Field::at(32),
            kind_bit: 2,
            ascii: 40,
            compact: 56,
            data: None,
        },
        bytes: Field::at(32),
        tuple_items: Field::at(24),
        list_items: Field::at(24),
        dict: Dict::Compact {
            used: Field::at(16),
            keys: Field::at(32),
            values: Field::at(40),
            form: DictKeys::Logarithms,
        },
        set: (Field::at(24), Field::at(32), Field::at(40)),
        float: Field::at(16),
        integer: Integer::Tagged { tag: Field::at(16), digits: Field::at(24) },
    }
}

/// As 3.11 has it, where frames are concerned.
pub(super) fn layout_311() -> Layout {
    let mut layout = layout();
    layout.thread.frame = Field::at(56);
    layout.frame = Frames {
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
    };
    layout.code.first_traceable = Some(Field::at(152));
    layout
}

/// As 3.8 has it, where frames and code are concerned.
pub(super) fn layout_old() -> Layout {
    let mut layout = layout();
    layout.thread.frame = Field::at(24);
    layout.frame = Frames {
        chain: Chain::Objects,
        previous: Field::at(24),
        code: Field::at(32),
        tag: 0,
        instruction: Instruction::Bytes(Field::at(104)),
        owner: None,
        locals: Field::at(360),
    };
    layout.code.qualname = None;
    layout.code.instructions = None;
    layout.code.line_table = LineTable::Signed;
    layout
}
