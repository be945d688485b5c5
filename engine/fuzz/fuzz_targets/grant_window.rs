//! Any order of grants and arrivals, at any times, leaves the window of grants within its bounds, and
//! what was learnt is forgotten in the end.
//!
//! The first three bytes are the most that is ever granted; then eight bytes are one step: what
//! happens, to which message, at which segment, how many bytes, and how long after the step before.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::limits::{GRANT_MEMORY, SEGMENTS_GRANTED_MIN};
use raet::protocol::transaction::{AssemblyKey, GrantWindow};
use raet::time::{Duration, Instant};

const STEPS_MAX: usize = 1_024;

fuzz_target!(|data: &[u8]| {
    let Some((&[low, middle, high], steps)) = data.split_first_chunk() else { return };
    let len_max = u32::from_le_bytes([low, middle, high, 1]) as usize;
    let mut window = GrantWindow::new(len_max);
    let mut now = Instant::ZERO;
    for step in steps.chunks_exact(8).take(STEPS_MAX) {
        let &[what, message, segment, len_low, len_high, time, scale, _] = step else {
            unreachable!("chunks of eight")
        };
        now += Duration::from_nanos(u64::from(time) << (scale % 48));
        let key = AssemblyKey { is_reply: message & 1 == 1, transaction: u64::from(message >> 1) };
        let len = usize::from(u16::from_le_bytes([len_low, len_high]));
        match what % 4 {
            0 => window.watch(now, key, segment.into(), len <= window.clear_len()),
            1 => window.on_over(key),
            _ => window.on_arrived(now, key, segment.into(), len),
        }
        let granted = window.len(now);
        assert!(granted <= len_max && granted >= len_max.min(SEGMENTS_GRANTED_MIN), "{granted}");
        assert!(window.clear_len() <= granted);
    }
    now += GRANT_MEMORY;
    assert!(window.wants_probe(now));
    now += GRANT_MEMORY;
    assert_eq!(window.len(now), len_max.min(SEGMENTS_GRANTED_MIN));
});
