//! CUBIC and NewReno under the same events: laws that both obey, and how they compare.

use super::*;

/// What happens in one round trip.
#[derive(Clone, Copy, Debug)]
enum Round {
    /// Everything in a full window arrives.
    Clean,
    /// One packet of each so many is lost, the first ones of the window.
    Lossy(usize),
    /// A queue marks one packet.
    Marked,
    /// The application sends a single packet.
    Limited,
    /// It sends nothing for so many milliseconds.
    Idle(u64),
    /// Nothing arrives for seconds, probes neither.
    Dead,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = prop_oneof![
        12 => Just(Round::Clean),
        3 => (2usize..20).prop_map(Round::Lossy),
        2 => Just(Round::Marked),
        2 => Just(Round::Limited),
        1 => (0u64..4_000).prop_map(Round::Idle),
        1 => Just(Round::Dead),
    ];
    prop::collection::vec(round, 1..60)
}

/// One controller in the whole packet plane, with a peer that counts marks.
struct Plane {
    fixture: Fixture,
    now: Instant,
    /// The part that a cut leaves, in tenths.
    beta: u64,
    /// Rounds in a row in which the application sent a single packet.
    limited: u64,
    ect0: u64,
    ce: u64,
}

/// What a round did, as seen from outside.
#[derive(Debug)]
struct Seen {
    before: u64,
    after: u64,
    acked: u64,
    cuts: u32,
    in_slow_start: bool,
}

impl Plane {
    fn new(congestion: CongestionConfig, beta: u64) -> Self {
        let fixture = Fixture::with(RecoveryConfig { congestion, ..config() });
        let mut plane = Self { fixture, now: at(0), beta, limited: 0, ect0: 0, ce: 0 };
        plane.round(Round::Clean);
        plane
    }

    /// Sends `count` packets at once, whatever the pacer says, and says which left marked.
    fn send(&mut self, count: u64) -> Vec<(u64, bool)> {
        (0..count)
            .map(|_| {
                let recovery = &mut self.fixture.recovery;
                let number = recovery.next_packet_number();
                let mark = recovery.on_sent(self.now, number, LEN, SentKind::Data, Some(number));
                (number, mark == Ecn::Ect0)
            })
            .collect()
    }

    /// Acknowledges packets a round trip later, half of them at a time.
    fn acknowledge(&mut self, arrived: &[(u64, bool)], mut marks_one: bool) {
        self.now += RTT;
        let mut received = ReceivedPackets::new(DELAY_MAX);
        for half in arrived.chunks(arrived.len().div_ceil(2).max(1)) {
            for &(number, is_marked) in half {
                received.on_received(self.now, number, Ecn::NotEct, true, false);
                let is_ce = is_marked && std::mem::take(&mut marks_one);
                self.ce += u64::from(is_ce);
                self.ect0 += u64::from(is_marked && !is_ce);
            }
            let marks = EcnCounts { lane: 0, ect0: self.ect0, ect1: 0, ce: self.ce };
            let marks = (marks != EcnCounts::default()).then_some(marks);
            let ranges: Vec<_> = received.ranges().map(Ok).collect();
            let Fixture { recovery, acked, lost, .. } = &mut self.fixture;
            let seen =
                recovery.on_ack(self.now, ranges.into_iter(), Duration::ZERO, marks, acked, lost);
            seen.expect("an honest peer");
        }
    }

    fn round(&mut self, round: Round) -> Seen {
        // What is sent in the turn of a cut belongs to the round before it.
        self.now += Duration::from_micros(1);
        let in_slow_start = self.fixture.recovery.congestion.in_slow_start();
        let before = self.fixture.window();
        let cuts = self.fixture.recovery.statistics().cuts;
        let acked = self.fixture.acked.len();
        // No more than a ring of sent packets holds by far.
        let full = (before / u64::from(LEN)).min(1_000);
        match round {
            Round::Clean => {
                let sent = self.send(full);
                self.acknowledge(&sent, false);
            }
            Round::Lossy(every) => {
                let mut sent = self.send(full.max(6));
                // The last ones arrive, so that what is missing is known to be in this round.
                let tail = sent.split_off(sent.len() - 4);
                let mut arrived: Vec<_> = sent
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| place % every != 0)
                    .map(|(_, sent)| *sent)
                    .collect();
                arrived.extend(tail);
                self.acknowledge(&arrived, false);
            }
            Round::Marked => {
                let sent = self.send(full);
                self.acknowledge(&sent, true);
            }
            Round::Limited => {
                let sent = self.send(1);
                self.acknowledge(&sent, false);
            }
            Round::Idle(millis) => {
                self.now += Duration::from_millis(millis);
                let sent = self.send(1);
                self.acknowledge(&sent, false);
            }
            Round::Dead => self.die(full),
        }
        self.limited = if matches!(round, Round::Limited) { self.limited + 1 } else { 0 };
        let after = self.fixture.window();
        let acked = (self.fixture.acked.len() - acked) as u64 * u64::from(LEN);
        let cuts = self.fixture.recovery.statistics().cuts - cuts;
        Seen { before, after, acked, cuts, in_slow_start }
    }

    /// Loses everything until probe time-outs are seconds long, then lets one probe through.
    fn die(&mut self, full: u64) {
        self.send(full);
        let start = self.now;
        let mut last = None;
        while self.now.saturating_since(start) < Duration::from_secs(8) {
            let due = self.fixture.recovery.next_timeout().expect("something is in flight");
            self.now = self.now.max(due);
            if let TimeoutOutcome::Probe(count) = self.fixture.timeout(self.now) {
                last = self.send(count.into()).pop();
            }
        }
        let last = last.expect("there were probes");
        self.acknowledge(&[last], false);
        // What went unheard besides is found lost in this round, not in the next.
        let sent = self.send(4);
        self.acknowledge(&sent, false);
    }
}

/// Checks a round against what every controller must obey.
fn check(plane: &Plane, round: Round, seen: &Seen) -> Result<(), TestCaseError> {
    let len = u64::from(LEN);
    prop_assert!(seen.after >= 2 * len, "{round:?} {seen:?}: below two datagrams");
    let is_dead = matches!(round, Round::Dead);
    prop_assert!(seen.cuts <= 1 || is_dead, "{round:?} {seen:?}: more than one cut a round");
    let grown = seen.after.saturating_sub(seen.before);
    if seen.in_slow_start {
        prop_assert!(grown <= seen.acked, "{round:?} {seen:?}: more than was acknowledged");
    } else {
        prop_assert!(grown <= seen.before / 2 + len, "{round:?} {seen:?}: half as much again");
    }
    match round {
        Round::Lossy(_) => prop_assert_eq!(seen.cuts, 1, "{:?}: {:?}", round, seen),
        Round::Clean => prop_assert_eq!(seen.cuts, 0, "{:?}: {:?}", round, seen),
        // One packet of a window is not evidence for a larger one; the round before may be.
        Round::Limited => {
            prop_assert!(plane.limited < 3 || seen.after <= seen.before, "{round:?} {seen:?}");
        }
        Round::Idle(millis) if millis > 1_000 => prop_assert!(seen.after <= 11 * len, "{seen:?}"),
        Round::Dead => prop_assert!(seen.after <= 3 * len, "{seen:?}: persistent congestion"),
        Round::Marked | Round::Idle(_) => {}
    }
    if seen.cuts == 1 && !is_dead {
        let left = (seen.before * plane.beta / 10).max(2 * len);
        // What was acknowledged before the cut let the window grow first.
        let most = ((seen.before + seen.acked) * plane.beta / 10).max(2 * len);
        prop_assert!((left - 1..=most + 1).contains(&seen.after), "{round:?} {seen:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // PROTOCOL 5.16, 5.17, 5.19, 5.21, 5.29 and 5.34
    #[test]
    fn cubic_and_new_reno_obey_the_same_laws_under_the_same_events(rounds in rounds()) {
        let mut planes = [
            Plane::new(CongestionConfig::Cubic, 7),
            Plane::new(CongestionConfig::NewReno, 5),
        ];
        for round in rounds {
            for plane in &mut planes {
                let seen = plane.round(round);
                check(plane, round, &seen)?;
            }
        }
    }

    // PROTOCOL 5.16 and 5.34: where the curve is slower than the old rule, CUBIC is as fast as that
    // (RFC 9438 4.3), with the average of NewReno's sawtooth and a flatter one of its own.
    #[test]
    fn cubic_carries_no_less_than_new_reno_where_losses_keep_windows_small(
        gaps in prop::collection::vec(3usize..40, 12..40),
    ) {
        let mut planes = [
            Plane::new(CongestionConfig::Cubic, 7),
            Plane::new(CongestionConfig::NewReno, 5),
        ];
        let mut carried = [0, 0];
        for (plane, carried) in planes.iter_mut().zip(&mut carried) {
            // Out of slow start before anything is compared.
            for _ in 0..4 {
                plane.round(Round::Lossy(20));
            }
            for &gap in &gaps {
                for _ in 0..gap {
                    *carried += plane.round(Round::Clean).acked;
                }
                *carried += plane.round(Round::Lossy(1_000)).acked;
            }
        }
        prop_assert!(carried[0] * 100 >= carried[1] * 95, "{carried:?}");
    }
}
