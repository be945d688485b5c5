//! Steady state takes no memory: after a warm-up neither side calls the allocator.
//!
//! Both nodes are turned by this thread, so that its count is theirs and nobody else's: what the
//! test harness does on other threads is not seen. Every allocation on the data path is a bug;
//! the first one is shown with its backtrace.

#![expect(unsafe_code, reason = "a global allocator can be had in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;

use raet::io::probe::Probe;
use raet::time::Duration;
use raet::{
    Config, Context, Handler, Identity, IoChoice, Message, Outcome, PeerId, Poller, Resolved,
    SendError, Service, Trust, TrustPolicy,
};

/// Counts this thread's allocations while asked to.
struct Counting;

thread_local! {
    static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note(bytes: usize) {
    if !IS_COUNTING.replace(false) {
        return;
    }
    COUNT.set(COUNT.get() + 1);
    if COUNT.get() == 1 {
        eprintln!("{bytes} bytes were allocated here:\n{}", Backtrace::force_capture());
    }
    IS_COUNTING.set(true);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: our caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `act` runs.
fn allocations(act: impl FnOnce()) -> u64 {
    COUNT.set(0);
    IS_COUNTING.set(true);
    act();
    IS_COUNTING.set(false);
    COUNT.get()
}

#[test]
fn counter_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn bundled_messages_allocate_nothing() {
    steady(|config| config, Service::ExactlyOnce);
}

#[test]
fn unbundled_messages_allocate_nothing() {
    steady(|config| Config { bundle: false, ..config }, Service::ExactlyOnce);
}

#[test]
fn requests_and_replies_allocate_nothing() {
    steady(|config| config, Service::Request);
}

#[test]
fn unacknowledged_messages_allocate_nothing() {
    for service in [Service::Maybe, Service::Repeat, Service::RepeatDedup] {
        steady(|config| config, service);
    }
}

/// Messages per stretch.
const STRETCH: u64 = 200_000;
/// Stretches in which lists may still grow: as long as the most that ever was under way, which a
/// run at full rate meets sooner or later.
const STRETCHES_TO_GROW: usize = 6;

fn steady(adjust: fn(Config) -> Config, service: Service) {
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        if let (IoChoice::Uring, Err(reason)) = (io, Probe::run().io_uring) {
            eprintln!("SKIPPED: {reason}");
            continue;
        }
        let mut pair = Pair::open(io, adjust);
        // A session has all its memory once it is busy: after 64 packets each way.
        (0..80).for_each(|_| pair.exchange(Service::ExactlyOnce, 1));
        pair.exchange(service, STRETCH);
        let mut counts = Vec::new();
        while counts.last() != Some(&0) {
            let before = pair.delivered();
            counts.push(allocations(|| pair.exchange(service, STRETCH)));
            let delivered = pair.delivered() - before;
            assert!(delivered >= STRETCH / 2, "{delivered} messages were delivered");
            let is_over = counts.len() > STRETCHES_TO_GROW;
            assert!(!is_over, "allocations in {counts:?}, {service:?}, {io}");
        }
    }
}

/// Counts what arrives and what ended; answers requests.
#[derive(Default)]
struct Counter {
    messages: u64,
    ended: u64,
}

impl Handler for Counter {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        self.messages += u64::from(!message.is_reply);
        if message.service == Service::Request && !message.is_reply {
            let reply = message.payload;
            context.reply(message.peer, message.transaction, reply).expect("room for a reply");
        }
    }

    fn on_outcome(&mut self, _: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        assert!(matches!(resolved.outcome, Outcome::Delivered | Outcome::Replied | Outcome::Sent));
        self.ended += u64::from(resolved.count);
    }
}

/// Two nodes on this thread, with a session.
struct Pair {
    one: Poller<Counter>,
    two: Poller<Counter>,
    to: PeerId,
}

impl Pair {
    fn open(io: IoChoice, adjust: fn(Config) -> Config) -> Self {
        let config = || {
            let identity = Identity::random().expect("the system has randomness");
            let trust = Trust::new(TrustPolicy::Always);
            adjust(Config { io, trust, ..Config::new(identity) })
        };
        let one = config();
        let key = one.identity.public();
        let one = Poller::new(one, Counter::default()).expect("the listener starts");
        let mut two = Poller::new(config(), Counter::default()).expect("the initiator starts");
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

    /// Sends `count` messages as fast as the window allows, until each has ended.
    fn exchange(&mut self, service: Service, count: u64) {
        let to = self.to;
        let end = self.two.with(|counter, _| counter.ended) + count;
        let mut sent = 0;
        while self.two.with(|counter, _| counter.ended) < end {
            self.two.with(|_, context| {
                while sent < count {
                    match context.send(to, service, &[7; 64]) {
                        Ok(_) => sent += 1,
                        Err(SendError::Full(_)) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            self.turn();
        }
    }

    fn delivered(&mut self) -> u64 {
        self.one.with(|counter, _| counter.messages)
    }
}
