//! The tree of callees, or of callers.

use std::{cmp::Reverse, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    by_name, function_of,
    graph::{Graph, Joined, Node},
    hash, key, name, place,
};
use crate::tui::{population::Population, screen::TreeRow};

/// The most rows that are made.
const MOST_ROWS: usize = 20_000;
/// The most steps that all their paths have together: 32 MiB.
const MOST_STEPS: usize = 1 << 22;

/// What somebody has opened and closed. It holds in other populations, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeOpen {
    /// By the way to a row.
    said: FxHashMap<u64, bool>,
}

impl TreeOpen {
    /// Open or close the row to which `path` leads in the tree of callees, or,
    /// `inverted`, of callers.
    pub fn set(&mut self, population: &Population, inverted: bool, path: &[usize], open: bool) {
        let way = |way, &step: &usize| longer(population, way, step);
        self.said.insert(path.iter().fold(beginning(inverted), way), open);
    }

    /// Forget all.
    pub fn clear(&mut self) {
        self.said.clear();
    }
}

/// A number for the way to the root.
fn beginning(inverted: bool) -> u64 {
    hash(&inverted)
}

/// A number for the way that goes on with `step`.
fn longer(population: &Population, way: u64, step: usize) -> u64 {
    hash(&(way, key(population, step)))
}

/// The rows that can be seen, in order, and the path of each: of callees from
/// the outermost functions on, or, `inverted`, of callers from the innermost.
///
/// Unless it was closed, the hot path is open: each row that has at least half
/// of the time of the one above, as long as one below has at least half of its.
pub fn tree(
    population: &Population,
    open: &TreeOpen,
    inverted: bool,
) -> (Vec<TreeRow>, Vec<Vec<usize>>) {
    let graph = Graph::new(population, if inverted { Joined::Callers } else { Joined::Callees });
    let mut writer = Writer { population, graph: &graph, open, inverted };
    writer.rows()
}

/// What a row is to be made of.
struct Next<'a> {
    node: &'a Node,
    depth: usize,
    /// A number for the way to it.
    way: u64,
}

struct Writer<'a> {
    population: &'a Population,
    graph: &'a Graph,
    open: &'a TreeOpen,
    inverted: bool,
}

impl<'a> Writer<'a> {
    fn rows(&mut self) -> (Vec<TreeRow>, Vec<Vec<usize>>) {
        let (mut rows, mut paths, mut steps) = (Vec::new(), Vec::new(), 0);
        let mut path: Vec<usize> = Vec::new();
        let mut left = Vec::new();
        if let Some(root) = self.graph.node(0) {
            self.below(root, 0, beginning(self.inverted), &mut left);
        }
        while let Some(next) = left.pop() {
            steps += next.depth + 1;
            if rows.len() >= MOST_ROWS || steps > MOST_STEPS {
                break;
            }
            path.truncate(next.depth);
            path.push(next.node.step);
            let row = self.row(&next);
            if row.open == Some(true) {
                self.below(next.node, next.depth + 1, next.way, &mut left);
            }
            rows.push(row);
            paths.push(path.clone());
        }
        (rows, paths)
    }

    /// Put what is below `node` on top of what is `left`, the heaviest topmost.
    fn below(&self, node: &Node, depth: usize, way: u64, left: &mut Vec<Next<'a>>) {
        let mut children: Vec<&'a Node> =
            node.children.iter().filter_map(|&child| self.graph.node(child)).collect();
        children.sort_by(|one, other| {
            let by_name = || by_name(self.population, one.step, other.step);
            Reverse(one.time).cmp(&Reverse(other.time)).then_with(by_name)
        });
        left.extend(children.into_iter().rev().map(|node| {
            let way = longer(self.population, way, node.step);
            Next { node, depth, way }
        }));
    }

    fn row(&self, next: &Next<'_>) -> TreeRow {
        let node = next.node;
        let is_open = (!node.children.is_empty())
            .then(|| self.open.said.get(&next.way).copied().unwrap_or_else(|| self.is_hot(node)));
        let own = match (self.inverted, next.depth) {
            (false, _) => node.own,
            // The first is innermost always, and no other is.
            (true, 0) => node.time,
            (true, _) => 0,
        };
        let share = |time| self.population.share(Duration::from_nanos(time));
        let functions = &self.population.functions;
        let function = function_of(node.step).and_then(|index| functions.get(index));
        TreeRow {
            depth: next.depth,
            open: is_open,
            share: share(node.time),
            own: share(own),
            name: name(self.population, node.step).into_owned(),
            place: function.map(|it| place(it, it.line)).unwrap_or_default(),
            found: false,
        }
    }

    /// Whether most of what is above it came this way, and most of it goes one
    /// way on.
    fn is_hot(&self, node: &Node) -> bool {
        let above = self.graph.node(node.parent).map_or(0, |it| it.time);
        let below = node.children.iter().filter_map(|&child| self.graph.node(child));
        let heaviest = below.map(|it| it.time).max().unwrap_or(0);
        node.time >= above.div_ceil(2) && heaviest >= node.time.div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::tabs::made;

    /// Rows as `depth name share own`, in percent, `+` marking what is closed
    /// and `-` what is open.
    #[track_caller]
    fn check(population: &Population, open: &TreeOpen, inverted: bool, expected: &[&str]) {
        let (rows, paths) = tree(population, open, inverted);
        let text = |row: &TreeRow| {
            let sign = row.open.map_or("", |open| if open { "-" } else { "+" });
            let (share, own) = (row.share * 100.0, row.own * 100.0);
            format!("{} {sign}{} {share:.0} {own:.0}", row.depth, row.name)
        };
        assert_eq!(rows.iter().map(text).collect::<Vec<_>>(), expected);
        for (row, path) in rows.iter().zip(&paths) {
            assert_eq!(path.len(), row.depth + 1);
        }
        assert_eq!(rows.len(), paths.len());
    }

    fn example() -> Population {
        made::running(&[
            ("main serve parse", 30),
            ("main serve", 20),
            ("main idle parse", 10),
            ("start boot", 40),
        ])
    }

    #[test]
    fn the_hot_path_is_open() {
        let population = example();
        let expected =
            ["0 -main 60 0", "1 -serve 50 20", "2 parse 30 30", "1 +idle 10 0", "0 +start 40 0"];
        check(&population, &TreeOpen::default(), false, &expected);
        let expected = ["0 +boot 40 40", "0 +parse 40 40", "0 +serve 20 20"];
        check(&population, &TreeOpen::default(), true, &expected);
    }

    #[test]
    fn what_somebody_said_wins_in_other_populations_too() {
        let population = example();
        let mut open = TreeOpen::default();
        let (_, paths) = tree(&population, &open, false);
        open.set(&population, false, &paths[1], false);
        open.set(&population, false, &paths[3], true);
        open.set(&population, false, &paths[4], true);
        let expected = [
            "0 -main 60 0",
            "1 +serve 50 20",
            "1 -idle 10 0",
            "2 parse 10 10",
            "0 -start 40 0",
            "1 boot 40 40",
        ];
        check(&population, &open, false, &expected);
        // The same functions at other indices.
        let mut turned = example();
        turned.functions.reverse();
        let last = turned.functions.len() - 1;
        for (index, _) in turned.stacks.iter_mut().flat_map(|path| &mut path.frames) {
            *index = last - *index;
        }
        check(&turned, &open, false, &expected);
        // The other tree does not know of it.
        open.set(&population, true, &[], true);
        check(&population, &open, true, &["0 +boot 40 40", "0 +parse 40 40", "0 +serve 20 20"]);
        open.clear();
        assert_eq!(open, TreeOpen::default());
    }

    #[test]
    fn callers_stand_below_the_innermost() {
        let population = made::running(&[("main a f", 60), ("main b f", 20), ("main f g", 20)]);
        let expected = ["0 -f 80 80", "1 -a 60 0", "2 main 60 0", "1 +b 20 0", "0 +g 20 20"];
        check(&population, &TreeOpen::default(), true, &expected);
    }

    #[test]
    fn recursion_and_empty_stacks_are_shown_as_they_are() {
        check(&Population::default(), &TreeOpen::default(), false, &[]);
        let mut population = made::running(&[("f f f", 10)]);
        check(
            &population,
            &TreeOpen::default(),
            false,
            &["0 -f 100 0", "1 -f 100 0", "2 f 100 100"],
        );
        made::add(&mut population, 0, made::asleep(libc::SYS_poll), "", 30);
        let expected = ["0 [poll] 75 75", "0 +f 25 25"];
        check(&population, &TreeOpen::default(), true, &expected);
    }

    #[test]
    fn a_great_many_stacks_and_deep_ones_are_bounded() {
        let (rows, _) = tree(&made::many(10_000, 8), &TreeOpen::default(), true);
        assert_eq!(rows.len(), 10_000);
        let (rows, _) = tree(&made::many(30_000, 1), &TreeOpen::default(), true);
        assert_eq!(rows.len(), MOST_ROWS);
        let deep = "f ".repeat(2_000);
        let (rows, paths) = tree(&made::running(&[(&deep, 5)]), &TreeOpen::default(), false);
        assert_eq!((rows.len(), paths.last().map(Vec::len)), (2_000, Some(2_000)));
    }
}
