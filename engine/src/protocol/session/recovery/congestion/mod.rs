//! How much may be in flight: one window a session, moved by acknowledgements and losses.
//!
//! The surroundings (what is a loss event, what was spurious, when a session was idle) are the
//! same for every controller and live in [`super::Recovery`]; a controller only says how far the
//! window moves. An `enum` rather than a trait object: the set is closed, and undoing a cut is a
//! copy of the value from before it.

mod cubic;
mod fixed;
mod hystart;
mod new_reno;

use crate::time::{Duration, Instant};
use cubic::Cubic;
use fixed::FixedRate;
use new_reno::NewReno;

/// Datagrams of the first window (RFC 9002 7.2).
const WINDOW_PACKETS_START: u64 = 10;
/// Datagrams of the smallest window (RFC 9002 7.2).
const WINDOW_PACKETS_MIN: u64 = 2;
/// Bytes of the largest window: keeps every product in range. The sent ring binds long before.
const WINDOW_MAX: u64 = 1 << 36;

/// Which controller moves the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CongestionConfig {
    /// CUBIC with HyStart++ (RFC 9438, RFC 9406): shares the path with others.
    Cubic,
    /// A rate that an operator set aside for this session. It does not yield to others: only for
    /// provisioned links (RFC 8085 section 3.1.10).
    FixedRate {
        /// UDP payload bytes a second.
        bytes_per_second: u64,
    },
    /// NewReno (RFC 9002 7.3): shares the path with others, and takes long to fill a large one.
    NewReno,
}

/// What an acknowledgement says to a controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckSample {
    pub(super) now: Instant,
    /// Bytes newly acknowledged that were sent since the last cut, if the window was in use.
    pub(super) bytes: u64,
    /// The largest number acknowledged.
    pub(super) largest: u64,
    /// The number that the next packet will have.
    pub(super) next: u64,
    /// The round trip that this acknowledgement measured, if it did.
    pub(super) rtt: Option<Duration>,
    /// The smoothed round trip.
    pub(super) smoothed: Duration,
}

/// The controller of one session.
#[derive(Clone, Debug)]
pub(super) enum Congestion {
    Cubic(Cubic),
    FixedRate(FixedRate),
    NewReno(NewReno),
}

/// Runs one expression on whichever controller it is.
macro_rules! each {
    ($congestion:expr, $controller:ident => $run:expr) => {
        match $congestion {
            Congestion::Cubic($controller) => $run,
            Congestion::FixedRate($controller) => $run,
            Congestion::NewReno($controller) => $run,
        }
    };
}

impl Congestion {
    pub(super) fn new(config: CongestionConfig, datagram_len: u64) -> Self {
        match config {
            CongestionConfig::Cubic => Self::Cubic(Cubic::new(datagram_len)),
            CongestionConfig::FixedRate { bytes_per_second } => {
                Self::FixedRate(FixedRate::new(bytes_per_second, datagram_len))
            }
            CongestionConfig::NewReno => Self::NewReno(NewReno::new(datagram_len)),
        }
    }

    /// Packets were acknowledged.
    pub(super) fn on_ack(&mut self, sample: AckSample) {
        each!(self, controller => controller.on_ack(sample));
    }

    /// A loss event began: at most one in a round trip.
    pub(super) fn on_congestion(&mut self) {
        each!(self, controller => controller.on_congestion());
    }

    /// Everything sent over three probe time-outs was lost (RFC 9002 7.6).
    pub(super) fn on_persistent_congestion(&mut self) {
        each!(self, controller => controller.on_persistent_congestion());
    }

    /// Nothing was sent for so long that the window says nothing of the path any more.
    pub(super) fn on_idle(&mut self) {
        each!(self, controller => controller.on_idle());
    }

    /// The path carries datagrams of another length.
    pub(super) fn on_datagram_len(&mut self, datagram_len: u64) {
        each!(self, controller => controller.on_datagram_len(datagram_len));
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u64 {
        each!(self, controller => controller.window())
    }

    /// Whether the window doubles in a round trip.
    pub(super) fn in_slow_start(&self) -> bool {
        match self {
            Self::Cubic(cubic) => cubic.in_slow_start(),
            Self::FixedRate(_) => false,
            Self::NewReno(new_reno) => new_reno.in_slow_start(),
        }
    }

    /// Bytes a second at which to send: a little more than the window a round trip, so that
    /// pacing does not become the bound (RFC 9002 7.7).
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and the pacer bounds it")]
    pub(super) fn rate(&self, smoothed: Duration) -> u64 {
        if let Self::FixedRate(fixed) = self {
            return fixed.rate();
        }
        // Slow start doubles the window in a round trip, so it has to be sent twice as fast.
        let gain = if self.in_slow_start() { 2.0 } else { 1.25 };
        let round_trip = smoothed.max(Duration::from_nanos(1)).as_secs_f64();
        (self.window() as f64 * gain / round_trip) as u64
    }
}
