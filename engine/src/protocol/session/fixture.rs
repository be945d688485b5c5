//! What several tests of this room share: two nodes that can be introduced to each other.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{
    BootId, Established, Identity, Initiated, Initiator, InitiatorConfig, Mode, Offer, PeerText,
    Progress, Responder, ResponderConfig, Trust, TrustPolicy,
};
use crate::protocol::crypto::{Random, Suite};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire;
use crate::time::{Duration, Instant};

/// The bytes of a hex text.
pub(super) fn unhex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
}

/// When tests begin.
pub(super) const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// Where the initiator is.
pub(super) fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4_000))
}

/// A responder with its trust, and what an initiator for it would be started with.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) random: Random,
    pub(super) config: InitiatorConfig,
    pub(super) responder: Responder,
    pub(super) trust: Trust,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// A pair whose two configurations were changed before the responder was made.
    pub(super) fn with(change: impl FnOnce(&mut InitiatorConfig, &mut ResponderConfig)) -> Self {
        let mut random = Random::from_seed([42; 32]);
        let asked = Arc::new(Identity::generate(&mut random));
        let asking = Arc::new(Identity::generate(&mut random));
        let boot = BootId::generate(&mut random);
        let mut config = InitiatorConfig::new(asking, Some(asked.public()), boot);
        config.name = PeerText::new(b"edge-1").expect("printable");
        let boot = BootId::generate(&mut random);
        let mut responder = ResponderConfig::new(asked, boot);
        change(&mut config, &mut responder);
        let responder = Responder::new(START, responder, &mut random);
        Self { now: START, random, config, responder, trust: Trust::new(TrustPolicy::Always) }
    }

    pub(super) fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    pub(super) fn start(&mut self) -> Initiator {
        Initiator::start(self.now, self.config.clone(), &mut self.random)
    }

    /// The datagram that the initiator wants to send.
    pub(super) fn sent(&self, initiator: &mut Initiator) -> Option<Vec<u8>> {
        let mut out = vec![0; 1_200];
        let len = initiator.poll_transmit(self.now, &mut out)?;
        out.truncate(len);
        Some(out)
    }

    pub(super) fn hello(&mut self, from: SocketAddr, hello: &[u8]) -> Result<Vec<u8>, DropReason> {
        let packet = wire::split(hello)?;
        let mut out = vec![0; 1_200];
        let len = self.responder.handle_hello(self.now, from, &packet, hello, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    pub(super) fn initiate(
        &mut self,
        from: SocketAddr,
        initiate: &[u8],
    ) -> Result<(Initiated, Vec<u8>), DropReason> {
        let packet = wire::split(initiate)?;
        let mut out = vec![0; 1_200];
        let initiated = self.responder.handle_initiate(
            self.now,
            from,
            &packet,
            initiate,
            &mut self.trust,
            &|_| false,
            &|_| 0,
            &mut self.random,
            &mut out,
        )?;
        out.truncate(initiated.reply_len);
        Ok((initiated, out))
    }

    pub(super) fn take(
        &mut self,
        initiator: &mut Initiator,
        datagram: &[u8],
    ) -> Result<Progress, DropReason> {
        let packet = wire::split(datagram)?;
        initiator.handle(self.now, &packet, datagram, &mut self.random)
    }

    /// Brings a new initiator up to the Initiate that it sends.
    pub(super) fn up_to_initiate(&mut self) -> (Initiator, Vec<u8>) {
        let mut initiator = self.start();
        let hello = self.sent(&mut initiator).expect("the hello is due");
        let cookie = self.hello(address(), &hello).expect("a good hello");
        let progress = self.take(&mut initiator, &cookie).expect("a good cookie");
        assert!(matches!(progress, Progress::Waiting));
        let initiate = self.sent(&mut initiator).expect("the initiate is due");
        (initiator, initiate)
    }

    /// A whole handshake without loss.
    pub(super) fn run(&mut self) -> (Progress, Initiated) {
        let (mut initiator, initiate) = self.up_to_initiate();
        let (initiated, accept) = self.initiate(address(), &initiate).expect("a good initiate");
        let progress = self.take(&mut initiator, &accept).expect("a good accept");
        (progress, initiated)
    }

    /// A whole handshake that opens a session: the initiator's side and the responder's.
    pub(super) fn establish(&mut self) -> (Established, Established) {
        match self.run() {
            (Progress::Established(ours), Initiated { established: Some(theirs), .. }) => {
                (*ours, *theirs)
            }
            other => panic!("not established: {other:?}"),
        }
    }
}

/// Both sides of a session with this cipher and mode.
pub(super) fn session(suite: Suite, mode: Mode) -> (Established, Established) {
    let offer = Offer::new(&[suite], &[mode]);
    Pair::with(|initiator, responder| {
        initiator.offer = offer.clone();
        responder.offer = offer;
    })
    .establish()
}
