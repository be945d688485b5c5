//! Moves numbers from one process into a database of another, each exactly once, even when either
//! process is killed at any moment.
//!
//! The sender keeps what it accepted in an outbox on disk. The receiver counts, for each number,
//! how often it arrived, and commits the count together with the message's key: a second arrival
//! finds the key and counts nothing. `scripts/soak restart` kills both again and again.
//! Run it: `cargo run --release -p raet --example durable`
//!
//!   durable receive FOLDER             until it is killed
//!   durable send FOLDER TO [COUNT]     to the receiver in folder TO; no COUNT: until it is killed
//!   durable drain FOLDER TO            what was accepted, then prints how many that were
//!   durable check FOLDER COUNT         that the numbers below COUNT, and no others, count one

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use raet::durable::{DurableMessage, DurableReceiver, DurableSender, Ended, FileOutbox, Outbox};
use raet::durable::{OutboxError, OutboxOptions, RecordNews};
use raet::node::files::{FileProblem, IdentityFile};
use raet::time::Duration as Span;
use raet::{Config, Identity, Mtu, PublicKey, QueueError, QueueNode, Receipt, RefuseReason};
use raet::{Trust, TrustPolicy};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What arrived, and how often: adding one twice would show.
const COUNTS: TableDefinition<u64, u64> = TableDefinition::new("counts");
/// Keys of messages that had their effect.
const KEYS: TableDefinition<&[u8; 32], ()> = TableDefinition::new("keys");
/// The mark of each outbox: keys below it are forgotten, and known all the same.
const MARKS: TableDefinition<&[u8; 24], u64> = TableDefinition::new("marks");

/// Why a record is refused that is no number.
const NOT_UNDERSTOOD: RefuseReason = RefuseReason::new(1).expect("below 254");

/// Messages that share one transaction of the database.
const BATCH: usize = 64;

/// Records that the sender takes ahead of what is delivered.
const UNFINISHED_MAX: u64 = 512;

/// A node that keeps its identity and notices soon that the other process is gone.
fn config(folder: &Path) -> Outcome<Config> {
    let path = folder.join("identity");
    let identity = match IdentityFile::load(&path) {
        Err(error) if matches!(error.problem(), FileProblem::Missing) => {
            let identity = Identity::random()?;
            IdentityFile::create(&path, &identity)?;
            identity
        }
        loaded => loaded?,
    };
    let mut config = Config::new(identity);
    config.trust = Trust::new(TrustPolicy::Always); // A real one knows whom it trusts.
    config.idle_timeout = Span::from_millis(200);
    // A receiver that restarts comes back at another address, where no lost session is looked for:
    // the outbox sends again what had no end.
    config.association_timeout = Span::ZERO;
    config.handshake_timeout = Span::from_millis(500);
    config.mtu = Mtu::Fixed(1_400);
    Ok(config)
}

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] => demonstrate(),
        ["receive", folder] => receive(Path::new(folder)),
        ["send", folder, to] => send(Path::new(folder), Path::new(to), u64::MAX),
        ["send", folder, to, count] => send(Path::new(folder), Path::new(to), count.parse()?),
        ["drain", folder, to] => send(Path::new(folder), Path::new(to), 0),
        ["check", folder, count] => check(Path::new(folder), count.parse()?),
        _ => Err("see the top of engine/examples/durable.rs".into()),
    }
}

/// The receiver: effect and key in one transaction, then the commit that the sender waits for.
fn receive(folder: &Path) -> Outcome<()> {
    let node = QueueNode::start_deferring(config(folder)?, 1_024)?;
    let database = Database::create(folder.join("database"))?;
    // In place in one step: a sender reads the old address or the new one.
    fs::write(
        folder.join("address.new"),
        format!("{} {}", node.node().address(), node.node().key()),
    )?;
    fs::rename(folder.join("address.new"), folder.join("address"))?;
    let mut receiver = DurableReceiver::default();
    loop {
        let mut receipts: Vec<(Receipt, Applied)> = Vec::new();
        let mut transaction = None;
        while receipts.len() < BATCH
            && let Some(incoming) = node.receive()
        {
            let Some(received) = receiver.handle(&incoming) else { continue };
            if transaction.is_none() {
                transaction = Some(database.begin_write()?);
            }
            let open = transaction.as_ref().expect("begun above");
            receipts.push((received.receipt, apply(open, &received.message)?));
        }
        match transaction {
            Some(transaction) => transaction.commit()?,
            None => thread::sleep(Duration::from_micros(200)),
        }
        for (receipt, applied) in receipts {
            let answer = || match applied {
                Applied::Counted => node.commit(receipt),
                Applied::NotUnderstood => node.refuse(receipt, NOT_UNDERSTOOD),
            };
            while let Err(QueueError::Full(_)) = answer() {
                thread::yield_now();
            }
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy)]
enum Applied {
    Counted,
    NotUnderstood,
}

/// Has a message take effect, unless it had. What a sender wrote must not end the receiver.
fn apply(transaction: &WriteTransaction, message: &DurableMessage<'_>) -> Outcome<Applied> {
    let Ok(number) = message.payload.try_into().map(u64::from_le_bytes) else {
        eprintln!("record {} is no number: refused", message.key.record());
        return Ok(Applied::NotUnderstood);
    };
    let mut marks = transaction.open_table(MARKS)?;
    let mut keys = transaction.open_table(KEYS)?;
    let (key, outbox) = (message.key, message.key.outbox());
    let mark = marks.get(outbox)?.map_or(0, |mark| mark.value());
    if key.record() >= mark && keys.insert(key.as_bytes(), ())?.is_none() {
        let mut counts = transaction.open_table(COUNTS)?;
        let count = counts.get(number)?.map_or(0, |count| count.value());
        counts.insert(number, count + 1)?;
    }
    if message.low > mark {
        marks.insert(outbox, message.low)?;
        let (first, end) = (key.of_record(mark), key.of_record(message.low));
        keys.retain_in::<&[u8; 32], _>(first.as_bytes()..end.as_bytes(), |_, ()| false)?;
    }
    Ok(Applied::Counted)
}

/// The sender: numbers up to `count`, in order. The number of a record is the number it holds, so
/// the outbox knows where to go on.
fn send(folder: &Path, to: &Path, count: u64) -> Outcome<()> {
    let node = QueueNode::start(config(folder)?, 1_024)?;
    let outbox = FileOutbox::open(folder.join("outbox"), OutboxOptions::default())?;
    let mut next = outbox.end();
    // The receiver keeps its key, but not its address.
    let mut sender = DurableSender::new(outbox, address(to)?.1);
    while next < count || !sender.is_idle() {
        if !sender.is_attached() {
            let (address, key) = address(to)?;
            if let Ok(remote) = node.connect(address, key) {
                sender.attach(remote);
            }
        }
        let unfinished = next - sender.outbox().low();
        for _ in 0..(count.saturating_sub(next)).min(UNFINISHED_MAX.saturating_sub(unfinished)) {
            match sender.accept(&next.to_le_bytes()) {
                Ok(record) => assert_eq!(record, next, "the outbox numbers as we do"),
                Err(OutboxError::Full) => break,
                Err(error) => return Err(error.into()),
            }
            next += 1;
        }
        sender.pump(&node)?; // What was accepted is safe from here on, and on its way.
        thread::sleep(Duration::from_millis(1));
        while let Some(incoming) = node.receive() {
            match sender.handle(&incoming)? {
                Some(RecordNews::TooLarge { record, max }) => {
                    eprintln!("record {record} exceeds {max} bytes: abandoned");
                    sender.abandon(record)?;
                }
                Some(RecordNews::Ended(Ended { record, refused: Some(reason) })) => {
                    eprintln!("record {record} was refused, with reason {reason}");
                }
                _ => {}
            }
        }
    }
    println!("{next}");
    Ok(())
}

/// Where the receiver of a folder is, and its key. It writes that when it starts.
fn address(folder: &Path) -> Outcome<(std::net::SocketAddr, PublicKey)> {
    let path = folder.join("address");
    while !path.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(path)?;
    let (address, key) = text.split_once(' ').ok_or("an address and a key")?;
    Ok((address.parse()?, key.parse()?))
}

fn check(folder: &Path, count: u64) -> Outcome<()> {
    let database = Database::open(folder.join("database"))?;
    let read = database.begin_read()?;
    let mut next = 0;
    for entry in read.open_table(COUNTS)?.iter()? {
        let (number, times) = entry?;
        if (number.value(), times.value()) != (next, 1) {
            return Err(format!("{} counts {}, after {next}", number.value(), times.value()).into());
        }
        next += 1;
    }
    if next != count {
        return Err(format!("{next} numbers arrived, of {count}").into());
    }
    let keys = read.open_table(KEYS)?.iter()?.count();
    println!("{count} numbers, each exactly once; {keys} keys are kept");
    Ok(())
}

/// Sends, kills the receiver in between, and checks.
fn demonstrate() -> Outcome<()> {
    let folder = env::temp_dir().join(format!("raet-durable-{}", std::process::id()));
    let [source, sink] = ["source", "sink"].map(|name| folder.join(name));
    let program = env::current_exe()?;
    let start = |words: &[&str]| Command::new(&program).args(words).stdout(Stdio::null()).spawn();
    let [source_name, sink_name] = [&source, &sink].map(|path| path.to_string_lossy());
    let mut receiver = start(&["receive", &sink_name])?;
    let mut sender = start(&["send", &source_name, &sink_name, "20000"])?;
    thread::sleep(Duration::from_millis(300));
    receiver.kill()?; // SIGKILL: it has no time to say goodbye.
    receiver.wait()?;
    let mut receiver = start(&["receive", &sink_name])?;
    let is_sent = sender.wait()?.success();
    receiver.kill()?;
    receiver.wait()?;
    let is_right = check(&sink, 20_000);
    fs::remove_dir_all(&folder)?;
    if is_sent { is_right } else { Err("the sender failed".into()) }
}
