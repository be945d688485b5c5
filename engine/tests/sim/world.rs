//! One seed's world: troubles first, then everything heals and has to come to its end, then all
//! sessions close and nothing may be left.

mod silence;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use raet::io::random::Random;
use raet::io::sim::{Faults, SimNetwork};
use raet::limits::{DATAGRAM_LEN_BASE, IDLE_TIMEOUT, PROBE_TIMEOUT_MAX, UNCONFIRMED_TIMEOUT};
use raet::time::{Duration, Instant};
use raet::{FullReason, Overflow, Priority, SendError, SendOptions, Service};

use crate::auditor::Auditor;
use crate::node::{Node, Sabotage};
use crate::plan::{ASSOCIATION_TIMEOUT_MAX, Edge, Edition, Plan, SERVICES, log_uniform, pick};
use crate::trace::{Telling, Trace};

/// How long nobody reaches anybody at most, in a world of the second kind.
const BLACK_OUT_MAX: Duration = Duration::from_secs(120);
/// Turns of all nodes in one world: two hundred times what a usual one takes.
const TURNS_MAX: u64 = 2_000_000;

/// What a world led to.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What was broken, in order.
    pub(crate) violations: Vec<String>,
    /// The whole history as a number.
    pub(crate) hash: u64,
    /// Messages that were sent, and deliveries.
    pub(crate) totals: (u64, u64),
    /// Packets that nodes sent.
    pub(crate) packets: u64,
    /// Virtual time that passed.
    pub(crate) span: Duration,
    /// Whether it was a world of the second kind, see [`Plan::drawn`].
    pub(crate) is_liveness: bool,
    /// How long it took to come to rest once everything was healed.
    pub(crate) rested: Duration,
    /// How often each fault was injected.
    pub(crate) injected: BTreeMap<&'static str, u64>,
}

/// Something that is due later.
#[derive(Clone, Copy, Debug)]
enum Due {
    Happening,
    Heal(usize, usize),
    Start(usize),
}

/// Something that happens to a node, to a pair, or for a while.
type Act = fn(&mut World, Instant, usize, [usize; 2], Duration);

struct World {
    plan: Plan,
    network: SimNetwork,
    nodes: Vec<Node>,
    auditor: Auditor,
    trace: Trace,
    random: Random,
    due: BTreeMap<(Instant, u64), Due>,
    dues: u64,
    drafted: u64,
    drafted_bytes: u64,
    /// Faults injected by the world itself.
    injected: BTreeMap<&'static str, u64>,
    /// Addresses that NATs gave to nodes so far.
    bindings: u16,
    /// The longest time that it took to come to rest.
    rested: Duration,
}

/// Runs the world of `seed` to its end.
pub(crate) fn run(
    seed: u64,
    edition: Edition,
    sabotage: Option<Sabotage>,
    telling: Telling,
) -> Verdict {
    let mut plan = Plan::drawn(seed, edition);
    if let Some(sabotage) = sabotage {
        plan.services = sabotage.services();
        plan.mode = sabotage.mode().unwrap_or(plan.mode);
        plan.refusals = sabotage.refusals();
        plan.deadlines = 2;
        for node in &mut plan.nodes {
            node.deferrals = 3;
            node.cancellations = 30;
        }
    }
    match telling {
        Telling::All => println!("{plan:#?}"),
        Telling::End => println!("{}", plan.summary()),
        Telling::Nothing => {}
    }
    let mut random = Random::new(seed ^ 0x0077_6f72_6c64);
    let network = SimNetwork::new(seed, plan.weather(&mut random));
    let start = network.now();
    let tries = plan.nodes.iter().map(|node| u64::from(node.tries)).collect();
    let mut world = World {
        nodes: Node::all(seed, &plan, sabotage),
        auditor: Auditor::new(plan.mode, plan.refusals, plan.outcast, tries, plan.reply_len_max),
        trace: Trace::new(telling),
        network,
        plan,
        random,
        due: BTreeMap::new(),
        dues: 0,
        drafted: 0,
        drafted_bytes: 0,
        injected: BTreeMap::new(),
        bindings: 0,
        rested: Duration::ZERO,
    };
    world.run();
    Verdict {
        violations: world.auditor.violations().to_vec(),
        hash: world.trace.hash(),
        totals: world.auditor.totals(),
        packets: world.network.counters().sent,
        span: world.network.now().saturating_since(start),
        is_liveness: world.plan.is_liveness,
        rested: world.rested,
        injected: world.injected(),
    }
}

impl World {
    fn run(&mut self) {
        for node in &mut self.nodes {
            node.start(&self.network);
        }
        self.trouble();
        self.come_to_rest();
        self.fall_silent();
        self.close();
        if self.is_sound() {
            self.auditor.close();
        }
    }

    fn is_sound(&self) -> bool {
        self.auditor.violations().is_empty()
    }

    /// Work, in whatever weather.
    fn trouble(&mut self) {
        let end = self.network.now() + self.plan.span;
        self.plan_happening();
        self.run_until(end, |_| false);
        if self.plan.is_liveness {
            self.black_out();
        }
    }

    /// Nobody reaches anybody for a while, so that time-outs are long when all is healed.
    fn black_out(&mut self) {
        self.due.retain(|_, due| matches!(due, Due::Start(_)));
        for edge in self.plan.edges.clone() {
            let [one, other] =
                [edge.initiator, edge.responder].map(|node| self.nodes[node].address);
            self.network.partition(one, other);
        }
        let spell = log_uniform(&mut self.random, Duration::from_secs(1), BLACK_OUT_MAX);
        self.run_until(self.network.now() + spell, |_| false);
    }

    /// I9: when nothing is wrong any more, every transaction ends.
    fn come_to_rest(&mut self) {
        self.due.clear();
        self.network.heal_all();
        self.network.set_faults(self.plan.healed());
        for node in &mut self.nodes {
            node.recover(&self.network);
        }
        self.rest();
        // All is well: each pair exchanges one more message in both directions.
        for edge in self.plan.edges.clone() {
            for (from, to) in [(edge.initiator, edge.responder), (edge.responder, edge.initiator)] {
                if self.plan.outcast == Some(from) || self.plan.outcast == Some(to) {
                    continue;
                }
                self.farewell(from, to);
            }
        }
        self.rest();
    }

    /// One more message, which nothing keeps from being taken and delivered any more.
    fn farewell(&mut self, from: usize, to: usize) {
        let end = self.network.now() + self.rest_max();
        while self.is_sound() {
            let options = SendOptions::new(Service::ExactlyOnce);
            let draft = self.auditor.draft(from, to, options, 20);
            let now = self.network.now();
            match self.nodes[from].send(now, &draft, &mut self.auditor) {
                // The farewells of a node with many peers and few buffers fill those.
                Ok(()) | Err(SendError::Full(FullReason::Buffers)) => return,
                Err(error) if now >= end => {
                    self.auditor.blame("I9", format!("{from} cannot send to {to}: {error}"));
                }
                // A sender without credit learns of more when it asks, which it does when it is
                // refused; one that lost its session opens another.
                Err(_) => self.run_until(now + Duration::from_secs(1), |_| false),
            }
        }
    }

    /// I9: how long everything may take to end once nothing is wrong any more. Three of the longest
    /// probe time-outs; before them the silence by which a side learns that the other forgot it;
    /// and the time to transfer what is open with the smallest window, two datagrams a round trip.
    fn rest_max(&self) -> Duration {
        const WINDOW_MIN: u64 = 2 * DATAGRAM_LEN_BASE as u64;
        let silence = self.plan.nodes.iter().map(|node| node.idle_timeout).max();
        let round_trip = (self.plan.worst.delay.min + self.plan.turn).saturating_mul(2);
        let round_trips = self.auditor.open_bytes().div_ceil(WINDOW_MIN);
        let transfer = round_trip.saturating_mul(round_trips);
        PROBE_TIMEOUT_MAX.saturating_mul(3) + silence.expect("some nodes") + transfer
    }

    fn rest(&mut self) {
        let start = self.network.now();
        let end = start + self.rest_max();
        self.run_until(end, |world| world.auditor.open() == 0 && world.is_joined());
        self.rested = self.rested.max(self.network.now().saturating_since(start));
        if self.is_sound() && self.auditor.open() > 0 {
            let open = self.auditor.open_letters();
            self.auditor.blame("I9", format!("{} sends do not end: {open}", self.auditor.open()));
        }
        if self.is_sound() && !self.is_joined() {
            self.auditor.blame("I9", "no session in good weather".to_owned());
        }
    }

    /// Whether every pair that should talk has its session, on both sides.
    fn is_joined(&self) -> bool {
        let is_open = |(one, other)| self.knows(one, other) && self.knows(other, one);
        self.pairs().into_iter().all(is_open)
    }

    /// Pairs that should have a session.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let edges = self.plan.edges.iter();
        let may = edges.filter(|edge| self.plan.outcast != Some(edge.initiator));
        may.map(|edge| (edge.initiator, edge.responder)).collect()
    }

    /// Whether a session with `other` is open, as `one` sees it.
    fn knows(&self, one: usize, other: usize) -> bool {
        self.nodes[one].open_peers().iter().any(|(_, node)| *node == other)
    }

    /// I27 and I28: close, or die, and nothing is left.
    fn close(&mut self) {
        let now = self.network.now();
        let dies = self.plan.ends_silently.then(|| self.random.index(self.nodes.len()));
        for index in 0..self.nodes.len() {
            self.nodes[index].is_closing = true;
            if dies == Some(index) {
                self.nodes[index].crash(&mut self.auditor);
                continue;
            }
            for peer in 0..self.nodes.len() {
                if dies != Some(peer) {
                    self.nodes[index].close(now, peer);
                }
            }
        }
        let silence = IDLE_TIMEOUT + PROBE_TIMEOUT_MAX.saturating_mul(3);
        let patience = silence + UNCONFIRMED_TIMEOUT + ASSOCIATION_TIMEOUT_MAX;
        self.run_until(now + patience, |_| false);
        if self.is_sound() {
            for node in &mut self.nodes {
                node.check_clean(&mut self.auditor);
            }
        }
    }

    /// Runs until `end`, or until `is_done` once nothing is under way.
    fn run_until(&mut self, end: Instant, is_done: impl Fn(&Self) -> bool) {
        while self.is_sound() {
            let now = self.network.now();
            self.do_due(now);
            for node in &mut self.nodes {
                let arrived = self.network.has_received(node.address) && now >= node.paused_until;
                if arrived || node.wake_at().is_some_and(|at| at <= now) {
                    node.turn(&mut self.auditor, &mut self.trace);
                }
            }
            if now >= end || is_done(self) {
                return;
            }
            let turns: u64 = self.nodes.iter().map(|node| node.turns).sum();
            if turns > TURNS_MAX {
                self.auditor.blame("I25", format!("{turns} turns and no end"));
            }
            let next = self.next_event(now).unwrap_or(end).max(now + self.plan.turn).min(end);
            self.network.advance_to(next);
        }
    }

    fn next_event(&self, now: Instant) -> Option<Instant> {
        let waiting = |node: &&Node| self.network.has_received(node.address) && node.is_up();
        let backlog = self.nodes.iter().filter(waiting).map(|node| node.paused_until.max(now));
        let wakes = self.nodes.iter().filter_map(Node::wake_at);
        let due = self.due.keys().next().map(|entry| entry.0);
        backlog.chain(wakes).chain(self.network.next_event()).chain(due).min()
    }

    fn plan_due(&mut self, after: Duration, due: Due) {
        self.dues += 1;
        self.due.insert((self.network.now() + after, self.dues), due);
    }

    fn plan_happening(&mut self) {
        let mean = Duration::from_nanos(self.plan.span.as_nanos() / self.plan.happenings);
        let after = self.random.exponential(mean);
        self.plan_due(after, Due::Happening);
    }

    fn do_due(&mut self, now: Instant) {
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Due::Happening => {
                    self.happen(now);
                    self.plan_happening();
                }
                Due::Heal(one, other) => {
                    self.network.heal(self.nodes[one].address, self.nodes[other].address);
                }
                Due::Start(node) => self.nodes[node].start(&self.network),
            }
        }
    }

    /// One thing happens, drawn by the plan's weights.
    fn happen(&mut self, now: Instant) {
        let troubles = self.plan.troubles;
        let node = self.random.index(self.nodes.len());
        let edge = self.plan.edges[self.random.index(self.plan.edges.len())];
        let longest = self.plan.span.min(self.plan.spell_max).max(Duration::from_millis(60));
        let spell = log_uniform(&mut self.random, Duration::from_millis(1), longest);
        let acts: [(u64, Act); 10] = [
            (troubles.clock, |world, now, node, _, spell| {
                world.count("clock jumped ahead", 1);
                world.nodes[node].jump(now, spell);
            }),
            (troubles.clog, |world, now, _, [one, other], spell| {
                world.count("link clogged", 1);
                let (from, to) = (world.nodes[one].address, world.nodes[other].address);
                world.network.clog(from, to, now + spell);
            }),
            (troubles.swizzle, |world, _, _, _, spell| world.swizzle(spell)),
            (troubles.work, |world, now, _, pair, _| world.work(now, pair)),
            (troubles.close, |world, now, _, [one, other], _| {
                world.count("session closed", 1);
                world.nodes[one].close(now, other);
            }),
            (troubles.crash, |world, _, node, _, spell| {
                if world.nodes[node].is_up() {
                    world.count("host crashed and restarted", 1);
                    world.nodes[node].crash(&mut world.auditor);
                    world.plan_due(spell, Due::Start(node));
                }
            }),
            (troubles.cut, |world, _, _, [one, other], spell| {
                let (from, to) = (world.nodes[one].address, world.nodes[other].address);
                if world.random.below(2) == 0 {
                    world.count("link cut both ways", 1);
                    world.network.partition(from, to);
                } else {
                    world.count("link cut one way", 1);
                    world.network.cut(from, to);
                }
                world.plan_due(spell, Due::Heal(one, other));
            }),
            (troubles.rebind, |world, _, node, _, _| {
                world.count("address changed by a NAT", 1);
                world.rebind(node);
            }),
            (troubles.pause, |world, now, node, _, spell| {
                world.count("host paused", 1);
                world.nodes[node].paused_until = now + spell;
            }),
            (troubles.weather, |world, _, _, _, _| {
                let weather: Faults = world.plan.weather(&mut world.random);
                world.network.set_faults(weather);
            }),
        ];
        let mut drawn = self.random.below(acts.iter().map(|act| act.0).sum());
        let mut pair = [edge.initiator, edge.responder];
        if self.random.below(2) == 0 {
            pair.reverse();
        }
        for (weight, act) in acts {
            if drawn < weight {
                return act(self, now, node, pair, spell);
            }
            drawn -= weight;
        }
    }

    /// Some links stop one after the other, and are mended in another order.
    fn swizzle(&mut self, spell: Duration) {
        for Edge { initiator, responder, .. } in self.plan.edges.clone() {
            if self.random.below(2) == 0 {
                self.count("link stopped among others", 1);
                let (one, other) = (self.nodes[initiator].address, self.nodes[responder].address);
                self.network.partition(one, other);
                let after = self.random.between(Duration::ZERO, spell);
                self.plan_due(after, Due::Heal(initiator, responder));
            }
        }
    }

    fn count(&mut self, fault: &'static str, times: u64) {
        *self.injected.entry(fault).or_default() += times;
    }

    /// How often each fault of the network and of the nodes was injected.
    fn injected(&self) -> BTreeMap<&'static str, u64> {
        let network = self.network.counters();
        let unbuffered = self.nodes.iter().map(|node| node.unbuffered).sum();
        let counted = [
            ("datagram lost", network.lost),
            ("datagram lost in a burst", network.lost_in_bursts),
            ("short datagram lost", network.short_lost),
            ("first datagram after a silence lost", network.first_lost),
            ("last datagram of several lost", network.tail_lost),
            ("datagram dropped by a full queue", network.queue_dropped),
            ("datagram too large for the path", network.too_large),
            ("datagram lost at a cut link", network.partitioned),
            ("datagram held by a clog", network.clogged),
            ("datagram duplicated", network.duplicated),
            ("datagram reordered", network.reordered),
            ("datagram corrupted", network.corrupted),
            ("datagram truncated", network.truncated),
            ("datagram extended", network.extended),
            ("datagram replayed", network.replayed),
            ("datagram forged", network.forged),
            ("datagram marked as congested", network.marked),
            ("mark bleached", network.bleached),
            ("send refused by the kernel", network.send_errors),
            ("send handed back", network.handed_back),
            ("receive without a free buffer", unbuffered),
        ];
        let mut injected = self.injected.clone();
        injected.extend(counted);
        injected
    }

    /// A NAT gives a node another address: half the time one of another host, and every fourth time
    /// one of the other address family.
    fn rebind(&mut self, node: usize) {
        self.bindings = self.bindings.wrapping_add(1);
        let host = if self.random.below(2) == 0 { 1 } else { self.bindings.to_be_bytes()[1] };
        let net = u8::try_from(node + 1).expect("few nodes");
        let mask = if self.bindings.is_multiple_of(4) {
            self.count("address family changed", 1);
            SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, net.into(), host.into()], self.bindings))
        } else {
            SocketAddr::from(([10, 1, net, host], self.bindings))
        };
        self.network.mask(self.nodes[node].address, mask);
    }

    /// A burst of messages in one direction.
    fn work(&mut self, now: Instant, [from, to]: [usize; 2]) {
        let burst = 1 + self.random.below(self.plan.burst_max);
        let mixed = self.random.below(2) == 0;
        let mut options = self.options(from, now);
        for _ in 0..burst {
            let is_enough =
                self.drafted >= self.plan.messages_max || self.drafted_bytes >= self.plan.bytes_max;
            if is_enough {
                return;
            }
            if mixed {
                options = self.options(from, now);
            }
            let sizes = &self.plan.sizes;
            let len = sizes.start + self.random.below(sizes.end - sizes.start);
            // At most one byte more than is taken.
            let len = len.min(self.plan.nodes[to].receive_bytes + self.random.below(2));
            let draft = self.auditor.draft(from, to, options, usize::try_from(len).expect("small"));
            match self.nodes[from].send(now, &draft, &mut self.auditor) {
                Ok(()) => {
                    self.drafted += 1;
                    self.drafted_bytes += len;
                }
                Err(SendError::TooLarge { .. }) => self.drafted += 1,
                Err(_) => return,
            }
        }
    }

    /// How a message is sent.
    fn options(&mut self, from: usize, now: Instant) -> SendOptions {
        let mut options = SendOptions::new(self.service());
        options.stream = *pick(&mut self.random, &self.plan.streams);
        if self.plan.has_priorities {
            options.priority = *pick(&mut self.random, &Priority::ALL);
        }
        if self.plan.deadlines > 0 {
            let all = [Overflow::Wait, Overflow::DropNewest, Overflow::DropOldest];
            options.overflow = *pick(&mut self.random, &all);
        }
        if self.plan.deadlines > 0 && self.random.below(self.plan.deadlines) == 0 {
            let (soon, late) = (Duration::from_micros(20), Duration::from_secs(2));
            let now = self.nodes[from].local(now);
            options.deadline = Some(now + log_uniform(&mut self.random, soon, late));
        }
        options
    }

    fn service(&mut self) -> Service {
        let weights = self.plan.services;
        let mut drawn = self.random.below(weights.iter().sum());
        for (service, weight) in SERVICES.into_iter().zip(weights) {
            if drawn < weight {
                return service;
            }
            drawn -= weight;
        }
        unreachable!("the weights add up")
    }
}
