//! What the QUIC libraries share: a runtime on a side's own thread, and one loop for messages in
//! streams.
//!
//! While a side spins, a task that always yields keeps the runtime from sleeping: it looks for
//! datagrams in every turn.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Builder;
use tokio::task::yield_now;

use super::stream::{Batch, Inbox};
use crate::link::{Application, Next, Outbox as _, Result, Wait};

/// Bytes of small messages in one write.
const BATCH_LEN: usize = 64 << 10;
/// Tasks between two looks at the sockets: few, since one of them always yields.
const TASKS_A_LOOK: u32 = 16;
/// How long a side that sleeps may overlook the end of the run.
const NAP: Duration = Duration::from_millis(10);
/// Reads of one stream in a turn.
const READS_MAX: usize = 16;

/// Runs one side to its end on this thread.
pub(super) fn block_on<T: Send + 'static>(
    wait: Wait,
    side: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime =
        Builder::new_current_thread().enable_all().event_interval(TASKS_A_LOOK).build()?;
    runtime.block_on(async {
        if wait == Wait::Spin {
            tokio::spawn(async {
                loop {
                    yield_now().await;
                }
            });
        }
        tokio::spawn(side).await?
    })
}

/// What `future` gives, unless the application ends first.
pub(super) async fn unless_over<T>(
    application: &mut impl Application,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            value = &mut future => return Some(value),
            () = tokio::time::sleep(NAP) => {
                if application.next() == Next::Stop {
                    return None;
                }
            }
        }
    }
}

/// A stream with what waits on both of its sides.
pub(super) struct Lane<S> {
    stream: S,
    batch: Batch,
    inbox: Inbox,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<S> {
    /// A stream that was just opened. The side that opened it tells the other.
    pub(super) fn new(stream: S, is_opener: bool) -> Self {
        let mut batch = Batch::new(BATCH_LEN);
        if is_opener {
            assert!(batch.send(&[]), "an empty batch has room");
        }
        Self { stream, batch, inbox: Inbox::new() }
    }

    /// Takes what came. `None`: the other side is gone.
    fn read(&mut self, cx: &mut Context<'_>, application: &mut impl Application) -> Option<bool> {
        let Self { stream, batch, inbox } = self;
        for round in 0..READS_MAX {
            let mut room = ReadBuf::new(inbox.room());
            match Pin::new(&mut *stream).poll_read(cx, &mut room) {
                Poll::Pending => return Some(round > 0),
                Poll::Ready(Err(_)) => return None,
                Poll::Ready(Ok(())) if room.filled().is_empty() => return None,
                Poll::Ready(Ok(())) => {
                    let len = room.filled().len();
                    inbox.filled(len);
                    inbox.drain(|message| application.take(message, batch));
                }
            }
        }
        Some(true)
    }

    /// Writes what goes.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_written = false;
        while !self.batch.rest().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.batch.rest()) {
                Poll::Pending => return Ok(has_written),
                Poll::Ready(len) => self.batch.advance(len?),
            }
            has_written = true;
        }
        if has_written && let Poll::Ready(result) = Pin::new(&mut self.stream).poll_flush(cx) {
            result?;
        }
        Ok(has_written)
    }
}

/// Runs the application over the streams of one connection until it wants another thing than to
/// go on, or the other side is gone.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    lanes: &mut [Lane<S>],
    wait: Wait,
    application: &mut impl Application,
) -> Next {
    application.on_open();
    loop {
        let turn = poll_fn(|cx| Poll::Ready(turn(cx, lanes, application)));
        let Some(is_busy) = turn.await else { return application.next() };
        match application.next() {
            Next::Go => {}
            next => return next,
        }
        if is_busy || wait == Wait::Spin {
            yield_now().await;
        } else {
            // The turn left word with every stream: any of them wakes this task.
            let mut was_asleep = false;
            let woken = poll_fn(|_| {
                if std::mem::replace(&mut was_asleep, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            let _ = tokio::time::timeout(NAP, woken).await;
        }
    }
}

/// Whether there was anything to do. `None`: the other side is gone.
fn turn<S: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    lanes: &mut [Lane<S>],
    application: &mut impl Application,
) -> Option<bool> {
    let mut is_busy = false;
    for lane in lanes {
        is_busy |= lane.read(cx, application)?;
        if lane.batch.rest().is_empty() {
            application.offer(&mut lane.batch);
        }
        is_busy |= lane.write(cx).ok()?;
    }
    Some(is_busy)
}
