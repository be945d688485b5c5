//! A calculator as a service. What it does not understand it refuses, and the asker learns why.
//!
//! The service is a handler on its shard's thread; the client uses queues, and tells replies
//! apart by the ticket that each request was given.
//! Run it: `cargo run --release -p raet --example request_reply`

use raet::{Config, Context, Handler, Identity, Incoming, Message, Node, Outcome};
use raet::{QueueNode, RefuseReason, Service, Trust, TrustPolicy};
use std::collections::HashMap;

const NOT_UNDERSTOOD: RefuseReason = RefuseReason::new(1).expect("below 254");

struct Calculator;

impl Handler for Calculator {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        match calculate(message.payload) {
            Some(result) => {
                let reply = result.to_string();
                let sent = context.reply(message.peer, message.transaction, reply.as_bytes());
                sent.expect("few replies are outstanding");
            }
            None => drop(context.refuse(&message, NOT_UNDERSTOOD)),
        }
    }
}

fn calculate(request: &[u8]) -> Option<i64> {
    let (left, right) = std::str::from_utf8(request).ok()?.split_once(" * ")?;
    left.parse::<i64>().ok()?.checked_mul(right.parse().ok()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::new(Identity::random()?);
    config.trust = Trust::new(TrustPolicy::Always); // Anyone may calculate.
    let service = Node::start(config, |_| Calculator)?;
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
