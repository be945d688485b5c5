//! Incast: many senders have much for one receiver at once, behind one port of a switch; and one of
//! them alone.
//!
//! Each sends long messages as fast as it may, and a small urgent one on a schedule beside them. No
//! sender knows of another. What keeps the port's queue from collapse is that little of a message
//! leaves before it is granted, the grants, and the windows of congestion; what keeps the
//! receiver's memory within bounds is that no message leaves for which none was reserved. What keeps
//! it short is that long messages are bulk, which yields to what is urgent.

use std::collections::VecDeque;

use raet::io::sim::{Delay, Faults, Line, SimNetwork};
use raet::protocol::endpoint::{Endpoint, EndpointConfig, Event};
use raet::time::{Duration, Instant};
use raet::{PeerId, Priority, SendError, SendOptions, Service};

use crate::process::{Process, TURN};

/// The process that all send to.
const RECEIVER: u8 = 100;
/// 10 Gbit/s, and a shallow queue: it holds the first windows of all senders, and not the second.
const PORT: Line = Line { bytes_per_second: 1_250_000_000, queue_max: 1_024 };
const DATAGRAM_LEN: u64 = 1_400;
const DELAY: Duration = Duration::from_micros(25);
/// An urgent message of each sender in this time, and for how long.
const URGENT_INTERVAL: Duration = Duration::from_millis(1);
const URGENT_SPAN: Duration = Duration::from_millis(80);
const URGENT_LEN: usize = 64;
/// When all sessions are open for sure.
const WARM_UP: Duration = Duration::from_millis(500);
/// All has to be over by then.
const END: Duration = Duration::from_secs(2);

/// What is sent.
#[derive(Clone, Copy)]
struct Load {
    senders: u8,
    /// Long messages of each sender, all offered at the start.
    long: usize,
    long_len: usize,
    /// Bytes that the receiver reserves for each sender: some long messages, and room for urgent
    /// ones, which are not taken either where long ones use up all that is reserved.
    receive_bytes: u64,
}

impl Load {
    const INCAST: Self =
        Self { senders: 64, long: 3, long_len: 512 << 10, receive_bytes: (1 << 20) + (64 << 10) };
    /// As long as the urgent messages are sent, and more.
    const ONE_LONG: Self =
        Self { senders: 1, long: 2, long_len: 64 << 20, receive_bytes: 129 << 20 };

    /// The urgent messages alone.
    const fn idle(self) -> Self {
        Self { long: 0, ..self }
    }
}

/// What a sender has to send.
struct Sender {
    process: Process,
    peer: PeerId,
    long: usize,
    long_len: usize,
    urgent: VecDeque<Instant>,
}

impl Sender {
    fn new(network: &SimNetwork, number: u8, receiver: &Process, load: Load) -> Self {
        let mut process = Process::new(network, number, |_| {});
        let key = Process::key(RECEIVER);
        let peer = process.endpoint.connect(network.now(), receiver.address, key);
        let peer = peer.expect("room for a peer");
        let Load { long, long_len, .. } = load;
        Self { process, peer, long, long_len, urgent: VecDeque::new() }
    }

    fn turn(&mut self, now: Instant, start: Instant) {
        let Self { process, peer, long, long_len, urgent } = self;
        process.turn(now, |endpoint, event| {
            if event.is_none() && now >= start {
                let mut offer = |len, due| offer(now, endpoint, *peer, len, due);
                while urgent.front().is_some_and(|due| offer(URGENT_LEN, *due)) {
                    urgent.pop_front();
                }
                while *long > 0 && offer(*long_len, start) {
                    *long -= 1;
                }
            }
        });
    }
}

/// Sends one message that tells when it was due; whether it was taken.
fn offer(now: Instant, endpoint: &mut Endpoint, peer: PeerId, len: usize, due: Instant) -> bool {
    let mut options = SendOptions::new(Service::ExactlyOnce);
    options.priority = if len == URGENT_LEN { Priority::Urgent } else { Priority::Bulk };
    let mut message = vec![0; len];
    message[..8].copy_from_slice(&due.as_nanos().to_le_bytes());
    match endpoint.send(now, peer, &options, message.as_slice().into()) {
        Ok(_) => true,
        Err(SendError::Full(_)) => false,
        Err(error) => panic!("a message was not taken: {error}"),
    }
}

/// What came of it at the receiver.
#[derive(Default)]
struct Figures {
    /// How far each urgent message was behind its schedule.
    urgent: Vec<Duration>,
    /// When each long message was there, after the start.
    long: Vec<Duration>,
    /// Bytes of incomplete messages that the receiver kept at a time, of one sender and of all.
    incomplete_of_one: u64,
    incomplete: u64,
    /// Datagrams that were sent, by all, and that the port dropped.
    datagrams: u64,
    dropped: u64,
    /// Those that found no receive buffer.
    unbuffered: u64,
}

impl Figures {
    fn on_event(&mut self, now: Instant, event: &Event) {
        let Event::Messages(messages) = event else { return };
        for (_, payload) in messages.iter() {
            let due = payload.first_chunk().expect("it begins with its time");
            let due = Instant::from_nanos(u64::from_le_bytes(*due));
            let list = if payload.len() == URGENT_LEN { &mut self.urgent } else { &mut self.long };
            list.push(now.saturating_since(due));
        }
    }

    /// How far so many of 1000 urgent messages were behind at most.
    fn urgent_behind(&mut self, part: usize) -> Duration {
        self.urgent.sort_unstable();
        self.urgent[(self.urgent.len() - 1) * part / 1_000]
    }

    /// What the receiver keeps for its peers.
    fn weigh(&mut self, endpoint: &Endpoint, peers: &[PeerId]) {
        let mut all = 0;
        for peer in peers {
            let kept = endpoint.memory(*peer).map_or(0, |memory| memory.incomplete);
            self.incomplete_of_one = self.incomplete_of_one.max(kept);
            all += kept;
        }
        self.incomplete = self.incomplete.max(all);
    }
}

fn run(load: Load) -> Figures {
    let network = SimNetwork::new(64, Faults { delay: Delay::fixed(DELAY), ..Faults::NONE });
    let grants = |config: &mut EndpointConfig| config.receive_bytes = load.receive_bytes;
    let mut receiver = Process::new(&network, RECEIVER, grants);
    network.narrow(receiver.address, PORT);
    let mut senders: Vec<_> =
        (1..=load.senders).map(|number| Sender::new(&network, number, &receiver, load)).collect();
    let mut figures = Figures::default();
    let mut peers = Vec::new();
    let start = network.now() + WARM_UP;
    let mut due = start;
    loop {
        let now = network.now();
        if now >= due && due < start + URGENT_SPAN {
            for sender in &mut senders {
                sender.urgent.push_back(due);
                sender.process.wake_at = Some(now);
            }
            due += URGENT_INTERVAL;
        }
        for sender in senders.iter_mut().filter(|sender| sender.process.is_due(&network, now)) {
            sender.turn(now, start);
        }
        if receiver.is_due(&network, now) {
            receiver.turn(now, |endpoint, event| match event {
                Some(Event::Session { peer, .. }) => peers.push(peer),
                Some(event) => figures.on_event(now, &event),
                None => figures.weigh(endpoint, &peers),
            });
        }
        let next_due = (due < start + URGENT_SPAN).then_some(due);
        let wakes = senders.iter().filter_map(|sender| sender.process.wake_at);
        let wakes = wakes.chain(receiver.wake_at).chain(network.next_event()).chain(next_due);
        let next = wakes.min().unwrap_or(start + END);
        let open = |sender: &Sender| sender.process.endpoint.outstanding(sender.peer) > 0;
        let is_over = now > start + URGENT_SPAN && !senders.iter().any(open);
        if is_over || next > start + END {
            break;
        }
        network.advance_to(next.max(now + TURN));
    }
    figures.datagrams = network.counters().sent;
    figures.dropped = network.counters().queue_dropped;
    figures.unbuffered = receiver.unbuffered();
    figures
}

/// The longest time that a datagram is under way to the receiver and its acknowledgement back.
fn round_trip_max() -> Duration {
    let queue = PORT.queue_max as u64 * DATAGRAM_LEN * 1_000_000_000 / PORT.bytes_per_second;
    DELAY.saturating_mul(2) + Duration::from_nanos(queue)
}

#[test]
fn many_who_send_much_to_one_at_once_all_end_and_stay_within_its_memory() {
    let Load { senders, long, long_len, receive_bytes } = Load::INCAST;
    let mut figures = run(Load::INCAST);
    let Figures { datagrams, dropped, incomplete, incomplete_of_one, .. } = figures;
    let (count, last) = (figures.long.len(), figures.long.iter().max().copied());
    let last = last.expect("some arrived");
    let bytes = count as u64 * long_len as u64;
    let ideal = Duration::from_nanos(bytes * 1_000_000_000 / PORT.bytes_per_second);
    let [p50, p99, most] = [500, 990, 1_000].map(|part| figures.urgent_behind(part));
    println!("{count} long messages in {last:?} of {ideal:?}, {incomplete} bytes kept at a time");
    println!(
        "{dropped} of {datagrams} datagrams lost, urgent p50 {p50:?} p99 {p99:?} max {most:?}"
    );

    assert_eq!(count, usize::from(senders) * long);
    assert!(last <= ideal.mul_ratio(5, 4), "{last:?} instead of {ideal:?}");
    assert!(incomplete_of_one <= receive_bytes, "{incomplete_of_one} kept of one sender");
    assert!(incomplete <= u64::from(senders) * receive_bytes, "{incomplete} kept of all");
    assert!(dropped * 100 <= datagrams * 3, "{dropped} of {datagrams} lost");
    assert_eq!(figures.unbuffered, 0, "the receiver has buffers left");
    let urgent = URGENT_SPAN.as_nanos() / URGENT_INTERVAL.as_nanos() * u64::from(senders);
    assert_eq!(figures.urgent.len() as u64, urgent);
    let round_trip = round_trip_max();
    assert!(p99 <= round_trip.saturating_mul(3), "urgent p99 {p99:?}, {round_trip:?}");
    assert!(most <= round_trip.saturating_mul(5), "urgent max {most:?}, {round_trip:?}");
}

#[test]
fn urgent_messages_of_many_wait_for_nothing_where_there_is_no_incast() {
    let mut figures = run(Load::INCAST.idle());
    assert_eq!((figures.dropped, figures.long.len()), (0, 0));
    let most = figures.urgent_behind(1_000);
    assert!(most <= DELAY.saturating_mul(2), "{most:?}");
}

#[test]
fn urgent_messages_beside_a_long_one_take_less_than_twice_as_long() {
    let [idle, busy] = [Load::ONE_LONG.idle(), Load::ONE_LONG].map(|load| {
        let mut figures = run(load);
        assert_eq!(
            figures.urgent.len() as u64,
            URGENT_SPAN.as_nanos() / URGENT_INTERVAL.as_nanos()
        );
        assert_eq!(figures.long.len(), load.long);
        let last = figures.long.iter().max().copied().unwrap_or(URGENT_SPAN);
        assert!(last >= URGENT_SPAN, "the long messages outlast the urgent ones");
        let p99 = figures.urgent_behind(990);
        println!("urgent p99 {p99:?} beside {} long messages, done after {last:?}", load.long);
        p99
    });
    assert!(busy < idle.saturating_mul(2), "{busy:?} instead of {idle:?}");
}
