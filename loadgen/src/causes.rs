//! What to tell people when a session does not come about, or ends: the likely cause, and what
//! to do.

use std::net::SocketAddr;

use raet::{CloseReason, LastHeard, Reason, Refusal, SessionChange};

/// The sentence for a change that ends a session; `None` for one that does not.
pub(crate) fn of(change: &SessionChange, address: SocketAddr) -> Option<String> {
    Some(match change {
        SessionChange::Opened { .. }
        | SessionChange::Lost(_)
        | SessionChange::Moved { .. }
        | SessionChange::Pending { .. }
        | SessionChange::Closed(CloseReason::ByUs) => return None,
        SessionChange::TimedOut(LastHeard::Nothing) => silent(address),
        SessionChange::TimedOut(LastHeard::Cookie) => format!(
            "{address} holds that key but does not open a session; check that --psk, --mode and \
             --suite are its own, and wait a minute if it has refused this host before"
        ),
        SessionChange::TimedOut(LastHeard::UnreadableAccept) => format!(
            "the pre-shared keys of {address} and here differ; give both sides the same --psk"
        ),
        SessionChange::Refused(Refusal::Denied { .. }) => format!(
            "{address} knows our name with another key; use the --key it knows, or have its \
             operator clear the name"
        ),
        SessionChange::Refused(Refusal::Rejected { reason, .. }) => rejected(*reason, address),
        SessionChange::Closed(reason) => closed(*reason, address),
    })
}

/// Nothing valid came back.
pub(crate) fn silent(address: SocketAddr) -> String {
    format!(
        "no valid answer from {address}; check that a responder runs there and can be reached, \
         and that --peer-key is its key"
    )
}

/// The operator has not decided.
pub(crate) fn pending(address: SocketAddr) -> String {
    format!(
        "{address} has not accepted our key yet; start `serve` with --accept once or always, or \
         use a --key that it knows"
    )
}

fn rejected(reason: Reason, address: SocketAddr) -> String {
    let why = match reason {
        Reason::KeyRejected => {
            "rejects our key; use another --key, or have its operator accept ours"
        }
        Reason::NoCommonHead => "speaks another version; run the same version on both sides",
        Reason::NoCommonMode => "does not take our mode; give both sides the same --mode",
        Reason::NoCommonSuite => "does not take our cipher; give both sides the same --suite",
        Reason::PskMismatch => {
            "wants a pre-shared key on both sides or on neither; give both sides the same --psk"
        }
        Reason::Unspecified => "rejects the session without a reason; look at what runs there",
    };
    format!("{address} {why}")
}

fn closed(reason: CloseReason, address: SocketAddr) -> String {
    let how = match reason {
        CloseReason::ByPeer => "was closed by the peer",
        CloseReason::ByUs => "was closed here",
        CloseReason::Idle => "fell silent",
        CloseReason::KeysExhausted => "used up its keys",
        CloseReason::PeerRestarted => "ended because the peer restarted",
        CloseReason::Reset => "is not known to the peer any more",
        CloseReason::Violation => "ended because the peer broke the protocol",
    };
    format!("the session with {address} {how}; look at what runs there, and start again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_one_sentence_that_names_the_peer_and_says_what_to_do() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4040));
        let retry_after = raet::time::Duration::ZERO;
        let refusals = [
            Reason::KeyRejected,
            Reason::NoCommonHead,
            Reason::NoCommonMode,
            Reason::NoCommonSuite,
            Reason::PskMismatch,
            Reason::Unspecified,
        ]
        .map(|reason| SessionChange::Refused(Refusal::Rejected { reason, retry_after }));
        let timeouts = [LastHeard::Cookie, LastHeard::Nothing, LastHeard::UnreadableAccept]
            .map(SessionChange::TimedOut);
        for change in refusals.iter().chain(&timeouts) {
            let sentence = of(change, address).unwrap();
            assert!(sentence.contains("127.0.0.1:4040"), "{sentence}");
            assert!(sentence.contains(';') && !sentence.contains('\n'), "{sentence}");
        }
        assert!(of(&SessionChange::Pending { retry_after }, address).is_none());
    }
}
