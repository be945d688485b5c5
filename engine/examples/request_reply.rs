//! A calculator as a service. What it does not understand it refuses, and the asker learns why.
//!
//! The service is a handler on its shard's thread; the client uses queues, and tells replies
//! apart by the ticket that each request was given.
//! Run it: `cargo run --release -p raet --example request_reply`

use raet::{Config, Context, Handler, Identity, Incoming, Message, Node, Outcome, PeerId};
use raet::{QueueNode, RefuseReason, SendError, Service, Trust, TrustPolicy};
use std::collections::HashMap;

const NOT_UNDERSTOOD: RefuseReason = RefuseReason::new(1).expect("below 254");

/// Results that are kept because there was no room for them.
const OWED_MAX: usize = 64;

#[derive(Default)]
struct Calculator {
    owed: Vec<(PeerId, u64, i64)>,
}

impl Handler for Calculator {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        match calculate(message.payload).filter(|_| message.service == Service::Request) {
            Some(result) if self.owed.len() < OWED_MAX => {
                self.owed.push((message.peer, message.transaction, result));
            }
            Some(_) => drop(context.fail(message.peer, message.transaction)),
            None => drop(context.refuse(&message, NOT_UNDERSTOOD)),
        }
    }

    // After all that arrived in a turn. What finds no room now is offered again in the next one.
    fn on_turn(&mut self, context: &mut Context<'_>) {
        self.owed.retain(|&(peer, transaction, result)| {
            let sent = context.reply(peer, transaction, result.to_string().as_bytes());
            matches!(sent, Err(SendError::Full(_)))
        });
    }
}

fn calculate(request: &[u8]) -> Option<i64> {
    let (left, right) = std::str::from_utf8(request).ok()?.split_once(" * ")?;
    left.parse::<i64>().ok()?.checked_mul(right.parse().ok()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::new(Identity::random()?);
    config.trust = Trust::new(TrustPolicy::Always); // Anyone may calculate.
    let service = Node::start(config, |_| Calculator::default())?;
    let client = QueueNode::start(Config::new(Identity::random()?), 64)?;
    let to = client.connect(service.address(), *service.key())?;

    let mut open = HashMap::new();
    for question in ["6 * 7", "two * three", "1000000 * 1000000"] {
        open.insert(client.send(to, Service::Request, question.as_bytes())?, question);
    }
    while !open.is_empty() {
        match client.receive() {
            Some(Incoming::Message { payload, reply_to: Some(ticket), .. }) => {
                println!("{} = {}", open[&ticket], String::from_utf8_lossy(&payload));
            }
            Some(Incoming::Outcome { ticket, outcome, .. }) => {
                let question = open.remove(&ticket).expect("each question ends once");
                match outcome {
                    Outcome::Refused(reason) if reason == NOT_UNDERSTOOD.get() => {
                        println!("{question} was not understood");
                    }
                    outcome => println!("{question} ends as {outcome:?}"),
                }
            }
            _ => std::thread::yield_now(),
        }
    }
    Ok(())
}
