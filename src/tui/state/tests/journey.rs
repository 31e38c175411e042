//! Keys in a row, and clicks.

use super::*;

#[track_caller]
fn tree(state: &mut State) -> Vec<String> {
    let Body::Tree(table) = state.screen().body else { panic!("no tree") };
    let rows = table.rows.iter().enumerate().map(|(at, row)| {
        let mark = if at == table.chosen { ">" } else { "" };
        format!("{mark}{}{}", ".".repeat(row.depth), row.name)
    });
    rows.collect()
}

#[track_caller]
fn chosen_box(state: &mut State) -> String {
    let Body::Flame(flame) = state.screen().body else { panic!("no graph") };
    flame.boxes[flame.chosen].name.clone()
}

/// Three functions, the hottest `a`, then `b`, then `c`.
fn three() -> (Maker, State) {
    let (mut maker, mut state) = (Maker::new(2), State::new(Setup::default()));
    maker.run(0, "main a", 50).run(0, "main b", 30).run(1, "main c", 20);
    maker.tell(&mut state);
    (maker, state)
}

#[test]
fn what_is_chosen_stays_chosen_when_rows_move() {
    let (mut maker, mut state) = three();
    check(&mut state, &[">a 50/50", "b 30/30", "c 20/20", "main 0/100"]);
    press(&mut state, "j");
    check(&mut state, &["a 50/50", ">b 30/30", "c 20/20", "main 0/100"]);
    maker.run(0, "main c", 60).tell(&mut state);
    check(&mut state, &["c 50/50", "a 31/31", ">b 19/19", "main 0/100"]);
    // The first is whatever is the first.
    press(&mut state, "g");
    maker.run(0, "main a", 90).tell(&mut state);
    check(&mut state, &[">a 56/56", "c 32/32", "b 12/12", "main 0/100"]);
    state.press(Key::Char('G'));
    assert_eq!(functions(&mut state).chosen, 3);
}

#[test]
fn what_is_chosen_is_seen() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    for number in 0..100 {
        maker.run(0, &format!("f{number}"), 200 - number);
    }
    maker.tell(&mut state);
    state.resize(80, 17);
    let seen = |state: &mut State| {
        let table = functions(state);
        (table.top, table.chosen)
    };
    assert_eq!(seen(&mut state), (0, 0));
    state.press(Key::PageDown);
    assert_eq!(seen(&mut state), (1, 10));
    state.press(Key::Char('G'));
    assert_eq!(seen(&mut state), (90, 99));
    state.press(Key::PageUp);
    assert_eq!(seen(&mut state), (89, 89));
    state.resize(80, 10);
    assert_eq!(seen(&mut state), (89, 89));
    press(&mut state, "jj");
    assert_eq!(seen(&mut state), (89, 91));
    press(&mut state, "j");
    assert_eq!(seen(&mut state), (90, 92));
    // A larger terminal shows more of the same.
    state.resize(80, 30);
    assert_eq!(seen(&mut state), (77, 92));
    state.press(Key::Home);
    assert_eq!(seen(&mut state), (0, 0));
}

#[test]
fn a_filter_shows_what_matches_with_shares_of_all() {
    let (mut maker, mut state) = three();
    press(&mut state, "/");
    let screen = state.screen();
    assert!(matches!(screen.overlay, Some(Overlay::Prompt { label: "filter", .. })));
    press(&mut state, "^(b|c");
    // It is said what is wrong, and not done.
    let Some(Overlay::Prompt { hint, text, .. }) = state.screen().overlay else { panic!() };
    assert_eq!((text.as_str(), hint.as_str()), ("^(b|c", "unclosed group"));
    state.press(Key::Enter);
    assert!(state.screen().overlay.is_some());
    press(&mut state, ")$");
    state.press(Key::Enter);
    check(&mut state, &[">b 30/30", "c 20/20"]);
    assert!(functions(&mut state).rows.iter().all(|row| row.found));
    assert_eq!(state.screen().filter.as_deref(), Some("^(b|c)$"));
    press(&mut state, "n");
    check(&mut state, &["b 30/30", ">c 20/20"]);
    press(&mut state, "n");
    check(&mut state, &[">b 30/30", "c 20/20"]);
    press(&mut state, "N");
    check(&mut state, &["b 30/30", ">c 20/20"]);
    maker.tell(&mut state);
    check(&mut state, &["b 30/30", ">c 20/20"]);
    press(&mut state, "c");
    check(&mut state, &["a 50/50", "b 30/30", ">c 20/20", "main 0/100"]);
    press(&mut state, "/zebra");
    state.press(Key::Enter);
    assert!(matches!(state.screen().body, Body::Empty(why) if why.contains("zebra")));
    state.press(Key::Esc);
    assert_eq!(state.screen().filter, None);
}

#[test]
fn rows_are_ordered_as_is_asked() {
    let (_, mut state) = three();
    press(&mut state, "r");
    assert_eq!(state.screen().tabs.order, "self▲");
    check(&mut state, &[">main 0/100", "c 20/20", "b 30/30", "a 50/50"]);
    press(&mut state, "rs");
    check(&mut state, &[">main 0/100", "a 50/50", "b 30/30", "c 20/20"]);
    press(&mut state, "s");
    assert_eq!(state.screen().tabs.order, "function▲");
    check(&mut state, &[">a 50/50", "b 30/30", "c 20/20", "main 0/100"]);
    state.click(Target::Column("total"));
    assert_eq!(state.screen().tabs.order, "total▼");
    state.click(Target::Column("total"));
    assert_eq!(state.screen().tabs.order, "total▲");
    press(&mut state, "2");
    assert_eq!(state.screen().tabs.order, "cpu▼");
    state.click(Target::Column("tid"));
    assert_eq!(state.screen().tabs.order, "tid▲");
    press(&mut state, "r");
    assert_eq!(threads(&mut state).rows[0].tid, 101);
}

#[test]
fn a_baseline_is_what_changes_are_told_against() {
    let (mut maker, mut state) = three();
    assert!(functions(&mut state).rows.iter().all(|row| row.change.is_none()));
    press(&mut state, "b");
    assert!(functions(&mut state).rows.iter().all(|row| row.change == Some(0.0)));
    press(&mut state, "z");
    maker.run(0, "main a", 80).run(0, "main d", 20).tell(&mut state);
    let told = |state: &mut State| -> Vec<String> {
        let rows = functions(state).rows;
        rows.iter().map(|row| format!("{} {:+.0}", row.name, row.change.unwrap() * 100.0)).collect()
    };
    // What is gone is told, too.
    assert_eq!(told(&mut state), ["a +30", "d +20", "main +0", "b -30", "c -20"]);
    press(&mut state, "s");
    assert_eq!(state.screen().tabs.order, "change▼");
    assert_eq!(told(&mut state), ["a +30", "b -30", "d +20", "c -20", "main +0"]);
    press(&mut state, "l");
    assert_eq!(told(&mut state)[0], "a +30", "lines are compared likewise");
    press(&mut state, "lllB");
    assert!(functions(&mut state).rows.iter().all(|row| row.change.is_none()));
    assert_eq!(state.screen().tabs.order, "self▼");
}

#[test]
fn a_reset_forgets_what_was_before() {
    let (mut maker, mut state) = three();
    press(&mut state, "z");
    assert!(matches!(state.screen().body, Body::Empty(_)));
    maker.run(0, "main d", 10).tell(&mut state);
    check(&mut state, &[">d 100/100", "main 0/100"]);
    press(&mut state, "[[[[");
    check(&mut state, &[">d 100/100", "main 0/100"]);
}

#[test]
fn one_thread_is_looked_at_and_left_again() {
    let (_, mut state) = three();
    press(&mut state, "2j");
    state.press(Key::Enter);
    check(&mut state, &[">c 100/100", "main 0/100"]);
    assert_eq!(state.screen().tabs.population, "thread t1, on-CPU, last 1 s");
    state.press(Key::Esc);
    assert_eq!(threads(&mut state).chosen, 1);
    press(&mut state, "1t");
    let Some(Overlay::Picker { choices, chosen, .. }) = state.screen().overlay else { panic!() };
    assert_eq!((choices.len(), chosen), (3, 0));
    assert!(choices[1].starts_with("t0 (100)  80 %"), "{}", choices[1]);
    press(&mut state, "j");
    state.press(Key::Enter);
    check(&mut state, &[">a 62/62", "b 37/37", "main 0/100"]);
    press(&mut state, "t");
    state.click(Target::Choice(0));
    check(&mut state, &[">a 50/50", "b 30/30", "c 20/20", "main 0/100"]);
}

#[test]
fn one_process_is_looked_at() {
    let (mut maker, mut state) = three();
    let command = "worker".to_owned();
    let process = Process { pid: Pid(8), command, kernel_cpu: Duration::ZERO };
    let other = maker.profile.add_process(process);
    let thread = maker.thread(other);
    maker.run(thread.0, "other", 100).tell(&mut state);
    press(&mut state, "p");
    let Some(Overlay::Picker { choices, .. }) = state.screen().overlay else { panic!() };
    assert_eq!(choices, ["all processes", "7 shop serve", "8 worker"]);
    state.press(Key::Down);
    state.press(Key::Down);
    state.press(Key::Enter);
    check(&mut state, &[">other 100/100"]);
    assert_eq!(state.screen().tabs.population, "process 8, on-CPU, last 2 s");
    press(&mut state, "2");
    let rows = threads(&mut state).rows;
    assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [Some(8)]);
    state.press(Key::Esc);
    assert_eq!(threads(&mut state).rows.len(), 3);
}

#[test]
fn enter_on_a_function_shows_its_callers() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    maker.run(0, "main serve parse", 60).run(0, "main boot parse", 40).tell(&mut state);
    state.press(Key::Enter);
    assert_eq!(tree(&mut state)[..2], [">parse", ".serve"]);
    assert_eq!(state.screen().path.unwrap().frames[0], "parse");
    state.press(Key::Esc);
    check(&mut state, &[">parse 100/100", "main 0/100", "serve 0/60", "boot 0/40"]);
    // One that is never the innermost has no row there: the way to it is shown.
    press(&mut state, "jj");
    state.press(Key::Enter);
    assert_eq!(tree(&mut state)[..3], ["main", ">.serve", "..parse"]);
    press(&mut state, "h");
    assert_eq!(tree(&mut state), ["main", ">.serve", ".boot"]);
    press(&mut state, "h");
    assert_eq!(tree(&mut state)[0], ">main");
    press(&mut state, "hl");
    assert_eq!(tree(&mut state)[..2], [">main", ".serve"]);
    press(&mut state, "v");
    assert_eq!(tree(&mut state)[0], ">parse");
}

#[test]
fn the_icicle_graph_is_walked_and_zoomed() {
    let (mut maker, mut state) = three();
    press(&mut state, "3");
    assert_eq!(chosen_box(&mut state), "all");
    press(&mut state, "jj");
    assert_eq!(chosen_box(&mut state), "a");
    press(&mut state, "l");
    assert_eq!(chosen_box(&mut state), "b");
    maker.run(0, "main b", 90).tell(&mut state);
    assert_eq!(chosen_box(&mut state), "b");
    assert_eq!(state.screen().path.unwrap().frames, ["b", "main"]);
    press(&mut state, "k");
    state.press(Key::Enter);
    let Body::Flame(flame) = state.screen().body else { panic!() };
    assert_eq!((flame.boxes[0].name.as_str(), &*flame.above), ("main", &["all".to_owned()][..]));
    state.press(Key::Esc);
    let Body::Flame(flame) = state.screen().body else { panic!() };
    assert_eq!(flame.boxes[0].name, "all");
    press(&mut state, "/^c$");
    state.press(Key::Enter);
    press(&mut state, "n");
    assert_eq!(chosen_box(&mut state), "c");
    state.click(Target::FlameBox(0));
    assert_eq!(chosen_box(&mut state), "all");
}

#[test]
fn waits_are_of_the_wall_whatever_else_is_shown() {
    let (mut maker, mut state) = (Maker::new(2), State::new(Setup::default()));
    maker.run(0, "main", 100).sleep(1, "work poll", 100);
    maker.now[1].state = asleep();
    maker.tell(&mut state);
    press(&mut state, "5");
    let screen = state.screen();
    assert_eq!(screen.tabs.population, "wall, last 1 s");
    let Body::Waits(table) = screen.body else { panic!() };
    assert_eq!(table.rows.len(), 1);
    assert_eq!(table.rows[0].call, "epoll_wait");
    assert!((table.rows[0].share - 0.5).abs() < 1e-9);
    press(&mut state, "/nothing");
    state.press(Key::Enter);
    assert!(matches!(state.screen().body, Body::Empty(_)));
}

#[test]
fn the_source_of_the_chosen_function_is_asked_for_once() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    maker.run(0, "main:3 parse:2", 60).run(0, "main:3", 40).tell(&mut state);
    press(&mut state, "j");
    let request = state.press(Key::Char('6'));
    let (file, process) = ("/srv/main.py".to_owned(), ProcessId(0));
    assert_eq!(request, Some(Request::Source { file: file.clone(), process }));
    assert_eq!(state.press(Key::Char('j')), None);
    // Another process may have another file of that name.
    let unread = state.screen();
    state.source(&file, ProcessId(1), Some("def other():\n".to_owned()));
    assert_eq!(state.screen(), unread);
    state.source(
        &file,
        process,
        Some("def main():\n    import parse\n    parse.parse()\n".to_owned()),
    );
    let Body::Source(source) = state.screen().body else { panic!() };
    assert_eq!(source.lines.len(), 3);
    let line = &source.lines[2];
    assert_eq!((line.number, line.text.trim()), (3, "parse.parse()"));
    assert!((line.total - 1.0).abs() < 1e-9 && (line.own - 0.4).abs() < 1e-9);
    maker.run(0, "main:3", 10).tell(&mut state);
    assert_eq!(state.wanted(), None);
    press(&mut state, "1k");
    assert!(state.press(Key::Char('6')).is_some());
}

#[test]
fn what_is_shown_is_saved_with_its_times() {
    let setup = Setup { window: SECOND * 5, ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(2), State::new(setup));
    for _ in 0..3 {
        maker.run(0, "old", 100).tell(&mut state);
    }
    for _ in 0..5 {
        maker.run(0, "main new", 100).run(1, "work", 50).tell(&mut state);
    }
    press(&mut state, "w");
    let Some(Overlay::Prompt { text, .. }) = state.screen().overlay else { panic!() };
    assert_eq!(text, "spy-7.svg");
    for _ in 0..3 {
        state.press(Key::Backspace);
    }
    press(&mut state, "png");
    assert_eq!(state.press(Key::Enter), None, "no format of ours");
    for _ in 0..3 {
        state.press(Key::Backspace);
    }
    press(&mut state, "speedscope.json");
    let path = "spy-7.speedscope.json".to_owned();
    let format = Format::Speedscope;
    assert_eq!(state.press(Key::Enter), Some(Request::Save { path, format }));
    state.tell("written".to_owned());
    assert_eq!(state.screen().overlay, Some(Overlay::Message("written".to_owned())));
    state.press(Key::Enter);
    assert_eq!(state.screen().overlay, None);
    let (profile, names, costs) = state.shown();
    assert_eq!(names.len(), profile.frames().len());
    assert_eq!((costs.duration, costs.ticks), (5 * SECOND, 500));
    let ticks: u64 = profile.samples().map(|(_, weight)| weight.ticks).sum();
    assert_eq!(ticks, 750);
    let timeline = profile.timeline().unwrap();
    let records: Vec<_> = timeline.of(ThreadId(0)).map(|it| (it.since, it.wall)).collect();
    assert_eq!(records, [(0, 5_000_000)]);
    press(&mut state, "2j");
    state.press(Key::Enter);
    let (profile, ..) = state.shown();
    assert!(profile.samples().all(|(key, _)| key.thread == ThreadId(1)));
}

#[test]
fn the_end_is_told_and_what_was_seen_stays() {
    let (_, mut state) = three();
    let (how, clock) = ("was killed by SIGSEGV".to_owned(), "12:04:11".to_owned());
    state.end(Ending { how, clock });
    let screen = state.screen();
    let moment = Moment::Ended("was killed by SIGSEGV at 12:04:11".to_owned());
    assert_eq!(screen.title.moment, moment);
    assert!(matches!(screen.overlay, Some(Overlay::Message(text)) if text.contains("w saves")));
    assert_eq!(state.press(Key::Char('w')), None);
    assert!(matches!(state.screen().overlay, Some(Overlay::Prompt { .. })));
    state.press(Key::Esc);
    press(&mut state, "z");
    state.press(Key::Enter);
    check(&mut state, &[">a 50/50", "b 30/30", "c 20/20", "main 0/100"]);
    assert_eq!(state.screen().keys[0], ("w", "save"));
    assert_eq!(state.press(Key::Char('q')), Some(Request::Quit));
}

#[test]
fn help_has_every_key_and_goes_away() {
    let (_, mut state) = three();
    press(&mut state, "?");
    assert!(matches!(state.screen().overlay, Some(Overlay::Help(groups)) if groups.len() == 5));
    state.press(Key::Esc);
    assert_eq!(state.screen().overlay, None);
    press(&mut state, "?");
    assert_eq!(state.press(Key::CtrlC), Some(Request::Quit));
    // A click on what the last line names is as the key.
    for (label, words) in state.screen().keys {
        let mut state = three().1;
        let request = state.click(Target::Key(label));
        assert_eq!(request.is_some(), words == "quit", "{label}");
        assert!(state.is_changed(), "{label}");
    }
}

#[test]
fn tabs_are_gone_through_in_a_circle() {
    let (_, mut state) = three();
    let mut seen = Vec::new();
    for _ in Tab::ALL {
        seen.push(state.screen().tabs.chosen);
        state.press(Key::Tab);
    }
    assert_eq!(seen, Tab::ALL);
    state.press(Key::BackTab);
    assert_eq!(state.screen().tabs.chosen, Tab::Source);
    state.click(Target::Tab(Tab::Waits));
    assert_eq!(state.screen().tabs.chosen, Tab::Waits);
}

/// Whatever is pressed, in whatever order: what is chosen is there, and shares
/// are shares.
#[test]
fn any_keys_in_any_order_leave_it_whole() {
    let keys = [
        "123456jkhlgGnNcsrti p[]{}bBz?LRv/w".chars().map(Key::Char).collect::<Vec<_>>(),
        vec![Key::Enter, Key::Esc, Key::Up, Key::Down, Key::Left, Key::Right],
        vec![
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
            Key::Tab,
            Key::BackTab,
            Key::Backspace,
        ],
    ]
    .concat();
    let (mut maker, mut state) = three();
    let mut seed = 1_u64;
    let mut random = |most: usize| {
        // Of Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % most
    };
    for _ in 0..1_500 {
        let pressed = keys[random(keys.len())];
        state.press(pressed);
        if random(7) == 0 {
            let stacks = ["main a", "main b c", "!x main:5 !y", "", "main a a a", "!z"];
            maker.run(0, stacks[random(6)], 3).sleep(1, stacks[random(6)], 5).tell(&mut state);
        }
        if random(20) == 0 {
            state.resize(random(200), random(60));
        }
        if random(20) == 0 {
            state.click(Target::Row(random(9)));
        }
        let screen = state.screen();
        let is_share = |it: f64| (0.0..=1.0).contains(&it);
        let (len, chosen, top) = match screen.body {
            Body::Functions(table) => {
                assert!(table.rows.iter().all(|row| is_share(row.own) && is_share(row.total)));
                assert!(table.rows.iter().map(|row| row.own).sum::<f64>() < 1.000_001);
                (table.rows.len(), table.chosen, table.top)
            }
            Body::Threads(table) => (table.rows.len(), table.chosen, table.top),
            Body::Tree(table) => (table.rows.len(), table.chosen, table.top),
            Body::Waits(table) => (table.rows.len(), table.chosen, table.top),
            Body::Flame(flame) => (flame.boxes.len(), flame.chosen, flame.top),
            Body::Source(source) => (source.lines.len(), source.chosen, source.top),
            Body::Empty(_) => continue,
        };
        assert!(chosen < len.max(1) && top < len.max(1), "{pressed:?}");
    }
}
