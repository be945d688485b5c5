//! Any bundle body reads to messages inside it or not at all, and they can be bundled again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::protocol::wire::bundle::{Bundle, append};

fuzz_target!(|data: &[u8]| {
    let Ok(bundle) = Bundle::parse(data) else { return };
    let mut body = vec![0; data.len()];
    let mut end = 0;
    for message in bundle.iter() {
        // Our lengths are the shortest, so what fitted once fits again.
        end = append(&mut body, end, message).expect("room");
    }
    let again = Bundle::parse(&body[..end]).expect("ours");
    assert_eq!(again.count(), bundle.count());
    assert!(again.iter().eq(bundle.iter()));
});
