//! What can happen to a packet in the simulated network, and how often it did.

use crate::buffer::Ecn;
use crate::io::random::{Chance, Random};
use crate::limits::DATAGRAM_LEN_MAX;
use crate::time::Duration;

/// The faults of a network. Each is drawn for every packet on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The packet never arrives.
    pub loss: Chance,
    /// It arrives twice, each copy with damage and delay of its own.
    pub duplication: Chance,
    /// It arrives after packets that were sent later.
    pub reorder: Chance,
    /// One to eight of its bits are flipped.
    pub corruption: Chance,
    /// Its end is missing.
    pub truncation: Chance,
    /// Up to 64 random bytes follow it.
    pub extension: Chance,
    /// Losses come in bursts: how often one begins, and ends, at a packet (Gilbert-Elliott).
    pub burst_begins: Chance,
    /// See [`Faults::burst_begins`].
    pub burst_ends: Chance,
    /// A short packet never arrives, as acknowledgements are.
    pub short_loss: Chance,
    /// The first packet of a link that was silent for a while never arrives, as while ARP asks who
    /// it is for.
    pub first_loss: Chance,
    /// The last of several packets that leave at once never arrives.
    pub tail_loss: Chance,
    /// Some packet of the past is sent once more with it, wherever it was going.
    pub replay: Chance,
    /// A copy arrives that seems to come from another node.
    pub forgery: Chance,
    /// The sender's kernel refuses it.
    pub send_error: Chance,
    /// The driver's queue takes no more for now.
    pub queue_full: Chance,
    /// The line before each link.
    pub line: Line,
    /// It is handed over together with its follower, as GRO does. Not a fault, but drawn as one.
    pub train: Chance,
    /// How long packets are under way.
    pub delay: Delay,
    /// Payload bytes of the largest datagram that the path carries; larger ones vanish.
    pub mtu: usize,
    /// What becomes of the marks in packets' IP headers.
    pub marks: Marks,
}

/// What a path does to marks (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// It marks every packet whose sender allows it, whatever its queues hold: broken.
    AlwaysCe,
    /// It takes every mark away: broken.
    Bleached,
    /// It marks what it would have lost, if the sender allows it: a queue that manages itself.
    InsteadOfLoss,
    /// It passes them on.
    Kept,
}

impl Marks {
    /// The mark with which a packet goes on; `None`: the packet does not. `is_lost`: the path has
    /// no room for it.
    pub(super) fn pass(self, ecn: Ecn, is_lost: bool) -> Option<Ecn> {
        let can_mark = ecn != Ecn::NotEct;
        match self {
            Self::InsteadOfLoss if is_lost && can_mark => Some(Ecn::Ce),
            _ if is_lost => None,
            Self::AlwaysCe if can_mark => Some(Ecn::Ce),
            Self::Bleached => Some(Ecn::NotEct),
            _ => Some(ecn),
        }
    }
}

/// A line that carries so many bytes in a second, behind a queue of so many packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// 0: it takes no time.
    pub bytes_per_second: u64,
    /// What finds as many waiting is dropped.
    pub queue_max: usize,
}

impl Line {
    /// As fast as is asked of it.
    pub const FAST: Self = Self { bytes_per_second: 0, queue_max: 0 };
}

/// How long packets are under way: at least `min`, `mean` on average with an exponential tail,
/// at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The length of the cable.
    pub min: Duration,
    /// Average, queues included.
    pub mean: Duration,
    /// End of the tail.
    pub max: Duration,
}

impl Faults {
    /// A network that does nothing to packets but deliver them 50 µs later, alone.
    pub const NONE: Self = Self {
        loss: Chance::NEVER,
        duplication: Chance::NEVER,
        reorder: Chance::NEVER,
        corruption: Chance::NEVER,
        truncation: Chance::NEVER,
        extension: Chance::NEVER,
        burst_begins: Chance::NEVER,
        burst_ends: Chance::ALWAYS,
        short_loss: Chance::NEVER,
        first_loss: Chance::NEVER,
        tail_loss: Chance::NEVER,
        replay: Chance::NEVER,
        forgery: Chance::NEVER,
        send_error: Chance::NEVER,
        queue_full: Chance::NEVER,
        line: Line::FAST,
        train: Chance::NEVER,
        delay: Delay::fixed(Duration::from_micros(50)),
        mtu: DATAGRAM_LEN_MAX,
        marks: Marks::Kept,
    };

    /// The bounds within which [`Faults::drawn`] draws.
    pub const WORST: Self = Self {
        loss: Chance::percent(20),
        duplication: Chance::percent(10),
        reorder: Chance::percent(20),
        corruption: Chance::percent(2),
        truncation: Chance::percent(2),
        extension: Chance::percent(2),
        burst_begins: Chance::percent(2),
        burst_ends: Chance::percent(10),
        short_loss: Chance::percent(20),
        first_loss: Chance::percent(20),
        tail_loss: Chance::percent(20),
        replay: Chance::percent(5),
        forgery: Chance::percent(5),
        send_error: Chance::percent(2),
        queue_full: Chance::percent(2),
        line: Line::FAST,
        train: Chance::percent(80),
        delay: Delay {
            min: Duration::from_millis(1),
            mean: Duration::from_millis(5),
            max: Duration::from_millis(100),
        },
        mtu: DATAGRAM_LEN_MAX,
        marks: Marks::Kept,
    };

    /// A network somewhere between [`Faults::NONE`] and `worst`, drawn from `seed`: each kind of
    /// fault is absent in a third of all networks, so that rare combinations are met alone too.
    /// Every kind of path is drawn for marks, whatever `worst` says, half of them sound.
    pub fn drawn(seed: u64, worst: &Self) -> Self {
        // The network itself is made from the same seed by most callers: keep the two apart.
        let mut random = Random::new(seed ^ 0x6661_756c_7473_2e2e);
        let delay = Delay {
            min: random.between(Duration::ZERO, worst.delay.min),
            mean: random.between(worst.delay.min, worst.delay.mean),
            max: worst.delay.max,
        };
        Self {
            loss: drawn_chance(&mut random, worst.loss),
            duplication: drawn_chance(&mut random, worst.duplication),
            reorder: drawn_chance(&mut random, worst.reorder),
            corruption: drawn_chance(&mut random, worst.corruption),
            truncation: drawn_chance(&mut random, worst.truncation),
            extension: drawn_chance(&mut random, worst.extension),
            burst_begins: drawn_chance(&mut random, worst.burst_begins),
            burst_ends: worst.burst_ends,
            short_loss: drawn_chance(&mut random, worst.short_loss),
            replay: drawn_chance(&mut random, worst.replay),
            forgery: drawn_chance(&mut random, worst.forgery),
            send_error: drawn_chance(&mut random, worst.send_error),
            queue_full: drawn_chance(&mut random, worst.queue_full),
            line: if random.below(3) == 0 { Line::FAST } else { worst.line },
            train: drawn_chance(&mut random, worst.train),
            delay,
            mtu: worst.mtu,
            marks: match random.below(6) {
                0 => Marks::AlwaysCe,
                1 => Marks::Bleached,
                2 => Marks::InsteadOfLoss,
                _ => Marks::Kept,
            },
            // Last, so that they move none of the draws above.
            first_loss: drawn_chance(&mut random, worst.first_loss),
            tail_loss: drawn_chance(&mut random, worst.tail_loss),
        }
    }
}

impl Delay {
    /// The same delay for every packet.
    pub const fn fixed(delay: Duration) -> Self {
        Self { min: delay, mean: delay, max: delay }
    }
}

fn drawn_chance(random: &mut Random, worst: Chance) -> Chance {
    if random.below(3) == 0 {
        return Chance::NEVER;
    }
    let parts = random.below(u64::from(worst.as_parts_per_million()) + 1);
    Chance::parts_per_million(u32::try_from(parts).expect("at most what was a u32"))
}

/// What happened to packets in a network. `sent`, `duplicated`, `replayed` and `forged` packets each
/// end once: as `delivered`, or in one of the counts from `lost` to `overflowed`, or they are under
/// way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Handed to the network by drivers.
    pub sent: u64,
    /// Put in an inbox, whole or damaged.
    pub delivered: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Sent out of their turn.
    pub reordered: u64,
    /// With bits flipped.
    pub corrupted: u64,
    /// With the end missing.
    pub truncated: u64,
    /// With bytes behind the end.
    pub extended: u64,
    /// Of the past, sent once more.
    pub replayed: u64,
    /// Copies that named another node as their sender.
    pub forged: u64,
    /// Held by a clogged link.
    pub clogged: u64,
    /// Refused by their sender's kernel; these do not count as sent.
    pub send_errors: u64,
    /// Handed back by a full queue; these do not count as sent yet.
    pub handed_back: u64,
    /// Delivered with a mark that a queue set.
    pub marked: u64,
    /// Delivered without the mark that they were sent with.
    pub bleached: u64,
    /// Dropped at random.
    pub lost: u64,
    /// Dropped in bursts.
    pub lost_in_bursts: u64,
    /// Short ones dropped at random.
    pub short_lost: u64,
    /// First ones after a silence dropped at random.
    pub first_lost: u64,
    /// Last ones of several dropped at random.
    pub tail_lost: u64,
    /// Dropped because the queue of a slow line or of a port was full.
    pub queue_dropped: u64,
    /// Dropped because they were larger than the path carries.
    pub too_large: u64,
    /// Dropped at a cut link.
    pub partitioned: u64,
    /// Dropped because no node was attached at the address.
    pub unreachable: u64,
    /// Dropped because the receiver's inbox or the network was full.
    pub overflowed: u64,
}
