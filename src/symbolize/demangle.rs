//! Names as a programmer wrote them, from names as the linker has them.

use std::fmt::{self, Write};

/// The longest linker's name that is demangled; longer ones stay as they are,
/// cut to [`MAX_NAME`].
const MAX_MANGLED: usize = 16 << 10;

/// The longest name that is shown, in bytes. A name may refer to parts of
/// itself, so that a short one can grow without end.
const MAX_NAME: usize = 4 << 10;

/// How deep a C++ name may nest.
const MAX_DEPTH: u32 = 96;

/// The name of a function, demangled where it is mangled.
///
/// `_Z` may begin a C++ name or an old Rust one; an old Rust one ends with a
/// hash (`17h` and 16 hexadecimal digits), which is left out.
pub(super) fn demangle(name: &str) -> String {
    if name.len() > MAX_MANGLED {
        return cut(name);
    }
    rust(name).or_else(|| cpp(name)).unwrap_or_else(|| cut(without_alias(name)))
}

/// glibc gives a function of its own a second name for its own calls
/// (`hidden_proto` in its `include/libc-symbols.h`), and debug information has
/// that one. Nobody has written it.
fn without_alias(name: &str) -> &str {
    name.strip_prefix("__GI_").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

fn rust(name: &str) -> Option<String> {
    if !name.starts_with("_R") && !name.starts_with("_ZN") {
        return None;
    }
    let symbol = rustc_demangle::try_demangle(name).ok()?;
    Bounded::show(format_args!("{symbol:#}"))
}

/// The name of a C++ function; also of what adjusts `this` and then is the
/// function (`_ZTh` and `_ZTv`, with a number or two of bytes).
fn cpp(name: &str) -> Option<String> {
    let (kind, numbers, rest) = match (name.strip_prefix("_ZTh"), name.strip_prefix("_ZTv")) {
        (Some(rest), _) => ("non-virtual", 1, rest),
        (_, Some(rest)) => ("virtual", 2, rest),
        _ => return itanium(name),
    };
    let encoding = rest.splitn(numbers + 1, '_').nth(numbers)?;
    Some(format!("{kind} thunk to {}", itanium(&format!("_Z{encoding}"))?))
}

fn itanium(name: &str) -> Option<String> {
    if !name.starts_with("_Z") && !name.starts_with("__Z") {
        return None;
    }
    let limits = cpp_demangle::ParseOptions::default().recursion_limit(MAX_DEPTH);
    // What the compiler made of a function (`.cold`, `.part.0`) is no part of
    // the name.
    let plain = name.split('.').next().unwrap_or(name);
    let symbol = cpp_demangle::Symbol::new_with_options(plain, &limits).ok()?;
    let options = cpp_demangle::DemangleOptions::new().recursion_limit(MAX_DEPTH);
    let mut shown = Bounded::default();
    match symbol.structured_demangle(&mut shown, &options) {
        Ok(()) => Some(shown.text),
        Err(_) => shown.finish(),
    }
}

/// A text that grows to [`MAX_NAME`] and not further.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    fn show(text: fmt::Arguments<'_>) -> Option<String> {
        let mut shown = Self::default();
        match shown.write_fmt(text) {
            Ok(()) => Some(shown.text),
            Err(_) => shown.finish(),
        }
    }

    /// What there is of a text whose writing failed: a good beginning if it
    /// failed for its length alone.
    fn finish(mut self) -> Option<String> {
        self.full.then(|| {
            self.text.push('…');
            self.text
        })
    }
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_NAME.saturating_sub(self.text.len());
        self.text.push_str(prefix(part, room));
        self.full = part.len() > room;
        if self.full { Err(fmt::Error) } else { Ok(()) }
    }
}

fn prefix(text: &str, len: usize) -> &str {
    text.get(..text.floor_char_boundary(len)).unwrap_or_default()
}

/// `name`, cut where it is too long to be shown.
pub(super) fn cut(name: &str) -> String {
    match prefix(name, MAX_NAME) {
        whole if whole.len() == name.len() => name.to_owned(),
        beginning => format!("{beginning}…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_is_told_from_its_names() {
        let table = [
            ("main", "main"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backERKi",
                "std::vector<int, std::allocator<int> >::push_back(int const&)",
            ),
            ("_ZN3fooD2Ev.cold", "foo::~foo()"),
            ("_ZThn16_N1a1b1cEv", "non-virtual thunk to a::b::c()"),
            ("_ZTv0_n24_N1a1bD1Ev", "virtual thunk to a::b::~b()"),
            ("_ZThn16", "_ZThn16"),
            ("_Znot a name", "_Znot a name"),
            ("main.(*T).Go", "main.(*T).Go"),
            ("__GI_epoll_pwait", "epoll_pwait"),
            ("__GI_", "__GI_"),
            ("", ""),
        ];
        for (mangled, expected) in table {
            assert_eq!(demangle(mangled), expected, "{mangled}");
        }
    }

    #[test]
    fn names_that_grow_are_cut() {
        assert_eq!(demangle(&"a".repeat(100_000)).len(), MAX_NAME + '…'.len_utf8());
        // Each pair names the pair before it twice.
        let mut bomb = "_Z1fSt4pairIiiE".to_owned();
        for substitution in 0..30 {
            let digit = char::from_digit(substitution, 36).unwrap().to_ascii_uppercase();
            write!(bomb, "St4pairIS{digit}_S{digit}_E").unwrap();
        }
        assert!(demangle(&bomb).len() <= MAX_NAME + '…'.len_utf8());
        assert!(demangle(&format!("_Z{}", "N".repeat(10_000))).len() <= MAX_NAME + 3);
        assert!(demangle(&format!("_ZN{}", "1a".repeat(7_000))).len() <= MAX_NAME + 3);
        assert!(demangle(&format!("_RNvC1a{}", "N".repeat(10_000))).len() <= MAX_NAME + 3);
        assert!(cut(&"é".repeat(MAX_NAME)).ends_with("é…"));
    }
}
