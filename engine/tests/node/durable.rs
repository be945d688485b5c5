//! Records that go through two nodes from an outbox on disk, while processes come and go.

use std::path::Path;
use std::time::{Duration, Instant};

use raet::durable::{
    DedupKey, DurableReceiver, DurableSender, Ended, FileOutbox, Outbox, OutboxOptions, RecordNews,
    Survives,
};
use raet::{Config, Identity, PublicKey, QueueNode, Receipt, Remote, Trust, TrustPolicy};

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
    /// Records that the peer does not take, and the longest that it does.
    too_large: Vec<(u64, u64)>,
}

impl Source {
    fn start(folder: &Path, to: &QueueNode) -> Self {
        let node = QueueNode::start(config(1), 64).expect("loopback works");
        let key: PublicKey = *to.node().key();
        let mut sender = DurableSender::new(outbox(folder), key);
        sender.attach(node.connect(to.node().address(), key).expect("the other one listens"));
        Self::new(node, sender)
    }

    fn new(node: QueueNode, sender: DurableSender<FileOutbox>) -> Self {
        Self { node, sender, ended: Vec::new(), too_large: Vec::new() }
    }

    fn turn(&mut self) {
        while let Some(incoming) = self.node.receive() {
            match self.sender.handle(&incoming).expect("the disk works") {
                Some(RecordNews::Ended(ended)) => self.ended.push(ended),
                Some(RecordNews::TooLarge { record, max }) => self.too_large.push((record, max)),
                None => {}
            }
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
        Self::with(config(2))
    }

    fn with(config: Config) -> Self {
        let node = QueueNode::start_deferring(config, 64).expect("loopback works");
        Self { node, receiver: DurableReceiver::default(), taken: Vec::new() }
    }

    fn connect_from(&self, node: &QueueNode) -> Remote {
        let here = self.node.node();
        node.connect(here.address(), *here.key()).expect("it listens")
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

/// A sender to `sink` without a session, and its node.
fn detached(folder: &Path, sink: &Sink) -> (QueueNode, DurableSender<FileOutbox>) {
    let node = QueueNode::start(config(1), 64).expect("loopback works");
    let sender = DurableSender::new(outbox(folder), *sink.node.node().key());
    (node, sender)
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
    let (node, mut sender) = detached(folder.path(), &sink);
    for number in 0..3_u64 {
        sender.accept(&number.to_le_bytes()).expect("there is room");
        assert_eq!(sender.pump(&node).expect("the disk works"), 0);
    }
    assert!(!sender.is_attached());
    sender.attach(sink.connect_from(&node));
    let mut source = Source::new(node, sender);
    until(&mut source, &mut sink, |_, sink| sink.taken.len() == 3);
}

#[test]
fn record_that_is_abandoned_before_it_was_sent_never_is() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut sink = Sink::start();
    let (node, mut sender) = detached(folder.path(), &sink);
    for number in 0..3_u64 {
        sender.accept(&number.to_le_bytes()).expect("there is room");
    }
    assert_eq!(sender.pump(&node).expect("the disk works"), 0);
    for record in [0, 1] {
        assert!(sender.abandon(record).expect("the disk works"));
    }
    sender.attach(sink.connect_from(&node));
    let mut source = Source::new(node, sender);
    until(&mut source, &mut sink, |_, sink| sink.taken.len() == 1);
    assert_eq!(sink.taken[0].1, 2_u64.to_le_bytes());
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

// PROTOCOL 6.42
#[test]
fn record_that_the_peer_does_not_take_is_told_and_can_be_abandoned() {
    const MOST: u64 = 4_096;
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut sink = Sink::with(Config { receive_bytes: MOST, ..config(2) });
    let mut source = Source::start(folder.path(), &sink.node);
    let long = vec![7; 5_000];
    for record in [&long[..], b"short", &long[..], b"short"] {
        source.sender.accept(record).expect("there is room");
    }
    until(&mut source, &mut sink, |source, sink| {
        source.too_large.len() == 2 && sink.taken.len() == 2
    });
    let &[(0, max), (2, _)] = &source.too_large[..] else { panic!("{:?}", source.too_large) };
    assert!((MOST - 64..MOST).contains(&max), "{max}");
    for taken in &sink.taken {
        assert_eq!(taken.1, b"short");
        sink.node.commit(taken.3).expect("the queue has room");
    }
    until(&mut source, &mut sink, |source, _| source.ended.len() == 2);
    assert!(source.sender.is_attached(), "the session goes on");

    // The next session may take more: it does not, and says so again.
    let to = source.node.connect(sink.node.node().address(), *sink.node.node().key());
    source.sender.attach(to.expect("the session is open"));
    until(&mut source, &mut sink, |source, _| source.too_large.len() == 4);

    for record in [0, 2] {
        assert!(source.sender.abandon(record).expect("the disk works"));
        assert!(!source.sender.abandon(record).expect("the disk works"), "once is enough");
    }
    source.turn();
    assert!(source.sender.is_idle());
    drop(source);
    assert_eq!(outbox(folder.path()).low(), 4, "a restart does not bring them back");
}
