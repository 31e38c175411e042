//! Line tables are read as Python itself reads them: of every interpreter, the
//! tables of a part of its library.

use std::collections::BTreeMap;

use spy::runtime::python::{
    layout::LineTable,
    lines::{Lines, Place},
};

use crate::interpreters::{Version, interpreters};

fn kind(version: Version) -> LineTable {
    match version {
        (2, _) => LineTable::Growing,
        (3, ..=9) => LineTable::Signed,
        (3, 10) => LineTable::Ranges,
        _ => LineTable::Locations,
    }
}

fn number(word: &str) -> Option<u32> {
    word.parse().ok()
}

fn bytes(word: &str) -> Vec<u8> {
    let pairs = word.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn every_line_and_column_is_where_python_has_it() {
    let mut compared = BTreeMap::new();
    for interpreter in interpreters() {
        let name = &interpreter.name;
        let said = interpreter.command("lines.py").output().unwrap();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
        let said = String::from_utf8(said.stdout).unwrap();
        let mut lines = Lines::decode(kind(interpreter.version), &[], 0);
        let (mut places, mut columns, mut longest) = (0, 0, 0);
        for said in said.lines() {
            let words: Vec<_> = said.split(' ').collect();
            if let ["code", first, table] = words[..] {
                let table = bytes(table);
                let first = first.parse().unwrap();
                lines = Lines::decode(kind(interpreter.version), &table, first);
                longest = longest.max(table.len());
                assert_eq!(lines.at(-1).line, number(words[1]), "{name}");
                continue;
            }
            let [from, to, line, start, end] = words[..] else { panic!("{name}: {said}") };
            // The last is exclusive and from 0, so inclusive and from 1.
            let columns_of = number(start).map(|start| start + 1).zip(number(end));
            let place = Place { line: number(line), columns: columns_of };
            for offset in [number(from).unwrap(), number(to).unwrap() - 1] {
                assert_eq!(lines.at(offset.into()), place, "{name}: {said}");
            }
            places += 1;
            columns += usize::from(columns_of.is_some());
        }
        assert!(places > 5000 && longest > 100_000, "{name}: {places} places, {longest} bytes");
        assert_eq!(columns > 5000, interpreter.version >= (3, 11), "{name}: {columns}");
        compared.insert(interpreter.version, places);
    }
    assert!(compared.len() >= 4, "{compared:?}");
}
