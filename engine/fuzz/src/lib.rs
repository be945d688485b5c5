//! What several targets share: both sides of a handshake, the same every time, and how sets are told
//! as ranges.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use raet::protocol::drop_reason::DropReason;
use raet::protocol::session::{
    BootId, Established, Initiator, InitiatorConfig, PeerText, Progress, Random, Responder,
    ResponderConfig,
};
use raet::protocol::wire::{PacketKind, split};
use raet::time::Instant;
use raet::{Identity, Trust, TrustPolicy};

/// When all of it happens.
pub const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
/// Bytes of the longest handshake packet.
const PACKET_LEN_MAX: usize = 1_200;

/// Where the initiator is.
pub fn home() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4_000))
}

/// Who asks, and who is asked.
pub fn identities() -> [Arc<Identity>; 2] {
    static BOTH: OnceLock<[Arc<Identity>; 2]> = OnceLock::new();
    let both = || [1, 2].map(|number| Arc::new(Identity::from_secret(&[number; 32])));
    BOTH.get_or_init(both).clone()
}

/// Both sides of a handshake.
pub struct Pair {
    pub initiator: Initiator,
    responder: Responder,
    trust: Trust,
    random: Random,
}

/// What a packet led to.
pub struct Effect {
    /// What its receiver sends then.
    pub answer: Vec<u8>,
    /// The session that its receiver then has.
    pub established: Option<Box<Established>>,
}

impl Pair {
    /// A pair whose configurations were changed before it was made.
    pub fn new(change: impl FnOnce(&mut InitiatorConfig, &mut ResponderConfig)) -> Self {
        let [asking, asked] = identities();
        let mut ours = InitiatorConfig::new(asking, Some(asked.public()), BootId([1; 16]));
        ours.name = PeerText::new(b"edge-1").expect("printable");
        let mut theirs = ResponderConfig::new(asked, BootId([2; 16]));
        change(&mut ours, &mut theirs);
        let mut random = Random::from_seed([5; 32]);
        Self {
            initiator: Initiator::start(NOW, ours, &mut random),
            responder: Responder::new(NOW, theirs, &mut random),
            trust: Trust::new(TrustPolicy::Always),
            random,
        }
    }

    /// What the initiator wants to send.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        let mut out = vec![0; PACKET_LEN_MAX];
        let len = self.initiator.poll_transmit(NOW, &mut out)?;
        out.truncate(len);
        Some(out)
    }

    /// Gives a datagram to whom its kind is for.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn take(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<Effect, DropReason> {
        let packet = split(datagram)?;
        let mut answer = vec![0; PACKET_LEN_MAX];
        match packet.head.packet {
            PacketKind::Hello => {
                let out = &mut answer;
                let len = self.responder.handle_hello(NOW, from, &packet, datagram, out)?;
                answer.truncate(len);
                Ok(Effect { answer, established: None })
            }
            PacketKind::Initiate => {
                let initiated = self.responder.handle_initiate(
                    NOW,
                    from,
                    &packet,
                    datagram,
                    &mut self.trust,
                    &|_| false,
                    &|_| 0,
                    &mut self.random,
                    &mut answer,
                )?;
                answer.truncate(initiated.reply_len);
                Ok(Effect { answer, established: initiated.established })
            }
            _ => {
                let random = &mut self.random;
                let established = match self.initiator.handle(NOW, &packet, datagram, random)? {
                    Progress::Established(established) => Some(established),
                    Progress::Waiting => None,
                    other => panic!("nobody said {other:?}"),
                };
                Ok(Effect { answer: self.poll().unwrap_or_default(), established })
            }
        }
    }
}

/// Numbers that follow each other, as ranges.
pub fn runs(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs.into_iter()
}
