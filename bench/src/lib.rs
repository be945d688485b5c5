//! Measures each room of raet alone, and the whole in memory.

pub mod pair;
