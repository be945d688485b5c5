//! How much of its window a sender uses: one that is not filled says nothing for a larger one
//! (RFC 9002 7.8).

/// How much was in flight at most in this round trip and the one before.
#[derive(Debug, Default)]
pub(super) struct UseOfWindow {
    peak: u64,
    peak_before: u64,
    /// The round trip ends when this number is acknowledged.
    round_end: u64,
}

impl UseOfWindow {
    /// A packet left, with which so many bytes are in flight.
    pub(super) fn on_sent(&mut self, in_flight: u64) {
        self.peak = self.peak.max(in_flight);
    }

    /// `largest` is acknowledged, `next` the number of the next packet, and so many bytes remain in
    /// flight. Says whether a round trip ended with it.
    pub(super) fn on_ack(&mut self, largest: u64, next: u64, in_flight: u64) -> bool {
        let is_over = largest >= self.round_end;
        if is_over {
            self.round_end = next;
            self.peak_before = self.peak;
            self.peak = in_flight;
        }
        is_over
    }

    /// Bytes in flight at most.
    pub(super) fn peak(&self) -> u64 {
        self.peak.max(self.peak_before)
    }
}
