//! Files that say what the program is to write.

use std::{env, fs, path::Path};

/// Set it to have the files rewritten.
const REWRITE: &str = "SPY_REWRITE_GOLDEN";

/// Compare `text` with the file `name` of `tests/golden`.
pub(crate) fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os(REWRITE).is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "tests/golden/{name} says something else; if it is wrong, run the tests with {REWRITE}=1.\n\
         --- expected\n{expected}\n--- found\n{text}"
    );
}
