//! Handlers on shards' own threads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use raet::{
    Batch, Config, Context, Handler, IoChoice, Message, Mode, Node, Outcome, PeerId, PublicKey,
    Resolved, SendError, Service, SessionChange,
};

use crate::{initiator, listener, on_both_drivers};

on_both_drivers! {
    every_message_arrives_once_and_every_send_ends
    requests_are_answered_each_with_its_own_reply
}

fn every_message_arrives_once_and_every_send_ends(io: IoChoice) {
    let outcome = exchange(listener(io), initiator(io), Service::ExactlyOnce, 20_000);
    assert_eq!(outcome.arrivals, vec![1; 20_000]);
    assert_eq!(outcome.ends, HashMap::from([(Outcome::Delivered, 20_000)]));
}

fn requests_are_answered_each_with_its_own_reply(io: IoChoice) {
    let outcome = exchange(listener(io), initiator(io), Service::Request, 5_000);
    assert_eq!(outcome.arrivals, vec![1; 5_000]);
    assert_eq!(outcome.replies, 5_000);
    assert_eq!(outcome.ends, HashMap::from([(Outcome::Replied, 5_000)]));
}

#[test]
fn every_mode_keeps_the_promise() {
    for mode in [Mode::Sealed, Mode::Signed, Mode::Plain] {
        let with = |config: Config| Config { modes: vec![mode], ..config };
        let (one, two) = (with(listener(IoChoice::Auto)), with(initiator(IoChoice::Auto)));
        let outcome = exchange(one, two, Service::ExactlyOnce, 5_000);
        assert_eq!(outcome.arrivals, vec![1; 5_000], "{mode:?}");
        assert_eq!(outcome.ends, HashMap::from([(Outcome::Delivered, 5_000)]), "{mode:?}");
    }
}

#[test]
fn unbundled_messages_arrive_once() {
    let two = Config { bundle: false, ..initiator(IoChoice::Auto) };
    let outcome = exchange(listener(IoChoice::Auto), two, Service::ExactlyOnce, 20_000);
    assert_eq!(outcome.arrivals, vec![1; 20_000]);
}

#[test]
fn impaired_path_breaks_no_promise() {
    let faults = "loss=5%,dup=5%,reorder=5%,corrupt=1%".parse().expect("a list of faults");
    let with = |config: Config| Config { impairment: Some(faults), seed: 7, ..config };
    let (one, two) = (with(listener(IoChoice::Auto)), with(initiator(IoChoice::Auto)));
    let outcome = exchange(one, two, Service::ExactlyOnce, 20_000);
    assert_eq!(outcome.arrivals, vec![1; 20_000]);
    assert_eq!(outcome.ends, HashMap::from([(Outcome::Delivered, 20_000)]));
}

#[test]
fn report_of_a_node_whose_shards_ended_does_not_wait_for_them() {
    struct Stops;
    impl Handler for Stops {
        fn on_start(&mut self, context: &mut Context<'_>) {
            context.stop();
        }

        fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {}
    }
    let node = Node::start(initiator(IoChoice::Auto), |_| Stops).expect("the node starts");
    crate::wait_for("the shard's end", || node.is_finished().then_some(()));
    assert_eq!(node.report().len(), 0);
}

/// What came of an exchange.
#[derive(Default)]
struct Record {
    /// How often each message arrived.
    arrivals: Vec<u8>,
    replies: u64,
    ends: HashMap<Outcome, u64>,
}

/// Sends `total` messages from `two` to `one` as fast as it goes, until each has ended.
fn exchange(one: Config, two: Config, service: Service, total: u64) -> Record {
    let record = Arc::new(Mutex::new(Record::default()));
    let for_listener = Arc::clone(&record);
    let listener = Node::start(one, move |_| Listener { record: Arc::clone(&for_listener) })
        .expect("the listener starts");
    let to = (listener.address(), *listener.key());
    let for_sender = Arc::clone(&record);
    let sender = move |_| Sender {
        to,
        service,
        total,
        taken: 0,
        ended: 0,
        peer: None,
        record: Arc::clone(&for_sender),
    };
    let mut sender = Node::start(two, sender).expect("the sender starts");
    let reports = sender.join().expect("the sender's driver works");
    assert_eq!((reports[0].endpoint.sessions_opened, reports[0].sessions), (1, 0));
    let reports = listener.stop().expect("the listener's driver works");
    let drops = &reports[0].endpoint.drops;
    println!("{} turns, {} dropped", reports[0].turns, drops.total());
    std::mem::take(&mut *record.lock().expect("nobody panicked"))
}

struct Listener {
    record: Arc<Mutex<Record>>,
}

impl Handler for Listener {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        let number = read(message.payload);
        let mut record = self.record.lock().expect("nobody panicked");
        if record.arrivals.len() <= number {
            record.arrivals.resize(number + 1, 0);
        }
        record.arrivals[number] += 1;
        if message.service == Service::Request {
            let answer = content(number as u64 + 1);
            let sent = context.reply(message.peer, message.transaction, &answer);
            sent.expect("the sender keeps fewer requests than the window");
        }
    }
}

struct Sender {
    to: (SocketAddr, PublicKey),
    service: Service,
    total: u64,
    taken: u64,
    ended: u64,
    peer: Option<PeerId>,
    record: Arc<Mutex<Record>>,
}

impl Handler for Sender {
    fn on_start(&mut self, context: &mut Context<'_>) {
        context.connect(self.to.0, self.to.1).expect("a free slot for a peer");
    }

    fn on_session(&mut self, _: &mut Context<'_>, peer: PeerId, change: SessionChange) {
        assert!(matches!(change, SessionChange::Opened { .. }), "{change:?}");
        self.peer = Some(peer);
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        let Some(peer) = self.peer else { return };
        while self.taken < self.total {
            match context.send(peer, self.service, &content(self.taken)) {
                Ok(_) => self.taken += 1,
                Err(SendError::Full(_)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn on_batch(&mut self, context: &mut Context<'_>, batch: Batch<'_>) {
        let mut messages = batch.iter();
        let first = messages.next().expect("at least one").transaction;
        for (message, transaction) in messages.zip(first + 1..) {
            assert_eq!((message.peer, message.service), (batch.peer(), batch.service()));
            assert!(message.is_reply && batch.is_reply());
            assert_eq!(message.transaction, transaction, "they follow one another");
        }
        batch.iter().for_each(|reply| self.on_message(context, reply));
    }

    fn on_message(&mut self, _: &mut Context<'_>, reply: Message<'_>) {
        assert!(reply.is_reply && reply.transaction + 1 == read(reply.payload) as u64);
        self.record.lock().expect("nobody panicked").replies += 1;
    }

    fn on_outcome(&mut self, context: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        let count = u64::from(resolved.count);
        *self.record.lock().expect("nobody panicked").ends.entry(resolved.outcome).or_default() +=
            count;
        self.ended += count;
        if self.ended == self.total {
            context.stop();
        }
    }
}

/// Message `number`: the number, over and over.
fn content(number: u64) -> [u8; 64] {
    let mut content = [0; 64];
    content.chunks_mut(8).for_each(|word| word.copy_from_slice(&number.to_le_bytes()));
    content
}

/// The number of a message, which must be whole.
fn read(payload: &[u8]) -> usize {
    let number = u64::from_le_bytes(payload[..8].try_into().expect("8 bytes"));
    assert_eq!(payload, content(number), "what arrives is what was sent");
    usize::try_from(number).expect("a small number")
}
