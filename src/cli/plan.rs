//! What is meant by what was typed.

use std::{
    ffi::OsString,
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::{self, FormatName, Span},
    exit::Failure,
};
use crate::{
    output::{Format, Lines, Locks, Mode, Options, Paths, Threads, View},
    runtime::Detail,
    sampler::{Scope, Stopping},
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
    pub(super) stopping: Stopping,
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
    /// How much of local variables is shown; `None` for nothing.
    pub(super) locals: Option<Detail>,
    pub(super) language: Language,
    pub(super) view: View,
    pub(super) stopping: Stopping,
    /// Whether the stacks are shown that no thread is on.
    pub(super) parked: bool,
    pub(super) paths: Paths,
}

/// Watch live.
#[derive(Clone, Debug)]
pub(super) struct Top {
    pub(super) targets: Targets,
    pub(super) scope: Scope,
    pub(super) rate: f64,
    pub(super) stopping: Stopping,
    pub(super) mode: Mode,
    pub(super) view: View,
    /// After what time it is shown anew.
    pub(super) delay: Duration,
    pub(super) form: Form,
    pub(super) language: Language,
    /// How long to watch for [`Form::Once`].
    pub(super) duration: Duration,
    /// Whether the screen is to be drawn in ASCII, whatever the locale is.
    pub(super) ascii: bool,
    pub(super) exit_on_end: bool,
}

/// How a live view is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As a screen, if there is a terminal.
    Screen,
    /// Printed once.
    Once,
    /// Printed each time, so often; `None` until told to stop.
    Batch(Option<NonZeroU64>),
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
    let lines = match (typed.function, typed.nolineno) {
        (true, _) => Lines::First,
        (_, true) => Lines::Together,
        (false, false) => Lines::Apart,
    };
    Ok(Record {
        targets,
        scope: scope(typed.subprocesses),
        place,
        format,
        options: Options {
            mode: if typed.wall { Mode::Wall } else { Mode::OnCpu },
            locks: if typed.gil { Locks::Held } else { Locks::Any },
            view: view(typed.native, typed.no_native),
            lines,
            paths: paths(typed.full_filenames),
            threads: if typed.threads { Threads::Apart } else { Threads::Merged },
            rate: typed.rate,
        },
        duration: typed.duration.and_then(|span| match span {
            Span::Time(time) => Some(time),
            Span::Unlimited => None,
        }),
        stopping: stopping(typed.nonblocking),
        stats,
        warnings,
    })
}

/// What a dump is to be.
pub(super) fn dump(typed: args::Dump) -> Dump {
    Dump {
        targets: processes(typed.pids),
        scope: scope(typed.subprocesses),
        locals: detail(typed.locals),
        language: if typed.json { Language::Json } else { Language::Text },
        view: view(typed.native, typed.no_native),
        stopping: stopping(typed.nonblocking),
        parked: !typed.no_parked,
        paths: paths(typed.full_filenames),
    }
}

/// What a live view is to be.
pub(super) fn top(typed: args::Top) -> anyhow::Result<Top> {
    let count = typed.native_or_count.flatten();
    let form = match (typed.once, typed.batch || typed.json, count) {
        (true, _, Some(_)) | (false, false, Some(_)) => {
            let what = "a number of tables goes with --batch";
            return Err(Failure::usage(what)
                .why("-n alone shows native frames, and -n N prints N tables")
                .fix("--batch -n N, or -n at the end or before another flag".to_owned())
                .into());
        }
        (true, _, None) => Form::Once,
        (false, true, count) => Form::Batch(count),
        (false, false, None) => Form::Screen,
    };
    let native = typed.native || typed.native_or_count == Some(None);
    if native && (typed.no_native || typed.nonblocking) {
        let other = if typed.no_native { "--no-native" } else { "--nonblocking" };
        return Err(Failure::usage(format!("-n cannot be used with {other}")).into());
    }
    let targets = if typed.command.is_empty() {
        processes(typed.pids)
    } else {
        Targets::Command(typed.command)
    };
    Ok(Top {
        targets,
        scope: scope(typed.subprocesses),
        rate: typed.rate,
        stopping: stopping(typed.nonblocking),
        mode: if typed.idle { Mode::Wall } else { Mode::OnCpu },
        view: view(native, typed.no_native),
        delay: typed.delay,
        form,
        language: if typed.json { Language::Json } else { Language::Text },
        duration: typed.duration,
        ascii: typed.ascii,
        exit_on_end: typed.exit_on_end,
    })
}

/// What a snapshot is to be.
pub(super) fn capture(typed: args::Capture) -> Capture {
    Capture { pid: typed.pid, directory: typed.output }
}

fn scope(subprocesses: bool) -> Scope {
    if subprocesses { Scope::Descendants } else { Scope::Named }
}

/// What `-l`, given so many times, asks for.
fn detail(times: u8) -> Option<Detail> {
    /// Characters of a value, for each time.
    const CHARACTERS: usize = 128;
    let times = usize::from(times);
    (times > 0).then_some(Detail { characters: CHARACTERS * times, fields: times > 1 })
}

fn paths(full: bool) -> Paths {
    if full { Paths::Full } else { Paths::Short }
}

fn view(native: bool, no_native: bool) -> View {
    match (native, no_native) {
        (true, _) => View::Native,
        (_, true) => View::Managed,
        (false, false) => View::Default,
    }
}

fn stopping(nonblocking: bool) -> Stopping {
    if nonblocking { Stopping::Never } else { Stopping::Brief }
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

/// Where what was typed is written to.
pub(super) fn place(path: &Path) -> Place {
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
        FormatName::Speedscope => Format::Speedscope,
        FormatName::Chrometrace => Format::ChromeTrace,
    });
    let Place::File(path) = place else { return Ok(asked.unwrap_or(Format::Flamegraph)) };
    let told = Format::told_by(&path.file_name().unwrap_or_default().to_string_lossy());
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
        (None, None) if path.extension().is_none() => {
            warnings.push(format!("{shown} has no extension: it will be a flame graph, an SVG"));
            Ok(Format::Flamegraph)
        }
        (None, None) => {
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            let (why, fix) = match extension.as_str() {
                "json" => (
                    "several formats are JSON".to_owned(),
                    "-o NAME.speedscope.json, -o NAME.trace.json, or -f FORMAT",
                ),
                other => (
                    format!("the extension .{other} is of no format that spy writes"),
                    "-o NAME.svg for a flame graph, -o NAME.folded for collapsed stacks, or -f FORMAT",
                ),
            };
            let what = format!("which format {shown} is to have is not known");
            Err(Failure::usage(what).why(why).fix(fix.to_owned()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{
        super::args::{Arguments, Command},
        *,
    };

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
        check("a.speedscope.json", None, Some(Format::Speedscope));
        check("a.Trace.JSON", None, Some(Format::ChromeTrace));
        check("trace", None, Some(Format::Flamegraph));
        check("trace", Some(FormatName::Speedscope), Some(Format::Speedscope));
        for name in ["a.json", "speedscope.json", "a.html", "a."] {
            check(name, None, None);
            check(name, Some(FormatName::Raw), Some(Format::Collapsed));
            check(name, Some(FormatName::Chrometrace), Some(Format::ChromeTrace));
        }
        let mut warnings = Vec::new();
        let place = Place::File("a.svg".into());
        let found = format(&place, Some(FormatName::Raw), &mut warnings).unwrap();
        assert_eq!((found, warnings.len()), (Format::Collapsed, 1));
        assert_eq!(format(&Place::Standard, None, &mut warnings).unwrap(), Format::Flamegraph);
    }

    /// What `spy` followed by `line` means.
    #[track_caller]
    fn meant(line: &str) -> Command {
        let words = std::iter::once("spy").chain(line.split_whitespace());
        match Arguments::try_parse_from(words) {
            Ok(arguments) => arguments.command,
            Err(error) => panic!("{line}: {error}"),
        }
    }

    #[track_caller]
    fn meant_record(line: &str) -> Record {
        let Command::Record(typed) = meant(line) else { panic!("{line} is no recording") };
        record(typed).unwrap()
    }

    #[track_caller]
    fn meant_top(line: &str) -> anyhow::Result<Top> {
        let Command::Top(typed) = meant(line) else { panic!("{line} is no live view") };
        top(typed)
    }

    #[test]
    fn a_live_view_is_what_was_typed_for_it() {
        let job = meant_top("top --pid 12345").unwrap();
        assert_eq!(job.targets, Targets::Processes(vec![Pid(12345)]));
        assert_eq!((job.form, job.mode, job.view), (Form::Screen, Mode::OnCpu, View::Default));
        assert_eq!((job.delay, job.rate), (Duration::from_millis(500), 100.0));
        // Of py-spy's help.
        let job = meant_top("top -s --idle -r 200 --delay 2.0 -p 1").unwrap();
        assert_eq!((job.scope, job.mode, job.rate), (Scope::Descendants, Mode::Wall, 200.0));
        assert_eq!(job.delay, Duration::from_secs(2));
        assert_eq!(meant_top("top --nonblocking -p 1").unwrap().stopping, Stopping::Never);
        let command = ["python", "-n", "5"].map(OsString::from).to_vec();
        let job = meant_top("top -n -- python -n 5").unwrap();
        assert_eq!((job.targets, job.view), (Targets::Command(command), View::Native));
        for native in ["top -n -p 1", "top -p 1 -n", "top --native -p 1"] {
            let job = meant_top(native).unwrap();
            assert_eq!((job.view, job.form), (View::Native, Form::Screen), "{native}");
        }
        let job = meant_top("top --batch -n 3 -d 2 -p 1").unwrap();
        assert_eq!((job.form, job.view), (Form::Batch(NonZeroU64::new(3)), View::Default));
        assert_eq!(job.delay, Duration::from_secs(2));
        let form = |line: &str| meant_top(line).map(|job| (job.form, job.language)).ok();
        assert_eq!(form("top --batch -n -p 1"), Some((Form::Batch(None), Language::Text)));
        assert_eq!(form("top --json -p 1"), Some((Form::Batch(None), Language::Json)));
        assert_eq!(form("top --once -j -p 1"), Some((Form::Once, Language::Json)));
        let job = meant_top("top --once --duration 1m -p 1").unwrap();
        assert_eq!((job.form, job.duration), (Form::Once, Duration::from_secs(60)));
        for wrong in ["top -n 3 -p 1", "top --once -n 3 -p 1", "top -n --no-native -p 1"] {
            assert_eq!(form(wrong), None, "{wrong}");
        }
    }

    #[track_caller]
    fn meant_dump(line: &str) -> Dump {
        let Command::Dump(typed) = meant(line) else { panic!("{line} is no dump") };
        dump(typed)
    }

    /// The command lines of py-spy 0.4.3: of its manual, and of its help.
    #[test]
    fn what_was_typed_for_py_spy_means_the_same() {
        let pid = || Targets::Processes(vec![Pid(12345)]);
        let job = meant_record("record -o profile.svg --pid 12345");
        assert_eq!((job.targets, job.place), (pid(), Place::File("profile.svg".into())));
        assert_eq!(job.format, Format::Flamegraph);
        assert_eq!((job.duration, job.options.rate), (None, 100.0));
        let Options { mode, locks, view, lines, threads, paths, .. } = job.options;
        assert_eq!((mode, locks, view), (Mode::OnCpu, Locks::Any, View::Default));
        assert_eq!((lines, threads, paths), (Lines::Apart, Threads::Merged, Paths::Short));
        assert_eq!(job.stopping, Stopping::Brief);
        let job = meant_record("record -o profile.svg -- python myprogram.py --verbose");
        let command = ["python", "myprogram.py", "--verbose"].map(OsString::from);
        assert_eq!(job.targets, Targets::Command(command.to_vec()));
        assert_eq!(meant_record("record --pid 0x3039").targets, pid());
        assert_eq!(meant_record("r -p 12345").targets, pid());

        let job = meant_record("record -d 60 -r 250 -f speedscope -o out.json -p 12345");
        assert_eq!((job.duration, job.options.rate), (Some(Duration::from_secs(60)), 250.0));
        assert_eq!((job.format, job.warnings.len()), (Format::Speedscope, 0));
        assert_eq!(meant_record("record -d unlimited -p 1").duration, None);
        for (name, format) in [
            ("flamegraph", Format::Flamegraph),
            ("raw", Format::Collapsed),
            ("speedscope", Format::Speedscope),
            ("chrometrace", Format::ChromeTrace),
        ] {
            assert_eq!(meant_record(&format!("record --format {name} --pid 1")).format, format);
        }
        let options = |flags: &str| meant_record(&format!("record {flags} -p 1")).options;
        for (short, long, is_so) in [
            ("-F", "--function", (|it| it.lines == Lines::First) as fn(Options) -> bool),
            ("--nolineno", "--nolineno", |it| it.lines == Lines::Together),
            ("-t", "--threads", |it| it.threads == Threads::Apart),
            ("-g", "--gil", |it| it.locks == Locks::Held && it.mode == Mode::OnCpu),
            ("-i", "--idle", |it| it.mode == Mode::Wall),
            ("-n", "--native", |it| it.view == View::Native),
            ("--full-filenames", "--full-filenames", |it| it.paths == Paths::Full),
            ("-ngit", "--native --gil --idle --threads", |it| {
                it.view == View::Native && it.locks == Locks::Held && it.mode == Mode::Wall
            }),
        ] {
            assert!(is_so(options(short)) && is_so(options(long)), "{short} {long}");
        }
        assert_eq!(meant_record("record --nonblocking -p 1").stopping, Stopping::Never);
        assert_eq!(options("--no-native").view, View::Managed);

        let job = meant_dump("dump --pid 12345");
        assert_eq!((job.targets, job.language, job.view), (pid(), Language::Text, View::Default));
        assert_eq!(meant_dump("d -p 0x3039 -j").language, Language::Json);
        let job = meant_dump("dump --json --native --full-filenames --pid 12345");
        assert_eq!((job.view, job.paths), (View::Native, Paths::Full));
        assert_eq!(meant_dump("dump --nonblocking -p 1").stopping, Stopping::Never);
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
