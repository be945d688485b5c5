//! The small numbers of a head: service, packet, authentication, body and tail kinds, and flags.
//!
//! Their values are fixed by PROTOCOL 2.10 to 2.15; variants stand in that order.

macro_rules! wire_kind {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)* }

        impl $name {
            /// Every kind, by rising number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind with this number on the wire, if this version has one.
            pub const fn from_wire(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number on the wire.
            pub const fn to_wire(self) -> u8 {
                self as u8
            }
        }
    };
}

wire_kind! {
    /// `sk`: what a message's sender is promised (PROTOCOL 2.10). A packet that is not a message
    /// leaves it at the default.
    ServiceKind {
        /// Sent once, perhaps lost.
        #[default]
        Maybe = 0,
        /// Sent n times; each arrival is delivered.
        Repeat = 1,
        /// Sent n times, delivered at most once.
        RepeatDedup = 2,
        /// Retried a finite number of times; duplicates are delivered.
        MoreOrLessOnce = 3,
        /// Retried a finite number of times, delivered at most once.
        AtMostOnce = 4,
        /// Retried until it is acknowledged, delivered once.
        ExactlyOnce = 5,
        /// As exactly once, and in order.
        Sequence = 6,
        /// Answered with a message of the same transaction.
        Request = 7,
    }
}

wire_kind! {
    /// `pk`: what the packet is for (PROTOCOL 2.11).
    PacketKind {
        /// Carries an application's message, a segment of one, or a bundle of several.
        #[default]
        Message = 0,
        /// Acknowledges, and carries any other control block.
        Ack = 1,
        /// Refuses.
        Nack = 2,
        /// Asks for what is missing.
        Resend = 3,
        /// Asks to be acknowledged.
        Probe = 4,
        /// Ends the session.
        Close = 5,
        /// Opens the bootstrap.
        Hello = 6,
        /// Answers a hello without keeping state.
        Cookie = 7,
        /// Proves the address and the key.
        Initiate = 8,
        /// Answers an initiate: accepted, pending, rejected or denied.
        Accept = 9,
        /// Tells a pending peer that it may try again.
        Notice = 10,
        /// Tells a peer that its session is unknown here.
        Reset = 11,
    }
}

wire_kind! {
    /// `nk`: what stands between head and body to authenticate the packet (PROTOCOL 2.12).
    AuthKind {
        /// Nothing.
        #[default]
        None = 0,
        /// Lane 2, generation 2, packet number 8, tag 16 bytes; the body is sealed.
        Aead = 1,
        /// The same block; the body is clear and authenticated.
        Gmac = 2,
        /// A signature.
        Ed25519 = 3,
        /// A MAC under a key derived from the receiver's public key.
        Mac1 = 4,
    }
}

wire_kind! {
    /// `bk`: what the body's bytes are (PROTOCOL 2.13).
    BodyKind {
        /// There is no body.
        #[default]
        None = 0,
        /// One JSON text.
        Json = 1,
        /// Bytes that only the application understands.
        Raw = 2,
        /// Several whole messages, see [`super::bundle`].
        Bundle = 3,
        /// Control blocks, see [`super::control`].
        Control = 4,
    }
}

wire_kind! {
    /// `tk`: what follows the body (PROTOCOL 2.14).
    TailKind {
        /// Nothing.
        #[default]
        None = 0,
        /// CRC-32C of everything before it.
        Crc32c = 1,
    }
}

impl AuthKind {
    /// Bytes of the block: the only value of `nl` that goes with this kind.
    #[expect(clippy::len_without_is_empty, reason = "a kind's fixed length, not a collection's")]
    pub const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Aead | Self::Gmac => 28,
            Self::Ed25519 => 64,
            Self::Mac1 => 16,
        }
    }
}

impl TailKind {
    /// Bytes of the tail: the only value of `tl` that goes with this kind.
    #[expect(clippy::len_without_is_empty, reason = "a kind's fixed length, not a collection's")]
    pub const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32c => 4,
        }
    }
}

/// `fg`: the packed flags (PROTOCOL 2.15). Reserved bits cannot be set in a value of this type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// `af`: all of it, again.
    pub const ALL_AGAIN: Self = Self(0x20);
    /// `pf`: more segments are pending.
    pub const PENDING: Self = Self(0x10);
    /// `bf`: one of a burst, do not acknowledge each.
    pub const BURST: Self = Self(0x04);
    /// `mf`: multicast.
    pub const MULTICAST: Self = Self(0x02);
    /// `cf`: sent by the corresponder, the transaction's responder.
    pub const CORRESPONDER: Self = Self(0x01);

    const DEFINED: u8 = 0x37;

    /// The flags in a byte from the wire; reserved bits are ignored.
    pub const fn from_wire(byte: u8) -> Self {
        Self(byte & Self::DEFINED)
    }

    /// The byte on the wire; reserved bits are 0.
    pub const fn to_wire(self) -> u8 {
        self.0
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags less those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL 2.10, 2.11, 2.12, 2.13, 2.14
    #[test]
    fn kinds_have_the_numbers_of_the_table_and_no_others() {
        fn check<K: Copy + PartialEq + core::fmt::Debug>(
            all: &[K],
            from: impl Fn(u64) -> Option<K>,
            to: impl Fn(K) -> u8,
        ) {
            for (number, &kind) in all.iter().enumerate() {
                assert_eq!(from(number as u64), Some(kind));
                assert_eq!(usize::from(to(kind)), number);
            }
            assert_eq!(from(all.len() as u64), None);
            assert_eq!(from(256), None);
            assert_eq!(from(u64::MAX), None);
        }
        check(ServiceKind::ALL, ServiceKind::from_wire, ServiceKind::to_wire);
        check(PacketKind::ALL, PacketKind::from_wire, PacketKind::to_wire);
        check(AuthKind::ALL, AuthKind::from_wire, AuthKind::to_wire);
        check(BodyKind::ALL, BodyKind::from_wire, BodyKind::to_wire);
        check(TailKind::ALL, TailKind::from_wire, TailKind::to_wire);
        assert_eq!(ServiceKind::ALL.len(), 8);
        assert_eq!(PacketKind::ALL.len(), 12);
        assert_eq!(AuthKind::ALL.iter().map(|k| k.len()).collect::<Vec<_>>(), [0, 28, 28, 64, 16]);
        assert_eq!(BodyKind::ALL.len(), 5);
        assert_eq!(TailKind::ALL.iter().map(|k| k.len()).collect::<Vec<_>>(), [0, 4]);
    }

    // PROTOCOL 2.15
    #[test]
    fn flags_have_their_bits_and_reserved_bits_are_ignored() {
        assert_eq!(Flags::from_wire(0xc8), Flags::NONE);
        assert_eq!(Flags::from_wire(0xff).to_wire(), 0x37);
        let flags = Flags::ALL_AGAIN.with(Flags::CORRESPONDER);
        assert_eq!(flags.to_wire(), 0b0010_0001);
        assert!(flags.contains(Flags::ALL_AGAIN) && !flags.contains(Flags::PENDING));
        assert!(!flags.contains(Flags::PENDING.with(Flags::ALL_AGAIN)));
        assert_eq!(flags.without(Flags::ALL_AGAIN), Flags::CORRESPONDER);
        assert_eq!(Flags::PENDING.to_wire(), 0x10);
        assert_eq!(Flags::BURST.to_wire(), 0x04);
        assert_eq!(Flags::MULTICAST.to_wire(), 0x02);
    }
}
