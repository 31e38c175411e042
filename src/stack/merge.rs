//! One stack out of two: the native frames, and the managed frames that some
//! of them execute.

use std::sync::Arc;

use super::{Frame, ManagedFrame};

/// Managed frames that one run of an interpreter's loop executes, and where
/// they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Innermost first.
    pub frames: Vec<Arc<ManagedFrame>>,
    /// The index of the native frame that executes them; `None` where none was
    /// found.
    pub within: Option<usize>,
}

/// Give the segments without a place the loops that are left, where there are as
/// many of them: between the next inner and the next outer segment that have a
/// place, or before `end`, outside of which nothing is known.
///
/// `loops` are the native frames that execute managed ones, a segment each, with
/// the innermost first. For when the register is unknown that says which: of a
/// thread that sleeps only some are.
pub fn place_rest(segments: &mut [Placed], loops: &[usize], end: Option<usize>) {
    let mut inner = 0;
    for run in segments.chunk_by_mut(|one, other| one.within.is_none() || other.within.is_some()) {
        // Each begins with those that have none; all after them have one.
        let rest = run.iter().take_while(|segment| segment.within.is_none()).count();
        let outer = run.get(rest).map_or(end, |next| next.within);
        let is_free = |at: &usize| outer.is_some_and(|outer| (inner..outer).contains(at));
        let free: Vec<usize> = loops.iter().copied().filter(is_free).collect();
        if free.len() == rest {
            run.iter_mut().zip(free).for_each(|(segment, at)| segment.within = Some(at));
        }
        inner = run.last().and_then(|last| last.within).map_or(inner, |at| at + 1);
    }
}

/// Put `segments` among the frames of `native`; both innermost first. Every
/// frame of either is in the result, in its order.
///
/// Managed frames come before the native frame that executes them: that one
/// has called them, as it were. Segments without a place keep their order: they
/// follow the managed frames before them. Returns how many of those there were
/// (segments whose place would break the order have none).
pub fn merge(native: &[Frame], segments: &[Placed]) -> (Vec<Frame>, usize) {
    let managed: usize = segments.iter().map(|segment| segment.frames.len()).sum();
    let mut merged = Vec::with_capacity(native.len() + managed);
    let mut next = 0;
    let mut unplaced = 0;
    // Where no segment has a place at all, the native frames are the inner ones.
    let none = segments.iter().all(|segment| segment.within.is_none());
    for (index, segment) in segments.iter().enumerate() {
        match segment.within.filter(|&within| within >= next && within < native.len()) {
            Some(within) => {
                merged.extend(native.get(next..within).unwrap_or_default().iter().cloned());
                next = within;
            }
            None => {
                unplaced += 1;
                // After the last that has a place come the native frames of
                // its loop, and whatever else is known of the outer ones.
                let later = segments.get(index..).unwrap_or_default();
                if none || later.iter().all(|segment| segment.within.is_none()) {
                    merged.extend(native.get(next..).unwrap_or_default().iter().cloned());
                    next = native.len();
                }
            }
        }
        merged.extend(segment.frames.iter().map(|frame| Frame::Managed(Arc::clone(frame))));
    }
    merged.extend(native.get(next..).unwrap_or_default().iter().cloned());
    (merged, unplaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        memory::Address,
        stack::{CodeAddress, NativeFrame},
    };

    fn native(count: u64) -> Vec<Frame> {
        let frame = |at| NativeFrame { module: None, code: CodeAddress::Return(Address(at)) };
        (0..count).map(|at| Frame::Native(frame(at))).collect()
    }

    fn segment(names: &str, within: Option<usize>) -> Placed {
        let frame = |name: char| ManagedFrame {
            function: name.to_string(),
            file: String::new(),
            line: None,
            columns: None,
            first_line: None,
        };
        Placed { frames: names.chars().map(|name| Arc::new(frame(name))).collect(), within }
    }

    /// Native frames as digits, managed ones as letters.
    fn shown(native_frames: u64, segments: &[Placed]) -> (String, usize) {
        let (frames, unplaced) = merge(&native(native_frames), segments);
        let name = |frame: &Frame| match frame {
            Frame::Native(frame) => frame.code.address().0.to_string(),
            Frame::Managed(frame) => frame.function.clone(),
        };
        (frames.iter().map(name).collect(), unplaced)
    }

    #[test]
    fn managed_frames_stand_inside_the_loop_that_executes_them() {
        let segments = [segment("ab", Some(1)), segment("c", Some(4))];
        assert_eq!(shown(6, &segments), ("0ab123c45".to_owned(), 0));
        assert_eq!(shown(2, &[]), ("01".to_owned(), 0));
    }

    #[test]
    fn two_segments_of_one_loop_keep_their_order() {
        let segments = [segment("a", Some(1)), segment("b", Some(1))];
        assert_eq!(shown(2, &segments), ("0ab1".to_owned(), 0));
    }

    #[test]
    fn what_is_left_belongs_to_the_loops_that_are_left() {
        let places = |within: &[Option<usize>], loops: &[usize], end: Option<usize>| {
            let mut segments: Vec<_> = within.iter().map(|&at| segment("a", at)).collect();
            place_rest(&mut segments, loops, end);
            segments.iter().map(|segment| segment.within).collect::<Vec<_>>()
        };
        let loops = &[2, 4, 6, 8];
        assert_eq!(places(&[None, Some(4)], loops, None), [Some(2), Some(4)]);
        let holes = [None, Some(4), None, Some(8)];
        assert_eq!(places(&holes, loops, None), [Some(2), Some(4), Some(6), Some(8)]);
        assert_eq!(places(&[Some(4), None, None], loops, Some(9)), [4, 6, 8].map(Some));
        // Nobody knows which.
        assert_eq!(places(&[None, Some(6)], loops, None), [None, Some(6)]);
        assert_eq!(places(&[Some(2), None], loops, Some(9)), [Some(2), None]);
        // There may be more of them where the stack breaks off.
        assert_eq!(places(&[Some(6), None], loops, None), [Some(6), None]);
        assert_eq!(places(&[None, None], &[], Some(9)), [None, None]);
        assert_eq!(places(&[], loops, Some(9)), []);
    }

    #[test]
    fn what_has_no_place_is_kept_and_counted() {
        assert_eq!(shown(3, &[segment("ab", None)]), ("012ab".to_owned(), 1));
        let cut = [segment("a", Some(1)), segment("b", None), segment("c", None)];
        assert_eq!(shown(3, &cut), ("0a12bc".to_owned(), 2));
        let hole = [segment("a", None), segment("b", Some(1)), segment("c", None)];
        assert_eq!(shown(2, &hole), ("a0b1c".to_owned(), 2));
        // Out of order, or beyond the end: no place.
        let wrong = [segment("a", Some(2)), segment("b", Some(1)), segment("c", Some(9))];
        assert_eq!(shown(3, &wrong).0.len(), 6);
    }
}
