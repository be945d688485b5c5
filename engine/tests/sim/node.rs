//! One node: an endpoint and a driver turned as a shard turns them, and an application that
//! tells the auditor all it sees.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use raet::buffer::{Pool, Transmit};
use raet::io::Driver;
use raet::io::random::Random;
use raet::io::sim::{SimDriver, SimNetwork};
use raet::limits::{DATAGRAM_LEN_MAX, RECEIVE_BATCH};
use raet::protocol::endpoint::{Endpoint, EndpointConfig, Event, Messages};
use raet::protocol::session::{BootId, Offer};
use raet::time::{Duration, Instant};
use raet::{
    Identity, Outcome, PeerId, PublicKey, SendError, Service, SessionChange, Trust, TrustPolicy,
};

use crate::auditor::{Auditor, Draft};
use crate::plan::{NodePlan, Plan};
use crate::trace::Trace;

/// Buffers of a node's socket: enough that they are not what a world without faults lacks.
const RECEIVE_BUFFERS: u32 = 256;
/// Turns by a timer without any effect, one after another, that are not a busy loop yet.
const IDLE_TURNS_MAX: u32 = 64;
/// When an application offers a reply again that was not taken.
const RETRY_REPLIES_AFTER: Duration = Duration::from_millis(5);
/// When an application tries again to open a session that it wants: at once where that is what
/// a world waits for, and else seldom enough to leave time for what needs no handshake.
const RECONNECT_SOON: Duration = Duration::from_millis(200);
/// When one tries again that was refused.
const REFUSED_AFTER: Duration = Duration::from_secs(60);

/// A fault built in on purpose, to see that the auditor finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    /// A message is handed over twice.
    DeliversTwice,
    /// A reply goes to another request.
    MixesReplies,
    /// A message is reported as done before its handler saw it, and then lost.
    AcknowledgesEarly,
    /// An outcome is not told.
    DropsOutcome,
    /// A byte is wrong.
    FlipsByte,
    /// A received buffer is kept for ever.
    KeepsBuffer,
}

/// A process at a node: all that a crash takes with it.
struct Process {
    endpoint: Endpoint,
    driver: SimDriver,
    pool: Pool,
    stalled: Option<Transmit>,
    /// Who is behind each peer's name.
    known: HashMap<PeerId, usize>,
    /// Names of peers whose session is open.
    open: Vec<(PeerId, usize)>,
    /// Peers to connect to again, when.
    connect_at: Vec<(Instant, usize)>,
    replies: Vec<Owed>,
    held: Vec<(Instant, PeerId)>,
    kept: Vec<Messages>,
}

/// A reply that the application takes its time for.
struct Owed {
    due: Instant,
    peer: PeerId,
    transaction: u64,
    letter: usize,
}

/// A node of the world, running or not.
pub(crate) struct Node {
    index: usize,
    pub(crate) address: SocketAddr,
    identity: Arc<Identity>,
    plan: NodePlan,
    config: Shared,
    /// Peers that the application wants sessions with, and opens them.
    wanted: Vec<usize>,
    addresses: Vec<(SocketAddr, PublicKey)>,
    incarnations: u64,
    process: Option<Process>,
    /// It does not run before this.
    pub(crate) paused_until: Instant,
    wake_at: Option<Instant>,
    idle_turns: u32,
    pub(crate) turns: u64,
    /// The application opens no more sessions.
    pub(crate) is_closing: bool,
    reconnect_after: Duration,
    sabotage: Option<Sabotage>,
    random: Random,
}

/// Settings all nodes share.
#[derive(Clone)]
struct Shared {
    seed: u64,
    offer: Offer,
    psk: Option<[u8; 32]>,
    outcast: Option<PublicKey>,
}

fn identity(seed: u64, index: usize) -> Arc<Identity> {
    let mut secret = [1; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    secret[8] = u8::try_from(index).expect("few nodes");
    Arc::new(Identity::from_secret(&secret))
}

impl Node {
    /// Every node of a world, none of them running.
    pub(crate) fn all(seed: u64, plan: &Plan, sabotage: Option<Sabotage>) -> Vec<Self> {
        let identities: Vec<_> = (0..plan.nodes.len()).map(|index| identity(seed, index)).collect();
        let addresses: Vec<_> = (1_u8..)
            .zip(&identities)
            .map(|(n, identity)| (SocketAddr::from(([10, 0, n, 1], 4_000)), identity.public()))
            .collect();
        let config = Shared {
            seed,
            offer: Offer::new(&plan.suites, &[plan.mode]),
            psk: plan.psk,
            outcast: plan.outcast.map(|index| addresses[index].1),
        };
        let node = |(index, identity): (usize, Arc<Identity>)| Self {
            index,
            address: addresses[index].0,
            identity,
            plan: plan.nodes[index].clone(),
            config: config.clone(),
            wanted: plan
                .edges
                .iter()
                .flat_map(|edge| {
                    let mutual = edge.is_mutual.then_some((edge.responder, edge.initiator));
                    [Some((edge.initiator, edge.responder)), mutual]
                })
                .flatten()
                .filter_map(|(from, to)| (from == index).then_some(to))
                .collect(),
            addresses: addresses.clone(),
            incarnations: 0,
            process: None,
            paused_until: Instant::ZERO,
            wake_at: None,
            idle_turns: 0,
            turns: 0,
            is_closing: false,
            reconnect_after: plan.reconnect_after,
            sabotage,
            random: Random::new(seed ^ 0x6e6f_6465 ^ (index as u64) << 40),
        };
        identities.into_iter().enumerate().map(node).collect()
    }

    /// Starts a process, with a boot id of its own.
    pub(crate) fn start(&mut self, network: &SimNetwork) {
        self.incarnations += 1;
        let mut seed = [2; 32];
        seed[..8].copy_from_slice(&self.config.seed.to_le_bytes());
        seed[8] = u8::try_from(self.index).expect("few nodes");
        seed[16..24].copy_from_slice(&self.incarnations.to_le_bytes());
        let mut boot = [3; 16];
        boot[..8].copy_from_slice(&self.incarnations.to_le_bytes());
        let mut trust = Trust::new(TrustPolicy::Always);
        if let Some(outcast) = self.config.outcast {
            trust.reject(&outcast);
        }
        let plan = &self.plan;
        let config = EndpointConfig {
            psk: self.config.psk,
            offer: self.config.offer.clone(),
            trust,
            mtu: plan.mtu,
            transactions: plan.transactions,
            receive_bytes: plan.receive_bytes,
            tries: plan.tries,
            linger: plan.linger,
            bundle: plan.bundle,
            congestion: plan.congestion,
            initial_round_trip: plan.initial_round_trip,
            ack_delay_max: plan.ack_delay_max,
            idle_timeout: plan.idle_timeout,
            handshake_timeout: Duration::from_secs(20),
            send_buffers: plan.send_buffers,
            ..EndpointConfig::new(Arc::clone(&self.identity), BootId(boot))
        };
        let pool = Pool::new(RECEIVE_BUFFERS, DATAGRAM_LEN_MAX).expect("memory for a pool");
        let now = network.now();
        self.process = Some(Process {
            endpoint: Endpoint::new(now, config, seed).expect("memory for an endpoint"),
            driver: network.open(self.address, pool.clone()),
            pool,
            stalled: None,
            known: HashMap::new(),
            open: Vec::new(),
            connect_at: self.wanted.iter().map(|&peer| (now, peer)).collect(),
            replies: Vec::new(),
            held: Vec::new(),
            kept: Vec::new(),
        });
        self.wake_at = Some(now);
    }

    /// Ends the process without a word.
    pub(crate) fn crash(&mut self, auditor: &mut Auditor) {
        self.process = None;
        self.wake_at = None;
        auditor.on_crash(self.index);
    }

    /// Bad times are over: the application opens what is missing, soon.
    pub(crate) fn recover(&mut self, network: &SimNetwork) {
        self.reconnect_after = RECONNECT_SOON;
        self.paused_until = network.now();
        match &mut self.process {
            None => self.start(network),
            Some(process) => {
                for entry in &mut process.connect_at {
                    entry.0 = entry.0.min(network.now() + RECONNECT_SOON);
                }
                self.wake_at = Some(network.now());
            }
        }
    }

    /// Whether a process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// When the node wants to run, arrivals apart.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.process.as_ref()?;
        self.wake_at.map(|at| at.max(self.paused_until))
    }

    /// Sessions that are open, with the nodes behind them.
    pub(crate) fn open_peers(&self) -> &[(PeerId, usize)] {
        self.process.as_ref().map_or(&[], |process| &process.open)
    }

    /// Offers a draft to the endpoint.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        draft: &Draft,
        auditor: &mut Auditor,
    ) -> Result<(), SendError> {
        let Some(process) = &mut self.process else { return Err(SendError::NotConnected) };
        let to = process.open.iter().find(|(_, node)| *node == draft.to);
        let Some(&(peer, _)) = to else { return Err(SendError::NotConnected) };
        self.wake_at = Some(self.wake_at.map_or(now, |at| at.min(now)));
        self.idle_turns = 0;
        let options = draft.service.into();
        let max = process.endpoint.message_len_max(peer, &options);
        let sent = process.endpoint.send(now, peer, &options, (&draft.bytes).into());
        let window = self.plan.transactions;
        if process.endpoint.outstanding(peer) > u64::from(window) {
            auditor.blame("I22", format!("more than {window} transactions outstanding"));
        }
        match sent {
            Ok(transaction) => auditor.on_sent(draft, peer, transaction),
            Err(SendError::TooLarge { max: told }) => {
                if max != Ok(told) || draft.bytes.len() as u64 <= told {
                    let what = format!("{} bytes too large for {told}", draft.bytes.len());
                    auditor.blame("I22", what);
                }
            }
            Err(_) => {}
        }
        sent.map(drop)
    }

    /// Closes the session with `peer`, whatever state it is in.
    pub(crate) fn close(&mut self, now: Instant, peer: usize) {
        let Some(process) = &mut self.process else { return };
        let known: Vec<PeerId> =
            process.known.iter().filter(|(_, node)| **node == peer).map(|(id, _)| *id).collect();
        for id in known {
            process.endpoint.close(now, id);
        }
        // A handshake that is given up ends without an event.
        if self.wanted.contains(&peer) {
            process.connect_at.push((now + self.reconnect_after, peer));
        }
        self.idle_turns = 0;
        self.wake_at = Some(now);
    }

    /// One turn, as [`raet::shard::Shard`] does it.
    pub(crate) fn turn(&mut self, auditor: &mut Auditor, trace: &mut Trace) {
        let Some(mut process) = self.process.take() else { return };
        self.turns += 1;
        let now = process.driver.wait(None).expect("the simulated driver does not fail");
        trace.note("turn", now, self.index, &[]);
        let mut is_busy = false;
        for _ in 0..RECEIVE_BATCH {
            let Some(received) = process.driver.receive() else { break };
            trace.bytes("in", now, self.index, &received.lease);
            process.endpoint.handle_datagram(now, received);
            is_busy = true;
        }
        process.endpoint.handle_timeout(now);
        while let Some(event) = process.endpoint.poll_event() {
            is_busy = true;
            self.on_event(now, &mut process, event, auditor, trace);
        }
        is_busy |= self.act(now, &mut process, auditor);
        auditor.on_turn(self.index);
        while let Some(transmit) =
            process.stalled.take().or_else(|| process.endpoint.poll_transmit(now))
        {
            is_busy = true;
            trace.bytes("out", now, self.index, &transmit.lease);
            if let Err(back) = process.driver.transmit(transmit) {
                process.stalled = Some(back);
                break;
            }
        }
        // Outcomes of levels without acknowledgement come from sending.
        while let Some(event) = process.endpoint.poll_event() {
            self.on_event(now, &mut process, event, auditor, trace);
        }
        let stays = self.plan.kernel_holds && self.random.below(4) == 0;
        if !stays {
            process.driver.wait(None).expect("the simulated driver does not fail");
        }
        self.idle_turns = if is_busy || stays { 0 } else { self.idle_turns + 1 };
        if self.idle_turns > IDLE_TURNS_MAX {
            self.idle_turns = 0;
            auditor.blame("I25", format!("node {} runs without doing anything", self.index));
        }
        self.wake_at = self.next_wake(now, &process, stays);
        self.process = Some(process);
    }

    fn next_wake(&self, now: Instant, process: &Process, stays: bool) -> Option<Instant> {
        let app = process.connect_at.iter().map(|entry| entry.0);
        let app = app.filter(|_| !self.is_closing);
        let app = app.chain(process.replies.iter().map(|owed| owed.due));
        let app = app.chain(process.held.iter().map(|held| held.0));
        let soon = (stays || process.stalled.is_some()).then(|| now + Duration::from_micros(20));
        app.chain(process.endpoint.next_timeout()).chain(soon).min()
    }

    fn on_event(
        &mut self,
        now: Instant,
        process: &mut Process,
        event: Event,
        auditor: &mut Auditor,
        trace: &mut Trace,
    ) {
        match event {
            Event::Messages(messages) => {
                self.on_messages(now, process, messages, auditor, trace);
            }
            Event::Outcomes { peer, resolved } => {
                let numbers = [resolved.first, u64::from(resolved.count)];
                trace.note(&format!("{:?}", resolved.outcome), now, self.index, &numbers);
                if self.sabotage == Some(Sabotage::DropsOutcome)
                    && resolved.outcome == Outcome::Delivered
                {
                    self.sabotage = None;
                    return;
                }
                auditor.on_outcome(self.index, peer, resolved);
            }
            Event::Session { peer, change } => {
                trace.note(&format!("{change:?}"), now, self.index, &[]);
                self.on_session(now, process, peer, &change, auditor);
            }
            Event::Misrouted { .. } => auditor.blame("I27", "there is one shard".to_owned()),
            Event::Segment(_) | Event::Abandoned { .. } | Event::Gap { .. } => {
                auditor.blame("I10", format!("nobody asked for {event:?}"));
            }
        }
    }

    fn on_session(
        &mut self,
        now: Instant,
        process: &mut Process,
        peer: PeerId,
        change: &SessionChange,
        auditor: &mut Auditor,
    ) {
        match change {
            SessionChange::Opened { key, .. } => {
                let node = self.addresses.iter().position(|(_, known)| known == key);
                let Some(node) = node else {
                    return auditor.blame("I21", "a session with a stranger".to_owned());
                };
                if self.config.outcast == Some(*key) {
                    auditor.blame("I21", format!("node {} let the outcast in", self.index));
                }
                process.known.insert(peer, node);
                process.open.retain(|entry| entry.0 != peer && entry.1 != node);
                process.open.push((peer, node));
                process.connect_at.retain(|entry| entry.1 != node);
            }
            SessionChange::Closed(_) | SessionChange::Refused(_) | SessionChange::TimedOut(_) => {
                auditor.on_closed(self.index, peer);
                process.open.retain(|entry| entry.0 != peer);
                process.replies.retain(|owed| owed.peer != peer);
                process.held.retain(|held| held.1 != peer);
                if let Some(&node) = process.known.get(&peer)
                    && self.wanted.contains(&node)
                {
                    let is_refused = matches!(change, SessionChange::Refused(_));
                    let after = if is_refused { REFUSED_AFTER } else { self.reconnect_after };
                    process.connect_at.push((now + after, node));
                }
            }
            SessionChange::Pending { .. } => {
                auditor.blame("I21", "nobody here waits for an operator".to_owned());
            }
        }
    }

    fn on_messages(
        &mut self,
        now: Instant,
        process: &mut Process,
        messages: Messages,
        auditor: &mut Auditor,
        trace: &mut Trace,
    ) {
        let (peer, service) = (messages.peer(), messages.service());
        let is_reply = messages.is_reply();
        messages.for_each(|transaction, payload| {
            let numbers = [transaction, payload.len() as u64, u64::from(is_reply)];
            trace.note("message", now, self.index, &numbers);
            if is_reply {
                return auditor.on_reply(self.index, peer, transaction, payload);
            }
            let mut payload = payload.to_vec();
            let from = process.known.get(&peer).copied();
            let mut copies = 1;
            match self.sabotage {
                Some(Sabotage::FlipsByte) => {
                    if let Some(byte) = payload.last_mut() {
                        self.sabotage = None;
                        *byte ^= 1;
                    }
                }
                Some(Sabotage::DeliversTwice) if service == Service::AtMostOnce => copies = 2,
                Some(Sabotage::AcknowledgesEarly) if service == Service::ExactlyOnce => {
                    self.sabotage = None;
                    copies = 0;
                }
                _ => {}
            }
            for _ in 0..copies {
                if let Some(letter) = auditor.on_message(self.index, from, service, &payload) {
                    self.handle(now, process, peer, service, transaction, letter, auditor);
                }
            }
        });
        if self.sabotage == Some(Sabotage::KeepsBuffer) {
            process.kept.push(messages);
        }
    }

    /// The application's handler of one message.
    #[expect(clippy::too_many_arguments, reason = "what a handler knows of a message")]
    fn handle(
        &mut self,
        now: Instant,
        process: &mut Process,
        peer: PeerId,
        service: Service,
        transaction: u64,
        letter: usize,
        auditor: &mut Auditor,
    ) {
        if let Some(reason) = auditor.refuses(letter) {
            if process.endpoint.refuse(peer, transaction, reason) {
                auditor.on_handled(letter, false);
            }
            return;
        }
        auditor.on_handled(letter, true);
        let slow = self.plan.slowness > Duration::ZERO && self.random.below(2) == 0;
        let mut later = now;
        if slow {
            later = now + self.random.between(Duration::ZERO, self.plan.slowness);
            process.endpoint.hold(peer, 1);
            process.held.push((later, peer));
        }
        if service == Service::Request {
            process.replies.push(Owed { due: later, peer, transaction, letter });
        }
    }

    /// What the application does by itself: connects, replies, lets go. Returns whether it did.
    fn act(&mut self, now: Instant, process: &mut Process, auditor: &mut Auditor) -> bool {
        let mut is_busy = false;
        if !self.is_closing {
            let due: Vec<usize> = process
                .connect_at
                .extract_if(.., |entry| entry.0 <= now)
                .map(|(_, node)| node)
                .collect();
            for node in due {
                is_busy = true;
                let (address, key) = self.addresses[node];
                match process.endpoint.connect(now, address, key) {
                    Ok(peer) => drop(process.known.insert(peer, node)),
                    Err(error) => auditor.blame("I21", format!("cannot connect: {error}")),
                }
            }
        }
        for (_, peer) in process.held.extract_if(.., |held| held.0 <= now) {
            is_busy = true;
            process.endpoint.release(peer, 1);
        }
        let mut mixed = self.sabotage == Some(Sabotage::MixesReplies);
        for owed in &mut process.replies {
            if owed.due > now {
                continue;
            }
            let letter = if std::mem::take(&mut mixed) { owed.letter ^ 1 } else { owed.letter };
            let bytes = auditor.reply(letter);
            match process.endpoint.reply(now, owed.peer, owed.transaction, (&bytes).into()) {
                Ok(()) | Err(SendError::NotConnected) => owed.due = Instant::ZERO,
                Err(SendError::Full(_)) => owed.due = now + RETRY_REPLIES_AFTER,
                Err(error) => auditor.blame("I16", format!("a reply was not taken: {error}")),
            }
            is_busy = true;
        }
        process.replies.retain(|owed| owed.due > Instant::ZERO);
        is_busy
    }

    /// Checks that nothing is left of the sessions that were.
    pub(crate) fn check_clean(&self, auditor: &mut Auditor) {
        let Some(process) = &self.process else { return };
        let endpoint = &process.endpoint;
        let mut left = Vec::new();
        if endpoint.session_count() > 0 {
            left.push(format!("{} sessions", endpoint.session_count()));
        }
        let (free, all) = endpoint.free_buffers();
        if free < all {
            left.push(format!("{} send buffers", all - free));
        }
        let (free, all) = (process.pool.available(), process.pool.capacity());
        if free < all {
            left.push(format!("{} receive buffers", all - free));
        }
        if let Some(at) = endpoint.next_timeout() {
            left.push(format!("a timer at {at:?}"));
        }
        if !left.is_empty() {
            auditor.blame("I27", format!("node {} still has {}", self.index, left.join(", ")));
        }
    }
}
