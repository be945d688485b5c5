//! NewReno (RFC 9002 7.3), the simplest controller that shares fairly: one datagram a round trip
//! more, half after a loss. It is the oracle that CUBIC is compared with, and a choice for those
//! who want the behaviour that is best understood.

use super::{AckSample, WINDOW_MAX, WINDOW_PACKETS_MIN, WINDOW_PACKETS_START};

/// The controller.
#[derive(Clone, Debug)]
pub(in super::super) struct NewReno {
    window: u64,
    slow_start_threshold: u64,
    /// Bytes acknowledged since the window last grew by a datagram.
    acked: u64,
    datagram_len: u64,
}

impl NewReno {
    pub(super) fn new(datagram_len: u64) -> Self {
        Self {
            window: WINDOW_PACKETS_START * datagram_len,
            slow_start_threshold: u64::MAX,
            acked: 0,
            datagram_len,
        }
    }

    pub(super) fn on_ack(&mut self, sample: AckSample) {
        if self.in_slow_start() {
            self.window += sample.bytes;
        } else {
            self.acked += sample.bytes;
            while self.acked >= self.window {
                self.acked -= self.window;
                self.window += self.datagram_len;
            }
        }
        self.window = self.window.min(WINDOW_MAX);
    }

    pub(super) fn on_congestion(&mut self) {
        self.window = (self.window / 2).max(self.window_min());
        self.slow_start_threshold = self.window;
        self.acked = 0;
    }

    pub(super) fn on_persistent_congestion(&mut self) {
        self.window = self.window_min();
        self.acked = 0;
    }

    pub(super) fn on_idle(&mut self) {
        let start = WINDOW_PACKETS_START * self.datagram_len;
        if self.window > start {
            self.slow_start_threshold = self.slow_start_threshold.max(self.window);
            self.window = start;
        }
        self.acked = 0;
    }

    pub(super) fn on_datagram_len(&mut self, datagram_len: u64) {
        self.datagram_len = datagram_len;
        self.window = self.window.max(self.window_min());
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.window < self.slow_start_threshold
    }

    fn window_min(&self) -> u64 {
        WINDOW_PACKETS_MIN * self.datagram_len
    }
}
