//! Transport parameters: what each side tells the other once, inside the sealed handshake.
//!
//! A list of `type varint, length varint, value`, each value a varint. Types that a version does
//! not know are skipped, so later versions can add; a type that is missing has its default.

use crate::limits::{
    DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX, IDLE_TIMEOUT, LANES_MAX, TRANSACTIONS_DEFAULT,
    TRANSACTIONS_MAX,
};
use crate::protocol::wire::varint;

/// Bytes of parameters that we write at most: six of a type, a length and an 8-byte value.
pub const PARAMETERS_LEN_MAX: usize = 6 * 10;

/// What the sender of these is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Largest datagram that it receives, in bytes.
    pub datagram_len_max: u32,
    /// Transactions that the peer may have outstanding when the session opens.
    pub transactions: u32,
    /// Bytes that the peer may have outstanding when the session opens.
    pub receive_bytes: u64,
    /// How long it may hold an acknowledgement back, in microseconds.
    pub ack_delay_max_us: u32,
    /// It closes the session after this long without an authenticated packet, in milliseconds.
    pub idle_timeout_ms: u32,
    /// Sending lanes that it accepts.
    pub lanes: u16,
}

impl Default for Parameters {
    fn default() -> Self {
        let idle_timeout_ms = IDLE_TIMEOUT.as_micros() / 1_000;
        Self {
            datagram_len_max: u32::try_from(DATAGRAM_LEN_MAX).expect("below 2^16"),
            transactions: TRANSACTIONS_DEFAULT,
            receive_bytes: 16 << 20,
            ack_delay_max_us: 25_000,
            idle_timeout_ms: u32::try_from(idle_timeout_ms).expect("half a minute"),
            lanes: 1,
        }
    }
}

/// Parameters that do not parse, repeat a type, or are outside their bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParametersInvalid;

impl Parameters {
    /// Writes the list and returns its length.
    ///
    /// # Panics
    /// If `out` is shorter than [`PARAMETERS_LEN_MAX`].
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut end = 0;
        for (kind, value) in (1..).zip(self.values()) {
            let len = varint::len(value);
            for number in [kind, len as u64, value] {
                let written = varint::write(&mut out[end..], number);
                end += written.expect("room for the longest list, values below 2^62");
            }
        }
        end
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`ParametersInvalid`], also for values outside their bounds.
    pub fn read(mut list: &[u8]) -> Result<Self, ParametersInvalid> {
        let mut values = Self::default().values();
        let mut seen = 0_u8;
        while !list.is_empty() {
            let (kind, value) = take_entry(&mut list)?;
            let Some(place) = kind.checked_sub(1).and_then(|at| usize::try_from(at).ok()) else {
                continue;
            };
            let Some(slot) = values.get_mut(place) else { continue };
            if seen & 1 << place != 0 {
                return Err(ParametersInvalid);
            }
            seen |= 1 << place;
            *slot = match varint::read(value) {
                Some((number, len)) if len == value.len() => number,
                _ => return Err(ParametersInvalid),
            };
        }
        Self::from_values(values)
    }

    /// By rising type, from 1.
    fn values(&self) -> [u64; 6] {
        [
            self.datagram_len_max.into(),
            self.transactions.into(),
            self.receive_bytes.min(varint::MAX),
            self.ack_delay_max_us.into(),
            self.idle_timeout_ms.into(),
            self.lanes.into(),
        ]
    }

    fn from_values(values: [u64; 6]) -> Result<Self, ParametersInvalid> {
        let [datagram, transactions, receive_bytes, ack_delay, idle, lanes] = values;
        let within = |value: u64, low: u64, high: u64| {
            let value = Some(value).filter(|value| (low..=high).contains(value));
            value.and_then(|value| u32::try_from(value).ok()).ok_or(ParametersInvalid)
        };
        Ok(Self {
            // A peer may be ready for more than UDP carries; nothing follows from that.
            datagram_len_max: within(
                datagram.min(DATAGRAM_LEN_MAX as u64),
                DATAGRAM_LEN_BASE as u64,
                DATAGRAM_LEN_MAX as u64,
            )?,
            transactions: within(transactions.min(TRANSACTIONS_MAX.into()), 1, u64::MAX)?,
            receive_bytes,
            ack_delay_max_us: within(ack_delay, 0, 1_000_000)?,
            idle_timeout_ms: within(idle, 100, 86_400_000)?,
            lanes: u16::try_from(within(lanes.min(LANES_MAX.into()), 1, LANES_MAX.into())?)
                .expect("at most LANES_MAX"),
        })
    }
}

fn take_entry<'a>(list: &mut &'a [u8]) -> Result<(u64, &'a [u8]), ParametersInvalid> {
    let take = |list: &mut &'a [u8]| {
        let (number, len) = varint::read(list).ok_or(ParametersInvalid)?;
        *list = &list[len..];
        Ok(number)
    };
    let kind = take(list)?;
    let len = usize::try_from(take(list)?).map_err(|_| ParametersInvalid)?;
    let (value, rest) = list.split_at_checked(len).ok_or(ParametersInvalid)?;
    *list = rest;
    Ok((kind, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // PROTOCOL 3.14
    #[test]
    fn parameters_read_back_what_was_written() {
        let parameters = Parameters {
            datagram_len_max: 8_972,
            transactions: 65_536,
            receive_bytes: 1 << 40,
            ack_delay_max_us: 1_000,
            idle_timeout_ms: 600_000,
            lanes: 1,
        };
        let mut list = [0; PARAMETERS_LEN_MAX];
        let len = parameters.write(&mut list);
        assert_eq!(Parameters::read(&list[..len]), Ok(parameters));
        assert_eq!(Parameters::read(&[]), Ok(Parameters::default()));
    }

    // PROTOCOL 3.14
    #[test]
    fn unknown_types_are_skipped_and_nonsense_is_refused() {
        let unknown = [0x40, 0x99, 3, 1, 2, 3, 0, 0, 5, 2, 0x43, 0xe8];
        let read = Parameters::read(&unknown).expect("valid");
        assert_eq!(read, Parameters { idle_timeout_ms: 1_000, ..Parameters::default() });
        for (bad, why) in [
            (&[6, 1, 1, 6, 1, 1][..], "a type twice"),
            (&[6, 1, 0], "no lane at all"),
            (&[1, 2, 0x44, 0xaf], "datagrams below the base"),
            (&[6, 2, 1, 1], "bytes after the value"),
            (&[6, 9, 1], "a length beyond the end"),
            (&[6], "no length"),
            (&[0x40], "half a type"),
        ] {
            assert_eq!(Parameters::read(bad), Err(ParametersInvalid), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(list in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(parameters) = Parameters::read(&list) {
                let mut again = [0; PARAMETERS_LEN_MAX];
                let len = parameters.write(&mut again);
                prop_assert_eq!(Parameters::read(&again[..len]), Ok(parameters));
            }
        }
    }
}
