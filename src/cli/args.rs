//! What may be typed. No behaviour: what it means is in [`plan`](super::plan).

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::styling::{AnsiColor, Styles},
};

use super::quantity;
use crate::task::Pid;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

macro_rules! examples {
    () => {
        "\
Examples:
  spy top -p 4711                        what it does, as it does it
  spy dump -p 4711                       what every thread does now
  spy record -p 4711 -o flame.svg        a flame graph, until Ctrl-C
  spy record -p 4711 -d 30s --wall       where the time goes, waiting included
  spy record -- ./server --port 80       of a program started for it"
    };
}

/// Shows where a live process spends its time
///
/// spy attaches to a running process, without restarting or changing it, and
/// shows the functions that it runs and the calls that it waits in. A thread
/// that sleeps is read without being woken; one that runs is stopped for tens of
/// microseconds at a time.
#[derive(Debug, Parser)]
#[command(
    name = "spy",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    infer_subcommands = true,
    after_help = examples!(),
    after_long_help = AFTER,
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// When to colour
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        global = true,
        display_order = 998,
        hide_possible_values = true
    )]
    pub(super) color: Colour,
}

const AFTER: &str = concat!(
    examples!(),
    "

Exit status:
  0    done
  1    failed
  2    what was typed is wrong
  130  given up, by a second Ctrl-C
  With `-- COMMAND`, the status of the command (128 + its signal); 125 where spy
  itself failed, 126 where the command could not be run, 127 where it is not there.

Environment:
  NO_COLOR    no colours, where --color does not say otherwise
  TERM        `dumb`: no colours, and no live view but a table
  LC_ALL, LC_CTYPE, LANG  without UTF-8 in them, the live view is drawn in ASCII"
);

/// A verb.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch live what uses the time
    ///
    /// Show the functions of processes by the time that they use, their threads, and
    /// what they wait for, and show it anew twice a second. `?` shows the keys, `q`
    /// leaves. Without a terminal, print one table.
    Top(Top),
    /// Record a while, and write a flame graph
    ///
    /// Watch processes until Ctrl-C, a signal, the end of the given time or the end of
    /// the processes, and write a flame graph: of what ran, or with --wall of what
    /// waited, too.
    Record(Record),
    /// Show what every thread does now
    ///
    /// Look once at every thread of a process, and print its state, the system call
    /// that it is blocked in, and its stack.
    Dump(Dump),
    /// Copy what unwinding needs to files
    #[command(hide = true)]
    Capture(Capture),
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "spy record [OPTIONS] -p <PID>...\n       spy record [OPTIONS] -- <COMMAND>..."
)]
pub(super) struct Record {
    /// A process to watch, by its number; may be given several times
    #[arg(
        short,
        long = "pid",
        value_name = "PID",
        value_parser = quantity::pid,
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Target",
        conflicts_with = "command"
    )]
    pub(super) pids: Vec<Pid>,

    /// A program to start and watch, after `--`
    ///
    /// The program has the terminal as if spy were not there, and its status
    /// becomes spy's.
    #[arg(last = true, value_name = "COMMAND", help_heading = "Target")]
    pub(super) command: Vec<OsString>,

    /// Watch the processes that it starts, too
    ///
    /// Children and their children, those that are there and those that begin while
    /// it is watched. Each process has a root frame of its own.
    #[arg(short, long, help_heading = "Target")]
    pub(super) subprocesses: bool,

    /// How long to record, as 10, 10s, 500ms, 2m or 1h [default: until Ctrl-C]
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = quantity::duration,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub(super) duration: Option<Span>,

    /// How often to look, as 100, 100hz or 1khz
    ///
    /// The times are random around this rate, so that a program with a rhythm of its
    /// own cannot hide from them.
    #[arg(
        short,
        long,
        value_name = "HZ",
        value_parser = quantity::rate,
        default_value = "100",
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub(super) rate: f64,

    /// Stop no thread: what is read of one that runs may be torn
    ///
    /// Native frames are then known of threads that sleep alone. Without this, a
    /// thread that runs is stopped for tens of microseconds.
    #[arg(short = 'b', long, help_heading = "Sampling", conflicts_with = "native")]
    pub(super) nonblocking: bool,

    /// Show only when a thread held the interpreter lock (Python's GIL)
    #[arg(short, long, help_heading = "Sampling")]
    pub(super) gil: bool,

    /// Show waiting threads, too: each stack by the time that a thread was there
    #[arg(short = 'i', long = "wall", visible_alias = "idle", help_heading = "Sampling")]
    pub(super) wall: bool,

    /// The file to write, `-` for standard output [default: spy-NAME-PID-TIME.svg]
    ///
    /// It is created before anything is watched, and replaced as a whole at the end.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<PathBuf>,

    /// The format, where FILE's extension does not say
    ///
    /// flamegraph (.svg), raw (.folded .collapsed .txt .raw: collapsed stacks),
    /// speedscope (.speedscope.json), chrometrace (.trace.json).
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        help_heading = "Output",
        hide_possible_values = true
    )]
    #[arg(
        help = "flamegraph, raw (= collapsed), speedscope or chrometrace [default: by FILE's name]"
    )]
    pub(super) format: Option<FormatName>,

    /// Also write what the recording did and cost, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) stats: Option<PathBuf>,

    /// Show each thread apart
    #[arg(short, long, help_heading = "What is shown")]
    pub(super) threads: bool,

    /// Show native frames, too, where a language runtime has frames of its own
    ///
    /// Without this, a thread of such a runtime is shown with the runtime's frames, and
    /// the native functions that the innermost of them has called.
    #[arg(short, long, help_heading = "What is shown")]
    pub(super) native: bool,

    /// Show the frames of language runtimes alone
    ///
    /// Threads that have none are left out.
    #[arg(long, help_heading = "What is shown", conflicts_with = "native")]
    pub(super) no_native: bool,

    /// One frame a function, by its first line, whichever of its lines ran
    #[arg(short = 'F', long, help_heading = "What is shown")]
    pub(super) function: bool,

    /// Show no line numbers
    #[arg(long, help_heading = "What is shown", conflicts_with = "function")]
    pub(super) nolineno: bool,

    /// Show the whole paths of source files
    #[arg(long, help_heading = "What is shown")]
    pub(super) full_filenames: bool,
}

/// A file format, by the names that py-spy's users know and by its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatName {
    Flamegraph,
    #[value(alias = "collapsed", alias = "folded")]
    Raw,
    Speedscope,
    Chrometrace,
}

/// A time to record for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// So long.
    Time(Duration),
    /// Until told to stop.
    Unlimited,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "spy top [OPTIONS] -p <PID>...\n       spy top [OPTIONS] -- <COMMAND>..."
)]
pub(super) struct Top {
    /// A process to watch, by its number; may be given several times
    #[arg(
        short,
        long = "pid",
        value_name = "PID",
        value_parser = quantity::pid,
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Target",
        conflicts_with = "command"
    )]
    pub(super) pids: Vec<Pid>,

    /// A program to start and watch, after `--`
    ///
    /// It reads nothing, and beside the live view what it writes is lost. When spy
    /// leaves, it is told to end (SIGTERM).
    #[arg(last = true, value_name = "COMMAND", help_heading = "Target")]
    pub(super) command: Vec<OsString>,

    /// Watch the processes that it starts, too
    ///
    /// Children and their children, those that are there and those that begin while
    /// it is watched.
    #[arg(short, long, help_heading = "Target")]
    pub(super) subprocesses: bool,

    /// How often to look, as 100, 100hz or 1khz
    ///
    /// The times are random around this rate, so that a program with a rhythm of its
    /// own cannot hide from them.
    #[arg(
        short,
        long,
        value_name = "HZ",
        value_parser = quantity::rate,
        default_value = "100",
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub(super) rate: f64,

    /// Stop no thread: what is read of one that runs may be torn
    ///
    /// Native frames are then known of threads that sleep alone. Without this, a
    /// thread that runs is stopped for tens of microseconds.
    #[arg(short = 'b', long, help_heading = "Sampling", conflicts_with = "native")]
    pub(super) nonblocking: bool,

    /// Show waiting threads, too: each stack by the time that a thread was there
    #[arg(short = 'i', long = "idle", visible_alias = "wall", help_heading = "What is shown")]
    pub(super) idle: bool,

    /// Show native frames, too, where a language runtime has frames of its own
    ///
    /// Without this, a thread of such a runtime is shown with the runtime's frames, and
    /// the native functions that the innermost of them has called. The letter is -n.
    #[arg(long, help_heading = "What is shown")]
    pub(super) native: bool,

    /// --native; with a number, how many tables --batch prints
    #[arg(short = 'n', value_name = "N", num_args = 0..=1, help_heading = "What is shown")]
    #[expect(clippy::option_option, reason = "not given, given alone, given with a number")]
    pub(super) native_or_count: Option<Option<NonZeroU64>>,

    /// Show the frames of language runtimes alone
    ///
    /// Threads that have none are left out.
    #[arg(long, help_heading = "What is shown", conflicts_with = "native")]
    pub(super) no_native: bool,

    /// How often to show it anew, as 2, 2s or 500ms
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = quantity::delay,
        default_value = "500ms",
        allow_negative_numbers = true,
        help_heading = "How it is shown"
    )]
    pub(super) delay: Duration,

    /// Draw in ASCII alone
    #[arg(long, help_heading = "How it is shown")]
    pub(super) ascii: bool,

    /// Leave when the processes have ended
    ///
    /// Without this, what was seen stays on the screen, and can be saved.
    #[arg(long, help_heading = "How it is shown")]
    pub(super) exit_on_end: bool,

    /// Print one table after --duration, and leave: as without a terminal
    #[arg(long, help_heading = "Without a screen", conflicts_with = "batch")]
    pub(super) once: bool,

    /// How long to watch before that
    #[arg(
        long,
        value_name = "TIME",
        value_parser = quantity::delay,
        default_value = "5s",
        allow_negative_numbers = true,
        help_heading = "Without a screen"
    )]
    pub(super) duration: Duration,

    /// Print a table each time, -n N of them, or until Ctrl-C
    #[arg(long, help_heading = "Without a screen")]
    pub(super) batch: bool,

    /// Print a JSON object each time, on a line of its own
    #[arg(short, long, help_heading = "Without a screen")]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Dump {
    /// A process to look at, by its number; may be given several times
    #[arg(
        short,
        long = "pid",
        value_name = "PID",
        value_parser = quantity::pid,
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(super) pids: Vec<Pid>,

    /// Show the processes that it started, too, and those that they started
    #[arg(short, long)]
    pub(super) subprocesses: bool,

    /// Show the local variables of Python functions; twice: more of each
    ///
    /// Each value in up to 128 characters, and 128 more each time that this is given
    /// again. From the second time on, objects are shown with their fields.
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) locals: u8,

    /// Print JSON
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub(super) json: bool,

    /// Show native frames, too, where a language runtime has frames of its own
    #[arg(short, long)]
    pub(super) native: bool,

    /// Show the frames of language runtimes alone, and the threads that have some
    #[arg(long, conflicts_with = "native")]
    pub(super) no_native: bool,

    /// Stop no thread: what is read of one that runs may be torn
    #[arg(short = 'b', long, conflicts_with = "native")]
    pub(super) nonblocking: bool,

    /// Show the threads alone, and no greenlets and tasks that none of them runs
    ///
    /// Those of Python are found by a search of the memory of the process, and shown in
    /// groups of equal stacks, the largest first.
    #[arg(long)]
    pub(super) no_parked: bool,

    /// Show the whole paths of source files
    #[arg(long)]
    pub(super) full_filenames: bool,
}

#[derive(Debug, Args)]
pub(super) struct Capture {
    /// The process to copy from, by its number
    #[arg(short, long, value_name = "PID", value_parser = quantity::pid, allow_negative_numbers = true)]
    pub(super) pid: Pid,

    /// The directory to write, which must not be there yet
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: PathBuf,
}
