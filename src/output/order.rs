//! A profile in the order of time: what the formats that show time share.

use rustc_hash::FxHashMap;

use super::{Mode, Named, Options, stacks};
use crate::{
    profile::{Doing, FrameId, Process, Record, Thread, ThreadId, Timeline},
    style,
};

/// A function at a place, or what is no function, with every text harmless.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) name: String,
    /// The source file, or else the image.
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// The timeline of a recording, as it is shown.
pub(super) struct Order<'a> {
    recording: Named<'a>,
    mode: Mode,
    timeline: Option<&'a Timeline>,
    places: Vec<Place>,
    /// Each thing's places, outermost first, as indices into `places`; `None`
    /// for what is not shown.
    stacks: Vec<Option<Vec<u32>>>,
}

/// The places that were met, each once.
#[derive(Default)]
struct Places {
    known: Vec<Place>,
    ids: FxHashMap<Place, u32>,
    /// Those of frames that were met, outermost first.
    frames: FxHashMap<FrameId, Vec<u32>>,
}

impl Places {
    fn id(&mut self, place: Place) -> u32 {
        *self.ids.entry(place).or_insert_with_key(|place| {
            self.known.push(place.clone());
            u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// What is no function.
    fn note(&mut self, text: &str) -> u32 {
        self.id(Place { name: text.to_owned(), file: None, line: None })
    }

    /// The places of a thing, outermost first; `None` where it is not shown.
    fn of(&mut self, recording: Named<'_>, options: &Options, doing: &Doing) -> Option<Vec<u32>> {
        if !options.wants(doing.state, doing.lock) {
            return None;
        }
        let (cut, frames) =
            stacks::seen(recording.profile, recording.names, options.view, doing.stack)?;
        let mut places: Vec<u32> = cut.iter().map(|text| self.note(text)).collect();
        for id in frames {
            places.extend_from_slice(self.frame(recording, options, id));
        }
        let end = stacks::inner_end(options, doing.state, places.len());
        places.extend(end.map(|label| self.note(&label.text)));
        Some(places)
    }

    fn frame(&mut self, recording: Named<'_>, options: &Options, id: FrameId) -> &[u32] {
        if !self.frames.contains_key(&id) {
            let functions = stacks::functions(recording, options, id).rev();
            let places = functions.map(|(symbol, line)| {
                let file = symbol.file.as_deref().map(|file| options.paths.of(file));
                let file = file.or(symbol.module.as_deref());
                self.id(Place {
                    name: style::escape(&symbol.function).into_owned(),
                    file: file.map(|file| style::escape(file).into_owned()),
                    line,
                })
            });
            let places = places.collect();
            self.frames.insert(id, places);
        }
        self.frames.get(&id).map_or(&[], Vec::as_slice)
    }
}

impl<'a> Order<'a> {
    pub(super) fn new(recording: Named<'a>, options: &Options) -> Self {
        let timeline = recording.profile.timeline();
        let mut places = Places::default();
        let things = timeline.map_or(&[][..], Timeline::things);
        let stacks = things.iter().map(|doing| places.of(recording, options, doing)).collect();
        Self { recording, mode: options.mode, timeline, places: places.known, stacks }
    }

    /// Every place, each once.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The threads of which anything is shown, the one that used the most CPU
    /// time first.
    pub(super) fn threads(&self) -> Vec<(ThreadId, &'a Thread, &'a Process)> {
        let profile = self.recording.profile;
        let numbered = profile.threads().iter().zip(0..);
        let mut threads: Vec<_> = numbered
            .filter_map(|(thread, id)| {
                let id = ThreadId(id);
                let process = profile.processes().get(thread.process.0 as usize)?;
                let shown = self.records(id).filter(|(_, stack)| stack.is_some());
                let sums = shown.fold((0, 0), |(cpu, wall), (record, _)| {
                    (cpu + record.cpu, wall + record.wall)
                });
                (sums != (0, 0)).then_some((sums.0, (id, thread, process)))
            })
            .collect();
        threads.sort_by_key(|&(cpu, (id, ..))| (std::cmp::Reverse(cpu), id));
        threads.into_iter().map(|(_, thread)| thread).collect()
    }

    /// What a thread did, in the order of time, and where, outermost first,
    /// where that is shown.
    pub(super) fn records(&self, id: ThreadId) -> impl Iterator<Item = (Record, Option<&[u32]>)> {
        let records = self.timeline.into_iter().flat_map(move |timeline| timeline.of(id));
        records.map(|record| (record, self.stacks.get(record.thing).and_then(Option::as_deref)))
    }

    /// Which samples are shown.
    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }
}
