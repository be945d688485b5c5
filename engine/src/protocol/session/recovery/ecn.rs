//! Marks in IP headers instead of losses (RFC 3168): whether this path's marks can be believed.
//!
//! A queue that fills up may mark a packet rather than drop it, if the packet says that its sender
//! looks at marks. But there are paths that take every mark away, that set one on everything, or
//! that drop whatever carries one. So the first packets are a test (RFC 9000 13.4.2 and A.4): they
//! leave marked, and the peer tells how many arrived with which mark. If that adds up, all further
//! packets are marked; if not, or if the tested packets are all lost, none ever is on this path.
//!
//! ```text
//!  Testing ──ten packets, or three time-outs──► Waiting ──counts add up──► Capable
//!     │                                            │                          │
//!     └──────────────── counts do not add up, or all lost, or all CE ─────────┴──► Off
//! ```

use crate::buffer::Ecn;
use crate::protocol::wire::control::EcnCounts;

/// Packets of the test (RFC 9000 A.4).
const TEST_PACKETS: u64 = 10;
/// Time-outs in a row after which a test ends with fewer: perhaps the marks are why (A.4).
const TEST_TIMEOUTS: u32 = 3;

/// What is known of marks on one path.
#[derive(Clone, Debug)]
pub(super) struct EcnPath {
    /// Whether there may be marks at all.
    is_enabled: bool,
    state: State,
    /// Packets that left marked, on this path and on those before.
    marked: u64,
    /// Of those, the ones of this path's test, and how many of them were taken for lost.
    tested: u64,
    lost: u64,
    /// What the peer counted so far, and what it had counted of the paths before.
    known: EcnCounts,
    former: EcnCounts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Marks arrive as they should: all packets are marked.
    Capable,
    /// They do not, or nobody reports them: no packet is marked.
    Off,
    /// Packets leave marked until there are enough.
    Testing,
    /// They left; until they are reported on, none is marked.
    Waiting,
}

impl EcnPath {
    /// A path not tested yet; one without marks if not `enabled`.
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            is_enabled: enabled,
            state: if enabled { State::Testing } else { State::Off },
            marked: 0,
            tested: 0,
            lost: 0,
            known: EcnCounts::default(),
            former: EcnCounts::default(),
        }
    }

    /// The path is another one: its test begins. From now on only packets that leave on it are
    /// told; the peer's counts go on.
    pub(super) fn on_path_changed(&mut self) {
        if self.is_enabled {
            self.state = State::Testing;
            (self.tested, self.lost, self.former) = (0, 0, self.known);
        }
    }

    /// The mark of a packet that leaves next. One that is not eliciting cannot test anything.
    pub(super) fn next_mark(&self, is_eliciting: bool) -> Ecn {
        match self.state {
            State::Capable => Ecn::Ect0,
            State::Testing if is_eliciting => Ecn::Ect0,
            _ => Ecn::NotEct,
        }
    }

    /// A packet leaves with the next mark, which is returned.
    pub(super) fn on_sent(&mut self, is_eliciting: bool) -> Ecn {
        let mark = self.next_mark(is_eliciting);
        if mark == Ecn::Ect0 {
            self.marked += 1;
            if self.state == State::Testing {
                self.tested += 1;
                if self.tested == TEST_PACKETS {
                    self.state = State::Waiting;
                }
            }
        }
        mark
    }

    /// A packet that left marked was taken for lost.
    pub(super) fn on_lost(&mut self) {
        self.lost += 1;
        if self.state == State::Waiting && self.lost >= self.tested {
            self.state = State::Off;
        }
    }

    /// Nothing was heard for `timeouts` probe time-outs in a row.
    pub(super) fn on_timeout(&mut self, timeouts: u32) {
        if self.state == State::Testing && self.tested > 0 && timeouts >= TEST_TIMEOUTS {
            self.state = State::Waiting;
        }
    }

    /// Takes the counts of an acknowledgement whose largest number is larger than all before, and
    /// which acknowledged `newly_marked` marked packets for the first time. Returns whether some
    /// queue says that it fills up.
    pub(super) fn on_report(&mut self, newly_marked: u64, counts: Option<EcnCounts>) -> bool {
        if self.state == State::Off {
            self.known = counts.unwrap_or(self.known); // For the path after this one.
            return false;
        }
        let Some(counts) = counts else {
            if newly_marked > 0 {
                self.state = State::Off;
            }
            return false;
        };
        let before = std::mem::replace(&mut self.known, counts);
        let rises = (counts.ect0.checked_sub(before.ect0), counts.ce.checked_sub(before.ce));
        let (Some(ect0_rise), Some(ce_rise)) = rises else {
            self.state = State::Off;
            return false;
        };
        let is_sound = ect0_rise + ce_rise >= newly_marked
            && counts.ect0 + counts.ce <= self.marked
            && counts.ect1 == 0;
        let is_first = self.tested == self.marked;
        if !is_first && newly_marked == 0 && self.state != State::Capable {
            self.former = counts; // It speaks of the paths before.
        }
        let has_ect0 = counts.ect0 > self.former.ect0;
        let is_all_ce = !has_ect0 && counts.ce >= self.former.ce + TEST_PACKETS;
        if !is_sound || is_all_ce {
            self.state = State::Off;
        } else if has_ect0 {
            self.state = State::Capable;
        }
        self.state == State::Capable && ce_rise > 0
    }

    /// Whether packets leave marked because the path was found to be sound.
    pub(super) fn is_capable(&self) -> bool {
        self.state == State::Capable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { lane: 0, ect0, ect1, ce })
    }

    /// A path whose test packets left and are not reported on.
    fn waiting() -> EcnPath {
        let mut path = EcnPath::new(true);
        for _ in 0..TEST_PACKETS {
            assert_eq!(path.on_sent(true), Ecn::Ect0);
        }
        path
    }

    fn capable() -> EcnPath {
        let mut path = waiting();
        assert!(!path.on_report(10, counts(10, 0, 0)) && path.is_capable());
        path
    }

    // PROTOCOL 5.26
    #[test]
    fn ten_packets_are_marked_then_none_until_they_are_reported_on_then_all() {
        let mut path = EcnPath::new(true);
        assert_eq!(path.on_sent(false), Ecn::NotEct, "nothing would tell what became of it");
        (0..10).for_each(|_| assert_eq!(path.on_sent(true), Ecn::Ect0));
        assert_eq!(path.on_sent(true), Ecn::NotEct);
        path.on_report(1, counts(1, 0, 0));
        assert_eq!((path.on_sent(true), path.on_sent(false)), (Ecn::Ect0, Ecn::Ect0));
    }

    // PROTOCOL 5.26
    #[test]
    fn session_without_packet_numbers_marks_nothing() {
        let mut path = EcnPath::new(false);
        assert_eq!(path.on_sent(true), Ecn::NotEct);
        path.on_report(0, counts(1, 0, 0));
        assert_eq!(path.on_sent(true), Ecn::NotEct);
    }

    // PROTOCOL 5.27
    #[test]
    fn counts_that_do_not_add_up_end_marking_for_good() {
        let table: [(&str, u64, Option<EcnCounts>); 6] = [
            ("no counts though marked packets were acknowledged", 10, None),
            ("fewer than were acknowledged", 10, counts(8, 0, 1)),
            ("more ECT(0) than were sent", 10, counts(11, 0, 0)),
            ("more of both than were sent", 10, counts(6, 0, 5)),
            ("ECT(1), which is never sent", 10, counts(10, 1, 0)),
            ("every one of ten marked CE", 10, counts(0, 0, 10)),
        ];
        for (case, newly_marked, counts) in table {
            let mut path = waiting();
            assert!(!path.on_report(newly_marked, counts), "{case}");
            assert_eq!((path.state, path.on_sent(true)), (State::Off, Ecn::NotEct), "{case}");
        }
        let mut path = capable();
        path.on_sent(true);
        path.on_report(0, counts(9, 0, 0));
        assert_eq!(path.state, State::Off, "a count went back");
        assert!(!path.on_report(0, counts(9, 0, 9)), "and what it says later is not heard");
    }

    // PROTOCOL 5.28
    #[test]
    fn path_that_drops_marked_packets_gets_no_more_of_them() {
        let mut path = waiting();
        (0..9).for_each(|_| path.on_lost());
        assert_eq!(path.state, State::Waiting);
        path.on_lost();
        assert_eq!(path.state, State::Off);

        // One request, and nobody answers: the third probe goes without a mark.
        let mut path = EcnPath::new(true);
        for timeouts in 1..=TEST_TIMEOUTS {
            assert_eq!(path.on_sent(true), Ecn::Ect0);
            path.on_timeout(timeouts);
        }
        assert_eq!(path.on_sent(true), Ecn::NotEct);
        (0..3).for_each(|_| path.on_lost());
        assert_eq!(path.state, State::Off);
    }

    // PROTOCOL 5.29
    #[test]
    fn risen_ce_count_is_congestion_once() {
        let mut path = capable();
        (0..5).for_each(|_| assert_eq!(path.on_sent(true), Ecn::Ect0));
        assert!(path.on_report(3, counts(12, 0, 1)));
        assert!(!path.on_report(2, counts(14, 0, 1)));
        assert!(path.is_capable());
    }

    // PROTOCOL 5.28
    #[test]
    fn ce_before_any_other_mark_is_not_believed() {
        let mut path = waiting();
        assert!(!path.on_report(3, counts(0, 0, 3)), "perhaps the path marks everything");
        assert!(path.on_report(3, counts(2, 0, 4)), "it does not");
    }

    // PROTOCOL 5.26 and 7.13
    #[test]
    fn another_path_is_tested_by_its_own_packets() {
        // From a path that keeps marks to one that takes them away.
        let mut path = capable();
        (0..3).for_each(|_| assert_eq!(path.on_sent(true), Ecn::Ect0));
        path.on_path_changed();
        (0..10).for_each(|_| assert_eq!(path.on_sent(true), Ecn::Ect0));
        assert_eq!(path.on_sent(true), Ecn::NotEct);
        path.on_report(0, counts(13, 0, 0)); // The three that left before.
        assert_eq!(path.state, State::Waiting, "they say nothing of this path");
        path.on_report(4, counts(13, 0, 0));
        assert_eq!(path.state, State::Off);
        // And back to one that keeps them.
        path.on_path_changed();
        (0..10).for_each(|_| assert_eq!(path.on_sent(true), Ecn::Ect0));
        path.on_report(1, counts(14, 0, 0));
        assert!(path.is_capable());
        // And to one that marks everything.
        path.on_path_changed();
        (0..10).for_each(|_| assert_eq!(path.on_sent(true), Ecn::Ect0));
        path.on_report(9, counts(14, 0, 9));
        path.on_report(1, counts(14, 0, 10));
        assert_eq!(path.state, State::Off);
        // A session without packet numbers has none to test.
        let mut path = EcnPath::new(false);
        path.on_path_changed();
        assert_eq!(path.on_sent(true), Ecn::NotEct);
    }

    proptest! {
        // PROTOCOL 5.27: whatever an honest path does to single packets, it stays believed.
        #[test]
        fn honest_counts_are_never_contradicted(
            fates in prop::collection::vec((0u8..4, any::<bool>()), 1..300),
        ) {
            let mut path = capable();
            let (mut ect0, mut ce, mut unreported) = (10, 0, 0);
            for (fate, reports) in fates {
                path.on_sent(true);
                match fate {
                    0 => path.on_lost(),
                    1 => (ce, unreported) = (ce + 1, unreported + 1),
                    _ => (ect0, unreported) = (ect0 + 1, unreported + 1),
                }
                if reports {
                    path.on_report(unreported, counts(ect0, 0, ce));
                    unreported = 0;
                }
                prop_assert!(path.is_capable());
            }
        }

        #[test]
        fn ecn_ops_never_panic(
            ops in prop::collection::vec((0u8..6, any::<u64>(), any::<u64>(), any::<u64>()), 0..200),
        ) {
            let mut path = EcnPath::new(true);
            for (op, a, b, c) in ops {
                // What a varint can say.
                let [a, b, c] = [a, b, c].map(|value| value >> (2 + value % 60));
                match op {
                    0 => drop(path.on_sent(a % 2 == 0)),
                    1 => path.on_lost(),
                    2 => path.on_timeout(u32::try_from(a % 9).expect("small")),
                    3 => drop(path.on_report(a, None)),
                    4 => path.on_path_changed(),
                    _ => drop(path.on_report(a % 8, counts(b, c % 2, a))),
                }
            }
        }
    }
}
