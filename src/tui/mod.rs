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

pub mod population;
pub mod screen;
pub mod update;

pub use screen::Screen;
pub use update::Update;
