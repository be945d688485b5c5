//! How the engine's cost grows with its sessions and shards, in memory and without a kernel.
//!
//! Four tables: what a message costs with few, many and idle sessions; what memory an idle session
//! keeps; what a handshake costs beside the public-key work in it; and what a message costs on
//! shards side by side. Time is processor time of the thread that measures, so that neither a
//! busy machine nor more shards than cores change what is meant; configurations take turns, so
//! that what changes on the machine changes them all.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, thread};

use clap::Parser;
use raet::protocol::crypto::{Random, Secret};
use raet::protocol::endpoint::EndpointConfig;
use raet::protocol::wire::ServiceKind;
use raet_bench::crowd::{Crowd, Hub, Load, Spent, Then};
use raet_bench::memory::Pair;
use raet_bench::runs::Spread;
use raet_bench::usage::{Counting, Memory, cpu_nanos, resident_bytes};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures how cost grows with sessions and shards.
#[derive(Debug, Parser)]
struct Arguments {
    /// Repeats of each figure.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sessions that have something to send, in turn.
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000")]
    active: Vec<usize>,
    /// Idle sessions beside one that is active.
    #[arg(long, default_value_t = 100_000)]
    idle: usize,
    /// Idle sessions whose memory is counted.
    #[arg(long, default_value_t = 10_000)]
    counted: usize,
    /// Shards side by side.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    shards: Vec<usize>,
    /// Writes what was measured there.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only these tables; all, if none is named.
    #[arg(value_parser = ["sessions", "memory", "handshakes", "shards"])]
    tables: Vec<String>,
    /// Everything once and small: shows that the program works, and measures nothing.
    #[arg(long)]
    test: bool,
}

impl Arguments {
    fn wants(&self, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|name| name == table)
    }

    fn shrink(&mut self) {
        (self.rounds, self.idle, self.counted) = (1, 80, 80);
        (self.active, self.shards) = (vec![1, 5], vec![1, 3]);
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.test {
        arguments.shrink();
    }
    let mut report = json!({ "schema": "raet-scale/1", "rounds": arguments.rounds });
    if arguments.wants("sessions") {
        report["sessions"] = sessions(&arguments);
    }
    if arguments.wants("memory") {
        report["memory"] = memory(&arguments);
    }
    if arguments.wants("handshakes") {
        report["handshakes"] = handshakes(&arguments);
    }
    if arguments.wants("shards") {
        report["shards"] = shards(&arguments);
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report).expect("a report is text");
        if let Err(error) = fs::write(path, text + "\n") {
            eprintln!("scale: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// A way to load sessions.
struct Shape {
    name: &'static str,
    /// Messages that a session sends when it is its turn.
    burst: u64,
    /// Sessions whose turn it is at once: fewer trains than a core's own cache holds.
    together: usize,
    /// Messages a round.
    messages: u64,
}

/// Sessions of one configuration, and what they carry in turn.
struct Group {
    adjust: fn(&mut EndpointConfig),
    shapes: &'static [Shape],
}

/// A burst fills a train, or is a message alone.
const GROUPS: &[Group] = &[
    Group {
        adjust: |_| {},
        shapes: &[Shape { name: "bundled, trains", burst: 768, together: 4, messages: 1_000_000 }],
    },
    Group {
        adjust: |config| config.bundle = false,
        shapes: &[
            Shape { name: "one a packet, trains", burst: 64, together: 4, messages: 200_000 },
            Shape { name: "one a packet, alone", burst: 1, together: 32, messages: 50_000 },
        ],
    },
];

/// Bytes of each message.
const MESSAGE_LEN: usize = 64;

/// How many sessions there are, and how many of them are active.
#[derive(Clone, Copy)]
struct Population {
    active: usize,
    idle: usize,
}

fn sessions(arguments: &Arguments) -> Value {
    println!(
        "{:<22} {:>9} {:>9}  {:<8} {:<24} {:<20} {:>8}",
        "64 B, exactly-once",
        "active",
        "idle",
        "hub",
        "CPU ns a message",
        "of one session's",
        "packets"
    );
    let active = arguments.active.iter().map(|&active| Population { active, idle: 0 });
    let populations: Vec<_> =
        active.chain([Population { active: 1, idle: arguments.idle }]).collect();
    let mut rows = Vec::new();
    let mut resident = 0;
    for Group { adjust, shapes } in GROUPS {
        let mut crowds: Vec<_> = populations.iter().map(|one| populate(*adjust, one)).collect();
        for shape in *shapes {
            for hub in [Hub::Active, Hub::Passive] {
                rows.extend(take_turns(arguments, shape, hub, &populations, &mut crowds));
            }
        }
        resident = resident_bytes().max(resident);
    }
    println!("in memory: {} MB, both ends of the active sessions\n", resident / 1_000_000);
    Value::from(rows)
}

fn populate(adjust: fn(&mut EndpointConfig), population: &Population) -> Crowd {
    let mut crowd = Crowd::new(Hub::Passive, adjust);
    crowd.open(population.active, Then::Kept);
    crowd.open(population.idle, Then::Idle);
    assert_eq!(crowd.sessions(), population.active + population.idle);
    crowd
}

fn take_turns(
    arguments: &Arguments,
    shape: &Shape,
    hub: Hub,
    populations: &[Population],
    crowds: &mut [Crowd],
) -> Vec<Value> {
    let mut nanos = vec![Vec::new(); crowds.len()];
    let mut packets = vec![0.0; crowds.len()];
    // Once more, for tables that have yet to reach their sizes.
    for round in 0..=arguments.rounds {
        for (place, crowd) in crowds.iter_mut().enumerate() {
            let active = populations[place].active;
            let messages = if arguments.test { 1 } else { shape.messages };
            let visits = usize::try_from(messages / shape.burst).expect("few").max(active);
            let Shape { burst, together, .. } = *shape;
            let load = Load { hub, visits, together, burst, len: MESSAGE_LEN };
            let stretch = crowd.stretch(&load);
            if round > 0 {
                nanos[place].push(stretch.nanos as f64 / stretch.messages as f64);
                packets[place] = stretch.packets as f64 / stretch.messages as f64;
            }
        }
    }
    let ones = nanos[0].clone();
    let mut rows = Vec::new();
    for (place, population) in populations.iter().enumerate() {
        let cost = Spread::of(nanos[place].iter().copied());
        let ratio = Spread::of(nanos[place].iter().zip(&ones).map(|(cost, one)| cost / one));
        let way = if hub == Hub::Active { "sends" } else { "receives" };
        let Population { active, idle } = *population;
        println!(
            "{:<22} {active:>9} {idle:>9}  {way:<8} {:<24} {:<20} {:>8.3}",
            shape.name,
            cost.to_string(),
            ratio.to_string(),
            packets[place],
        );
        rows.push(json!({
            "shape": shape.name, "active": active, "idle": idle, "hub": way,
            "ns_per_message": spread(cost), "ratio": spread(ratio),
            "packets_per_message": packets[place],
        }));
    }
    rows
}

fn spread(spread: Spread) -> Value {
    json!([spread.median, spread.least, spread.most])
}

/// Sides of a session, and whether it carried messages before it was idle.
const IDLERS: [(&str, Hub, Then); 4] = [
    ("responder", Hub::Passive, Then::Idle),
    ("initiator", Hub::Active, Then::Idle),
    ("responder, used", Hub::Passive, Then::UsedAndIdle),
    ("initiator, used", Hub::Active, Then::UsedAndIdle),
];

fn memory(arguments: &Arguments) -> Value {
    println!("{:<16} {:>9} {:>12} {:>12}", "idle session", "sessions", "bytes each", "of its own");
    let mut sides = serde_json::Map::new();
    for (name, role, then) in IDLERS {
        sides.insert(name.to_owned(), memory_of(name, role, then, arguments.counted));
    }
    println!();
    Value::from(sides)
}

/// Bytes a session: of all that was allocated, and in blocks of which each session has its own.
fn memory_of(name: &str, role: Hub, then: Then, sessions: usize) -> Value {
    let mut crowd = Crowd::new(role, |_| {});
    // Tables that are there for all sessions, and lists that one needs for a moment.
    crowd.open(64, then);
    crowd.let_pass();
    let before = Memory::now();
    crowd.open(sessions, then);
    crowd.let_pass();
    let after = Memory::now();
    let count = sessions as f64;
    let each = (after.live - before.live) as f64 / count;
    // What comes less often belongs to tables.
    let times = i64::try_from(sessions / 8).expect("few");
    let parts = after.repeated(&before, times);
    let own = parts.iter().map(|&(size, many)| size as f64 * many as f64).sum::<f64>() / count;
    println!("{name:<16} {sessions:>9} {each:>12.0} {own:>12.0}");
    let parts: Vec<_> = parts.iter().map(|&(size, many)| (size, many as f64 / count)).collect();
    let words: Vec<_> = parts.iter().map(|(size, many)| format!("{many:.2} of {size}")).collect();
    println!("    {}", words.join(", "));
    json!({ "sessions": sessions, "bytes": each, "own_bytes": own, "allocations": parts })
}

/// Handshakes of one measurement.
const HANDSHAKES: usize = 1_024;

/// Picks a side's time out of what a round of handshakes spent.
type SpentOf = fn(&(f64, Spent, Spent)) -> u64;

fn handshakes(arguments: &Arguments) -> Value {
    println!(
        "{:<22} {:<24} {:<24} {:<20}",
        "handshakes", "CPU us each", "a second and core", "bare X25519 / all"
    );
    let count = if arguments.test { 16 } else { HANDSHAKES };
    let mut rounds = Vec::new();
    for round in 0..=arguments.rounds {
        let bare = bare_nanos(count);
        let [passive, active] = [Hub::Passive, Hub::Active]
            .map(|role| Crowd::new(role, |_| {}).open(count, Then::Idle));
        if round > 0 {
            rounds.push((bare / count as f64, passive, active));
        }
    }
    let each = |nanos: u64| nanos as f64 / count as f64;
    let sides: [(&str, f64, SpentOf); 3] = [
        ("responder", 1.0, |round| round.1.hub),
        ("initiator", 1.0, |round| round.2.hub),
        ("both", 2.0, |round| round.1.hub + round.2.hub),
    ];
    let mut rows = serde_json::Map::new();
    for (name, share, cost) in sides {
        let micros = Spread::of(rounds.iter().map(|round| each(cost(round)) / 1e3));
        let rate = Spread::of(rounds.iter().map(|round| 1e9 / each(cost(round))));
        let ratio = Spread::of(rounds.iter().map(|round| share * round.0 / each(cost(round))));
        println!(
            "{name:<22} {:<24} {:<24} {:<20}",
            micros.to_string(),
            rate.to_string(),
            ratio.to_string()
        );
        rows.insert(
            name.to_owned(),
            json!({
                "us": spread(micros), "per_second": spread(rate), "bare_over_all": spread(ratio),
            }),
        );
    }
    let bare = Spread::of(rounds.iter().map(|round| round.0 / 1e3));
    println!("{:<22} {:<24}\n", "bare, a side", bare.to_string());
    rows.insert("bare_us".to_owned(), spread(bare));
    Value::from(rows)
}

/// Time of the public-key work of one side in `count` handshakes: an ephemeral key, and what each
/// of its and the long-term key agrees on with both of the peer's.
fn bare_nanos(count: usize) -> f64 {
    let mut random = Random::from_seed([3; 32]);
    let own = Secret::generate(&mut random);
    let [peer, other] = [(); 2].map(|()| Secret::generate(&mut random).public());
    let started = cpu_nanos();
    for _ in 0..count {
        let ephemeral = Secret::generate(&mut random);
        black_box(ephemeral.public());
        for secret in [&own, &ephemeral] {
            for public in [&peer, &other] {
                black_box(secret.agree(black_box(public)).expect("a proper point"));
            }
        }
    }
    (cpu_nanos() - started) as f64
}

/// What one shard did.
struct Shard {
    nanos: f64,
    messages: u64,
    packets: u64,
    dropped: u64,
    allocations: u64,
}

/// Messages under way at once, and how often, on each shard.
const SHARD_BATCH: u64 = 2_048;
const SHARD_BATCHES: u64 = 256;

fn shards(arguments: &Arguments) -> Value {
    println!(
        "{:<8} {:<24} {:<20} {:>12} {:>12} {:>10} {:>12}",
        "shards",
        "CPU ns a message",
        "of one shard's",
        "messages",
        "packets",
        "dropped",
        "allocations"
    );
    let mut nanos = vec![Vec::new(); arguments.shards.len()];
    let mut last = Vec::new();
    for round in 0..=arguments.rounds {
        last.clear();
        for (place, &count) in arguments.shards.iter().enumerate() {
            let shards = run_shards(count, if arguments.test { 2 } else { SHARD_BATCHES });
            if round > 0 {
                nanos[place].push(Spread::of(shards.iter().map(|shard| shard.nanos)).median);
            }
            last.push(shards);
        }
    }
    let mut rows = Vec::new();
    for ((&count, shards), costs) in arguments.shards.iter().zip(&last).zip(&nanos) {
        let cost = Spread::of(costs.iter().copied());
        let ratio = Spread::of(costs.iter().zip(&nanos[0]).map(|(cost, one)| cost / one));
        println!("{count:<8} {:<24} {:<20}", cost.to_string(), ratio.to_string());
        for (number, shard) in shards.iter().enumerate() {
            println!(
                "{:>8} {:<24.1} {:<20} {:>12} {:>12} {:>10} {:>12}",
                number,
                shard.nanos,
                "",
                shard.messages,
                shard.packets,
                shard.dropped,
                shard.allocations
            );
        }
        let each = shards.iter().map(|shard| {
            json!({
                "ns_per_message": shard.nanos, "messages": shard.messages, "packets": shard.packets,
                "dropped": shard.dropped, "allocations": shard.allocations,
            })
        });
        rows.push(json!({
            "shards": count, "ns_per_message": spread(cost), "ratio": spread(ratio),
            "each": each.collect::<Vec<_>>(),
        }));
    }
    Value::from(rows)
}

fn run_shards(count: usize, batches: u64) -> Vec<Shard> {
    thread::scope(|scope| {
        let shards: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || run_shard(number, count, batches)))
            .collect();
        shards.into_iter().map(|shard| shard.join().expect("it does not panic")).collect()
    })
}

/// A pair of endpoints on a thread of its own: the sessions' ids say which shard they are of.
fn run_shard(number: usize, count: usize, batches: u64) -> Shard {
    let mut pair = Pair::open(|config| {
        config.shard = (number, count);
        // Who shares a port opens no sessions.
        config.listen = config.boot != Pair::BOOTS[0];
    });
    let message = [7; MESSAGE_LEN];
    for _ in 0..4 {
        pair.round(SHARD_BATCH, ServiceKind::ExactlyOnce, &message);
    }
    let (allocations, started) = (Memory::now().allocations, cpu_nanos());
    for _ in 0..batches {
        pair.round(SHARD_BATCH, ServiceKind::ExactlyOnce, &message);
    }
    let nanos = (cpu_nanos() - started) as f64 / (batches * SHARD_BATCH) as f64;
    let allocations = Memory::now().allocations - allocations - 1;
    pair.settle();
    let [one, two] = pair.counters();
    Shard {
        nanos,
        messages: two.messages_delivered,
        packets: one.packets_sent + two.packets_sent,
        dropped: one.drops.total() + two.drops.total(),
        allocations,
    }
}
