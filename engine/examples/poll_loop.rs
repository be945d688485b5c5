//! Two nodes in one loop on one thread: for programs that already have an event loop.
//!
//! A `Poller` starts no thread and does nothing unless asked for a turn. Here they count to ten,
//! each answering the other's number with the next one.
//! Run it: `cargo run --release -p raet --example poll_loop`

use raet::time::Duration;
use raet::{Config, Context, Handler, Identity, Message, Poller, Service, Trust, TrustPolicy};

struct Player {
    name: &'static str,
    highest: u8,
}

impl Handler for Player {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        self.highest = message.payload[0];
        println!("{} hears {}", self.name, self.highest);
        if self.highest < 10 {
            let next = [self.highest + 1];
            context.send(message.peer, Service::AtMostOnce, &next).expect("the session is open");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let alice = Config::new(Identity::random()?);
    let mut bob = Config::new(Identity::random()?);
    let bob_key = bob.identity.public();
    bob.trust = Trust::new(TrustPolicy::Always); // Anyone may play.
    let mut alice = Poller::new(alice, Player { name: "Alice", highest: 0 })?;
    let mut bob = Poller::new(bob, Player { name: "  Bob", highest: 0 })?;

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
