//! One authenticated relation with a peer: bootstrap, keys, replay window, recovery, liveness.

pub mod recovery;
