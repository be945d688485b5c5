//! Records that go through two nodes from an outbox on disk, while processes come and go.

use std::path::Path;
use std::time::{Duration, Instant};

use raet::durable::{
    DedupKey, DurableReceiver, DurableSender, Ended, FileOutbox, Outbox, OutboxOptions, Survives,
};
use raet::{Config, Identity, PublicKey, QueueNode, Receipt, Trust, TrustPolicy};

const PATIENCE: Duration = Duration::from_secs(30);

fn config(identity: u8) -> Config {
    let mut config = Config::new(Identity::from_secret(&[identity; 32]));
    config.trust = Trust::new(TrustPolicy::Always);
    config
}

fn outbox(folder: &Path) -> FileOutbox {
    let options = OutboxOptions { survives: Survives::ProcessEnd, ..OutboxOptions::default() };
    FileOutbox::open(folder.join("outbox"), options).expect("a folder of ours")
}

/// A sending process, as far as a test needs one.
struct Source {
    node: QueueNode,
    sender: DurableSender<FileOutbox>,
    ended: Vec<Ended>,
}

impl Source {
    fn start(folder: &Path, to: &QueueNode) -> Self {
        let node = QueueNode::start(config(1), 64).expect("loopback works");
        let key: PublicKey = *to.node().key();
        let mut sender = DurableSender::new(outbox(folder), key);
        sender.attach(node.connect(to.node().address(), key).expect("the other one listens"));
        Self { node, sender, ended: Vec::new() }
    }

    fn turn(&mut self) {
        while let Some(incoming) = self.node.receive() {
            self.ended.extend(self.sender.handle(&incoming).expect("the disk works"));
        }
        self.sender.pump(&self.node).expect("the disk works");
    }
}

/// A receiving process: what it was handed.
struct Sink {
    node: QueueNode,
    receiver: DurableReceiver,
    taken: Vec<(DedupKey, Vec<u8>, u64, Receipt)>,
}

impl Sink {
    fn start() -> Self {
        let node = QueueNode::start_deferring(config(2), 64).expect("loopback works");
        Self { node, receiver: DurableReceiver::default(), taken: Vec::new() }
    }

    fn turn(&mut self) {
        while let Some(incoming) = self.node.receive() {
            if let Some(received) = self.receiver.handle(&incoming) {
                let message = received.message;
                let payload = message.payload.to_vec();
                self.taken.push((message.key, payload, message.low, received.receipt));
            }
        }
    }
}

/// Turns both until `is_done`.
fn until(source: &mut Source, sink: &mut Sink, is_done: impl Fn(&Source, &Sink) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_done(source, sink) {
        assert!(Instant::now() < end, "nothing happens");
        source.turn();
        sink.turn();
        std::thread::sleep(Duration::from_micros(200));
    }
}

// PROTOCOL 6.30 and 6.42
#[test]
fn record_is_over_when_it_was_committed_and_not_before() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut sink = Sink::start();
    let mut source = Source::start(folder.path(), &sink.node);
    for number in 0..3_u64 {
        let record = number.to_le_bytes();
        assert_eq!(source.sender.accept(&record).expect("there is room"), number);
    }
    until(&mut source, &mut sink, |_, sink| sink.taken.len() == 3);
    for _ in 0..100 {
        source.turn();
        sink.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(source.ended, [], "nothing is committed yet");
    let (key, payload, low, receipt) = sink.taken[1].clone();
    assert_eq!((key.record(), payload, low), (1, 1_u64.to_le_bytes().to_vec(), 0));
    sink.node.commit(receipt).expect("the queue has room");
    until(&mut source, &mut sink, |source, _| !source.ended.is_empty());
    assert_eq!(source.ended, [Ended { record: 1, refused: None }]);
    assert!(!source.sender.is_idle());
}

#[test]
fn records_accepted_without_a_session_wait_for_one() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut sink = Sink::start();
    let node = QueueNode::start(config(1), 64).expect("loopback works");
    let key = *sink.node.node().key();
    let mut sender = DurableSender::new(outbox(folder.path()), key);
    for number in 0..3_u64 {
        sender.accept(&number.to_le_bytes()).expect("there is room");
        assert_eq!(sender.pump(&node).expect("the disk works"), 0);
    }
    assert!(!sender.is_attached());
    sender.attach(node.connect(sink.node.node().address(), key).expect("it listens"));
    let mut source = Source { node, sender, ended: Vec::new() };
    until(&mut source, &mut sink, |_, sink| sink.taken.len() == 3);
}

// PROTOCOL 6.41 and 6.42
#[test]
fn restarted_sender_sends_what_is_left_under_the_keys_it_had() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut sink = Sink::start();
    let mut source = Source::start(folder.path(), &sink.node);
    for number in 0..4_u64 {
        source.sender.accept(&number.to_le_bytes()).expect("there is room");
    }
    until(&mut source, &mut sink, |_, sink| sink.taken.len() == 4);
    sink.node.commit(sink.taken[0].3).expect("the queue has room");
    until(&mut source, &mut sink, |source, _| source.sender.outbox().low() == 1);
    let first: Vec<_> = sink.taken.drain(..).collect();
    drop(source);

    let mut source = Source::start(folder.path(), &sink.node);
    until(&mut source, &mut sink, |_, sink| sink.taken.len() == 3);
    for (old, new) in first[1..].iter().zip(&sink.taken) {
        assert_eq!((old.0, &old.1), (new.0, &new.1), "the same record under the same key");
        assert_eq!(new.2, 1, "and the mark has moved");
        // A commit of the former life reaches nobody, and harms nobody.
        sink.node.commit(old.3).expect("the queue has room");
    }
    source.turn();
    assert_eq!(source.ended, []);
    for taken in &sink.taken {
        sink.node.commit(taken.3).expect("the queue has room");
    }
    until(&mut source, &mut sink, |source, _| source.sender.is_idle());
    assert_eq!(source.ended.len(), 3);
}
