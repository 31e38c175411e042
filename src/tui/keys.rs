//! The keys: one table, from which they are obeyed, shown in the last line and
//! explained in the help.

use super::screen::Tab;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// One that writes a letter.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// The arrow.
    Up,
    /// The arrow.
    Down,
    /// The arrow.
    Left,
    /// The arrow.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Tab.
    Tab,
    /// Tab with Shift.
    BackTab,
    /// Backspace.
    Backspace,
    /// Ctrl with C.
    CtrlC,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Help,
    Tab(Tab),
    NextTab,
    PreviousTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    Leave,
    Filter,
    Clear,
    Next,
    Previous,
    Sort,
    SortBack,
    Reverse,
    PickThread,
    PickProcess,
    Idle,
    Pause,
    Back,
    Forth,
    Live,
    Shorter,
    Longer,
    Baseline,
    NoBaseline,
    Save,
    Reset,
    Lines,
    Group,
    Invert,
}

/// Keys that belong together.
#[derive(Debug)]
pub(super) struct Binding {
    /// The tabs in which they mean this; none for all.
    pub(super) tabs: &'static [Tab],
    /// The keys, and what each does.
    pub(super) keys: &'static [(Key, Action)],
    /// How the keys are written.
    pub(super) label: &'static str,
    /// What they do, in the last line; empty where they are not shown there.
    pub(super) line: &'static str,
    /// What they do, in the help.
    pub(super) help: &'static str,
    /// The group of the help to which they belong.
    pub(super) group: &'static str,
}

const TABLES: &[Tab] = &[Tab::Functions, Tab::Threads];
const ASIDE: &[Tab] = &[Tab::Flame, Tab::Tree];

const MOVE: &str = "Move";
const LOOK: &str = "What is shown";
const TIME: &str = "Time";
const FIND: &str = "Find";
const MORE: &str = "More";

/// Every key, those first that are the most useful in their tab.
pub(super) const KEYS: &[Binding] = &[
    Binding {
        tabs: &[Tab::Functions],
        keys: &[(Key::Enter, Action::Enter)],
        label: "Enter",
        line: "callers",
        help: "Functions: callers",
        group: MOVE,
    },
    Binding {
        tabs: &[Tab::Threads],
        keys: &[(Key::Enter, Action::Enter)],
        label: "Enter",
        line: "only it",
        help: "Threads: only it",
        group: MOVE,
    },
    Binding {
        tabs: &[Tab::Flame],
        keys: &[(Key::Enter, Action::Enter)],
        label: "Enter",
        line: "zoom",
        help: "Flame: zoom in",
        group: MOVE,
    },
    Binding {
        tabs: &[Tab::Tree],
        keys: &[(Key::Enter, Action::Enter)],
        label: "Enter",
        line: "open",
        help: "Tree: open or close",
        group: MOVE,
    },
    Binding {
        tabs: &[Tab::Tree],
        keys: &[(Key::Char('v'), Action::Invert)],
        label: "v",
        line: "invert",
        help: "Tree: callers or callees",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('/'), Action::Filter)],
        label: "/",
        line: "filter",
        help: "filter by a regular expression",
        group: FIND,
    },
    Binding {
        tabs: &[Tab::Functions, Tab::Threads],
        keys: &[(Key::Char('s'), Action::Sort)],
        label: "s",
        line: "sort",
        help: "sort by the next column",
        group: LOOK,
    },
    Binding {
        tabs: &[Tab::Functions],
        keys: &[(Key::Char('l'), Action::Group)],
        label: "l",
        line: "lines",
        help: "lines, modules, native",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('t'), Action::PickThread)],
        label: "t",
        line: "thread",
        help: "choose a thread",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('i'), Action::Idle)],
        label: "i",
        line: "idle",
        help: "idle threads too",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char(' '), Action::Pause)],
        label: "Space",
        line: "pause",
        help: "pause; recording goes on",
        group: TIME,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('['), Action::Back), (Key::Char(']'), Action::Forth)],
        label: "[ ]",
        line: "time",
        help: "back and forth in time",
        group: TIME,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('b'), Action::Baseline)],
        label: "b",
        line: "base",
        help: "compare from now on",
        group: TIME,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('w'), Action::Save)],
        label: "w",
        line: "save",
        help: "save what is shown",
        group: MORE,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('?'), Action::Help)],
        label: "?",
        line: "help",
        help: "this help",
        group: MORE,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('q'), Action::Quit), (Key::CtrlC, Action::Quit)],
        label: "q Ctrl-C",
        line: "quit",
        help: "leave",
        group: MORE,
    },
    Binding {
        tabs: &[],
        keys: &[
            (Key::Char('1'), Action::Tab(Tab::Functions)),
            (Key::Char('2'), Action::Tab(Tab::Threads)),
            (Key::Char('3'), Action::Tab(Tab::Flame)),
            (Key::Char('4'), Action::Tab(Tab::Tree)),
            (Key::Char('5'), Action::Tab(Tab::Waits)),
            (Key::Char('6'), Action::Tab(Tab::Source)),
        ],
        label: "1 2 3 4 5 6",
        line: "",
        help: "choose a tab",
        group: MOVE,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Tab, Action::NextTab), (Key::BackTab, Action::PreviousTab)],
        label: "Tab Shift-Tab",
        line: "",
        help: "next tab, previous",
        group: MOVE,
    },
    Binding {
        tabs: &[],
        keys: &[
            (Key::Up, Action::Up),
            (Key::Char('k'), Action::Up),
            (Key::Down, Action::Down),
            (Key::Char('j'), Action::Down),
        ],
        label: "Up k Down j",
        line: "",
        help: "choose a row",
        group: MOVE,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::PageUp, Action::PageUp), (Key::PageDown, Action::PageDown)],
        label: "PageUp PageDown",
        line: "",
        help: "a page up, down",
        group: MOVE,
    },
    Binding {
        tabs: &[],
        keys: &[
            (Key::Char('g'), Action::First),
            (Key::Home, Action::First),
            (Key::Char('G'), Action::Last),
        ],
        label: "g Home G",
        line: "",
        help: "first row, last",
        group: MOVE,
    },
    Binding {
        tabs: ASIDE,
        keys: &[
            (Key::Left, Action::Left),
            (Key::Char('h'), Action::Left),
            (Key::Right, Action::Right),
            (Key::Char('l'), Action::Right),
        ],
        label: "Left h Right l",
        line: "",
        help: "aside; close, open",
        group: MOVE,
    },
    Binding {
        tabs: TABLES,
        keys: &[(Key::Left, Action::SortBack), (Key::Right, Action::Sort)],
        label: "Left Right",
        line: "",
        help: "sort by another column",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Esc, Action::Leave), (Key::Backspace, Action::Leave)],
        label: "Esc Backspace",
        line: "",
        help: "back out",
        group: MOVE,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('n'), Action::Next), (Key::Char('N'), Action::Previous)],
        label: "n N",
        line: "",
        help: "next found, previous",
        group: FIND,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('c'), Action::Clear)],
        label: "c",
        line: "",
        help: "clear the filter",
        group: FIND,
    },
    Binding {
        tabs: TABLES,
        keys: &[(Key::Char('r'), Action::Reverse)],
        label: "r",
        line: "",
        help: "the other way round",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('p'), Action::PickProcess)],
        label: "p",
        line: "",
        help: "choose a process",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('L'), Action::Lines)],
        label: "L",
        line: "",
        help: "lines, or functions",
        group: LOOK,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::End, Action::Live)],
        label: "End",
        line: "",
        help: "live again",
        group: TIME,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('{'), Action::Shorter), (Key::Char('}'), Action::Longer)],
        label: "{ }",
        line: "",
        help: "a shorter time, a longer one",
        group: TIME,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('B'), Action::NoBaseline)],
        label: "B",
        line: "",
        help: "compare no more",
        group: TIME,
    },
    Binding {
        tabs: &[],
        keys: &[(Key::Char('z'), Action::Reset), (Key::Char('R'), Action::Reset)],
        label: "z R",
        line: "",
        help: "forget what was seen",
        group: TIME,
    },
];

/// What `key` does in `tab`.
pub(super) fn action(tab: Tab, key: Key) -> Option<Action> {
    let keys = KEYS.iter().filter(|it| it.is_in(tab)).flat_map(|it| it.keys);
    keys.into_iter().find(|(it, _)| *it == key).map(|&(_, action)| action)
}

/// The keys of the last line in `tab`: the tab's own before those of all, and
/// before them those that do something of `first`.
pub(super) fn line(tab: Tab, first: &[Action]) -> Vec<(&'static str, &'static str)> {
    let of = |action: &Action| {
        KEYS.iter().find(|it| it.is_in(tab) && it.keys.iter().any(|(_, does)| does == action))
    };
    let mut shown: Vec<&Binding> = first.iter().filter_map(of).collect();
    for binding in KEYS.iter().filter(|it| it.is_in(tab) && !it.line.is_empty()) {
        if !shown.iter().any(|it| std::ptr::eq(*it, binding)) {
            shown.push(binding);
        }
    }
    let words = |it: &Binding| if it.line.is_empty() { it.help } else { it.line };
    shown.into_iter().map(|it| (first_label(it), words(it))).collect()
}

/// One key is enough in the last line.
fn first_label(binding: &Binding) -> &'static str {
    match binding.keys {
        [(_, one), (_, other), ..] if one == other => {
            binding.label.split(' ').next().unwrap_or(binding.label)
        }
        _ => binding.label,
    }
}

/// The first of the keys that are written so, in the last line of `tab` or of
/// what stands in front of it.
pub(super) fn labelled(tab: Tab, label: &str) -> Option<Key> {
    let plain = [("Enter", Key::Enter), ("Esc", Key::Esc), ("End", Key::End)];
    if let Some(&(_, key)) = plain.iter().find(|(name, _)| *name == label) {
        return Some(key);
    }
    let bindings = KEYS.iter().filter(|it| it.is_in(tab));
    let mut written = bindings.filter(|it| it.label == label || first_label(it) == label);
    written.next()?.keys.first().map(|&(key, _)| key)
}

/// All keys in their groups.
pub(super) fn help() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let group = |title: &'static str| {
        let rows = KEYS.iter().filter(|it| it.group == title).map(|it| (it.label, it.help));
        (title, rows.collect())
    };
    [MOVE, LOOK, TIME, FIND, MORE].into_iter().map(group).collect()
}

impl Binding {
    fn is_in(&self, tab: Tab) -> bool {
        self.tabs.is_empty() || self.tabs.contains(&tab)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_meanings_in_one_tab() {
        for tab in Tab::ALL {
            let mut seen = Vec::new();
            for (key, action) in KEYS.iter().filter(|it| it.is_in(tab)).flat_map(|it| it.keys) {
                assert!(!seen.contains(key), "{key:?} twice in {tab:?}");
                seen.push(*key);
                assert_eq!(super::action(tab, *key), Some(*action));
            }
        }
    }

    #[test]
    fn every_key_is_in_the_help() {
        let help = help();
        for binding in KEYS {
            let group = help.iter().find(|(title, _)| *title == binding.group);
            let row = group.and_then(|(_, rows)| {
                rows.iter().find(|row| **row == (binding.label, binding.help))
            });
            let words: Vec<_> = row.unwrap().0.split(' ').collect();
            for (key, _) in binding.keys {
                let written = match key {
                    Key::Char(' ') => "Space".to_owned(),
                    Key::Char(letter) => letter.to_string(),
                    Key::BackTab => "Shift-Tab".to_owned(),
                    Key::CtrlC => "Ctrl-C".to_owned(),
                    other => format!("{other:?}"),
                };
                assert!(words.contains(&written.as_str()), "{written} in {words:?}");
            }
        }
    }

    #[test]
    fn the_last_line_begins_with_what_is_of_use_now() {
        let keys = line(Tab::Functions, &[]);
        assert_eq!(keys[..2], [("Enter", "callers"), ("/", "filter")]);
        assert!(keys.contains(&("[ ]", "time")));
        assert!(keys.contains(&("q", "quit")));
        let keys = line(Tab::Source, &[Action::Live]);
        assert_eq!(keys[0], ("End", "live again"));
        assert!(!keys.iter().any(|(key, _)| *key == "Enter"));
    }
}
