//! What a side is, whoever carries its messages: an application that is asked each turn what it
//! wants to send, and told what came.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

/// What went wrong, in a sentence.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where a side puts what the other is to get.
pub(crate) trait Outbox {
    /// Takes a message. `false`: there is no room now, it was not taken.
    fn send(&mut self, message: &[u8]) -> bool;

    /// Takes a message that stays as it is, so that nobody needs to copy it.
    fn send_shared(&mut self, message: &Arc<[u8]>) -> bool {
        self.send(message)
    }
}

/// What a side does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another turn.
    Go,
    /// It closes its connection and opens another one. Only initiators say so.
    Reconnect,
    /// It ends.
    Stop,
}

/// One side of a workload.
pub(crate) trait Application: Send + 'static {
    /// A connection is open: nothing that was under way on another is.
    fn on_open(&mut self) {}

    /// Sends what is due. Called once a turn.
    fn offer(&mut self, outbox: &mut impl Outbox);

    /// Takes a message that came.
    fn take(&mut self, message: &[u8], outbox: &mut impl Outbox);

    /// Asked at the end of each turn.
    fn next(&mut self) -> Next;
}

/// What a side does while it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It looks again at once: it has its core for itself.
    Spin,
    /// It sleeps in the kernel until something comes: it shares its core.
    Sleep,
}

/// One way to carry messages from an initiator to a responder and back, with its settings. Both
/// sides run in one process, each on a thread that is pinned already.
pub(crate) trait Peer: Sync {
    /// Serves one connection after the other until the application says stop, and hands it back.
    /// Calls `announce` with the address to connect to.
    fn respond<A: Application>(
        &self,
        wait: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        application: A,
    ) -> Result<A>;

    /// Connects to `to`, runs the application until it says stop, and hands it back.
    fn initiate<A: Application>(&self, wait: Wait, to: SocketAddr, application: A) -> Result<A>;
}
