//! Any bundle body reads to messages inside it or not at all, and they can be bundled again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::protocol::wire::bundle::{append, count, messages};

fuzz_target!(|data: &[u8]| {
    let Ok(found) = count(data) else { return };
    let mut body = vec![0; data.len()];
    let mut end = 0;
    for message in messages(data) {
        // Our lengths are the shortest, so what fitted once fits again.
        end = append(&mut body, end, message).expect("room");
    }
    assert_eq!(count(&body[..end]), Ok(found));
    assert!(messages(&body[..end]).eq(messages(data)));
});
