//! Why an arriving datagram was not used: what the network sends is never an error of ours.

/// The reason a datagram (or a part of one) was dropped. Each is a counter.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why an arriving packet was dropped; an index into [`DropCounters`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name used in reports, lower-case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// An acknowledgement of what was never sent, or a malformed one.
    AckInvalid = "ack_invalid",
    /// The tag did not verify.
    AuthenticationFailed = "authentication_failed",
    /// A control or bundle body that does not parse.
    BodyMalformed = "body_malformed",
    /// The cookie did not verify, was too old or already used.
    CookieInvalid = "cookie_invalid",
    /// A duplicate of a transaction that was already received.
    DuplicateTransaction = "duplicate_transaction",
    /// An empty datagram.
    Empty = "empty",
    /// A key generation outside previous, current and next.
    GenerationUnknown = "generation_unknown",
    /// A handshake packet whose contents do not parse or verify.
    HandshakeInvalid = "handshake_invalid",
    /// A handshake packet that nobody here waits for.
    HandshakeUnexpected = "handshake_unexpected",
    /// The head breaks a rule of the grammar.
    HeadMalformed = "head_malformed",
    /// No terminator within the bound, or not where `hl` says.
    HeadUnterminated = "head_unterminated",
    /// A body, authentication or tail kind other than the session's.
    KindMismatch = "kind_mismatch",
    /// A lane beyond the session's count.
    LaneUnknown = "lane_unknown",
    /// Lengths that do not add up to the datagram.
    LengthMismatch = "length_mismatch",
    /// The mac1 of a handshake packet did not verify.
    MacInvalid = "mac_invalid",
    /// A message of an ordered stream that came too early to be held back, or after the stream went
    /// on without it.
    OrderPassed = "order_passed",
    /// A message of a peer of which the application keeps a whole window of messages from before the
    /// peer restarted.
    ApplicationMemory = "application_memory",
    /// A budget for strangers was used up.
    OverBudget = "over_budget",
    /// The delivery queue was full; only kinds that promise nothing lose by it.
    QueueFull = "queue_full",
    /// A packet number seen before, or too old to tell.
    Replayed = "replayed",
    /// A segment of a message for which no memory is reserved, or a message before its turn for which
    /// there is none.
    SegmentMemory = "segment_memory",
    /// A session id that nobody here knows.
    SessionUnknown = "session_unknown",
    /// The tail checksum did not match.
    TailInvalid = "tail_invalid",
    /// A transaction beyond the credit that was granted, or one that contradicts itself.
    TransactionViolation = "transaction_violation",
    /// A kind or version this engine does not speak.
    Unsupported = "unsupported",
}

/// One counter a reason.
#[derive(Clone, Debug)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one drop.
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// How often `reason` was counted.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All drops.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds another's counts to these.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// Every reason with its count, in counter order.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut counters = DropCounters::default();
        let mut names = std::collections::HashSet::new();
        for &reason in DropReason::ALL {
            counters.count(reason);
            assert_eq!(counters.get(reason), 1);
            assert!(names.insert(reason.name()));
        }
        assert_eq!(counters.total(), DropReason::ALL.len() as u64);
    }
}
