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

/// As [`append_with`], for up to `count` messages of `len` bytes each, of which `write` writes the
/// k-th. Returns how many had room, too.
#[inline]
pub fn append_row(
    body: &mut [u8],
    at: usize,
    len: usize,
    count: usize,
    mut write: impl FnMut(usize, &mut [u8]),
) -> (usize, usize) {
    let framed_len = framed_len(len);
    let count = count.min(body.len().saturating_sub(at) / framed_len);
    let end = at + count * framed_len;
    let places = body.get_mut(at..end).unwrap_or_default().chunks_exact_mut(framed_len);
    for (index, place) in places.enumerate() {
        let prefix_len = varint::write(place, len as u64).expect("there is room for it");
        write(index, &mut place[prefix_len..]);
    }
    (count, end)
}

/// As [`append_with`], for a message that exists.
#[inline]
pub fn append(body: &mut [u8], at: usize, message: &[u8]) -> Option<usize> {
    append_with(body, at, message.len(), |place| place.copy_from_slice(message))
}

/// How many messages a body has, at least one. The whole is checked, so that no message of a damaged
/// bundle is delivered.
///
/// # Errors
/// [`DropReason::BodyMalformed`] if there is no message, or the last one is cut short.
pub fn count(body: &[u8]) -> Result<u32, DropReason> {
    let (mut at, mut count) = (0, 0);
    // Each turn takes at least a byte of a body that a datagram bounds.
    while at < body.len() {
        let (len, prefix_len) = varint::read(&body[at..]).ok_or(DropReason::BodyMalformed)?;
        at += prefix_len + usize::try_from(len).map_err(|_| DropReason::BodyMalformed)?;
        count += 1;
    }
    if at == body.len() && count > 0 { Ok(count) } else { Err(DropReason::BodyMalformed) }
}

/// The messages of a body, in order, up to one that is cut short. A message may be empty.
pub fn messages(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    core::iter::from_fn(move || {
        let (message, after) = take(rest)?;
        rest = after;
        Some(message)
    })
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
        assert_eq!(count(&body[..end]), Ok(3));
        assert_eq!(messages(&body[..end]).collect::<Vec<_>>(), [&b"ab"[..], b"", &[7; 64]]);
        let (part, rest) = split(&body[..end], 2);
        assert_eq!((part, rest), (&[2, b'a', b'b', 0][..], &body[4..end]));
        assert_eq!(split(part, 0), (&[][..], part));
    }

    // PROTOCOL 2.16
    #[test]
    fn empty_or_cut_bundle_is_malformed() {
        assert_eq!(count(b""), Err(DropReason::BodyMalformed));
        let mut body = [0; 16];
        let end = append(&mut body, 0, b"hello").unwrap();
        let end = append(&mut body, end, b"world").unwrap();
        for cut in (1..end).filter(|&cut| cut != framed_len(5)) {
            assert_eq!(count(&body[..cut]), Err(DropReason::BodyMalformed));
        }
        assert_eq!(count(&[0xff; 8]), Err(DropReason::BodyMalformed));
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
        // A row is what its messages are one by one.
        #[test]
        fn row_is_its_messages_one_by_one(
            room in 0_usize..400, at in 0_usize..100, len in 0_usize..100, count in 0_usize..20,
        ) {
            let (mut row, mut single) = (vec![0xee; room], vec![0xee; room]);
            let write = |index: usize, place: &mut [u8]| place.fill(index.to_le_bytes()[0]);
            let (taken, end) = append_row(&mut row, at, len, count, write);
            let mut next = at;
            let fits = (0..count)
                .map_while(|index| {
                    next = append_with(&mut single, next, len, |place| write(index, place))?;
                    Some(next)
                })
                .count();
            prop_assert_eq!((taken, end, row), (fits, next, single));
        }

        #[test]
        fn messages_come_out_as_they_went_in(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..40),
        ) {
            let mut body = vec![0; sent.iter().map(|m| framed_len(m.len())).sum()];
            let mut at = 0;
            for message in &sent {
                at = append(&mut body, at, message).unwrap();
            }
            prop_assert_eq!(at, body.len());
            prop_assert_eq!(count(&body).unwrap() as usize, sent.len());
            prop_assert!(messages(&body).eq(sent.iter().map(Vec::as_slice)));
        }

        #[test]
        fn any_bytes_parse_to_messages_inside_them_or_not_at_all(body: Vec<u8>) {
            if let Ok(count) = count(&body) {
                prop_assert_eq!(messages(&body).count(), count as usize);
                let bytes: usize = messages(&body).map(<[u8]>::len).sum();
                prop_assert!(bytes < body.len());
            }
        }
    }
}
