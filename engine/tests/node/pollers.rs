//! Caller-driven nodes: no thread of ours, and one system call a turn at most.

use raet::time::Duration;
use raet::{
    Config, Context, Handler, IoChoice, Message, Mode, Outcome, PeerId, Poller, Resolved,
    SendError, Service,
};

use crate::{initiator, listener, on_both_drivers};

on_both_drivers! {
    messages_go_both_ways_without_a_thread
    patience_bounds_a_quiet_poll
    busy_turn_costs_few_system_calls
    loopback_keeps_marks_and_the_session_finds_out
}

/// Counts what arrives, and what ended.
#[derive(Default)]
struct Counter {
    messages: u64,
    replies: u64,
    ended: u64,
}

impl Handler for Counter {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        if message.is_reply {
            self.replies += 1;
            return;
        }
        self.messages += 1;
        if message.service == Service::Request {
            let reply = message.payload;
            context.reply(message.peer, message.transaction, reply).expect("room for a reply");
        }
    }

    fn on_outcome(&mut self, _: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        assert!(matches!(resolved.outcome, Outcome::Delivered | Outcome::Replied));
        self.ended += u64::from(resolved.count);
    }
}

#[test]
fn pause_between_polls_is_not_taken_off_a_handshakes_patience() {
    let patience = Duration::from_secs(1);
    let two = Config { handshake_timeout: patience, ..initiator(IoChoice::Auto) };
    let mut two = Poller::new(two, Counter::default()).expect("the initiator starts");
    let before = two.with(|_, context| context.now());
    std::thread::sleep(std::time::Duration::from_millis(20));
    let after = two.with(|_, context| context.now());
    assert!(after.saturating_since(before) >= Duration::from_millis(20));
}

/// Two nodes on this thread, with a session.
struct Pair {
    one: Poller<Counter>,
    two: Poller<Counter>,
    to: PeerId,
}

impl Pair {
    fn open(one: Config, two: Config) -> Self {
        let key = one.identity.public();
        let one = Poller::new(one, Counter::default()).expect("the listener starts");
        let mut two = Poller::new(two, Counter::default()).expect("the initiator starts");
        let to = two.with(|_, context| context.connect(one.address(), key)).expect("a free slot");
        let mut pair = Self { one, two, to };
        while pair.two.with(|_, context| context.packet_message_len_max(to)).is_err() {
            pair.turn();
        }
        pair
    }

    fn turn(&mut self) {
        self.two.poll(Duration::ZERO).expect("the initiator's driver works");
        self.one.poll(Duration::ZERO).expect("the listener's driver works");
    }

    /// Offers up to `count` messages, and says how many were taken.
    fn offer(&mut self, service: Service, count: u64) -> u64 {
        let to = self.to;
        self.two.with(|_, context| {
            for taken in 0..count {
                match context.send(to, service, &[7; 64]) {
                    Ok(_) => {}
                    Err(SendError::Full(_)) => return taken,
                    Err(error) => panic!("{error}"),
                }
            }
            count
        })
    }

    fn ended(&mut self) -> u64 {
        self.two.with(|counter, _| counter.ended)
    }
}

fn messages_go_both_ways_without_a_thread(io: IoChoice) {
    const TOTAL: u64 = 2_000;
    let mut pair = Pair::open(listener(io), initiator(io));
    for service in [Service::ExactlyOnce, Service::Request] {
        let (mut sent, before) = (0, pair.ended());
        while pair.ended() - before < TOTAL {
            sent += pair.offer(service, TOTAL - sent);
            pair.turn();
        }
    }
    assert_eq!(pair.one.with(|counter, _| counter.messages), 2 * TOTAL);
    assert_eq!(pair.two.with(|counter, _| counter.replies), TOTAL);
}

// PROTOCOL 5.25 and 5.26
fn loopback_keeps_marks_and_the_session_finds_out(io: IoChoice) {
    for (mode, keeps) in [(Mode::Sealed, true), (Mode::Plain, false)] {
        let with = |config: Config| Config { modes: vec![mode], ..config };
        let mut pair = Pair::open(with(listener(io)), with(initiator(io)));
        let mut sent = 0;
        while pair.ended() < 1_000 {
            sent += pair.offer(Service::Request, 1_000 - sent);
            pair.turn();
        }
        let to = pair.to;
        let path = pair.two.with(|_, context| context.path(to)).expect("the session is open");
        assert_eq!(path.is_ecn_capable, keeps, "{mode:?} {path:?}");
    }
}

fn patience_bounds_a_quiet_poll(io: IoChoice) {
    let mut alone = Poller::new(listener(io), Counter::default()).expect("the node starts");
    alone.poll(Duration::ZERO).expect("the driver works");
    let start = std::time::Instant::now();
    let was_busy = alone.poll(Duration::from_millis(20)).expect("the driver works");
    let took = start.elapsed();
    assert!(!was_busy);
    assert!((20..2_000).contains(&took.as_millis()), "{took:?}");
}

fn busy_turn_costs_few_system_calls(io: IoChoice) {
    const TOTAL: u64 = 200_000;
    let mut pair = Pair::open(listener(io), initiator(io));
    let uses_uring = pair.one.io().driver == "uring";
    let before = [pair.one.report(), pair.two.report()];
    let mut sent = 0;
    while pair.ended() < TOTAL {
        sent += pair.offer(Service::ExactlyOnce, (TOTAL - sent).min(1_000));
        pair.turn();
    }
    for (before, after) in before.iter().zip([pair.one.report(), pair.two.report()]) {
        let calls = after.driver.system_calls - before.driver.system_calls;
        let turns = after.turns - before.turns;
        println!("{io}: {calls} system calls in {turns} turns");
        // One enters the ring; without a ring, one receives and one sends, each until all is done.
        let most = if uses_uring { turns } else { 4 * turns };
        assert!(calls <= most, "{calls} system calls in {turns} turns");
    }
    // With nothing to do, a ring is not entered at all.
    if uses_uring {
        for _ in 0..1_000 {
            pair.turn(); // What is still due leaves.
        }
        let before = pair.two.report();
        for _ in 0..1_000 {
            pair.two.poll(Duration::ZERO).expect("the driver works");
        }
        let calls = pair.two.report().driver.system_calls - before.driver.system_calls;
        assert!(calls <= 10, "{calls} system calls in 1000 turns without work");
    }
}
