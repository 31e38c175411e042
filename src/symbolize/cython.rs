//! What Cython compiled, as its author wrote it.
//!
//! Cython turns a module of Python into one of C. Its functions have names
//! that say where they were defined, and before the C code of each line stands
//! a comment that says which line that was:
//!
//! ```text
//! __pyx_pw_7package_6module_5Class_3method   package.module.Class.method
//!                                  └ the 4th name that was made there
//!
//! /* "package/module.pyx":12
//!  *     def method(self):
//! ```

use std::path::PathBuf;

use memchr::memmem;

use super::locate::Locator;
use crate::module::{FileBytes, Module};

/// What every module of Cython's has among its strings: the module of Python's
/// that it notes its errors in.
const TEXT: &[u8] = b"cython_runtime\0";

/// Under which a module remembers whether Cython has made it.
const QUESTION: &str = "cython";

/// No more of an image is searched, in bytes: the largest modules known have a
/// tenth of it.
const MOST: usize = 64 << 20;

/// Whether an image may be one of Cython's. It is searched once.
pub(super) fn may_have(module: &Module) -> bool {
    module.remembered(QUESTION, || {
        let mut left = MOST;
        module.contents().any(|bytes| {
            let bytes = bytes.get(..bytes.len().min(left)).unwrap_or_default();
            left -= bytes.len();
            memmem::find(bytes, TEXT).is_some()
        })
    })
}

/// A function of Cython's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The module, with its packages.
    pub(super) module: String,
    /// The function, with the classes and functions around it.
    pub(super) function: String,
    /// Whether this takes the arguments apart that Python passes, and another
    /// one does what the function does.
    pub(super) is_wrapper: bool,
}

impl Name {
    /// What the linker's name `symbol` says; `None` for what the author of no
    /// module wrote. `image` is the file name of the image: up to its first
    /// dot, the last part of the module's name.
    pub(super) fn parse(symbol: &str, image: &str) -> Option<Self> {
        let stem = image.split('.').next().unwrap_or(image);
        // What the C compiler made of a function is no part of its name.
        let plain = symbol.split('.').next().unwrap_or(symbol);
        let kinds = [
            ("__pyx_specialmethod___pyx_pw_", Kind::Wrapper),
            ("__pyx_pw_", Kind::Wrapper),
            ("__pyx_pf_", Kind::Body),
            ("__pyx_gb_", Kind::Generator),
            ("__pyx_getprop_", Kind::Plain),
            ("__pyx_setprop_", Kind::Plain),
            ("__pyx_f_", Kind::Plain),
        ];
        let of_kind = |&(prefix, kind)| Some((plain.strip_prefix(prefix)?, kind));
        let (mangled, kind) = kinds.iter().find_map(of_kind)?;
        let (module, rest) = module(mangled, stem)?;
        let mut parts = Vec::new();
        let last = inside(rest, kind, &mut parts)?;
        if kind != Kind::Generator {
            parts.push(last);
        }
        if parts.is_empty() {
            return None;
        }
        let (module, function) = (module.join("."), parts.join("."));
        Some(Self { module, function, is_wrapper: kind == Kind::Wrapper })
    }

    /// The name with the module's.
    pub(super) fn whole(&self) -> String {
        format!("{}.{}", self.module, self.function)
    }
}

/// How the last part of a name is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has a number: the body was the first to be named there.
    Wrapper,
    /// It has a number, but for the first of its scope.
    Body,
    /// It is `generator`, and the part before it is the function.
    Generator,
    /// It has none.
    Plain,
}

/// The part that its own length stands before, and what follows it and `_`.
fn scope(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (length, rest) = text.split_at_checked(digits)?;
    let (part, rest) = rest.split_at_checked(length.parse().ok()?)?;
    let named = !part.is_empty() && !part.starts_with(|first: char| first.is_ascii_digit());
    Some((part, rest.strip_prefix('_').filter(|rest| named && !rest.is_empty())?))
}

/// The packages and the module, which is called `stem`, and what follows.
fn module<'a>(mangled: &'a str, stem: &str) -> Option<(Vec<&'a str>, &'a str)> {
    let (mut parts, mut rest) = (Vec::new(), mangled);
    while let Some((part, after)) = scope(rest) {
        parts.push(part);
        rest = after;
        if part == stem {
            return Some((parts, rest));
        }
    }
    // The file was given another name: the first part at least is of the module.
    let (part, rest) = scope(mangled)?;
    Some((vec![part], rest))
}

/// The scopes in `text` below the module, and the last part without its number.
///
/// A number may be a length or a count: `3put_and_run` is `and_run` inside
/// `put`, or the fourth name of its scope.
fn inside<'a>(text: &'a str, kind: Kind, parts: &mut Vec<&'a str>) -> Option<&'a str> {
    let mut rest = text;
    loop {
        let number = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let is_numbered = number.len() < rest.len();
        let Some((part, after)) = scope(rest) else {
            return Some(number).filter(|name| !name.is_empty());
        };
        let has_number = after.starts_with(|first: char| first.is_ascii_digit());
        let is_scope = match kind {
            Kind::Wrapper | Kind::Generator => has_number,
            // A class begins with a capital; functions around others are rare.
            Kind::Body => {
                let first = part.trim_start_matches('_').chars().next();
                has_number || after.starts_with("__") || first.is_some_and(char::is_uppercase)
            }
            Kind::Plain => true,
        };
        if !is_scope && is_numbered {
            return Some(number);
        }
        parts.push(part);
        rest = after;
    }
}

/// The comments of a file that Cython wrote.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// By the line of the comment: which file, and which line of it.
    marks: Vec<(u32, usize, u32)>,
    files: Vec<String>,
}

impl Source {
    /// No file that is larger is read, in bytes: the largest modules known are
    /// of a tenth of this.
    const LARGEST: usize = 256 << 20;

    /// The longest name of a file that is kept, in bytes.
    const LONGEST: usize = 4096;

    /// The comments of `path`, as the target sees it; none where the file is
    /// not there.
    pub(super) fn open(locator: &Locator, path: &str) -> Self {
        let file = FileBytes::open(&locator.in_target(&PathBuf::from(path)));
        file.map_or_else(|_| Self::default(), |bytes| Self::read(&bytes))
    }

    fn read(bytes: &[u8]) -> Self {
        let mut source = Self::default();
        let bytes = bytes.get(..Self::LARGEST.min(bytes.len())).unwrap_or_default();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let Some((name, at)) = mark(line) else { continue };
            let known = source.files.iter().position(|known| known == name);
            let file = known.unwrap_or_else(|| {
                source.files.push(name.to_owned());
                source.files.len() - 1
            });
            source.marks.push((number, file, at));
        }
        source
    }

    /// Which file and line a line of C was made from.
    pub(super) fn find(&self, line: u32) -> Option<(&str, u32)> {
        let after = self.marks.partition_point(|&(at, ..)| at <= line);
        let &(_, file, line) = self.marks.get(after.checked_sub(1)?)?;
        Some((self.files.get(file)?, line))
    }
}

/// `/* "file":line`
fn mark(line: &[u8]) -> Option<(&str, u32)> {
    let text = std::str::from_utf8(line.trim_ascii()).ok()?.strip_prefix("/* \"")?;
    let (file, line) = text.rsplit_once("\":")?;
    let fits = !file.is_empty() && file.len() <= Source::LONGEST;
    Some((file, line.parse().ok().filter(|&line| line > 0 && fits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of modules that are on PyPI, and what their sources call them.
    #[test]
    fn a_name_says_where_it_was_defined() {
        for (image, symbol, expected) in [
            ("collatz.cpython-311.so", "__pyx_pf_7collatz_steps", "collatz steps"),
            ("collatz.so", "__pyx_pw_7collatz_1steps", "collatz steps"),
            ("collatz.so", "__pyx_pf_7collatz_4Walk___init__", "collatz Walk.__init__"),
            ("collatz.so", "__pyx_pw_7collatz_4Walk_3run", "collatz Walk.run"),
            (
                "_gevent_cqueue.so",
                "__pyx_pw_6gevent_14_gevent_cqueue_10ItemWaiter_3put_and_switch",
                "gevent._gevent_cqueue ItemWaiter.put_and_switch",
            ),
            (
                "_gevent_c_semaphore.so",
                "__pyx_f_6gevent_19_gevent_c_semaphore_9Semaphore_acquire",
                "gevent._gevent_c_semaphore Semaphore.acquire",
            ),
            (
                "cares.so",
                "__pyx_pw_6gevent_8resolver_5cares_7channel_19_getnameinfo",
                "gevent.resolver.cares channel._getnameinfo",
            ),
            (
                "bit_generator.so",
                "__pyx_pw_5numpy_6random_13bit_generator_3_coerce_to_uint32_array",
                "numpy.random.bit_generator _coerce_to_uint32_array",
            ),
            (
                "_mt19937.so",
                "__pyx_pf_5numpy_6random_8_mt19937_7MT19937_2_legacy_seeding",
                "numpy.random._mt19937 MT19937._legacy_seeding",
            ),
            (
                "_result_cy.so",
                "__pyx_pw_10sqlalchemy_6engine_10_result_cy_18BaseResultInternal_11_row_getter_3many_rows_simple",
                "sqlalchemy.engine._result_cy BaseResultInternal._row_getter.many_rows_simple",
            ),
            (
                "_immutabledict_cy.so",
                "__pyx_pf_10sqlalchemy_4util_17_immutabledict_cy_13immutabledict_2__delitem__.isra.0",
                "sqlalchemy.util._immutabledict_cy immutabledict.__delitem__",
            ),
            (
                "_common.so",
                "__pyx_gb_5numpy_6random_7_common_21validate_output_shape_2generator",
                "numpy.random._common validate_output_shape",
            ),
            (
                "_gevent_c_imap.so",
                "__pyx_specialmethod___pyx_pw_6gevent_14_gevent_c_imap_13IMapUnordered_5__next__",
                "gevent._gevent_c_imap IMapUnordered.__next__",
            ),
            (
                "corecext.so",
                "__pyx_getprop_6gevent_5libev_8corecext_5child_rpid",
                "gevent.libev.corecext child.rpid",
            ),
            ("other.so", "__pyx_pw_7collatz_1steps", "collatz steps"),
        ] {
            let name = Name::parse(symbol, image).unwrap();
            assert_eq!(format!("{} {}", name.module, name.function), expected, "{symbol}");
        }
    }

    #[test]
    fn what_nobody_wrote_has_no_name() {
        for symbol in [
            "main",
            "__Pyx_PyObject_Call",
            "__pyx_tp_dealloc_7collatz_Walk",
            "__pyx_pw_",
            "__pyx_pw_7collatz",
            "__pyx_pw_7collatz_",
            "__pyx_pw_7collatz_3",
            "__pyx_pw_99999999999999999999_a",
            "__pyx_pw_0_a",
            "__pyx_pw_2é_1a",
        ] {
            let name = Name::parse(symbol, "collatz.so");
            assert!(name.is_none_or(|name| !name.function.is_empty()), "{symbol}");
        }
        assert_eq!(Name::parse("__pyx_pw_7collatz_3", "collatz.so"), None);
        assert_eq!(Name::parse("__pyx_tp_dealloc_7collatz_Walk", "collatz.so"), None);
    }

    #[test]
    fn a_line_of_c_was_made_from_the_line_before_it() {
        let source = Source::read(
            b"int a;\n/* \"a.pyx\":3\n * def f():\n */\nf();\n  /* \"b.pxd\":12\n */\n/* \"x\":y */",
        );
        let found: Vec<_> = (1..=8).map(|line| source.find(line)).collect();
        let (first, second) = (Some(("a.pyx", 3)), Some(("b.pxd", 12)));
        assert_eq!(found, [None, first, first, first, first, second, second, second]);
        assert_eq!(Source::default().find(7), None);
    }
}
