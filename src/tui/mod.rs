//! The live view.
//!
//! ```text
//! Update ──► State ──► Screen ──► draw ──► the terminal
//!              ▲                              │
//!              └────── keys, the mouse ◄──────┘
//! ```
//!
//! What was sampled comes in as [`Update`]s and is kept for a while; keys change
//! what is shown of it; [`Screen`] is that, as text and numbers, and says
//! nothing of where on the terminal it stands; drawing gives it a place. All of
//! this is pure: it asks nobody for the time, reads no file and knows neither
//! the sampler nor the terminal.

pub mod evidence;
mod functions;
mod gather;
mod gauges;
mod history;
pub mod json;
pub mod keys;
mod made;
pub mod plain;
pub mod population;
mod press;
mod prompt;
mod rows;
pub mod screen;
pub mod state;
pub mod tabs;
pub mod target;
mod threads;
pub mod update;
pub mod view;

pub use functions::Sort;
pub use gather::Group;
pub use keys::Key;
pub use screen::Screen;
pub use state::{Request, Setup, State};
pub use target::Target;
pub use update::Update;
