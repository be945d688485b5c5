//! Runs the built examples and reads what they print. `cargo test` builds them first.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use raet::durable::{DurableSender, FileOutbox, OutboxOptions, RecordNews};
use raet::{Config, Identity, QueueNode};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn echo_hears_every_question_come_back() {
    let said = run("echo");
    for number in 0..10 {
        assert!(said.contains(&format!("echo: hello number {number}\n")), "{said}");
    }
}

#[test]
fn event_stream_arrives_whole() {
    let said = run("event_stream");
    assert!(said.contains("100000 readings were sent and delivered"), "{said}");
    assert!(said.contains("as it should be: true"), "{said}");
}

#[test]
fn request_reply_calculates_and_refuses() {
    let said = run("request_reply");
    for line in ["6 * 7 = 42\n", "6 * 7 ends as Replied\n", "two * three was not understood\n"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn poll_loop_counts_to_ten() {
    let said = run("poll_loop");
    assert!(said.contains("  Bob hears 9\nAlice hears 10\n"), "{said}");
    assert!(said.contains("done after"), "{said}");
}

#[test]
fn durable_counts_each_number_once_though_the_receiver_is_killed() {
    let said = run("durable");
    assert!(said.contains("4000 numbers, each exactly once; sender processes: 1;"), "{said}");
}

#[test]
fn durable_refuses_a_record_that_is_no_number_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let sink = folder.path().join("sink");
    let mut receiver = Command::new(built("durable"))
        .args(["receive".as_ref(), sink.as_os_str()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the example is built");
    let outbox = FileOutbox::open(folder.path().join("outbox"), OutboxOptions::default());
    let node =
        QueueNode::start(Config::new(Identity::from_secret(&[1; 32])), 64).expect("loopback");
    let (address, key) = wait_for("an address", || {
        let text = std::fs::read_to_string(sink.join("address")).ok()?;
        let (address, key) = text.split_once(' ')?;
        Some((address.parse().ok()?, key.parse().ok()?))
    });
    let mut sender = DurableSender::new(outbox.expect("a folder of ours"), key);
    for record in [&b"abc"[..], &[0; 16]] {
        sender.accept(record).expect("there is room");
    }
    sender.attach(node.connect(address, key).expect("it listens"));
    let mut ended = Vec::new();
    wait_for("two ends", || {
        sender.pump(&node).expect("the disk works");
        while let Some(incoming) = node.receive() {
            if let Some(RecordNews::Ended(end)) = sender.handle(&incoming).expect("the disk works")
            {
                ended.push((end.record, end.refused));
            }
        }
        (ended.len() == 2).then_some(())
    });
    receiver.kill().expect("it runs");
    receiver.wait().expect("it was killed");
    ended.sort_unstable();
    assert_eq!(ended, [(0, Some(1)), (1, None)]);
}

fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What an example prints. It has to end by itself, and well.
fn run(example: &str) -> String {
    let path = built(example);
    assert!(path.exists(), "{} is not built: cargo build --examples -p raet", path.display());
    let output = thread::scope(|scope| {
        let mut child = Command::new(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut stdout = child.stdout.take().expect("it is piped");
        let reader = scope.spawn(move || std::io::read_to_string(&mut stdout));
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() > end {
                child.kill().expect("a child can be ended");
                panic!("{example} did not end within {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{example}: {status}");
        reader.join().expect("the reader does not panic")
    });
    output.expect("an example prints text")
}

/// Cargo puts examples beside the folder of test binaries.
fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    profile.join("examples").join(example)
}
