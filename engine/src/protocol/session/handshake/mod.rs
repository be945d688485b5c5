//! `rsh1`: Hello, Cookie, Initiate, Accept (PROTOCOL 3).
//!
//! ```text
//! initiator                                       responder
//!   Hello     512 B, ephemeral key, offers   ──►    remembers nothing
//!             a MAC over all of that         ◄──    Cookie, shorter
//!   Initiate  1200 B, Hello and Cookie again ──►    the address is proved; only now
//!             sealed: who I am                      public-key work
//!             sealed: accepted, or not       ◄──    Accept, 512 B
//!   first protected packet                   ──►    the key is proved; the session counts
//! ```
//!
//! The middle is Noise IKpsk2 (`noise`), the frame around it is ours (`messages`, `cookie`), and
//! the two sides are two machines that never share a line of state.

mod cookie;
mod initiator;
mod messages;
mod noise;
mod notice;
mod rate;
mod refusal;
mod responder;

pub use initiator::{HandshakeError, Initiator, InitiatorConfig, LastHeard, Progress};
pub(super) use noise::Split;
pub use notice::Notice;
pub use refusal::{Reason, Refusal};
pub use responder::{Initiated, Responder, ResponderConfig};

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
