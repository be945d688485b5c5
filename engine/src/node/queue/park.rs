//! Messages and replies to one peer that the endpoint has no room for, in order.

use std::collections::VecDeque;

use super::line::{Replying, Sending};
use crate::protocol::transaction::SendOptions;
use crate::time::{Instant, earliest};

/// What waits for one peer: as many as there are places for (see [`Room`](super::room::Room)).
#[derive(Debug, Default)]
pub(super) struct Park {
    sends: VecDeque<Parked>,
    replies: VecDeque<Replying>,
    /// The earliest deadline of a message, or an earlier one of a message that is gone.
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Parked {
    send: Sending,
    /// The application wants it, and what came before it, to leave without lingering.
    is_flushed: bool,
}

/// When a message is of no use any more, if it heeds a deadline.
fn deadline(options: &SendOptions) -> Option<Instant> {
    options.heeded().deadline
}

impl Park {
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.replies.is_empty()
    }

    /// Whether messages wait, which others must not overtake.
    pub(super) fn has_sends(&self) -> bool {
        !self.sends.is_empty()
    }

    pub(super) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Puts a message behind the others.
    pub(super) fn push(&mut self, send: Sending) {
        self.deadline = earliest([self.deadline, deadline(&send.options)]);
        self.sends.push_back(Parked { send, is_flushed: false });
    }

    pub(super) fn push_reply(&mut self, reply: Replying) {
        self.replies.push_back(reply);
    }

    /// Has what waits now leave without lingering, once there is room for it.
    pub(super) fn flush(&mut self) {
        if let Some(last) = self.sends.back_mut() {
            last.is_flushed = true;
        }
    }

    /// Gives each message to `offer`, which hands one back if there is no room for it; that and
    /// those behind it go on waiting. Returns why, and whether something was flushed.
    pub(super) fn offer<E>(
        &mut self,
        mut offer: impl FnMut(Sending) -> Result<(), (Sending, E)>,
    ) -> (Option<E>, bool) {
        let mut flushes = false;
        while let Some(Parked { send, is_flushed }) = self.sends.pop_front() {
            if let Err((send, why)) = offer(send) {
                self.sends.push_front(Parked { send, is_flushed });
                return (Some(why), flushes);
            }
            flushes |= is_flushed;
        }
        (None, flushes)
    }

    /// The same for replies.
    pub(super) fn offer_replies<E>(
        &mut self,
        mut offer: impl FnMut(Replying) -> Result<(), (Replying, E)>,
    ) -> Option<E> {
        while let Some(reply) = self.replies.pop_front() {
            if let Err((reply, why)) = offer(reply) {
                self.replies.push_front(reply);
                return Some(why);
            }
        }
        None
    }

    /// When [`Park::expire`] may find something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes out the messages whose deadline has come. Returns whether the endpoint has to flush.
    pub(super) fn expire(&mut self, now: Instant, end: impl FnMut(Sending)) -> bool {
        if self.deadline.is_none_or(|at| at > now) {
            return false;
        }
        let flushes =
            self.take_out(|send| deadline(&send.options).is_some_and(|at| at <= now), end);
        let deadlines = self.sends.iter().filter_map(|parked| deadline(&parked.send.options));
        self.deadline = deadlines.min();
        flushes
    }

    /// Takes out the message with this ticket, if it waits here. Returns whether the endpoint has
    /// to flush.
    pub(super) fn cancel(&mut self, ticket: u64, end: impl FnMut(Sending)) -> bool {
        self.take_out(|send| send.ticket == ticket, end)
    }

    /// Takes out what `is_over`. A flush that stood behind it then stands behind what waits before
    /// it, or if nothing does is due.
    fn take_out(
        &mut self,
        is_over: impl Fn(&Sending) -> bool,
        mut end: impl FnMut(Sending),
    ) -> bool {
        let mut is_due = false;
        let count = self.sends.len();
        let mut kept = 0;
        for _ in 0..count {
            let parked = self.sends.pop_front().expect("counted");
            if !is_over(&parked.send) {
                self.sends.push_back(parked);
                kept += 1;
                continue;
            }
            match self.sends.back_mut().filter(|_| kept > 0) {
                Some(before) => before.is_flushed |= parked.is_flushed,
                None => is_due |= parked.is_flushed,
            }
            end(parked.send);
        }
        is_due
    }

    /// Takes out all messages.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Sending> {
        self.replies.clear();
        self.deadline = None;
        self.sends.drain(..).map(|parked| parked.send)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::peers;
    use super::*;
    use crate::protocol::endpoint::PeerId;
    use crate::protocol::transaction::StreamKind;
    use crate::protocol::wire::ServiceKind;

    fn send(peer: PeerId, ticket: u64, options: SendOptions) -> Sending {
        Sending { peer, options, ticket, payload: Vec::new(), _place: None }
    }

    /// Which tickets the endpoint gets, if it has room for `room`, and whether it is to flush.
    fn offer(park: &mut Park, mut room: usize) -> (Vec<u64>, bool) {
        let mut taken = Vec::new();
        let (stall, flushes) = park.offer(|send| {
            if room == 0 {
                return Err((send, ()));
            }
            room -= 1;
            taken.push(send.ticket);
            Ok(())
        });
        assert_eq!(stall.is_some(), park.has_sends());
        (taken, flushes)
    }

    #[test]
    fn flush_is_due_when_all_before_it_left_or_ended() {
        let peer = peers(1)[0];
        let options = SendOptions::new(ServiceKind::ExactlyOnce);
        let mut park = Park::default();
        park.flush(); // Nothing waits: nothing to do.
        (0..3).for_each(|ticket| park.push(send(peer, ticket, options)));
        park.flush();
        park.push(send(peer, 3, options));
        assert!(!park.cancel(2, drop), "two messages before the flush wait still");
        assert_eq!(offer(&mut park, 1), (vec![0], false));
        assert_eq!(offer(&mut park, 0), (vec![], false));
        assert!(park.cancel(1, drop), "none waits before the flush");
        assert_eq!(offer(&mut park, 9), (vec![3], false));
        park.push(send(peer, 4, options));
        park.flush();
        assert_eq!(offer(&mut park, 9), (vec![4], true));
        assert!(park.is_empty());
    }

    // PROTOCOL 6.31
    #[test]
    fn deadline_ends_what_heeds_it_and_the_next_is_known() {
        let peer = peers(1)[0];
        let at = Instant::from_nanos;
        let mut park = Park::default();
        let exactly = SendOptions::new(ServiceKind::ExactlyOnce);
        let gapless = SendOptions::new(ServiceKind::Sequence).deadline(at(1));
        park.push(send(peer, 0, gapless));
        assert_eq!(park.next_deadline(), None);
        for (ticket, options) in (1..).zip([
            exactly.deadline(at(5)),
            exactly,
            gapless.stream(StreamKind::LossyOnRequest, 0),
            exactly.deadline(at(9)),
        ]) {
            park.push(send(peer, ticket, options));
        }
        assert_eq!(park.next_deadline(), Some(at(1)));
        let mut ended = Vec::new();
        park.expire(at(5), |send| ended.push(send.ticket));
        assert_eq!((ended, park.next_deadline()), (vec![1, 3], Some(at(9))));
        assert_eq!(offer(&mut park, 9).0, [0, 2, 4]);
    }
}
