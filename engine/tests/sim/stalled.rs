//! One shard with sixteen sessions, of which one peer stops reading: the others must not notice.
//!
//! The shard sends each peer a message on a schedule, and a message that is not taken is offered
//! again. What a peer that reads is behind the schedule is measured at its end. Virtual time costs
//! nothing, so what one session could take from another is buffers, turns and places in queues.

use std::collections::VecDeque;

use raet::io::sim::{Delay, Faults, Line, SimNetwork};
use raet::protocol::endpoint::{Endpoint, Event};
use raet::time::{Duration, Instant};
use raet::{PeerId, SendError, SendOptions, Service, SessionChange};

use crate::process::{Process, TURN};

const PEERS: usize = 16;
/// The peer that stops reading.
const STALLED: usize = 0;
/// When a session is open for sure, and the schedule begins.
const WARM_UP: Duration = Duration::from_millis(100);
/// Long enough for twice the messages that there are send buffers for.
const SPAN: Duration = Duration::from_secs(1);
/// A message to each peer in this time: 8 MB/s over a line of 20 MB/s.
const INTERVAL: Duration = Duration::from_micros(125);
const MESSAGE_LEN: usize = 1_000;
/// Time for what is under way at the end.
const REST: Duration = Duration::from_millis(50);
/// Messages for one peer that the application keeps while they are not taken.
const BACKLOG_MAX: usize = 10_000;

/// How a peer stops reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stall {
    /// It does not.
    Nothing,
    /// It takes messages and commits none.
    Commits,
    /// Its process takes no turn.
    Turns,
    /// It takes messages and keeps them all.
    Releases,
}

/// What one peer got: how far each message was behind its schedule.
#[derive(Default)]
struct Received {
    delays: Vec<Duration>,
}

impl Received {
    fn on_event(&mut self, now: Instant, endpoint: &mut Endpoint, event: &Event, stall: Stall) {
        let Event::Messages(messages) = event else { return };
        let peer = messages.peer();
        for (transaction, payload) in messages.iter() {
            let due = payload.first_chunk().expect("it begins with its time");
            let due = Instant::from_nanos(u64::from_le_bytes(*due));
            self.delays.push(now.saturating_since(due));
            match stall {
                Stall::Commits => drop(endpoint.defer(peer, transaction)),
                Stall::Releases => endpoint.hold(peer, 1),
                Stall::Nothing | Stall::Turns => {}
            }
        }
    }

    fn p99(&mut self) -> Duration {
        self.delays.sort_unstable();
        self.delays[self.delays.len() * 99 / 100]
    }
}

/// What the shard has to send to one peer.
#[derive(Default)]
struct Schedule {
    peer: Option<PeerId>,
    backlog: VecDeque<Instant>,
}

impl Schedule {
    /// Offers what is due, in order, until something is not taken.
    fn offer(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let Some(peer) = self.peer else { return };
        let options = SendOptions::new(Service::ExactlyOnce);
        while let Some(&due) = self.backlog.front() {
            let mut message = [0; MESSAGE_LEN];
            message[..8].copy_from_slice(&due.as_nanos().to_le_bytes());
            match endpoint.send(now, peer, &options, message.as_slice().into()) {
                Ok(_) => drop(self.backlog.pop_front()),
                Err(SendError::Full(_)) => return,
                Err(error) => panic!("a message was not taken: {error}"),
            }
        }
    }
}

/// What each peer received while one stalled in this way.
fn run(stall: Stall) -> Vec<Received> {
    let line = Line { bytes_per_second: 20_000_000, queue_max: 256 };
    let faults = Faults { line, delay: Delay::fixed(Duration::from_micros(50)), ..Faults::NONE };
    let network = SimNetwork::new(16, faults);
    let mut shard = Process::new(&network, 100, |_| {});
    let mut peers: Vec<_> = (1..=16).map(|number| Process::new(&network, number, |_| {})).collect();
    let mut schedules: Vec<_> = peers.iter().map(|_| Schedule::default()).collect();
    let mut received: Vec<_> = peers.iter().map(|_| Received::default()).collect();
    for (number, (peer, schedule)) in (1_u8..).zip(peers.iter().zip(&mut schedules)) {
        let key = Process::key(number);
        let connected = shard.endpoint.connect(network.now(), peer.address, key);
        schedule.peer = Some(connected.expect("there is room for a peer"));
    }
    let start = network.now() + WARM_UP;
    let (end, mut due) = (start + SPAN, start);
    while network.now() < end + REST {
        let now = network.now();
        while due <= now && due < end {
            for schedule in &mut schedules {
                if schedule.backlog.len() < BACKLOG_MAX {
                    schedule.backlog.push_back(due);
                }
            }
            due += INTERVAL;
        }
        shard.turn(now, |endpoint, event| match event {
            Some(Event::Session { change, .. }) => {
                assert!(matches!(change, SessionChange::Opened { .. }), "{change:?}");
            }
            Some(_) => {}
            None => schedules.iter_mut().for_each(|schedule| schedule.offer(now, endpoint)),
        });
        for (index, peer) in peers.iter_mut().enumerate() {
            let stall = if index == STALLED { stall } else { Stall::Nothing };
            if peer.is_due(&network, now) && (stall != Stall::Turns || now < start) {
                let received = &mut received[index];
                peer.turn(now, |endpoint, event| {
                    event.iter().for_each(|event| received.on_event(now, endpoint, event, stall));
                });
            }
        }
        let alive = peers
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != STALLED || stall != Stall::Turns || now < start);
        let wakes = alive.filter_map(|(_, peer)| peer.wake_at).chain(shard.wake_at);
        let next_due = (due < end).then_some(due);
        let next = wakes.chain(network.next_event()).chain(next_due).min().unwrap_or(end + REST);
        network.advance_to(next.max(now + TURN).min(end + REST));
    }
    received
}

#[test]
fn peer_that_stops_reading_costs_the_others_of_its_shard_nothing() {
    let messages = SPAN.as_nanos() / INTERVAL.as_nanos();
    let mut before = run(Stall::Nothing);
    assert!(before.iter().all(|received| received.delays.len() as u64 == messages));
    for stall in [Stall::Releases, Stall::Commits, Stall::Turns] {
        let mut after = run(stall);
        assert!((after[STALLED].delays.len() as u64) < messages, "{stall:?} stalls nothing");
        for peer in (0..PEERS).filter(|&peer| peer != STALLED) {
            let (count, p99) = (after[peer].delays.len() as u64, after[peer].p99());
            let most = before[peer].p99().mul_ratio(105, 100);
            println!("{stall:?}: peer {peer} got {count} of {messages}, p99 {p99:?}, {most:?}");
            assert!(count * 100 >= messages * 95, "{stall:?}: peer {peer} got {count}");
            assert!(p99 <= most, "{stall:?}: peer {peer} waits {p99:?}, not {most:?}");
        }
    }
}
