//! Bundles: several whole small messages in one body (PROTOCOL 2.16).
//!
//! A packet's cost hardly depends on its size, so a sender under load fills packets with what
//! waits. The body is `varint length, bytes`, again and again; the message at index k has the
//! transaction id `ti + k`.

use super::varint;
use crate::protocol::drop_reason::DropReason;

/// Bytes that a message of `message_len` bytes takes in a bundle.
pub const fn framed_len(message_len: usize) -> usize {
    varint::len(message_len as u64) + message_len
}

/// Makes place in `body` at `at` for a message of `len` bytes, has it written there, and returns
/// where the next one goes. `None`, with nothing written, if it does not fit.
#[inline]
pub fn append_with(
    body: &mut [u8],
    at: usize,
    len: usize,
    write: impl FnOnce(&mut [u8]),
) -> Option<usize> {
    let place = body.get_mut(at..at.checked_add(framed_len(len))?)?;
    let prefix_len = varint::write(place, len as u64)?;
    write(&mut place[prefix_len..]);
    Some(at + place.len())
}

/// As [`append_with`], for a message that exists.
#[inline]
pub fn append(body: &mut [u8], at: usize, message: &[u8]) -> Option<usize> {
    append_with(body, at, message.len(), |place| place.copy_from_slice(message))
}

/// A bundle body in which every message was found whole.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    body: &'a [u8],
    count: u32,
}

impl<'a> Bundle<'a> {
    /// Checks the whole body, so that no message of a damaged bundle is delivered.
    ///
    /// # Errors
    /// [`DropReason::BodyMalformed`] if there is no message, or the last one is cut short.
    pub fn parse(body: &'a [u8]) -> Result<Self, DropReason> {
        let mut rest = body;
        let mut count = 0;
        // Each turn takes at least a byte of a body that a datagram bounds.
        while !rest.is_empty() {
            let (_, after) = take(rest).ok_or(DropReason::BodyMalformed)?;
            rest = after;
            count += 1;
        }
        if count == 0 { Err(DropReason::BodyMalformed) } else { Ok(Self { body, count }) }
    }

    /// How many messages there are, at least one.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The messages in order. A message may be empty.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.body;
        core::iter::from_fn(move || {
            let (message, after) = take(rest)?;
            rest = after;
            Some(message)
        })
    }
}

/// The first `count` messages of a bundle, which has as many, and the others.
///
/// # Panics
/// If it has not.
pub fn split(body: &[u8], count: u32) -> (&[u8], &[u8]) {
    let mut rest = body;
    for _ in 0..count {
        rest = take(rest).expect("it has as many").1;
    }
    body.split_at(body.len() - rest.len())
}

/// The first message and what follows it.
#[inline]
fn take(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, prefix_len) = varint::read(body)?;
    body[prefix_len..].split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // PROTOCOL 2.16
    #[test]
    fn bundle_layout_is_length_then_bytes() {
        let mut body = [0xee; 80];
        let end = append(&mut body, 0, b"ab").unwrap();
        let end = append(&mut body, end, b"").unwrap();
        let end = append(&mut body, end, &[7; 64]).unwrap();
        assert_eq!(body[..6], [2, b'a', b'b', 0, 0x40, 64]);
        assert_eq!(end, framed_len(2) + framed_len(0) + framed_len(64));
        let bundle = Bundle::parse(&body[..end]).unwrap();
        assert_eq!(bundle.count(), 3);
        assert_eq!(bundle.iter().collect::<Vec<_>>(), [&b"ab"[..], b"", &[7; 64]]);
        let (part, rest) = split(&body[..end], 2);
        assert_eq!((part, rest), (&[2, b'a', b'b', 0][..], &body[4..end]));
        assert_eq!(split(part, 0), (&[][..], part));
    }

    // PROTOCOL 2.16
    #[test]
    fn empty_or_cut_bundle_is_malformed() {
        assert_eq!(Bundle::parse(b"").unwrap_err(), DropReason::BodyMalformed);
        let mut body = [0; 16];
        let end = append(&mut body, 0, b"hello").unwrap();
        let end = append(&mut body, end, b"world").unwrap();
        for cut in (1..end).filter(|&cut| cut != framed_len(5)) {
            assert_eq!(Bundle::parse(&body[..cut]).unwrap_err(), DropReason::BodyMalformed);
        }
        assert_eq!(Bundle::parse(&[0xff; 8]).unwrap_err(), DropReason::BodyMalformed);
    }

    #[test]
    fn message_that_does_not_fit_leaves_the_body_untouched() {
        let mut body = [0xee; 4];
        assert_eq!(append(&mut body, 0, b"four"), None);
        assert_eq!(append(&mut body, 9, b""), None);
        assert_eq!(append(&mut body, usize::MAX, b"x"), None);
        assert_eq!(body, [0xee; 4]);
        assert_eq!(append(&mut body, 0, b"one"), Some(4));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..40),
        ) {
            let mut body = vec![0; messages.iter().map(|m| framed_len(m.len())).sum()];
            let mut at = 0;
            for message in &messages {
                at = append(&mut body, at, message).unwrap();
            }
            prop_assert_eq!(at, body.len());
            let bundle = Bundle::parse(&body).unwrap();
            prop_assert_eq!(bundle.count() as usize, messages.len());
            prop_assert!(bundle.iter().eq(messages.iter().map(Vec::as_slice)));
        }

        #[test]
        fn any_bytes_parse_to_messages_inside_them_or_not_at_all(body: Vec<u8>) {
            if let Ok(bundle) = Bundle::parse(&body) {
                prop_assert_eq!(bundle.iter().count(), bundle.count() as usize);
                let bytes: usize = bundle.iter().map(<[u8]>::len).sum();
                prop_assert!(bytes < body.len());
            }
        }
    }
}
