//! What travels in front of a record, and the key that it stands for.

use crate::limits::OUTBOX_RECORD_LEN_MAX;
use crate::protocol::crypto;
use crate::protocol::session::PublicKey;
use crate::protocol::wire::varint;

/// First byte of a message from an outbox (PROTOCOL 6.40).
const VERSION: u8 = 1;
/// Bytes before a payload at most: version, outbox, two numbers.
pub(super) const HEAD_LEN_MAX: usize = 1 + 16 + 8 + 8;
const _: () = assert!(HEAD_LEN_MAX + OUTBOX_RECORD_LEN_MAX <= crate::limits::MESSAGE_LEN_MAX);

/// Names an outbox for as long as it exists: random, drawn when it was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OutboxId(pub [u8; 16]);

/// Names a record for ever: whose outbox it came from, and its number there. 24 bytes of a hash
/// over the sender's public key and its outbox's id, so that no sender can use up another's keys,
/// then the number, big-endian: the keys of one outbox are neighbours, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DedupKey([u8; 32]);

impl DedupKey {
    /// Bytes that all keys of one outbox begin with.
    pub const OUTBOX_LEN: usize = 24;

    /// The key of record `record` of an outbox (PROTOCOL 6.41).
    pub fn new(sender: &PublicKey, outbox: OutboxId, record: u64) -> Self {
        let context = "RAET 2026-11-26 durable outbox";
        let hash = crypto::derive(context, &[sender.as_bytes(), &outbox.0]);
        let mut key = [0; 32];
        key[..Self::OUTBOX_LEN].copy_from_slice(&hash[..Self::OUTBOX_LEN]);
        key[Self::OUTBOX_LEN..].copy_from_slice(&record.to_be_bytes());
        Self(key)
    }

    /// What a database stores.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What all keys of its outbox begin with: under this the outbox's mark is stored.
    pub fn outbox(&self) -> &[u8; Self::OUTBOX_LEN] {
        self.0.first_chunk().expect("a key is longer")
    }

    /// The record's number in its outbox.
    pub fn record(&self) -> u64 {
        u64::from_be_bytes(*self.0.last_chunk().expect("a key is longer"))
    }

    /// The key of another record of the same outbox.
    #[must_use]
    pub fn of_record(&self, record: u64) -> Self {
        let mut key = *self;
        key.0[Self::OUTBOX_LEN..].copy_from_slice(&record.to_be_bytes());
        key
    }
}

/// A message from a peer's outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableMessage<'a> {
    /// What the handler commits together with the effect.
    pub key: DedupKey,
    /// The sender's low-water mark: it is done with all records below this number, for good. Keys
    /// below may be forgotten if the mark is remembered (PROTOCOL 6.43).
    pub low: u64,
    /// The record.
    pub payload: &'a [u8],
}

impl<'a> DurableMessage<'a> {
    /// Splits a message that `sender` sent; `None` if it does not come from an outbox. Of a message
    /// in pieces the first is enough: the payload is then the beginning of the record.
    pub fn parse(sender: &PublicKey, message: &'a [u8]) -> Option<Self> {
        let rest = message.strip_prefix(&[VERSION])?;
        let (outbox, rest) = rest.split_first_chunk()?;
        let (record, len) = varint::read(rest)?;
        let rest = &rest[len..];
        let (unfinished, len) = varint::read(rest)?;
        let low = record.checked_sub(unfinished)?;
        let key = DedupKey::new(sender, OutboxId(*outbox), record);
        Some(Self { key, low, payload: &rest[len..] })
    }
}

/// Writes what comes before record `record` into the empty `out`.
pub(super) fn write_head(out: &mut Vec<u8>, outbox: OutboxId, record: u64, low: u64) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(&outbox.0);
    for number in [record, record - low] {
        let mut bytes = [0; 8];
        let len = varint::write(&mut bytes, number).expect("an outbox has fewer than 2^62 records");
        out.extend_from_slice(&bytes[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTBOX: OutboxId = OutboxId([7; 16]);

    // PROTOCOL 6.40
    #[test]
    fn message_is_split_into_what_it_was_made_of() {
        let sender = PublicKey::from_bytes([1; 32]);
        for (record, low) in [(0, 0), (63, 0), (64, 64), (1 << 20, 5), (1 << 40, 1 << 39)] {
            let mut message = Vec::new();
            write_head(&mut message, OUTBOX, record, low);
            message.extend_from_slice(b"payload");
            let key = DedupKey::new(&sender, OUTBOX, record);
            let split = DurableMessage { key, low, payload: b"payload" };
            assert_eq!(DurableMessage::parse(&sender, &message), Some(split));
            assert_eq!(
                (key.record(), key.of_record(3)),
                (record, DedupKey::new(&sender, OUTBOX, 3))
            );
            for len in 0..message.len() - 7 {
                assert_eq!(DurableMessage::parse(&sender, &message[..len]), None, "{len}");
            }
        }
    }

    // PROTOCOL 6.40
    #[test]
    fn what_is_not_from_an_outbox_is_no_durable_message() {
        let sender = PublicKey::from_bytes([1; 32]);
        let mut message = Vec::new();
        write_head(&mut message, OUTBOX, 1, 1);
        message[0] = 2;
        assert_eq!(DurableMessage::parse(&sender, &message), None, "another version");
        write_head(&mut message, OUTBOX, 1, 1);
        message[18] = 2; // A mark below zero.
        assert_eq!(DurableMessage::parse(&sender, &message), None);
    }

    // PROTOCOL 6.41
    #[test]
    fn keys_differ_by_sender_outbox_and_record_and_sort_by_record() {
        let [one, two] = [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]));
        let key = DedupKey::new(&one, OUTBOX, 255);
        assert_ne!(key.outbox(), DedupKey::new(&two, OUTBOX, 255).outbox());
        assert_ne!(key.outbox(), DedupKey::new(&one, OutboxId([8; 16]), 255).outbox());
        assert_eq!(key.outbox(), DedupKey::new(&one, OUTBOX, 256).outbox());
        assert!(key < DedupKey::new(&one, OUTBOX, 256));
    }
}
