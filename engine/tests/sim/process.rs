//! A process of a world that is one by itself: an endpoint and a driver, turned as a shard turns them.

use std::net::SocketAddr;
use std::sync::Arc;

use raet::buffer::{Pool, Transmit};
use raet::io::Driver;
use raet::io::sim::{SimDriver, SimNetwork};
use raet::limits::DATAGRAM_LEN_MAX;
use raet::protocol::endpoint::{Endpoint, EndpointConfig, Event};
use raet::protocol::session::BootId;
use raet::time::{Duration, Instant};
use raet::{Identity, Mtu, PublicKey, Trust, TrustPolicy};

/// The shortest turn.
pub(crate) const TURN: Duration = Duration::from_micros(2);

/// An endpoint and its driver.
pub(crate) struct Process {
    pub(crate) endpoint: Endpoint,
    driver: SimDriver,
    pub(crate) address: SocketAddr,
    stalled: Option<Transmit>,
    pub(crate) wake_at: Option<Instant>,
}

impl Process {
    /// Process `number` with its default settings, changed by `adjust`.
    pub(crate) fn new(
        network: &SimNetwork,
        number: u8,
        adjust: impl FnOnce(&mut EndpointConfig),
    ) -> Self {
        let identity = Arc::new(Identity::from_secret(&[number; 32]));
        let mut config = EndpointConfig {
            trust: Trust::new(TrustPolicy::Always),
            mtu: Mtu::Fixed(1_400),
            ..EndpointConfig::new(identity, BootId([number; 16]))
        };
        adjust(&mut config);
        let address = SocketAddr::from(([10, 0, 0, number], 4_000));
        let pool = Pool::new(1_024, DATAGRAM_LEN_MAX).expect("memory for a pool");
        Self {
            endpoint: Endpoint::new(network.now(), config, [number; 32]).expect("memory"),
            driver: network.open(address, pool),
            address,
            stalled: None,
            wake_at: Some(network.now()),
        }
    }

    /// The key of process `number`.
    pub(crate) fn key(number: u8) -> PublicKey {
        Identity::from_secret(&[number; 32]).public()
    }

    /// Whether it has something to do by `now`.
    pub(crate) fn is_due(&self, network: &SimNetwork, now: Instant) -> bool {
        network.has_received(self.address) || self.wake_at.is_some_and(|at| at <= now)
    }

    /// One turn. `on_event` is the application, and offers what it has to send.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        mut on_event: impl FnMut(&mut Endpoint, Option<Event>),
    ) {
        self.driver.wait(None).expect("the simulated driver does not fail");
        while let Some(received) = self.driver.receive() {
            self.endpoint.handle_datagram(now, received);
        }
        self.endpoint.handle_timeout(now);
        while let Some(event) = self.endpoint.poll_event() {
            on_event(&mut self.endpoint, Some(event));
        }
        on_event(&mut self.endpoint, None);
        loop {
            let next = self.stalled.take().or_else(|| self.endpoint.poll_transmit(now));
            let Some(transmit) = next else { break };
            if let Err(back) = self.driver.transmit(transmit) {
                self.stalled = Some(back);
                break;
            }
        }
        self.driver.wait(None).expect("the simulated driver does not fail");
        let soon = self.stalled.is_some().then(|| now + TURN);
        self.wake_at = self.endpoint.next_timeout().into_iter().chain(soon).min();
    }

    /// Datagrams that found no receive buffer.
    pub(crate) fn unbuffered(&self) -> u64 {
        self.driver.counters().receive_errors
    }
}
