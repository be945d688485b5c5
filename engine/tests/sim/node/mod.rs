//! One node: an endpoint and a driver turned as a shard turns them, and an application that
//! tells the auditor all it sees.

mod application;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use raet::buffer::{Pool, Transmit};
use raet::io::Driver;
use raet::io::random::Random;
use raet::io::sim::{SimDriver, SimNetwork};
use raet::limits::{DATAGRAM_LEN_MAX, RECEIVE_BATCH};
use raet::protocol::endpoint::{Endpoint, EndpointConfig, Messages};
use raet::protocol::session::{BootId, Offer};
use raet::time::{Duration, Instant};
use raet::{
    Deferred, Identity, Mode, Outbound, Outcome, PeerId, PublicKey, Resolved, SendError, Trust,
    TrustPolicy,
};

use crate::auditor::Auditor;
use crate::ledger::Ledger;
use crate::letter::{Draft, NUMBER_LEN};
use crate::plan::{NodePlan, Plan};
use crate::trace::Trace;

/// Turns by a timer without any effect, one after another, that are not a busy loop yet.
const IDLE_TURNS_MAX: u32 = 64;
/// When an application tries again to open a session that it wants: at once where that is what
/// a world waits for, and else seldom enough to leave time for what needs no handshake.
const RECONNECT_SOON: Duration = Duration::from_millis(200);
/// When a message that is taken back is, at the latest.
const CANCEL_WITHIN: Duration = Duration::from_millis(50);
/// How long a session that closes in order may take at most.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// Messages that leave beyond the window in a turn at most: the probes of one time-out.
const PROBES_MAX: usize = 2;
/// By how much figures are overstated that have to be found too large.
const OVERSTATED: u64 = 64;

/// A fault built in on purpose, to see that the auditor finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    /// More is kept of incomplete messages than was granted.
    AssemblesTooMuch,
    /// More replies are kept than the peer granted.
    CachesTooMuch,
    /// More waits in streams than was granted.
    EscrowsTooMuch,
    /// A message that nobody waits for is said to have left before it did.
    EndsEarly,
    /// More is in flight than the window allows.
    ExceedsWindow,
    /// A packet that was altered on its way is opened.
    OpensAltered,
    /// More is under way than the peer granted.
    SendsTooMuch,
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
    /// Pieces of a message are handed over after it was refused.
    GoesOnRefused,
    /// A gap in a stream is not told.
    HidesGap,
    /// A received buffer is kept for ever.
    KeepsBuffer,
    /// Sessions that are to be kept alive are not.
    LetsSleep,
    /// A piece of a message is not handed over.
    LosesPiece,
    /// A message leaves although it is of no use any more.
    SendsLate,
    /// Two messages of a stream change places.
    SwapsOrder,
    /// A message is done before its handler commits it.
    TellsBeforeCommit,
}

impl Sabotage {
    /// How often each of [`crate::plan::SERVICES`] is used where this is to be found.
    pub(crate) const fn services(self) -> [u64; 8] {
        match self {
            Self::EndsEarly => [1, 0, 0, 0, 0, 0, 0, 0],
            Self::EscrowsTooMuch => [0, 0, 0, 0, 0, 0, 1, 0],
            Self::CachesTooMuch => [0, 0, 0, 0, 0, 0, 0, 1],
            _ => [1; 8],
        }
    }

    /// How many messages are refused where it is to be found: one in so many, or none.
    pub(crate) fn refusals(self) -> u64 {
        if self == Self::GoesOnRefused { 2 } else { 0 }
    }

    /// The mode in which it is to be found, if only in one.
    pub(crate) fn mode(self) -> Option<Mode> {
        (self == Self::OpensAltered).then_some(Mode::Signed)
    }
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
    /// Names of peers whose session was lost, and not what was sent.
    lost: Vec<(PeerId, usize)>,
    /// Peers to connect to again, when.
    connect_at: Vec<(Instant, usize)>,
    replies: Vec<Owed>,
    held: Vec<(Instant, PeerId)>,
    deferred: Vec<Uncommitted>,
    /// Messages to be taken back.
    regretted: Vec<Owed>,
    kept: Vec<(Instant, Messages)>,
    ledger: Ledger,
    unbuffered: u64,
    /// Peers to whom a message left in this turn that the window had no room for.
    beyond_window: Vec<PeerId>,
}

/// A commit that the application takes its time for.
struct Uncommitted {
    due: Instant,
    /// What the endpoint wants to hear, unless it was told too early.
    deferred: Option<Deferred>,
    letter: usize,
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
    /// How far its clock is ahead of the world's.
    ahead: Duration,
    /// By its own clock.
    wake_at: Option<Instant>,
    /// Datagrams lost because every receive buffer was in use.
    pub(crate) unbuffered: u64,
    idle_turns: u32,
    pub(crate) turns: u64,
    /// The application opens no more sessions.
    pub(crate) is_closing: bool,
    /// Nodes whose sessions with it ended, since somebody asked.
    pub(crate) ended: BTreeSet<usize>,
    reconnect_after: Duration,
    sabotage: Option<Sabotage>,
    random: Random,
}

/// Settings all nodes share.
#[derive(Clone)]
struct Shared {
    seed: u64,
    mode: Mode,
    psk: Option<[u8; 32]>,
    outcast: Option<PublicKey>,
    /// Bytes that each node grants each peer.
    grants: Vec<u64>,
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
            mode: plan.mode,
            psk: plan.psk,
            outcast: plan.outcast.map(|index| addresses[index].1),
            grants: plan.nodes.iter().map(|node| node.receive_bytes).collect(),
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
            ahead: Duration::ZERO,
            unbuffered: 0,
            wake_at: None,
            idle_turns: 0,
            turns: 0,
            is_closing: false,
            ended: BTreeSet::new(),
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
            offer: Offer::new(&plan.suites, &[self.config.mode]),
            trust,
            mtu: plan.mtu,
            transactions: plan.transactions,
            receive_bytes: plan.receive_bytes,
            whole_len_max: plan.whole_len_max,
            tries: plan.tries,
            linger: plan.linger,
            bundle: plan.bundle,
            congestion: plan.congestion,
            initial_round_trip: plan.initial_round_trip,
            ack_delay_max: plan.ack_delay_max,
            idle_timeout: plan.idle_timeout,
            association_timeout: plan.association_timeout,
            keep_alive: plan.keep_alive && self.sabotage != Some(Sabotage::LetsSleep),
            handshake_timeout: Duration::from_secs(20),
            send_buffers: plan.send_buffers,
            ..EndpointConfig::new(Arc::clone(&self.identity), BootId(boot))
        };
        let pool = Pool::new(plan.receive_buffers, DATAGRAM_LEN_MAX).expect("memory for a pool");
        let now = self.local(network.now());
        self.process = Some(Process {
            endpoint: Endpoint::new(now, config, seed).expect("memory for an endpoint"),
            driver: network.open(self.address, pool.clone()),
            pool,
            stalled: None,
            known: HashMap::new(),
            open: Vec::new(),
            lost: Vec::new(),
            connect_at: self.wanted.iter().map(|&peer| (now, peer)).collect(),
            replies: Vec::new(),
            held: Vec::new(),
            deferred: Vec::new(),
            regretted: Vec::new(),
            kept: Vec::new(),
            ledger: Ledger::default(),
            unbuffered: 0,
            beyond_window: Vec::new(),
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
        let now = self.local(network.now());
        self.reconnect_after = RECONNECT_SOON;
        self.paused_until = network.now();
        match &mut self.process {
            None => self.start(network),
            Some(process) => {
                for entry in &mut process.connect_at {
                    entry.0 = entry.0.min(now + RECONNECT_SOON);
                }
                self.wake_at = Some(now);
            }
        }
    }

    /// What its clock shows at an instant of the world.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        now + self.ahead
    }

    /// Its clock jumps ahead, as after a sleep of the machine.
    pub(crate) fn jump(&mut self, now: Instant, span: Duration) {
        self.ahead = self.ahead + span;
        self.wake_at = Some(self.local(now));
    }

    /// Whether a process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// When the node wants to run, arrivals apart.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.process.as_ref()?;
        let since_start = self.wake_at?.saturating_since(Instant::ZERO);
        let at = Instant::ZERO + since_start.saturating_sub(self.ahead);
        Some(at.max(self.paused_until))
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
        let now = self.local(now);
        let Some(process) = &mut self.process else { return Err(SendError::NotConnected) };
        let mut takers = process.open.iter().chain(&process.lost);
        let to = takers.find(|(_, node)| *node == draft.to);
        let Some(&(peer, _)) = to else { return Err(SendError::NotConnected) };
        self.wake_at = Some(self.wake_at.map_or(now, |at| at.min(now)));
        self.idle_turns = 0;
        let max = process.endpoint.message_len_max(peer, &draft.options);
        let message = if self.random.below(2) == 0 {
            Outbound::Borrowed(&draft.bytes)
        } else {
            Outbound::Shared(draft.bytes.as_slice().into())
        };
        let mut options = draft.options;
        if self.sabotage == Some(Sabotage::SendsLate) {
            options.deadline = None;
        }
        let sent = process.endpoint.send(now, peer, &options, message);
        let window = self.plan.transactions;
        if process.endpoint.outstanding(peer) > u64::from(window) {
            auditor.blame("I22", format!("more than {window} transactions outstanding"));
        }
        match sent {
            Ok(transaction) => {
                auditor.on_sent(draft, peer, transaction);
                let cancellations = self.plan.cancellations;
                if cancellations > 0 && self.random.below(cancellations) == 0 {
                    let due = now + self.random.between(Duration::ZERO, CANCEL_WITHIN);
                    let letter = auditor.open_letter(self.index, peer, transaction);
                    let letter = letter.expect("just sent");
                    process.regretted.push(Owed { due, peer, transaction, letter });
                }
                if self.sabotage == Some(Sabotage::EndsEarly) {
                    let (service, outcome) = (draft.options.service, Outcome::Sent);
                    let resolved = Resolved { first: transaction, count: 1, service, outcome };
                    auditor.on_outcome(self.index, peer, resolved);
                }
            }
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
        let now = self.local(now);
        let Some(process) = &mut self.process else { return };
        let mut known: Vec<PeerId> =
            process.known.iter().filter(|(_, node)| **node == peer).map(|(id, _)| *id).collect();
        // In an order that does not depend on how a map is laid out.
        known.sort_by_key(|id| format!("{id:?}"));
        for id in known {
            if self.random.below(2) == 0 {
                process.endpoint.close(now, id);
            } else {
                let deadline = now + self.random.between(Duration::ZERO, DRAIN_WITHIN);
                process.endpoint.drain(now, id, deadline);
            }
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
        let now = self.local(now);
        trace.note("turn", now, self.index, &[]);
        let mut is_busy = self.receive(now, &mut process, auditor, trace);
        let lost_before = process.endpoint.counters().packets_lost;
        process.endpoint.handle_timeout(now);
        // Each of a burst is lost at a time of its own, and some of that shows nowhere else.
        is_busy |= process.endpoint.counters().packets_lost > lost_before;
        while let Some(event) = process.endpoint.poll_event() {
            is_busy = true;
            self.on_event(now, &mut process, event, auditor, trace);
        }
        is_busy |= self.act(now, &mut process, auditor);
        auditor.on_turn(self.index);
        let sent_before = process.endpoint.counters().packets_sent;
        loop {
            let stalled = process.stalled.take();
            let is_new = stalled.is_none();
            let next = stalled.or_else(|| process.endpoint.poll_transmit(now));
            let Some(transmit) = next else { break };
            is_busy = true;
            for datagram in transmit.each().filter(|_| is_new) {
                trace.bytes("out", now, self.index, &datagram.lease);
                auditor.on_datagram(&datagram.lease);
                self.check_leaving(now, &mut process, &datagram, auditor);
            }
            if let Err(back) = process.driver.transmit(transmit) {
                process.stalled = Some(back);
                break;
            }
        }
        // Outcomes of levels without acknowledgement come from sending.
        while let Some(event) = process.endpoint.poll_event() {
            self.on_event(now, &mut process, event, auditor, trace);
        }
        self.check_bounds(&mut process, auditor);
        let stays = self.plan.kernel_holds && self.random.below(4) == 0;
        if !stays {
            process.driver.wait(None).expect("the simulated driver does not fail");
        }
        // As a shard, which rests only after a turn in which nothing left.
        let goes_on = stays || process.endpoint.counters().packets_sent > sent_before;
        self.idle_turns = if is_busy || stays { 0 } else { self.idle_turns + 1 };
        if self.idle_turns > IDLE_TURNS_MAX {
            self.idle_turns = 0;
            auditor.blame("I25", format!("node {} runs without doing anything", self.index));
        }
        self.unbuffered += process.driver.counters().receive_errors - process.unbuffered;
        process.unbuffered = process.driver.counters().receive_errors;
        self.wake_at = self.next_wake(now, &mut process, goes_on);
        self.process = Some(process);
    }

    /// Hands over what has arrived. Returns whether something has.
    fn receive(
        &mut self,
        now: Instant,
        process: &mut Process,
        auditor: &Auditor,
        trace: &mut Trace,
    ) -> bool {
        for count in 0..RECEIVE_BATCH {
            let Some(received) = process.driver.receive() else { return count > 0 };
            trace.bytes("in", now, self.index, &received.lease);
            for datagram in received.lease.chunks(received.segment_len.max(1)) {
                let is_altered =
                    self.sabotage == Some(Sabotage::OpensAltered) && self.random.below(8) == 0;
                let is_genuine = auditor.is_genuine(datagram) && !is_altered;
                process.ledger.on_received(received.from, datagram, is_genuine);
            }
            let (from, moved) = (received.from, process.endpoint.counters().sessions_moved);
            process.endpoint.handle_datagram(now, received);
            // The application is told of the session that it sends in. Where two of them crossed, the
            // other one moves as well, and answers to where it is.
            if process.endpoint.counters().sessions_moved > moved {
                process.ledger.on_proven(from);
            }
        }
        true
    }

    /// What the wire shows of a datagram has to be in order.
    fn check_leaving(
        &self,
        now: Instant,
        process: &mut Process,
        transmit: &Transmit,
        auditor: &mut Auditor,
    ) {
        let leaving = match process.ledger.on_sent(transmit.to, &transmit.lease) {
            Ok(leaving) => leaving,
            Err((rule, what)) => {
                return auditor.blame(rule, format!("node {}: {what}", self.index));
            }
        };
        let node = self.addresses.iter().position(|(address, _)| *address == transmit.to);
        let peer = process.open.iter().find(|(_, known)| Some(*known) == node);
        let (Some(leaving), Some(&(peer, _))) = (leaving, peer) else { return };
        if let Some(path) = process.endpoint.path(peer) {
            let is_halved = self.sabotage == Some(Sabotage::ExceedsWindow);
            let window = if is_halved { path.window / 2 } else { path.window };
            if path.in_flight > window {
                process.beyond_window.push(peer);
            }
        }
        if leaving.is_own
            && let Some(letter) = auditor.sent_letter(self.index, peer, leaving.transaction)
            && letter.len >= NUMBER_LEN
            && letter.deadline.is_some_and(|deadline| deadline <= now)
        {
            let what = format!("node {} sends what is of no use: {letter:?}", self.index);
            auditor.blame("deadline", what);
        }
    }

    /// I2, I12, I14, I17, I18 and I22: what is kept for each peer stays within its bounds, of which
    /// the plan knows what the endpoints agreed on.
    fn check_bounds(&self, process: &mut Process, auditor: &mut Auditor) {
        for &(peer, node) in &process.open {
            let beyond = process.beyond_window.iter().filter(|&&known| known == peer).count();
            if beyond > PROBES_MAX {
                let path = process.endpoint.path(peer);
                auditor.blame("I18", format!("{beyond} messages beyond the window: {path:?}"));
            }
            auditor.on_outstanding(self.index, peer, process.endpoint.outstanding(peer));
            let Some(memory) = process.endpoint.memory(peer) else { continue };
            let overstated =
                |sabotage| if self.sabotage == Some(sabotage) { OVERSTATED } else { 1 };
            let (own, others) = (self.config.grants[self.index], self.config.grants[node]);
            let bounds = [
                ("I12", memory.early, Sabotage::EscrowsTooMuch, own),
                ("I14", memory.incomplete, Sabotage::AssemblesTooMuch, own),
                ("I14", memory.incomplete_ungranted, Sabotage::AssemblesTooMuch, own),
                ("I14", memory.incomplete_replies, Sabotage::AssemblesTooMuch, own),
                ("I17", memory.unconfirmed_replies, Sabotage::CachesTooMuch, others),
                ("I22", memory.unresolved, Sabotage::SendsTooMuch, others),
            ];
            for (rule, bytes, sabotage, bound) in bounds {
                if bytes * overstated(sabotage) > bound {
                    let what = format!("node {} keeps more than {bound}: {memory:?}", self.index);
                    auditor.blame(rule, what);
                }
            }
        }
        process.beyond_window.clear();
    }

    fn next_wake(&self, now: Instant, process: &mut Process, goes_on: bool) -> Option<Instant> {
        let app = process.connect_at.iter().map(|entry| entry.0);
        let app = app.filter(|_| !self.is_closing);
        let app = app.chain(process.replies.iter().map(|owed| owed.due));
        let app = app.chain(process.deferred.iter().map(|owed| owed.due));
        let app = app.chain(process.held.iter().map(|held| held.0));
        let app = app.chain(process.kept.iter().map(|kept| kept.0));
        let soon = (goes_on || process.stalled.is_some()).then(|| now + Duration::from_micros(20));
        let app = app.chain(soon).min();
        app.into_iter().chain(process.endpoint.next_timeout()).min()
    }

    /// Checks that nothing is left of the sessions that were.
    pub(crate) fn check_clean(&mut self, auditor: &mut Auditor) {
        let Some(process) = &mut self.process else { return };
        let endpoint = &mut process.endpoint;
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
        let counters = endpoint.counters();
        if counters.messages_accepted != counters.outcomes.total() {
            left.push(format!("sends without an outcome: {counters:?}"));
        }
        if let Some(at) = endpoint.next_timeout() {
            left.push(format!("a timer at {at:?}"));
        }
        if !left.is_empty() {
            auditor.blame("I27", format!("node {} still has {}", self.index, left.join(", ")));
        }
    }
}
