//! Alice asks Bob ten times; Bob's handler sends every request straight back.
//!
//! Both nodes run in this process, each on a thread of its own, over UDP on loopback.
//! Run it: `cargo run --release -p raet --example echo`

use raet::{Config, Context, Handler, Identity, Message, Node, Outcome, PeerId, PublicKey};
use raet::{Resolved, SendError, Service, SessionChange, Trust, TrustPolicy};
use std::net::SocketAddr;

/// Replies that Bob keeps because there was no room for them.
const OWED_MAX: usize = 64;

/// Bob: whatever is asked comes back. A reply ends the request's transaction.
#[derive(Default)]
struct Echo {
    owed: Vec<(PeerId, u64, Vec<u8>)>,
}

impl Handler for Echo {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        if message.service != Service::Request {
            return; // Nobody waits for a reply.
        }
        let (peer, transaction) = (message.peer, message.transaction);
        match context.reply(peer, transaction, message.payload) {
            Ok(()) => {}
            // Full is normal: it is still owed, and a copy is kept for later.
            Err(SendError::Full(_)) if self.owed.len() < OWED_MAX => {
                self.owed.push((peer, transaction, message.payload.to_vec()));
            }
            // Without an end the request would wait for ever.
            Err(_) => drop(context.fail(peer, transaction)),
        }
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        self.owed.retain(|(peer, transaction, payload)| {
            match context.reply(*peer, *transaction, payload) {
                Ok(()) => false,
                Err(SendError::Full(_)) => true,
                Err(_) => {
                    context.fail(*peer, *transaction);
                    false
                }
            }
        });
    }
}

/// Alice: connects, asks one thing after another, and stops when all is answered.
struct Asker {
    bob: (SocketAddr, PublicKey),
    session: Option<PeerId>,
    asked: u32,
    answered: u32,
}

impl Handler for Asker {
    fn on_start(&mut self, context: &mut Context<'_>) {
        context.connect(self.bob.0, self.bob.1).expect("Bob's key is not ours");
    }

    fn on_session(&mut self, context: &mut Context<'_>, bob: PeerId, change: SessionChange) {
        let SessionChange::Opened { mode, .. } = change else {
            println!("no session: {change:?}");
            return context.stop();
        };
        println!("session open, packets are {mode:?}");
        self.session = Some(bob);
    }

    fn on_message(&mut self, context: &mut Context<'_>, reply: Message<'_>) {
        if !reply.is_reply {
            return; // Bob may send anything; Alice only asks.
        }
        println!("echo: {}", String::from_utf8_lossy(reply.payload));
        self.answered += 1;
        if self.answered == 10 {
            context.stop();
        }
    }

    fn on_outcome(&mut self, context: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        if resolved.outcome != Outcome::Replied {
            println!("no reply: {:?}", resolved.outcome);
            context.stop();
        }
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        let Some(bob) = self.session.filter(|_| self.asked == self.answered) else { return };
        let question = format!("hello number {}", self.asked);
        match context.send(bob, Service::Request, question.as_bytes()) {
            Ok(_) => self.asked += 1,
            Err(SendError::Full(_)) => {} // There is another turn.
            Err(error) => {
                println!("cannot ask: {error}");
                context.stop();
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::new(Identity::random()?);
    config.trust = Trust::new(TrustPolicy::Always); // Anyone may talk to Bob.
    let bob = Node::start(config, |_| Echo::default())?;
    let address = (bob.address(), *bob.key());
    let config = Config::new(Identity::random()?);
    let make = move |_| Asker { bob: address, session: None, asked: 0, answered: 0 };
    let mut alice = Node::start(config, make)?;
    alice.join()?; // Until she stops herself. Bob stops when he is dropped.
    Ok(())
}
