//! A driver that wraps a driver and spoils what it sends, as a bad path would.
//!
//! For tests over real sockets and for trying a configuration out; the simulator has faults of
//! its own. Faults are drawn from a seed in the order of the datagrams, so a run differs from the
//! next only by the timing of its threads. Like a wire, a delayed path is a queue: datagrams
//! overtake each other by the reorder fault alone. What is delayed or damaged is copied into a
//! pool of the wrapper's own, because the original may be kept by its sender for another try.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;

use super::random::{Chance, Random, flip_one_to_eight_bits};
use super::{Driver, DriverCounters, Waker};
use crate::buffer::{Lease, Pool, Received, Transmit};
use crate::limits::{DATAGRAM_LEN_MAX, IMPAIR_QUEUE_MAX, IMPAIR_REORDER_DELAY};
use crate::time::{Duration, Instant};

/// What happens to datagrams on their way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impairment {
    /// The datagram is not sent.
    pub loss: Chance,
    /// It is sent twice.
    pub duplication: Chance,
    /// It is sent after datagrams that were queued later.
    pub reorder: Chance,
    /// One to eight of its bits are flipped.
    pub corruption: Chance,
    /// Shortest time for which it is held back.
    pub delay_min: Duration,
    /// Longest time for which it is held back, reordering aside.
    pub delay_max: Duration,
}

impl FromStr for Impairment {
    type Err = String;

    /// Reads `loss=1%,dup=1%,reorder=2%,delay=100us..1ms,corrupt=0.1%`, any of them in any order.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut impairment = Self::default();
        for fault in text.split(',').filter(|fault| !fault.is_empty()) {
            let Some((name, value)) = fault.split_once('=') else {
                return Err(format!("'{fault}' is not a fault: write it as name=value"));
            };
            match name {
                "loss" => impairment.loss = parse_chance(value)?,
                "dup" => impairment.duplication = parse_chance(value)?,
                "reorder" => impairment.reorder = parse_chance(value)?,
                "corrupt" => impairment.corruption = parse_chance(value)?,
                "delay" => {
                    let (low, high) = value.split_once("..").unwrap_or((value, value));
                    let (low, high) = (parse_duration(low)?, parse_duration(high)?);
                    if low > high {
                        return Err(format!("'{value}' is not a delay: it ends before it begins"));
                    }
                    (impairment.delay_min, impairment.delay_max) = (low, high);
                }
                _ => {
                    return Err(format!(
                        "'{name}' is not a fault: use loss, dup, reorder, delay or corrupt"
                    ));
                }
            }
        }
        Ok(impairment)
    }
}

/// What an [`Impaired`] driver did to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImpairmentCounters {
    /// Not sent.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Sent out of turn.
    pub reordered: u64,
    /// Sent with bits flipped.
    pub corrupted: u64,
    /// Held back for some time.
    pub delayed: u64,
    /// Lost because the wrapper holds back all that it can.
    pub overflowed: u64,
}

/// A driver with an [`Impairment`] on what it sends.
#[derive(Debug)]
pub struct Impaired<D> {
    inner: D,
    impairment: Impairment,
    random: Random,
    /// Room for copies; its size bounds what is held back.
    pool: Pool,
    /// Held back, by the time at which it is due; the number keeps equal times in order.
    held: BTreeMap<(Instant, u64), Transmit>,
    held_ever: u64,
    /// The latest due time given out, so that the path stays a queue.
    latest: Instant,
    /// The clock at the last wait.
    now: Instant,
    counters: ImpairmentCounters,
}

impl<D: Driver> Impaired<D> {
    /// Wraps `inner`; equal seeds draw equal faults.
    ///
    /// # Errors
    /// The kernel's, if it refuses the memory for copies.
    pub fn new(inner: D, impairment: Impairment, seed: u64) -> io::Result<Self> {
        let now = inner.now();
        Ok(Self {
            inner,
            impairment,
            random: Random::new(seed),
            pool: Pool::new(IMPAIR_QUEUE_MAX, DATAGRAM_LEN_MAX.next_multiple_of(64))?,
            held: BTreeMap::new(),
            held_ever: 0,
            latest: now,
            now,
            counters: ImpairmentCounters::default(),
        })
    }

    /// What happened to datagrams so far.
    pub fn impairments(&self) -> ImpairmentCounters {
        self.counters
    }

    /// The driver inside.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Hands over what is due, as far as the driver takes it.
    fn release(&mut self) {
        while let Some(held) = self.held.first_entry() {
            if held.key().0 > self.now {
                return;
            }
            let (key, transmit) = held.remove_entry();
            if let Err(refused) = self.inner.transmit(transmit) {
                self.held.insert(key, refused);
                return;
            }
        }
    }

    /// When a datagram that is offered now is due.
    fn due(&mut self) -> Instant {
        let Impairment { delay_min, delay_max, reorder, .. } = self.impairment;
        let due = self.now + self.random.between(delay_min, delay_max);
        if self.random.happens(reorder) {
            self.counters.reordered += 1;
            let extra = delay_max.max(IMPAIR_REORDER_DELAY);
            return due + self.random.between(Duration::from_nanos(1), extra);
        }
        self.latest = self.latest.max(due);
        self.latest
    }

    fn hold(&mut self, due: Instant, transmit: Transmit) {
        self.counters.delayed += u64::from(due > self.now);
        self.held_ever += 1;
        self.held.insert((due, self.held_ever), transmit);
    }

    /// A copy of `bytes`, damaged if the dice say so.
    fn copy(&mut self, bytes: &[u8], corrupt: bool) -> Option<Lease> {
        let lease = self.pool.take().filter(|lease| bytes.len() <= lease.len());
        let Some(lease) = lease else {
            self.counters.overflowed += 1;
            return None;
        };
        let mut lease = lease.narrow(0..bytes.len());
        let target = lease.get_mut().expect("just taken from the pool");
        target.copy_from_slice(bytes);
        if corrupt {
            self.counters.corrupted += 1;
            flip_one_to_eight_bits(&mut self.random, target);
        }
        Some(lease)
    }

    /// Draws the fate of one datagram, and hands it over or holds it back.
    fn spoil(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        if self.random.happens(self.impairment.loss) {
            self.counters.lost += 1;
            return Ok(());
        }
        if self.random.happens(self.impairment.duplication)
            && let Some(lease) = self.copy(&transmit.lease, false)
        {
            self.counters.duplicated += 1;
            let due = self.due();
            self.hold(due, Transmit { lease, ..transmit });
        }
        let corrupt = !transmit.lease.is_empty() && self.random.happens(self.impairment.corruption);
        let due = self.due();
        let first = self.held.keys().next().map(|(due, _)| *due);
        if !corrupt && due <= self.now && first.is_none_or(|first| first > self.now) {
            return self.inner.transmit(transmit);
        }
        if let Some(lease) = self.copy(&transmit.lease, corrupt) {
            self.hold(due, Transmit { lease, ..transmit });
        }
        Ok(())
    }
}

impl<D: Driver> Driver for Impaired<D> {
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Instant> {
        self.release();
        let due = self.held.keys().next().map(|(due, _)| *due);
        let deadline = match (deadline, due) {
            (Some(deadline), Some(due)) => Some(deadline.min(due)),
            (deadline, due) => deadline.or(due),
        };
        self.now = self.inner.wait(deadline)?;
        Ok(self.now)
    }

    fn receive(&mut self) -> Option<Received> {
        self.inner.receive()
    }

    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        for place in 0..transmit.datagrams() {
            if self.spoil(transmit.part(place, 1)).is_err() {
                return Err(transmit.part(place, usize::MAX));
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }

    fn counters(&self) -> DriverCounters {
        self.inner.counters()
    }
}

/// `1%`, `0.05%`: a probability, to the part per million.
fn parse_chance(text: &str) -> Result<Chance, String> {
    let error = || format!("'{text}' is not a probability: write a percentage, as 0.5%");
    let number = text.strip_suffix('%').ok_or_else(error)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 4 {
        return Err(error());
    }
    let whole: u32 = whole.parse().map_err(|_| error())?;
    let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| error())?;
    if whole > 100 || (whole == 100 && fraction > 0) {
        return Err(format!("'{text}' is not a probability: it is above 100%"));
    }
    Ok(Chance::parts_per_million(whole * 10_000 + fraction))
}

/// `100us`, `1ms`, `2s`: a whole number with its unit, up to a minute.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let error = || format!("'{text}' is not a delay: write a whole number and us, ms or s");
    let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| error())?;
    let duration = match unit {
        "ns" => Duration::from_nanos(number),
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err(error()),
    };
    if duration > Duration::from_secs(60) {
        return Err(format!("'{text}' is not a delay: it is above a minute"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::buffer::Ecn;
    use crate::io::sim::{Faults, SimDriver, SimNetwork};

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    /// Sends numbered datagrams through an impaired driver, 10 µs apart, and returns what arrived.
    fn run(impairment: Impairment, count: u8) -> (Vec<Vec<u8>>, ImpairmentCounters) {
        let network = SimNetwork::new(1, Faults::NONE);
        let pool = Pool::new(512, 64).unwrap();
        let sender = network.open(address(1), pool.clone());
        let mut sender = Impaired::new(sender, impairment, 42).unwrap();
        let mut receiver: SimDriver = network.open(address(2), pool.clone());
        for number in 0..count {
            let mut lease = pool.take().unwrap();
            lease.get_mut().unwrap().fill(number);
            sender.transmit(Transmit::single(address(2), Ecn::Ect0, lease)).unwrap();
            sender.wait(None).unwrap();
            network.advance_to(network.now() + Duration::from_micros(10));
        }
        for _ in 0..2000 {
            sender.wait(None).unwrap();
            network.advance_to(network.now() + Duration::from_micros(10));
        }
        let arrived: Vec<_> = std::iter::from_fn(|| receiver.receive())
            .map(|received| received.lease.to_vec())
            .collect();
        assert_eq!(pool.available(), pool.capacity());
        assert_eq!(sender.pool.available(), sender.pool.capacity());
        (arrived, sender.impairments())
    }

    #[test]
    fn every_fault_is_read_and_left_out_ones_stay_off() {
        let parsed: Impairment =
            "loss=1%,dup=2.5%,reorder=100%,delay=100us..1ms,corrupt=0.1%".parse().unwrap();
        let expected = Impairment {
            loss: Chance::parts_per_million(10_000),
            duplication: Chance::parts_per_million(25_000),
            reorder: Chance::ALWAYS,
            corruption: Chance::parts_per_million(1_000),
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_millis(1),
        };
        assert_eq!(parsed, expected);
        assert_eq!("".parse(), Ok(Impairment::default()));
        let delay: Impairment = "delay=2ms".parse().unwrap();
        assert_eq!((delay.delay_min, delay.delay_max), (Duration::from_millis(2), delay.delay_min));
    }

    #[test]
    fn nonsense_is_refused_in_one_sentence() {
        for (text, expected) in [
            ("loss", "'loss' is not a fault: write it as name=value"),
            ("los=1%", "'los' is not a fault: use loss, dup, reorder, delay or corrupt"),
            ("loss=1", "'1' is not a probability: write a percentage, as 0.5%"),
            ("loss=%", "'%' is not a probability: write a percentage, as 0.5%"),
            ("loss=-1%", "'-1%' is not a probability: write a percentage, as 0.5%"),
            ("loss=0.00001%", "'0.00001%' is not a probability: write a percentage, as 0.5%"),
            ("loss=101%", "'101%' is not a probability: it is above 100%"),
            ("delay=1", "'1' is not a delay: write a whole number and us, ms or s"),
            ("delay=1h", "'1h' is not a delay: write a whole number and us, ms or s"),
            ("delay=2ms..1ms", "'2ms..1ms' is not a delay: it ends before it begins"),
            ("delay=99s", "'99s' is not a delay: it is above a minute"),
        ] {
            assert_eq!(text.parse::<Impairment>(), Err(expected.to_owned()));
        }
    }

    #[test]
    fn without_faults_everything_passes_untouched() {
        let (arrived, counters) = run(Impairment::default(), 200);
        assert_eq!(arrived, (0..200).map(|number| vec![number; 64]).collect::<Vec<_>>());
        assert_eq!(counters, ImpairmentCounters::default());
    }

    #[test]
    fn lost_and_duplicated_datagrams_add_up() {
        let impairment: Impairment = "loss=10%,dup=10%".parse().unwrap();
        let (arrived, counters) = run(impairment, 200);
        assert!(counters.lost > 0 && counters.duplicated > 0, "{counters:?}");
        assert_eq!(arrived.len() as u64, 200 - counters.lost + counters.duplicated);
    }

    #[test]
    fn delay_keeps_order_and_reorder_does_not() {
        let (arrived, counters) = run("delay=100us..1ms".parse().unwrap(), 200);
        assert_eq!((arrived.len(), counters.delayed), (200, 200));
        assert!(arrived.is_sorted());
        let (arrived, counters) = run("reorder=20%".parse().unwrap(), 200);
        assert_eq!(arrived.len(), 200);
        assert!(counters.reordered > 0 && !arrived.is_sorted());
    }

    #[test]
    fn corrupted_datagrams_differ_and_the_senders_buffer_does_not() {
        let (arrived, counters) = run("corrupt=50%".parse().unwrap(), 200);
        let damaged = arrived.iter().filter(|bytes| bytes.iter().any(|byte| *byte != bytes[63]));
        assert_eq!(arrived.len(), 200);
        // Flips can undo each other, or hit the byte that we compare with.
        assert!(damaged.count() as u64 + 8 > counters.corrupted, "{counters:?}");
        assert!((60..140).contains(&counters.corrupted), "{counters:?}");
    }
}
