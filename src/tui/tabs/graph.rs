//! Stacks, joined where they begin alike.

use std::{cmp::Reverse, time::Duration};

use rustc_hash::FxHashMap;

use super::{ASLEEP, ROOT, wait_step};
use crate::tui::population::{Path, Population};

/// The most nodes of a graph: about a dozen times as many as are ever shown.
/// What would lie deeper is counted where it was cut; the heaviest stacks come
/// first, so that it is little.
const MOST_NODES: usize = 1 << 18;

/// How stacks are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// From the outermost frame on, those of threads that sleep apart, and what
    /// they wait for as their innermost.
    Apart,
    /// From the outermost frame on.
    Callees,
    /// From the innermost frame on.
    Callers,
}

/// Stacks, joined where they begin alike. The first node is the root; a parent
/// comes before its children.
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
}

/// A frame of all stacks that led to it in the same way.
pub(super) struct Node {
    /// The step that leads to it.
    pub(super) step: usize,
    /// Its index.
    pub(super) parent: usize,
    /// In nanoseconds, as all times here.
    pub(super) time: u64,
    /// The time of stacks that end here.
    pub(super) own: u64,
    /// Their indices, in no order that means anything.
    pub(super) children: Vec<usize>,
}

impl Graph {
    pub(super) fn new(population: &Population, joined: Joined) -> Self {
        let root = |step, parent| Node { step, parent, time: 0, own: 0, children: Vec::new() };
        let mut nodes = vec![root(ROOT, 0)];
        let mut known: FxHashMap<(usize, usize), usize> = FxHashMap::default();
        let mut stacks: Vec<&Path> =
            population.stacks.iter().filter(|path| !path.time.is_zero()).collect();
        stacks.sort_by_key(|path| Reverse(path.time));
        for path in stacks {
            let time = nanos(path.time);
            let (mut at, mut whole) = (0, true);
            count(&mut nodes, at, time);
            for step in Steps::of(path, joined) {
                let is_full = nodes.len() >= MOST_NODES;
                let next = match known.get(&(at, step)) {
                    Some(&next) => next,
                    None if is_full => {
                        whole = false;
                        break;
                    }
                    None => {
                        let next = nodes.len();
                        nodes.push(root(step, at));
                        if let Some(parent) = nodes.get_mut(at) {
                            parent.children.push(next);
                        }
                        known.insert((at, step), next);
                        next
                    }
                };
                at = next;
                count(&mut nodes, at, time);
            }
            if let Some(last) = nodes.get_mut(at).filter(|_| whole) {
                last.own = last.own.saturating_add(time);
            }
        }
        Self { nodes }
    }

    pub(super) fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at)
    }

    /// The node to which `step` leads from `at`.
    pub(super) fn step(&self, at: usize, step: usize) -> Option<usize> {
        let leads = |&&child: &&usize| self.node(child).is_some_and(|it| it.step == step);
        self.node(at)?.children.iter().find(leads).copied()
    }
}

fn count(nodes: &mut [Node], at: usize, time: u64) {
    if let Some(node) = nodes.get_mut(at) {
        node.time = node.time.saturating_add(time);
    }
}

/// 584 years, if there are more.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The steps of one stack.
struct Steps<'a> {
    frames: &'a [(usize, Option<u32>)],
    joined: Joined,
    flag: usize,
    /// What comes after all frames.
    leaf: Option<usize>,
}

impl<'a> Steps<'a> {
    fn of(path: &'a Path, joined: Joined) -> Self {
        let asleep = !path.state.is_runnable();
        let apart = joined == Joined::Apart && asleep;
        // A stack without frames is not shown as nothing.
        let leaf = (apart || path.frames.is_empty()).then(|| wait_step(path.state));
        Self { frames: &path.frames, joined, flag: if apart { ASLEEP } else { 0 }, leaf }
    }
}

impl Iterator for Steps<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let next = match self.joined {
            Joined::Callers => self.frames.split_last(),
            Joined::Apart | Joined::Callees => self.frames.split_first(),
        };
        let Some((&(function, _), rest)) = next else { return self.leaf.take() };
        self.frames = rest;
        Some(function & super::CODE | self.flag)
    }
}
