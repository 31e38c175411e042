//! The real speedscope, and its schema: what `tests/run` installs from npm.

use std::{env, fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{observer::Observer, target::together};

/// Set where speedscope cannot be installed, to skip what needs it.
const WITHOUT: &str = "SPY_TEST_WITHOUT_SPEEDSCOPE";

/// A file of its release; `None` where it is to be done without.
fn release(name: &str) -> Option<PathBuf> {
    if env::var_os(WITHOUT).is_some() {
        eprintln!("skipped: {WITHOUT} is set");
        return None;
    }
    let home = "target/npm/node_modules/speedscope/dist/release";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(home).join(name);
    assert!(path.exists(), "{} is not there: use tests/run, or set {WITHOUT}", path.display());
    Some(path)
}

/// Demand that `file` is as the schema of speedscope's files says.
#[track_caller]
pub(crate) fn check_schema(file: &Value) {
    let Some(path) = release("file-format-schema.json") else { return };
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    if let Err(error) = matches(file, &schema, &schema) {
        panic!("not as the schema says: {error}");
    }
}

/// Whether `value` is as `schema`, a part of `whole`, says: as far as JSON
/// Schema, draft 7, is used in it.
fn matches(value: &Value, schema: &Value, whole: &Value) -> Result<(), String> {
    for (keyword, demand) in schema.as_object().unwrap() {
        let wrong = || Err(format!("{keyword} {demand} against {value:.120}"));
        match keyword.as_str() {
            "$schema" | "definitions" | "title" => {}
            "$ref" => {
                let path = demand.as_str().unwrap().strip_prefix('#').unwrap();
                matches(value, whole.pointer(path).unwrap(), whole)?;
            }
            "type" => {
                let is_so = match demand.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    other => panic!("{other}"),
                };
                if !is_so {
                    return wrong();
                }
            }
            "const" if value != demand => return wrong(),
            "enum" if !demand.as_array().unwrap().contains(value) => return wrong(),
            "const" | "enum" => {}
            "required" => {
                let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
                if !demand.as_array().unwrap().iter().all(has) {
                    return wrong();
                }
            }
            "properties" => {
                for (key, schema) in demand.as_object().unwrap() {
                    value.get(key).map_or(Ok(()), |value| matches(value, schema, whole))?;
                }
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten();
                items.try_for_each(|item| matches(item, demand, whole))?;
            }
            "anyOf" => {
                let schemas = demand.as_array().unwrap();
                let tried: Vec<_> =
                    schemas.iter().map(|schema| matches(value, schema, whole)).collect();
                if tried.iter().all(Result::is_err) {
                    return Err(format!("{tried:?}"));
                }
            }
            other => panic!("{other} is not known here"),
        }
    }
    Ok(())
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let Some(path) = release("file-format-schema.json") else { return };
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let good = serde_json::json!({
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": { "frames": [{ "name": "main", "line": 3 }] },
        "profiles": [{
            "type": "sampled", "name": "t", "unit": "microseconds",
            "startValue": 0, "endValue": 7, "samples": [[0]], "weights": [7],
        }],
    });
    assert_eq!(matches(&good, &schema, &schema), Ok(()));
    for (path, wrong) in [
        ("/$schema", Value::from("other")),
        ("/shared/frames/0/line", Value::Null),
        ("/shared/frames/0", serde_json::json!({})),
        ("/profiles/0/unit", Value::from("hours")),
        ("/profiles/0/weights", Value::Null),
        ("/profiles/0/samples/0/0", Value::from("main")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = wrong;
        assert!(matches(&bad, &schema, &schema).is_err(), "{path}");
    }
}

/// Load the file `name` that holds `text` in speedscope, in a browser, and
/// return the page as it is then: with the table of functions, each with its
/// place. `None` where that is to be done without.
///
/// Set `SPY_SHOW` to a directory to have a picture of it written there.
#[track_caller]
pub(crate) fn load(name: &str, text: &str) -> Option<String> {
    let page = release("index.html")?;
    // A browser keeps processors busy that others measure.
    let _together = together();
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("load.js");
    let (shown, text) = (Value::from(name), Value::from(text));
    // It is given files as it is by its own command.
    let load = format!(
        "const bytes = Array.from(new TextEncoder().encode({text}), it => String.fromCharCode(it));\n\
         speedscope.loadFileFromBase64({shown}, btoa(bytes.join('')));\n"
    );
    fs::write(&script, load).unwrap();
    let browse = |view: &str, what: &str| {
        let mut browser = Command::new("chromium");
        browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
        browser.args(["--virtual-time-budget=10000", "--window-size=1200,800", what]);
        browser.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
        browser.arg(format!(
            "file://{}#localProfilePath={}&view={view}",
            page.display(),
            script.display()
        ));
        Observer::start(browser).finish().expect(0)
    };
    if let Some(directory) = env::var_os("SPY_SHOW") {
        for view in ["time-ordered", "sandwich"] {
            let picture = PathBuf::from(&directory).join(format!("{name}.{view}.png"));
            browse(view, &format!("--screenshot={}", picture.display()));
        }
    }
    let told = browse("sandwich", "--dump-dom");
    // What it says of itself and of the machine; anything else is of the file.
    let usual = ["speedscope v", "WebGL", "Importing as", "import: "];
    let said = told.stderr.lines().filter(|line| line.contains(":CONSOLE:"));
    let complaints: Vec<&str> =
        said.filter(|line| !usual.iter().any(|usual| line.contains(usual))).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    Some(told.stdout)
}
