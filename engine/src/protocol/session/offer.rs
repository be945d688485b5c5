//! What a node is willing to speak, and the one rule by which two nodes agree.
//!
//! An offer is a preference list. On the wire it is a set of bits: the initiator's travels in
//! Hello and Initiate, where transcript and cookie bind it; the responder's own order decides.
//! Nothing is ever chosen that both did not offer, and nothing is retried with less.

use crate::protocol::crypto::Suite;

/// How a session protects its packets; its number is its bit in an offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Mode {
    /// Head signed, body sealed.
    Sealed = 1,
    /// Head and body signed, body clear.
    Signed = 2,
    /// A checksum only: for networks where everybody is trusted. Guessing the session id is all
    /// that stands in an attacker's way.
    Plain = 4,
}

impl Mode {
    /// The mode of a number on the wire.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Sealed),
            2 => Some(Self::Signed),
            4 => Some(Self::Plain),
            _ => None,
        }
    }

    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// The only head kind of this version, JSON, as its bit in an offer.
pub(super) const HEADS_JSON: u16 = 1;

/// What one side would speak, as on the wire. Unknown bits are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OfferBits {
    /// Suites, one bit each.
    pub suites: u16,
    /// Modes, one bit each.
    pub modes: u16,
    /// Head kinds, one bit each.
    pub heads: u16,
}

/// What was agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The packet cipher.
    pub suite: Suite,
    /// How packets are protected.
    pub mode: Mode,
}

/// What two offers have nothing in common of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoneInCommon {
    /// Head kinds.
    Heads,
    /// Modes.
    Modes,
    /// Suites.
    Suites,
}

/// What a node would speak, best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    suites: Vec<Suite>,
    modes: Vec<Mode>,
}

impl Default for Offer {
    /// Every suite that this machine runs well, sealed only.
    fn default() -> Self {
        Self { suites: Suite::offered_by_this_machine().to_vec(), modes: vec![Mode::Sealed] }
    }
}

impl Offer {
    /// An offer of these, best first. A list without an entry can never be agreed on.
    pub fn new(suites: &[Suite], modes: &[Mode]) -> Self {
        Self { suites: suites.to_vec(), modes: modes.to_vec() }
    }

    /// The offer on the wire.
    pub fn bits(&self) -> OfferBits {
        OfferBits {
            suites: self.suites.iter().fold(0, |bits, suite| bits | suite.number()),
            modes: self.modes.iter().fold(0, |bits, mode| bits | mode.number()),
            heads: HEADS_JSON,
        }
    }

    /// The first of our own entries which they offer too (PROTOCOL 3.15).
    ///
    /// # Errors
    /// [`NoneInCommon`] with the first list of which there is no such entry.
    pub fn choose(&self, theirs: OfferBits) -> Result<Choice, NoneInCommon> {
        if theirs.heads & HEADS_JSON == 0 {
            return Err(NoneInCommon::Heads);
        }
        let suite = self.suites.iter().find(|suite| theirs.suites & suite.number() != 0);
        let mode = self.modes.iter().find(|mode| theirs.modes & mode.number() != 0);
        Ok(Choice {
            suite: *suite.ok_or(NoneInCommon::Suites)?,
            mode: *mode.ok_or(NoneInCommon::Modes)?,
        })
    }

    /// Whether we offered what was chosen.
    pub fn holds(&self, choice: Choice) -> bool {
        self.suites.contains(&choice.suite) && self.modes.contains(&choice.mode)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AES: Suite = Suite::Aes256Gcm;
    const CHACHA: Suite = Suite::ChaCha20Poly1305;

    // PROTOCOL 3.15
    #[test]
    fn responders_order_decides_among_what_both_offer() {
        let responder = Offer::new(&[AES, CHACHA], &[Mode::Sealed, Mode::Signed]);
        let initiator = Offer::new(&[CHACHA, AES], &[Mode::Signed]);
        let choice = responder.choose(initiator.bits()).expect("an intersection");
        assert_eq!(choice, Choice { suite: AES, mode: Mode::Signed });
        let old = Offer::new(&[CHACHA], &[Mode::Sealed]);
        assert_eq!(responder.choose(old.bits()).expect("an intersection").suite, CHACHA);
    }

    // PROTOCOL 3.15
    // PROTOCOL 3.16
    #[test]
    fn plain_is_chosen_only_if_both_operators_listed_it() {
        let plain = Offer::new(&[AES], &[Mode::Plain]);
        let sealed = Offer::default();
        assert_eq!(sealed.choose(plain.bits()), Err(NoneInCommon::Modes));
        assert_eq!(plain.choose(sealed.bits()), Err(NoneInCommon::Modes));
        assert_eq!(plain.choose(plain.bits()).expect("both listed it").mode, Mode::Plain);
    }

    proptest! {
        // PROTOCOL 3.15
        #[test]
        fn whatever_is_chosen_was_offered_by_both(suites: u16, modes: u16, heads: u16) {
            let ours = Offer::new(&[AES, CHACHA], &[Mode::Sealed, Mode::Signed, Mode::Plain]);
            let theirs = OfferBits { suites, modes, heads };
            match ours.choose(theirs) {
                Ok(choice) => {
                    prop_assert!(ours.holds(choice));
                    prop_assert!(suites & choice.suite.number() != 0);
                    prop_assert!(modes & choice.mode.number() != 0);
                    prop_assert!(heads & 1 != 0);
                }
                Err(NoneInCommon::Heads) => prop_assert_eq!(heads & 1, 0),
                Err(NoneInCommon::Modes) => prop_assert_eq!(modes & 7, 0),
                Err(NoneInCommon::Suites) => prop_assert_eq!(suites & 3, 0),
            }
        }
    }
}
