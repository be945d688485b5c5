//! raet: exactly-once one way, request and reply otherwise.
//!
//! A poller on each side's thread that never sleeps while it has its core for itself. As many
//! transactions outstanding as can be, 8 MiB of them; CUBIC, GSO, GRO and io_uring, as by default,
//! but system calls where requests wait for replies. AES-256-GCM; *aegis* has AEGIS-128L in its place and *plain* leaves
//! the cipher out, as both sides have to ask for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use raet::time::Duration;
use raet::{
    Batch, Burst, Config, Context, Handler, Identity, IoChoice, Message, Mode, Mtu, Outbound,
    PeerId, Poller, PublicKey, SendOptions, Service, SessionChange, Suite, Trust, TrustPolicy,
};

use super::{Entry, none};
use crate::link::{Application, Next, Outbox, Peer, Result, Wait};
use crate::run::run;
use crate::workload::Workload;

/// Bytes that may be outstanding.
const RECEIVE_BYTES: u64 = 8 << 20;
/// Bytes offered in one turn: what is sent in it is still in the core's own cache.
const OFFERED_LEN: usize = 256 << 10;
/// Datagrams as small as those of a path through an Ethernet.
const ETHERNET: Mtu = Mtu::Fixed(1_400);
/// How long a side that sleeps may overlook the end of the run.
const NAP: Duration = Duration::from_millis(10);

const AES: Suite = Suite::Aes256Gcm;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            name: "raet",
            settings: "exactly-once, AES-256-GCM, datagrams of 1400 B",
            is_encrypted: true,
            excuse: none,
            run: |workload, seconds| {
                run(&Raet::new(workload, ETHERNET, Mode::Sealed, AES)?, workload, seconds, true)
            },
        },
        Entry {
            name: "raet jumbo",
            settings: "exactly-once, AES-256-GCM, datagrams as large as the path takes",
            is_encrypted: true,
            excuse: none,
            run: |workload, seconds| {
                run(&Raet::new(workload, Mtu::Auto, Mode::Sealed, AES)?, workload, seconds, true)
            },
        },
        #[cfg(feature = "aegis")]
        Entry {
            name: "raet aegis",
            settings: "exactly-once, AEGIS-128L, datagrams of 1400 B",
            is_encrypted: true,
            excuse: none,
            run: |workload, seconds| {
                let raet = Raet::new(workload, ETHERNET, Mode::Sealed, Suite::Aegis128L)?;
                run(&raet, workload, seconds, true)
            },
        },
        Entry {
            name: "raet plain",
            settings: "exactly-once, not encrypted, datagrams of 1400 B",
            is_encrypted: false,
            excuse: none,
            run: |workload, seconds| {
                run(&Raet::new(workload, ETHERNET, Mode::Plain, AES)?, workload, seconds, true)
            },
        },
    ]
}

struct Raet {
    initiator: Mutex<Option<Config>>,
    responder: Mutex<Option<Config>>,
    key: PublicKey,
    service: Service,
}

impl Raet {
    fn new(workload: Workload, mtu: Mtu, mode: Mode, suite: Suite) -> Result<Self> {
        // Where a side spins for one datagram, a system call brings it sooner than a ring.
        let (service, io) = match workload {
            Workload::Connect | Workload::Request { .. } => (Service::Request, IoChoice::Mmsg),
            _ => (Service::ExactlyOnce, IoChoice::Auto),
        };
        let config = || -> Result<Config> {
            let mut config = Config::new(Identity::random()?);
            config.mtu = mtu;
            config.io = io;
            config.modes = vec![mode];
            config.suites = vec![suite];
            config.transactions = raet::limits::TRANSACTIONS_MAX;
            config.receive_bytes = RECEIVE_BYTES;
            // No other peer has a budget for strangers either.
            config.handshakes_per_second = raet::limits::INITIATES_PER_SECOND_MAX;
            Ok(config)
        };
        let (mut initiator, mut responder) = (config()?, config()?);
        initiator.listen = false;
        responder.trust = Trust::new(TrustPolicy::Always);
        let key = responder.identity.public();
        Ok(Self {
            initiator: Mutex::new(Some(initiator)),
            responder: Mutex::new(Some(responder)),
            key,
            service,
        })
    }

    /// Runs one side to its end.
    fn drive<A: Application>(
        &self,
        config: &Mutex<Option<Config>>,
        to: Option<SocketAddr>,
        wait: Wait,
        announce: impl FnOnce(SocketAddr),
        application: A,
    ) -> Result<A> {
        let config = config.lock().expect("nobody panics with it").take();
        let side = Side {
            application: Some(application),
            to,
            key: self.key,
            service: self.service,
            peer: None,
            failure: None,
        };
        let mut poller = Poller::new(config.ok_or("a side runs once")?, side)?;
        announce(poller.address());
        let patience = if wait == Wait::Spin { Duration::ZERO } else { NAP };
        while !poller.is_stopped() {
            poller.poll(patience)?;
        }
        poller.with(|side, _| match (side.failure.take(), side.application.take()) {
            (None, Some(application)) => Ok(application),
            (failure, _) => Err(failure.unwrap_or_default().into()),
        })
    }
}

impl Peer for Raet {
    fn respond<A: Application>(
        &self,
        wait: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        application: A,
    ) -> Result<A> {
        self.drive(&self.responder, None, wait, announce, application)
    }

    fn initiate<A: Application>(&self, wait: Wait, to: SocketAddr, application: A) -> Result<A> {
        self.drive(&self.initiator, Some(to), wait, |_| {}, application)
    }
}

/// A side as a handler.
struct Side<A> {
    /// There until it is handed back.
    application: Option<A>,
    /// Whom to connect to, if it is ours to do.
    to: Option<SocketAddr>,
    key: PublicKey,
    service: Service,
    peer: Option<PeerId>,
    failure: Option<String>,
}

impl<A: Application> Side<A> {
    fn connect(&mut self, context: &mut Context<'_>) {
        let Some(to) = self.to else { return };
        if let Err(error) = context.connect(to, self.key) {
            self.fail(context, error.to_string());
        }
    }

    fn fail(&mut self, context: &mut Context<'_>, failure: String) {
        self.failure = Some(failure);
        context.stop();
    }
}

impl<A: Application> Handler for Side<A> {
    fn on_start(&mut self, context: &mut Context<'_>) {
        self.connect(context);
    }

    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        let Some(application) = &mut self.application else { return };
        let Message { peer, transaction, payload, .. } = message;
        application.take(payload, &mut Replying { context, peer, transaction });
    }

    fn on_batch(&mut self, context: &mut Context<'_>, batch: Batch<'_>) {
        if batch.service() == Service::Request && !batch.is_reply() {
            return batch.iter().for_each(|request| self.on_message(context, request));
        }
        let Some(application) = &mut self.application else { return };
        context.burst(batch.peer(), SendOptions::new(self.service), |burst| {
            let mut outbox = Sending { burst, room: OFFERED_LEN };
            batch.iter().for_each(|message| application.take(message.payload, &mut outbox));
        });
    }

    fn on_session(&mut self, context: &mut Context<'_>, peer: PeerId, change: SessionChange) {
        match change {
            SessionChange::Opened { .. } => {
                self.peer = Some(peer);
                if let Some(application) = &mut self.application {
                    application.on_open();
                }
            }
            SessionChange::Closed(_) | SessionChange::Lost(_) if self.to.is_none() => {}
            SessionChange::Moved { .. } => {}
            SessionChange::Closed(_) if self.peer.is_none() => {}
            change => self.fail(context, format!("the session ended: {change:?}")),
        }
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        let Some(application) = &mut self.application else { return };
        if let (Some(to), Some(_)) = (self.peer, self.to) {
            context.burst(to, SendOptions::new(self.service), |burst| {
                application.offer(&mut Sending { burst, room: OFFERED_LEN });
            });
        }
        match application.next() {
            Next::Go => {}
            Next::Reconnect => {
                if let Some(peer) = self.peer.take() {
                    context.close(peer);
                }
                self.connect(context);
            }
            Next::Stop => context.stop(),
        }
    }
}

/// Messages become sends.
struct Sending<'a, 'b> {
    burst: &'a mut Burst<'b>,
    /// Bytes that may still be offered in this turn.
    room: usize,
}

impl Sending<'_, '_> {
    fn put<'p>(&mut self, message: impl Into<Outbound<'p>>) -> bool {
        let message = message.into();
        let len = message.len();
        let is_taken = self.room > 0 && self.burst.send(message).is_ok();
        self.room = if is_taken { self.room.saturating_sub(len) } else { self.room };
        is_taken
    }
}

impl Outbox for Sending<'_, '_> {
    #[inline]
    fn send(&mut self, message: &[u8]) -> bool {
        self.put(message)
    }

    fn send_shared(&mut self, message: &Arc<[u8]>) -> bool {
        self.put(Outbound::Shared(Arc::clone(message)))
    }
}

/// A message becomes the reply to the request at hand.
struct Replying<'a, 'b> {
    context: &'a mut Context<'b>,
    peer: PeerId,
    transaction: u64,
}

impl Outbox for Replying<'_, '_> {
    fn send(&mut self, message: &[u8]) -> bool {
        self.context.reply(self.peer, self.transaction, message).is_ok()
    }
}
