//! The icicle graph.

use std::cmp::Reverse;

use super::{
    by_name, function_of,
    graph::{Graph, Joined, Node},
    is_asleep, name,
};
use crate::tui::{
    population::Population,
    screen::{Flame, FlameBox},
};

/// The most boxes that are made. The widest terminals have some hundred columns
/// and lines: no more of them can be seen.
const MOST_BOXES: usize = 20_000;

/// The icicle graph of `population`, `zoom` being its first box, or the box
/// nearest to it that there is; likewise `chosen`. Both are steps from the
/// root.
///
/// Boxes stand in the order of their names, so that each keeps its place from
/// one refresh to the next. A box is followed by those of its callees.
pub fn flame(population: &Population, zoom: &[usize], chosen: &[usize]) -> Flame {
    let graph = Graph::new(population, Joined::Apart);
    let (mut first, mut path, mut above) = (0, Vec::new(), Vec::new());
    for &step in zoom {
        let Some(next) = graph.step(first, step) else { break };
        above.extend(graph.node(first).map(|it| name(population, it.step).into_owned()));
        path.push(step);
        first = next;
    }
    if graph.node(first).is_none_or(|it| it.time == 0) {
        return Flame::default();
    }
    let mut flame =
        Flame { boxes: boxes(population, &graph, first), chosen: 0, top: 0, above, path };
    flame.chosen = find(&flame, chosen);
    flame
}

/// The boxes from the node `first` on.
fn boxes(population: &Population, graph: &Graph, first: usize) -> Vec<FlameBox> {
    let kept = widest(graph, first);
    let all = graph.node(first).map_or(0, |it| it.time).max(1);
    let whole = super::graph::nanos(population.time).max(1);
    let mut boxes = Vec::new();
    // A node, its depth, and the time at which it begins.
    let mut left = vec![(first, 0_usize, 0_u64)];
    while let Some((at, depth, from)) = left.pop() {
        let Some(node) = graph.node(at) else { continue };
        let to = from.saturating_add(node.time);
        boxes.push(FlameBox {
            name: name(population, node.step).into_owned(),
            step: node.step,
            depth,
            from: ratio(from, all),
            to: ratio(to, all),
            share: ratio(node.time, whole),
            asleep: is_asleep(node.step),
            native: is_native(population, node.step),
            found: false,
        });
        let mut children: Vec<(usize, &Node)> =
            node.children.iter().filter_map(|&child| Some((child, graph.node(child)?))).collect();
        children.sort_by(|(_, one), (_, other)| by_name(population, one.step, other.step));
        let mut begin = from;
        let before = left.len();
        for (child, it) in children {
            if kept.get(child) == Some(&true) {
                left.push((child, depth + 1, begin));
            }
            begin = begin.saturating_add(it.time);
        }
        // What is pushed last is taken first.
        if let Some(pushed) = left.get_mut(before..) {
            pushed.reverse();
        }
    }
    boxes
}

/// Which nodes from `first` on are wide enough. A caller is never narrower than
/// its callee and comes before it, so no box is without its caller.
fn widest(graph: &Graph, first: usize) -> Vec<bool> {
    let mut kept = vec![false; graph.nodes.len()];
    let mut below = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let inside = at == first || at > first && kept.get(node.parent) == Some(&true);
        if let Some(slot) = kept.get_mut(at).filter(|_| inside) {
            *slot = true;
            below.push((Reverse(node.time), at));
        }
    }
    below.sort_unstable();
    for &(_, at) in below.iter().skip(MOST_BOXES) {
        if let Some(slot) = kept.get_mut(at) {
            *slot = false;
        }
    }
    kept
}

#[expect(clippy::cast_precision_loss, reason = "a share of a width in columns")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64).min(1.0)
}

fn is_native(population: &Population, step: usize) -> bool {
    function_of(step).and_then(|index| population.functions.get(index)).is_some_and(|it| it.native)
}

/// The box to which `path` leads, or that of the nearest caller that there is.
fn find(flame: &Flame, path: &[usize]) -> usize {
    let Some(mut left) = path.strip_prefix(&*flame.path) else { return 0 };
    let (mut found, mut depth) = (0, 0);
    for (at, it) in flame.boxes.iter().enumerate().skip(1) {
        if it.depth <= depth {
            // The callees of what was found are over.
            break;
        }
        let Some((&step, rest)) = left.split_first() else { break };
        if it.depth == depth + 1 && it.step == step {
            (found, depth, left) = (at, it.depth, rest);
        }
    }
    found
}

/// The steps that lead from the root to a box.
pub fn flame_path(flame: &Flame, at: usize) -> Vec<usize> {
    let mut steps = Vec::new();
    let mut at = at;
    while let Some(it) = flame.boxes.get(at).filter(|it| it.depth > 0) {
        steps.push(it.step);
        at = caller(flame, at);
    }
    steps.extend(flame.path.iter().rev());
    steps.reverse();
    steps
}

/// From one box to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To its caller.
    Caller,
    /// To the widest of its callees.
    Callee,
    /// To the one before it in the same row.
    Before,
    /// To the one after it in the same row.
    After,
}

/// The box to which one comes from `at`; `at` itself where there is none.
/// Boxes that are narrower than `narrowest`, as a share of the first, are passed
/// over: they cannot be seen.
pub fn walk(flame: &Flame, at: usize, way: Way, narrowest: f64) -> usize {
    let Some(from) = flame.boxes.get(at) else { return 0 };
    let is_seen = |it: &FlameBox| it.to - it.from >= narrowest;
    let numbered = || flame.boxes.iter().enumerate();
    match way {
        Way::Caller => caller(flame, at),
        Way::Callee => {
            let below = numbered().skip(at + 1).take_while(|(_, it)| it.depth > from.depth);
            let callees = below.filter(|(_, it)| it.depth == from.depth + 1 && is_seen(it));
            // The first of those that are equally wide.
            let wider = |(best, width): (usize, f64), (index, it): (usize, &FlameBox)| {
                let own = it.to - it.from;
                if own > width { (index, own) } else { (best, width) }
            };
            callees.fold((at, f64::MIN), wider).0
        }
        Way::Before => {
            let before = numbered().take(at).rev();
            let found = before.into_iter().find(|(_, it)| it.depth == from.depth && is_seen(it));
            found.map_or(at, |(index, _)| index)
        }
        Way::After => {
            let mut after = numbered().skip(at + 1);
            let found = after.find(|(_, it)| it.depth == from.depth && is_seen(it));
            found.map_or(at, |(index, _)| index)
        }
    }
}

/// The index of a box's caller, or its own where there is none.
fn caller(flame: &Flame, at: usize) -> usize {
    let depth = flame.boxes.get(at).map_or(0, |it| it.depth);
    let before = flame.boxes.iter().enumerate().take(at).rev();
    before.into_iter().find(|(_, it)| it.depth < depth).map_or(at, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::tabs::{keys, made, path};

    /// Boxes as `depth name from-to`, in percent, `~` marking threads that sleep.
    #[track_caller]
    fn check(flame: &Flame, expected: &[&str]) {
        let text = |it: &FlameBox| {
            let asleep = if it.asleep { "~" } else { "" };
            let (from, to) = (it.from * 100.0, it.to * 100.0);
            format!("{} {asleep}{} {from:.0}-{to:.0}", it.depth, it.name)
        };
        let boxes: Vec<_> = flame.boxes.iter().map(text).collect();
        assert_eq!(boxes, expected);
    }

    fn example() -> Population {
        let mut made =
            made::running(&[("main serve parse", 30), ("main idle", 10), ("main serve", 20)]);
        made::add(&mut made, 1, made::asleep(libc::SYS_epoll_wait), "main serve !poll", 40);
        made
    }

    #[test]
    fn boxes_stand_by_name_and_those_that_sleep_apart() {
        let population = example();
        let flame = flame(&population, &[], &[]);
        check(
            &flame,
            &[
                "0 all 0-100",
                "1 main 0-60",
                "2 idle 0-10",
                "2 serve 10-60",
                "3 parse 10-40",
                "1 ~main 60-100",
                "2 ~serve 60-100",
                "3 ~poll 60-100",
                "4 ~[epoll_wait] 60-100",
            ],
        );
        assert!(flame.boxes[7].native && !flame.boxes[6].native);
        // Each box is found by its own way, one that sleeps by another.
        for at in 0..flame.boxes.len() {
            let way = flame_path(&flame, at);
            assert_eq!(super::flame(&population, &[], &way).chosen, at);
            let again = path(&population, &keys(&population, &way));
            assert_eq!(again, way);
        }
    }

    #[test]
    fn a_box_is_zoomed_to_and_what_is_gone_leads_to_its_caller() {
        let population = example();
        let whole = flame(&population, &[], &[]);
        let serve = flame_path(&whole, 3);
        let parse = flame_path(&whole, 4);
        let zoomed = flame(&population, &serve, &parse);
        check(&zoomed, &["0 serve 0-100", "1 parse 0-60"]);
        assert_eq!(
            (zoomed.above.as_slice(), zoomed.chosen),
            (["all", "main"].map(String::from).as_slice(), 1)
        );
        assert!((zoomed.boxes[0].share - 0.5).abs() < 1e-9);
        assert_eq!(flame_path(&zoomed, 1), parse);
        let mut gone = serve;
        gone.extend([77, 78]);
        assert_eq!(flame(&population, &[], &gone).chosen, 3);
        check(&flame(&population, &gone, &gone), &["0 serve 0-100", "1 parse 0-60"]);
        // What is chosen is not in what is zoomed to.
        assert_eq!(flame(&population, &flame_path(&whole, 4), &flame_path(&whole, 2)).chosen, 0);
    }

    #[test]
    fn one_walks_from_box_to_box() {
        let flame = flame(&example(), &[], &[]);
        let check = |from, way, to| assert_eq!(walk(&flame, from, way, 0.0), to, "{way:?}");
        check(0, Way::Callee, 1);
        check(1, Way::Callee, 3);
        check(4, Way::Callee, 4);
        check(4, Way::Caller, 3);
        check(0, Way::Caller, 0);
        check(3, Way::Before, 2);
        check(2, Way::Before, 2);
        check(3, Way::After, 6);
        check(4, Way::After, 7);
        check(99, Way::After, 0);
        assert_eq!(walk(&flame, 3, Way::Before, 0.2), 3, "too narrow to be seen");
    }

    #[test]
    fn what_is_empty_or_has_no_frames_is_no_trouble() {
        assert_eq!(flame(&Population::default(), &[3], &[4]), Flame::default());
        let mut bare = Population::default();
        made::add(&mut bare, 0, crate::task::State::Running, "", 3);
        made::add(&mut bare, 0, crate::task::State::Faulting, "", 1);
        check(
            &flame(&bare, &[], &[]),
            &["0 all 0-100", "1 [no frames] 0-75", "1 ~[page fault] 75-100"],
        );
        // Indices that no function has.
        bare.stacks[0].frames = vec![(usize::MAX, None), (12, None)];
        assert_eq!(flame(&bare, &[], &[]).boxes.len(), 4);
    }

    #[test]
    fn a_great_many_stacks_and_deep_ones_are_bounded() {
        let wide = flame(&made::many(10_000, 8), &[], &[]);
        assert!(wide.boxes.len() <= MOST_BOXES && wide.boxes.len() > 5_000);
        for (at, it) in wide.boxes.iter().enumerate().skip(1) {
            let caller = &wide.boxes[caller(&wide, at)];
            assert_eq!(caller.depth + 1, it.depth);
            assert!(caller.from <= it.from && it.to <= caller.to);
        }
        let deep = flame(&made::many(300, 2_000), &[], &[]);
        assert!(deep.boxes.len() <= MOST_BOXES && deep.boxes.len() > 2_000);
        let recursion = "f ".repeat(2_000);
        assert_eq!(flame(&made::running(&[(&recursion, 5)]), &[], &[]).boxes.len(), 2_001);
    }
}
