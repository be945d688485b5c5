//! Peers that take nothing: who waits for them, and who does not.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use raet::protocol::crypto::Random;
use raet::time::Instant as Time;
use raet::{
    Config, FullReason, Incoming, IoChoice, Outcome, Overflow, QueueBound, QueueError, QueueNode,
    Remote, SendOptions, Service, SessionChange, StreamKind,
};

use super::send;
use crate::{PATIENCE, initiator, listener, on_both_drivers, wait_for};

on_both_drivers! {
    nodes_that_answer_late_and_send_to_each_other_finish
    peers_that_read_get_everything_while_one_does_not
    what_may_be_dropped_waits_for_nobody
}

const DEPTH: usize = 16;
const WINDOW: u32 = 64;

fn narrow(config: Config) -> Config {
    Config { transactions: WINDOW, ..config }
}

/// A node that sends, and peers of it.
struct Star {
    hub: QueueNode,
    peers: Vec<(QueueNode, Remote)>,
}

impl Star {
    fn start(io: IoChoice, peers: usize) -> Self {
        let hub = QueueNode::start(narrow(initiator(io)), DEPTH).expect("the hub starts");
        let peer = |_| {
            let node = QueueNode::start(narrow(listener(io)), DEPTH).expect("a peer starts");
            let to = hub.connect(node.node().address(), *node.node().key());
            (node, to.expect("the session opens"))
        };
        let peers = (0..peers).map(peer).collect();
        Self { hub, peers }
    }

    fn remote(&self, peer: usize) -> Remote {
        self.peers[peer].1
    }

    /// Sends to a peer that does not read until nothing more is taken. The tickets, in order.
    fn fill(&self, peer: usize, payload: &[u8]) -> Vec<u64> {
        let to = self.remote(peer);
        let mut tickets = Vec::new();
        let mut quiet_since = Instant::now();
        loop {
            match self.hub.send(to, Service::ExactlyOnce, payload) {
                Ok(ticket) => {
                    tickets.push(ticket);
                    quiet_since = Instant::now();
                }
                Err(QueueError::Full(bound)) => {
                    if quiet_since.elapsed() > Duration::from_millis(100) {
                        let reason = FullReason::Transactions;
                        assert_eq!(bound, QueueBound::Peer { to, reason });
                        return tickets;
                    }
                }
                Err(error) => panic!("{error}"),
            }
            while self.hub.receive().is_some() {}
        }
    }
}

/// One of two nodes that send to each other and take their time to say what became of it.
fn converse(node: &QueueNode, to: Remote, total: u64) {
    let end = Instant::now() + PATIENCE;
    let (mut sent, mut taken, mut replies) = (0, 0, 0);
    let mut tickets = HashSet::new();
    let (mut commits, mut answers) = (Vec::new(), Vec::new());
    while taken < total || sent < total || !tickets.is_empty() || !commits.is_empty() {
        assert!(Instant::now() < end, "{sent} sent, {taken} taken, {} without end", tickets.len());
        // As much as is taken, then all that came, then the answers: they meet full windows.
        while sent < total {
            let service = if sent % 4 == 0 { Service::Request } else { Service::ExactlyOnce };
            let Ok(ticket) = node.send(to, service, &sent.to_le_bytes()) else { break };
            sent += 1;
            tickets.insert(ticket);
        }
        thread::yield_now();
        while let Some(incoming) = node.receive() {
            match incoming {
                Incoming::Message { reply_to: Some(_), .. } => replies += 1,
                Incoming::Message { from, transaction, receipt, .. } => {
                    taken += 1;
                    match receipt {
                        Some(receipt) => commits.push(receipt),
                        None => answers.push((from, transaction)),
                    }
                }
                Incoming::Outcome { ticket, outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Delivered | Outcome::Replied));
                    assert!(tickets.remove(&ticket), "{ticket} was told twice");
                }
                _ => {}
            }
        }
        commits.retain(|receipt| node.commit(*receipt).is_err());
        answers.retain(|(from, transaction)| node.reply(*from, *transaction, b"done").is_err());
    }
    assert_eq!(replies, total / 4);
}

fn nodes_that_answer_late_and_send_to_each_other_finish(io: IoChoice) {
    const EACH: u64 = 10_000;
    let start = |config| QueueNode::start_deferring(narrow(config), DEPTH).expect("a node starts");
    let (one, two) = (start(listener(io)), start(initiator(io)));
    let to = two.connect(one.node().address(), *one.node().key()).expect("the session opens");
    let back = wait_for("the session", || match one.receive()? {
        Incoming::Session { peer, change: SessionChange::Opened { .. } } => Some(peer),
        _ => None,
    });
    thread::scope(|scope| {
        scope.spawn(|| converse(&one, back, EACH));
        scope.spawn(|| converse(&two, to, EACH));
    });
}

fn peers_that_read_get_everything_while_one_does_not(io: IoChoice) {
    const EACH: u64 = 3_000;
    let star = Star::start(io, 3);
    let stuck = star.fill(0, b"nobody reads this");
    assert!(stuck.len() <= DEPTH + 2 * WINDOW as usize, "{} were taken", stuck.len());
    let end = Instant::now() + PATIENCE;
    let (mut sent, mut got) = ([0_u64; 3], [0_u64; 3]);
    while got[1..] != [EACH; 2] {
        assert!(Instant::now() < end, "{got:?} of {sent:?} arrived");
        for peer in 1..3 {
            let to = star.remote(peer);
            if sent[peer] < EACH {
                match star.hub.send(to, Service::ExactlyOnce, &sent[peer].to_le_bytes()) {
                    Ok(_) => sent[peer] += 1,
                    Err(error) => assert!(matches!(error, QueueError::Full(_)), "{error}"),
                }
            }
            while let Some(incoming) = star.peers[peer].0.receive() {
                if let Incoming::Message { payload, .. } = incoming {
                    assert_eq!(payload[..], got[peer].to_le_bytes());
                    got[peer] += 1;
                }
            }
        }
        while star.hub.receive().is_some() {}
    }
    let bound = QueueBound::Peer { to: star.remote(0), reason: FullReason::Transactions };
    let refused = wait_for("what is full", || {
        while star.hub.receive().is_some() {} // Outcomes of the others may still come.
        let refused = star.hub.send(star.remote(0), Service::ExactlyOnce, b"one more");
        (refused != Err(QueueError::Full(QueueBound::Unread))).then_some(refused)
    });
    assert_eq!(refused, Err(QueueError::Full(bound)));
}

fn what_may_be_dropped_waits_for_nobody(io: IoChoice) {
    const EACH: u64 = 200;
    let star = Star::start(io, 3);
    star.fill(0, b"nobody reads this");
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let options = SendOptions::new(Service::Maybe).overflow(overflow);
        for number in 0..EACH {
            for peer in 0..3 {
                let ticket = wait_for("room in the queue", || {
                    let sent = star.hub.send(star.remote(peer), options, &number.to_le_bytes());
                    let is_depth = sent == Err(QueueError::Full(QueueBound::Depth));
                    assert!(sent.is_ok() || is_depth, "{sent:?}");
                    sent.ok()
                });
                let outcome = outcome_of(&star.hub, ticket);
                let expected = if peer == 0 { Outcome::NotSent } else { Outcome::Sent };
                assert_eq!(outcome, expected, "{overflow:?} to peer {peer}");
                if peer > 0 {
                    let payload =
                        wait_for("the message", || match star.peers[peer].0.receive()? {
                            Incoming::Message { payload, .. } => Some(payload),
                            _ => None,
                        });
                    assert_eq!(payload[..], number.to_le_bytes());
                }
            }
        }
    }
}

/// The outcome of one ticket.
fn outcome_of(node: &QueueNode, wanted: u64) -> Outcome {
    wait_for("the outcome", || match node.receive()? {
        Incoming::Outcome { ticket, outcome, .. } if ticket == wanted => Some(outcome),
        _ => None,
    })
}

#[test]
fn message_that_waits_is_taken_back_and_makes_room() {
    let star = Star::start(IoChoice::Auto, 1);
    let to = star.remote(0);
    let tickets = star.fill(0, b"nobody reads this");
    for wanted in tickets.iter().rev().take(DEPTH).step_by(2) {
        star.hub.cancel(to, *wanted).expect("room in the queue");
        assert_eq!(outcome_of(&star.hub, *wanted), Outcome::NotSent);
    }
    let again = star.fill(0, b"nor this");
    assert_eq!(again.len(), DEPTH / 2);
}

#[test]
fn deadline_of_a_message_that_waits_ends_it_except_in_a_stream_without_gaps() {
    let star = Star::start(IoChoice::Auto, 1);
    let to = star.remote(0);
    let tickets = star.fill(0, b"nobody reads this");
    for wanted in &tickets[tickets.len() - 2..] {
        star.hub.cancel(to, *wanted).expect("room in the queue");
        assert_eq!(outcome_of(&star.hub, *wanted), Outcome::NotSent);
    }
    let over = |service| SendOptions::new(service).deadline(Time::from_nanos(1));
    let gapless = star.hub.send(to, over(Service::Sequence), b"still of use").expect("room");
    let lossy = over(Service::Sequence).stream(StreamKind::Lossy, 1);
    for options in [over(Service::ExactlyOnce), lossy] {
        let wanted = send(&star.hub, to, options, b"of no use");
        assert_eq!(outcome_of(&star.hub, wanted), Outcome::NotSent, "{options:?}");
    }
    star.hub.cancel(to, gapless).expect("room in the queue");
    assert_eq!(outcome_of(&star.hub, gapless), Outcome::NotSent);
}

#[test]
fn deadline_of_a_message_that_waits_ends_it_when_it_comes_and_not_before() {
    let star = Star::start(IoChoice::Auto, 1);
    let to = star.remote(0);
    let tickets = star.fill(0, b"nobody reads this");
    let last = tickets[tickets.len() - 1];
    star.hub.cancel(to, last).expect("room in the queue");
    assert_eq!(outcome_of(&star.hub, last), Outcome::NotSent);
    let deadline = star.hub.now() + raet::time::Duration::from_millis(150);
    let options = SendOptions::new(Service::ExactlyOnce).deadline(deadline);
    let wanted = star.hub.send(to, options, b"of use for a while").expect("room");
    assert_eq!(outcome_of(&star.hub, wanted), Outcome::NotSent);
    let late = star.hub.now().saturating_since(deadline);
    assert!(star.hub.now() >= deadline, "it ended before its deadline");
    println!("told {late:?} after the deadline");
}

#[test]
fn drained_peer_gets_what_waits_and_nothing_more_while_others_go_on() {
    let star = Star::start(IoChoice::Auto, 2);
    let to = star.remote(0);
    let tickets = star.fill(0, b"read late");
    star.hub.drain_peer(to, PATIENCE).expect("room in the queue");
    // Reading makes room again for what comes behind the drain.
    let read = || {
        let message = |incoming: &Incoming| matches!(incoming, Incoming::Message { .. });
        star.peers[0].0.receive().is_some_and(|incoming| message(&incoming))
    };
    let mut got = 0;
    let late = wait_for("room", || {
        got += usize::from(read());
        star.hub.send(to, Service::ExactlyOnce, b"too late").ok()
    });
    let mut ends = HashMap::new();
    wait_for("the end of the session", || {
        got += usize::from(read());
        match star.hub.receive()? {
            Incoming::Outcome { ticket, outcome, .. } => {
                assert_eq!(ends.insert(ticket, outcome), None, "{ticket} was told twice");
                None
            }
            Incoming::Session { peer, change: SessionChange::Closed(_) } => {
                assert_eq!(peer, to);
                Some(())
            }
            _ => None,
        }
    });
    // The session may have ended before the shard came round to it.
    let late = ends.remove(&late).unwrap_or_else(|| outcome_of(&star.hub, late));
    assert_eq!(late, Outcome::NotSent);
    assert!(tickets[tickets.len() - DEPTH..].iter().all(|it| ends[it] == Outcome::Delivered));
    // What is delivered may still be on its way to its application's queue.
    wait_for("the rest", || {
        got += usize::from(read());
        (got == tickets.len()).then_some(())
    });
    let other = send(&star.hub, star.remote(1), Service::ExactlyOnce, b"still here");
    assert_eq!(outcome_of(&star.hub, other), Outcome::Delivered);
}

#[test]
fn peer_that_does_not_read_is_drained_when_patience_ends() {
    let star = Star::start(IoChoice::Auto, 1);
    let to = star.remote(0);
    let tickets = star.fill(0, b"nobody reads this");
    star.hub.drain_peer(to, Duration::from_millis(100)).expect("room in the queue");
    let mut ends = HashMap::new();
    wait_for("the end of the session", || match star.hub.receive()? {
        Incoming::Outcome { ticket, outcome, .. } => {
            assert_eq!(ends.insert(ticket, outcome), None, "{ticket} was told twice");
            None
        }
        Incoming::Session { change: SessionChange::Closed(_), .. } => Some(()),
        _ => None,
    });
    assert!(tickets[tickets.len() - DEPTH..].iter().all(|it| ends[it] == Outcome::NotSent));
}

#[test]
fn closing_a_peer_ends_what_waits_for_it_as_not_sent() {
    let star = Star::start(IoChoice::Auto, 2);
    let to = star.remote(0);
    let tickets = star.fill(0, b"nobody reads this");
    star.hub.close(to).expect("room in the queue");
    let mut ends = HashMap::new();
    wait_for("the end of the session", || match star.hub.receive()? {
        Incoming::Outcome { ticket, outcome, .. } => {
            assert_eq!(ends.insert(ticket, outcome), None, "{ticket} was told twice");
            None
        }
        Incoming::Session { change: SessionChange::Closed(_), .. } => Some(()),
        _ => None,
    });
    for wanted in &tickets[tickets.len() - DEPTH..] {
        assert_eq!(ends[wanted], Outcome::NotSent);
    }
    let late = star.hub.send(to, Service::ExactlyOnce, b"too late").expect("room in the queue");
    assert_eq!(outcome_of(&star.hub, late), Outcome::NotSent);
}

#[test]
fn flush_reaches_what_waits_before_it() {
    let hour = Duration::from_secs(3_600).into();
    let lingers = Config { linger: hour, ..narrow(initiator(IoChoice::Auto)) };
    let hub = QueueNode::start(lingers, DEPTH).expect("the hub starts");
    let one = QueueNode::start(narrow(listener(IoChoice::Auto)), DEPTH).expect("a peer starts");
    let to = hub.connect(one.node().address(), *one.node().key()).expect("the session opens");
    let star = Star { hub, peers: vec![(one, to)] };
    let tickets = star.fill(0, b"leaves when it is flushed");
    star.hub.flush(to).expect("room in the queue");
    let end = Instant::now() + PATIENCE;
    let mut got = 0;
    while got < tickets.len() {
        assert!(Instant::now() < end, "{got} of {} arrived", tickets.len());
        let message = star.peers[0].0.receive();
        got += usize::from(matches!(message, Some(Incoming::Message { .. })));
        while star.hub.receive().is_some() {}
    }
}

#[test]
fn drained_node_delivers_what_waits_once_its_peer_reads() {
    let star = Star::start(IoChoice::Auto, 1);
    let tickets = star.fill(0, b"read late");
    let Star { hub, mut peers } = star;
    let (peer, _) = peers.remove(0);
    let reader = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        let mut got = 0;
        while got < tickets.len() {
            let incoming = wait_for("messages", || peer.receive());
            got += usize::from(matches!(incoming, Incoming::Message { .. }));
        }
        tickets
    });
    let rest = hub.drain(PATIENCE).expect("the driver works");
    let tickets = reader.join().expect("everything arrived");
    let delivered = |incoming: &Incoming| match incoming {
        Incoming::Outcome { ticket, outcome: Outcome::Delivered, .. } => Some(*ticket),
        _ => None,
    };
    let delivered: HashSet<u64> = rest.iter().filter_map(delivered).collect();
    assert!(tickets[tickets.len() - DEPTH..].iter().all(|ticket| delivered.contains(ticket)));
}

#[test]
fn outcomes_that_nobody_takes_end_what_is_accepted() {
    let star = Star::start(IoChoice::Auto, 1);
    let to = star.remote(0);
    let mut open = HashMap::new();
    wait_for("the bound", || match star.hub.send(to, Service::Maybe, b"and then?") {
        Err(QueueError::Full(QueueBound::Unread)) => Some(()),
        Err(QueueError::Full(_)) => None,
        sent => {
            open.insert(sent.expect("the session is open"), 0);
            None
        }
    });
    // Those in the queue, beside the session, those behind it, and those that were on their way.
    let most = 2 * DEPTH + DEPTH + WINDOW as usize;
    assert!((2 * DEPTH - 1..=most).contains(&open.len()), "{} were accepted", open.len());
    wait_for("every outcome", || {
        note(star.hub.receive(), &mut open);
        open.is_empty().then_some(())
    });
    wait_for("room", || star.hub.send(to, Service::Maybe, b"this").ok());
}

#[test]
fn sessions_that_open_and_close_while_nobody_reads_are_few() {
    const ROUNDS: usize = 100;
    let one = QueueNode::start(narrow(listener(IoChoice::Auto)), DEPTH).expect("it starts");
    let two = QueueNode::start(narrow(initiator(IoChoice::Auto)), DEPTH).expect("it starts");
    let end = |incoming| match incoming {
        Incoming::Session { change: SessionChange::Closed(reason), .. } => Some(reason),
        _ => None,
    };
    for _ in 0..ROUNDS {
        let to = two.connect(one.node().address(), *one.node().key()).expect("a session opens");
        send(&two, to, Service::ExactlyOnce, b"again");
        two.close(to).expect("room in the queue");
        wait_for("the end of the session", || end(two.receive()?));
    }
    // The last goodbye may be on its way, and the shard moves on what it kept.
    let mut ends = 0;
    let mut quiet_since = Instant::now();
    while ends < DEPTH || quiet_since.elapsed() < Duration::from_millis(200) {
        assert!(quiet_since.elapsed() < PATIENCE, "only {ends} sessions were told of");
        let Some(incoming) = one.receive() else {
            thread::yield_now();
            continue;
        };
        ends += usize::from(end(incoming).is_some());
        quiet_since = Instant::now();
    }
    assert!((DEPTH..=2 * DEPTH).contains(&ends), "{ends} of {ROUNDS} sessions were told of");
    let to = two.connect(one.node().address(), *one.node().key()).expect("a session opens");
    let ticket = send(&two, to, Service::ExactlyOnce, b"read");
    assert_eq!(super::message(&one).payload[..], *b"read");
    // A message to a session that was closed at once may have ended behind it.
    assert_eq!(outcome_of(&two, ticket), Outcome::Delivered);
}

/// Notes how sends end; each may do so once.
fn note(incoming: Option<Incoming>, open: &mut HashMap<u64, usize>) -> bool {
    if let Some(Incoming::Outcome { ticket, .. }) = &incoming {
        assert!(open.remove(ticket).is_some(), "{ticket} was told twice, or never accepted");
    }
    incoming.is_some()
}

#[test]
fn every_ticket_is_told_once_whatever_is_asked_in_whatever_order() {
    const LEVELS: [Service; 8] = [
        Service::Maybe,
        Service::Repeat,
        Service::RepeatDedup,
        Service::MoreOrLessOnce,
        Service::AtMostOnce,
        Service::ExactlyOnce,
        Service::Sequence,
        Service::Request,
    ];
    for seed in 0..6 {
        let mut random = Random::from_seed([seed; 32]);
        let mut star = Star::start(IoChoice::Auto, 4);
        let mut open = HashMap::new();
        for step in 0..4_000_u32 {
            let peer = usize::try_from(random.below(4)).expect("small");
            let to = star.remote(peer);
            match random.below(400) {
                0 => drop(star.hub.close(to)),
                1..=3 => {
                    let node = star.peers[peer].0.node();
                    if let Ok(again) = star.hub.connect(node.address(), *node.key()) {
                        star.peers[peer].1 = again;
                    }
                }
                4..=20 => drop(star.hub.flush(to)),
                21..=60 => {
                    let wanted = open.iter().next().map(|(ticket, peer)| (*ticket, *peer));
                    if let Some((ticket, peer)) = wanted {
                        drop(star.hub.cancel(star.remote(peer), ticket));
                    }
                }
                61..=120 => {
                    let count = random.below(40);
                    (0..count).take_while(|_| note(star.hub.receive(), &mut open)).count();
                }
                // One reads, one now and then, two never.
                121..=180 if peer == 0 || peer == 1 && step % 7 == 0 => {
                    while let Some(incoming) = star.peers[peer].0.receive() {
                        if let Incoming::Message { from, transaction, service, .. } = incoming
                            && service == Service::Request
                        {
                            drop(star.peers[peer].0.reply(from, transaction, b"done"));
                        }
                    }
                }
                _ => {
                    let service = LEVELS[usize::try_from(random.below(8)).expect("small")];
                    let mut options = SendOptions::new(service);
                    if random.below(4) == 0 {
                        options = options.deadline(Time::from_nanos(1));
                    }
                    if random.below(3) == 0 {
                        options = options.overflow(Overflow::DropNewest);
                    }
                    let len = usize::try_from(random.below(3_000)).expect("small");
                    if let Ok(ticket) = star.hub.send(to, options, &vec![7; len]) {
                        assert_eq!(open.insert(ticket, peer), None);
                    }
                }
            }
        }
        let rest = star.hub.drain(Duration::from_millis(200)).expect("the driver works");
        for incoming in rest {
            note(Some(incoming), &mut open);
        }
        assert_eq!(open, HashMap::new(), "seed {seed}: without an outcome");
    }
}
