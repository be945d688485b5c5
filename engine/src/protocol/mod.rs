//! RAET as a pure machine: no socket, no clock, no thread, no unsafe.
#![forbid(unsafe_code)]

pub mod crypto;
pub mod drop_reason;
pub mod endpoint;
pub mod session;
pub mod transaction;
pub mod wire;
