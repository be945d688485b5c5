//! Aeron over UDP by the `rusteron` crates, which build its C client and its C media driver. Not
//! encrypted.
//!
//! A media driver of its own on each side, run by the side's thread between two looks at the
//! client (threading mode *invoker*), so that each side has one core, as all have. Exclusive
//! publications, MTU of 1408 B; *jumbo* has the largest that Aeron takes. Terms of 16 MiB, socket
//! buffers of 4 MiB, a receiver window of half of that, 16
//! datagrams a system call. Replies come on a second channel. A
//! publication has no handshake that a request could wait for.

use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use rusteron_client::{
    Aeron, AeronContext, AeronExclusivePublication, AeronFragmentClosureAssembler, AeronHeader,
    AeronSubscription, Handlers,
};
use rusteron_media_driver::bindings::aeron_threading_mode_t;
use rusteron_media_driver::{AeronDriver, AeronDriverContext};

use super::{Entry, udp};
use crate::link::{Application, Next, Outbox, Peer, Result, Wait};
use crate::run::run;
use crate::workload::Workload;

/// Bytes of a UDP payload: as by default, and the largest.
const MTU: usize = 1_408;
const MTU_MAX: usize = 65_504;
const TERM_LEN: usize = 16 << 20;
const SOCKET_BUFFER_LEN: usize = 4 << 20;
const WINDOW_LEN: usize = SOCKET_BUFFER_LEN / 2;
/// Datagrams of one system call.
const DATAGRAMS_MAX: u32 = 16;
/// Fragments taken in a turn.
const FRAGMENTS_MAX: usize = 256;
const STREAM: i32 = 7;

pub(super) fn entries() -> Vec<Entry> {
    let excuse = |workload| {
        (workload == Workload::Connect).then_some("not measured here: it has no handshake")
    };
    vec![
        Entry {
            name: "aeron",
            settings: "exclusive publications over UDP, MTU 1408 B, not encrypted",
            is_encrypted: false,
            excuse,
            run: |workload, seconds| run(&AeronPeer::new(workload, MTU)?, workload, seconds, true),
        },
        Entry {
            name: "aeron jumbo",
            settings: "exclusive publications over UDP, MTU 65504 B, not encrypted",
            is_encrypted: false,
            excuse,
            run: |workload, seconds| {
                run(&AeronPeer::new(workload, MTU_MAX)?, workload, seconds, true)
            },
        },
    ]
}

struct AeronPeer {
    mtu: usize,
    /// Where replies go, if there are any.
    replies: Option<SocketAddr>,
}

impl AeronPeer {
    fn new(workload: Workload, mtu: usize) -> Result<Self> {
        let is_request = matches!(workload, Workload::Request { .. });
        let replies = is_request.then(free_address).transpose()?;
        Ok(Self { mtu, replies })
    }

    /// Runs one side to its end: it hears at one address and speaks to another.
    fn drive<A: Application>(
        &self,
        hears: Option<SocketAddr>,
        speaks: Option<SocketAddr>,
        is_initiator: bool,
        wait: Wait,
        mut application: A,
    ) -> Result<A> {
        let side = Side::start(self.mtu)?;
        let mut assembler = AeronFragmentClosureAssembler::new()?;
        let subscription = hears.map(|address| side.subscribe(address)).transpose()?;
        let mut outbox = Publication(speaks.map(|address| side.publish(address)).transpose()?);
        application.on_open();
        loop {
            let mut work = side.work()?;
            if let Some(subscription) = &subscription {
                let mut taking = (&mut application, &mut outbox);
                work += assembler.poll(subscription, &mut taking, take::<A>, FRAGMENTS_MAX)?;
            }
            // A request before the way back is there would have no reply.
            if is_initiator && subscription.as_ref().is_none_or(AeronSubscription::is_connected) {
                application.offer(&mut outbox);
            }
            if application.next() == Next::Stop {
                return Ok(application);
            }
            if work == 0 && wait == Wait::Sleep {
                // Its driver cannot sleep in the kernel.
                thread::yield_now();
            }
        }
    }
}

fn take<A: Application>(
    (application, outbox): &mut (&mut A, &mut Publication),
    message: &[u8],
    _: AeronHeader,
) {
    application.take(message, *outbox);
}

impl Peer for AeronPeer {
    fn respond<A: Application>(
        &self,
        wait: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        application: A,
    ) -> Result<A> {
        let address = free_address()?;
        announce(address);
        self.drive(Some(address), self.replies, false, wait, application)
    }

    fn initiate<A: Application>(&self, wait: Wait, to: SocketAddr, application: A) -> Result<A> {
        self.drive(self.replies, Some(to), true, wait, application)
    }
}

/// An address whose port nobody has now.
fn free_address() -> Result<SocketAddr> {
    Ok(udp::bind()?.local_addr()?)
}

/// A side's own media driver with its client; the client ends first.
struct Side {
    client: Aeron,
    driver: AeronDriver,
}

impl Side {
    fn start(mtu: usize) -> Result<Self> {
        let context = AeronDriverContext::new()?;
        let thread = thread::current().id();
        let dir = format!("/dev/shm/raet-peers-{}-{thread:?}", std::process::id());
        let dir = CString::new(dir)?;
        context.set_dir(&dir)?;
        context.set_dir_delete_on_start(true)?;
        context.set_dir_delete_on_shutdown(true)?;
        context.set_threading_mode(aeron_threading_mode_t::AERON_THREADING_MODE_INVOKER)?;
        context.set_mtu_length(mtu)?;
        context.set_term_buffer_length(TERM_LEN)?;
        context.set_socket_so_rcvbuf(SOCKET_BUFFER_LEN)?;
        context.set_socket_so_sndbuf(SOCKET_BUFFER_LEN)?;
        context.set_rcv_initial_window_length(WINDOW_LEN)?;
        context.set_network_publication_max_messages_per_send(DATAGRAMS_MAX)?;
        context.set_sender_io_vector_capacity(DATAGRAMS_MAX)?;
        context.set_receiver_io_vector_capacity(DATAGRAMS_MAX)?;
        let driver = AeronDriver::new(&context)?;
        driver.start(true)?;
        let context = AeronContext::new()?;
        context.set_dir(&dir)?;
        context.set_use_conductor_agent_invoker(true)?;
        let client = Aeron::new(&context)?;
        client.start()?;
        Ok(Self { client, driver })
    }

    /// One duty cycle of both.
    fn work(&self) -> Result<i32> {
        Ok(self.driver.main_do_work()? + self.client.main_do_work()?)
    }

    fn publish(&self, to: SocketAddr) -> Result<AeronExclusivePublication> {
        let publication = self.client.async_add_exclusive_publication(&channel(to)?, STREAM)?;
        loop {
            self.work()?;
            if let Some(publication) = publication.poll()? {
                return Ok(publication);
            }
        }
    }

    fn subscribe(&self, at: SocketAddr) -> Result<AeronSubscription> {
        let (image, gone) = (Handlers::NONE, Handlers::NONE);
        let subscription =
            self.client.async_add_subscription(&channel(at)?, STREAM, image, gone)?;
        loop {
            self.work()?;
            if let Some(subscription) = subscription.poll()? {
                return Ok(subscription);
            }
        }
    }
}

fn channel(endpoint: SocketAddr) -> Result<CString> {
    debug_assert_eq!(endpoint.ip(), Ipv4Addr::LOCALHOST);
    Ok(CString::new(format!("aeron:udp?endpoint={endpoint}"))?)
}

/// Messages become offers; before there is somebody to hear them, none is taken.
struct Publication(Option<AeronExclusivePublication>);

impl Outbox for Publication {
    fn send(&mut self, message: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|publication| publication.offer(message).is_ok())
    }
}
