//! raet: exactly-once one way, request and reply otherwise.
//!
//! A poller on each side's thread that never sleeps while it has its core for itself. As many
//! transactions outstanding as can be, 8 MiB of them; CUBIC, GSO, GRO and the driver that
//! the kernel offers, as by default. AES-256-GCM; *aegis* has AEGIS-128L in its place and *plain* leaves
//! the cipher out, as both sides have to ask for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use raet::time::Duration;
use raet::{
    Config, Context, Handler, Identity, Message, Mode, Mtu, Outbound, PeerId, Poller, PublicKey,
    Service, SessionChange, Suite, Trust, TrustPolicy,
};

use super::{Entry, none};
use crate::link::{Application, Next, Outbox, Peer, Result, Wait};
use crate::run::run;
use crate::workload::Workload;

/// Bytes that may be outstanding.
const RECEIVE_BYTES: u64 = 8 << 20;
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
        let config = || -> Result<Config> {
            let mut config = Config::new(Identity::random()?);
            config.mtu = mtu;
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
        let service = match workload {
            Workload::Connect | Workload::Request { .. } => Service::Request,
            _ => Service::ExactlyOnce,
        };
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
        let is_request = message.service == Service::Request && !message.is_reply;
        let replies_to = is_request.then_some(message.transaction);
        let mut outbox = Posting { context, to: message.peer, service: self.service, replies_to };
        application.take(message.payload, &mut outbox);
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
            let mut outbox = Posting { context, to, service: self.service, replies_to: None };
            application.offer(&mut outbox);
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

/// Messages become sends, or replies to the request at hand.
struct Posting<'a, 'b> {
    context: &'a mut Context<'b>,
    to: PeerId,
    service: Service,
    replies_to: Option<u64>,
}

impl Posting<'_, '_> {
    fn put<'p>(&mut self, message: impl Into<Outbound<'p>>) -> bool {
        match self.replies_to {
            Some(transaction) => self.context.reply(self.to, transaction, message).is_ok(),
            None => self.context.send(self.to, self.service, message).is_ok(),
        }
    }
}

impl Outbox for Posting<'_, '_> {
    fn send(&mut self, message: &[u8]) -> bool {
        self.put(message)
    }

    fn send_shared(&mut self, message: &Arc<[u8]>) -> bool {
        self.put(Outbound::Shared(Arc::clone(message)))
    }
}
