use super::*;
use crate::runtime::python::made::{Made, layout, layout_311, layout_old};

fn traced(layout: &Layout, made: &Made) -> (Vec<RawFrame>, Option<Cut>) {
    let mut frames = Vec::new();
    let cut = trace(layout, Address(0x100), made, &mut frames);
    (frames, cut)
}

/// Address of the frame, its code, and the entry.
fn short(frames: &[RawFrame]) -> Vec<(u64, u64, Option<Entry>)> {
    frames.iter().map(|frame| (frame.at.0, frame.code.0, frame.entry)).collect()
}

#[test]
fn every_frame_object_is_a_segment() {
    let mut made = Made::default();
    made.word(0x118, 0x1000);
    for (at, back, code, last) in [(0x1000, 0x2000, 0xc0, -1), (0x2000, 0, 0xd0, 258)] {
        made.bytes(at, &[0; 128]).word(at + 24, back).word(at + 32, code);
        made.bytes(at + 104, &i32::to_le_bytes(last));
    }
    let (frames, cut) = traced(&layout_old(), &made);
    let holds = |at| Some(Entry::Holds(Address(at)));
    assert_eq!(short(&frames), [(0x1000, 0xc0, holds(0x1000)), (0x2000, 0xd0, holds(0x2000))]);
    assert_eq!(frames[0].instruction, u64::MAX);
    assert_eq!(frames[1].instruction, 258);
    assert_eq!(cut, None);
}

/// A frame of 3.11: previous, code, instruction, and who is at the entry.
fn frame_311(made: &mut Made, at: u64, previous: u64, is_entry: u8) {
    made.bytes(at, &[0; 72]).word(at + 32, at + 1).word(at + 48, previous);
    made.word(at + 56, 0x77);
    made.bytes(at + 64, &[0, 0, 0, 0, is_entry, 0, 0, 0]);
}

#[test]
fn each_loop_of_3_11_has_a_struct_of_its_own() {
    let mut made = Made::default();
    // The thread's cframe is at 0x7100, the next one at 0x7900, and the root
    // lies in the thread.
    made.word(0x138, 0x7100);
    made.word(0x7108, 0x1000).word(0x7110, 0x7900);
    made.word(0x7908, 0x3000).word(0x7910, 0x180);
    made.word(0x188, 0).word(0x190, 0);
    frame_311(&mut made, 0x1000, 0x2000, 0);
    frame_311(&mut made, 0x2000, 0x3000, 1);
    frame_311(&mut made, 0x3000, 0, 1);
    let (frames, cut) = traced(&layout_311(), &made);
    let within = |at| Some(Entry::Within(Address(at)));
    let wanted = [
        (0x1000, 0x1001, None),
        (0x2000, 0x2001, within(0x7100)),
        (0x3000, 0x3001, within(0x7900)),
    ];
    assert_eq!(short(&frames), wanted);
    assert_eq!(cut, None);

    // A loop that begins, whose cframe has no frame of its own yet: nothing, or
    // one that has ended.
    for stale in [0x6000, 0x5000] {
        frame_311(&mut made, 0x5000, 0x2000, 1);
        made.word(0x7108, stale);
        assert_eq!(traced(&layout_311(), &made), (frames[2..].to_vec(), None));
    }
    // A greenlet that begins: its cframe has no frame.
    made.word(0x7108, 0);
    assert_eq!(traced(&layout_311(), &made), (Vec::new(), None));
    // A generator that yields has no outer frame any more.
    made.word(0x7108, 0x1000).word(0x1030, 0);
    let (frames, cut) = traced(&layout_311(), &made);
    assert_eq!(short(&frames), [(0x1000, 0x1001, within(0x7100)), wanted[2]]);
    assert_eq!(cut, None);
    // A chain that ends where no loop began.
    made.word(0x7908, 0x1000);
    let (frames, cut) = traced(&layout_311(), &made);
    assert_eq!((short(&frames), cut), (vec![(0x1000, 0x1001, None)], None));
}

/// A frame of 3.13 and later.
fn frame(made: &mut Made, at: u64, previous: u64, owner: u8) {
    made.bytes(at, &[0; 80]).word(at, at + 17).word(at + 8, previous).word(at + 56, 0x55);
    made.word(at + 72, u64::from(owner) << 16 | 0xff);
}

#[test]
fn shims_end_segments_and_are_not_shown() {
    let mut made = Made::default();
    made.word(0x148, 0x7000);
    // The thread is just about to begin a frame: its innermost is a shim.
    frame(&mut made, 0x7000, 0x1000, 3);
    frame(&mut made, 0x1000, 0x2000, 0);
    frame(&mut made, 0x2000, 0x7800, 1);
    frame(&mut made, 0x7800, 0x3000, 4);
    frame(&mut made, 0x3000, 0x7f00, 0);
    frame(&mut made, 0x7f00, 0x180, 3);
    // `base_frame`, in the thread itself.
    frame(&mut made, 0x180, 0, 3);
    let (frames, cut) = traced(&layout(), &made);
    let within = |at| Some(Entry::Within(Address(at)));
    let wanted = [
        (0x1000, 0x1010, None),
        (0x2000, 0x2010, within(0x7800)),
        (0x3000, 0x3010, within(0x7f00)),
    ];
    assert_eq!(short(&frames), wanted, "and the tags of the code are gone");
    assert_eq!(cut, None);

    // Of a greenlet that was switched from, without its shims.
    frame(&mut made, 0x2000, 0, 1);
    let (frames, cut) = traced(&layout(), &made);
    assert_eq!(short(&frames), [(0x1000, 0x1010, None), (0x2000, 0x2010, None)]);
    assert_eq!(cut, None);
}

#[test]
fn callers_are_told_from_others() {
    let mut made = Made::default();
    made.word(0x148, 0x1000);
    frame(&mut made, 0x1000, 0x2000, 0);
    frame(&mut made, 0x2000, 0x3000, 0);
    frame(&mut made, 0x3000, 0x7000, 0);
    frame(&mut made, 0x7000, 0, 3);
    let (frames, _) = traced(&layout(), &made);
    let callers = |made: &Made| callers(&layout(), &frames, made);
    assert_eq!(callers(&made), Callers::Same);
    // The innermost may be any other.
    made.word(0x1000, 0x5551).word(0x1038, 0x99);
    assert_eq!(callers(&made), Callers::Same);
    // Its caller has gone on, or its caller's caller has.
    made.word(0x2038, 0x99);
    assert_eq!(callers(&made), Callers::Moved);
    made.word(0x3038, 0x99);
    assert_eq!(callers(&made), Callers::Changed);
    // Its caller is another function.
    made.word(0x2038, 0x55).word(0x3038, 0x55).word(0x2000, 0x5551);
    assert_eq!(callers(&made), Callers::Changed);
    // Not all of them need be there, but the nearest.
    let mut fewer = Made::default();
    frame(&mut fewer, 0x2000, 0x3000, 0);
    assert_eq!(callers(&fewer), Callers::Same);
    assert_eq!(callers(&Made::default()), Callers::Changed);
    // Without a caller there is nothing to be torn.
    assert_eq!(super::callers(&layout(), &frames[..1], &Made::default()), Callers::Same);
}

#[test]
fn a_chain_that_goes_nowhere_is_cut() {
    let mut made = Made::default();
    assert_eq!(traced(&layout(), &made), (Vec::new(), Some(Cut::Unreadable)));
    made.word(0x148, 0);
    assert_eq!(traced(&layout(), &made), (Vec::new(), None));
    for nowhere in [0x6000, 0x1001, u64::MAX, u64::MAX - 7] {
        made.word(0x148, 0x1000);
        frame(&mut made, 0x1000, nowhere, 0);
        let (frames, cut) = traced(&layout(), &made);
        assert_eq!((frames.len(), cut), (1, Some(Cut::Unreadable)));
    }
}

#[test]
fn chains_without_an_end_have_a_bound() {
    let mut made = Made::default();
    made.word(0x148, 0x1000);
    frame(&mut made, 0x1000, 0x2000, 0);
    frame(&mut made, 0x2000, 0x1000, 0);
    let (frames, cut) = traced(&layout(), &made);
    assert_eq!((frames.len(), cut), (MOST, Some(Cut::TooDeep)));
    frame(&mut made, 0x1000, 0x2000, 3);
    frame(&mut made, 0x2000, 0x1000, 3);
    assert_eq!(traced(&layout(), &made), (Vec::new(), Some(Cut::TooDeep)));
}

#[test]
fn as_deep_as_is_kept_is_not_too_deep() {
    let mut made = Made::default();
    made.word(0x148, 0x10_0000);
    let at = |frame: usize| 0x10_0000 + 0x100 * u64::try_from(frame).unwrap();
    for number in 0..MOST {
        let previous = if number + 1 < MOST { at(number + 1) } else { 0 };
        frame(&mut made, at(number), previous, 0);
    }
    let (frames, cut) = traced(&layout(), &made);
    assert_eq!((frames.len(), cut), (MOST, None));
    frame(&mut made, at(MOST - 1), at(MOST), 0);
    frame(&mut made, at(MOST), 0, 0);
    let (frames, cut) = traced(&layout(), &made);
    assert_eq!((frames.len(), cut), (MOST, Some(Cut::TooDeep)));
}
