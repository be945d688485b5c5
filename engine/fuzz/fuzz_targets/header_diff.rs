//! Every way of reading a head says the same: the scanner, the JSON reader, prediction, and the
//! naive twin. The first byte decides whether the input is a datagram or the members of a head.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::protocol::drop_reason::DropReason;
use raet::protocol::wire::{HeadReader, Packet, split, split_any};

#[path = "../../src/protocol/wire/naive.rs"]
mod naive;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 {
        check(rest);
    } else {
        check(&head_of(rest));
    }
});

/// A datagram of these members after a right `hl`, so that the fuzzer need not keep it right.
fn head_of(members: &[u8]) -> Vec<u8> {
    let len = 17 + members.len();
    let mut datagram = format!("{{\"hl\":\"{len:03x}\",").into_bytes();
    datagram.extend(members);
    datagram.extend(b"}\r\n\r\n");
    datagram
}

fn check(datagram: &[u8]) {
    let packet = split(datagram);
    assert_eq!(outcome(packet), naive::read(datagram));
    assert_eq!(split_any(datagram), packet);
    let mut reader = HeadReader::new();
    assert_eq!(reader.split(datagram), packet);
    // Now predicted, if it was taken.
    assert_eq!(reader.split(datagram), packet);
}

fn outcome(packet: Result<Packet, DropReason>) -> Result<[u64; 20], &'static str> {
    packet.map(|packet| packet.head.values(packet.head_len())).map_err(DropReason::name)
}
