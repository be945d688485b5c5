//! A network in memory with virtual time: production code runs in it unchanged, and a seed
//! replays every run.
//!
//! A packet that is sent becomes a flight: it is given an arrival time, and perhaps a fault. Time
//! stands still until whoever owns the world moves it with [`SimNetwork::advance_to`]; then what
//! is due lands in the inbox of its receiver. A turn of the world is therefore: run every node
//! until nobody has work, look at [`SimNetwork::next_event`] and at the nodes' own timers, move
//! to the earliest. No clock is read, and all randomness is drawn from the one seed in the order
//! in which packets are sent, so two runs of the same program are equal to the byte.
//!
//! A link between two nodes is a queue, as a wire is: without the reorder fault packets arrive in
//! the order in which they were sent, however their delays fall.

mod faults;
mod link;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

pub use faults::{Delay, FaultCounters, Faults, Line, Marks};

use self::link::Link;
use super::random::{Chance, Random, flip_one_to_eight_bits};
use super::{Driver, DriverCounters, Waker};
use crate::buffer::{Ecn, Lease, Pool, Received, Transmit};
use crate::limits::{
    SIM_IN_FLIGHT_MAX, SIM_INBOX_MAX, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, TRANSMIT_QUEUE_MAX,
};
use crate::time::{Duration, Instant};

/// Where virtual time begins. Not zero: no monotonic clock in use stands there, and arithmetic
/// that saturates at zero should not be met in the simulator only.
const START: Instant = Instant::from_nanos(1_000_000_000);

/// Bytes of what counts as a short packet: acknowledgements and pings.
const SHORT_LEN: usize = 250;
/// Packets of the past that are remembered.
const MEMORY_MAX: usize = 64;

/// The network. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct SimNetwork(Rc<RefCell<World>>);

#[derive(Debug)]
struct World {
    now: Instant,
    random: Random,
    faults: Faults,
    counters: FaultCounters,
    /// By arrival; the number keeps equal arrivals in sending order.
    in_flight: BTreeMap<(Instant, u64), Flight>,
    flights_sent: u64,
    inboxes: BTreeMap<SocketAddr, VecDeque<Datagram>>,
    links: BTreeMap<(SocketAddr, SocketAddr), Link>,
    /// Lines that all share who send to a node.
    ports: BTreeMap<SocketAddr, (Line, Link)>,
    /// Packets of the past that may be sent once more, of any age.
    memory: Vec<Flight>,
    /// Links, each in one direction, that carry nothing.
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    /// As whom others see nodes behind a NAT, and who is behind each such address.
    masks: BTreeMap<SocketAddr, SocketAddr>,
    masked: BTreeMap<SocketAddr, SocketAddr>,
    /// Emptied byte buffers, kept so that a long run does not live in the allocator.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Flight {
    to: SocketAddr,
    datagram: Datagram,
}

#[derive(Debug)]
struct Datagram {
    from: SocketAddr,
    ecn: Ecn,
    /// Whom its receiver takes for its sender.
    seen: SocketAddr,
    bytes: Vec<u8>,
}

impl SimNetwork {
    /// A network without nodes, whose faults are drawn from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(World {
            now: START,
            random: Random::new(seed),
            faults,
            counters: FaultCounters::default(),
            in_flight: BTreeMap::new(),
            flights_sent: 0,
            inboxes: BTreeMap::new(),
            links: BTreeMap::new(),
            ports: BTreeMap::new(),
            memory: Vec::new(),
            cuts: BTreeSet::new(),
            masks: BTreeMap::new(),
            masked: BTreeMap::new(),
            spare: Vec::new(),
        })))
    }

    /// Attaches a node at `address`, which receives into `pool`. It leaves the network when the
    /// driver is dropped, and the address can then be opened again: that is a restart.
    ///
    /// # Panics
    /// If a node is attached there.
    pub fn open(&self, address: SocketAddr, pool: Pool) -> SimDriver {
        let before = self.0.borrow_mut().inboxes.insert(address, VecDeque::new());
        assert!(before.is_none(), "one node an address: {address}");
        SimDriver {
            network: self.clone(),
            address,
            pool,
            queue: VecDeque::with_capacity(TRANSMIT_QUEUE_MAX),
            counters: DriverCounters::default(),
        }
    }

    /// Moves time to `now`, if that is later, and delivers what is due by then.
    pub fn advance_to(&self, now: Instant) {
        let world = &mut *self.0.borrow_mut();
        while let Some(flight) = world.in_flight.first_entry() {
            if flight.key().0 > now {
                break;
            }
            let flight = flight.remove();
            world.land(flight);
        }
        world.now = world.now.max(now);
    }

    /// Replaces the faults for what is sent from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Puts a line before the node at `address` that all share who send to it: the port of a switch.
    pub fn narrow(&self, address: SocketAddr, line: Line) {
        self.0.borrow_mut().ports.insert(address, (line, Link::default()));
    }

    /// Cuts the link in the direction `from` to `to`: what is under way or sent is lost.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.borrow_mut().cuts.insert((from, to));
    }

    /// Cuts the link between two nodes in both directions.
    pub fn partition(&self, one: SocketAddr, other: SocketAddr) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Mends the link between two nodes in both directions.
    pub fn heal(&self, one: SocketAddr, other: SocketAddr) {
        let cuts = &mut self.0.borrow_mut().cuts;
        cuts.remove(&(one, other));
        cuts.remove(&(other, one));
    }

    /// Has a link hold everything that it gets in the direction `from` to `to`, until `end`.
    pub fn clog(&self, from: SocketAddr, to: SocketAddr, end: Instant) {
        self.0.borrow_mut().links.entry((from, to)).or_default().clogged_until = Some(end);
    }

    /// Mends every link; what clogged ones hold still arrives when it would have.
    pub fn heal_all(&self) {
        let world = &mut *self.0.borrow_mut();
        world.cuts.clear();
        world.links.values_mut().for_each(|link| link.clogged_until = None);
        world.memory.clear();
    }

    /// Has others see what the node at `address` sends as coming from `mask`, as a NAT that binds it
    /// anew does. What is sent to the mask reaches the node, what is sent to its mask of before
    /// nobody; what is sent to `address` itself goes on to reach it. Cuts speak of `address`.
    pub fn mask(&self, address: SocketAddr, mask: SocketAddr) {
        let world = &mut *self.0.borrow_mut();
        if let Some(before) = world.masks.insert(address, mask) {
            world.masked.remove(&before);
        }
        world.masked.insert(mask, address);
    }

    /// When the next packet arrives; `None` when nothing is under way.
    pub fn next_event(&self) -> Option<Instant> {
        self.0.borrow().in_flight.keys().next().map(|(arrival, _)| *arrival)
    }

    /// Whether datagrams lie in the inbox of the node at `address`.
    pub fn has_received(&self, address: SocketAddr) -> bool {
        self.0.borrow().inboxes.get(&address).is_some_and(|inbox| !inbox.is_empty())
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.0.borrow().now
    }

    /// What happened to packets so far.
    pub fn counters(&self) -> FaultCounters {
        self.0.borrow().counters
    }
}

impl World {
    /// `is_tail`: it is the last of several that leave at once.
    fn send(&mut self, from: SocketAddr, transmit: &Transmit, is_tail: bool) {
        self.counters.sent += 1;
        let Transmit { to, ecn: sent, .. } = *transmit;
        let bytes: &[u8] = &transmit.lease;
        let to = self.masked.get(&to).copied().unwrap_or(to);
        if bytes.len() > self.faults.mtu {
            self.counters.too_large += 1;
            return;
        }
        if self.cuts.contains(&(from, to)) {
            self.counters.partitioned += 1;
            return;
        }
        let link = self.links.entry((from, to)).or_default();
        if link.is_in_burst(&mut self.random, &self.faults) {
            self.counters.lost_in_bursts += 1;
            return;
        }
        if bytes.len() <= SHORT_LEN && self.random.happens(self.faults.short_loss) {
            self.counters.short_lost += 1;
            return;
        }
        if link.awakes(self.now) && self.random.happens(self.faults.first_loss) {
            self.counters.first_lost += 1;
            return;
        }
        if is_tail && self.random.happens(self.faults.tail_loss) {
            self.counters.tail_lost += 1;
            return;
        }
        let is_lost = self.random.happens(self.faults.loss);
        let Some(ecn) = self.faults.marks.pass(sent, is_lost) else {
            self.counters.lost += 1;
            return;
        };
        self.counters.marked += u64::from(ecn == Ecn::Ce && sent != Ecn::Ce);
        self.counters.bleached += u64::from(ecn == Ecn::NotEct && sent != Ecn::NotEct);
        if self.random.happens(self.faults.duplication) {
            self.counters.duplicated += 1;
            self.fly(from, to, ecn, bytes);
        }
        self.fly(from, to, ecn, bytes);
        if self.random.happens(self.faults.forgery) {
            self.counters.forged += 1;
            let index = self.random.index(self.inboxes.len());
            let other = *self.inboxes.keys().nth(index).expect("the sender is attached");
            self.fly(other, to, ecn, bytes);
        }
        if self.faults.replay != Chance::NEVER {
            self.replay(from, to, ecn, bytes);
        }
    }

    /// Remembers some packets, for long or not, and sends one of them once more now and then.
    fn replay(&mut self, from: SocketAddr, to: SocketAddr, ecn: Ecn, bytes: &[u8]) {
        if self.random.happens(self.faults.replay) && !self.memory.is_empty() {
            self.counters.replayed += 1;
            let index = self.random.index(self.memory.len());
            let Flight { to, datagram } = self.memory.swap_remove(index);
            self.fly(datagram.from, to, datagram.ecn, &datagram.bytes);
        }
        if self.random.below(8) > 0 {
            return;
        }
        let flight =
            Flight { to, datagram: Datagram { from, seen: from, ecn, bytes: bytes.to_vec() } };
        if self.memory.len() < MEMORY_MAX {
            self.memory.push(flight);
        } else {
            let index = self.random.index(MEMORY_MAX);
            self.memory[index] = flight;
        }
    }

    /// Gives one copy its damage and its arrival.
    fn fly(&mut self, from: SocketAddr, to: SocketAddr, ecn: Ecn, bytes: &[u8]) {
        if self.in_flight.len() >= SIM_IN_FLIGHT_MAX {
            self.counters.overflowed += 1;
            return;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.extend_from_slice(bytes);
        if !copy.is_empty() && self.random.happens(self.faults.corruption) {
            self.counters.corrupted += 1;
            flip_one_to_eight_bits(&mut self.random, &mut copy);
        }
        if self.random.happens(self.faults.truncation) {
            self.counters.truncated += 1;
            copy.truncate(self.random.index(bytes.len()));
        }
        if self.random.happens(self.faults.extension) {
            self.counters.extended += 1;
            for _ in 0..=self.random.below(64) {
                copy.push(self.random.next_u64().to_le_bytes()[0]);
            }
        }
        let Some(arrival) = self.arrival(from, to, copy.len()) else {
            self.counters.queue_dropped += 1;
            return self.recycle(copy);
        };
        self.flights_sent += 1;
        let seen = self.masks.get(&from).copied().unwrap_or(from);
        let flight = Flight { to, datagram: Datagram { from, seen, ecn, bytes: copy } };
        self.in_flight.insert((arrival, self.flights_sent), flight);
    }

    fn arrival(&mut self, from: SocketAddr, to: SocketAddr, len: usize) -> Option<Instant> {
        let Delay { min, mean, max } = self.faults.delay;
        let delay = min + self.random.exponential(mean.saturating_sub(min));
        let link = self.links.entry((from, to)).or_default();
        let mut departure = link.depart(self.now, self.faults.line, len)?;
        if let Some((line, port)) = self.ports.get_mut(&to) {
            departure = port.depart(departure, *line, len)?;
        }
        let arrival = departure + delay.min(max);
        if self.random.happens(self.faults.reorder) {
            self.counters.reordered += 1;
            // Leaves the queue, for long enough that several later packets pass it.
            let late = mean.saturating_mul(4).max(Duration::from_micros(1));
            return Some(arrival + self.random.between(Duration::from_nanos(1), late));
        }
        let (arrival, is_held) = link.queue(arrival);
        self.counters.clogged += u64::from(is_held);
        Some(arrival)
    }

    fn land(&mut self, Flight { to, datagram }: Flight) {
        if self.cuts.contains(&(datagram.from, to)) {
            self.counters.partitioned += 1;
            return self.recycle(datagram.bytes);
        }
        match self.inboxes.get_mut(&to) {
            None => self.counters.unreachable += 1,
            Some(inbox) if inbox.len() >= SIM_INBOX_MAX => self.counters.overflowed += 1,
            Some(inbox) => {
                self.counters.delivered += 1;
                inbox.push_back(datagram);
                return;
            }
        }
        self.recycle(datagram.bytes);
    }

    fn recycle(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.spare.push(bytes);
    }
}

/// One node's socket in a [`SimNetwork`].
#[derive(Debug)]
pub struct SimDriver {
    network: SimNetwork,
    address: SocketAddr,
    pool: Pool,
    queue: VecDeque<Transmit>,
    counters: DriverCounters,
}

impl SimDriver {
    /// Where this node is attached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams from the front of `inbox` arrive as one train, and their bytes in all.
    fn train(&self, world: &mut World) -> Option<(usize, usize)> {
        let inbox = world.inboxes.get(&self.address).expect("attached until dropped");
        let first = inbox.front()?;
        let mut len = first.bytes.len();
        let mut count = 1;
        while count < inbox.len().min(TRAIN_SEGMENTS_MAX) {
            let next = &inbox[count];
            let fits = len + next.bytes.len() <= self.pool.stride().min(TRAIN_LEN_MAX);
            let follows = next.seen == first.seen
                && next.ecn == first.ecn
                && next.bytes.len() <= first.bytes.len();
            if next.bytes.is_empty() || !follows || !fits {
                break;
            }
            if !world.random.happens(world.faults.train) {
                break;
            }
            len += next.bytes.len();
            count += 1;
            if next.bytes.len() < first.bytes.len() {
                break;
            }
        }
        Some((count, len))
    }
}

impl Driver for SimDriver {
    /// Sends what is queued. Time stands still: only [`SimNetwork::advance_to`] moves it.
    fn wait(&mut self, _deadline: Option<Instant>) -> io::Result<Instant> {
        let world = &mut *self.network.0.borrow_mut();
        let count = self.queue.len();
        for (place, transmit) in self.queue.drain(..).enumerate() {
            if world.random.happens(world.faults.send_error) {
                world.counters.send_errors += 1;
                self.counters.send_errors += 1;
                continue;
            }
            self.counters.datagrams_sent += 1;
            self.counters.trains_sent += 1;
            self.counters.bytes_sent += transmit.lease.len() as u64;
            world.send(self.address, &transmit, count > 1 && place + 1 == count);
        }
        Ok(world.now)
    }

    fn receive(&mut self) -> Option<Received> {
        let network = self.network.clone();
        let world = &mut *network.0.borrow_mut();
        loop {
            let (count, len) = self.train(world)?;
            let lease = if len <= self.pool.stride() { self.pool.take() } else { None };
            let inbox = world.inboxes.get_mut(&self.address).expect("attached until dropped");
            let Some(mut lease) = lease else {
                self.counters.receive_errors += count as u64;
                let lost: Vec<Datagram> = inbox.drain(..count).collect();
                lost.into_iter().for_each(|datagram| world.recycle(datagram.bytes));
                continue;
            };
            let Datagram { seen: from, ecn, ref bytes, .. } =
                *inbox.front().expect("a train has a first");
            let segment_len = bytes.len().max(1);
            copy_train(&mut lease, inbox.iter().take(count));
            for _ in 0..count {
                let inbox = world.inboxes.get_mut(&self.address).expect("attached until dropped");
                let datagram = inbox.pop_front().expect("counted above");
                world.recycle(datagram.bytes);
            }
            self.counters.datagrams_received += count as u64;
            self.counters.trains_received += 1;
            self.counters.bytes_received += len as u64;
            return Some(Received { from, ecn, lease: lease.narrow(0..len), segment_len });
        }
    }

    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        let world = &mut *self.network.0.borrow_mut();
        for place in 0..transmit.datagrams() {
            let is_refused = world.random.happens(world.faults.queue_full);
            world.counters.handed_back += u64::from(is_refused);
            if is_refused || self.queue.len() >= TRANSMIT_QUEUE_MAX {
                return Err(transmit.part(place, usize::MAX));
            }
            self.queue.push_back(transmit.part(place, 1));
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.network.now()
    }

    fn waker(&self) -> Waker {
        Waker::of_nobody()
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        self.network.0.borrow_mut().inboxes.remove(&self.address);
    }
}

fn copy_train<'a>(lease: &mut Lease, train: impl Iterator<Item = &'a Datagram>) {
    let target = lease.get_mut().expect("just taken from the pool");
    let mut at = 0;
    for datagram in train {
        target[at..at + datagram.bytes.len()].copy_from_slice(&datagram.bytes);
        at += datagram.bytes.len();
    }
}

#[cfg(test)]
mod tests;
