//! The steady state allocates nothing, on either side, with either kernel driver and with every
//! service level: what a node needs it takes at its start and while a session opens.
//!
//! Both nodes run on the test's own thread, turn by turn, under an allocator that counts what
//! this thread asks for.
#![expect(unsafe_code, reason = "an allocator that counts has to be an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use raet::io::kernel::OpenError;
use raet::time::Duration;
use raet::{
    Config, Context, Handler, Identity, IoChoice, Message, PeerId, Poller, Resolved, SendError,
    Service, SessionChange, StartError, Trust, TrustPolicy,
};

/// Messages before the counting starts: the path's probes and every table's growth lie in them.
const MESSAGES_BEFORE: u64 = 100_000;
/// Messages while it counts.
const MESSAGES_COUNTED: u64 = 200_000;
/// Turns that may bring nothing new before the run counts as stuck.
const IDLE_TURNS_MAX: u64 = 20_000_000;

/// The system's allocator, counting what a thread asks of it while that thread wants to know.
struct Counting;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    // A thread that is being taken down has no cell any more, and counts nothing.
    let _ = COUNTED.try_with(|cell| cell.set(cell.get().map(|count| count + 1)));
}

// SAFETY: every call goes to the system's allocator with its arguments as they came, so what
// holds for that one holds for this one; counting touches a thread's own cell and nothing else.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the terms of this function, which are those of the one called.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, len) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Sends as fast as it may.
struct Flood {
    service: Service,
    peer: Option<PeerId>,
    is_open: bool,
    ended: u64,
}

impl Handler for Flood {
    fn on_message(&mut self, _: &mut Context<'_>, message: Message<'_>) {
        assert!(message.is_reply);
    }

    fn on_outcome(&mut self, _: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        self.ended += u64::from(resolved.count);
    }

    fn on_session(&mut self, _: &mut Context<'_>, _: PeerId, change: SessionChange) {
        self.is_open = matches!(change, SessionChange::Opened { .. });
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        let (Some(peer), true) = (self.peer, self.is_open) else { return };
        let full = loop {
            if let Err(error) = context.send(peer, self.service, &[7; 64]) {
                break error;
            }
        };
        assert!(matches!(full, SendError::Full(_)), "{full}");
    }
}

/// Answers requests.
struct Answer;

impl Handler for Answer {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        assert_eq!(message.payload, [7; 64]);
        if message.service == Service::Request {
            let replied = context.reply(message.peer, message.transaction, message.payload);
            assert_eq!(replied, Ok(()), "there is a buffer for each reply of one peer");
        }
    }
}

/// Allocations of both sides while [`MESSAGES_COUNTED`] messages ended; `None` where the host
/// does not have the driver.
fn allocations(io: IoChoice, service: Service) -> Option<u64> {
    let node = || {
        let identity = Identity::random().unwrap();
        let key = identity.public();
        let mut config = Config::new(identity);
        config.io = io;
        config.trust = Trust::new(TrustPolicy::Always);
        (config, key)
    };
    let (config, key) = node();
    let mut responder = match Poller::new(config, Answer) {
        Err(StartError::Open(OpenError::NoUring(reason))) => {
            eprintln!("SKIPPED: {service:?} over io_uring: {reason}");
            return None;
        }
        started => started.unwrap(),
    };
    let flood = Flood { service, peer: None, is_open: false, ended: 0 };
    let mut initiator = Poller::new(node().0, flood).unwrap();
    let address = responder.address();
    initiator.with(|flood, context| flood.peer = Some(context.connect(address, key).unwrap()));

    let mut run_until = |ended: u64| {
        let mut turns = 0;
        while initiator.with(|flood, _| flood.ended) < ended {
            initiator.poll(Duration::ZERO).unwrap();
            responder.poll(Duration::ZERO).unwrap();
            turns += 1;
            assert!(turns < IDLE_TURNS_MAX, "{service:?} over {io:?} is stuck");
        }
    };
    run_until(MESSAGES_BEFORE);
    COUNTED.set(Some(0));
    run_until(MESSAGES_BEFORE + MESSAGES_COUNTED);
    COUNTED.take()
}

#[test]
fn the_counter_counts() {
    COUNTED.set(Some(0));
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(COUNTED.take(), Some(1));
}

#[test]
fn steady_state_allocates_nothing_on_either_side() {
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        for service in [
            Service::Maybe,
            Service::Repeat,
            Service::RepeatDedup,
            Service::MoreOrLessOnce,
            Service::AtMostOnce,
            Service::ExactlyOnce,
            Service::Request,
        ] {
            if let Some(allocations) = allocations(io, service) {
                assert_eq!(allocations, 0, "allocations with {service:?} over {io:?}");
            }
        }
    }
}
