//! What one seed decides: the size of the world, its weather, its nodes and their work.
//!
//! Every seed draws its own ranges and then draws within them ("swarm"): a world without loss
//! but with crashes finds other faults than one with a little of everything. One in ten is of
//! another kind ("liveness"): everything goes wrong at once and as badly as it may, then nobody
//! reaches anybody, and then all is well and everything has to end in time.

use std::ops::Range;

use raet::io::random::{Chance, Random};
use raet::io::sim::{Delay, Faults, Line, Marks};
use raet::limits::{DATAGRAM_LEN_BASE, MESSAGE_LEN_MAX};
use raet::time::Duration;
use raet::{Congestion, Mode, Mtu, Service, Stream, StreamKind, Suite};

/// The kinds that the engine offers.
pub(crate) const SERVICES: [Service; 8] = [
    Service::Maybe,
    Service::Repeat,
    Service::RepeatDedup,
    Service::MoreOrLessOnce,
    Service::AtMostOnce,
    Service::ExactlyOnce,
    Service::Sequence,
    Service::Request,
];

/// Longest time that a node of a world keeps what it knows of a peer without a session.
pub(crate) const ASSOCIATION_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Which table a seed is drawn from. What came later is drawn from a stream of its own, so that the
/// worlds of the first edition stay what they were: what `corpus.txt` keeps was found in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edition {
    /// Up to 8 nodes alike in their suites, none of which keeps sessions alive.
    First,
    /// All that `docs/TESTING.md` names.
    Second,
}

/// Which pair of nodes talks, and which of the two opens the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) initiator: usize,
    pub(crate) responder: usize,
    /// The responder opens one too, perhaps at the same time.
    pub(crate) is_mutual: bool,
}

/// Settings of one node.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    /// In order of preference.
    pub(crate) suites: Vec<Suite>,
    /// Whether its sessions are kept alive.
    pub(crate) keep_alive: bool,
    pub(crate) mtu: Mtu,
    pub(crate) transactions: u32,
    pub(crate) receive_bytes: u64,
    pub(crate) tries: u8,
    pub(crate) linger: Duration,
    pub(crate) bundle: bool,
    pub(crate) congestion: Congestion,
    pub(crate) initial_round_trip: Duration,
    pub(crate) ack_delay_max: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) association_timeout: Duration,
    pub(crate) send_buffers: u32,
    pub(crate) receive_buffers: u32,
    /// Whether its application keeps messages in the buffers in which they came, for a while.
    pub(crate) keeps_buffers: bool,
    /// How long a handler takes before it replies or lets go of a message, at most.
    pub(crate) slowness: Duration,
    /// One message in so many is taken first and committed later; 0: none.
    pub(crate) deferrals: u64,
    /// One of so many messages is cancelled while it is under way. 0: none.
    pub(crate) cancellations: u64,
    /// Longer messages are handed over piece by piece.
    pub(crate) whole_len_max: usize,
    /// Whether sends stay in the kernel's hands until the next turn.
    pub(crate) kernel_holds: bool,
}

/// What happens while the world is troubled; weights among each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Troubles {
    pub(crate) close: u64,
    pub(crate) crash: u64,
    pub(crate) clock: u64,
    pub(crate) clog: u64,
    pub(crate) cut: u64,
    pub(crate) swizzle: u64,
    pub(crate) rebind: u64,
    pub(crate) pause: u64,
    pub(crate) weather: u64,
    pub(crate) work: u64,
}

const TROUBLES_WORST: Troubles = Troubles {
    close: 3,
    crash: 3,
    clock: 2,
    clog: 4,
    cut: 4,
    swizzle: 1,
    rebind: 4,
    pause: 3,
    weather: 6,
    work: 12,
};

/// What a network does at most, each to so many of a hundred datagrams.
const FAULTS_WORST: Faults = Faults {
    loss: Chance::percent(30),
    duplication: Chance::percent(30),
    reorder: Chance::percent(20),
    corruption: Chance::percent(5),
    truncation: Chance::percent(5),
    extension: Chance::percent(5),
    burst_begins: Chance::percent(5),
    burst_ends: Chance::percent(33),
    short_loss: Chance::percent(30),
    first_loss: Chance::percent(30),
    tail_loss: Chance::percent(30),
    replay: Chance::percent(10),
    forgery: Chance::percent(10),
    send_error: Chance::percent(5),
    queue_full: Chance::percent(5),
    train: Chance::percent(80),
    ..Faults::NONE
};

/// One world in so many is of the second kind.
const LIVENESS_EVERY: u64 = 10;
/// A world that lasts so long has troubles that last long.
const LONG: Duration = Duration::from_secs(60);
/// One in so many has more nodes than usual.
const CROWD_EVERY: u64 = 64;

/// What paths do to marks.
const MARKS: [Marks; 4] = [Marks::AlwaysCe, Marks::Bleached, Marks::InsteadOfLoss, Marks::Kept];

/// Everything that follows from a seed before anything happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) edges: Vec<Edge>,
    /// A node whose key every other one rejects, and which knocks all the same.
    pub(crate) outcast: Option<usize>,
    pub(crate) mode: Mode,
    pub(crate) psk: Option<[u8; 32]>,
    pub(crate) worst: Faults,
    /// How long the troubles last.
    pub(crate) span: Duration,
    /// How long one of them lasts at most.
    pub(crate) spell_max: Duration,
    /// How long a turn takes: what arrives within it is one batch.
    pub(crate) turn: Duration,
    /// Things that happen, work included.
    pub(crate) happenings: u64,
    /// Messages in all.
    pub(crate) messages_max: u64,
    pub(crate) burst_max: u64,
    pub(crate) troubles: Troubles,
    /// How often each of [`SERVICES`] is used, relative to the others.
    pub(crate) services: [u64; 8],
    /// Streams in use, in level sequence.
    pub(crate) streams: Vec<Stream>,
    /// Whether messages have priorities.
    pub(crate) has_priorities: bool,
    /// One message in so many is of use for a while only; 0: none.
    pub(crate) deadlines: u64,
    pub(crate) sizes: Range<u64>,
    pub(crate) reply_len_max: u64,
    /// Bytes of all messages together.
    pub(crate) bytes_max: u64,
    /// One message in so many is refused by its handler; 0: none.
    pub(crate) refusals: u64,
    /// At the end, one node dies without a word instead of closing.
    pub(crate) ends_silently: bool,
    /// How long applications wait before they open a session again.
    pub(crate) reconnect_after: Duration,
    /// Whether everything goes wrong at once until it is healed.
    pub(crate) is_liveness: bool,
}

impl Plan {
    /// What `seed` decides.
    pub(crate) fn drawn(seed: u64, edition: Edition) -> Self {
        let swarm = Self::of_swarm(seed);
        let is_liveness = Random::new(seed ^ 0x6c69_7665).below(LIVENESS_EVERY) == 0;
        match (edition, is_liveness) {
            (Edition::First, false) => swarm,
            (Edition::First, true) => swarm.at_its_worst(),
            (Edition::Second, false) => swarm.extended(seed),
            (Edition::Second, true) => swarm.at_its_worst().extended(seed),
        }
    }

    /// Its troubles in a few lines.
    pub(crate) fn summary(&self) -> String {
        let Self { mode, worst, span, troubles, .. } = self;
        let kind = if self.is_liveness { "liveness" } else { "swarm" };
        format!(
            "  a world of {kind}: {} nodes, {mode:?}, troubled for {span}\n  {troubles:?}\n  {worst:?}",
            self.nodes.len(),
        )
    }

    /// The same nodes and the same work in the worst of worlds.
    fn at_its_worst(self) -> Self {
        let Troubles { work, .. } = self.troubles;
        let troubles = Troubles { work, ..TROUBLES_WORST };
        let worst = Faults {
            line: self.worst.line,
            delay: self.worst.delay,
            mtu: self.worst.mtu,
            first_loss: Chance::NEVER,
            tail_loss: Chance::NEVER,
            ..FAULTS_WORST
        };
        Self { is_liveness: true, troubles, worst, ..self }
    }

    /// What the second edition adds, each to some of the worlds.
    fn extended(mut self, seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x7365_636f_6e64);
        if random.below(CROWD_EVERY) == 0 {
            self.crowd(random);
        }
        if random.below(4) == 0 {
            for node in &mut self.nodes {
                node.keep_alive = random.below(3) > 0;
            }
        }
        if random.below(8) == 0 {
            self.differ_in_suites(random);
        }
        if random.below(4) == 0 {
            self.spell_max = Duration::from_secs(60);
        }
        if random.below(16) == 0 {
            self.worst.duplication = Chance::percent(50);
        }
        for chance in [&mut self.worst.first_loss, &mut self.worst.tail_loss] {
            *chance = if random.below(4) == 0 { Chance::percent(30) } else { Chance::NEVER };
        }
        if self.is_liveness {
            self.worst.marks = *pick(random, &MARKS);
        }
        self
    }

    /// More nodes than usual, with fewer links each: what a world costs are its sessions.
    fn crowd(&mut self, random: &mut Random) {
        let count = 9 + random.index(16);
        self.nodes = (0..count).map(|_| node(random, false)).collect();
        self.outcast = (random.below(4) == 0).then(|| random.index(count));
        self.edges = edges(random, count, self.outcast, count as u64);
        self.reply_len_max = self.reply_len_max.min(receive_bytes_min(&self.nodes));
    }

    /// Nodes that have one suite in common, and agree on it or on a better one.
    fn differ_in_suites(&mut self, random: &mut Random) {
        let mut both = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
        if random.below(2) == 0 {
            both.reverse();
        }
        let [common, other] = both;
        let choices = [vec![common], vec![common, other], vec![other, common]];
        for node in &mut self.nodes {
            node.suites = pick(random, &choices).clone();
        }
    }

    fn of_swarm(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x706c_616e);
        let random = &mut random;
        let count = *pick(random, &[2, 2, 2, 3, 3, 4, 5, 8]);
        let wide = random.below(8) == 0;
        let mut nodes: Vec<_> = (0..count).map(|_| node(random, wide)).collect();
        let outcast = (count > 2 && random.below(4) == 0).then(|| random.index(count));
        let span = log_uniform(random, Duration::from_millis(30), Duration::from_secs(60));
        // Now and then long enough for generations of keys and new handshakes to come and go.
        let is_long = random.below(12) == 0;
        let span = if is_long { span + Duration::from_secs(35 * 60) } else { span };
        let mut swarm = |most: u64| if random.below(2) == 0 { 0 } else { random.below(most) + 1 };
        let most = TROUBLES_WORST;
        let troubles = Troubles {
            close: swarm(most.close),
            crash: swarm(most.crash),
            clock: swarm(most.clock),
            clog: swarm(most.clog),
            cut: swarm(most.cut),
            swizzle: swarm(most.swizzle),
            pause: swarm(most.pause),
            weather: swarm(most.weather),
            rebind: swarm(most.rebind),
            work: most.work,
        };
        let mut services = [(); 8].map(|()| swarm(4));
        if services.iter().sum::<u64>() == 0 {
            services = [1; 8];
        }
        let work = work(random, &nodes);
        let edges = edges(random, count, outcast, 4);
        let mode = *pick(random, &[Mode::Sealed, Mode::Sealed, Mode::Signed, Mode::Plain]);
        let both = vec![Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
        let suites = [vec![Suite::Aes256Gcm], vec![Suite::ChaCha20Poly1305], both];
        let suites = pick(random, &suites);
        nodes.iter_mut().for_each(|node| node.suites.clone_from(suites));
        Self {
            edges,
            outcast,
            mode,
            psk: (random.below(4) == 0).then_some([7; 32]),
            worst: worst(random),
            span,
            spell_max: Duration::from_secs(40),
            turn: log_uniform(random, Duration::from_micros(2), Duration::from_millis(1)),
            happenings: 20 + random.below(400),
            messages_max: work.messages_max,
            burst_max: work.burst_max,
            troubles,
            services,
            streams: streams(random),
            has_priorities: random.below(2) == 0,
            deadlines: *pick(random, &[0, 0, 0, 2, 10]),
            sizes: random.below(work.len_max + 1)..work.len_max + 1,
            reply_len_max: work.reply_len_max,
            bytes_max: work.bytes_max,
            refusals: *pick(random, &[0, 0, 0, 1, 2, 7, 40]),
            ends_silently: random.below(2) == 0,
            reconnect_after: Duration::from_millis(50) + random.exponential(span.mul_ratio(1, 40)),
            is_liveness: false,
            nodes,
        }
    }

    /// The weather from now on, drawn anew or as bad as it can be.
    pub(crate) fn weather(&self, random: &mut Random) -> Faults {
        let drawn = match self.is_liveness {
            true => self.worst,
            false => Faults::drawn(random.next_u64(), &self.worst),
        };
        // Now and then the path carries less than it did. Not for long where an operator said that it
        // carries more: what he fixed leaves in vain, once in a probe time-out.
        let is_fixed =
            |node: &NodePlan| matches!(node.mtu, Mtu::Fixed(len) if len > DATAGRAM_LEN_BASE);
        let may_shrink = self.span < LONG || !self.nodes.iter().any(is_fixed);
        let shrinks = random.below(6) == 0 && may_shrink;
        let mtu = if shrinks { DATAGRAM_LEN_BASE } else { drawn.mtu };
        // A path that is bad for marks is so now and then, too: each route has its own.
        let is_other = self.is_liveness && drawn.marks != Marks::Kept && random.below(2) == 0;
        let marks = if is_other { Marks::Kept } else { drawn.marks };
        Faults { mtu, marks, ..drawn }
    }

    /// A network that keeps its distances and does no harm any more.
    pub(crate) fn healed(&self) -> Faults {
        let min = self.worst.delay.min;
        Faults { delay: Delay::fixed(min), mtu: self.worst.mtu, ..Faults::NONE }
    }
}

/// One of `choices`.
pub(crate) fn pick<'a, T>(random: &mut Random, choices: &'a [T]) -> &'a T {
    &choices[random.index(choices.len())]
}

/// A span from `low` to `high` whose order of magnitude is drawn evenly.
pub(crate) fn log_uniform(random: &mut Random, low: Duration, high: Duration) -> Duration {
    let octaves = (high.as_nanos() / low.as_nanos().max(1)).ilog2();
    let scale = 1 << random.below(u64::from(octaves) + 1);
    random.between(low.saturating_mul(scale), low.saturating_mul(2 * scale)).min(high)
}

/// How much is sent, and of what size.
struct Work {
    messages_max: u64,
    bytes_max: u64,
    burst_max: u64,
    len_max: u64,
    reply_len_max: u64,
}

fn work(random: &mut Random, nodes: &[NodePlan]) -> Work {
    // What a node does not take as a whole is no reply to its requests.
    let reply_len_max = (*pick(random, &[700, 700, 700, 20_000])).min(receive_bytes_min(nodes));
    let usual = Work {
        messages_max: 50 + random.below(2_000),
        bytes_max: 1 << 20,
        burst_max: *pick(random, &[1, 4, 30, 300]),
        len_max: *pick(random, &[0, 4, 16, 64, 64, 256, 1_100, 4_000, 20_000, 100_000]),
        reply_len_max,
    };
    match random.below(64) {
        // One burst that fills every window, of small messages.
        0..=3 => Work { messages_max: 4_000, burst_max: 4_000, len_max: 8, ..usual },
        // A few as large as is taken.
        4 => {
            Work { messages_max: 8, bytes_max: 24 << 20, burst_max: 2, len_max: 16 << 20, ..usual }
        }
        _ => usual,
    }
}

fn receive_bytes_min(nodes: &[NodePlan]) -> u64 {
    nodes.iter().map(|node| node.receive_bytes).min().expect("some nodes")
}

fn streams(random: &mut Random) -> Vec<Stream> {
    const KINDS: [StreamKind; 4] = [
        StreamKind::Reliable,
        StreamKind::Lossy,
        StreamKind::ReliableOnRequest,
        StreamKind::LossyOnRequest,
    ];
    let stream = |random: &mut Random| Stream {
        kind: *pick(random, &KINDS),
        number: *pick(random, &[0, 1, 2, 255]),
    };
    (0..=random.below(5)).map(|_| stream(random)).collect()
}

fn node(random: &mut Random, wide: bool) -> NodePlan {
    let mtu = match random.below(if wide { 3 } else { 2 }) {
        0 => Mtu::Fixed(1_200),
        1 => Mtu::Fixed(*pick(random, &[1_200, 1_400, 1_472])),
        _ => Mtu::Auto,
    };
    NodePlan {
        suites: vec![Suite::Aes256Gcm],
        keep_alive: false,
        mtu,
        transactions: 64 << random.below(7),
        receive_bytes: *pick(random, &[2_000, 20_000, 200_000, 16 << 20]),
        tries: *pick(random, &[1, 2, 4, 8]),
        linger: *pick(
            random,
            &[Duration::ZERO, Duration::ZERO, Duration::from_micros(50), Duration::from_millis(2)],
        ),
        bundle: random.below(4) > 0,
        congestion: *pick(
            random,
            &[
                Congestion::Cubic,
                Congestion::Cubic,
                Congestion::FixedRate { bytes_per_second: 1 << 20 },
                Congestion::NewReno,
            ],
        ),
        initial_round_trip: *pick(random, &[Duration::from_millis(1), Duration::from_millis(333)]),
        ack_delay_max: *pick(random, &[Duration::from_micros(100), Duration::from_millis(25)]),
        idle_timeout: *pick(random, &[Duration::from_secs(3), Duration::from_secs(30)]),
        association_timeout: *pick(
            random,
            &[Duration::ZERO, Duration::from_secs(5), ASSOCIATION_TIMEOUT_MAX],
        ),
        send_buffers: *pick(random, &[4, 16, 64, 512]),
        receive_buffers: *pick(random, &[8, 64, 256]),
        keeps_buffers: random.below(3) == 0,
        slowness: *pick(random, &[Duration::ZERO, Duration::ZERO, Duration::from_millis(30)]),
        deferrals: *pick(random, &[0, 0, 1, 5]),
        cancellations: *pick(random, &[0, 0, 3, 30]),
        whole_len_max: *pick(random, &[MESSAGE_LEN_MAX, 20_000, 1_500]),
        kernel_holds: random.below(3) == 0,
    }
}

/// A tree, so that everybody takes part, and one in `sparseness` of all other pairs.
fn edges(random: &mut Random, count: usize, outcast: Option<usize>, sparseness: u64) -> Vec<Edge> {
    let mut edges = Vec::new();
    for one in 0..count {
        let first = if one == 0 { 0 } else { random.index(one) };
        for other in 0..one {
            if other != first && random.below(sparseness) > 0 {
                continue;
            }
            let swap = random.below(2) == 0;
            let (initiator, responder) = if swap { (other, one) } else { (one, other) };
            let is_mutual = random.below(4) == 0;
            edges.push(Edge { initiator, responder, is_mutual });
        }
    }
    for edge in &mut edges {
        if outcast.is_some() && outcast == Some(edge.responder) {
            std::mem::swap(&mut edge.initiator, &mut edge.responder);
        }
        if outcast == Some(edge.initiator) {
            edge.is_mutual = false;
        }
    }
    edges
}

/// The bounds of the weather.
fn worst(random: &mut Random) -> Faults {
    let lan = random.below(2) == 0;
    let min = if lan {
        random.between(Duration::from_micros(5), Duration::from_micros(500))
    } else {
        random.between(Duration::from_millis(1), Duration::from_millis(30))
    };
    let mean = min + random.between(Duration::ZERO, min.saturating_mul(4));
    let line = Line {
        bytes_per_second: 20_000 << random.below(10),
        queue_max: *pick(random, &[2, 16, 256]),
    };
    let mut percent = |most: u32| {
        let drawn = random.below(u64::from(most) + 1);
        Chance::percent(u32::try_from(drawn).expect("at most a u32"))
    };
    Faults {
        loss: percent(30),
        duplication: percent(30),
        reorder: percent(20),
        corruption: percent(5),
        truncation: percent(5),
        extension: percent(5),
        burst_begins: percent(5),
        burst_ends: Chance::percent(3 + 30 * u32::from(lan)),
        short_loss: percent(30),
        replay: percent(10),
        forgery: percent(10),
        send_error: percent(5),
        queue_full: percent(5),
        line,
        train: percent(80),
        delay: Delay { min, mean, max: Duration::from_secs(1) },
        mtu: if lan { 65_507 } else { 1_472 },
        ..Faults::NONE
    }
}
