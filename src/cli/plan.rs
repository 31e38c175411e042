//! What is meant by what was typed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::{self, FormatName, Span},
    exit::Failure,
};
use crate::{
    output::{Format, Lines, Mode, Options, Paths, Threads},
    sampler::Scope,
    task::Pid,
};

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    /// These, each once.
    Processes(Vec<Pid>),
    /// A program to be started, and its arguments.
    Command(Vec<OsString>),
    /// Ask.
    Unsaid,
}

/// Where to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Standard output.
    Standard,
    /// A file, which is replaced as a whole.
    File(PathBuf),
    /// A device or a pipe, which is written to.
    Stream(PathBuf),
    /// A file in the working directory, named after the target.
    Default,
}

/// Record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) targets: Targets,
    pub(super) scope: Scope,
    pub(super) place: Place,
    pub(super) format: Format,
    pub(super) options: Options,
    pub(super) duration: Option<Duration>,
    pub(super) stats: Option<Place>,
    /// What may not be as was wanted.
    pub(super) warnings: Vec<String>,
}

/// How a dump is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Dump.
#[derive(Clone, Debug)]
pub(super) struct Dump {
    pub(super) targets: Targets,
    pub(super) scope: Scope,
    pub(super) language: Language,
    pub(super) paths: Paths,
}

/// Copy a snapshot to files.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    pub(super) pid: Pid,
    pub(super) directory: PathBuf,
}

/// What a recording is to be.
pub(super) fn record(typed: args::Record) -> anyhow::Result<Record> {
    let stats = typed.stats.as_deref().map(place);
    let place = typed.output.as_deref().map_or(Place::Default, place);
    if stats.as_ref() == Some(&place) {
        let what = "the recording and --stats would be written to the same place";
        return Err(Failure::usage(what)
            .fix("--stats FILE, another one than -o".to_owned())
            .into());
    }
    let mut warnings = Vec::new();
    let format = format(&place, typed.format, &mut warnings)?;
    let targets = if typed.command.is_empty() {
        processes(typed.pids)
    } else {
        Targets::Command(typed.command)
    };
    let together = typed.function || typed.nolineno;
    Ok(Record {
        targets,
        scope: scope(typed.subprocesses),
        place,
        format,
        options: Options {
            mode: if typed.wall { Mode::Wall } else { Mode::OnCpu },
            lines: if together { Lines::Together } else { Lines::Apart },
            paths: paths(typed.full_filenames),
            threads: if typed.threads { Threads::Apart } else { Threads::Merged },
            rate: typed.rate,
        },
        duration: typed.duration.and_then(|span| match span {
            Span::Time(time) => Some(time),
            Span::Unlimited => None,
        }),
        stats,
        warnings,
    })
}

/// What a dump is to be.
pub(super) fn dump(typed: args::Dump) -> Dump {
    Dump {
        targets: processes(typed.pids),
        scope: scope(typed.subprocesses),
        language: if typed.json { Language::Json } else { Language::Text },
        paths: paths(typed.full_filenames),
    }
}

/// What a snapshot is to be.
pub(super) fn capture(typed: args::Capture) -> Capture {
    Capture { pid: typed.pid, directory: typed.output }
}

fn scope(subprocesses: bool) -> Scope {
    if subprocesses { Scope::Descendants } else { Scope::Named }
}

fn paths(full: bool) -> Paths {
    if full { Paths::Full } else { Paths::Short }
}

fn processes(mut pids: Vec<Pid>) -> Targets {
    let mut seen = Vec::new();
    pids.retain(|pid| {
        let new = !seen.contains(pid);
        seen.push(*pid);
        new
    });
    if pids.is_empty() { Targets::Unsaid } else { Targets::Processes(pids) }
}

fn place(path: &Path) -> Place {
    if path == Path::new("-") || path == Path::new("/dev/stdout") {
        return Place::Standard;
    }
    let path = path.to_owned();
    match fs::metadata(&path) {
        // What is below /dev may lead to a file that a shell has opened.
        Ok(it) if !it.is_dir() && (!it.is_file() || path.starts_with("/dev")) => {
            Place::Stream(path)
        }
        _ => Place::File(path),
    }
}

/// The format that was asked for, or the one that the file's name tells.
fn format(
    place: &Place,
    asked: Option<FormatName>,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Format> {
    let asked = asked.map(|name| match name {
        FormatName::Flamegraph => Format::Flamegraph,
        FormatName::Raw => Format::Collapsed,
    });
    let Place::File(path) = place else { return Ok(asked.unwrap_or(Format::Flamegraph)) };
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let told = match extension.as_str() {
        "svg" => Some(Format::Flamegraph),
        "folded" | "collapsed" | "txt" | "raw" => Some(Format::Collapsed),
        _ => None,
    };
    let shown = path.display();
    match (asked, told) {
        (Some(asked), Some(told)) if asked != told => {
            warnings
                .push(format!("{shown} will not hold what its name says: -f is another format"));
            Ok(asked)
        }
        (Some(format), _) | (None, Some(format)) => Ok(format),
        (None, None) if path.is_dir() => {
            let fix = format!("-o {}", path.join("flame.svg").display());
            let what = format!("{shown} cannot be written");
            Err(Failure::usage(what).why("it is a directory").fix(fix).into())
        }
        (None, None) => {
            let why = match extension.as_str() {
                "" => "it has no extension".to_owned(),
                "json" => {
                    "several formats are JSON, and none of them can be written yet".to_owned()
                }
                other => format!("the extension .{other} is of no format that spy writes"),
            };
            let fix =
                "-o NAME.svg for a flame graph, -o NAME.folded for collapsed stacks, or -f FORMAT";
            let what = format!("which format {shown} is to have is not known");
            Err(Failure::usage(what).why(why).fix(fix.to_owned()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_from_the_name() {
        let check = |name: &str, asked, expected: Option<Format>| {
            let found = format(&Place::File(name.into()), asked, &mut Vec::new());
            assert_eq!(found.ok(), expected, "{name}");
        };
        check("a.svg", None, Some(Format::Flamegraph));
        check("a.SVG", None, Some(Format::Flamegraph));
        for name in ["a.folded", "a.collapsed", "a.txt", "a.raw", "b/a.svg.txt"] {
            check(name, None, Some(Format::Collapsed));
        }
        for name in ["a.json", "a", "a.html", "a.", ".svg"] {
            check(name, None, None);
            check(name, Some(FormatName::Raw), Some(Format::Collapsed));
        }
        let mut warnings = Vec::new();
        let place = Place::File("a.svg".into());
        let found = format(&place, Some(FormatName::Raw), &mut warnings).unwrap();
        assert_eq!((found, warnings.len()), (Format::Collapsed, 1));
        assert_eq!(format(&Place::Standard, None, &mut warnings).unwrap(), Format::Flamegraph);
    }

    #[test]
    fn each_process_is_meant_once() {
        let pids = vec![Pid(2), Pid(1), Pid(2)];
        assert_eq!(processes(pids), Targets::Processes(vec![Pid(2), Pid(1)]));
        assert_eq!(processes(Vec::new()), Targets::Unsaid);
    }

    #[test]
    fn devices_are_written_to() {
        assert_eq!(place(Path::new("-")), Place::Standard);
        assert_eq!(place(Path::new("/dev/stdout")), Place::Standard);
        assert_eq!(place(Path::new("/dev/null")), Place::Stream("/dev/null".into()));
        assert_eq!(place(Path::new("/dev")), Place::File("/dev".into()));
    }
}
