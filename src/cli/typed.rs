//! The command as it was typed, to tell people what to type next.

use std::{env, ffi::OsString};

use crate::task::Pid;

/// The command as it was typed, quoted for a shell. The program is named by
/// its path where it may not be found by its name: `sudo` has a search path of
/// its own.
pub(super) fn again() -> String {
    line(&program(), env::args_os().skip(1))
}

/// The same with one process number for another.
pub(super) fn again_with(old: Pid, new: Pid) -> String {
    let replaced = env::args_os().skip(1).map(|argument| {
        let text = argument.to_string_lossy();
        let number = ["", "-p", "--pid="].into_iter().find(|flag| text == format!("{flag}{old}"));
        number.map_or_else(|| argument.clone(), |flag| format!("{flag}{new}").into())
    });
    line(&program(), replaced)
}

fn program() -> OsString {
    let typed = env::args_os().next().unwrap_or_else(|| "spy".into());
    let path = env::current_exe().map_or_else(|_| typed.clone(), Into::into);
    if typed.to_string_lossy().starts_with('/') { typed } else { path }
}

fn line(program: &OsString, arguments: impl Iterator<Item = OsString>) -> String {
    let words = [program.clone()].into_iter().chain(arguments);
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_a_shell_unchanged() {
        assert_eq!(quote("-p"), "-p");
        assert_eq!(quote("/usr/bin/spy"), "/usr/bin/spy");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
