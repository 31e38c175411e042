//! Values, as a reader is shown them: nearly as Python's own `repr` would, but
//! without running any of the program's code, and within bounds.

pub mod dict;
mod fields;
mod locals;
pub mod number;
pub mod quoted;
pub mod reader;

pub(crate) use fields::find as field;
pub use locals::locals;

use std::rc::Rc;

use self::{
    quoted::Style,
    reader::{Class, Number, Reader},
};
use super::{
    super::Detail,
    layout::{Dict, Integer, Layout, Text},
};
use crate::memory::{Address, Memory};

/// The reads that one value may take. It is met by containers with large empty
/// tables, and by nests of them.
pub(crate) const READS: u32 = 2000;

/// Containers in containers that are opened.
const DEEPEST: usize = 8;

/// Bases of a type that are looked at.
const BASES: usize = 16;

/// The most digits of an integer that are read: more than any limit of
/// characters that can be asked for shows.
const DIGITS: u64 = 1 << 14;

// Bits of `tp_flags` that say of which basic type an instance is
// (Include/object.h, the same in every version).
const INT: u32 = 23;
pub(super) const LONG: u32 = 24;
pub(super) const LIST: u32 = 25;
const TUPLE: u32 = 26;
const BYTES: u32 = 27;
pub(super) const UNICODE: u32 = 28;
const DICT: u32 = 29;
const EXCEPTION: u32 = 30;
const TYPE: u32 = 31;

/// The value of the object at `at`, in at most `detail.characters` characters:
/// a longer one ends in `...`.
pub fn show(layout: &Layout, at: Address, detail: Detail, memory: &dyn Memory) -> String {
    show_with(&Reader::new(layout, memory, READS), at, detail)
}

/// As [`show`], with a reader that knows the types of earlier values.
fn show_with(reader: &Reader<'_>, at: Address, detail: Detail) -> String {
    let mut show = Show {
        reader,
        fields: detail.fields,
        text: String::new(),
        letters: 0,
        limit: detail.characters,
        open: Vec::new(),
    };
    if show.object(at) == Err(Full) {
        show.cut();
    }
    show.text
}

/// There is no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full;

type Written = Result<(), Full>;

struct Show<'a> {
    reader: &'a Reader<'a>,
    /// Whether the next object is shown with its fields.
    fields: bool,
    text: String,
    letters: usize,
    limit: usize,
    /// The containers around what is being written.
    open: Vec<Address>,
}

/// What a value is shown as.
enum Kind {
    Integer,
    Bool,
    Float,
    Numpy(String),
    Text,
    Bytes,
    List,
    Tuple,
    Dict,
    Set { frozen: bool },
    Word(&'static str),
    Exception,
    Type,
    OldInstance,
    Other,
}

/// How a container is written.
struct Brackets {
    open: &'static str,
    close: &'static str,
    /// When it has nothing in it.
    empty: &'static str,
    /// When it is not opened: it contains itself, or lies too deep.
    closed: &'static str,
    /// What follows an item that is the only one.
    single: &'static str,
}

const LISTS: Brackets =
    Brackets { open: "[", close: "]", empty: "[]", closed: "[...]", single: "" };
const TUPLES: Brackets =
    Brackets { open: "(", close: ")", empty: "()", closed: "(...)", single: "," };
const DICTS: Brackets =
    Brackets { open: "{", close: "}", empty: "{}", closed: "{...}", single: "" };
const SETS: Brackets =
    Brackets { open: "{", close: "}", empty: "set()", closed: "set(...)", single: "" };
const FROZEN: Brackets = Brackets {
    open: "frozenset({",
    close: "})",
    empty: "frozenset()",
    closed: "frozenset(...)",
    single: "",
};
// Python 2 writes sets as calls with a list.
const OLD_SETS: Brackets =
    Brackets { open: "set([", close: "])", empty: "set([])", closed: "set(...)", single: "" };
const OLD_FROZEN: Brackets = Brackets {
    open: "frozenset([",
    close: "])",
    empty: "frozenset([])",
    closed: "frozenset(...)",
    single: "",
};

impl<'a> Show<'a> {
    fn write(&mut self, text: &str) -> Written {
        let letters = text.chars().count();
        self.text.push_str(text);
        self.letters += letters;
        if self.letters > self.limit || self.reader.is_spent() { Err(Full) } else { Ok(()) }
    }

    /// End in dots, within the limit.
    fn cut(&mut self) {
        const DOTS: &str = "...";
        let kept = self.limit.saturating_sub(DOTS.len()).min(self.letters);
        let end = self.text.char_indices().nth(kept).map_or(self.text.len(), |(end, _)| end);
        self.text.truncate(end);
        self.text.extend(DOTS.chars().take(self.limit));
    }

    /// The characters for which there is room, and one that there is not.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.letters).saturating_add(1)
    }

    fn is_old(&self) -> bool {
        matches!(self.reader.layout.objects.dict, Dict::Open { .. })
    }

    fn object(&mut self, at: Address) -> Written {
        if at.0 == 0 {
            return self.write("<NULL>");
        }
        let Some(class) = self.reader.class_of(at) else { return self.unreadable(at) };
        let written = match self.kind(&class) {
            Kind::Integer => self.integer(at),
            Kind::Bool => self.boolean(at),
            Kind::Float => {
                let float = self.reader.field(self.reader.layout.objects.float, at);
                float.map(|bits| self.write(&number::float(f64::from_bits(bits))))
            }
            Kind::Numpy(name) => self.numpy(at, &name),
            Kind::Text => self.string(at),
            Kind::Bytes => self.octets(at),
            Kind::List => self.list(at),
            Kind::Tuple => self.tuple(at, &TUPLES),
            Kind::Dict => self.dict(at),
            Kind::Set { frozen } => self.set(at, frozen),
            Kind::Word(word) => Some(self.write(word)),
            Kind::Exception => self.exception(at, &class),
            Kind::Type => self.class(at),
            Kind::OldInstance => self.old_instance(at),
            Kind::Other => Some(self.other(at, &class)),
        };
        written.unwrap_or_else(|| self.unreadable(at))
    }

    fn unreadable(&mut self, at: Address) -> Written {
        self.write(&format!("<unreadable at {at}>"))
    }

    fn kind(&self, class: &Rc<Class>) -> Kind {
        let objects = &self.reader.layout.objects;
        let old_integer = matches!(objects.integer, Integer::Sized { machine: Some(_), .. });
        let is_bool = !class.is_heap() && class.name == "bool";
        match () {
            () if is_bool => Kind::Bool,
            // 3.12 gave the bit of Python 2's `int` another meaning.
            () if class.has(LONG) || old_integer && class.has(INT) => Kind::Integer,
            () if class.has(UNICODE) => Kind::Text,
            () if class.has(BYTES) => Kind::Bytes,
            () if class.has(LIST) => Kind::List,
            () if class.has(TUPLE) => Kind::Tuple,
            () if class.has(DICT) => Kind::Dict,
            () if class.has(EXCEPTION) => Kind::Exception,
            () if class.has(TYPE) => Kind::Type,
            () => self.named(class),
        }
    }

    /// By the name of the type, or of the one of its bases that is the
    /// interpreter's own.
    fn named(&self, class: &Rc<Class>) -> Kind {
        let mut class = Rc::clone(class);
        for _ in 0..BASES {
            if let Some(name) = class.name.strip_prefix("numpy.") {
                return Kind::Numpy(name.to_owned());
            }
            if !class.is_heap() {
                break;
            }
            match self.reader.class(class.base) {
                Some(base) => class = base,
                None => break,
            }
        }
        if class.is_heap() {
            return Kind::Other;
        }
        match class.name.as_str() {
            "float" => Kind::Float,
            "set" => Kind::Set { frozen: false },
            "frozenset" => Kind::Set { frozen: true },
            "NoneType" => Kind::Word("None"),
            "ellipsis" => Kind::Word("Ellipsis"),
            "NotImplementedType" => Kind::Word("NotImplemented"),
            "instance" if self.is_old() => Kind::OldInstance,
            _ => Kind::Other,
        }
    }

    fn integer(&mut self, at: Address) -> Option<Written> {
        let (start, count, bits, negative) = match self.reader.number(at)? {
            Number::Word(value) => return Some(self.write(&value.to_string())),
            Number::Digits { start, count, bits, negative } => (start, count, bits, negative),
        };
        // A decimal digit has more than three bits: so many cannot fit.
        let most = DIGITS.min(self.limit as u64 / 3 + 2);
        let text = match usize::try_from(count) {
            Ok(len) if count <= most => {
                let digits = self.reader.digits(start, len, bits)?;
                number::decimal(&digits, bits, negative, self.limit)
            }
            _ => None,
        };
        let text = match text {
            // Python 2 marks a `long`.
            Some(text) if self.is_old() => text + "L",
            Some(text) => text,
            None => {
                let unit: u64 = if bits == 15 { 2 } else { 4 };
                let top = start.plus(count.saturating_sub(1).wrapping_mul(unit));
                let top = self.reader.digits(top, 1, bits)?.first().copied()?;
                format!("<int of {} bits>", number::width(count, top, bits))
            }
        };
        Some(self.write(&text))
    }

    fn boolean(&mut self, at: Address) -> Option<Written> {
        let is_true = self.reader.unsigned(at)? != 0;
        Some(self.write(if is_true { "True" } else { "False" }))
    }

    /// A scalar of numpy: its value follows the object's header
    /// (`PyDoubleScalarObject` and its like, numpy/arrayscalars.h).
    fn numpy(&mut self, at: Address, name: &str) -> Option<Written> {
        let value = at.plus(self.reader.header());
        let reader = self.reader;
        let text = match name {
            "float64" => number::float(f64::from_bits(reader.get(value)?)),
            "float32" => number::float32(f32::from_bits(reader.get(value)?)),
            "int8" => reader.get::<i8>(value)?.to_string(),
            "int16" => reader.get::<i16>(value)?.to_string(),
            "int32" | "intc" => reader.get::<i32>(value)?.to_string(),
            "int64" | "longlong" => reader.get::<i64>(value)?.to_string(),
            "uint8" => reader.get::<u8>(value)?.to_string(),
            "uint16" => reader.get::<u16>(value)?.to_string(),
            "uint32" | "uintc" => reader.get::<u32>(value)?.to_string(),
            "uint64" | "ulonglong" => reader.get::<u64>(value)?.to_string(),
            "bool_" | "bool" => {
                (if reader.get::<u8>(value)? == 0 { "False" } else { "True" }).to_owned()
            }
            _ => format!("<numpy.{name} at {at}>"),
        };
        Some(self.write(&text))
    }

    fn string(&mut self, at: Address) -> Option<Written> {
        let (characters, all) = self.reader.characters(at, self.room())?;
        let old = matches!(self.reader.layout.objects.text, Text::Wide { .. });
        let (prefix, style) = if old { ("u", Style::Ascii) } else { ("", Style::Text) };
        Some(self.quoted(prefix, &characters, style, all))
    }

    fn octets(&mut self, at: Address) -> Option<Written> {
        let (bytes, all) = self.reader.octets(at, self.room())?;
        let characters: Vec<u32> = bytes.into_iter().map(u32::from).collect();
        let prefix = if self.is_old() { "" } else { "b" };
        Some(self.quoted(prefix, &characters, Style::Bytes, all))
    }

    fn quoted(&mut self, prefix: &str, text: &[u32], style: Style, all: bool) -> Written {
        let quote = quoted::quote(text);
        let mut shown = format!("{prefix}{quote}");
        text.iter().for_each(|character| quoted::push(&mut shown, *character, quote, style));
        if all {
            shown.push(quote);
        }
        self.write(&shown)?;
        // It had no end, and yet there was room for its beginning: only when
        // there is no room at all.
        if all { Ok(()) } else { Err(Full) }
    }

    /// Open a container; `false` when it stays closed.
    fn enter(&mut self, at: Address, brackets: &Brackets) -> Result<bool, Full> {
        if self.open.contains(&at) || self.open.len() >= DEEPEST {
            self.write(brackets.closed)?;
            return Ok(false);
        }
        self.open.push(at);
        self.write(brackets.open)?;
        Ok(true)
    }

    fn leave(&mut self, brackets: &Brackets) -> Written {
        self.open.pop();
        self.write(brackets.close)
    }

    fn list(&mut self, at: Address) -> Option<Written> {
        let count = u64::try_from(self.reader.size(at)?).ok()?;
        let items = self.reader.field(self.reader.layout.objects.list_items, at)?;
        Some(self.items(at, items, count, &LISTS))
    }

    fn tuple(&mut self, at: Address, brackets: &Brackets) -> Option<Written> {
        let count = u64::try_from(self.reader.size(at)?).ok()?;
        let items = self.reader.layout.objects.tuple_items.of(at);
        Some(self.items(at, items, count, brackets))
    }

    /// `count` objects in a row from `start` on, which belong to `at`.
    fn items(&mut self, at: Address, start: Address, count: u64, brackets: &Brackets) -> Written {
        if count == 0 {
            return self.write(brackets.empty);
        }
        if !self.enter(at, brackets)? {
            return Ok(());
        }
        // Each item takes a character at least, so the room bounds this.
        for number in 0..count {
            if number > 0 {
                self.write(", ")?;
            }
            match self.reader.get(start.plus(number.wrapping_mul(8))) {
                Some(item) => self.object(item)?,
                None => return self.write("...").and_then(|()| self.leave(brackets)),
            }
        }
        if count == 1 {
            self.write(brackets.single)?;
        }
        self.leave(brackets)
    }

    fn dict(&mut self, at: Address) -> Option<Written> {
        let used = dict::used(self.reader, at)?;
        Some(self.pairs(at, used))
    }

    fn pairs(&mut self, at: Address, used: i64) -> Written {
        if used == 0 {
            return self.write(DICTS.empty);
        }
        if !self.enter(at, &DICTS)? {
            return Ok(());
        }
        let reader = self.reader;
        let mut left = used;
        for (key, value) in dict::items(reader, at) {
            if left != used {
                self.write(", ")?;
            }
            self.object(key)?;
            self.write(": ")?;
            self.object(value)?;
            left = left.saturating_sub(1);
        }
        self.missing(left, used)?;
        self.leave(&DICTS)
    }

    /// Say that a container of `used` members has `left` that were not found:
    /// they cannot be read, or are too many.
    fn missing(&mut self, left: i64, used: i64) -> Written {
        match left {
            ..=0 => Ok(()),
            _ if left == used => self.write("..."),
            _ => self.write(", ..."),
        }
    }

    fn set(&mut self, at: Address, frozen: bool) -> Option<Written> {
        let (used, mask, table) = self.reader.layout.objects.set;
        let (used, mask) = (self.reader.field(used, at)?, self.reader.field(mask, at)?);
        let table = self.reader.field(table, at)?;
        let brackets = match (self.is_old(), frozen) {
            (false, false) => &SETS,
            (false, true) => &FROZEN,
            (true, false) => &OLD_SETS,
            (true, true) => &OLD_FROZEN,
        };
        if used == 0 {
            return Some(self.write(brackets.empty));
        }
        Some(self.members(at, (table, u64::try_from(mask).ok()?, used), brackets))
    }

    /// The members of a set: its table has `mask` places and one more, each a
    /// key and its hash (`setentry`, Include/setobject.h; the other way round
    /// in 2.7).
    fn members(
        &mut self,
        at: Address,
        (table, mask, used): (Address, u64, i64),
        brackets: &Brackets,
    ) -> Written {
        /// The hash of a place whose key was removed. No key has it. In 2.7
        /// the key tells it: a string of its own.
        const REMOVED: u64 = u64::MAX;
        /// Places that are read at a time.
        const CHUNK: usize = 64;
        if !self.enter(at, brackets)? {
            return Ok(());
        }
        let old = self.is_old();
        let mut left = used;
        for start in (0..=mask).step_by(CHUNK) {
            let count = usize::try_from(mask - start).unwrap_or(CHUNK).saturating_add(1).min(CHUNK);
            let place = table.plus(start.wrapping_mul(16));
            let Some(words) = self.reader.addresses(place, count * 2) else { break };
            for pair in words.chunks_exact(2) {
                let &[first, second] = pair else { continue };
                let (key, hash) = if old { (second, first) } else { (first, second) };
                let removed = match old {
                    true => key.0 != 0 && self.reader.is_name(key, "<dummy key>"),
                    false => hash.0 == REMOVED,
                };
                if key.0 == 0 || removed {
                    continue;
                }
                if left != used {
                    self.write(", ")?;
                }
                self.object(key)?;
                left = left.saturating_sub(1);
            }
        }
        self.missing(left, used)?;
        self.leave(brackets)
    }

    /// An exception, as the call that makes one like it. Its arguments are the
    /// second of its own words (`PyBaseExceptionObject`).
    fn exception(&mut self, at: Address, class: &Class) -> Option<Written> {
        let arguments = self.reader.own(at, 8)?;
        if !self.reader.class_of(arguments)?.has(TUPLE) {
            return None;
        }
        let name = class.name.rsplit('.').next().unwrap_or(&class.name);
        const CALL: Brackets =
            Brackets { open: "(", close: ")", empty: "()", closed: "(...)", single: "" };
        Some(self.write(name).and_then(|()| self.tuple(arguments, &CALL).unwrap_or(Ok(()))))
    }

    fn class(&mut self, at: Address) -> Option<Written> {
        let class = self.reader.class(at)?;
        Some(self.write(&format!("<class '{}'>", class.name)))
    }

    /// An instance of a class without `object` above it (2.7): its class and
    /// its dictionary are its first words, and the name the third of the class
    /// (Include/classobject.h).
    fn old_instance(&mut self, at: Address) -> Option<Written> {
        let reader = self.reader;
        let name = reader.own(reader.own(at, 0)?, 16)?;
        let name = reader.name(name, 128)?;
        let dict = reader.own(at, 8)?;
        Some(self.with_fields(&name, at, || Some(dict::items(reader, dict))))
    }

    fn other(&mut self, at: Address, class: &Class) -> Written {
        let reader = self.reader;
        self.with_fields(&class.name, at, || fields::of(reader, at, class))
    }

    /// `<Name at 0x...>`, with its fields where those are asked for. Objects
    /// among the fields are shown without theirs.
    fn with_fields(
        &mut self,
        name: &str,
        at: Address,
        fields: impl FnOnce() -> Option<dict::Items<'a>>,
    ) -> Written {
        self.write(&format!("<{name} at {at}"))?;
        let wanted = std::mem::take(&mut self.fields);
        if let Some(fields) = if wanted { fields() } else { None } {
            self.each_field(fields)?;
        }
        self.fields = wanted;
        self.write(">")
    }

    fn each_field(&mut self, fields: dict::Items<'a>) -> Written {
        let mut first = true;
        for (key, value) in fields {
            self.write(if std::mem::take(&mut first) { " " } else { ", " })?;
            match self.reader.name(key, self.room()) {
                Some(name) => self.write(&name)?,
                None => self.write("?")?,
            }
            self.write("=")?;
            self.object(value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
