//! Messages in a stream of bytes: each behind its length, and one loop for all that carry such
//! streams without blocking.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use crate::link::{Application, Next, Outbox, Result};

/// Bytes of a length.
const PREFIX_LEN: usize = 4;
/// Bytes of room before a read: more than a TLS record, and what a socket holds of small messages.
const READ_LEN: usize = 256 << 10;

/// What waits to be written: small messages, then perhaps a long one that nobody copied.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    shared: Option<Arc<[u8]>>,
    /// Of the bytes, and once they are gone of the long message.
    written: usize,
    limit: usize,
}

impl Batch {
    /// One that takes messages until it holds `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: Vec::with_capacity(2 * limit), limit, ..Self::default() }
    }

    /// What is to be written next, until it is empty.
    pub(crate) fn rest(&self) -> &[u8] {
        match &self.shared {
            Some(message) if self.bytes.is_empty() => &message[self.written..],
            _ => &self.bytes[self.written..],
        }
    }

    /// `len` bytes more are written.
    pub(crate) fn advance(&mut self, len: usize) {
        self.written += len;
        if self.rest().is_empty() {
            self.written = 0;
            if self.bytes.is_empty() {
                self.shared = None;
            } else {
                self.bytes.clear();
            }
        }
    }

    /// Forgets what is left.
    pub(crate) fn clear(&mut self) {
        *self =
            Self { bytes: std::mem::take(&mut self.bytes), limit: self.limit, ..Self::default() };
        self.bytes.clear();
    }

    fn push_len(&mut self, message: &[u8]) {
        let len = u32::try_from(message.len()).expect("messages are short");
        self.bytes.extend_from_slice(&len.to_le_bytes());
    }
}

impl Outbox for Batch {
    fn send(&mut self, message: &[u8]) -> bool {
        if self.bytes.len() >= self.limit || self.shared.is_some() {
            return false;
        }
        self.push_len(message);
        self.bytes.extend_from_slice(message);
        true
    }

    fn send_shared(&mut self, message: &Arc<[u8]>) -> bool {
        if self.shared.is_some() {
            return false;
        }
        self.push_len(message);
        self.shared = Some(Arc::clone(message));
        true
    }
}

/// What was read, until messages are whole.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    held: std::ops::Range<usize>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; 4 * READ_LEN], held: 0..0 }
    }

    /// Room to read into.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.held.is_empty() {
            self.held = 0..0;
        }
        if self.bytes.len() - self.held.end < READ_LEN {
            self.bytes.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
            if self.bytes.len() - self.held.end < READ_LEN {
                self.bytes.resize(2 * self.bytes.len(), 0);
            }
        }
        &mut self.bytes[self.held.end..]
    }

    /// `len` bytes of the room were read.
    pub(crate) fn filled(&mut self, len: usize) {
        self.held.end += len;
    }

    /// Hands over each whole message.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        while let Some((len, rest)) = self.bytes[self.held.clone()].split_first_chunk() {
            let len = u32::from_le_bytes(*len) as usize;
            let Some(message) = rest.get(..len) else { return };
            // An empty one only tells that there is a stream.
            if len > 0 {
                take(message);
            }
            self.held.start += PREFIX_LEN + len;
        }
    }

    /// Forgets what is held.
    pub(crate) fn clear(&mut self) {
        self.held = 0..0;
    }
}

/// A connection that never blocks.
pub(crate) trait Wire {
    /// Reads into the inbox. `None`: the other side is gone.
    fn read(&mut self, inbox: &mut Inbox) -> io::Result<Option<()>>;

    /// Writes of the batch what goes.
    fn write(&mut self, batch: &mut Batch) -> io::Result<()>;
}

/// Runs the application over one connection until it wants another thing than to go on, or the
/// other side is gone.
pub(crate) fn drive(
    wire: &mut impl Wire,
    batch: &mut Batch,
    inbox: &mut Inbox,
    application: &mut impl Application,
) -> Result<Next> {
    batch.clear();
    inbox.clear();
    application.on_open();
    loop {
        let is_there = wire.read(inbox)?.is_some();
        inbox.drain(|message| application.take(message, batch));
        application.offer(batch);
        wire.write(batch)?;
        match application.next() {
            Next::Go if is_there => {}
            next => return Ok(next),
        }
    }
}

/// Serves one connection after the other.
pub(crate) fn respond<A: Application, W: Wire>(
    listener: &TcpListener,
    limit: usize,
    mut wrap: impl FnMut(TcpStream) -> Result<W>,
    mut application: A,
) -> Result<A> {
    listener.set_nonblocking(true)?;
    let (mut batch, mut inbox) = (Batch::new(limit), Inbox::new());
    loop {
        let next = match listener.accept() {
            Ok((stream, _)) => {
                let mut wire = wrap(prepare(stream)?)?;
                drive(&mut wire, &mut batch, &mut inbox, &mut application)?
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => application.next(),
            Err(error) => return Err(error.into()),
        };
        if next == Next::Stop {
            return Ok(application);
        }
    }
}

/// Opens one connection after the other.
pub(crate) fn initiate<A: Application, W: Wire>(
    to: SocketAddr,
    limit: usize,
    mut wrap: impl FnMut(TcpStream) -> Result<W>,
    mut application: A,
) -> Result<A> {
    let (mut batch, mut inbox) = (Batch::new(limit), Inbox::new());
    loop {
        let mut wire = wrap(prepare(TcpStream::connect(to)?)?)?;
        match drive(&mut wire, &mut batch, &mut inbox, &mut application)? {
            Next::Go => return Err("the responder closed the connection".into()),
            Next::Reconnect => {}
            Next::Stop => return Ok(application),
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads once from a socket that does not block. `None`: the other side is gone.
pub(crate) fn read_some(mut stream: &TcpStream, room: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(room) {
        Ok(0) => Ok(None),
        Ok(len) => Ok(Some(len)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}
