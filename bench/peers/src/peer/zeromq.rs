//! ZeroMQ: libzmq over TCP, with its NULL mechanism, which does nothing, and with CURVE, which
//! encrypts by libsodium.
//!
//! Dealer to dealer one way; dealer to router, and back, for requests. A context with one I/O thread
//! a side, on the side's core: a side that has nothing to do sleeps, so that its I/O thread runs.
//! High-water marks of 65 536 messages, fewer if they are long; libzmq batches by itself and sets
//! `TCP_NODELAY`.
#![expect(unsafe_code, reason = "no crate binds libzmq and builds it with CURVE")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_short, c_void};
use std::net::SocketAddr;

// What CURVE in libzmq calls.
use libsodium_sys as _;

use super::{Entry, not_over_udp};
use crate::link::{Application, Next, Outbox, Peer, Result, Wait};
use crate::run::run;
use crate::workload::Workload;

/// Bytes that wait in a socket at most, in messages of one size.
const WAITING_LEN: usize = 64 << 20;
const WAITING_MAX: usize = 65_536;
/// Longest message.
const MESSAGE_LEN_MAX: usize = 1 << 20;
/// Messages taken in a turn.
const TAKEN_MAX: usize = 1_024;
/// How long a side that sleeps may overlook the end of the run, in milliseconds.
const NAP_MS: c_long = 10;
/// Bytes of a key in Z85, with the end of the string.
const KEY_LEN: usize = 41;
/// Bytes of what a router calls a peer, at most.
const IDENTITY_LEN_MAX: usize = 255;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            name: "zeromq curve",
            settings: "over TCP, CURVE by libsodium",
            is_encrypted: true,
            excuse: not_over_udp,
            run: |workload, seconds| run(&ZeroMq::new(workload, true), workload, seconds, true),
        },
        Entry {
            name: "zeromq null",
            settings: "over TCP, NULL, not encrypted",
            is_encrypted: false,
            excuse: not_over_udp,
            run: |workload, seconds| run(&ZeroMq::new(workload, false), workload, seconds, true),
        },
    ]
}

type Key = [c_char; KEY_LEN];

/// A key pair: public, secret.
fn key_pair() -> [Key; 2] {
    let mut keys = [[0; KEY_LEN]; 2];
    let [public, secret] = &mut keys;
    // SAFETY: both arrays have the 41 bytes that are written.
    let result = unsafe { ffi::zmq_curve_keypair(public.as_mut_ptr(), secret.as_mut_ptr()) };
    assert_eq!(result, 0, "libzmq was built with CURVE");
    keys
}

struct ZeroMq {
    is_request: bool,
    waiting_max: c_int,
    /// Key pairs of the initiator and of the responder.
    keys: Option<[[Key; 2]; 2]>,
}

impl ZeroMq {
    fn new(workload: Workload, is_curve: bool) -> Self {
        let waiting_max = (WAITING_LEN / workload.size()).min(WAITING_MAX);
        Self {
            is_request: workload.is_latency(),
            waiting_max: c_int::try_from(waiting_max).expect("bounded by a constant"),
            keys: is_curve.then(|| [key_pair(), key_pair()]),
        }
    }

    fn socket(&self, context: &Context, kind: c_int) -> Result<Socket> {
        let socket = Socket::open(context, kind)?;
        for option in [ffi::ZMQ_SNDHWM, ffi::ZMQ_RCVHWM] {
            socket.set(option, &self.waiting_max)?;
        }
        socket.set(ffi::ZMQ_LINGER, &0)?;
        Ok(socket)
    }
}

impl Peer for ZeroMq {
    fn respond<A: Application>(
        &self,
        _: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        mut application: A,
    ) -> Result<A> {
        let context = Context::open()?;
        let kind = if self.is_request { ffi::ZMQ_ROUTER } else { ffi::ZMQ_DEALER };
        let mut socket = self.socket(&context, kind)?;
        socket.identity = self.is_request.then(Vec::new);
        if let Some([_, [_, secret]]) = &self.keys {
            socket.set(ffi::ZMQ_CURVE_SERVER, &1)?;
            socket.set_key(ffi::ZMQ_CURVE_SECRETKEY, secret)?;
        }
        announce(socket.bind()?);
        drive(&mut socket, &mut application)?;
        Ok(application)
    }

    fn initiate<A: Application>(&self, _: Wait, to: SocketAddr, mut application: A) -> Result<A> {
        let context = Context::open()?;
        loop {
            let mut socket = self.socket(&context, ffi::ZMQ_DEALER)?;
            if let Some([[public, secret], [server, _]]) = &self.keys {
                socket.set_key(ffi::ZMQ_CURVE_PUBLICKEY, public)?;
                socket.set_key(ffi::ZMQ_CURVE_SECRETKEY, secret)?;
                socket.set_key(ffi::ZMQ_CURVE_SERVERKEY, server)?;
            }
            socket.connect(to)?;
            if drive(&mut socket, &mut application)? == Next::Stop {
                return Ok(application);
            }
        }
    }
}

/// Runs the application over a socket until it wants another thing than to go on.
fn drive(socket: &mut Socket, application: &mut impl Application) -> Result<Next> {
    let mut message = vec![0; MESSAGE_LEN_MAX];
    application.on_open();
    loop {
        socket.has_sent = false;
        let mut has_taken = false;
        for _ in 0..TAKEN_MAX {
            let Some(len) = socket.receive(&mut message)? else { break };
            application.take(&message[..len], socket);
            has_taken = true;
        }
        application.offer(socket);
        match application.next() {
            Next::Go if !has_taken && !socket.has_sent => socket.wait()?,
            Next::Go => {}
            next => return Ok(next),
        }
    }
}

fn check(result: c_int) -> Result<c_int> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: no arguments; the text is a constant of libzmq.
    let text = unsafe { CStr::from_ptr(ffi::zmq_strerror(ffi::zmq_errno())) };
    Err(format!("libzmq: {}", text.to_string_lossy()).into())
}

struct Context(*mut c_void);

impl Context {
    fn open() -> Result<Self> {
        // SAFETY: no arguments. One I/O thread, as by default; it starts on this thread's core.
        let context = unsafe { ffi::zmq_ctx_new() };
        if context.is_null() { Err("libzmq has no context".into()) } else { Ok(Self(context)) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it is ours, and its sockets are dropped before: they were opened later.
        unsafe { ffi::zmq_ctx_term(self.0) };
    }
}

struct Socket {
    raw: *mut c_void,
    /// Whom a router answers: who sent the last message. Others need no name.
    identity: Option<Vec<u8>>,
    /// Whether a message was taken in this turn, and whether none is now.
    has_sent: bool,
    is_full: bool,
}

impl Socket {
    fn open(context: &Context, kind: c_int) -> Result<Self> {
        // SAFETY: the context lives.
        let raw = unsafe { ffi::zmq_socket(context.0, kind) };
        if raw.is_null() {
            return Err("libzmq has no socket".into());
        }
        Ok(Self { raw, identity: None, has_sent: false, is_full: false })
    }

    fn set(&self, option: c_int, value: &c_int) -> Result<()> {
        let value: *const c_int = value;
        // SAFETY: libzmq reads one `int`.
        check(unsafe { ffi::zmq_setsockopt(self.raw, option, value.cast(), size_of::<c_int>()) })?;
        Ok(())
    }

    fn set_key(&self, option: c_int, key: &Key) -> Result<()> {
        // SAFETY: libzmq reads the 41 bytes.
        check(unsafe { ffi::zmq_setsockopt(self.raw, option, key.as_ptr().cast(), KEY_LEN) })?;
        Ok(())
    }

    fn bind(&self) -> Result<SocketAddr> {
        let (mut text, mut len) = ([0_u8; 64], 64_usize);
        // SAFETY: the string ends; libzmq writes at most `len` bytes of text, and its length.
        unsafe {
            check(ffi::zmq_bind(self.raw, c"tcp://127.0.0.1:*".as_ptr()))?;
            let option = ffi::ZMQ_LAST_ENDPOINT;
            check(ffi::zmq_getsockopt(self.raw, option, text.as_mut_ptr().cast(), &raw mut len))?;
        }
        let text = CStr::from_bytes_until_nul(&text)?.to_str()?;
        Ok(text.trim_start_matches("tcp://").parse()?)
    }

    fn connect(&self, to: SocketAddr) -> Result<()> {
        let endpoint = CString::new(format!("tcp://{to}"))?;
        // SAFETY: the string ends and outlives the call.
        check(unsafe { ffi::zmq_connect(self.raw, endpoint.as_ptr()) })?;
        Ok(())
    }

    /// Takes a message, if there is one. A router's comes behind the name of its sender.
    fn receive(&mut self, message: &mut [u8]) -> Result<Option<usize>> {
        if let Some(mut identity) = self.identity.take() {
            identity.resize(IDENTITY_LEN_MAX, 0);
            let len = self.receive_part(&mut identity)?;
            identity.truncate(len.unwrap_or(0));
            self.identity = Some(identity);
            if len.is_none() {
                return Ok(None);
            }
        }
        self.receive_part(message)
    }

    fn receive_part(&self, room: &mut [u8]) -> Result<Option<usize>> {
        // SAFETY: libzmq writes at most `len` bytes into the room.
        let len = unsafe {
            ffi::zmq_recv(self.raw, room.as_mut_ptr().cast(), room.len(), ffi::ZMQ_DONTWAIT)
        };
        // SAFETY: no arguments.
        if len < 0 && unsafe { ffi::zmq_errno() } == libc::EAGAIN {
            return Ok(None);
        }
        Ok(Some(usize::try_from(check(len)?)?))
    }

    /// Whether it took the part. What went wrong with it shows as a message that did not come.
    fn send_part(&self, part: &[u8], flags: c_int) -> bool {
        let flags = flags | ffi::ZMQ_DONTWAIT;
        // SAFETY: libzmq copies `len` bytes.
        unsafe { ffi::zmq_send(self.raw, part.as_ptr().cast(), part.len(), flags) >= 0 }
    }

    /// Sleeps until something comes, or there is room if there was none.
    fn wait(&mut self) -> Result<()> {
        let is_full = std::mem::take(&mut self.is_full);
        let events = if is_full { ffi::ZMQ_POLLIN | ffi::ZMQ_POLLOUT } else { ffi::ZMQ_POLLIN };
        let mut item = ffi::PollItem { socket: self.raw, fd: 0, events, revents: 0 };
        // SAFETY: one item of ours, which outlives the call.
        check(unsafe { ffi::zmq_poll(&raw mut item, 1, NAP_MS) })?;
        Ok(())
    }
}

impl Outbox for Socket {
    fn send(&mut self, message: &[u8]) -> bool {
        let is_named = self
            .identity
            .as_ref()
            .is_none_or(|identity| self.send_part(identity, ffi::ZMQ_SNDMORE));
        let is_taken = is_named && self.send_part(message, 0);
        self.has_sent |= is_taken;
        self.is_full = !is_taken;
        is_taken
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: it is ours and not used any more.
        unsafe { ffi::zmq_close(self.raw) };
    }
}

/// What of `zmq.h` is used.
mod ffi {
    use super::{c_char, c_int, c_long, c_short, c_void};

    pub(super) const ZMQ_DEALER: c_int = 5;
    pub(super) const ZMQ_ROUTER: c_int = 6;
    pub(super) const ZMQ_LINGER: c_int = 17;
    pub(super) const ZMQ_SNDHWM: c_int = 23;
    pub(super) const ZMQ_RCVHWM: c_int = 24;
    pub(super) const ZMQ_LAST_ENDPOINT: c_int = 32;
    pub(super) const ZMQ_CURVE_SERVER: c_int = 47;
    pub(super) const ZMQ_CURVE_PUBLICKEY: c_int = 48;
    pub(super) const ZMQ_CURVE_SECRETKEY: c_int = 49;
    pub(super) const ZMQ_CURVE_SERVERKEY: c_int = 50;
    pub(super) const ZMQ_DONTWAIT: c_int = 1;
    pub(super) const ZMQ_SNDMORE: c_int = 2;
    pub(super) const ZMQ_POLLIN: c_short = 1;
    pub(super) const ZMQ_POLLOUT: c_short = 2;

    #[repr(C)]
    pub(super) struct PollItem {
        pub(super) socket: *mut c_void,
        pub(super) fd: c_int,
        pub(super) events: c_short,
        pub(super) revents: c_short,
    }

    unsafe extern "C" {
        pub(super) fn zmq_bind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
        pub(super) fn zmq_close(socket: *mut c_void) -> c_int;
        pub(super) fn zmq_connect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
        pub(super) fn zmq_ctx_new() -> *mut c_void;
        pub(super) fn zmq_ctx_term(context: *mut c_void) -> c_int;
        pub(super) fn zmq_curve_keypair(public: *mut c_char, secret: *mut c_char) -> c_int;
        pub(super) fn zmq_errno() -> c_int;
        pub(super) fn zmq_getsockopt(
            socket: *mut c_void,
            option: c_int,
            value: *mut c_void,
            len: *mut usize,
        ) -> c_int;
        pub(super) fn zmq_poll(items: *mut PollItem, count: c_int, timeout: c_long) -> c_int;
        pub(super) fn zmq_recv(
            socket: *mut c_void,
            room: *mut c_void,
            len: usize,
            flags: c_int,
        ) -> c_int;
        pub(super) fn zmq_send(
            socket: *mut c_void,
            part: *const c_void,
            len: usize,
            flags: c_int,
        ) -> c_int;
        pub(super) fn zmq_setsockopt(
            socket: *mut c_void,
            option: c_int,
            value: *const c_void,
            len: usize,
        ) -> c_int;
        pub(super) fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
        pub(super) fn zmq_strerror(number: c_int) -> *const c_char;
    }
}
