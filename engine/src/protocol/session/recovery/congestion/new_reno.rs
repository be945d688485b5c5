//! NewReno (RFC 9002 7.3), the simplest controller that shares fairly: the oracle for CUBIC.

use super::{AckSample, WINDOW_MAX, WINDOW_PACKETS_MIN, WINDOW_PACKETS_START};

/// The controller.
#[derive(Clone, Debug)]
pub(super) struct NewReno {
    window: u64,
    slow_start_threshold: u64,
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
        self.window = (self.window / 2).max(WINDOW_PACKETS_MIN * self.datagram_len);
        self.slow_start_threshold = self.window;
        self.acked = 0;
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.slow_start_threshold
    }
}
