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
//!   durable check FOLDER FROM          that the numbers which the sender in folder FROM accepted, and
//!                                      no others, arrived in FOLDER as accepted, and count one
//!
//! An outbox is not believed when it says what was accepted: the sender writes that beside it, into
//! `accepted`, and into `lives` at which record each of its processes began. A record says which
//! process accepted it, so one that was lost, and whose number was used again, shows.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use raet::durable::{DurableMessage, DurableReceiver, DurableSender, Ended, FileOutbox, Outbox};
use raet::durable::{OutboxError, OutboxOptions, RecordNews, Survives};
use raet::node::files::{FileProblem, IdentityFile};
use raet::time::Duration as Span;
use raet::{Config, Identity, Mtu, PublicKey, QueueError, QueueNode, Receipt, RefuseReason};
use raet::{Trust, TrustPolicy};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What arrived, how often, and which life of the sender accepted it: adding one twice would show.
const COUNTS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("counts");
/// Keys of messages that had their effect.
const KEYS: TableDefinition<&[u8; 32], ()> = TableDefinition::new("keys");
/// The mark of each outbox: keys below it are forgotten, and known all the same.
const MARKS: TableDefinition<&[u8; 24], u64> = TableDefinition::new("marks");

/// Why a record is refused that is not what a sender accepts.
const NOT_UNDERSTOOD: RefuseReason = RefuseReason::new(1).expect("below 254");

/// Messages that share one transaction of the database.
const BATCH: usize = 64;

/// Records that the sender takes ahead of what is delivered.
const UNFINISHED_MAX: u64 = 64;

/// A small outbox: it begins and deletes segments many times a second.
const OUTBOX: OutboxOptions = OutboxOptions { bytes_max: 256 << 10, survives: Survives::PowerLoss };

/// Of one number in so many the sender hears late that it is delivered, so that the outbox has to
/// move old records from between those that are done.
const LATE_EVERY: u64 = 64;
const LATE: Duration = Duration::from_millis(700);

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
        ["check", folder, from] => check(Path::new(folder), Path::new(from)),
        _ => Err("see the top of engine/examples/durable.rs".into()),
    }
}

/// The receiver: effect and key in one transaction, then the commit that the sender waits for.
fn receive(folder: &Path) -> Outcome<()> {
    let node = QueueNode::start_deferring(config(folder)?, 1_024)?;
    let database = Database::create(folder.join("database"))?;
    replace(folder, "address", format!("{} {}", node.node().address(), node.node().key()))?;
    let mut receiver = DurableReceiver::default();
    let mut late: VecDeque<(Instant, Receipt)> = VecDeque::new();
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
        let now = Instant::now();
        while late.front().is_some_and(|(due, _)| *due <= now) {
            receipts.extend(late.pop_front().map(|(_, receipt)| (receipt, Applied::Counted)));
        }
        for (receipt, applied) in receipts {
            let mut answer = || match applied {
                Applied::Late => {
                    late.push_back((now + LATE, receipt));
                    Ok(())
                }
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
    /// Counted, and told late.
    Late,
    NotUnderstood,
}

/// What the record holds that says `number` and was accepted in the sender's life `life`. Records
/// differ in length.
fn content(number: u64, life: u64) -> Vec<u8> {
    let mut bytes = [number.to_le_bytes(), life.to_le_bytes()].concat();
    let fill = number.wrapping_mul(31).wrapping_add(life).to_le_bytes()[0];
    bytes.resize(bytes.len() + usize::from(number.to_le_bytes()[0]) * 4, fill);
    bytes
}

/// The number and the life of a record; `None`: it is not as it was accepted.
fn parse(payload: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = payload.split_first_chunk()?;
    let (number, life) = (u64::from_le_bytes(*number), u64::from_le_bytes(*rest.first_chunk()?));
    (content(number, life) == payload).then_some((number, life))
}

/// Has a message take effect, unless it had. What a sender wrote must not end the receiver.
fn apply(transaction: &WriteTransaction, message: &DurableMessage<'_>) -> Outcome<Applied> {
    let Some((number, life)) = parse(message.payload) else {
        eprintln!("record {} is none that was accepted: refused", message.key.record());
        return Ok(Applied::NotUnderstood);
    };
    let mut marks = transaction.open_table(MARKS)?;
    let mut keys = transaction.open_table(KEYS)?;
    let (key, outbox) = (message.key, message.key.outbox());
    let mark = marks.get(outbox)?.map_or(0, |mark| mark.value());
    let mut is_late = false;
    if key.record() >= mark && keys.insert(key.as_bytes(), ())?.is_none() {
        let mut counts = transaction.open_table(COUNTS)?;
        let count = counts.get(number)?.map_or(0, |count| count.value().0);
        counts.insert(number, (count + 1, life))?;
        is_late = number.is_multiple_of(LATE_EVERY);
    }
    if message.low > mark {
        marks.insert(outbox, message.low)?;
        let (first, end) = (key.of_record(mark), key.of_record(message.low));
        keys.retain_in::<&[u8; 32], _>(first.as_bytes()..end.as_bytes(), |_, ()| false)?;
    }
    Ok(if is_late { Applied::Late } else { Applied::Counted })
}

/// Puts a file in place in one step: a kill leaves the old one or the new one.
fn replace(folder: &Path, name: &str, text: String) -> Outcome<()> {
    let draft = folder.join(format!("{name}.new"));
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, folder.join(name))?)
}

/// The numbers in a file, one a line; none if there is no file.
fn numbers(folder: &Path, name: &str) -> Outcome<Vec<u64>> {
    match fs::read_to_string(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(text?.lines().map(str::parse).collect::<Result<_, _>>()?),
    }
}

/// How many records were accepted, as far as it was written down.
fn accepted(folder: &Path) -> Outcome<u64> {
    Ok(numbers(folder, "accepted")?.first().copied().unwrap_or(0))
}

/// Holds an outbox that ends at record `end` against what was written beside it, and begins a life
/// there. Returns which life it is.
fn begin_life(folder: &Path, end: u64) -> Outcome<u64> {
    let accepted = accepted(folder)?;
    if end < accepted {
        return Err(format!("{accepted} records were accepted, the outbox has only {end}").into());
    }
    let mut lives = numbers(folder, "lives")?;
    let life = lives.len() as u64;
    lives.push(end);
    replace(folder, "lives", lives.iter().map(|first| format!("{first}\n")).collect())?;
    replace(folder, "accepted", end.to_string())?;
    Ok(life)
}

/// The sender: numbers up to `count`, in order. The number of a record is the number it holds, so
/// the outbox knows where to go on.
fn send(folder: &Path, to: &Path, count: u64) -> Outcome<()> {
    let node = QueueNode::start(config(folder)?, 1_024)?;
    let outbox = FileOutbox::open(folder.join("outbox"), OUTBOX)?;
    let mut next = outbox.end();
    let life = begin_life(folder, next)?;
    let mut unfinished = 0;
    let mut from = 0;
    while let Some(record) = outbox.next_unfinished(from) {
        (unfinished, from) = (unfinished + 1, record + 1);
    }
    // The receiver keeps its key, but not its address.
    let mut sender = DurableSender::new(outbox, address(to)?.1);
    while next < count || !sender.is_idle() {
        if !sender.is_attached() {
            let (address, key) = address(to)?;
            if let Ok(remote) = node.connect(address, key) {
                sender.attach(remote);
            }
        }
        let end = next;
        while next < count && unfinished < UNFINISHED_MAX {
            match sender.accept(&content(next, life)) {
                Ok(record) => assert_eq!(record, next, "the outbox numbers as we do"),
                Err(OutboxError::Full) => break,
                Err(error) => return Err(error.into()),
            }
            (next, unfinished) = (next + 1, unfinished + 1);
        }
        sender.pump(&node)?; // What was accepted is safe from here on, and on its way.
        if next > end {
            replace(folder, "accepted", next.to_string())?;
        }
        thread::sleep(Duration::from_millis(1));
        while let Some(incoming) = node.receive() {
            match sender.handle(&incoming)? {
                Some(RecordNews::TooLarge { record, max }) => {
                    eprintln!("record {record} exceeds {max} bytes: abandoned");
                    unfinished -= u64::from(sender.abandon(record)?);
                }
                Some(RecordNews::Ended(Ended { record, refused })) => {
                    unfinished -= 1;
                    if let Some(reason) = refused {
                        eprintln!("record {record} was refused, with reason {reason}");
                    }
                }
                None => {}
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

fn check(folder: &Path, from: &Path) -> Outcome<()> {
    let (accepted, lives) = (accepted(from)?, numbers(from, "lives")?);
    let database = Database::open(folder.join("database"))?;
    let read = database.begin_read()?;
    let mut next = 0;
    for entry in read.open_table(COUNTS)?.iter()? {
        let (number, entry) = entry?;
        let (number, (times, life)) = (number.value(), entry.value());
        if (number, times) != (next, 1) {
            return Err(format!("{number} counts {times}, after {next}").into());
        }
        // The last life that began at or before it.
        let owner = lives.iter().rposition(|first| *first <= number).map(|at| at as u64);
        if owner != Some(life) {
            return Err(format!("{number} came from life {life}, {owner:?} accepted it").into());
        }
        next += 1;
    }
    if next != accepted {
        return Err(format!("{next} numbers arrived, {accepted} were accepted").into());
    }
    let keys = read.open_table(KEYS)?.iter()?.count();
    let lives = lives.len();
    println!("{accepted} numbers, each exactly once; sender processes: {lives}; keys kept: {keys}");
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
    let mut sender = start(&["send", &source_name, &sink_name, "4000"])?;
    thread::sleep(Duration::from_millis(300));
    receiver.kill()?; // SIGKILL: it has no time to say goodbye.
    receiver.wait()?;
    let mut receiver = start(&["receive", &sink_name])?;
    let is_sent = sender.wait()?.success();
    receiver.kill()?;
    receiver.wait()?;
    let is_right = check(&sink, &source);
    fs::remove_dir_all(&folder)?;
    if is_sent { is_right } else { Err("the sender failed".into()) }
}
