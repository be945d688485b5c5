//! One measurement: two pinned threads, and a relay between them where packets are to be lost.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::application::{Answerer, Asker, Findings, Receiver, Sender, Shared};
use crate::link::{Application, Peer, Result, Wait};
use crate::relay;
use crate::workload::Workload;

/// Core of the initiator.
const INITIATOR_CORE: usize = 0;
/// Core of the responder, and of the relay if there is one.
const RESPONDER_CORE: usize = 1;

/// Runs one workload over a peer for `seconds`, and a fifth of it before.
pub(crate) fn run(
    peer: &impl Peer,
    workload: Workload,
    seconds: f64,
    is_reliable: bool,
) -> Result<Findings> {
    let shared = &Shared::new(Duration::from_secs_f64(seconds), is_reliable);
    let size = workload.size();
    match workload {
        Workload::Flood { .. } | Workload::LossyFlood { .. } | Workload::LossyPaced { .. } => {
            let is_paced = matches!(workload, Workload::LossyPaced { .. });
            let sender = Sender::new(shared, size, is_paced);
            let receiver = Receiver::new(shared, size, is_paced);
            let (_, receiver) = both(peer, workload, shared, sender, receiver)?;
            Ok(receiver.findings())
        }
        Workload::Connect | Workload::Request { .. } => {
            let (outstanding, is_fresh_each) = match workload {
                Workload::Request { outstanding } => (outstanding, false),
                _ => (1, true),
            };
            let asker = Asker::new(shared, size, outstanding, is_fresh_each);
            let answerer = Answerer::new(shared, size);
            let (asker, answerer) = both(peer, workload, shared, asker, answerer)?;
            let mut findings = asker.findings();
            findings.failure = answerer.failure().or(findings.failure);
            Ok(findings)
        }
    }
}

/// Runs both sides to their end, and hands both back.
fn both<I: Application, R: Application>(
    peer: &impl Peer,
    workload: Workload,
    shared: &Arc<Shared>,
    initiator: I,
    responder: R,
) -> Result<(I, R)> {
    let (announce, announced) = mpsc::channel();
    // The relay needs the core more than a side that only waits for it.
    let responder_waits = if workload.loss().is_some() { Wait::Sleep } else { Wait::Spin };
    thread::scope(|scope| {
        let responding = scope.spawn(move || -> Result<R> {
            let _ending = Ending(shared);
            pin(RESPONDER_CORE)?;
            let announce = move |address| announce.send(address).expect("the other side waits");
            peer.respond(responder_waits, announce, responder)
        });
        let relayed = |to: SocketAddr| -> Result<_> {
            let Some(percent) = workload.loss() else { return Ok((to, None)) };
            let (announce, announced) = mpsc::channel();
            let relaying = scope.spawn(move || -> Result<()> {
                pin(RESPONDER_CORE)?;
                let announce = |address| announce.send(address).expect("somebody waits for it");
                relay::run(to, percent, shared, announce)
            });
            Ok((announced.recv().map_err(|_| "the relay did not start")?, Some(relaying)))
        };
        let initiating = || -> Result<_> {
            let _ending = Ending(shared);
            pin(INITIATOR_CORE)?;
            let to = announced.recv().map_err(|_| "the responder did not start")?;
            let (to, relaying) = relayed(to)?;
            Ok((peer.initiate(Wait::Spin, to, initiator)?, relaying))
        };
        let initiated = initiating();
        let responder = responding.join().expect("a panic ends the process")?;
        let (initiator, relaying) = initiated?;
        if let Some(relaying) = relaying {
            relaying.join().expect("a panic ends the process")?;
        }
        Ok((initiator, responder))
    })
}

/// Whoever ends, ends all.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn pin(id: usize) -> Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id }) {
        return Ok(());
    }
    Err(format!("core {id} is not among the cores of this process").into())
}
