//! What a node's application does: it tells the auditor what it is handed, takes, refuses, defers
//! and answers messages, and keeps its sessions open.

use raet::protocol::endpoint::{Event, Messages, Segment};
use raet::time::{Duration, Instant};
use raet::{CloseReason, Outcome, PeerId, SendError, Service, SessionChange};

use super::{Node, Owed, Process, Sabotage, Uncommitted};
use crate::auditor::{Auditor, Handled};
use crate::trace::Trace;

/// How often an application offers all replies again that were not taken.
const RETRY_REPLIES_EVERY: Duration = Duration::from_millis(5);
/// When one tries again that was refused.
const REFUSED_AFTER: Duration = Duration::from_secs(60);

/// How long a handler takes at most until it commits what it deferred.
const COMMIT_WITHIN: Duration = Duration::from_millis(200);
/// A message in pieces that is refused is so at one in so many, or at the last.
const REFUSED_AT_PIECE: u64 = 8;
/// How long it keeps the buffer of a message at most, if it does.
const KEPT_WITHIN: Duration = Duration::from_millis(5);

impl Node {
    pub(super) fn on_event(
        &mut self,
        now: Instant,
        process: &mut Process,
        event: Event,
        auditor: &mut Auditor,
        trace: &mut Trace,
    ) {
        match event {
            Event::Messages(messages) => {
                self.on_messages(now, process, messages, auditor, trace);
            }
            Event::Outcomes { peer, resolved } => {
                let numbers = [resolved.first, u64::from(resolved.count)];
                trace.note(&format!("{:?}", resolved.outcome), now, self.index, &numbers);
                if self.sabotage == Some(Sabotage::DropsOutcome)
                    && resolved.outcome == Outcome::Delivered
                {
                    self.sabotage = None;
                    return;
                }
                if self.sabotage == Some(Sabotage::EndsEarly) {
                    return;
                }
                auditor.on_outcome(self.index, peer, resolved);
            }
            Event::Session { peer, change } => {
                trace.note(&format!("{change:?}"), now, self.index, &[]);
                self.on_session(now, process, peer, &change, auditor);
            }
            Event::Misrouted { .. } => auditor.blame("I27", "there is one shard".to_owned()),
            Event::Segment(piece) => self.on_piece(now, process, &piece, auditor, trace),
            Event::Abandoned { peer, transaction, is_reply } => {
                let numbers = [transaction, u64::from(is_reply)];
                trace.note("abandoned", now, self.index, &numbers);
                auditor.on_abandoned(self.index, peer, (transaction, is_reply));
            }
            Event::Gap { peer, stream, missing } => {
                let numbers = [stream.order(0), missing.start, missing.end];
                trace.note("gap", now, self.index, &numbers);
                if self.sabotage == Some(Sabotage::HidesGap) {
                    self.sabotage = None;
                    return;
                }
                auditor.on_gap(self.index, peer, stream, &missing);
            }
        }
    }

    fn on_session(
        &mut self,
        now: Instant,
        process: &mut Process,
        peer: PeerId,
        change: &SessionChange,
        auditor: &mut Auditor,
    ) {
        if *change == SessionChange::Closed(CloseReason::Violation) {
            // Who is honest reports nothing that did not arrive, and is never taken for one who does.
            auditor.blame("I20", format!("node {} took an honest peer for a liar", self.index));
        }
        if let SessionChange::Closed(_) | SessionChange::Lost(_) = change {
            self.ended.extend(process.known.get(&peer));
        }
        match change {
            SessionChange::Opened { key, address, .. } => {
                let node = self.addresses.iter().position(|(_, known)| known == key);
                let Some(node) = node else {
                    return auditor.blame("I21", "a session with a stranger".to_owned());
                };
                if self.config.outcast == Some(*key) {
                    auditor.blame("I21", format!("node {} let the outcast in", self.index));
                }
                process.ledger.on_proven(*address);
                process.known.insert(peer, node);
                process.open.retain(|entry| entry.0 != peer && entry.1 != node);
                process.lost.retain(|entry| entry.0 != peer && entry.1 != node);
                process.open.push((peer, node));
                process.connect_at.retain(|entry| entry.1 != node);
            }
            SessionChange::Closed(_) | SessionChange::Refused(_) | SessionChange::TimedOut(_) => {
                auditor.on_closed(self.index, peer);
                process.open.retain(|entry| entry.0 != peer);
                process.lost.retain(|entry| entry.0 != peer);
                // What is owed to it and kept of it goes on under the old name, and meets nobody.
                if let Some(&node) = process.known.get(&peer)
                    && self.wanted.contains(&node)
                {
                    let is_refused = matches!(change, SessionChange::Refused(_));
                    let after = if is_refused { REFUSED_AFTER } else { self.reconnect_after };
                    process.connect_at.push((now + after, node));
                }
            }
            SessionChange::Lost(_) => {
                // Nothing ended. Who opened the session opens another once there is need; the
                // application sees need at once.
                let (lost, open) = process.open.iter().partition(|entry| entry.0 == peer);
                process.open = open;
                process.lost.extend::<Vec<_>>(lost);
                if let Some(&node) = process.known.get(&peer)
                    && self.wanted.contains(&node)
                {
                    process.connect_at.push((now + self.reconnect_after, node));
                }
            }
            SessionChange::Moved { .. } => {}
            SessionChange::Pending { .. } => {
                auditor.blame("I21", "nobody here waits for an operator".to_owned());
            }
        }
    }

    fn on_messages(
        &mut self,
        now: Instant,
        process: &mut Process,
        messages: Messages,
        auditor: &mut Auditor,
        trace: &mut Trace,
    ) {
        let (peer, service) = (messages.peer(), messages.service());
        let is_reply = messages.is_reply();
        let ordered = service == Service::Sequence && !is_reply;
        let (stream, first_place) = messages.stream();
        for (transaction, payload) in messages.iter() {
            let numbers = [transaction, payload.len() as u64, u64::from(is_reply)];
            trace.note("message", now, self.index, &numbers);
            if is_reply {
                auditor.on_reply(self.index, peer, transaction, payload);
                continue;
            }
            let mut payload = payload.to_vec();
            let from = process.known.get(&peer).copied();
            let mut copies = 1;
            match self.sabotage {
                Some(Sabotage::FlipsByte) => {
                    if let Some(byte) = payload.last_mut() {
                        self.sabotage = None;
                        *byte ^= 1;
                    }
                }
                Some(Sabotage::DeliversTwice) if service == Service::AtMostOnce => copies = 2,
                Some(Sabotage::AcknowledgesEarly) if service == Service::ExactlyOnce => {
                    self.sabotage = None;
                    copies = 0;
                }
                _ => {}
            }
            let mut place = ordered.then(|| {
                let index = first_place + (transaction - messages.first());
                (stream, index)
            });
            if self.sabotage == Some(Sabotage::SwapsOrder)
                && let Some((_, index)) = &mut place
                && messages.count() > 1
            {
                *index ^= 1;
            }
            if let Some((stream, index)) = place {
                auditor.on_place(self.index, peer, stream, index);
            }
            for _ in 0..copies {
                let letter = auditor.on_message(self.index, from, service, place, &payload);
                if let Some(letter) = letter {
                    self.handle(now, process, peer, service, transaction, letter, auditor);
                }
            }
        }
        if self.sabotage == Some(Sabotage::KeepsBuffer) {
            process.kept.push((Instant::from_nanos(u64::MAX), messages));
        } else if self.plan.keeps_buffers {
            let until = now + self.random.between(Duration::ZERO, KEPT_WITHIN);
            process.kept.push((until, messages));
        }
    }

    /// A piece of a message too long to be handed over whole.
    fn on_piece(
        &mut self,
        now: Instant,
        process: &mut Process,
        piece: &Segment,
        auditor: &mut Auditor,
        trace: &mut Trace,
    ) {
        let numbers = [piece.transaction, piece.offset as u64, piece.body.len() as u64];
        trace.note("piece", now, self.index, &numbers);
        if self.sabotage == Some(Sabotage::LosesPiece) && piece.offset > 0 {
            self.sabotage = None;
            return;
        }
        let from = process.known.get(&piece.peer).copied();
        let Some(letter) = auditor.on_piece(self.index, from, piece) else { return };
        let Segment { peer, service, transaction, is_reply, .. } = *piece;
        match (piece.is_last(), is_reply) {
            (true, true) => auditor.on_reply_to(self.index, letter),
            (true, false) => {
                self.handle(now, process, peer, service, transaction, letter, auditor);
            }
            (false, true) => {}
            (false, false) => self.refuse_at_piece(process, piece, letter, auditor),
        }
    }

    /// The handler refuses some messages before all of them came.
    fn refuse_at_piece(
        &mut self,
        process: &mut Process,
        piece: &Segment,
        letter: usize,
        auditor: &mut Auditor,
    ) {
        let Some(reason) = auditor.refuses(letter) else { return };
        if self.random.below(REFUSED_AT_PIECE) > 0 {
            return;
        }
        let is_taken = self.sabotage == Some(Sabotage::GoesOnRefused);
        if is_taken || process.endpoint.refuse(piece.peer, piece.transaction, reason) {
            auditor.on_refused_piece(self.index, piece, letter);
        }
    }

    /// The application's handler of one message.
    #[expect(clippy::too_many_arguments, reason = "what a handler knows of a message")]
    fn handle(
        &mut self,
        now: Instant,
        process: &mut Process,
        peer: PeerId,
        service: Service,
        transaction: u64,
        letter: usize,
        auditor: &mut Auditor,
    ) {
        if let Some(reason) = auditor.refuses(letter) {
            if process.endpoint.refuse(peer, transaction, reason) {
                auditor.on_handled(letter, Handled::Refused);
            }
            return;
        }
        let mut later = now + self.random.between(Duration::ZERO, self.plan.slowness);
        let defers = self.plan.deferrals > 0 && self.random.below(self.plan.deferrals) == 0;
        if defers && service != Service::Request && auditor.is_reported_on(letter) {
            auditor.on_handled(letter, Handled::Deferred);
            let is_told = self.sabotage == Some(Sabotage::TellsBeforeCommit);
            let deferred = match is_told {
                true => None,
                false => process.endpoint.defer(peer, transaction),
            };
            if is_told || deferred.is_some() {
                let due = later + self.random.between(Duration::ZERO, COMMIT_WITHIN);
                process.deferred.push(Uncommitted { due, deferred, letter });
            }
        } else {
            auditor.on_handled(letter, Handled::Kept);
        }
        if self.plan.slowness > Duration::ZERO && self.random.below(2) == 0 {
            process.endpoint.hold(peer, 1);
            process.held.push((later, peer));
        } else {
            later = now;
        }
        if service == Service::Request {
            process.replies.push(Owed { due: later, peer, transaction, letter });
        }
    }

    /// What the application does by itself: connects, replies, lets go. Returns whether it did.
    pub(super) fn act(
        &mut self,
        now: Instant,
        process: &mut Process,
        auditor: &mut Auditor,
    ) -> bool {
        let mut is_busy = false;
        if !self.is_closing {
            let due: Vec<usize> = process
                .connect_at
                .extract_if(.., |entry| entry.0 <= now)
                .map(|(_, node)| node)
                .collect();
            for node in due {
                is_busy = true;
                let (address, key) = self.addresses[node];
                process.ledger.on_proven(address);
                match process.endpoint.connect(now, address, key) {
                    Ok(peer) => drop(process.known.insert(peer, node)),
                    Err(error) => auditor.blame("I21", format!("cannot connect: {error}")),
                }
            }
        }
        let kept_before = process.kept.len();
        process.kept.retain(|kept| kept.0 > now);
        is_busy |= process.kept.len() < kept_before;
        for (_, peer) in process.held.extract_if(.., |held| held.0 <= now) {
            is_busy = true;
            process.endpoint.release(peer, 1);
        }
        for owed in process.deferred.extract_if(.., |owed| owed.due <= now) {
            is_busy = true;
            // The effect is there, whether or not the sender still hears of it.
            auditor.on_committed(owed.letter);
            if let Some(deferred) = owed.deferred {
                process.endpoint.commit(deferred);
            }
        }
        for owed in process.regretted.extract_if(.., |owed| owed.due <= now) {
            is_busy = true;
            if auditor.open_letter(self.index, owed.peer, owed.transaction).is_some() {
                let is_taken_back = process.endpoint.cancel(owed.peer, owed.transaction);
                auditor.on_cancelled(self.index, owed.peer, owed.letter, is_taken_back);
            }
        }
        let mut mixed = self.sabotage == Some(Sabotage::MixesReplies);
        // The shortest that was not taken of each peer's: nothing longer is now.
        let mut not_taken: Vec<(PeerId, usize)> = Vec::new();
        for owed in &mut process.replies {
            if owed.due > now {
                continue;
            }
            let letter = if std::mem::take(&mut mixed) { owed.letter ^ 1 } else { owed.letter };
            if auditor.fails(letter) {
                process.endpoint.fail(owed.peer, owed.transaction);
                owed.due = Instant::ZERO;
                continue;
            }
            let len = auditor.reply_len(letter);
            let shortest = not_taken.iter_mut().find(|entry| entry.0 == owed.peer);
            if shortest.as_ref().is_some_and(|entry| entry.1 <= len) {
                owed.due = next_retry(now);
                continue;
            }
            let bytes = auditor.reply(letter);
            match process.endpoint.reply(now, owed.peer, owed.transaction, (&bytes).into()) {
                Ok(()) | Err(SendError::NotConnected) => owed.due = Instant::ZERO,
                Err(SendError::Full(_)) => {
                    owed.due = next_retry(now);
                    match shortest {
                        Some(entry) => entry.1 = len,
                        None => not_taken.push((owed.peer, len)),
                    }
                }
                Err(error) => auditor.blame("I16", format!("a reply was not taken: {error}")),
            }
            is_busy = true;
        }
        process.replies.retain(|owed| owed.due > Instant::ZERO);
        is_busy
    }
}

/// When replies are offered again that are not taken `now`: all at once, or many would cost a turn
/// each.
fn next_retry(now: Instant) -> Instant {
    let round = now.as_nanos() / RETRY_REPLIES_EVERY.as_nanos() + 1;
    Instant::ZERO + RETRY_REPLIES_EVERY.saturating_mul(round)
}
