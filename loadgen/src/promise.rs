//! What each service level promised, held against what happened.
//!
//! The two columns compared are independent: the sender's outcomes, and the responder's own
//! count of what its handler was given. Rules are those of the service table (PROTOCOL 6.1) and
//! the invariants named beside them.

use crate::names::ServiceName;
use crate::order::OrderCounts;

/// How the sends ended that the engine accepted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Outcomes {
    /// The peer's application has them.
    pub(crate) delivered: u64,
    /// Nobody knows.
    pub(crate) indeterminate: u64,
    /// Never left.
    pub(crate) not_sent: u64,
    /// The peer's application refused them.
    pub(crate) refused: u64,
    /// Answered.
    pub(crate) replied: u64,
    /// Left, and no more is known by the service's nature.
    pub(crate) sent: u64,
}

impl Outcomes {
    /// All that ended.
    pub(crate) fn resolved(&self) -> u64 {
        self.delivered
            + self.indeterminate
            + self.not_sent
            + self.refused
            + self.replied
            + self.sent
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.indeterminate += other.indeterminate;
        self.not_sent += other.not_sent;
        self.refused += other.refused;
        self.replied += other.replied;
        self.sent += other.sent;
    }
}

/// A workload in the numbers that its promise is about; warm-up included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    /// The service level.
    pub(crate) service: ServiceName,
    /// Messages the engine accepted.
    pub(crate) sent: u64,
    /// How they ended.
    pub(crate) outcomes: Outcomes,
    /// Different messages that the responder was given; `None` if it did not live to say.
    pub(crate) delivered: Option<u64>,
    /// Repeated deliveries.
    pub(crate) duplicates: u64,
    /// Deliveries too late to be told new from repeated.
    pub(crate) stale: u64,
    /// Most deliveries of one message.
    pub(crate) copies_max: u8,
    /// Copies that the configuration allows.
    pub(crate) copies_allowed: u8,
    /// Different replies that the initiator was given.
    pub(crate) replies: u64,
    /// Replies given to the initiator twice.
    pub(crate) reply_duplicates: u64,
    /// Whether both sides' content hashes agree, if they can be compared.
    pub(crate) content_hash_match: Option<bool>,
    /// How its ordered streams came.
    pub(crate) order: OrderCounts,
    /// Whether they may have gaps.
    pub(crate) may_gap: bool,
}

impl Account {
    /// What was promised and did not hold, a sentence each; empty if all held.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut expect = |holds: bool, sentence: &dyn Fn() -> String| {
            if !holds {
                broken.push(sentence());
            }
        };
        let outcomes = &self.outcomes;
        expect(outcomes.resolved() == self.sent, &|| {
            let missing = self.sent.abs_diff(outcomes.resolved());
            format!("{missing} sends have no outcome, or more than one (I23)")
        });
        expect(self.content_hash_match != Some(false), &|| {
            "the content that arrived is not the content that was sent".to_owned()
        });
        let Some(delivered) = self.delivered else {
            broken.push("the responder did not give its verdict".to_owned());
            return broken;
        };
        expect(delivered <= self.sent, &|| {
            format!("{delivered} different messages arrived of {} sent", self.sent)
        });

        let dedup = !matches!(self.service, ServiceName::Repeat | ServiceName::MoreOrLessOnce);
        if dedup {
            expect(self.duplicates == 0, &|| {
                format!("{} messages were delivered again (I1, I4, I6, I15)", self.duplicates)
            });
        } else {
            expect(self.copies_max <= self.copies_allowed, &|| {
                format!(
                    "a message was delivered {} times where {} are allowed (I3)",
                    self.copies_max, self.copies_allowed
                )
            });
        }

        let acknowledged = outcomes.delivered + outcomes.replied;
        match self.service {
            ServiceName::Maybe | ServiceName::Repeat | ServiceName::RepeatDedup => {}
            ServiceName::Sequence if self.may_gap => {
                expect(delivered >= acknowledged, &|| {
                    format!("{acknowledged} were acknowledged, {delivered} arrived (I7)")
                });
            }
            ServiceName::MoreOrLessOnce | ServiceName::AtMostOnce => {
                expect(delivered >= acknowledged, &|| {
                    format!("{acknowledged} were acknowledged, {delivered} arrived (I5, I7)")
                });
            }
            ServiceName::ExactlyOnce | ServiceName::Request | ServiceName::Sequence => {
                let expected = self.sent - outcomes.refused.min(self.sent);
                expect(delivered == expected, &|| {
                    format!("{delivered} of {expected} messages arrived (I9)")
                });
                expect(acknowledged == expected, &|| {
                    format!("{acknowledged} of {expected} messages were acknowledged (I9)")
                });
            }
        }
        let order = &self.order;
        expect(order.misplaced == 0, &|| {
            format!("{} messages of streams came out of their order (I10)", order.misplaced)
        });
        expect(order.missing == 0, &|| {
            format!("{} messages of streams were passed over without a word (I10)", order.missing)
        });
        expect(order.told == 0 || self.may_gap, &|| {
            format!("streams without gaps have {} (I11)", order.told)
        });
        let is_lossy = self.service == ServiceName::Sequence && self.may_gap;
        if self.service == ServiceName::AtMostOnce || is_lossy {
            let possible = acknowledged + outcomes.indeterminate;
            expect(delivered <= possible, &|| {
                format!("{delivered} arrived, of which at most {possible} may have (I8)")
            });
        }
        if !matches!(
            self.service,
            ServiceName::Maybe | ServiceName::Repeat | ServiceName::RepeatDedup
        ) {
            expect(self.stale == 0, &|| {
                format!("{} messages arrived too late to be judged", self.stale)
            });
        }
        if self.service == ServiceName::Request {
            expect(self.replies == outcomes.replied, &|| {
                format!("{} replies came to {} requests", self.replies, outcomes.replied)
            });
            expect(self.reply_duplicates == 0, &|| {
                format!("{} replies came twice (I15)", self.reply_duplicates)
            });
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(service: ServiceName) -> Account {
        let outcomes = match service {
            ServiceName::Request => Outcomes { replied: 100, ..Outcomes::default() },
            ServiceName::Maybe | ServiceName::Repeat | ServiceName::RepeatDedup => {
                Outcomes { sent: 100, ..Outcomes::default() }
            }
            _ => Outcomes { delivered: 100, ..Outcomes::default() },
        };
        Account {
            service,
            sent: 100,
            outcomes,
            delivered: Some(100),
            duplicates: 0,
            stale: 0,
            copies_max: 1,
            copies_allowed: 3,
            replies: if service == ServiceName::Request { 100 } else { 0 },
            reply_duplicates: 0,
            content_hash_match: None,
            order: OrderCounts::default(),
            may_gap: false,
        }
    }

    const ALL: [ServiceName; 8] = [
        ServiceName::Maybe,
        ServiceName::Repeat,
        ServiceName::RepeatDedup,
        ServiceName::MoreOrLessOnce,
        ServiceName::AtMostOnce,
        ServiceName::ExactlyOnce,
        ServiceName::Request,
        ServiceName::Sequence,
    ];

    #[test]
    fn a_perfect_run_keeps_every_promise() {
        for service in ALL {
            assert_eq!(whole(service).broken(), Vec::<String>::new(), "{service:?}");
        }
    }

    #[test]
    fn loss_breaks_only_what_promises_delivery() {
        for service in ALL {
            let account = Account { delivered: Some(99), ..whole(service) };
            let allowed = [ServiceName::Maybe, ServiceName::Repeat, ServiceName::RepeatDedup];
            assert_eq!(account.broken().is_empty(), allowed.contains(&service), "{service:?}");
        }
    }

    #[test]
    fn a_second_delivery_breaks_only_what_promises_at_most_one() {
        for service in ALL {
            let account = Account { duplicates: 1, copies_max: 2, ..whole(service) };
            let allowed = [ServiceName::Repeat, ServiceName::MoreOrLessOnce];
            assert_eq!(account.broken().is_empty(), allowed.contains(&service), "{service:?}");
            let many = Account { duplicates: 3, copies_max: 4, ..whole(service) };
            assert!(!many.broken().is_empty(), "{service:?}");
        }
    }

    #[test]
    fn a_missing_outcome_other_content_and_a_missing_verdict_break_every_promise() {
        for service in ALL {
            assert!(!Account { delivered: None, ..whole(service) }.broken().is_empty());
            let hash = Account { content_hash_match: Some(false), ..whole(service) };
            assert!(!hash.broken().is_empty());
            let mut unresolved = whole(service);
            unresolved.outcomes.delivered = 0;
            unresolved.outcomes.replied = 0;
            unresolved.outcomes.sent = 0;
            assert!(!unresolved.broken().is_empty());
        }
    }

    #[test]
    fn indeterminate_is_allowed_to_at_most_once_and_not_to_exactly_once() {
        let outcomes = Outcomes { delivered: 98, indeterminate: 2, ..Outcomes::default() };
        let account = |service| Account { outcomes, delivered: Some(99), ..whole(service) };
        assert!(account(ServiceName::AtMostOnce).broken().is_empty());
        assert!(!account(ServiceName::ExactlyOnce).broken().is_empty());
        let beyond = Account { delivered: Some(97), ..account(ServiceName::AtMostOnce) };
        assert!(!beyond.broken().is_empty());
    }

    #[test]
    fn streams_keep_their_order_and_only_lossy_ones_gap_with_a_word() {
        let lossy = Account {
            may_gap: true,
            delivered: Some(97),
            outcomes: Outcomes {
                delivered: 96,
                refused: 2,
                indeterminate: 2,
                ..Outcomes::default()
            },
            order: OrderCounts { told: 3, ..OrderCounts::default() },
            ..whole(ServiceName::Sequence)
        };
        assert_eq!(lossy.broken(), Vec::<String>::new());
        assert!(!Account { may_gap: false, ..lossy }.broken().is_empty());
        for may_gap in [false, true] {
            let account = Account { may_gap, ..whole(ServiceName::Sequence) };
            for order in [
                OrderCounts { misplaced: 1, ..OrderCounts::default() },
                OrderCounts { missing: 1, ..OrderCounts::default() },
            ] {
                assert!(!Account { order, ..account }.broken().is_empty());
            }
        }
    }

    #[test]
    fn replies_are_one_a_request() {
        let lost = Account { replies: 99, ..whole(ServiceName::Request) };
        assert!(!lost.broken().is_empty());
        let twice = Account { reply_duplicates: 1, ..whole(ServiceName::Request) };
        assert!(!twice.broken().is_empty());
    }
}
