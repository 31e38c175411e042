use super::*;
use crate::runtime::python::made::{Made, layout};

fn read(made: &Made, most: usize) -> Option<String> {
    string(&layout().objects, Address(0x1000), most, made)
}

fn python_2(unit: u32) -> Objects {
    let text = Text::Wide { length: Field::at(16), data: Field::at(24), unit };
    Objects { text, ..layout().objects }
}

#[test]
fn strings_of_every_kind() {
    let mut made = Made::default();
    made.text(0x1000, 1, true, b"plain");
    assert_eq!(read(&made, 99).as_deref(), Some("plain"));
    made.text(0x1000, 1, false, b"na\xefve");
    assert_eq!(read(&made, 99).as_deref(), Some("naïve"));
    let units: Vec<u8> = "жω\u{ffff}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    made.text(0x1000, 2, false, &units);
    assert_eq!(read(&made, 99).as_deref(), Some("жω\u{ffff}"));
    let units: Vec<u8> = "a🐍".chars().flat_map(|found| u32::from(found).to_le_bytes()).collect();
    made.text(0x1000, 4, false, &units);
    assert_eq!(read(&made, 99).as_deref(), Some("a🐍"));
    made.text(0x1000, 1, true, b"");
    assert_eq!(read(&made, 99).as_deref(), Some(""));
}

#[test]
fn surrogates_are_escaped_and_never_joined() {
    let mut made = Made::default();
    made.text(0x1000, 2, false, &[0x3d, 0xd8, 0x0d, 0xdc, 0x80, 0xdc, b'x', 0]);
    assert_eq!(read(&made, 99).as_deref(), Some(r"\ud83d\udc0d\udc80x"));
    made.text(0x1000, 4, false, &[0x80, 0xdc, 0, 0, 0, 0, 0x11, 0]);
    assert_eq!(read(&made, 99).as_deref(), Some(r"\udc80\U00110000"));
}

#[test]
fn long_strings_are_cut_by_characters() {
    let mut made = Made::default();
    made.text(0x1000, 2, false, &[0x36, 4].repeat(5000));
    let text = name(&layout().objects, Address(0x1000), &made).unwrap();
    assert_eq!(text.chars().count(), NAME + 1);
    assert!(text.ends_with("ж…"));
    made.text(0x1000, 1, true, b"exact");
    assert_eq!(read(&made, 5).as_deref(), Some("exact"));
    assert_eq!(read(&made, 4).as_deref(), Some("exac…"));
    // A length that nobody has: what can be read of it is there.
    made.word(0x1010, i64::MAX as u64);
    assert_eq!(read(&made, 5).as_deref(), Some("exact…"));
    assert_eq!(read(&made, usize::MAX), None);
}

#[test]
fn data_may_lie_elsewhere() {
    let mut made = Made::default();
    made.text(0x1000, 1, false, b"").word(0x1010, 3);
    made.bytes(0x1020, &(1_u32 << 2).to_le_bytes()).word(0x1048, 0x2000).bytes(0x2000, b"far");
    assert_eq!(read(&made, 99), None, "where no version has such");
    let mut objects = layout().objects;
    if let Text::Compact { data, .. } = &mut objects.text {
        *data = Some(Field::at(72));
    }
    let found = string(&objects, Address(0x1000), 99, &made);
    assert_eq!(found.as_deref(), Some("far"));
}

#[test]
fn what_is_no_string_is_none() {
    let mut made = Made::default();
    assert_eq!(read(&made, 99), None);
    made.text(0x1000, 1, true, b"text");
    for state in [0, 1 << 5, 3 << 2 | 1 << 5, 2 << 2 | 3 << 5, 7 << 2 | 1 << 5] {
        made.bytes(0x1020, &u32::to_le_bytes(state));
        assert_eq!(read(&made, 99), None, "{state:#x}");
    }
    made.text(0x1000, 1, true, b"text").word(0x1010, u64::MAX);
    assert_eq!(read(&made, 99), None, "a negative length");
}

#[test]
fn strings_of_python_2() {
    let mut made = Made::default();
    made.word(0x1010, 3).word(0x1018, 0x2000);
    made.bytes(0x2000, &[0x3d, 0xd8, 0x0d, 0xdc, 0x80, 0xdc, 0, 0, 0, 0, 0, 0]);
    let read = |unit| string(&python_2(unit), Address(0x1000), 99, &made);
    assert_eq!(read(2).as_deref(), Some(r"🐍\udc80"));
    assert_eq!(read(4).as_deref(), Some("\\Udc0dd83d\\udc80\0"));
    assert_eq!(read(3), None);
}

#[test]
fn names_of_python_2_are_bytes() {
    let mut made = Made::default();
    let read = |made: &Made| name(&python_2(4), Address(0x1000), made);
    made.blob(0x1000, "café\u{7}".as_bytes());
    assert_eq!(read(&made).as_deref(), Some("café\u{7}"));
    made.blob(0x1000, b"a\xff\xc3(");
    assert_eq!(read(&made).as_deref(), Some(r"a\udcff\udcc3("));
    // Cut in the midst of a character.
    made.blob(0x1000, format!("{}é!", "x".repeat(NAME - 1)).as_bytes());
    assert_eq!(read(&made), Some(format!("{}…", "x".repeat(NAME - 1))));
    made.blob(0x1000, b"a\xc3");
    assert_eq!(read(&made).as_deref(), Some(r"a\udcc3"), "all that there is");
    made.word(0x1010, u64::MAX);
    assert_eq!(read(&made), None);
}

#[test]
fn names_of_types_end_where_their_zero_is() {
    let mut made = Made::default();
    let read = |made: &Made| type_name(&layout().objects, Address(0x1000), made);
    assert_eq!(read(&made), None);
    // Nothing can be read behind the piece that has the zero.
    made.word(0x1018, 0x201d).bytes(0x201d, b"package.Class\0.....................");
    assert_eq!(read(&made).as_deref(), Some("package.Class"));
    made.word(0x1018, 0x203c);
    assert_eq!(read(&made), None, "runs into what cannot be read");
    made.word(0x1018, 0x3000).bytes(0x3000, &[b'x'; 512]);
    assert_eq!(read(&made), None, "longer than any");
    made.word(0x1018, 0);
    assert_eq!(read(&made), None);
}
