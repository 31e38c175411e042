//! Strings and bytes, as Python's `repr` writes them.

/// The text of characters that Python would show in quotes. They are numbers:
/// a string of Python may hold half of a surrogate pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text: what can be seen is shown as it is.
    Text,
    /// Text of Python 2: what is not ASCII is spelt out.
    Ascii,
    /// Bytes: each that is not ASCII is spelt out.
    Bytes,
}

/// The quote around `characters`: a single one, unless that would have to be
/// escaped and a double one would not.
pub fn quote(characters: &[u32]) -> char {
    let has = |quote: char| characters.contains(&quote.into());
    if has('\'') && !has('"') { '"' } else { '\'' }
}

/// Write `character`, inside of `quote`, to `into`.
pub fn push(into: &mut String, character: u32, quote: char, style: Style) {
    let letter = char::from_u32(character);
    match letter {
        Some('\\') => into.push_str("\\\\"),
        Some('\n') => into.push_str("\\n"),
        Some('\r') => into.push_str("\\r"),
        Some('\t') => into.push_str("\\t"),
        Some(letter) if letter == quote => into.extend(['\\', letter]),
        Some(letter @ ' '..='~') => into.push(letter),
        Some(letter) if style == Style::Text && is_printable(letter) => into.push(letter),
        _ if character <= 0xff => into.push_str(&format!("\\x{character:02x}")),
        _ if character <= 0xffff => into.push_str(&format!("\\u{character:04x}")),
        _ => into.push_str(&format!("\\U{character:08x}")),
    }
}

/// Whether `letter`, which is not ASCII, can be seen: Python and Rust's
/// `escape_debug` both leave out the categories C* and Z*. Behind another
/// character, so that one that combines with it is not taken for a loner.
fn is_printable(letter: char) -> bool {
    let mut bytes = [0; 4];
    let mut pair = String::from("a");
    pair.push_str(letter.encode_utf8(&mut bytes));
    pair.escape_debug().nth(1) != Some('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u32], style: Style, expected: &str) {
        let quote = quote(text);
        let mut shown = String::from(quote);
        text.iter().for_each(|character| push(&mut shown, *character, quote, style));
        shown.push(quote);
        assert_eq!(shown, expected);
    }

    /// The expected texts are what Python 3.11 and 2.7 print.
    #[test]
    fn strings_look_as_python_shows_them() {
        let text = |text: &str, expected: &str| {
            let characters: Vec<u32> = text.chars().map(u32::from).collect();
            check(&characters, Style::Text, expected);
        };
        text("", "''");
        text("plain", "'plain'");
        text("it's", "\"it's\"");
        text("\"both\" 'kinds'", r#"'"both" \'kinds\''"#);
        text("a\\b\n\r\t\0\x7f", r"'a\\b\n\r\t\x00\x7f'");
        text("grüße 東京 😀", "'grüße 東京 😀'");
        text("e\u{301}", "'e\u{301}'");
        text("\u{a0}\u{ad}\u{200b}\u{202e}\u{3000}", r"'\xa0\xad\u200b\u202e\u3000'");
        text("\u{e000}\u{e0001}", r"'\ue000\U000e0001'");
        check(&[0xdc80, 0x61], Style::Text, r"'\udc80a'");
        check(&[0xe9, 0x6771, 0x1f600], Style::Ascii, r"'\xe9\u6771\U0001f600'");
        check(&[0x61, 0x27, 0xff, 0], Style::Bytes, r#""a'\xff\x00""#);
    }
}
