//! Queues between threads and shards.

mod stalled;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use raet::{
    CloseReason, Config, FullReason, Incoming, IoChoice, MessageKey, Outcome, Payload, QueueBound,
    QueueError, QueueNode, Receipt, Remote, SendOptions, Service, SessionChange,
};

use crate::{initiator, listener, on_both_drivers, reason, wait_for};

on_both_drivers! {
    every_level_ends_each_send_once
    flushed_message_leaves_though_it_would_linger
    message_is_refused_until_it_was_committed
    request_is_refused_with_a_reason
    slow_reader_holds_its_sender_up_and_loses_nothing
    long_message_comes_whole_though_the_node_would_hand_over_pieces
    request_ends_when_it_fails_there_or_is_taken_back_here
}

/// Two nodes with a session from the second to the first.
fn pair(one: Config, two: Config, depth: usize) -> (QueueNode, QueueNode, Remote) {
    let one = QueueNode::start(one, depth).expect("the listener starts");
    let two = QueueNode::start(two, depth).expect("the initiator starts");
    let to = two.connect(one.node().address(), *one.node().key()).expect("the session opens");
    (one, two, to)
}

fn send(from: &QueueNode, to: Remote, options: impl Into<SendOptions>, payload: &[u8]) -> u64 {
    let options = options.into();
    wait_for("room in the queue", || match from.send(to, options, payload) {
        Ok(ticket) => Some(ticket),
        Err(QueueError::Full(_)) => None,
        Err(error) => panic!("{error}"),
    })
}

/// A message as it arrived.
struct Arrived {
    from: Remote,
    transaction: u64,
    reply_to: Option<u64>,
    key: Option<MessageKey>,
    receipt: Option<Receipt>,
    payload: Payload,
}

/// The next message, whatever else comes before it.
fn message(at: &QueueNode) -> Arrived {
    wait_for("a message", || match at.receive()? {
        Incoming::Message { from, transaction, reply_to, key, receipt, payload, .. } => {
            Some(Arrived { from, transaction, reply_to, key, receipt, payload })
        }
        _ => None,
    })
}

/// The next outcome, whatever else comes before it.
fn outcome(at: &QueueNode) -> (u64, Outcome) {
    wait_for("an outcome", || match at.receive()? {
        Incoming::Outcome { ticket, outcome, .. } => Some((ticket, outcome)),
        _ => None,
    })
}

fn every_level_ends_each_send_once(io: IoChoice) {
    const EACH: u64 = 500;
    let levels = [
        (Service::Maybe, Outcome::Sent),
        (Service::Repeat, Outcome::Sent),
        (Service::RepeatDedup, Outcome::Sent),
        (Service::MoreOrLessOnce, Outcome::Delivered),
        (Service::AtMostOnce, Outcome::Delivered),
        (Service::ExactlyOnce, Outcome::Delivered),
    ];
    // Nothing is read before every send has ended: memory for all of it.
    let roomy = |config| Config { receive_bytes: 512 << 20, ..config };
    let (one, two, to) = pair(roomy(listener(io)), roomy(initiator(io)), 8_192);
    let mut tickets = HashMap::new();
    for (service, outcome) in levels {
        for number in 0..EACH {
            let ticket =
                send(&two, to, service, &[&[service as u8], &number.to_le_bytes()[..]].concat());
            assert_eq!(tickets.insert(ticket, outcome), None);
        }
    }
    while !tickets.is_empty() {
        let incoming = wait_for("outcomes", || two.receive());
        if let Incoming::Outcome { ticket, outcome, to: remote } = incoming {
            assert_eq!((tickets.remove(&ticket), remote), (Some(outcome), to));
        }
    }
    // Levels without acknowledgement may still be on their way; the last copies are not waited for.
    thread::sleep(Duration::from_millis(200));
    let mut arrivals: HashMap<Vec<u8>, u32> = HashMap::new();
    while let Some(incoming) = one.receive() {
        if let Incoming::Message { payload, .. } = incoming {
            *arrivals.entry(payload.to_vec()).or_default() += 1;
        }
    }
    for (service, _) in levels {
        let of_level = || arrivals.iter().filter(|(payload, _)| payload[0] == service as u8);
        let most = of_level().map(|(_, count)| *count).max().unwrap_or(0);
        let least = of_level().map(|(_, count)| *count).min().unwrap_or(0);
        let distinct = of_level().count() as u64;
        match service {
            Service::Maybe | Service::RepeatDedup => assert!(most <= 1, "{service:?}: {most}"),
            Service::Repeat => assert!(most <= 8, "{service:?}: {most}"),
            Service::MoreOrLessOnce => assert_eq!((distinct, least >= 1), (EACH, true)),
            _ => assert_eq!((distinct, least, most), (EACH, 1, 1), "{service:?}"),
        }
    }
}

fn request_ends_when_it_fails_there_or_is_taken_back_here(io: IoChoice) {
    let (one, two, to) = pair(listener(io), initiator(io), 64);
    let tickets = [b"fail", b"wait"].map(|payload| send(&two, to, Service::Request, payload));
    for _ in tickets {
        let request = message(&one);
        if request.payload[..] == *b"fail" {
            one.fail(request.from, request.transaction).expect("room in the queue");
        }
    }
    assert_eq!(outcome(&two), (tickets[0], Outcome::HandlerFailed));
    two.cancel(to, tickets[1]).expect("room in the queue");
    assert_eq!(outcome(&two), (tickets[1], Outcome::Indeterminate));
    two.cancel(to, tickets[1]).expect("it is over, which is no error");
}

fn request_is_refused_with_a_reason(io: IoChoice) {
    let (one, two, to) = pair(listener(io), initiator(io), 64);
    let ticket = send(&two, to, Service::Request, b"not now");
    let request = message(&one);
    one.refuse_request(request.from, request.transaction, reason(9)).expect("room in the queue");
    assert_eq!(outcome(&two), (ticket, Outcome::Refused(9)));
}

fn message_is_refused_until_it_was_committed(io: IoChoice) {
    let one = QueueNode::start_deferring(listener(io), 64).expect("the listener starts");
    let two = QueueNode::start(initiator(io), 64).expect("the initiator starts");
    let to = two.connect(one.node().address(), *one.node().key()).expect("the session opens");
    let tickets: Vec<u64> =
        (0..3).map(|number| send(&two, to, Service::ExactlyOnce, &[number])).collect();
    for number in 0..3 {
        let arrived = message(&one);
        assert_eq!(arrived.payload[..], [number]);
        let receipt = arrived.receipt.expect("the node defers");
        if number != 1 {
            one.commit(receipt).expect("room in the queue");
        }
        one.refuse(receipt, reason(7 + number)).expect("room in the queue");
    }
    let ends: HashMap<u64, Outcome> = (0..3).map(|_| outcome(&two)).collect();
    let expected = [Outcome::Delivered, Outcome::Refused(8), Outcome::Delivered];
    assert_eq!(ends, tickets.into_iter().zip(expected).collect());
}

fn flushed_message_leaves_though_it_would_linger(io: IoChoice) {
    let lingers = Config { linger: Duration::from_secs(3_600).into(), ..initiator(io) };
    let (one, two, to) = pair(listener(io), lingers, 64);
    send(&two, to, Service::ExactlyOnce, b"waits");
    thread::sleep(Duration::from_millis(50));
    while let Some(incoming) = one.receive() {
        assert!(matches!(incoming, Incoming::Session { .. }), "{incoming:?} came early");
    }
    two.flush(to).expect("room in the queue");
    assert_eq!(message(&one).payload[..], *b"waits");
}

fn long_message_comes_whole_though_the_node_would_hand_over_pieces(io: IoChoice) {
    let in_pieces = Config { whole_len_max: 1_000, ..listener(io) };
    let (one, two, to) = pair(in_pieces, initiator(io), 64);
    let long: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    send(&two, to, Service::ExactlyOnce, &long);
    assert_eq!(message(&one).payload[..], long);
}

fn slow_reader_holds_its_sender_up_and_loses_nothing(io: IoChoice) {
    const DEPTH: usize = 64;
    const WINDOW: u32 = 128;
    const TOTAL: u64 = 5_000;
    let narrow = |config| Config { transactions: WINDOW, ..config };
    let (one, two, to) = pair(narrow(listener(io)), narrow(initiator(io)), DEPTH);

    // Nobody reads: soon nothing more is taken, for good.
    let mut taken = 0;
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_millis(300) {
        match two.send(to, Service::ExactlyOnce, &u64::to_le_bytes(taken)) {
            Ok(_) => (taken, quiet_since) = (taken + 1, Instant::now()),
            Err(QueueError::Full(_)) => thread::sleep(Duration::from_micros(200)),
            Err(error) => panic!("{error}"),
        }
        while two.receive().is_some() {}
    }
    // What may wait here, two windows there (PROTOCOL 6.3).
    let most = DEPTH as u64 + 2 * u64::from(WINDOW);
    assert!(taken <= most, "{taken} messages were taken, {most} have room");
    let bound = QueueBound::Peer { to, reason: FullReason::Transactions };
    assert_eq!(two.send(to, Service::ExactlyOnce, b"full"), Err(QueueError::Full(bound)));

    // Someone reads: everything arrives, in order of sending on a path that loses nothing.
    let mut next = 0;
    while next < TOTAL {
        if taken < TOTAL && two.send(to, Service::ExactlyOnce, &u64::to_le_bytes(taken)).is_ok() {
            taken += 1;
        }
        while two.receive().is_some() {}
        if let Some(Incoming::Message { payload, .. }) = one.receive() {
            let mut seen = [0; 8];
            seen.copy_from_slice(&payload);
            assert_eq!(u64::from_le_bytes(seen), next);
            next += 1;
        }
    }
}

#[test]
fn reply_names_the_ticket_of_its_request_and_comes_before_its_outcome() {
    const RESERVED: usize = 1 << 20;
    let narrow = Config { receive_bytes: RESERVED as u64, ..listener(IoChoice::Auto) };
    let (one, two, to) = pair(narrow, initiator(IoChoice::Auto), 64);
    // What is refused or of other levels takes tickets too, so that tickets and transactions do
    // not agree by chance.
    let refused = send(&two, to, Service::ExactlyOnce, &vec![0; RESERVED + 1]);
    let first = send(&two, to, Service::Request, b"first");
    send(&two, to, Service::ExactlyOnce, b"between");
    let second = send(&two, to, Service::Request, b"second");
    let mut requests = Vec::new();
    while requests.len() < 2 {
        let incoming = wait_for("requests", || one.receive());
        if let Incoming::Message { from, service: Service::Request, transaction, payload, .. } =
            incoming
        {
            requests.push((from, transaction, payload.to_vec()));
        }
    }
    for (from, transaction, payload) in requests.iter().rev() {
        one.reply(*from, *transaction, &[b"re: ", &payload[..]].concat()).expect("room");
    }
    let mut ends = HashMap::new();
    let mut replies = HashMap::new();
    while ends.len() < 4 {
        match wait_for("replies and outcomes", || two.receive()) {
            Incoming::Message { reply_to, payload, .. } => {
                let ticket = reply_to.expect("only replies come this way");
                assert_eq!(ends.get(&ticket), None, "the outcome follows the reply");
                replies.insert(ticket, payload.to_vec());
            }
            Incoming::Outcome { ticket, outcome, .. } => {
                assert_eq!(ends.insert(ticket, outcome), None);
            }
            Incoming::Session { change, .. } => {
                assert!(matches!(change, SessionChange::Opened { .. }));
            }
            Incoming::Gap { .. } => panic!("there is no stream"),
            Incoming::TooLarge { ticket, max, .. } => {
                assert_eq!((ticket, max), (refused, RESERVED as u64));
            }
        }
    }
    let expected = [(first, b"re: first".to_vec()), (second, b"re: second".to_vec())];
    assert_eq!(replies, HashMap::from(expected));
    assert_eq!((ends[&first], ends[&second]), (Outcome::Replied, Outcome::Replied));
    assert_eq!(ends[&refused], Outcome::NotSent);
}

#[test]
fn each_message_has_a_key_of_its_own_and_a_reply_has_none() {
    let (one, two, to) = pair(listener(IoChoice::Auto), initiator(IoChoice::Auto), 64);
    send(&two, to, Service::ExactlyOnce, b"first");
    let ticket = send(&two, to, Service::Request, b"second");
    let [first, second] = [(), ()].map(|()| message(&one));
    let keys = [first.key, second.key].map(|key| key.expect("the association goes on"));
    assert!(keys.iter().all(|key| key.sender == *two.node().key()), "{keys:?}");
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[0].association, keys[1].association);
    one.reply(second.from, second.transaction, b"reply").expect("room in the queue");
    let reply = message(&two);
    assert_eq!((reply.reply_to, reply.key), (Some(ticket), None));
}

#[test]
fn connecting_again_gives_the_same_session() {
    let (one, two, to) = pair(listener(IoChoice::Auto), initiator(IoChoice::Auto), 64);
    let again = two.connect(one.node().address(), *one.node().key());
    assert_eq!(again, Ok(to));
}

#[test]
fn threads_that_connect_at_once_all_get_the_session() {
    let one = QueueNode::start(listener(IoChoice::Auto), 64).expect("the listener starts");
    let two = QueueNode::start(initiator(IoChoice::Auto), 64).expect("the initiator starts");
    thread::scope(|scope| {
        let connect = || two.connect(one.node().address(), *one.node().key());
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(connect)).collect();
        let remotes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(
            remotes.iter().all(|remote| remote.is_ok() && *remote == remotes[0]),
            "{remotes:?}"
        );
    });
}

#[test]
fn drained_node_delivers_what_it_took_and_tells_the_rest() {
    let (one, two, to) = pair(listener(IoChoice::Auto), initiator(IoChoice::Auto), 4_096);
    let delivered: Vec<u64> =
        (0..1_000_u64).map(|n| send(&two, to, Service::ExactlyOnce, &n.to_le_bytes())).collect();
    let unanswered = send(&two, to, Service::Request, b"nobody answers this");
    // Someone reads at the other end, or credit would end.
    let reader = thread::spawn(move || {
        let mut count = 0;
        while count < 1_001 {
            let incoming = wait_for("messages", || one.receive());
            count += u64::from(matches!(incoming, Incoming::Message { .. }));
        }
        one
    });
    let rest = two.drain(Duration::from_millis(500)).expect("the driver works");
    let mut ends = HashMap::new();
    let mut last = None;
    for incoming in rest {
        match incoming {
            Incoming::Outcome { ticket, outcome, .. } => {
                assert_eq!(ends.insert(ticket, outcome), None, "each has one outcome");
            }
            Incoming::Session { change, .. } => last = Some(change),
            _ => {}
        }
    }
    assert!(delivered.iter().all(|ticket| ends[ticket] == Outcome::Delivered));
    assert_eq!(ends[&unanswered], Outcome::Indeterminate);
    assert_eq!(ends.len(), 1_001);
    assert_eq!(last, Some(SessionChange::Closed(CloseReason::ByUs)));
    let one = reader.join().expect("the reader got everything");
    wait_for("the peer's goodbye", || match one.receive()? {
        Incoming::Session { change: SessionChange::Closed(reason), .. } => Some(reason),
        _ => None,
    });
}

#[test]
fn send_that_the_shard_never_took_ends_as_not_sent() {
    let (one, two, to) = pair(listener(IoChoice::Auto), initiator(IoChoice::Auto), 4_096);
    two.close(to).expect("room");
    wait_for("the end of the session", || match two.receive()? {
        Incoming::Session { change: SessionChange::Closed(_), .. } => Some(()),
        _ => None,
    });
    let ticket = send(&two, to, Service::ExactlyOnce, b"too late");
    let rest = two.drain(Duration::from_millis(100)).expect("the driver works");
    let told = |incoming: &Incoming| {
        matches!(incoming, Incoming::Outcome { ticket: ended, outcome: Outcome::NotSent, .. }
            if *ended == ticket)
    };
    assert!(rest.iter().any(told), "{rest:?}");
    drop(one);
}

#[test]
fn send_that_races_with_the_end_of_the_shard_has_an_outcome() {
    for _ in 0..20 {
        let (_one, two, to) = pair(listener(IoChoice::Auto), initiator(IoChoice::Auto), 16);
        let is_sending = AtomicBool::new(false);
        let accepted = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut accepted = HashSet::new();
                loop {
                    match two.send(to, Service::ExactlyOnce, b"perhaps") {
                        Ok(ticket) => assert!(accepted.insert(ticket)),
                        Err(QueueError::Full(_)) => is_sending.store(true, Ordering::Relaxed),
                        Err(error) => return (accepted, error),
                    }
                }
            });
            wait_for("a full queue", || is_sending.load(Ordering::Relaxed).then_some(()));
            two.node().drain(Duration::ZERO);
            sender.join().expect("the sender hears of the end")
        });
        let (mut accepted, error) = accepted;
        assert_eq!(error, QueueError::Stopped);
        wait_for("the end of the node", || two.node().is_finished().then_some(()));
        while let Some(incoming) = two.receive() {
            if let Incoming::Outcome { ticket, .. } = incoming {
                assert!(accepted.remove(&ticket), "{ticket} was told twice or never accepted");
            }
        }
        assert_eq!(accepted, HashSet::new());
    }
}

#[test]
fn reply_that_the_peer_cannot_take_fails_its_request() {
    const RESERVED: usize = 1 << 20;
    let narrow = Config { receive_bytes: RESERVED as u64, ..initiator(IoChoice::Auto) };
    let (one, two, to) = pair(listener(IoChoice::Auto), narrow, 64);
    let ticket = send(&two, to, Service::Request, b"all of it");
    let request = message(&one);
    one.reply(request.from, request.transaction, &vec![0; RESERVED + 1]).expect("room");
    assert_eq!(outcome(&two), (ticket, Outcome::HandlerFailed));
}
