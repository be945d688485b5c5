//! What to tell people when a session does not come about, or ends: likely causes, and what to
//! do.

use std::net::SocketAddr;

use raet::{CloseReason, SessionChange};

/// The sentence for a change that ends a session; `None` for one that does not.
pub(crate) fn of(change: &SessionChange, address: SocketAddr) -> Option<String> {
    Some(match change {
        SessionChange::Opened { .. } | SessionChange::Pending { .. } => return None,
        SessionChange::TimedOut => silent(address),
        SessionChange::Refused(reason) => refused(*reason, address),
        SessionChange::Closed(reason) => closed(*reason, address),
    })
}

/// Nothing valid came back.
pub(crate) fn silent(address: SocketAddr) -> String {
    format!(
        "no valid answer from {address}; check that a responder runs there and can be reached, \
         that --peer-key is its key, and that both sides use the same --psk"
    )
}

/// The operator has not decided.
pub(crate) fn pending(address: SocketAddr) -> String {
    format!(
        "{address} has not accepted our key yet; start `serve` with --accept once or always, or \
         use a --key that it knows"
    )
}

fn closed(reason: CloseReason, address: SocketAddr) -> String {
    let how = match reason {
        CloseReason::ByPeer => "was closed by the peer",
        CloseReason::ByUs => "was closed here",
        CloseReason::Idle => "fell silent",
        CloseReason::KeysExhausted => "used up its keys",
        CloseReason::PeerRestarted => "ended because the peer restarted",
        CloseReason::Violation => "ended because the peer broke the protocol",
    };
    format!("the session with {address} {how}; look at what runs there, and start again")
}
