//! A packet plane under sends, acknowledgements true and false, losses, marks, time-outs, and a
//! path that changes: what is in flight is what a map of the sent packets says, each packet is
//! settled once, a false acknowledgement is a violation, and no timer stands still.
//!
//! The first byte chooses controller, datagram length and marks; every four bytes after it are one
//! operation.

#![no_main]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use libfuzzer_sys::fuzz_target;
use raet::Congestion;
use raet::limits::{ACK_RANGES_MAX, DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX, GRANULARITY};
use raet::limits::{PACKET_THRESHOLD_MAX, PACKETS_IN_FLIGHT_MAX};
use raet::protocol::drop_reason::DropReason;
use raet::protocol::session::recovery::{
    DatagramLen, Recovery, RecoveryConfig, SentKind, TimeoutOutcome,
};
use raet::protocol::wire::control::EcnCounts;
use raet::time::{Duration, Instant};

/// Operations of one input: fewer than would fill the ring of sent packets.
const OPERATIONS_MAX: usize = PACKETS_IN_FLIGHT_MAX / 32;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else { return };
    let mut world = World::new(choice);
    for &[op, a, b, c] in script.as_chunks().0.iter().take(OPERATIONS_MAX) {
        match op % 10 {
            0 => world.now += Duration::from_micros(u64::from(a) << (b % 16)),
            1 => world.send_data(a % 16, b),
            2 => drop(world.send(SentKind::AckOnly, 80)),
            3 => world.probe_path(),
            4 | 5 => world.acknowledge(op, a, b, c),
            6 => world.expire(a % 3),
            7 => world.recovery.on_authenticated(world.now),
            8 if a == 0 => world.recovery.on_path_changed(),
            8 if a == 1 => world.recovery.on_urgent(world.now),
            8 => world.forget(a),
            _ => {
                if world.lie(a, b) {
                    return; // The session is closed.
                }
            }
        }
        world.check();
    }
    world.end();
});

/// What became of an eliciting packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    InFlight,
    Lost,
    Settled,
}

struct World {
    recovery: Recovery<u64>,
    now: Instant,
    /// Bytes and fate of each eliciting packet. Contents are packet numbers.
    sent: BTreeMap<u64, (u64, Fate)>,
    /// Every number below was allocated; the last that was left out.
    end: u64,
    left_out: Option<u64>,
    marks: EcnCounts,
    acked: Vec<u64>,
    lost: Vec<u64>,
}

impl World {
    fn new(choice: u8) -> Self {
        let config = RecoveryConfig {
            congestion: match choice % 3 {
                0 => Congestion::Cubic,
                1 => Congestion::NewReno,
                _ => Congestion::FixedRate { bytes_per_second: 1 << (choice / 8) },
            },
            ack_delay_max: Duration::from_millis(25),
            initial_rtt: Duration::from_millis(333),
            datagram_len: match choice & 0x40 {
                0 => DatagramLen::Fixed(DATAGRAM_LEN_BASE),
                _ => DatagramLen::Probed { max: DATAGRAM_LEN_MAX },
            },
            granularity: GRANULARITY,
            ecn: choice & 0x80 != 0,
        };
        Self {
            recovery: Recovery::new(config, choice.into()),
            now: Instant::from_nanos(1_000_000_000),
            sent: BTreeMap::new(),
            end: 0,
            left_out: None,
            marks: EcnCounts::default(),
            acked: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn send(&mut self, kind: SentKind, bytes: usize) -> u64 {
        let number = self.recovery.next_packet_number();
        assert!(number == self.end || number == self.end + 1, "one number is left out at most");
        if number > self.end {
            self.left_out = Some(self.end);
        }
        self.end = number + 1;
        self.recovery.on_sent(self.now, number, bytes as u32, kind, Some(number));
        if kind != SentKind::AckOnly {
            self.sent.insert(number, (bytes as u64, Fate::InFlight));
        }
        number
    }

    /// As many packets as the window allows, at most `count`.
    fn send_data(&mut self, count: u8, part: u8) {
        let len = self.recovery.datagram_len() * (usize::from(part) + 1) / 256;
        for _ in 0..count {
            if self.recovery.window_available(self.now) < len as u64 {
                return;
            }
            self.send(SentKind::Data, len);
        }
    }

    fn probe_path(&mut self) {
        if let Some(len) = self.recovery.poll_mtu_probe(self.now) {
            assert!(len > self.recovery.datagram_len() && len <= DATAGRAM_LEN_MAX);
            self.send(SentKind::MtuProbe, len);
        }
    }

    /// Acknowledges what was sent from some packet on, in runs of `run` packets with one missing
    /// between two, with marks that may be right.
    fn acknowledge(&mut self, op: u8, back: u8, run: u8, marks: u8) {
        let start = self.end.saturating_sub(u64::from(back) + 1);
        let run = u64::from(run % 32) + 1;
        let arrived = |number: &u64| (number - start) % (run + 1) < run;
        let arrived = (start..self.end).filter(arrived).filter(|at| Some(*at) != self.left_out);
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for number in arrived {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
                _ => ranges.push(number..=number),
            }
        }
        ranges.reverse();
        ranges.truncate(ACK_RANGES_MAX);
        self.marks.ect0 += u64::from(marks % 16);
        self.marks.ce += u64::from(marks / 16 % 4);
        let marks = (marks & 0x80 == 0).then_some(self.marks);
        let delay = Duration::from_micros(u64::from(back) << (op % 16));

        let in_flight = self.covered(&ranges, Fate::InFlight);
        let acked = self.ack(&ranges, delay, marks).expect("all of it was sent");
        assert!(in_flight.iter().all(|number| acked.contains(number)));
    }

    /// Hands over an acknowledgement and says what it settled.
    fn ack(
        &mut self,
        ranges: &[RangeInclusive<u64>],
        delay: Duration,
        marks: Option<EcnCounts>,
    ) -> Result<Vec<u64>, DropReason> {
        let (acked, lost) = (&mut self.acked, &mut self.lost);
        let told = ranges.iter().cloned().map(Ok);
        let outcome = self.recovery.on_ack(self.now, told, delay, marks, acked, lost);
        for number in &self.acked {
            assert!(ranges.iter().any(|range| range.contains(number)), "{number} was not named");
            let fate = &mut self.sent.get_mut(number).expect("it was sent").1;
            assert_ne!(*fate, Fate::Settled, "{number} is settled twice");
            *fate = Fate::Settled;
        }
        let acked = std::mem::take(&mut self.acked);
        let lost = self.take_lost();
        let outcome = outcome?;
        assert_eq!(outcome.packets_acked, acked.len() as u64);
        assert_eq!(outcome.packets_lost, lost);
        Ok(acked)
    }

    /// Notes what was handed back as lost, and counts it.
    fn take_lost(&mut self) -> u64 {
        for number in &self.lost {
            let fate = &mut self.sent.get_mut(number).expect("it was sent").1;
            assert_eq!(*fate, Fate::InFlight, "{number} is lost twice");
            *fate = Fate::Lost;
        }
        self.lost.drain(..).len() as u64
    }

    fn covered(&self, ranges: &[RangeInclusive<u64>], fate: Fate) -> Vec<u64> {
        let sent = ranges.iter().flat_map(|range| self.sent.range(range.clone()));
        sent.filter(|(_, (_, found))| *found == fate).map(|(number, _)| *number).collect()
    }

    /// An acknowledgement that no honest peer sends (PROTOCOL 5.6); false if there is none.
    fn lie(&mut self, which: u8, at: u8) -> bool {
        let Some(last) = self.end.checked_sub(1) else { return false };
        let at = u64::from(at);
        let ranges = match which % 6 {
            0 => vec![self.end..=self.end + at],
            1 => vec![last.saturating_sub(at)..=u64::MAX],
            2 => vec![last..=last, last..=last],
            3 if last > 0 => vec![last..=last, 0..=last - 1],
            4 => match self.left_out {
                Some(left_out) if left_out >= self.recovery.lowest_unacked() => {
                    vec![left_out.saturating_sub(at)..=left_out]
                }
                _ => return false,
            },
            5 if last > 0 => vec![RangeInclusive::new(last, last - 1)],
            _ => return false,
        };
        let before = self.in_flight();
        let refused = self.ack(&ranges, Duration::ZERO, None);
        assert_eq!(refused, Err(DropReason::AckInvalid), "{ranges:?}");
        let after = self.in_flight();
        assert!(ranges.len() > 1 || after == before, "a false range settled something");
        assert!(self.recovery.oldest_in_flight().eq(after));
        true
    }

    /// Does what is due now, or what is due next. Buffers for so many probes are there.
    fn expire(&mut self, buffers: u8) {
        let Some(due) = self.recovery.next_timeout() else { return };
        self.now = self.now.max(due);
        // Losses, losses that are late only now, and a probe.
        for _ in 0..3 {
            match self.recovery.on_timeout(self.now, &mut self.lost) {
                TimeoutOutcome::None => break,
                // None, if the path changed or a packet was forgotten since.
                TimeoutOutcome::Lost => drop(self.take_lost()),
                TimeoutOutcome::Probe(count) => {
                    assert!((1..=2).contains(&count));
                    for _ in 0..count.min(buffers) {
                        self.send(SentKind::Probe, 100);
                    }
                }
            }
        }
        let next = self.recovery.next_timeout();
        assert!(next.is_none_or(|next| next > self.now), "a timer stands still");
    }

    fn forget(&mut self, back: u8) {
        let number = self.end.saturating_sub(u64::from(back));
        if let Some((_, fate)) = self.sent.get_mut(&number) {
            self.recovery.forget(number);
            *fate = Fate::Settled;
        }
    }

    fn in_flight(&self) -> Vec<u64> {
        self.covered(&[0..=u64::MAX], Fate::InFlight)
    }

    fn check(&self) {
        let in_flight = self.in_flight();
        let bytes: u64 = in_flight.iter().map(|number| self.sent[number].0).sum();
        let (recovery, statistics) = (&self.recovery, self.recovery.statistics());
        assert_eq!(recovery.in_flight_bytes(), bytes);
        assert!(recovery.oldest_in_flight().eq(in_flight.iter().copied()));
        assert_eq!(recovery.lowest_unacked(), in_flight.first().copied().unwrap_or(self.end));
        assert!(in_flight.is_empty() || recovery.next_timeout().is_some(), "nobody looks for it");
        let datagram_len = recovery.datagram_len() as u64;
        assert!(statistics.window >= 2 * datagram_len, "{statistics:?}");
        assert!(recovery.window_available(self.now) <= statistics.window.saturating_sub(bytes));
        assert!((3..=PACKET_THRESHOLD_MAX).contains(&statistics.packet_threshold));
        if let Some(next) = recovery.next_send_time(self.now) {
            assert!(next > self.now, "pacing waits for nothing");
        }
    }

    /// The peer has all of it after all.
    fn end(mut self) {
        let Some(last) = self.end.checked_sub(1) else { return };
        let ranges = match self.left_out {
            Some(0) => vec![1..=last],
            Some(at) if at < last => vec![at + 1..=last, 0..=at - 1],
            _ => vec![0..=last],
        };
        self.ack(&ranges, Duration::ZERO, None).expect("all of it was sent");
        self.check();
        self.expire(0);
        assert_eq!((self.recovery.in_flight_bytes(), self.recovery.next_timeout()), (0, None));
    }
}
