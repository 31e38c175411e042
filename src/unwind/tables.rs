//! When the unwind data of an image is compiled, and by whom.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, Sender},
    },
    thread,
};

use rustc_hash::FxBuildHasher;

use crate::{module::Module, snapshot::Architecture};

use super::{machine::Machine, table::Table};

/// When the unwind data of an image is compiled into a [`Table`].
#[derive(Clone, Debug)]
pub enum Tables {
    /// By a thread of its own, once rows of the image were evaluated so often
    /// that compiling pays; meanwhile gimli evaluates row by row. For a
    /// recording: every process shares the tables.
    Background(Builder),
    /// When an address of the image is first met, by this thread.
    Now,
    /// Never: gimli evaluates row by row. For a single look.
    Never,
}

/// A thread that compiles tables, and the tables that it has compiled. Clones
/// share both; the thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct Builder {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    images: Mutex<Images>,
}

#[derive(Debug, Default)]
struct Images {
    /// Leads to the thread, once there is one.
    queue: Option<Sender<Arc<Module>>>,
    /// By the address of the image, which is kept so that no other can get it.
    all: HashMap<usize, Image, FxBuildHasher>,
}

#[derive(Debug)]
struct Image {
    _kept: Arc<Module>,
    table: Option<Arc<Table>>,
}

impl Tables {
    /// Tables compiled by a thread of their own.
    pub fn background() -> Self {
        Self::Background(Builder { shared: Arc::default() })
    }

    /// The table of `module`, if it is to be had. `rows` is how many rows of it
    /// have been evaluated one by one, and `size` that of its unwind data.
    pub(super) fn table(
        &self,
        module: &Arc<Module>,
        machine: &'static Machine,
        rows: usize,
        size: usize,
    ) -> Option<Arc<Table>> {
        match self {
            Self::Never => None,
            Self::Now => Some(Arc::new(Table::of(module, machine))),
            Self::Background(builder) if pays(rows, size) => builder.table(module),
            Self::Background(_) => None,
        }
    }
}

/// Compiling takes 20 ns a byte, evaluating one row takes a microsecond, and
/// the next row is likely soon: so compile when what was spent on single rows
/// is a quarter of what compiling costs.
fn pays(rows: usize, size: usize) -> bool {
    rows.saturating_mul(200) >= size
}

impl Builder {
    /// The table of `module`, if it is ready. If not, it will be.
    pub(super) fn table(&self, module: &Arc<Module>) -> Option<Arc<Table>> {
        let key = Arc::as_ptr(module).addr();
        let mut images = self.shared.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.all.get(&key) {
            return image.table.clone();
        }
        images.all.insert(key, Image { _kept: Arc::clone(module), table: None });
        if images.queue.is_none() {
            images.queue = self.start();
        }
        // Without a thread gimli goes on row by row.
        let _ = images.queue.as_ref()?.send(Arc::clone(module));
        None
    }

    fn start(&self) -> Option<Sender<Arc<Module>>> {
        let (queue, waiting) = mpsc::channel::<Arc<Module>>();
        let shared = Arc::downgrade(&self.shared);
        let work = move || {
            for module in waiting {
                let table = Arc::new(Table::of(&module, Machine::of(Architecture::HOST)));
                let Some(shared) = Weak::upgrade(&shared) else { return };
                let mut images = shared.images.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(image) = images.all.get_mut(&Arc::as_ptr(&module).addr()) {
                    image.table = Some(table);
                }
            }
        };
        thread::Builder::new().name("spy-tables".to_owned()).spawn(work).ok().map(|_| queue)
    }
}
