//! The sender's replies, of which the rules say less: when they must not leave, and what counts.

use std::collections::BTreeMap;
use std::ops::Range;

use raet::buffer::Pool;
use raet::protocol::transaction::{Direction, Outbox, PushError, UnitId};
use raet::time::Instant;

use super::{ROOM, WINDOW, content};

/// All replies that were taken.
#[derive(Default)]
pub struct Replies {
    units: BTreeMap<u64, Reply>,
    /// Below, the peer waits for none.
    peer_low: u64,
}

/// A unit of replies.
struct Reply {
    transactions: Range<u64>,
    bytes: u64,
    tries: u8,
    /// It left and was acknowledged or settled: it must not leave again.
    is_over: bool,
    /// Neither acknowledged nor settled: its bytes count.
    is_owed: bool,
}

impl Replies {
    /// Offers a reply.
    pub fn offer(
        &mut self,
        (outbox, pool): (&mut Outbox, &Pool),
        now: Instant,
        transaction: u64,
        len: u8,
    ) {
        let bytes_max = outbox.bytes_max();
        let (body, bytes) = (content(transaction, len.into()), u64::from(len));
        let taken = outbox.push_reply(now, pool, transaction, (&body).into(), ROOM);
        let ids = outbox.unit_ids().filter(|id| id.direction == Direction::Reply);
        let ids: Vec<_> = ids.collect();
        let is_owed = |reply: &&Reply| reply.is_owed && reply.transactions.end > self.peer_low;
        let owed: u64 = self.units.values().filter(is_owed).map(|reply| reply.bytes).sum();
        match taken {
            Ok(()) => {
                assert!(bytes <= bytes_max && (owed == 0 || owed + bytes <= bytes_max));
                let id = *ids.last().expect("it was taken");
                let transactions = outbox.unit(id).expect("it was taken").transactions();
                assert_eq!(transactions.end, transaction + 1);
                let empty = transaction..transaction;
                let new = Reply {
                    transactions: empty,
                    bytes: 0,
                    tries: 0,
                    is_over: false,
                    is_owed: true,
                };
                let reply = self.units.entry(id.index).or_insert(new);
                assert!(reply.tries == 0 && reply.transactions.end == transaction);
                reply.transactions.end += 1;
                reply.bytes += bytes;
                assert_eq!(reply.transactions, transactions);
            }
            Err(PushError::TooLarge { max }) => {
                assert!(max == bytes_max && bytes > max);
            }
            Err(PushError::NoTransaction) => assert!(ids.len() as u64 >= WINDOW),
            Err(reason) => {
                assert_eq!(reason, PushError::NoBytes);
                // All that may still be counted.
                let all = ids.iter().map(|id| self.units[&id.index].bytes).sum::<u64>();
                assert!(all > 0 && all + bytes > bytes_max);
            }
        }
    }

    /// One leaves.
    pub fn on_left(&mut self, index: u64, transactions: Range<u64>, tries: u8) {
        let reply = self.units.get_mut(&index).expect("it was taken");
        reply.tries = reply.tries.saturating_add(1);
        assert_eq!((&reply.transactions, reply.tries), (&transactions, tries));
        assert!(!reply.is_over, "its packet was acknowledged");
        assert!(transactions.end > self.peer_low, "nobody waits for it");
    }

    /// Its try number `tries` is taken for lost.
    pub fn on_lost(&self, outbox: &mut Outbox, id: UnitId, tries: u8) {
        let reply = &self.units[&id.index];
        // It waits already if this is old news.
        let is_wanted = !reply.is_over && reply.transactions.end > self.peer_low;
        let leaves_again = outbox.on_packet_lost(id, (0, 1), tries);
        assert!(!leaves_again || is_wanted && reply.tries == tries);
    }

    /// Its packet was acknowledged.
    pub fn on_acked(&mut self, index: u64) {
        let reply = self.units.get_mut(&index).expect("it left");
        (reply.is_over, reply.is_owed) = (true, false);
    }

    /// The peer's mark moved, or it has the replies to some requests.
    pub fn on_news(&mut self, outbox: &mut Outbox, a: u8, b: u8, c: u8) {
        let low = self.peer_low + u64::from(a % 16);
        if c & 1 == 0 {
            outbox.on_peer_low_water(low);
            self.peer_low = self.peer_low.max(low);
            return;
        }
        let range = low..low + u64::from(b);
        outbox.on_replies_settled(range.clone());
        for reply in self.units.values_mut() {
            let of = &reply.transactions;
            if range.start <= of.start && of.end <= range.end {
                reply.is_over |= reply.tries > 0;
                reply.is_owed = false;
            }
        }
    }
}
