//! Two nodes in one loop on one thread: for programs that already have an event loop.
//!
//! A `Poller` starts no thread and does nothing unless asked for a turn. Here they count to ten,
//! each answering the other's number with the next one.
//! Run it: `cargo run --release -p raet --example poll_loop`

use raet::time::Duration;
use raet::{Config, Context, Handler, Identity, Message, PeerId, Poller, RefuseReason, SendError};
use raet::{Service, Trust, TrustPolicy};

const NO_NUMBER: RefuseReason = RefuseReason::new(1).expect("below 254");

struct Player {
    name: &'static str,
    highest: u8,
    /// A number that is still to be said, and to whom.
    next: Option<(PeerId, u8)>,
}

impl Player {
    fn new(name: &'static str) -> Self {
        Self { name, highest: 0, next: None }
    }
}

impl Handler for Player {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        // Whoever is at the other end may send anything.
        let &[number] = message.payload else {
            context.refuse(&message, NO_NUMBER);
            return;
        };
        self.highest = number;
        println!("{} hears {number}", self.name);
        self.next = (number < 10).then(|| (message.peer, number + 1));
    }

    // After all that arrived in a turn. What finds no room now is offered again in the next one.
    fn on_turn(&mut self, context: &mut Context<'_>) {
        if let Some((to, number)) = self.next
            && !matches!(context.send(to, Service::AtMostOnce, &[number]), Err(SendError::Full(_)))
        {
            self.next = None;
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let alice = Config::new(Identity::random()?);
    let mut bob = Config::new(Identity::random()?);
    let bob_key = bob.identity.public();
    bob.trust = Trust::new(TrustPolicy::Always); // Anyone may play.
    let mut alice = Poller::new(alice, Player::new("Alice"))?;
    let mut bob = Poller::new(bob, Player::new("  Bob"))?;

    let to = alice.with(|_, context| context.connect(bob.address(), bob_key))?;
    let mut is_served = false;
    let mut turns = 0;
    while alice.with(|player, _| player.highest) < 10 && bob.with(|player, _| player.highest) < 10 {
        // Until the session is open a send is refused, with nothing done.
        is_served |= !is_served
            && alice.with(|_, context| context.send(to, Service::AtMostOnce, &[1])).is_ok();
        // Whatever else this program does would stand here.
        alice.poll(Duration::from_micros(100))?;
        bob.poll(Duration::from_micros(100))?;
        turns += 1;
    }
    println!("done after {turns} turns of this loop");
    Ok(())
}
