//! A process as JSON: all of it but the bytes of its memory.
//!
//! Addresses and register values are hexadecimal text, for many a reader of
//! JSON holds numbers as floating point. Memory is named by the number of the
//! file that holds it, so the text has no way to name a file of its own
//! choice.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use serde_json::{Map, Value, json};

use super::Error;
use crate::{
    memory::{Address, Piece},
    snapshot::{Architecture, Backing, Mapping, Process, Register, Registers, Root, Thread},
    task::{Pid, State, Syscall, Tid},
};

/// The first member of the text: what it is.
const FORMAT: &str = "spy snapshot 1";

const ARCHITECTURE: &str = match Architecture::HOST {
    Architecture::X86_64 => "x86_64",
    Architecture::Aarch64 => "aarch64",
};

/// `process` as text, and by the numbers of their files the pieces that are in
/// them, one after the other.
pub(super) fn encode(process: &Process) -> (Value, Vec<&[Piece]>) {
    let mut files = Vec::new();
    let threads: Vec<Value> =
        process.threads.iter().map(|thread| encode_thread(thread, &mut files)).collect();
    let own = encode_pieces(&process.pieces, &mut files);
    let text = json!({
        "format": FORMAT,
        "architecture": ARCHITECTURE,
        "pid": process.pid.0,
        "mappings": process.mappings.iter().map(encode_mapping).collect::<Vec<_>>(),
        "threads": threads,
        "pieces": own,
    });
    (text, files)
}

fn encode_mapping(mapping: &Mapping) -> Value {
    let mut members = json!({
        "start": hexadecimal(mapping.range.start.0),
        "end": hexadecimal(mapping.range.end.0),
        "offset": hexadecimal(mapping.offset),
        "readable": mapping.readable,
        "executable": mapping.executable,
        "device": hexadecimal(mapping.device),
        "inode": hexadecimal(mapping.inode),
    });
    let (key, value) = match &mapping.backing {
        Backing::File(path) => ("file", encode_path(path)),
        Backing::Deleted(path) => ("deleted", encode_path(path)),
        Backing::Vdso => ("vdso", Value::Bool(true)),
        Backing::Anonymous => return members,
    };
    if let Value::Object(members) = &mut members {
        members.insert(key.to_owned(), value);
    }
    members
}

/// Text, or an array of bytes where the path is no text.
fn encode_path(path: &std::path::Path) -> Value {
    match path.to_str() {
        Some(text) => text.into(),
        None => path.as_os_str().as_encoded_bytes().into(),
    }
}

fn encode_thread<'a>(thread: &'a Thread, files: &mut Vec<&'a [Piece]>) -> Value {
    let registers: Map<String, Value> = thread
        .registers
        .iter()
        .map(|(register, value)| (register.0.to_string(), hexadecimal(value)))
        .collect();
    let (state, syscall) = match thread.state {
        State::Running => ("running", None),
        State::Queued => ("queued", None),
        State::Blocked(syscall) => ("blocked", Some(syscall.0)),
        State::Faulting => ("faulting", None),
        State::Halted => ("halted", None),
    };
    json!({
        "tid": thread.tid.0,
        "name": thread.name,
        "state": state,
        "syscall": syscall,
        "registers": registers,
        "pieces": encode_pieces(&thread.pieces, files),
    })
}

/// All pieces of one owner go into one file.
fn encode_pieces<'a>(own: &'a [Piece], files: &mut Vec<&'a [Piece]>) -> Vec<Value> {
    if own.is_empty() {
        return Vec::new();
    }
    let file = files.len();
    files.push(own);
    let mut from = 0;
    let pieces = own.iter().map(|piece| {
        let size = piece.bytes.len();
        let value = json!({
            "start": hexadecimal(piece.start.0), "file": file, "from": from, "size": size,
        });
        from += size;
        value
    });
    pieces.collect()
}

fn hexadecimal(number: u64) -> Value {
    format!("{number:#x}").into()
}

/// Where the bytes of a piece are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The number of the memory file.
    pub(super) file: u64,
    /// Where in it, and how many bytes; all of it if that is not said.
    pub(super) part: Option<(u64, u64)>,
}

/// The process that `text` describes, with its files below `root`; `load`
/// gives bytes of a memory file.
pub(super) fn decode(
    text: &Value,
    root: Root,
    load: &mut dyn FnMut(Place) -> Result<Vec<u8>, Error>,
) -> Result<Process, Error> {
    expect(text, "format", FORMAT)?;
    expect(text, "architecture", ARCHITECTURE)?;
    let mappings =
        list(text, "mappings")?.iter().map(decode_mapping).collect::<Result<Vec<_>, _>>()?;
    let ordered = mappings.windows(2).all(|pair| match pair {
        [one, next] => one.range.end <= next.range.start,
        _ => true,
    });
    if !ordered {
        return Err(malformed("mappings"));
    }
    let mut threads = Vec::new();
    for thread in list(text, "threads")? {
        threads.push(decode_thread(thread, load)?);
    }
    let pieces = decode_pieces(text, load)?;
    Ok(Process { pid: Pid(small(text, "pid")?), mappings, root, threads, pieces })
}

fn expect(value: &Value, key: &'static str, expected: &'static str) -> Result<(), Error> {
    match value.get(key).and_then(Value::as_str) {
        Some(found) if found == expected => Ok(()),
        found => Err(Error::Foreign { key, found: found.unwrap_or("nothing").to_owned() }),
    }
}

fn decode_mapping(value: &Value) -> Result<Mapping, Error> {
    let (start, end) = (number(value, "start")?, number(value, "end")?);
    if start >= end {
        return Err(malformed("end"));
    }
    let backing = if value.get("file").is_some() {
        Backing::File(decode_path(value, "file")?)
    } else if value.get("deleted").is_some() {
        Backing::Deleted(decode_path(value, "deleted")?)
    } else if value.get("vdso").is_some() {
        Backing::Vdso
    } else {
        Backing::Anonymous
    };
    Ok(Mapping {
        range: Address(start)..Address(end),
        offset: number(value, "offset")?,
        readable: truth(value, "readable")?,
        executable: truth(value, "executable")?,
        device: number(value, "device")?,
        inode: number(value, "inode")?,
        backing,
    })
}

fn decode_path(value: &Value, key: &'static str) -> Result<PathBuf, Error> {
    match value.get(key) {
        Some(Value::String(text)) => Ok(text.into()),
        Some(Value::Array(bytes)) => {
            let byte = |byte: &Value| u8::try_from(byte.as_u64()?).ok();
            let bytes = bytes.iter().map(byte).collect::<Option<Vec<u8>>>();
            Ok(OsString::from_vec(bytes.ok_or(malformed(key))?).into())
        }
        _ => Err(malformed(key)),
    }
}

fn decode_thread(
    value: &Value,
    load: &mut dyn FnMut(Place) -> Result<Vec<u8>, Error>,
) -> Result<Thread, Error> {
    let state = match value.get("state").and_then(Value::as_str) {
        Some("running") => State::Running,
        Some("queued") => State::Queued,
        Some("blocked") => {
            let number = value.get("syscall").and_then(Value::as_u64);
            let number = number.and_then(|number| u32::try_from(number).ok());
            State::Blocked(Syscall(number.ok_or(malformed("syscall"))?))
        }
        Some("faulting") => State::Faulting,
        Some("halted") => State::Halted,
        _ => return Err(malformed("state")),
    };
    let name = value.get("name").and_then(Value::as_str).ok_or(malformed("name"))?;
    let mut registers = Registers::unknown();
    let known = value.get("registers").and_then(Value::as_object);
    for (register, known) in known.ok_or(malformed("registers"))? {
        let register = register.parse().map_err(|_| malformed("registers"))?;
        registers.set(Register(register), parse(known).ok_or(malformed("registers"))?);
    }
    let tid = Tid(small(value, "tid")?);
    Ok(Thread { tid, name: name.to_owned(), state, registers, pieces: decode_pieces(value, load)? })
}

fn decode_pieces(
    value: &Value,
    load: &mut dyn FnMut(Place) -> Result<Vec<u8>, Error>,
) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    for piece in list(value, "pieces")? {
        let file = piece.get("file").and_then(Value::as_u64).ok_or(malformed("file"))?;
        let start = Address(number(piece, "start")?);
        let part = match piece.get("from") {
            None => None,
            Some(from) => {
                let from = from.as_u64().ok_or(malformed("from"))?;
                let size = piece.get("size").and_then(Value::as_u64).ok_or(malformed("size"))?;
                Some((from, size))
            }
        };
        pieces.push(Piece { start, bytes: load(Place { file, part })? });
    }
    Ok(pieces)
}

fn list<'a>(value: &'a Value, key: &'static str) -> Result<&'a Vec<Value>, Error> {
    value.get(key).and_then(Value::as_array).ok_or(malformed(key))
}

fn number(value: &Value, key: &'static str) -> Result<u64, Error> {
    value.get(key).and_then(parse).ok_or(malformed(key))
}

fn parse(value: &Value) -> Option<u64> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u64::from_str_radix(digits, 16).ok()
}

fn truth(value: &Value, key: &'static str) -> Result<bool, Error> {
    value.get(key).and_then(Value::as_bool).ok_or(malformed(key))
}

fn small(value: &Value, key: &'static str) -> Result<i32, Error> {
    let number = value.get(key).and_then(Value::as_i64);
    number.and_then(|number| i32::try_from(number).ok()).ok_or(malformed(key))
}

const fn malformed(key: &'static str) -> Error {
    Error::Malformed(key)
}
