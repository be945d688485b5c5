//! The packet plane: packet numbers, acknowledgements, round-trip time, loss, congestion.
//!
//! Every packet has a number of its own and is sent once. The peer reports which numbers arrived;
//! from that follows how long the round trip is, which packets must be taken for lost, and how
//! much the path carries. A lost packet is never sent again: what it *carried* is handed back as a
//! small reference, and whoever owns that decides whether it still matters.
//!
//! ```text
//!              next_packet_number, on_sent                 window_available, next_send_time
//!                        │                                             ▲
//!   numbers ─ one left   ▼                                             │
//!   out now and then   sent ring ──acked──► rtt ──► loss delay, PTO   pacer
//!                        │  ▲                │                         ▲
//!                        │  └─ on_ack        ▼                         │
//!                        └──lost──────► one loss event ──────► congestion window
//! ```
//!
//! The rules are those of RFC 9002 with five differences: thresholds count packets that were sent,
//! not numbers; the packet threshold adapts to paths that reorder; a loss event that turns out to
//! be none is undone; any packet from the peer ends a long back-off; the granularity is that of a
//! busy-polling driver. PROTOCOL section 5 numbers them.

mod congestion;
mod ecn;
mod frequency;
mod mtu;
mod numbers;
mod pacer;
mod received;
mod rtt;
mod sent;
mod statistics;
mod use_of_window;
mod yielding;

pub use congestion::CongestionConfig;
pub use mtu::{DatagramLen, MtuProbe};
pub use pacer::Pacer;
pub use received::ReceivedPackets;
pub use rtt::Rtt;
pub use sent::SentKind;
pub use statistics::RecoveryStatistics;

use crate::buffer::Ecn;
use crate::limits::{
    ACK_RANGES_MAX, PACKET_THRESHOLD_MAX, PACKETS_IN_FLIGHT_MAX, PROBE_TIMEOUT_MAX,
    URGENT_RESERVE_PACKETS, URGENT_RESERVE_SHARE,
};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire::control::{AckFrequency, EcnCounts};
use crate::time::{Duration, Instant};
use congestion::{AckSample, Congestion};
use core::ops::RangeInclusive;
use ecn::EcnPath;
use frequency::Frequency;
use numbers::PacketNumbers;
use sent::{Sent, SentRing};
use use_of_window::UseOfWindow;
use yielding::Yielding;

/// Sent packets behind a missing one that make it lost, on a path that does not reorder
/// (RFC 9002 6.1.1).
const PACKET_THRESHOLD_MIN: u64 = 3;
/// Round trips without a spurious loss after which a path counts as one that does not reorder.
const QUIET_ROUND_TRIPS: u64 = 8;
/// Probe time-outs that lost packets must span to be persistent congestion (RFC 9002 7.6.1).
const PERSISTENT_TIMEOUTS: u64 = 3;
/// Packets sent at a probe time-out at most (RFC 9002 6.2.4).
const PROBES_MAX: u8 = 2;
/// Silence after which a window is no longer evidence.
const IDLE_RESTART: Duration = Duration::from_secs(1);
/// Slots kept free of data for acknowledgements and probes.
const RING_RESERVE: u64 = 256;
/// Doublings of the probe time-out; the cap in time is reached long before.
const BACKOFF_MAX: u32 = 30;

/// What a session knows of its path before it starts.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryConfig {
    /// The controller of the window.
    pub congestion: CongestionConfig,
    /// How long the peer promised to hold an acknowledgement back at most.
    pub ack_delay_max: Duration,
    /// The round trip to assume before the first sample: 333 ms, 1 ms on a LAN, or what is
    /// remembered of the peer.
    pub initial_rtt: Duration,
    /// How long datagrams are.
    pub datagram_len: DatagramLen,
    /// The finest timer of the driver: [`crate::limits::GRANULARITY`].
    pub granularity: Duration,
    /// Whether packets may leave marked ECT(0). Without packet numbers on the wire nothing tells
    /// what became of a mark.
    pub ecn: bool,
}

/// The packet plane of one session. `C` says what a packet carried: a few references to the
/// transactions in it.
///
/// A caller allocates a number, seals and sends the packet, and records it in that order. Every
/// call takes the time of the turn, which never goes back.
#[derive(Debug)]
pub struct Recovery<C> {
    config: RecoveryConfig,
    numbers: PacketNumbers,
    sent: SentRing<C>,
    rtt: Rtt,
    congestion: Congestion,
    pacer: Pacer,
    mtu: MtuProbe,
    ecn: EcnPath,
    frequency: Frequency,
    largest_acked: Option<u64>,
    /// The first number sent on the present path: what went before says nothing of it.
    path_start: u64,
    /// When the last eliciting packet was sent, or a probe was asked for.
    timer_base: Instant,
    use_of_window: UseOfWindow,
    yielding: Yielding,
    /// When the oldest packet that is late becomes lost.
    loss_time: Option<Instant>,
    /// Probe time-outs in a row without an acknowledgement.
    backoff: u32,
    /// The longest wait between two of them.
    backoff_max: Duration,
    /// The next probe is due at this time even if the back-off says later.
    probe_pulled: Option<Instant>,
    packet_threshold: u64,
    last_spurious: Instant,
    event: Option<LossEvent>,
    /// Loss events so far, the number of the present one.
    events: u32,
    /// What packets carried whose slots were needed before they were settled.
    overrun: Vec<C>,
    packets_sent: u64,
    packets_lost: u64,
    packets_spurious: u64,
}

/// The losses and marks of one round trip, which cost one cut of the window.
#[derive(Debug)]
struct LossEvent {
    /// Packets sent until then belong to it.
    started: Instant,
    /// A queue marked a packet: congestion, even if no packet was lost.
    is_marked: bool,
    /// Packets given up in it and not acknowledged late.
    missing: u64,
    /// The controller before the cut.
    before: Congestion,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AckOutcome {
    /// Packets acknowledged for the first time, late ones included.
    pub packets_acked: u64,
    /// Packets that are taken for lost since this acknowledgement.
    pub packets_lost: u64,
    /// Packets that had been taken for lost and were not.
    pub packets_spurious: u64,
    /// Whether a whole loss event turned out to be none, and the window was restored.
    pub undone: bool,
}

/// What a time-out asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutOutcome {
    /// Nothing was due.
    None,
    /// Packets were taken for lost; what they carried was handed back.
    Lost,
    /// Send this many packets as [`SentKind::Probe`] whether the window has room or not: new data
    /// if there is any, else what [`Recovery::oldest_in_flight`] says, else a ping.
    Probe(u8),
}

impl<C: Copy> Recovery<C> {
    /// A packet plane without a packet. `random_seed` decides which packet numbers are left out
    /// and must be unknown to the peer. All memory is taken here.
    pub fn new(config: RecoveryConfig, random_seed: u64) -> Self {
        let mtu = MtuProbe::new(config.datagram_len);
        let datagram_len = mtu.current() as u64;
        let congestion = Congestion::new(config.congestion, datagram_len);
        let pacer = started_pacer(config.congestion, datagram_len);
        Self {
            config,
            numbers: PacketNumbers::new(random_seed),
            sent: SentRing::new(PACKETS_IN_FLIGHT_MAX),
            rtt: Rtt::new(config.initial_rtt),
            congestion,
            pacer,
            mtu,
            ecn: EcnPath::new(config.ecn),
            frequency: Frequency::new(config.ack_delay_max),
            largest_acked: None,
            path_start: 0,
            timer_base: Instant::ZERO,
            use_of_window: UseOfWindow::default(),
            yielding: Yielding::NOT,
            loss_time: None,
            backoff: 0,
            backoff_max: spread(PROBE_TIMEOUT_MAX, random_seed),
            probe_pulled: None,
            packet_threshold: PACKET_THRESHOLD_MIN,
            last_spurious: Instant::ZERO,
            event: None,
            events: 0,
            overrun: Vec::new(),
            packets_sent: 0,
            packets_lost: 0,
            packets_spurious: 0,
        }
    }

    /// The peer answered the handshake after `round_trip`.
    pub fn on_handshake(&mut self, round_trip: Duration) {
        self.rtt.on_handshake(round_trip);
    }

    /// Allocates the number of the next packet (PROTOCOL 5.1, 5.2). A number that is then not
    /// recorded counts as sent and must not be used otherwise.
    pub fn next_packet_number(&mut self) -> u64 {
        let (congestion, datagram_len) = (&self.congestion, self.mtu.current() as u64);
        self.numbers.next(self.sent.oldest(), || congestion.window() / datagram_len)
    }

    /// The mark with which the next packet leaves: what [`Recovery::on_sent`] will say of it.
    pub fn next_mark(&self, kind: SentKind) -> Ecn {
        self.ecn.next_mark(kind != SentKind::AckOnly)
    }

    /// Records a packet that is handed to the driver, in the order of the numbers, and says with
    /// which mark it leaves (PROTOCOL 5.26). `bytes` is its UDP payload, `content` what to hand
    /// back when it is acknowledged or lost.
    pub fn on_sent(
        &mut self,
        now: Instant,
        packet_number: u64,
        bytes: u32,
        kind: SentKind,
        content: Option<C>,
    ) -> Ecn {
        self.packets_sent += 1;
        let mark = self.ecn.on_sent(kind != SentKind::AckOnly);
        if kind == SentKind::AckOnly {
            self.make_room(now, packet_number);
            self.sent.record(packet_number, Sent::new(now, bytes, kind, None));
            return mark;
        }
        self.restart_if_idle(now);
        self.make_room(now, packet_number);
        self.timer_base = now;
        self.pacer.on_sent(now, u64::from(bytes));
        let mut sent = Sent::new(now, bytes, kind, content);
        sent.is_marked = mark == Ecn::Ect0;
        self.sent.record(packet_number, sent);
        self.use_of_window.on_sent(self.sent.bytes_in_flight());
        mark
    }

    /// Forgets a window that is no evidence any more (PROTOCOL 5.21). To be called before a train is
    /// measured for the window; single packets see to it themselves.
    pub fn restart_if_idle(&mut self, now: Instant) {
        if !self.sent.any_in_flight()
            && now.saturating_since(self.timer_base) > IDLE_RESTART.max(self.probe_timeout())
        {
            self.congestion.on_idle();
        }
    }

    /// Takes the packet ranges of an acknowledgement, the largest first, how long the peer held it
    /// back, and the marks that it counted. What acknowledged packets carried is appended to `acked`, of packets taken
    /// for lost to `lost`; both grow by no more than was in flight or given up.
    ///
    /// # Errors
    ///
    /// [`DropReason::AckInvalid`] for numbers never sent or left out on purpose, ranges that do
    /// not descend, and too many of them; and whatever reason the iterator yields. The peer broke
    /// the protocol and the session must be closed (PROTOCOL 5.6): ranges before the offending
    /// one may have taken effect.
    pub fn on_ack(
        &mut self,
        now: Instant,
        ranges: impl Iterator<Item = Result<RangeInclusive<u64>, DropReason>>,
        delay: Duration,
        marks: Option<EcnCounts>,
        acked: &mut Vec<C>,
        lost: &mut Vec<C>,
    ) -> Result<AckOutcome, DropReason> {
        let mut settled = Settled::default();
        let mut largest = None;
        let mut below = self.sent.end();
        for (count, range) in ranges.enumerate() {
            let (first, last) = range?.into_inner();
            // Between two ranges lies a number that did not arrive.
            let ordered = last < below && (largest.is_none() || below - last > 1);
            if count >= ACK_RANGES_MAX
                || first > last
                || !ordered
                || self.numbers.skipped_within(first, last)
            {
                return Err(DropReason::AckInvalid);
            }
            below = first;
            let largest = *largest.get_or_insert(last);
            self.settle(now, first..=last, largest, &mut settled, acked);
        }
        let (Some(largest), true) = (largest, settled.packets > 0) else {
            return Ok(AckOutcome::default());
        };

        self.backoff = 0;
        self.probe_pulled = None;
        let is_newest = self.largest_acked.is_none_or(|known| largest > known);
        self.largest_acked = Some(self.largest_acked.map_or(largest, |known| known.max(largest)));
        if let Some(sample) = settled.rtt {
            self.rtt.on_sample(now, sample, delay.min(self.config.ack_delay_max));
            if self.yielding.is_active() {
                self.yielding.on_sample(sample);
            }
        }
        let undone = self.judge_spurious(now, &settled);
        let events = self.events;
        if is_newest && self.ecn.on_report(settled.marked, marks) {
            self.cut(now, settled.newest_marked);
            self.event.iter_mut().for_each(|event| event.is_marked = true);
        }
        let packets_lost = self.detect_lost(now, lost);
        // Everything acknowledged here was sent before a cut that was made just now.
        let grows = self.events == events && self.waits_for_window();
        let (next, in_flight) = (self.sent.end(), self.sent.bytes_in_flight());
        if self.use_of_window.on_ack(largest, next, in_flight) && self.yielding.is_active() {
            let (peak, known) = (self.use_of_window.peak(), self.rtt.min());
            if let Some(min) = self.yielding.on_round_trip(now, peak, known) {
                self.rtt.renew_min(min);
            }
        }
        self.congestion.on_ack(AckSample {
            now,
            bytes: if grows { settled.growth_bytes } else { 0 },
            largest,
            next,
            rtt: settled.rtt,
            smoothed: self.rtt.smoothed(),
        });
        self.adapt(now);
        Ok(AckOutcome {
            packets_acked: settled.packets,
            packets_lost,
            packets_spurious: settled.spurious,
            undone,
        })
    }

    /// Takes a packet out of what is in flight without an opinion on its fate: where packets have
    /// no numbers on the wire, what left again in another one is never acknowledged in this one.
    pub fn forget(&mut self, packet_number: u64) {
        self.sent.acknowledge(packet_number..=packet_number, |_, _, _| {});
    }

    /// Does what is due at `now`; to be called when [`Recovery::next_timeout`] has passed. What
    /// packets taken for lost carried is appended to `lost`.
    pub fn on_timeout(&mut self, now: Instant, lost: &mut Vec<C>) -> TimeoutOutcome {
        if !self.overrun.is_empty() {
            lost.append(&mut self.overrun);
            return TimeoutOutcome::Lost;
        }
        if self.loss_time.is_some_and(|due| now >= due) {
            self.detect_lost(now, lost);
            self.adapt(now);
            return TimeoutOutcome::Lost;
        }
        if self.probe_deadline().is_some_and(|due| now >= due) {
            self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
            self.ecn.on_timeout(self.backoff);
            // Should the probes find no buffer, the next time-out still waits its turn.
            self.timer_base = now;
            self.probe_pulled = None;
            let single = self.sent.span() == 1;
            return TimeoutOutcome::Probe(if single { 1 } else { PROBES_MAX });
        }
        TimeoutOutcome::None
    }

    /// A packet of the peer was authenticated: it is there. If probes are backed off the next is
    /// due within a round trip, so that a healed path does not wait out a minute (PROTOCOL 5.14).
    pub fn on_authenticated(&mut self, now: Instant) {
        if self.backoff > 0 && self.probe_pulled.is_none() {
            self.probe_pulled = Some(now + self.rtt.smoothed().max(self.config.granularity));
        }
    }

    /// The peer is at another address: the path there is a new one, of which nothing is known. What
    /// is in flight went the old way and says nothing of it (RFC 9000 9.4).
    pub fn on_path_changed(&mut self) {
        self.path_start = self.sent.end();
        self.mtu = MtuProbe::new(self.config.datagram_len);
        let datagram_len = self.mtu.current() as u64;
        self.congestion = Congestion::new(self.config.congestion, datagram_len);
        self.pacer = started_pacer(self.config.congestion, datagram_len);
        self.rtt = Rtt::new(self.config.initial_rtt);
        self.use_of_window = UseOfWindow::default();
        self.yielding = Yielding::NOT;
        self.ecn.on_path_changed();
        self.event = None;
    }

    /// Whether datagrams are longer than every path is assumed to carry, on no operator's word.
    pub fn may_shrink(&self) -> bool {
        self.mtu.may_shrink()
    }

    /// The UDP payload length of a path probe to send now as [`SentKind::MtuProbe`], if one is
    /// due. It may be sent whether the window has room or not. Whoever asks sends it.
    pub fn poll_mtu_probe(&mut self, now: Instant) -> Option<usize> {
        self.mtu.poll_probe(now)
    }

    /// When [`Recovery::on_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.overrun.is_empty() {
            return Some(Instant::ZERO);
        }
        self.loss_time.or_else(|| self.probe_deadline())
    }

    /// UDP payload bytes that may be sent now: a packet may go if it is no longer than this.
    /// A part of a large window is kept back: see [`Recovery::urgent_available`].
    pub fn window_available(&self, now: Instant) -> u64 {
        self.pacer.available(now, self.unreserved())
    }

    /// What [`Recovery::window_available`] would say for each packet of a train, without asking
    /// again: a packet may go as long as a datagram is left of this.
    pub fn train_available(&self, now: Instant) -> u64 {
        self.pacer.train_available(now, self.unreserved(), self.datagram_len() as u64)
    }

    /// As [`Recovery::window_available`], for a packet that is small and awaited: it may use what
    /// others leave of the window, and does not wait for its turn in the pacing (PROTOCOL 6.20).
    pub fn urgent_available(&self) -> u64 {
        self.window_left()
    }

    /// An urgent message is sent: bulk yields to it and to those that follow (PROTOCOL 6.20), unless
    /// an operator set aside what it may use.
    pub fn on_urgent(&mut self, now: Instant) {
        if matches!(self.config.congestion, CongestionConfig::FixedRate { .. }) {
            return;
        }
        let (peak, rtt) = (self.use_of_window.peak(), &self.rtt);
        self.yielding.on_urgent(now, yielding::held(peak, rtt.latest(), rtt.min()));
    }

    /// Whether bulk waits once `leaving` more bytes are in flight: it yields, and that much is
    /// enough. With nothing in flight it never does.
    pub fn bulk_waits(&self, leaving: u64) -> bool {
        self.sent.bytes_in_flight() + leaving >= self.yielding.limit()
    }

    /// When [`Recovery::window_available`] will have grown, if it is pacing that holds it down;
    /// `None` if sending is free, or waits for an acknowledgement.
    pub fn next_send_time(&self, now: Instant) -> Option<Instant> {
        self.pacer.next_release(now, self.unreserved())
    }

    /// Whether the application, not the path, bounds what is in flight.
    pub fn is_app_limited(&self) -> bool {
        self.sent.bytes_in_flight() * 2 < self.congestion.window()
    }

    /// UDP payload bytes sent and neither acknowledged nor given up.
    pub fn in_flight_bytes(&self) -> u64 {
        self.sent.bytes_in_flight()
    }

    /// The oldest number in flight; one beyond the newest recorded if none is.
    pub fn lowest_unacked(&self) -> u64 {
        self.sent.oldest()
    }

    /// The largest number that the peer acknowledged.
    pub fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    /// What packets in flight carry, oldest first.
    pub fn oldest_in_flight(&self) -> impl Iterator<Item = C> + '_ {
        let end = self.sent.end();
        let first = self.sent.next_in_flight(0, end);
        core::iter::successors(first, move |&number| self.sent.next_in_flight(number + 1, end))
            .filter_map(|number| self.sent.sent(number).content)
    }

    /// The probe time-out without back-off (RFC 9002 6.2.1).
    pub fn probe_timeout(&self) -> Duration {
        let variation = self.rtt.variation().saturating_mul(4).max(self.config.granularity);
        (self.rtt.smoothed() + variation + self.config.ack_delay_max).min(PROBE_TIMEOUT_MAX)
    }

    /// The round-trip estimate.
    pub fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// UDP payload bytes that the path is known to carry.
    pub fn datagram_len(&self) -> usize {
        self.mtu.current()
    }

    /// How often the peer should acknowledge (PROTOCOL 5.31).
    pub fn ack_frequency(&self) -> AckFrequency {
        let window = self.congestion.window().min(self.yielding.limit());
        let window_packets = window / self.datagram_len() as u64;
        let delays = (self.config.granularity, self.config.ack_delay_max);
        frequency::wanted(window_packets, self.waits_for_acks(), self.rtt.smoothed(), delays)
    }

    /// Whether to tell that in a packet of its own (PROTOCOL 5.32).
    pub fn should_tell_ack_frequency(&self, now: Instant) -> bool {
        self.waits_for_acks()
            && self.frequency.should_tell(now, self.ack_frequency(), self.rtt.smoothed())
    }

    /// It was told in a packet that is sent again if it is lost.
    pub fn on_ack_frequency_told(&mut self, now: Instant) {
        self.frequency.on_told(now, self.ack_frequency());
    }

    /// Counters and gauges.
    pub fn statistics(&self) -> RecoveryStatistics {
        RecoveryStatistics {
            packets_sent: self.packets_sent,
            packets_lost: self.packets_lost,
            packets_spurious: self.packets_spurious,
            cuts: self.events,
            is_ecn_capable: self.ecn.is_capable(),
            window: self.congestion.window(),
            bytes_in_flight: self.sent.bytes_in_flight(),
            rtt_smoothed: self.rtt.smoothed(),
            rtt_min: self.rtt.min(),
            packet_threshold: self.packet_threshold,
            backoff: self.backoff,
            datagram_len: self.mtu.current(),
        }
    }

    /// Settles one range of an acknowledgement.
    fn settle(
        &mut self,
        now: Instant,
        numbers: RangeInclusive<u64>,
        largest: u64,
        settled: &mut Settled,
        acked: &mut Vec<C>,
    ) {
        let cut = self.event.as_ref().map(|event| event.started);
        let (mtu, packet_numbers, event_now) = (&mut self.mtu, &self.numbers, self.events);
        let largest_before = self.largest_acked.unwrap_or(0);
        let path_start = self.path_start;
        self.sent.acknowledge(numbers, |number, sent, was_given_up| {
            settled.packets += 1;
            acked.extend(sent.content);
            if number < path_start {
                return;
            }
            if sent.is_marked {
                settled.marked += 1;
                settled.newest_marked = settled.newest_marked.max(sent.at);
            }
            if number == largest {
                settled.rtt = Some(now.saturating_since(sent.at));
            }
            if sent.kind == SentKind::MtuProbe {
                mtu.on_probe_acked(sent.bytes as usize);
                return;
            }
            mtu.on_acked(sent.bytes as usize);
            if was_given_up {
                settled.spurious += 1;
                settled.restored += u64::from(sent.loss_event == event_now);
                let distance = packet_numbers.sent_between(number, largest_before);
                settled.distance = settled.distance.max(distance);
            } else if cut.is_none_or(|cut| sent.at > cut) {
                settled.growth_bytes += u64::from(sent.bytes);
            }
        });
    }

    /// Learns from losses that were none, and says whether the cut of the window was undone.
    fn judge_spurious(&mut self, now: Instant, settled: &Settled) -> bool {
        if settled.spurious == 0 {
            let quiet = self.rtt.smoothed().saturating_mul(QUIET_ROUND_TRIPS);
            if now.saturating_since(self.last_spurious) >= quiet {
                self.packet_threshold = PACKET_THRESHOLD_MIN;
            }
            return false;
        }
        self.packets_spurious += settled.spurious;
        self.last_spurious = now;
        self.packet_threshold =
            self.packet_threshold.max(settled.distance + 1).min(PACKET_THRESHOLD_MAX);

        let within = self.rtt.smoothed().max(self.rtt.latest());
        let Some(event) = &mut self.event else { return false };
        event.missing = event.missing.saturating_sub(settled.restored);
        let undo = settled.restored > 0
            && event.missing == 0
            && !event.is_marked
            && now.saturating_since(event.started) <= within;
        if undo {
            // A window that was opened since is not closed by the undoing.
            if event.before.window() > self.congestion.window() {
                self.congestion = event.before.clone();
                self.congestion.on_datagram_len(self.mtu.current() as u64);
            }
            self.event = None;
        }
        undo
    }

    /// Takes packets for lost that are too far or too long behind the largest acknowledged, and
    /// sets the time at which the next one becomes so (RFC 9002 6.1).
    fn detect_lost(&mut self, now: Instant, lost: &mut Vec<C>) -> u64 {
        self.loss_time = None;
        let Some(largest) = self.largest_acked else { return 0 };
        let delay =
            self.rtt.smoothed().max(self.rtt.latest()).mul_ratio(9, 8).max(self.config.granularity);
        let mut run = LostRun::default();
        let before = self.packets_lost;
        let mut from = self.sent.oldest();
        while let Some(number) = self.sent.next_in_flight(from, largest) {
            let due = self.sent.sent(number).at + delay;
            let distance = self.numbers.sent_between(number, largest);
            if due > now && distance < self.packet_threshold {
                // Whatever was sent later is due later.
                self.loss_time = Some(due);
                break;
            }
            lost.extend(self.give_up(now, number, &mut run));
            from = number + 1;
        }
        let patience = self.probe_timeout().saturating_mul(PERSISTENT_TIMEOUTS);
        if run.longest >= patience && self.rtt.first_sample().is_some() {
            self.congestion.on_persistent_congestion();
            self.rtt.forget_min();
        }
        self.packets_lost - before
    }

    /// Takes one packet for lost and returns what it carried.
    fn give_up(&mut self, now: Instant, number: u64, run: &mut LostRun) -> Option<C> {
        let sent = *self.sent.sent(number);
        self.packets_lost += 1;
        if number < self.path_start {
            self.sent.give_up(number, 0);
            return sent.content;
        }
        if sent.is_marked {
            self.ecn.on_lost();
        }
        if sent.kind == SentKind::MtuProbe {
            self.mtu.on_probe_lost(now);
            self.sent.give_up(number, 0);
            return sent.content;
        }
        self.cut(now, sent.at);
        if let Some(event) = &mut self.event {
            event.missing += 1;
        }
        if self.mtu.on_lost(now, sent.at, sent.bytes as usize) {
            self.congestion.on_datagram_len(self.mtu.current() as u64);
        }
        let sampled = self.rtt.first_sample().is_some_and(|first| sent.at > first);
        if sampled {
            let joined = run.last.is_some_and(|last| !self.sent.any_acked_between(last, number));
            if !joined {
                run.started = sent.at;
            }
            run.last = Some(number);
            run.longest = run.longest.max(sent.at.saturating_since(run.started));
        }
        self.sent.give_up(number, self.events);
        sent.content
    }

    /// Cuts the window, unless what was sent at `sent` belongs to the event of the last cut.
    fn cut(&mut self, now: Instant, sent: Instant) {
        if self.event.as_ref().is_none_or(|event| sent > event.started) {
            let before = self.congestion.clone();
            self.event = Some(LossEvent { started: now, is_marked: false, missing: 0, before });
            self.events = self.events.wrapping_add(1).max(1);
            self.congestion.on_congestion();
        }
    }

    /// Frees the slot of `number`. Only a flood of acknowledgements over data that nobody
    /// acknowledges comes so far round the ring: the data is as good as lost.
    fn make_room(&mut self, now: Instant, number: u64) {
        while let Some(oldest) = self.sent.must_give_up(number) {
            let content = self.give_up(now, oldest, &mut LostRun::default());
            self.overrun.extend(content);
        }
    }

    /// Carries a changed window, round trip or datagram length over to the pacer.
    fn adapt(&mut self, now: Instant) {
        let datagram_len = self.mtu.current() as u64;
        self.congestion.on_datagram_len(datagram_len);
        self.pacer.on_rate(now, self.congestion.rate(self.rtt.smoothed()), datagram_len);
    }

    /// Whether the window, not the application, bounds what is sent in these round trips.
    fn waits_for_window(&self) -> bool {
        self.use_of_window.peak() * 2 >= self.congestion.window()
    }

    /// Whether what is sent waits for acknowledgements: for the window, or as bulk that yields.
    fn waits_for_acks(&self) -> bool {
        self.use_of_window.peak() * 2 >= self.congestion.window().min(self.yielding.limit())
    }

    fn window_left(&self) -> u64 {
        if self.sent.span() + RING_RESERVE >= PACKETS_IN_FLIGHT_MAX as u64 {
            return 0;
        }
        self.congestion.window().saturating_sub(self.sent.bytes_in_flight())
    }

    /// What is left of the window for packets that are not urgent.
    fn unreserved(&self) -> u64 {
        let (window, datagram_len) = (self.congestion.window(), self.datagram_len() as u64);
        // Asked for each packet: the window is mostly so large that there is nothing to divide.
        let reserved = if window >= URGENT_RESERVE_PACKETS * URGENT_RESERVE_SHARE * datagram_len {
            URGENT_RESERVE_PACKETS
        } else {
            window / (URGENT_RESERVE_SHARE * datagram_len)
        };
        self.window_left().saturating_sub(reserved * datagram_len)
    }

    fn probe_deadline(&self) -> Option<Instant> {
        if !self.sent.any_in_flight() {
            return None;
        }
        let backed_off = self.probe_timeout().saturating_mul(1 << self.backoff);
        let due = self.timer_base + backed_off.min(self.backoff_max);
        Some(self.probe_pulled.map_or(due, |pulled| pulled.min(due)))
    }
}

/// A quarter less to a quarter more of `wait`: the sessions that a partition cut off all at once
/// do not come back all at once.
fn spread(wait: Duration, seed: u64) -> Duration {
    // The high bits: the low ones decide which packet numbers are left out.
    let part = u32::try_from((seed >> 32) % 501).expect("at most 500");
    wait.mul_ratio(750 + part, 1_000)
}

/// A pacer that knows its rate if an operator said it.
fn started_pacer(congestion: CongestionConfig, datagram_len: u64) -> Pacer {
    let mut pacer = Pacer::new();
    if let CongestionConfig::FixedRate { bytes_per_second } = congestion {
        pacer.on_rate(Instant::ZERO, bytes_per_second, datagram_len);
    }
    pacer
}

/// What the ranges of one acknowledgement settled together.
#[derive(Debug, Default)]
struct Settled {
    packets: u64,
    /// Bytes sent since the last cut: they let the window grow.
    growth_bytes: u64,
    rtt: Option<Duration>,
    /// Packets that left marked, and when the last of them did.
    marked: u64,
    newest_marked: Instant,
    spurious: u64,
    /// Of the spurious ones, those of the present loss event.
    restored: u64,
    /// The farthest that a spurious one was behind the largest acknowledged.
    distance: u64,
}

/// Packets lost one after the other with none acknowledged between them.
#[derive(Debug, Default)]
struct LostRun {
    last: Option<u64>,
    started: Instant,
    longest: Duration,
}

#[cfg(test)]
mod tests;
