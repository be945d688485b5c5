//! Measures each room of raet alone, and the whole in memory.

pub mod callgrind;
pub mod crowd;
pub mod memory;
pub mod pair;
pub mod phases;
pub mod plot;
pub mod runs;
pub mod usage;
