//! Long messages that a handler takes piece by piece: keyed, refused, deferred, and records of an
//! outbox among them.

use std::collections::HashSet;

use raet::durable::{
    DedupKey, DurableMessage, DurableSender, FileOutbox, Outbox, OutboxOptions, Survives,
};
use raet::time::Duration;
use raet::{
    Config, Context, Deferred, Handler, IoChoice, Message, MessageKey, Outcome, PeerId, Piece,
    Poller, QueueNode, Resolved, Service,
};

use crate::{initiator, listener, on_both_drivers, reason, wait_for};

on_both_drivers! {
    each_piece_has_the_key_of_its_message
    message_is_refused_at_a_piece
    message_is_delivered_once_its_last_piece_is_committed
    long_record_of_an_outbox_takes_effect_once_by_pieces
}

/// Takes messages, refuses them from a piece on, or defers them.
#[derive(Default)]
struct Taker {
    refuses_from: Option<usize>,
    defers: bool,
    keys: Vec<MessageKey>,
    body: Vec<u8>,
    whole: u64,
    deferred: Vec<Deferred>,
    ends: Vec<Outcome>,
}

impl Handler for Taker {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        self.keys.extend(context.message_key(&message));
        self.whole += 1;
    }

    fn on_piece(&mut self, context: &mut Context<'_>, piece: Piece<'_>) {
        assert_eq!(piece.offset, self.body.len(), "pieces come in order, and none after a refusal");
        self.keys.extend(context.message_key(&piece));
        self.body.extend_from_slice(piece.payload);
        if self.refuses_from.is_some_and(|from| piece.offset >= from) {
            assert!(context.refuse(&piece, reason(7)));
        } else if self.defers {
            let deferred = context.defer(&piece);
            assert_eq!(deferred.is_some(), piece.is_last());
            self.deferred.extend(deferred);
        }
    }

    fn on_abandoned(&mut self, _: &mut Context<'_>, _: PeerId, _: u64, _: bool) {
        panic!("no message was given up");
    }

    fn on_outcome(&mut self, _: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        self.ends.extend((0..resolved.count).map(|_| resolved.outcome));
    }
}

/// Two nodes on this thread, of which the first takes long messages by pieces.
struct Pair {
    one: Poller<Taker>,
    two: Poller<Taker>,
    to: PeerId,
}

impl Pair {
    fn open(io: IoChoice, taker: Taker) -> Self {
        let one = Config { whole_len_max: 10_000, ..listener(io) };
        let key = one.identity.public();
        let one = Poller::new(one, taker).expect("the listener starts");
        let mut two = Poller::new(initiator(io), Taker::default()).expect("the initiator starts");
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

    fn send(&mut self, payload: &[u8]) {
        let to = self.to;
        let sent = self.two.with(|_, context| context.send(to, Service::ExactlyOnce, payload));
        sent.expect("there is room");
    }

    /// How `count` sends ended.
    fn ends(&mut self, count: usize) -> Vec<Outcome> {
        wait_for("outcomes", || {
            self.turn();
            let ends = self.two.with(|sender, _| sender.ends.clone());
            (ends.len() >= count).then_some(ends)
        })
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect()
}

fn each_piece_has_the_key_of_its_message(io: IoChoice) {
    let mut pair = Pair::open(io, Taker::default());
    pair.send(b"short");
    pair.send(&bytes(1 << 20));
    assert_eq!(pair.ends(2), [Outcome::Delivered; 2]);
    pair.one.with(|taker, _| {
        assert_eq!((&taker.body, taker.whole), (&bytes(1 << 20), 1));
        assert!(taker.keys.len() > 10, "{} pieces", taker.keys.len());
        let short = taker.keys[0];
        // The numbers of one sender in one association follow each other.
        let long = MessageKey { transaction: short.transaction + 1, ..short };
        assert!(taker.keys[1..].iter().all(|key| *key == long));
    });
}

// PROTOCOL 6.21
fn message_is_refused_at_a_piece(io: IoChoice) {
    const LEN: usize = 8 << 20;
    let taker = Taker { refuses_from: Some(200_000), ..Taker::default() };
    let mut pair = Pair::open(io, taker);
    pair.send(&bytes(LEN));
    pair.send(b"short");
    let ends = pair.ends(2);
    assert!(ends.contains(&Outcome::Refused(7)) && ends.contains(&Outcome::Delivered), "{ends:?}");
    for _ in 0..1_000 {
        pair.turn(); // What was on its way arrives, and is not handed over.
    }
    let sent = pair.two.report().driver.bytes_sent;
    assert!(sent < LEN as u64 / 2, "{sent} bytes left");
    let taken = pair.one.with(|taker, _| taker.body.len());
    assert!((200_000..400_000).contains(&taken), "{taken} bytes were handed over");
}

// PROTOCOL 6.30
fn message_is_delivered_once_its_last_piece_is_committed(io: IoChoice) {
    let mut pair = Pair::open(io, Taker { defers: true, ..Taker::default() });
    for count in 1..=2 {
        pair.send(&bytes(1 << 20));
        wait_for("the last piece", || {
            pair.turn();
            pair.one.with(|taker, _| taker.deferred.len() == count).then_some(())
        });
        pair.one.with(|taker, _| assert_eq!(std::mem::take(&mut taker.body), bytes(1 << 20)));
    }
    for _ in 0..1_000 {
        pair.turn();
    }
    assert_eq!(pair.ends(0), [], "nothing is committed yet");
    pair.one.with(|taker, context| {
        let &[one, two] = &taker.deferred[..] else { panic!("two were deferred") };
        assert!(context.commit(one) && context.refuse_deferred(two, reason(9)));
    });
    let mut ends = pair.ends(2);
    ends.sort_by_key(|end| *end == Outcome::Refused(9));
    assert_eq!(ends, [Outcome::Delivered, Outcome::Refused(9)]);
}

/// A database that takes records of outboxes by pieces.
#[derive(Default)]
struct Store {
    /// The record that is coming: its key, and what is there of it.
    coming: Option<(DedupKey, Vec<u8>)>,
    /// Records that are complete and wait for the transaction in which they take effect.
    complete: Vec<(DedupKey, Vec<u8>, Deferred)>,
    known: HashSet<DedupKey>,
    effects: Vec<Vec<u8>>,
}

impl Store {
    /// One transaction: each record that is new takes effect, with its key.
    fn commit(&mut self, context: &mut Context<'_>) {
        for (key, record, deferred) in self.complete.drain(..) {
            if self.known.insert(key) {
                self.effects.push(record);
            }
            context.commit(deferred);
        }
    }
}

impl Handler for Store {
    fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {
        panic!("every record is long");
    }

    fn on_piece(&mut self, context: &mut Context<'_>, piece: Piece<'_>) {
        let sender = context.message_key(&piece).expect("it is no reply").sender;
        if piece.offset == 0 {
            let first = DurableMessage::parse(&sender, piece.payload).expect("from an outbox");
            self.coming = Some((first.key, first.payload.to_vec()));
        } else {
            let (_, record) = self.coming.as_mut().expect("its first piece came");
            record.extend_from_slice(piece.payload);
        }
        if piece.is_last() {
            let (key, record) = self.coming.take().expect("its first piece came");
            let deferred = context.defer(&piece).expect("its level is reported on");
            self.complete.push((key, record, deferred));
        }
    }
}

// PROTOCOL 6.42
fn long_record_of_an_outbox_takes_effect_once_by_pieces(io: IoChoice) {
    const LEN: usize = 1 << 20;
    let folder = tempfile::tempdir().expect("a folder for the test");
    let options = OutboxOptions { survives: Survives::ProcessEnd, ..OutboxOptions::default() };
    let one = Config { whole_len_max: 10_000, ..listener(io) };
    let (key, identity) = (one.identity.public(), initiator(io).identity);
    let mut store = Poller::new(one, Store::default()).expect("the listener starts");
    let address = store.address();
    for life in 1..=2 {
        let outbox = FileOutbox::open(folder.path().join("outbox"), options).expect("ours");
        let mut sender = DurableSender::new(outbox, key);
        if life == 1 {
            sender.accept(&bytes(LEN)).expect("there is room");
        }
        let two = Config { identity: identity.clone(), ..initiator(io) };
        let node = QueueNode::start(two, 64).expect("loopback works");
        let remote = std::thread::scope(|scope| {
            let opening = scope.spawn(|| node.connect(address, key));
            while !opening.is_finished() {
                store.poll(Duration::from_millis(1)).expect("the driver works");
            }
            opening.join().expect("it does not panic").expect("the store listens")
        });
        sender.attach(remote);
        wait_for("the record", || {
            let mut ended = 0;
            while let Some(incoming) = node.receive() {
                ended += u64::from(sender.handle(&incoming).expect("the disk works").is_some());
            }
            sender.pump(&node).expect("the disk works");
            store.poll(Duration::from_millis(1)).expect("the driver works");
            let is_there = store.with(|store, context| {
                let is_there = !store.complete.is_empty();
                // The first time its sender ends before it is told.
                store.commit(context);
                is_there
            });
            (if life == 1 { is_there } else { ended > 0 }).then_some(())
        });
        assert_eq!(sender.is_idle(), life == 2, "life {life}");
        assert_eq!(sender.outbox().end(), 1);
    }
    store.with(|store, _| assert_eq!(store.effects, [bytes(LEN)], "one effect in two lives"));
}
