//! The public API: what a node is configured with, and where it runs.

pub mod cpus;
pub mod files;
