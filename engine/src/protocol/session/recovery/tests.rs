//! The packet plane as a whole: scripts against its rules, and a session over a lossy path.

mod laws;
mod marks;
mod path;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LEN: u32 = 1_200;
const RTT: Duration = Duration::from_millis(40);
const DELAY_MAX: Duration = Duration::from_millis(25);

fn config() -> RecoveryConfig {
    RecoveryConfig {
        congestion: CongestionConfig::Cubic,
        ack_delay_max: DELAY_MAX,
        initial_rtt: Duration::from_millis(333),
        datagram_len: DatagramLen::Fixed(LEN as usize),
        granularity: crate::limits::GRANULARITY,
        ecn: true,
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
}

/// A packet plane, with what it handed back. Contents are packet numbers.
struct Fixture {
    recovery: Recovery<u64>,
    /// Every number that was sent.
    sent: BTreeSet<u64>,
    acked: Vec<u64>,
    lost: Vec<u64>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: RecoveryConfig) -> Self {
        Self {
            recovery: Recovery::new(config, 42),
            sent: BTreeSet::new(),
            acked: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// A fixture with one sample of [`RTT`], at the time 0 ms.
    fn measured() -> Self {
        let mut fixture = Self::new();
        let sent = at(0) - RTT;
        let number = fixture.send(sent);
        fixture.ack(at(0), &[number..=number]);
        fixture.acked.clear();
        fixture
    }

    fn send(&mut self, now: Instant) -> u64 {
        self.send_as(now, SentKind::Data, LEN)
    }

    fn send_as(&mut self, now: Instant, kind: SentKind, bytes: u32) -> u64 {
        let number = self.recovery.next_packet_number();
        self.recovery.on_sent(now, number, bytes, kind, Some(number));
        self.sent.insert(number);
        number
    }

    /// Numbers of `count` packets sent at once.
    fn burst(&mut self, now: Instant, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.send(now)).collect()
    }

    fn try_ack(
        &mut self,
        now: Instant,
        ranges: &[RangeInclusive<u64>],
    ) -> Result<AckOutcome, DropReason> {
        self.recovery.on_ack(
            now,
            ranges.iter().cloned().map(Ok),
            Duration::ZERO,
            None,
            &mut self.acked,
            &mut self.lost,
        )
    }

    /// Acknowledges those numbers in `ranges` that were sent, as an honest peer would.
    fn ack(&mut self, now: Instant, ranges: &[RangeInclusive<u64>]) -> AckOutcome {
        let mut received = ReceivedPackets::new(DELAY_MAX);
        for number in ranges.iter().flat_map(|range| self.sent.range(range.clone())) {
            received.on_received(now, *number, Ecn::NotEct, true, false);
        }
        let ranges: Vec<_> = received.ranges().collect();
        self.try_ack(now, &ranges).expect("an honest acknowledgement")
    }

    fn timeout(&mut self, now: Instant) -> TimeoutOutcome {
        self.recovery.on_timeout(now, &mut self.lost)
    }

    fn window(&self) -> u64 {
        self.recovery.statistics().window
    }
}

fn one(number: u64) -> RangeInclusive<u64> {
    number..=number
}

// PROTOCOL 5.7
#[test]
fn content_is_handed_back_once_acked_and_the_packet_is_settled() {
    let mut fixture = Fixture::new();
    let sent = fixture.burst(at(0), 3);
    let outcome = fixture.ack(at(40), &[0..=sent[2]]);
    assert_eq!((outcome.packets_acked, fixture.acked.as_slice()), (3, sent.as_slice()));
    assert_eq!(fixture.ack(at(41), &[0..=sent[2]]), AckOutcome::default());
    assert_eq!(fixture.acked.len(), 3);
    assert_eq!(fixture.recovery.in_flight_bytes(), 0);
    assert_eq!(fixture.recovery.lowest_unacked(), sent[2] + 1);
    assert_eq!(fixture.recovery.next_timeout(), None);
}

// PROTOCOL 5.4
#[test]
fn pure_acknowledgement_fills_no_window_and_starts_no_timer() {
    let mut fixture = Fixture::new();
    let before = fixture.recovery.window_available(at(0));
    let number = fixture.send_as(at(0), SentKind::AckOnly, 80);
    assert_eq!(fixture.recovery.window_available(at(0)), before);
    assert_eq!(fixture.recovery.next_timeout(), None);
    assert_eq!(fixture.ack(at(1), &[one(number)]), AckOutcome::default());
    assert!(fixture.acked.is_empty());
}

// PROTOCOL 5.6
#[test]
fn acknowledgement_of_what_was_never_sent_is_a_violation() {
    let table: [&[RangeInclusive<u64>]; 8] = [
        &[0..=5],
        &[5..=5],
        &[u64::MAX..=u64::MAX],
        #[expect(clippy::reversed_empty_ranges, reason = "what a hostile peer might say")]
        &[3..=2],
        &[3..=4, 2..=2],
        &[3..=4, 3..=3],
        &[1..=1, 3..=4],
        &[2..=4, 0..=u64::MAX],
    ];
    for ranges in table {
        let mut fixture = Fixture::new();
        fixture.burst(at(0), 5);
        assert_eq!(fixture.try_ack(at(9), ranges), Err(DropReason::AckInvalid), "{ranges:?}");
    }
}

// PROTOCOL 5.6
#[test]
fn more_ranges_than_the_bound_are_a_violation_and_decoder_errors_pass_through() {
    let mut fixture = Fixture::new();
    let last = *fixture.burst(at(0), 200).last().expect("200 sent");
    let ranges: Vec<_> = (0..=64).map(|index| one(last - 2 * index)).collect();
    let caught = fixture.try_ack(at(9), &ranges);
    assert_eq!(caught, Err(DropReason::AckInvalid));

    let mut fixture = Fixture::new();
    fixture.burst(at(0), 2);
    let broken = [Ok(1..=1), Err(DropReason::BodyMalformed)].into_iter();
    let outcome = fixture.recovery.on_ack(
        at(9),
        broken,
        Duration::ZERO,
        None,
        &mut Vec::new(),
        &mut Vec::new(),
    );
    assert_eq!(outcome, Err(DropReason::BodyMalformed));
}

// PROTOCOL 5.6, 5.2: the optimistic acknowledgement of TRANSPORT 1.3 row 24. The peer
// acknowledges everything that it can have seen sent, received or not.
#[test]
fn optimistic_acknowledgement_is_caught_within_a_few_windows() {
    for seed in 0..200 {
        let mut fixture = Fixture::new();
        fixture.recovery = Recovery::new(config(), seed);
        let (mut sent, mut now) = (0u64, at(0));
        let caught = (0..20).any(|_| {
            let window = fixture.recovery.window_available(now) / u64::from(LEN);
            let mut last = 0;
            for _ in 0..window {
                last = fixture.send(now);
                sent += 1;
            }
            now += RTT;
            fixture.try_ack(now, &[0..=last]) == Err(DropReason::AckInvalid)
        });
        assert!(caught && sent < 200, "seed {seed}: {sent} packets");
    }
}

// PROTOCOL 5.8
#[test]
fn only_the_largest_newly_acked_packet_is_measured() {
    let mut fixture = Fixture::new();
    let first = fixture.send(at(0));
    let second = fixture.send(at(10));
    fixture.ack(at(50), &[one(second)]);
    assert_eq!(fixture.recovery.rtt().latest(), Duration::from_millis(40));
    fixture.ack(at(55), &[first..=second]);
    assert_eq!(fixture.recovery.rtt().latest(), Duration::from_millis(40), "the largest is old");
    let data = fixture.send(at(60));
    let pure = fixture.send_as(at(61), SentKind::AckOnly, 80);
    fixture.ack(at(70), &[data..=pure]);
    assert_eq!(fixture.recovery.rtt().latest(), Duration::from_millis(40), "not eliciting");
}

// PROTOCOL 5.8
#[test]
fn overstated_ack_delay_is_limited_to_what_the_peer_promised() {
    let mut fixture = Fixture::measured();
    let number = fixture.send(at(100));
    let ranges = [Ok(one(number))].into_iter();
    let hour = Duration::from_secs(3_600);
    let (acked, lost) = (&mut Vec::new(), &mut Vec::new());
    fixture.recovery.on_ack(at(200), ranges, hour, None, acked, lost).expect("honest ranges");
    // 40 ms * 7/8 + (100 - 25) ms / 8
    assert_eq!(fixture.recovery.rtt().smoothed(), Duration::from_micros(44_375));
}

// PROTOCOL 5.11
#[test]
fn third_packet_after_it_makes_a_packet_lost() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 4);
    assert_eq!(fixture.ack(at(40), &[sent[1]..=sent[2]]).packets_lost, 0);
    assert_eq!(fixture.ack(at(40), &[sent[1]..=sent[3]]).packets_lost, 1);
    assert_eq!(fixture.lost, [sent[0]]);
    assert_eq!(fixture.recovery.in_flight_bytes(), 0);
}

// PROTOCOL 5.11: a number left out is no packet.
#[test]
fn hole_in_the_numbers_does_not_bring_a_loss_forward() {
    let mut fixture = Fixture::measured();
    let mut last = 0;
    loop {
        let number = fixture.send(at(0));
        if last > 0 && number - last == 2 {
            break;
        }
        last = number;
    }
    // last and the one after the hole; one more makes two packets after `last`.
    let end = fixture.send(at(0));
    fixture.ack(at(40), &[last + 2..=end, 0..=last - 1]);
    assert!(fixture.lost.is_empty(), "three numbers, but only two packets");
    let end = fixture.send(at(40));
    fixture.ack(at(41), &[last + 2..=end, 0..=last - 1]);
    assert_eq!(fixture.lost, [last]);
}

// PROTOCOL 5.12
#[test]
fn packet_that_is_late_by_an_eighth_of_a_round_trip_is_lost() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 2);
    fixture.ack(at(40), &[one(sent[1])]);
    assert_eq!(fixture.recovery.next_timeout(), Some(at(45)));
    assert_eq!(fixture.timeout(at(44)), TimeoutOutcome::None);
    assert_eq!(fixture.timeout(at(45)), TimeoutOutcome::Lost);
    assert_eq!(fixture.lost, [sent[0]]);
}

// PROTOCOL 5.12
#[test]
fn granularity_bounds_the_loss_delay_on_short_paths() {
    let mut fixture = Fixture::new();
    let micros = |micros| at(0) + Duration::from_micros(micros);
    let sent = [fixture.send(micros(0)), fixture.send(micros(0))];
    fixture.ack(micros(20), &[one(sent[1])]);
    assert_eq!(fixture.recovery.next_timeout(), Some(micros(100)));
}

// PROTOCOL 5.13
#[test]
fn silence_doubles_the_probe_timeout_up_to_a_minute_and_an_ack_resets_it() {
    let mut fixture = Fixture::measured();
    let number = fixture.send(at(0));
    // 40 + 4 * 20 + 25
    assert_eq!(fixture.recovery.probe_timeout(), Duration::from_millis(145));
    assert_eq!(fixture.recovery.next_timeout(), Some(at(145)));
    assert_eq!(fixture.timeout(at(144)), TimeoutOutcome::None);
    assert_eq!(fixture.timeout(at(145)), TimeoutOutcome::Probe(1));
    fixture.send_as(at(145), SentKind::Probe, LEN);
    assert_eq!(fixture.recovery.next_timeout(), Some(at(145 + 290)));
    assert_eq!(fixture.timeout(at(145 + 290)), TimeoutOutcome::Probe(2));
    let mut now = at(1_000);
    for _ in 0..40 {
        now = fixture.recovery.next_timeout().expect("something is in flight").max(now);
        assert_eq!(fixture.timeout(now), TimeoutOutcome::Probe(2));
        fixture.send_as(now, SentKind::Probe, LEN);
    }
    let wait = fixture.recovery.next_timeout().expect("in flight").saturating_since(now);
    assert_eq!(wait, Duration::from_secs(45), "a minute, less a quarter for this seed");
    assert!(fixture.lost.is_empty(), "silence alone loses nothing");
    fixture.ack(now + RTT, &[one(number)]);
    assert_eq!(fixture.recovery.statistics().backoff, 0);
}

// PROTOCOL 5.13
#[test]
fn longest_wait_differs_from_session_to_session_by_a_quarter_at_most() {
    let waits: BTreeSet<Duration> = (0..1_000_u64)
        .map(|seed| spread(PROBE_TIMEOUT_MAX, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    assert!(waits.len() > 300, "{} of 501", waits.len());
    let secs = Duration::from_secs;
    assert!(waits.first() >= Some(&secs(45)) && waits.last() <= Some(&secs(75)));
}

// PROTOCOL 5.13
#[test]
fn timeout_whose_probes_could_not_be_sent_waits_its_turn_again() {
    let mut fixture = Fixture::measured();
    fixture.send(at(0));
    assert_eq!(fixture.timeout(at(200)), TimeoutOutcome::Probe(1));
    assert_eq!(fixture.timeout(at(200)), TimeoutOutcome::None);
    assert_eq!(fixture.recovery.next_timeout(), Some(at(200 + 290)));
}

// PROTOCOL 5.13
#[test]
fn probes_repeat_what_the_oldest_packets_carried() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 5);
    fixture.ack(at(30), &[one(sent[1])]);
    let oldest: Vec<u64> = fixture.recovery.oldest_in_flight().take(2).collect();
    assert_eq!(oldest, [sent[0], sent[2]]);
    assert_eq!(fixture.recovery.oldest_in_flight().count(), 4);
}

// PROTOCOL 5.14
#[test]
fn any_authenticated_packet_ends_a_long_back_off() {
    let mut fixture = Fixture::measured();
    fixture.send(at(0));
    fixture.recovery.on_authenticated(at(1));
    assert_eq!(fixture.recovery.next_timeout(), Some(at(145)), "not backed off: no change");
    for _ in 0..20 {
        let due = fixture.recovery.next_timeout().expect("in flight");
        fixture.timeout(due);
    }
    let healed = at(100_000);
    assert!(fixture.recovery.next_timeout() > Some(healed));
    fixture.send_as(healed, SentKind::Probe, LEN);
    fixture.recovery.on_authenticated(healed);
    assert_eq!(fixture.recovery.next_timeout(), Some(healed + RTT));
    fixture.recovery.on_authenticated(healed + RTT.mul_ratio(1, 2));
    assert_eq!(fixture.recovery.next_timeout(), Some(healed + RTT), "once for each time-out");
}

// PROTOCOL 5.16
#[test]
fn window_starts_at_ten_datagrams_and_bounds_what_is_in_flight() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.recovery.window_available(at(0)), 12_000);
    fixture.burst(at(0), 9);
    assert_eq!(fixture.recovery.window_available(at(0)), 1_200);
    fixture.send(at(0));
    assert_eq!(fixture.recovery.window_available(at(0)), 0);
    assert_eq!(fixture.recovery.next_send_time(at(0)), None, "an acknowledgement will free it");
    fixture.ack(at(40), &[0..=4]);
    assert_eq!(fixture.window(), 12_000 + 5 * 1_200);
}

// PROTOCOL 5.17
#[test]
fn losses_of_one_round_trip_cost_one_cut() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 12);
    let before = fixture.window();
    fixture.ack(at(40), &[one(sent[5])]);
    let cut = before * 7 / 10;
    assert_eq!(fixture.window(), cut);
    fixture.ack(at(41), &[one(sent[11]), one(sent[5])]);
    assert!(fixture.lost.len() > 3);
    assert_eq!(fixture.window(), cut);

    let next = fixture.burst(at(50), 4);
    fixture.ack(at(90), &[one(next[3])]);
    assert_eq!(fixture.window(), cut * 7 / 10, "sent after the cut: a new event");
}

// PROTOCOL 5.18
#[test]
fn event_that_was_reordering_is_undone() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 8);
    let before = fixture.window();
    let outcome = fixture.ack(at(40), &[sent[5]..=sent[7]]);
    assert_eq!((outcome.packets_lost, fixture.lost.as_slice()), (5, &sent[..5]));
    assert!(fixture.window() < before);

    let outcome = fixture.ack(at(45), &[sent[5]..=sent[7], sent[0]..=sent[3]]);
    assert_eq!((outcome.packets_spurious, outcome.undone), (4, false), "one is still missing");
    let outcome = fixture.ack(at(50), &[sent[0]..=sent[7]]);
    assert_eq!((outcome.packets_spurious, outcome.undone), (1, true));
    assert_eq!(fixture.acked.len(), 8, "late content is acknowledged content");
    assert!(fixture.window() >= before);
    assert_eq!(fixture.recovery.statistics().packets_spurious, 5);
}

// PROTOCOL 5.18
#[test]
fn event_that_was_partly_real_or_explained_too_late_stands() {
    for (acked_at, missing) in [(45, 1), (500, 0)] {
        let mut fixture = Fixture::measured();
        let sent = fixture.burst(at(0), 8);
        fixture.ack(at(40), &[sent[4]..=sent[7]]);
        let cut = fixture.window();
        let outcome = fixture.ack(at(acked_at), &[sent[missing]..=sent[7]]);
        assert!(outcome.packets_spurious > 0 && !outcome.undone);
        assert_eq!(fixture.window(), cut);
    }
}

// PROTOCOL 5.11
#[test]
fn threshold_learns_reordering_and_forgets_it_after_quiet_round_trips() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 10);
    fixture.ack(at(40), &[sent[1]..=sent[9]]);
    fixture.ack(at(42), &[sent[0]..=sent[9]]);
    assert_eq!(fixture.recovery.statistics().packet_threshold, 10);

    let sent = fixture.burst(at(50), 10);
    let outcome = fixture.ack(at(85), &[sent[1]..=sent[9]]);
    assert_eq!(outcome.packets_lost, 0, "the same reordering is no loss any more");
    fixture.ack(at(86), &[sent[0]..=sent[9]]);

    let sent = fixture.send(at(900));
    fixture.ack(at(940), &[one(sent)]);
    assert_eq!(fixture.recovery.statistics().packet_threshold, 3);
}

// PROTOCOL 5.11
#[test]
fn threshold_never_exceeds_its_bound() {
    let mut fixture = Fixture::measured();
    let sent = fixture.burst(at(0), 300);
    let ranges: Vec<_> = fixture.recovery.oldest_in_flight().skip(1).collect();
    let mut received = ReceivedPackets::new(DELAY_MAX);
    ranges.iter().for_each(|&number| received.on_received(at(0), number, Ecn::NotEct, true, false));
    let listed: Vec<_> = received.ranges().collect();
    fixture.ack(at(40), &listed);
    fixture.ack(at(41), &[one(sent[0])]);
    assert_eq!(fixture.recovery.statistics().packet_threshold, PACKET_THRESHOLD_MAX);
}

// PROTOCOL 5.19
#[test]
fn losses_over_three_probe_timeouts_leave_two_datagrams() {
    let mut fixture = Fixture::measured();
    let mut last = 0;
    for step in 0..5 {
        last = fixture.send(at(1 + step * 150));
    }
    // 3 * 145 ms between the first and the last lost.
    fixture.ack(at(641), &[one(last)]);
    assert_eq!(fixture.lost.len(), 4);
    assert_eq!(fixture.window(), 2_400);
}

// PROTOCOL 5.19
#[test]
fn an_acknowledged_packet_between_losses_is_not_persistent_congestion() {
    let mut fixture = Fixture::measured();
    let sent: Vec<u64> = (0..5).map(|step| fixture.send(at(1 + step * 150))).collect();
    fixture.ack(at(641), &[one(sent[4]), one(sent[2])]);
    assert_eq!(fixture.lost.len(), 3);
    assert!(fixture.window() > 2_400);
}

// PROTOCOL 5.20
#[test]
fn a_measured_path_is_paced_and_says_when_to_go_on() {
    let mut fixture = Fixture::measured();
    let mut now = at(0);
    while fixture.recovery.window_available(now) >= u64::from(LEN) {
        fixture.send(now);
    }
    assert!(fixture.recovery.in_flight_bytes() < fixture.window(), "not all at once");
    let mut releases = 0;
    while let Some(release) = fixture.recovery.next_send_time(now) {
        assert!(release > now && release < now + RTT);
        now = release;
        while fixture.recovery.window_available(now) >= u64::from(LEN) {
            fixture.send(now);
        }
        releases += 1;
    }
    assert!(releases > 1);
    assert!(fixture.recovery.in_flight_bytes() + u64::from(LEN) > fixture.window());
    assert!(now < at(40), "a window leaves in less than a round trip");
}

// PROTOCOL 5.21
#[test]
fn window_does_not_grow_while_it_is_not_used() {
    let mut fixture = Fixture::measured();
    let before = fixture.window();
    for turn in 0..100 {
        let number = fixture.send(at(turn * 50));
        assert!(fixture.recovery.is_app_limited());
        fixture.ack(at(turn * 50 + 40), &[one(number)]);
    }
    assert_eq!(fixture.window(), before);
}

// PROTOCOL 5.21
#[test]
fn window_of_an_idle_session_starts_anew() {
    let mut fixture = Fixture::measured();
    for turn in 0..4 {
        let sent = fixture.burst(at(turn * 50), 40);
        fixture.ack(at(turn * 50 + 40), &[sent[0]..=sent[39]]);
    }
    assert!(fixture.window() > 60_000);
    fixture.send(at(1_100));
    assert!(fixture.window() > 60_000, "900 ms of silence are none");
    fixture.ack(at(1_140), &[one(fixture.recovery.lowest_unacked())]);
    let (before, idle) = (at(2_200), at(4_000));
    fixture.send(before);
    assert_eq!(fixture.window(), 12_000);
    // A train is measured for the window before its first packet is sent.
    let sent = fixture.burst(before, 9);
    fixture.ack(at(2_240), &[sent[0] - 1..=sent[8]]);
    assert!(fixture.window() > 12_000);
    fixture.recovery.restart_if_idle(idle);
    assert!(fixture.recovery.train_available(idle) <= 12_000);
}

// PROTOCOL 5.15, 5.22
#[test]
fn lost_path_probe_is_not_congestion_and_an_acked_one_lengthens_datagrams() {
    let mut fixture = Fixture::with(RecoveryConfig {
        datagram_len: DatagramLen::Probed { max: 1_472 },
        ..config()
    });
    let probe = |fixture: &mut Fixture, now| {
        let len = fixture.recovery.poll_mtu_probe(now).expect("a probe is due");
        fixture.send_as(now, SentKind::MtuProbe, u32::try_from(len).expect("a datagram"))
    };
    probe(&mut fixture, at(0));
    let sent = fixture.burst(at(0), 3);
    let before = fixture.window();
    assert_eq!(fixture.ack(at(40), &[sent[0]..=sent[2]]).packets_lost, 1);
    assert!(fixture.window() >= before);
    assert_eq!(fixture.recovery.datagram_len(), 1_200);

    let number = probe(&mut fixture, at(50));
    fixture.ack(at(90), &[one(number)]);
    assert_eq!(fixture.recovery.datagram_len(), 1_452);
    assert_eq!(fixture.recovery.statistics().datagram_len, 1_452);
}

// PROTOCOL 5.23
#[test]
fn black_hole_is_found_from_losses_of_large_packets() {
    let mut fixture = Fixture::with(RecoveryConfig {
        datagram_len: DatagramLen::Probed { max: 1_452 },
        ..config()
    });
    let len = fixture.recovery.poll_mtu_probe(at(0)).expect("a probe is due");
    let number = fixture.send_as(at(0), SentKind::MtuProbe, u32::try_from(len).expect("small"));
    fixture.ack(at(40), &[one(number)]);
    for round in 1..=3 {
        let now = round * 100;
        fixture.send_as(at(now), SentKind::Data, 1_452);
        let small: Vec<_> = (0..3).map(|_| fixture.send_as(at(now), SentKind::Data, 300)).collect();
        fixture.ack(at(now + 40), &[small[0]..=small[2]]);
    }
    assert_eq!(fixture.recovery.datagram_len(), 1_200);
}

// PROTOCOL 5.24
#[test]
fn fixed_rate_is_paced_from_the_first_packet_and_ignores_loss() {
    let congestion = CongestionConfig::FixedRate { bytes_per_second: 12_000_000 };
    let mut fixture = Fixture::with(RecoveryConfig { congestion, ..config() });
    assert_eq!(fixture.recovery.window_available(at(0)), 24_000, "two milliseconds of rate");
    let sent = fixture.burst(at(0), 20);
    assert_eq!(fixture.recovery.next_send_time(at(0)), Some(at(1)));
    fixture.ack(at(40), &[sent[10]..=sent[19]]);
    assert_eq!(fixture.lost.len(), 10);
    assert_eq!(fixture.window(), 2 * 12_000 * 40);
}

// PROTOCOL 5.31, 5.32
#[test]
fn sender_that_fills_its_window_asks_for_eight_acknowledgements_of_it() {
    let mut fixture = Fixture::measured();
    let relaxed = fixture.recovery.ack_frequency();
    assert_eq!((relaxed.packets, relaxed.delay), (8, DELAY_MAX));
    assert!(!fixture.recovery.should_tell_ack_frequency(at(0)), "as the peer does anyway");
    for turn in 0..6 {
        let sent = fixture.burst(at(turn * 50), 100);
        fixture.ack(at(turn * 50 + 40), &[sent[0]..=sent[99]]);
    }
    let packets = fixture.window() / 1_200;
    fixture.burst(at(300), usize::try_from(packets).expect("few"));
    let wanted = fixture.recovery.ack_frequency();
    assert_eq!((wanted.packets, wanted.delay), (packets / 8, Duration::from_millis(10)));
    assert!(wanted.packets > 16 && fixture.recovery.should_tell_ack_frequency(at(300)));
    fixture.recovery.on_ack_frequency_told(at(300));
    assert!(!fixture.recovery.should_tell_ack_frequency(at(400)));
}

#[test]
fn full_ring_closes_the_window_and_a_flood_of_acks_over_it_hands_content_back() {
    let congestion = CongestionConfig::FixedRate { bytes_per_second: 1 << 40 };
    let mut fixture = Fixture::with(RecoveryConfig { congestion, ..config() });
    let mut sent = 0;
    while fixture.recovery.window_available(at(0)) > 0 {
        fixture.send_as(at(0), SentKind::Data, 100);
        sent += 1;
    }
    assert!(sent > PACKETS_IN_FLIGHT_MAX - 2 * 256 && sent < PACKETS_IN_FLIGHT_MAX);
    for _ in 0..PACKETS_IN_FLIGHT_MAX + 10 {
        fixture.send_as(at(1), SentKind::AckOnly, 80);
    }
    assert_eq!(fixture.recovery.in_flight_bytes(), 0);
    assert_eq!(fixture.recovery.next_timeout(), Some(Instant::ZERO));
    assert_eq!(fixture.timeout(at(2)), TimeoutOutcome::Lost);
    assert_eq!(fixture.lost.len(), sent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn recovery_ops_never_panic(
        ops in prop::collection::vec((0u8..10, any::<u64>(), any::<u16>()), 0..400),
        controller in 0u8..3,
    ) {
        let congestion = match controller {
            0 => CongestionConfig::Cubic,
            1 => CongestionConfig::NewReno,
            _ => CongestionConfig::FixedRate { bytes_per_second: ops.len() as u64 * 99_991 },
        };
        let datagram_len = DatagramLen::Probed { max: 65_507 };
        let mut fixture = Fixture::with(RecoveryConfig { congestion, datagram_len, ..config() });
        let mut now = at(0);
        for (op, wide, narrow) in ops {
            now += Duration::from_nanos(wide >> 36);
            let end = fixture.recovery.lowest_unacked() + u64::from(narrow % 40);
            match op {
                0..=3 => {
                    let kinds =
                        [SentKind::Data, SentKind::AckOnly, SentKind::Probe, SentKind::MtuProbe];
                    fixture.send_as(now, kinds[usize::from(narrow % 4)], u32::from(narrow));
                }
                4..=5 => {
                    let _ = fixture.try_ack(now, &[end.saturating_sub(wide % 64)..=end]);
                }
                6 => {
                    let _ = fixture.try_ack(now, &[wide..=wide.saturating_add(9)]);
                }
                7 => {
                    let due = fixture.recovery.next_timeout();
                    now = now.max(due.filter(|_| narrow % 2 == 0).unwrap_or(now));
                    fixture.timeout(now);
                }
                8 => fixture.recovery.on_authenticated(now),
                _ => {
                    fixture.recovery.poll_mtu_probe(now);
                }
            }
            let recovery = &fixture.recovery;
            if let Some(release) = recovery.next_send_time(now) {
                prop_assert!(release > now && recovery.window_available(now) == 0);
            }
            prop_assert!(recovery.statistics().window >= 2 * 1_200);
            prop_assert!(recovery.probe_timeout() <= PROBE_TIMEOUT_MAX);
            prop_assert_eq!(recovery.oldest_in_flight().next().is_some(), recovery.sent.any_in_flight());
        }
    }
}

#[test]
fn bulk_yields_on_the_path_that_was_measured_and_not_on_the_next_one() {
    // PROTOCOL 6.20
    let mut fixture = Fixture::measured();
    assert!(!fixture.recovery.bulk_waits(u64::MAX / 2));
    fixture.recovery.on_urgent(at(0));
    assert!(fixture.recovery.bulk_waits(crate::limits::YIELD_QUEUE_LEN));
    assert!(!fixture.recovery.bulk_waits(0), "with nothing in flight it never waits");
    fixture.recovery.on_path_changed();
    assert!(!fixture.recovery.bulk_waits(u64::MAX / 2));
}

#[test]
fn bulk_whose_rate_is_fixed_does_not_yield() {
    // PROTOCOL 5.24
    let congestion = CongestionConfig::FixedRate { bytes_per_second: 1 << 20 };
    let mut fixture = Fixture::with(RecoveryConfig { congestion, ..config() });
    fixture.recovery.on_urgent(at(0));
    assert!(!fixture.recovery.bulk_waits(u64::MAX / 2));
}
