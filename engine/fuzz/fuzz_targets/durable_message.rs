//! Any message of a peer is from an outbox or not, and one that is says what it was made of.
//!
//! The input is the message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::PublicKey;
use raet::durable::{DedupKey, DurableMessage, OutboxId};
use raet::protocol::wire::varint;

/// Version and outbox.
const FIXED_LEN: usize = 1 + 16;

fuzz_target!(|data: &[u8]| {
    let sender = PublicKey::from_bytes([1; 32]);
    let message = DurableMessage::parse(&sender, data);
    // The naive twin: what the format says, field by field.
    let twin = || {
        let (fixed, rest) = data.split_at_checked(FIXED_LEN).filter(|(fixed, _)| fixed[0] == 1)?;
        let (record, len) = varint::read(rest)?;
        let (unfinished, more) = varint::read(&rest[len..])?;
        let outbox = OutboxId(fixed[1..].try_into().expect("16 bytes"));
        Some((outbox, record, unfinished, &rest[len + more..]))
    };
    match (message, twin()) {
        (Some(message), Some((outbox, record, unfinished, payload))) => {
            assert_eq!(message.key, DedupKey::new(&sender, outbox, record));
            assert_eq!((message.key.record(), message.low + unfinished), (record, record));
            assert_eq!(message.payload, payload);
        }
        (None, None) => {}
        (None, Some((_, record, unfinished, _))) => assert!(unfinished > record),
        (Some(message), None) => panic!("{message:?} of {data:?}"),
    }
});
