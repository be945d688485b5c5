//! RAET: reliable, encrypted messages between machines over UDP.

// Rooms are public for benches, fuzz targets and tests; what this page names is the interface.
#[doc(hidden)]
pub mod buffer;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod limits;
pub mod node;
#[doc(hidden)]
pub mod protocol;
pub mod time;
