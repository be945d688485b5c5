//! KCP by the `kcp` crate: a reliable stream in packets of a fixed size, not encrypted.
//!
//! Stream mode, so that small messages share packets; its *turbo* settings: no delay, resend
//! after two acknowledgements passed, no congestion control, least time-out 10 ms. 1024 packets of
//! 1400 B under way; it is flushed in every turn that did something. A datagram a system call, as
//! its interface has it; socket buffers of 8 MiB. It has no handshake.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kcp::Kcp;

use super::stream::{Batch, Inbox};
use super::{Entry, udp};
use crate::link::{Application, Next, Peer, Result, Wait};
use crate::run::run;
use crate::workload::Workload;

/// Bytes of a UDP payload.
const PAYLOAD_LEN: usize = 1_400;
/// Packets under way.
const WINDOW: u16 = 1_024;
/// Bytes of small messages given to it at a time; it takes at most 255 packets.
const BATCH_LEN: usize = 64 << 10;
const CHUNK_LEN: usize = 128 << 10;
/// Datagrams received in a turn.
const RECEIVED_MAX: usize = 64;
/// What both sides call their conversation.
const CONVERSATION: u32 = 7;
/// Between two looks at its timers, the smallest that it takes.
const INTERVAL_MS: u32 = 10;
const LEAST_TIMEOUT_MS: u32 = 10;
/// How long a side that sleeps may overlook its timers.
const NAP: Duration = Duration::from_millis(1);

pub(super) fn entries() -> Vec<Entry> {
    vec![Entry {
        name: "kcp",
        settings: "stream mode, turbo, no congestion control, not encrypted, UDP payloads of 1400 B",
        is_encrypted: false,
        excuse: |workload| {
            (workload == Workload::Connect).then_some("not measured here: it has no handshake")
        },
        run: |workload, seconds| run(&KcpPeer, workload, seconds, true),
    }]
}

struct KcpPeer;

impl Peer for KcpPeer {
    fn respond<A: Application>(
        &self,
        wait: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        application: A,
    ) -> Result<A> {
        let socket = udp::bind()?;
        announce(socket.local_addr()?);
        drive(socket, None, wait, application)
    }

    fn initiate<A: Application>(&self, wait: Wait, to: SocketAddr, application: A) -> Result<A> {
        drive(udp::bind()?, Some(to), wait, application)
    }
}

/// Where packets leave; nothing does before the other side is known.
struct Exit {
    socket: Rc<UdpSocket>,
    to: Rc<Cell<Option<SocketAddr>>>,
}

impl Write for Exit {
    fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        if let Some(to) = self.to.get() {
            match self.socket.send_to(packet, to) {
                // As if it were lost.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(packet.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs one side to its end.
fn drive<A: Application>(
    socket: UdpSocket,
    to: Option<SocketAddr>,
    wait: Wait,
    mut application: A,
) -> Result<A> {
    socket.set_nonblocking(true)?;
    let socket = Rc::new(socket);
    let other = Rc::new(Cell::new(to));
    let exit = Exit { socket: Rc::clone(&socket), to: Rc::clone(&other) };
    let mut kcp = Kcp::new_stream(CONVERSATION, exit);
    kcp.set_mtu(PAYLOAD_LEN)?;
    kcp.set_wndsize(WINDOW, WINDOW);
    kcp.set_nodelay(true, i32::try_from(INTERVAL_MS)?, 2, true);
    kcp.set_rx_minrto(LEAST_TIMEOUT_MS);
    let begin = Instant::now();
    let (mut batch, mut inbox) = (Batch::new(BATCH_LEN), Inbox::new());
    let mut packet = [0; 2 * PAYLOAD_LEN];
    application.on_open();
    loop {
        kcp.update(u32::try_from(begin.elapsed().as_millis())?)?;
        let mut is_busy = false;
        for _ in 0..RECEIVED_MAX {
            match socket.recv_from(&mut packet) {
                Ok((len, from)) => {
                    other.set(Some(from));
                    kcp.input(&packet[..len])?;
                    is_busy = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        while kcp.peeksize().is_ok() {
            let len = kcp.recv(inbox.room())?;
            inbox.filled(len);
            inbox.drain(|message| application.take(message, &mut batch));
        }
        if batch.rest().is_empty() && other.get().is_some() {
            application.offer(&mut batch);
        }
        while !batch.rest().is_empty() && kcp.wait_snd() < 2 * usize::from(WINDOW) {
            let rest = batch.rest();
            let len = kcp.send(&rest[..rest.len().min(CHUNK_LEN)])?;
            batch.advance(len);
            is_busy = true;
        }
        if is_busy {
            kcp.flush()?;
        } else if wait == Wait::Sleep {
            udp::wait_readable(&socket, NAP)?;
        }
        if application.next() == Next::Stop {
            return Ok(application);
        }
    }
}
