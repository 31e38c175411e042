//! What is on the screen, as text and numbers: all that is to be decided
//! before it is drawn. Texts are as the target wrote them, and are made
//! harmless when they are drawn.

use std::time::Duration;

/// Everything that is shown at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Screen {
    /// Line 1.
    pub title: Title,
    /// Line 2.
    pub gauges: Gauges,
    /// Line 3: what is certain, in one sentence.
    pub evidence: Option<Evidence>,
    /// The line of tabs.
    pub tabs: Tabs,
    /// What the chosen tab shows.
    pub body: Body,
    /// The line below the body: the way to what is chosen, and its share.
    pub path: Option<HotPath>,
    /// The keys that are of use now, the most useful first, and what they do.
    pub keys: Vec<(&'static str, &'static str)>,
    /// What stands before everything else, if anything does.
    pub overlay: Option<Overlay>,
    /// What was filtered for, if anything.
    pub filter: Option<String>,
}

/// Who is watched, and how well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Title {
    /// The command line of the first process.
    pub command: String,
    /// Its number, or how many processes there are, such as `3 processes`.
    pub who: String,
    /// Its language runtime.
    pub runtime: Option<String>,
    /// For how long it has been watched.
    pub watched: Duration,
    /// What moment is shown.
    pub moment: Moment,
    /// Ticks a second that were wanted.
    pub rate: f64,
    /// The share of them that were made, 0 to 1.
    pub made: f64,
}

/// What moment is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// Now.
    #[default]
    Live,
    /// The moment at which the display was paused, by the clock of the
    /// recording.
    Paused(Duration),
    /// An earlier one, likewise.
    Past(Duration),
    /// The last one: the target has ended, and this is how.
    Ended(String),
}

/// The target's condition in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Processors in use by all targets together: 1.43 is 143 % of one.
    pub cores: f64,
    /// The same over the time that is shown, the oldest first.
    pub cores_before: Vec<f64>,
    /// The share of the time in which a thread held the interpreter lock, 0 to
    /// 1, and how many threads on average waited for it, in that of several
    /// processes in which it was held the most; `None` where there is no such
    /// lock.
    pub lock: Option<(f64, f64)>,
    /// Threads that run, wait for a processor, wait for the interpreter lock,
    /// and sleep.
    pub threads: ThreadCounts,
    /// The share of one processor that this program uses, 0 and more.
    pub own: f64,
    /// For how long a thread is held for a sample: the median, in microseconds;
    /// `None` before the first.
    pub held: Option<f64>,
    /// What was lost, in words, if anything was: it is told in place of less
    /// important things.
    pub lost: Option<String>,
}

/// Threads by what they do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCounts {
    /// On a processor.
    pub running: usize,
    /// Waiting for a processor.
    pub queued: usize,
    /// Waiting for the interpreter lock.
    pub lock: usize,
    /// Asleep in another way.
    pub blocked: usize,
}

/// What is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether something is wrong, or only worth knowing.
    pub grave: bool,
    /// A sentence with numbers in it.
    pub text: String,
}

/// What may be looked at, in the order of the digits that choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tab {
    /// Which functions, by share.
    #[default]
    Functions,
    /// What each thread does.
    Threads,
    /// Who calls whom, as an icicle graph.
    Flame,
    /// The same to be opened and closed.
    Tree,
    /// Where threads sleep.
    Waits,
    /// The chosen function's source.
    Source,
}

impl Tab {
    /// All, in order.
    pub const ALL: [Self; 6] =
        [Self::Functions, Self::Threads, Self::Flame, Self::Tree, Self::Waits, Self::Source];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Functions => "Functions",
            Self::Threads => "Threads",
            Self::Flame => "Flame",
            Self::Tree => "Tree",
            Self::Waits => "Waits",
            Self::Source => "Source",
        }
    }
}

/// The line of tabs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tabs {
    /// Which is shown.
    pub chosen: Tab,
    /// Of what everything below is a share, such as `on-CPU, last 30 s` or
    /// `thread worker-3, wall, last 30 s`.
    pub population: String,
    /// What the rows are ordered by, such as `self▼`.
    pub order: String,
}

/// What a tab shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Rows of functions, lines or modules.
    Functions(Table<FunctionRow>),
    /// Rows of threads.
    Threads(Table<ThreadRow>),
    /// An icicle graph.
    Flame(Flame),
    /// Rows of a tree.
    Tree(Table<TreeRow>),
    /// Rows of places where threads sleep.
    Waits(Table<WaitRow>),
    /// A source file.
    Source(Source),
    /// Nothing, and why.
    Empty(String),
}

/// Rows, of which one may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Table<T> {
    /// What the columns are called that have a name of their own in this view;
    /// the one by which rows are ordered.
    pub sorted: &'static str,
    /// All rows, in order.
    pub rows: Vec<T>,
    /// Which is chosen.
    pub chosen: usize,
    /// Which is the first that is seen.
    pub top: usize,
}

/// A function, or a line or module, and its share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionRow {
    /// The share of samples in which it is the innermost, 0 to 1.
    pub own: f64,
    /// The share in which it is on the stack, 0 to 1.
    pub total: f64,
    /// Half the width of the 95 % interval of what the rows are ordered by, 0
    /// to 1.
    pub margin: f64,
    /// The own share's change against the baseline, -1 to 1, if there is one.
    pub change: Option<f64>,
    /// The total share over the time that is shown, the oldest first, each 0
    /// to 1.
    pub trend: Vec<f64>,
    /// The function, or the line or module.
    pub name: String,
    /// Where, such as `shop/parser.py:118` or `libz.so.1`.
    pub place: String,
    /// Whether it is machine code in a program that has a language runtime.
    pub native: bool,
    /// Whether it is seen in too few samples to tell much.
    pub faint: bool,
    /// Whether it is one that was searched for.
    pub found: bool,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadRow {
    /// Its name.
    pub name: String,
    /// Its number.
    pub tid: i32,
    /// Its process, where there are several.
    pub pid: Option<i32>,
    /// What it does now: `run`, `queue`, `lock`, `sleep`, `fault`, `stop`,
    /// `end`.
    pub state: &'static str,
    /// The share of one processor that it used, 0 to 1.
    pub cpu: f64,
    /// The share of the time that it waited for a processor, 0 to 1.
    pub queued: f64,
    /// The shares of the time in which it held the interpreter lock and waited
    /// for it, 0 to 1.
    pub lock: Option<(f64, f64)>,
    /// What it waits for now, and since when.
    pub wait: Option<(String, Option<Duration>)>,
    /// The innermost frame that is shown of it.
    pub frame: String,
    /// Whether it is one that was searched for.
    pub found: bool,
}

/// An icicle graph: the root on top.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flame {
    /// The boxes, callers before callees; the first is the root, or what was
    /// zoomed to.
    pub boxes: Vec<FlameBox>,
    /// Which is chosen.
    pub chosen: usize,
    /// How many rows above are not seen.
    pub top: usize,
    /// The callers of the first box, outermost first, when it was zoomed to.
    pub above: Vec<String>,
    /// The way from the root to the first box, in steps of
    /// [`tabs`](super::tabs); empty when that is the root.
    pub path: Vec<usize>,
}

/// A function in an icicle graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlameBox {
    /// The function.
    pub name: String,
    /// The step of [`tabs`](super::tabs) that leads to it from its caller.
    pub step: usize,
    /// Its depth below the first box.
    pub depth: usize,
    /// Where it begins and ends, as shares of the first box, 0 to 1.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// Its share of all samples, 0 to 1.
    pub share: f64,
    /// Whether the samples were of threads that sleep.
    pub asleep: bool,
    /// Whether it is machine code in a program that has a language runtime.
    pub native: bool,
    /// Whether it is one that was searched for.
    pub found: bool,
}

/// A function in a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeRow {
    /// Its depth below the root.
    pub depth: usize,
    /// Whether it is open; `None` for one that has nothing below it.
    pub open: Option<bool>,
    /// Its share of all samples, 0 to 1.
    pub share: f64,
    /// The share in which it is the innermost, 0 to 1.
    pub own: f64,
    /// The function.
    pub name: String,
    /// Where.
    pub place: String,
    /// Whether it is one that was searched for.
    pub found: bool,
}

/// A place where threads sleep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitRow {
    /// The share of the wall time of all threads that are shown, 0 to 1.
    pub share: f64,
    /// How many threads sleep there now.
    pub threads: usize,
    /// The system call.
    pub call: String,
    /// For what: the object behind the descriptor, the owner of a lock; where
    /// that is not known, which threads.
    pub object: String,
    /// The innermost frames that are shown, innermost first.
    pub stack: Vec<String>,
    /// For how long the one has slept that has slept the longest.
    pub longest: Option<Duration>,
    /// Whether it is one that was searched for.
    pub found: bool,
}

/// A source file, and where in it the time goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The function and its file.
    pub title: String,
    /// The lines that are known: number, own share, total share, text.
    pub lines: Vec<SourceLine>,
    /// Which is chosen, as an index into `lines`.
    pub chosen: usize,
    /// Which is the first that is seen.
    pub top: usize,
}

/// A line of source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceLine {
    /// Its number, from 1.
    pub number: u32,
    /// The share of samples whose innermost frame is on it, 0 to 1.
    pub own: f64,
    /// The share of samples with a frame on it, 0 to 1.
    pub total: f64,
    /// Its text.
    pub text: String,
}

/// The way to what is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HotPath {
    /// Functions, the innermost first.
    pub frames: Vec<String>,
    /// The share of the samples of the innermost that came this way, 0 to 1.
    pub share: f64,
}

/// What stands before everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// All keys, in groups: a title, and keys with what they do.
    Help(Vec<(&'static str, Vec<(&'static str, &'static str)>)>),
    /// A line to type in: what for, what was typed, what is wrong with it.
    Prompt {
        /// What for, such as `filter` or `save as`.
        label: &'static str,
        /// What was typed so far.
        text: String,
        /// What is wrong with it, or what may be typed.
        hint: String,
    },
    /// One of these is to be chosen.
    Picker {
        /// What for.
        label: &'static str,
        /// What may be chosen.
        choices: Vec<String>,
        /// Which is.
        chosen: usize,
    },
    /// Something was done, or was not.
    Message(String),
}
