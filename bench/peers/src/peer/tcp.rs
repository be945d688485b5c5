//! Plain TCP: the kernel's stream with messages behind their lengths.
//!
//! No delay for company (`TCP_NODELAY`): what is due in a turn is written in one call, up to
//! 256 KiB. Socket buffers grow by themselves, CUBIC. Neither side ever sleeps.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::stream::{self, Batch, Inbox, Wire, read_some};
use super::{Entry, not_over_udp};
use crate::link::{Application, Peer, Result, Wait};
use crate::run::run;

/// Bytes of one write of small messages.
const BATCH_LEN: usize = 256 << 10;

pub(super) fn entries() -> Vec<Entry> {
    vec![Entry {
        name: "tcp",
        settings: "length-prefixed, 256-KiB writes, TCP_NODELAY, not encrypted",
        is_encrypted: false,
        excuse: not_over_udp,
        run: |workload, seconds| run(&Tcp, workload, seconds, true),
    }]
}

struct Tcp;

impl Peer for Tcp {
    fn respond<A: Application>(
        &self,
        _: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        application: A,
    ) -> Result<A> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        announce(listener.local_addr()?);
        stream::respond(&listener, BATCH_LEN, Ok, application)
    }

    fn initiate<A: Application>(&self, _: Wait, to: SocketAddr, application: A) -> Result<A> {
        stream::initiate(to, BATCH_LEN, Ok, application)
    }
}

impl Wire for TcpStream {
    fn read(&mut self, inbox: &mut Inbox) -> io::Result<Option<()>> {
        let Some(len) = read_some(self, inbox.room())? else { return Ok(None) };
        inbox.filled(len);
        Ok(Some(()))
    }

    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        while !batch.rest().is_empty() {
            match Write::write(self, batch.rest()) {
                Ok(len) => batch.advance(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
