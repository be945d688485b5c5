//! The only door into a shard for other threads: a bounded queue that wakes a sleeper.
//!
//! Waking costs a system call, so it is done only for a shard that sleeps. The danger is the lost
//! wake-up: a command put between the owner's last look and its sleep. The owner therefore first
//! says that it sleeps and then looks once more; a sender first puts and then asks whether the
//! owner sleeps. With sequentially consistent order one of the two sees the other. The model in
//! the tests walks every interleaving of that.

use std::sync::OnceLock;

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};

use crate::io::Waker;

/// A bounded mailbox of one shard.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Queue<T>,
    is_asleep: AtomicBool,
    /// Someone wants a turn, mail or not.
    is_nudged: AtomicBool,
    waker: OnceLock<Waker>,
}

impl<T> Mailbox<T> {
    /// A mailbox for `capacity` commands. Its owner is not asleep yet.
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: Queue::new(capacity),
            is_asleep: AtomicBool::new(false),
            is_nudged: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// Tells how to end the owner's sleep. Only the first call counts.
    pub fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// Puts a command, and wakes the owner if it sleeps.
    ///
    /// # Errors
    /// The command itself, if the mailbox is full.
    pub fn put(&self, command: T) -> Result<(), T> {
        self.queue.push(command)?;
        self.ring();
        Ok(())
    }

    /// Has the owner take a turn: at once if it sleeps, before it next sleeps otherwise.
    pub fn ring(&self) {
        self.is_nudged.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed)
            && self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }

    /// The owner takes a command.
    pub fn take(&self) -> Option<T> {
        self.queue.pop()
    }

    /// The owner is about to sleep. `false`: it is wanted, it must not.
    pub fn sleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() && !self.is_nudged.load(Ordering::SeqCst) {
            return true;
        }
        self.wake();
        false
    }

    /// The owner is awake, and will look at everything in this turn.
    pub fn wake(&self) {
        if self.is_nudged.load(Ordering::Relaxed) {
            // A swap, so that what was put before the last nudge is seen after this.
            self.is_nudged.swap(false, Ordering::SeqCst);
        }
        if self.is_asleep.load(Ordering::Relaxed) {
            self.is_asleep.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(not(loom))]
type Queue<T> = crossbeam_queue::ArrayQueue<T>;

#[cfg(loom)]
use model::Queue;

#[cfg(loom)]
mod model {
    use std::collections::VecDeque;

    use loom::sync::Mutex;

    /// What the mailbox needs of a queue, in terms that loom can follow.
    #[derive(Debug)]
    pub(super) struct Queue<T> {
        items: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> Queue<T> {
        pub(super) fn new(capacity: usize) -> Self {
            Self { items: Mutex::new(VecDeque::new()), capacity }
        }

        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.items.lock().unwrap().is_empty()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn full_mailbox_hands_the_command_back() {
        let mailbox = Mailbox::new(1);
        assert_eq!(mailbox.put(1), Ok(()));
        assert_eq!(mailbox.put(2), Err(2));
        assert_eq!(mailbox.take(), Some(1));
    }

    #[test]
    fn owner_with_mail_does_not_sleep_and_a_command_ends_its_sleep() {
        let mailbox = Mailbox::new(8);
        mailbox.put(1).unwrap();
        assert!(!mailbox.sleep());
        mailbox.wake();
        assert_eq!(mailbox.take(), Some(1));
        assert!(mailbox.sleep());
        mailbox.put(2).unwrap();
        assert!(!mailbox.is_asleep.load(Ordering::SeqCst));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn sleeper_never_misses_a_command() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::new(2));
            let sender = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.put(1).unwrap())
            };
            let slept = mailbox.sleep();
            sender.join().unwrap();
            // The command was seen before sleeping, or the sleep was ended.
            let woken = !mailbox.is_asleep.load(Ordering::SeqCst);
            assert!(!slept || woken);
            assert_eq!(mailbox.take(), Some(1));
        });
    }
}
