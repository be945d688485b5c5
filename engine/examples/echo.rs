//! Alice asks Bob ten times; Bob's handler sends every request straight back.
//!
//! Both nodes run in this process, each on a thread of its own, over UDP on loopback.
//! Run it: `cargo run --release -p raet --example echo`

use raet::{Config, Context, Handler, Identity, Message, Node, PeerId, PublicKey, Service};
use raet::{SessionChange, Trust, TrustPolicy};
use std::net::SocketAddr;

/// Bob: whatever is asked comes back. A reply ends the request's transaction.
struct Echo;
impl Handler for Echo {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        context.reply(message.peer, message.transaction, message.payload).expect("there is room");
    }
}

/// Alice: connects, asks one thing after another, and stops when all is answered.
struct Asker {
    bob: (SocketAddr, PublicKey),
    answered: u32,
}

fn ask(context: &mut Context<'_>, bob: PeerId, number: u32) {
    let question = format!("hello number {number}");
    context.send(bob, Service::Request, question.as_bytes()).expect("the session is open");
}

impl Handler for Asker {
    fn on_start(&mut self, context: &mut Context<'_>) {
        context.connect(self.bob.0, self.bob.1).expect("Bob's key is not ours");
    }

    fn on_session(&mut self, context: &mut Context<'_>, bob: PeerId, change: SessionChange) {
        let SessionChange::Opened { mode, .. } = change else { panic!("no session: {change:?}") };
        println!("session open, packets are {mode:?}");
        ask(context, bob, 0);
    }

    fn on_message(&mut self, context: &mut Context<'_>, reply: Message<'_>) {
        println!("echo: {}", String::from_utf8_lossy(reply.payload));
        self.answered += 1;
        if self.answered == 10 {
            return context.stop();
        }
        ask(context, reply.peer, self.answered);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::new(Identity::random()?);
    config.trust = Trust::new(TrustPolicy::Always); // Anyone may talk to Bob.
    let bob = Node::start(config, |_| Echo)?;
    let address = (bob.address(), *bob.key());
    let config = Config::new(Identity::random()?);
    let mut alice = Node::start(config, move |_| Asker { bob: address, answered: 0 })?;
    alice.join()?; // Until she stops herself. Bob stops when he is dropped.
    Ok(())
}
