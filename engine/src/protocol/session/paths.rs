//! Where the peer is: the address in use, and addresses that have yet to prove themselves.
//!
//! A peer's address changes when it roams, and every few minutes behind some NATs. Its packets
//! then come from elsewhere, authentic as before; but whoever can copy a packet can send it on
//! from anywhere, so a source proves nothing. An address is therefore *challenged*: eight random
//! bytes go there, sealed, and only their echo from the same address moves the session. Until
//! then everything else goes where it went, and a stranger whose address was abused gets no more
//! than three times what was received from it (RFC 9000 8.2, 9.3).

use std::net::SocketAddr;

use crate::limits::{PATH_CHALLENGES_MAX, PATH_RECEIVED_RATIO};
use crate::time::{Duration, Instant};

/// The random bytes of a challenge.
pub type ChallengeData = [u8; 8];

/// Probe time-outs after which a challenge is given up.
const PATIENCE_TIMEOUTS: u64 = 3;
/// What a probe time-out is taken for at least: the way to another address may be a longer one
/// than the way we know (RFC 9000 8.2.4).
const PROBE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// A session's addresses.
#[derive(Debug)]
pub struct Paths {
    current: SocketAddr,
    /// Where the packet with the largest number came from. Kept while there are candidates.
    newest: SocketAddr,
    /// Oldest first; at most [`PATH_CHALLENGES_MAX`].
    candidates: Vec<Candidate>,
}

/// An address that was challenged.
#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    data: ChallengeData,
    /// UDP payload bytes received from there, and sent there.
    received: u64,
    sent: u64,
    /// When the challenge leaves next, and how much later after that; doubled each time.
    challenge_at: Instant,
    interval: Duration,
    give_up_at: Instant,
}

impl Candidate {
    fn allows(&self, bytes: u64) -> bool {
        self.sent + bytes <= self.received * PATH_RECEIVED_RATIO
    }
}

impl Paths {
    /// A session whose peer is at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { current: address, newest: address, candidates: Vec::new() }
    }

    /// The peer's address.
    pub const fn current(&self) -> SocketAddr {
        self.current
    }

    /// Whether a packet from there says nothing new: the peer is there, and perhaps elsewhere no more.
    #[inline]
    pub fn is_settled(&self, from: SocketAddr) -> bool {
        from == self.current && self.candidates.is_empty()
    }

    /// A packet of `bytes` opened that came from `from`; `is_newest`: no larger number has been
    /// seen. Returns whether [`Paths::poll_challenge`] has something. `draw` gives random bytes
    /// for a new challenge.
    #[inline]
    pub fn on_packet(
        &mut self,
        now: Instant,
        from: SocketAddr,
        is_newest: bool,
        bytes: usize,
        probe_timeout: Duration,
        draw: impl FnOnce() -> ChallengeData,
    ) -> bool {
        if self.is_settled(from) {
            return false;
        }
        if is_newest {
            self.newest = from;
        }
        if from == self.current {
            return false;
        }
        if let Some(known) = self.candidates.iter_mut().find(|known| known.address == from) {
            known.received += bytes as u64;
            return false;
        }
        if !is_newest {
            return false;
        }
        // A peer whose address changes faster than it answers: the latest is the likeliest.
        if self.candidates.len() == PATH_CHALLENGES_MAX {
            self.candidates.remove(0);
        }
        let patience = probe_timeout.max(PROBE_TIMEOUT_MIN).saturating_mul(PATIENCE_TIMEOUTS);
        self.candidates.push(Candidate {
            address: from,
            data: draw(),
            received: bytes as u64,
            sent: 0,
            challenge_at: now,
            interval: probe_timeout,
            give_up_at: now + patience,
        });
        true
    }

    /// The next challenge that is due, of a packet of `bytes` at most, and where it goes.
    pub fn poll_challenge(
        &mut self,
        now: Instant,
        bytes: usize,
    ) -> Option<(SocketAddr, ChallengeData)> {
        self.candidates.retain(|candidate| candidate.give_up_at > now);
        for candidate in &mut self.candidates {
            if candidate.challenge_at > now {
                continue;
            }
            candidate.challenge_at = now + candidate.interval;
            candidate.interval = candidate.interval.saturating_mul(2);
            if candidate.allows(bytes as u64) {
                candidate.sent += bytes as u64;
                return Some((candidate.address, candidate.data));
            }
        }
        None
    }

    /// Whether a packet of `bytes` may answer a challenge that came from `to`; counts it if so.
    pub fn may_answer(&mut self, to: SocketAddr, bytes: usize) -> bool {
        if to == self.current {
            return true;
        }
        let candidate = self.candidates.iter_mut().find(|candidate| candidate.address == to);
        let candidate = candidate.filter(|candidate| candidate.allows(bytes as u64));
        candidate.map(|candidate| candidate.sent += bytes as u64).is_some()
    }

    /// The echo of a challenge came from `from`. Returns the address before, if the session moved:
    /// the echo is right, and nothing newer came from elsewhere meanwhile.
    pub fn on_response(&mut self, from: SocketAddr, data: ChallengeData) -> Option<SocketAddr> {
        let is_right = |candidate: &Candidate| candidate.address == from && candidate.data == data;
        if self.newest != from || !self.candidates.iter().any(is_right) {
            return None;
        }
        self.candidates.clear();
        Some(std::mem::replace(&mut self.current, from))
    }

    /// When [`Paths::poll_challenge`] must be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = |candidate: &Candidate| candidate.challenge_at.min(candidate.give_up_at);
        self.candidates.iter().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(10);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// A packet of 100 bytes; its challenge would be the port.
    fn packet(paths: &mut Paths, now: Instant, port: u16, is_newest: bool) -> bool {
        let data = u64::from(port).to_be_bytes();
        paths.on_packet(now, address(port), is_newest, 100, TIMEOUT, || data)
    }

    fn echo(paths: &mut Paths, from: u16, of: u16) -> Option<SocketAddr> {
        paths.on_response(address(from), u64::from(of).to_be_bytes())
    }

    // PROTOCOL 7.10
    #[test]
    fn only_the_newest_packet_from_elsewhere_is_a_reason_to_ask() {
        let mut paths = Paths::new(address(1));
        assert!(!packet(&mut paths, at(0), 1, true));
        assert!(!packet(&mut paths, at(0), 2, false), "late, or held back by somebody");
        assert_eq!(paths.poll_challenge(at(0), 100), None);
        assert!(packet(&mut paths, at(0), 2, true));
        let asked = paths.poll_challenge(at(0), 100);
        assert_eq!(asked, Some((address(2), 2_u64.to_be_bytes())));
        assert_eq!(paths.current(), address(1));
    }

    // PROTOCOL 7.11
    #[test]
    fn only_the_echo_from_the_same_address_moves_the_session() {
        let mut paths = Paths::new(address(1));
        packet(&mut paths, at(0), 2, true);
        packet(&mut paths, at(0), 3, true);
        assert_eq!(echo(&mut paths, 3, 2), None, "the echo of another challenge");
        assert_eq!(echo(&mut paths, 4, 3), None, "the right echo from elsewhere");
        assert_eq!(echo(&mut paths, 2, 2), None, "something newer came from elsewhere");
        assert_eq!(echo(&mut paths, 3, 3), Some(address(1)));
        assert_eq!((paths.current(), paths.next_timeout()), (address(3), None));
        // Somebody only sent a packet on: the peer's next one came from where it always was.
        packet(&mut paths, at(0), 4, true);
        packet(&mut paths, at(0), 3, true);
        assert_eq!(echo(&mut paths, 4, 4), None);
        assert_eq!(paths.current(), address(3));
    }

    // PROTOCOL 7.11
    #[test]
    fn challenge_is_repeated_and_given_up_and_the_newest_addresses_are_asked() {
        let mut paths = Paths::new(address(1));
        packet(&mut paths, at(0), 2, true);
        let mut asked = 0;
        for millis in 0..3_001 {
            asked += u32::from(paths.poll_challenge(at(millis), 10).is_some());
        }
        // After 0, 10, 30, 70 ms and so on.
        assert_eq!((asked, paths.next_timeout()), (9, None));
        for port in 2..=6 {
            packet(&mut paths, at(5_000), port, true);
        }
        let next = || paths.poll_challenge(at(5_000), 100);
        let asked: Vec<_> = std::iter::from_fn(next).map(|(to, _)| to.port()).collect();
        assert_eq!(asked, [4, 5, 6]);
    }

    // PROTOCOL 7.12
    #[test]
    fn address_that_proved_nothing_gets_three_times_what_came_from_it() {
        let mut paths = Paths::new(address(1));
        packet(&mut paths, at(0), 2, true);
        assert!(paths.poll_challenge(at(0), 160).is_some());
        assert!(paths.may_answer(address(2), 140));
        assert!(!paths.may_answer(address(2), 1), "300 bytes are three times 100");
        assert_eq!(paths.poll_challenge(at(10), 160), None);
        packet(&mut paths, at(11), 2, false);
        assert!(paths.poll_challenge(at(30), 160).is_some());
        assert!(!paths.may_answer(address(9), 1), "nothing came from there");
        assert!(paths.may_answer(address(1), 65_507), "proved long ago");
    }
}
