//! Two endpoints in memory: the protocol without a kernel.
//!
//! Trains are copied once from the sender's buffers to the receiver's, which is what the kernel
//! would do. Time is virtual, the rate fixed and high, so that only work is measured and nothing
//! waits.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use raet::buffer::{Pool, Received};
use raet::limits::DATAGRAM_LEN_MAX;
use raet::protocol::endpoint::{
    Endpoint, EndpointConfig, EndpointCounters, Event, Mtu, PeerId, SessionChange,
};
use raet::protocol::session::recovery::CongestionConfig;
use raet::protocol::session::{BootId, Identity, Trust, TrustPolicy};
use raet::protocol::transaction::Outcome;
use raet::protocol::wire::ServiceKind;
use raet::time::{Duration, Instant};

/// Virtual time between turns, about what a turn on a busy shard takes.
const TURN: Duration = Duration::from_micros(20);
/// More than a round takes by far; reached only by a bench that measures nothing.
const TURNS_MAX: u32 = 10_000;

/// One endpoint, and what it saw.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    /// Where its arrivals lie.
    pool: Pool,
    /// Sessions that opened, by where their peer is.
    pub(crate) opened: Vec<(SocketAddr, PeerId)>,
    pub(crate) messages: u64,
    bytes: u64,
    replies: u64,
    pub(crate) delivered: u64,
    replied: u64,
}

impl Side {
    /// An endpoint whose secret key, boot id and randomness are made of `secret`.
    pub(crate) fn new(
        secret: [u8; 32],
        address: SocketAddr,
        pool: Pool,
        adjust: impl Fn(&mut EndpointConfig),
    ) -> Self {
        let identity = Arc::new(Identity::from_secret(&secret));
        let boot = secret.first_chunk().expect("a secret is longer than a boot id");
        let mut config = EndpointConfig::new(identity, BootId(*boot));
        config.trust = Trust::new(TrustPolicy::Always);
        config.mtu = Mtu::Fixed(1_400);
        config.congestion = CongestionConfig::FixedRate { bytes_per_second: 100_000_000_000 };
        adjust(&mut config);
        let endpoint = Endpoint::new(Instant::ZERO, config, secret).expect("memory");
        Self {
            endpoint,
            address,
            pool,
            opened: Vec::new(),
            messages: 0,
            bytes: 0,
            replies: 0,
            delivered: 0,
            replied: 0,
        }
    }

    /// Sends everything that is due to `to`.
    fn transmit(&mut self, now: Instant, to: &mut Self) {
        while let Some((_, received)) = self.poll(now, &to.pool) {
            to.receive(now, received);
        }
    }

    /// The next train that is due, where it goes, and a copy of it in `pool`.
    #[inline]
    pub(crate) fn poll(&mut self, now: Instant, pool: &Pool) -> Option<(SocketAddr, Received)> {
        let transmit = self.endpoint.poll_transmit(now)?;
        let mut lease = pool.take().expect("arrivals are taken before there are so many");
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        buffer[..transmit.lease.len()].copy_from_slice(&transmit.lease);
        let lease = lease.narrow(0..transmit.lease.len());
        let (from, ecn, segment_len) = (self.address, transmit.ecn, transmit.segment_len);
        Some((transmit.to, Received { from, ecn, lease, segment_len }))
    }

    /// Takes a train and what follows from it.
    #[inline]
    pub(crate) fn receive(&mut self, now: Instant, received: Received) {
        self.endpoint.handle_datagram(now, received);
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Messages(messages) => {
                    let (peer, is_reply) = (messages.peer(), messages.is_reply());
                    let is_request = messages.service() == ServiceKind::Request && !is_reply;
                    self.messages += u64::from(messages.count());
                    self.replies += if is_reply { messages.count().into() } else { 0 };
                    for (transaction, payload) in messages.iter() {
                        self.bytes += black_box(payload).len() as u64;
                        if is_request {
                            let sent = self.endpoint.reply(now, peer, transaction, payload.into());
                            sent.expect("as many replies as requests find room");
                        }
                    }
                }
                Event::Outcomes { resolved, .. } => match resolved.outcome {
                    Outcome::Delivered => self.delivered += u64::from(resolved.count),
                    Outcome::Replied => self.replied += u64::from(resolved.count),
                    other => panic!("{other:?} on a path that loses nothing"),
                },
                Event::Session { peer, change: SessionChange::Opened { address, .. } } => {
                    self.opened.push((address, peer));
                }
                Event::Misrouted { .. } => panic!("there is one shard"),
                other => panic!("{other:?} on a path that loses nothing"),
            }
        }
    }
}

/// Two endpoints with a session.
#[derive(Debug)]
pub struct Pair {
    one: Side,
    two: Side,
    peer: PeerId,
    now: Instant,
}

impl Pair {
    /// Boot ids: of the endpoint that opens the session, then of the other.
    pub const BOOTS: [BootId; 2] = [BootId([1; 16]), BootId([2; 16])];

    /// Opens the session of two endpoints whose configurations are `adjust`ed.
    pub fn open(adjust: impl Fn(&mut EndpointConfig)) -> Self {
        let side = |number: u8| {
            let address = SocketAddr::from(([127, 0, 0, number], 4_000));
            let pool = Pool::new(64, DATAGRAM_LEN_MAX).expect("memory for the buffers");
            Side::new([number; 32], address, pool, &adjust)
        };
        let (mut one, two) = (side(1), side(2));
        let now = Instant::from_nanos(1_000_000);
        let key = Identity::from_secret(&[2; 32]).public();
        let peer = one.endpoint.connect(now, two.address, key).expect("a free slot");
        let mut pair = Self { one, two, peer, now };
        let opened = (0..TURNS_MAX).any(|_| {
            pair.turn();
            pair.one.endpoint.packet_message_len_max(peer).is_ok()
        });
        assert!(opened);
        pair
    }

    fn turn(&mut self) {
        self.now += TURN;
        self.one.endpoint.handle_timeout(self.now);
        self.one.transmit(self.now, &mut self.two);
        self.two.endpoint.handle_timeout(self.now);
        self.two.transmit(self.now, &mut self.one);
    }

    /// Sends `count` messages at once, until each has its outcome.
    pub fn round(&mut self, count: u64, service: ServiceKind, message: &[u8]) {
        let end = self.one.delivered + self.one.replied + count;
        let (messages, bytes) = (self.two.messages, self.two.bytes);
        let (endpoint, options) = (&mut self.one.endpoint, service.into());
        let sent = if count == 1 {
            endpoint.send(self.now, self.peer, &options, message.into()).map(|_| ())
        } else {
            let (_, sent) = endpoint.burst(self.now, self.peer, options, |burst| {
                burst.send_row(count, message.len(), |_, place| place.copy_from_slice(message))
            });
            sent
        };
        sent.expect("the batch finds room");
        let ended = (0..TURNS_MAX).any(|_| {
            self.turn();
            self.one.delivered + self.one.replied == end
        });
        assert!(ended, "{} of {end} ended", self.one.delivered + self.one.replied);
        assert_eq!(self.two.messages - messages, count, "each arrived once");
        assert_eq!(self.two.bytes - bytes, count * message.len() as u64);
    }

    /// What either endpoint did: the one that opened the session, then the other.
    pub fn counters(&self) -> [&EndpointCounters; 2] {
        [self.one.endpoint.counters(), self.two.endpoint.counters()]
    }

    /// After a while everything is accounted for: nothing was lost, every buffer came home.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            self.turn();
        }
        for side in [&self.one, &self.two] {
            let counters = side.endpoint.counters();
            assert_eq!((counters.packets_lost, counters.retransmissions), (0, 0));
            assert_eq!(counters.drops.total(), 0);
            let (free, all) = side.endpoint.free_buffers();
            assert_eq!(free, all);
        }
    }
}
