//! The deterministic simulator: production code in seeded worlds, and an auditor that knows what
//! each message was promised (docs/TESTING.md, section Simulation).
//!
//! `RAET_SEEDS` says how many worlds to run, `RAET_FIRST_SEED` from which; `RAET_SEED` runs one,
//! of the corpus too, and tells its whole story. `RAET_UNTIL_FAILURE` ends a run with the first world that fails.

mod auditor;
mod incast;
mod ledger;
mod letter;
mod node;
mod plan;
mod process;
mod stalled;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::thread;

use node::Sabotage;
use plan::Edition;
use raet::time::Duration;
use trace::Telling;

/// Worlds in a plain `cargo test`.
const SEEDS_DEFAULT: u64 = 50;
/// One world in so many is run twice (I26).
const TWICE_EVERY: u64 = 100;

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not '{text}'")))
}

#[test]
fn every_promise_holds_in_every_world() {
    let single = number_from_environment("RAET_SEED");
    let first = single.or_else(|| number_from_environment("RAET_FIRST_SEED")).unwrap_or(0);
    let count = number_from_environment("RAET_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let count = if single.is_some() { 1 } else { count };
    let worlds = (first..first + count).map(|seed| (seed, Edition::Second));
    let figures = hold(worlds, single.is_some());
    figures.report();
}

/// Seeds of worlds in which something was found; see the head of the file.
#[test]
fn corpus_of_worlds_that_failed_once_holds() {
    let seed = |line: &str| {
        let seed = line.split('#').next().expect("there is a first part").trim();
        (!seed.is_empty()).then(|| seed.parse::<u64>().expect("a seed begins each line"))
    };
    let single = number_from_environment("RAET_SEED");
    let seeds = include_str!("corpus.txt").lines().filter_map(seed);
    let seeds = seeds.filter(|seed| single.is_none_or(|single| single == *seed));
    let worlds = seeds.flat_map(|seed| [(seed, Edition::First), (seed, Edition::Second)]);
    hold(worlds, single.is_some());
}

/// Runs `worlds`, each of which has to hold, on every core.
fn hold(worlds: impl Iterator<Item = (u64, Edition)> + Send, is_told: bool) -> Figures {
    let stops_early = std::env::var_os("RAET_UNTIL_FAILURE").is_some();
    let worlds = Mutex::new(worlds);
    let found = Mutex::new((Figures::default(), Vec::new()));
    let work = || {
        while !stops_early || found.lock().expect("no world holds it").1.is_empty() {
            let next = worlds.lock().expect("no world holds it").next();
            let Some((seed, edition)) = next else { return };
            let telling = if is_told { Telling::All } else { Telling::Nothing };
            let verdict = run(seed, edition, telling);
            let (figures, failed) = &mut *found.lock().expect("no world holds it");
            match verdict {
                Ok(verdict) => figures.add(&verdict),
                Err(violation) => {
                    let test = if edition == Edition::First { "corpus" } else { "every" };
                    println!("seed {seed}: {violation}");
                    println!(
                        "  RAET_SEED={seed} cargo test --release -p raet --test sim -- --nocapture {test}"
                    );
                    if !is_told {
                        // Once more, the same; an assertion that fails again says nothing new.
                        let _ = catch_unwind(|| world::run(seed, edition, None, Telling::End));
                    }
                    failed.push(seed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    let (figures, failed) = found.into_inner().expect("no world holds it");
    figures.print();
    assert!(failed.is_empty(), "seeds {failed:?} failed, each as printed above");
    figures
}

/// Runs the world of `seed`, now and then twice.
///
/// # Errors
/// The first promise that it broke.
fn run(seed: u64, edition: Edition, telling: Telling) -> Result<world::Verdict, String> {
    let run = |telling| world::run(seed, edition, None, telling);
    let verdict = catch_unwind(|| run(telling))
        .map_err(|_| "an assertion of the engine failed, as printed above".to_owned())?;
    if let Some(violation) = verdict.violations.first() {
        return Err(violation.clone());
    }
    if seed.is_multiple_of(TWICE_EVERY) && run(Telling::Nothing).hash != verdict.hash {
        return Err("I26: two runs of one seed differ".to_owned());
    }
    Ok(verdict)
}

/// How long worlds lasted, and what was done to them.
#[derive(Default)]
struct Figures {
    worlds: u64,
    /// Of those, the ones of the second kind.
    liveness: u64,
    /// Messages sent and delivered, and packets.
    totals: (u64, u64, u64),
    seconds: u64,
    /// The longest time that it took a healed world to come to rest.
    rested: Duration,
    injected: BTreeMap<&'static str, u64>,
}

impl Figures {
    fn add(&mut self, verdict: &world::Verdict) {
        self.worlds += 1;
        self.liveness += u64::from(verdict.is_liveness);
        self.totals.0 += verdict.totals.0;
        self.totals.1 += verdict.totals.1;
        self.totals.2 += verdict.packets;
        self.seconds += verdict.span.as_micros() / 1_000_000;
        self.rested = self.rested.max(verdict.rested);
        for (fault, count) in &verdict.injected {
            *self.injected.entry(fault).or_default() += count;
        }
    }

    /// What adds up, a line each.
    fn lines(&self) -> String {
        let mut lines = format!("{} virtual seconds\n", self.seconds);
        lines += &format!("{} worlds of liveness\n", self.liveness);
        for (fault, count) in &self.injected {
            lines += &format!("{count} {fault}\n");
        }
        lines
    }

    fn print(&self) {
        let (sent, delivered, packets) = self.totals;
        println!(
            "{} seeds: {sent} messages sent, {delivered} delivered, {packets} packets",
            self.worlds
        );
        println!("longest time to rest: {:.1} s", self.rested.as_secs_f64());
        print!("{}", self.lines());
    }

    /// Adds them to the file that `RAET_FIGURES` names.
    fn report(&self) {
        if let Ok(path) = std::env::var("RAET_FIGURES") {
            let file = std::fs::File::options().append(true).create(true).open(&path);
            let written = file.and_then(|mut file| file.write_all(self.lines().as_bytes()));
            written.unwrap_or_else(|error| panic!("cannot write to {path}: {error}"));
        }
    }
}

/// The first of these worlds in which the auditor finds what `sabotage` breaks.
fn finds(sabotage: Sabotage, rules: &[&str]) {
    const WORLDS: u64 = 40;
    for seed in 0..WORLDS {
        let verdict = world::run(seed, Edition::Second, Some(sabotage), Telling::Nothing);
        if let Some(violation) = verdict.violations.first() {
            let found = rules.iter().any(|rule| violation.starts_with(rule));
            assert!(found, "{sabotage:?} was found as something else: {violation}");
            return;
        }
    }
    panic!("{sabotage:?} was not found in {WORLDS} worlds");
}

#[test]
fn canary_that_keeps_too_much_of_incomplete_messages_is_found() {
    finds(Sabotage::AssemblesTooMuch, &["I14"]);
}

#[test]
fn canary_that_keeps_too_many_replies_is_found() {
    finds(Sabotage::CachesTooMuch, &["I17"]);
}

#[test]
fn canary_that_lets_too_much_wait_in_streams_is_found() {
    finds(Sabotage::EscrowsTooMuch, &["I12"]);
}

#[test]
fn canary_that_ends_a_message_early_is_found() {
    finds(Sabotage::EndsEarly, &["I2"]);
}

#[test]
fn canary_that_exceeds_its_window_is_found() {
    finds(Sabotage::ExceedsWindow, &["I18"]);
}

#[test]
fn canary_that_opens_what_was_altered_is_found() {
    finds(Sabotage::OpensAltered, &["I20"]);
}

#[test]
fn canary_that_sends_more_than_was_granted_is_found() {
    finds(Sabotage::SendsTooMuch, &["I22"]);
}

#[test]
fn canary_that_delivers_twice_is_found() {
    finds(Sabotage::DeliversTwice, &["I6"]);
}

#[test]
fn canary_that_acknowledges_before_it_delivers_is_found() {
    finds(Sabotage::AcknowledgesEarly, &["I5 or I7"]);
}

#[test]
fn canary_that_drops_an_outcome_is_found() {
    finds(Sabotage::DropsOutcome, &["I9", "I23"]);
}

#[test]
fn canary_that_flips_a_byte_is_found() {
    finds(Sabotage::FlipsByte, &["I13"]);
}

#[test]
fn canary_that_mixes_replies_is_found() {
    finds(Sabotage::MixesReplies, &["I16"]);
}

#[test]
fn canary_that_hides_a_gap_is_found() {
    finds(Sabotage::HidesGap, &["I10"]);
}

#[test]
fn canary_that_lets_kept_sessions_sleep_is_found() {
    finds(Sabotage::LetsSleep, &["keep-alive"]);
}

#[test]
fn canary_that_loses_a_piece_is_found() {
    // The last piece of a message is missed only when its end is told.
    finds(Sabotage::LosesPiece, &["I13", "I16", "I5 or I7"]);
}

#[test]
fn canary_that_hands_on_what_was_refused_is_found() {
    finds(Sabotage::GoesOnRefused, &["I13"]);
}

#[test]
fn canary_that_swaps_the_order_of_a_stream_is_found() {
    finds(Sabotage::SwapsOrder, &["I10", "I11"]);
}

#[test]
fn canary_that_tells_of_a_delivery_before_it_is_committed_is_found() {
    finds(Sabotage::TellsBeforeCommit, &["I5 or I7"]);
}

#[test]
fn canary_that_sends_after_the_deadline_is_found() {
    finds(Sabotage::SendsLate, &["deadline"]);
}

#[test]
fn canary_that_keeps_a_buffer_is_found() {
    // Where there are few buffers, none is left for a session.
    finds(Sabotage::KeepsBuffer, &["I27", "I9"]);
}
