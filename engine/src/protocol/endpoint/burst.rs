//! Many messages to one peer in a row, at the price of one look at most bounds.

use std::ops::Range;

use super::{Endpoint, PeerId, SendError};
use crate::protocol::transaction::{MessageBytes, Outbound, Run, SendOptions};
use crate::time::Instant;

/// Sends messages to one peer, one after the other: see
/// [`Context::burst`](crate::Context::burst).
#[derive(Debug)]
pub struct Burst<'e> {
    endpoint: &'e mut Endpoint,
    now: Instant,
    to: PeerId,
    options: SendOptions,
    run: Option<Run>,
}

impl Burst<'_> {
    /// How the messages that follow are sent.
    #[inline]
    pub fn set_options(&mut self, options: SendOptions) {
        if self.options != options {
            self.end_run();
            self.options = options;
        }
    }

    /// Sends a message; returns its transaction number.
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken.
    #[inline]
    pub fn send<'p>(&mut self, payload: impl Into<Outbound<'p>>) -> Result<u64, SendError> {
        let message = payload.into();
        match self.join(message.len(), |place| place.copy_from_slice(&message)) {
            Some(transaction) => Ok(transaction),
            None => self.push(message.into()),
        }
    }

    /// As [`Burst::send`], for a message of `len` bytes that `write` writes where it is kept: see
    /// [`Context::send_with`](crate::Context::send_with).
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken, and `write` was not called.
    #[inline]
    pub fn send_with(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<u64, SendError> {
        let mut write = Some(write);
        let mut once = |place: &mut [u8]| {
            let write = write.take().expect("a message is written once");
            write(place);
        };
        match self.join(len, &mut once) {
            Some(transaction) => Ok(transaction),
            None => self.push(MessageBytes::Written(len, &mut once)),
        }
    }

    /// Sends up to `count` messages of `len` bytes each, of which `write` writes the k-th, from 0,
    /// where it is kept. Returns their transaction numbers, which follow one another (an empty range
    /// names none), and why there are not as many as asked for: that message was not taken, nor
    /// written.
    #[inline]
    pub fn send_row(
        &mut self,
        count: u64,
        len: usize,
        mut write: impl FnMut(u64, &mut [u8]),
    ) -> (Range<u64>, Result<(), SendError>) {
        let (mut taken, mut end) = (0, 0);
        loop {
            if let Some(run) = &mut self.run {
                let row = run.append_row(count - taken, len, |at, place| write(taken + at, place));
                (taken, end) = (taken + (row.end - row.start), row.end);
            }
            if taken == count {
                return (end - taken..end, Ok(()));
            }
            self.end_run();
            let mut rest = |at: u64, place: &mut [u8]| write(taken + at, place);
            let (now, options) = (self.now, &self.options);
            let pushed = self.endpoint.push_by(now, self.to, options, |outbox, pool, room| {
                outbox.push_row(now, pool, options, count - taken, len, &mut rest, room)
            });
            self.run = self.endpoint.begin_run(self.to, &self.options);
            match pushed {
                Ok(row) => (taken, end) = (taken + (row.end - row.start), row.end),
                Err(error) => return (end - taken..end, Err(error)),
            }
        }
    }

    #[inline]
    fn join(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Option<u64> {
        self.run.as_mut()?.append(len, write)
    }

    /// Sends a message that does not join the last one; those that follow may join it.
    fn push(&mut self, message: MessageBytes<'_>) -> Result<u64, SendError> {
        self.end_run();
        let sent = self.endpoint.push(self.now, self.to, &self.options, message);
        self.run = self.endpoint.begin_run(self.to, &self.options);
        sent
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.endpoint.end_run(self.to, run);
        }
    }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        self.end_run();
    }
}

impl Endpoint {
    /// Has `send` send messages to `to` with `options`, as many as it likes.
    pub fn burst<R>(
        &mut self,
        now: Instant,
        to: PeerId,
        options: SendOptions,
        send: impl FnOnce(&mut Burst<'_>) -> R,
    ) -> R {
        let run = self.begin_run(to, &options);
        send(&mut Burst { endpoint: self, now, to, options, run })
    }

    fn begin_run(&mut self, to: PeerId, options: &SendOptions) -> Option<Run> {
        self.joinable(to)?.begin_run(options)
    }

    fn end_run(&mut self, to: PeerId, run: Run) {
        self.counters.messages_accepted += u64::from(run.taken());
        self.joinable(to).expect("nothing else happened since it began").end_run(run);
    }
}
