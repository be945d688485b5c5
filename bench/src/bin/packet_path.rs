//! The packet path without a protocol: what the engine could reach if nothing had to be promised.
//!
//! A sender packs numbered messages into packets, puts a head before them that differs from the
//! last one in its digits only, seals them and sends them as trains; a receiver takes the trains,
//! compares heads, opens, and walks the messages. No acknowledgement, no state a message, nothing
//! is sent again. The shape of a packet is the engine's: head, block, body.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use clap::{Parser, ValueEnum};
use raet::buffer::{Ecn, Pool, Received, Transmit};
use raet::io::Driver;
use raet::io::kernel::IoChoice;
use raet::io::probe::Probe;
use raet::limits::{HEAD_EMIT_LEN_MAX, RECEIVE_BUFFER_LEN, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX};
use raet::protocol::crypto::{MATERIAL_LEN, PacketKey, Suite, TAG_LEN};
use raet::protocol::wire::{AuthKind, BodyKind, Head, ServiceKind, bundle, encode};
use raet::time::{Duration, Instant};
use raet_bench::pair::{Role, Shared, Sides, Span, Window, with_driver};

/// Measures packing, sealing, sending, receiving and opening on loopback, and nothing else.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Driver: auto, uring or mmsg.
    #[arg(long, default_value = "auto")]
    io: IoChoice,
    /// Bytes of a message, 8 to 60000.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Bytes of a datagram at most.
    #[arg(long, default_value_t = 1400)]
    datagram: usize,
    /// One message a packet.
    #[arg(long)]
    single: bool,
    /// Cipher.
    #[arg(long, default_value = "aes256gcm")]
    cipher: Cipher,
    /// How long to measure, after a tenth of that to warm up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Cores of sender and receiver, as 0,1.
    #[arg(long, value_delimiter = ',')]
    pin: Vec<usize>,
    /// Both ends on one thread, on the first core.
    #[arg(long)]
    one_thread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cipher {
    None,
    #[cfg(feature = "aegis")]
    Aegis128l,
    Aes256gcm,
    Chacha20,
}

/// A packet's number and tag, as in a sealed session.
const NUMBERS_LEN: usize = 12;
const BLOCK_LEN: usize = NUMBERS_LEN + TAG_LEN;
/// The first transaction: from here on the number has as many digits for as long as we measure.
const FIRST: u64 = 1 << 36;
const DIGITS: usize = 10;

/// What every packet looks like.
struct Shape {
    head: Vec<u8>,
    /// Where the digits of the transaction stand in the head.
    digits: Range<usize>,
    message_len: usize,
    messages: u64,
    packet_len: usize,
    key: Option<PacketKey>,
}

impl Shape {
    fn of(arguments: &Arguments) -> Result<Self, String> {
        let head = |body_len: usize| Head {
            session: 0x0123_4567_89ab_cdef,
            transaction: FIRST,
            service: ServiceKind::ExactlyOnce,
            auth: AuthKind::Aead,
            body: if arguments.single { BodyKind::Raw } else { BodyKind::Bundle },
            body_len: u32::try_from(body_len).expect("a datagram"),
            ..Head::default()
        };
        let written = |body_len| {
            let mut before = [0; HEAD_EMIT_LEN_MAX];
            let len = encode(&head(body_len), &mut before);
            before[HEAD_EMIT_LEN_MAX - len..].to_vec()
        };
        let framed =
            if arguments.single { arguments.size } else { bundle::framed_len(arguments.size) };
        let room = arguments.datagram.saturating_sub(written(arguments.datagram).len() + BLOCK_LEN);
        let messages = if arguments.single { room.min(framed) / framed } else { room / framed };
        if messages == 0 {
            return Err("a message does not fit a datagram".to_owned());
        }
        let head = written(messages * framed);
        let text = format!("{FIRST:x}");
        let at = head.windows(DIGITS).position(|window| window == text.as_bytes());
        let at = at.expect("the head names its transaction");
        let suite = match arguments.cipher {
            Cipher::None => None,
            #[cfg(feature = "aegis")]
            Cipher::Aegis128l => Some(Suite::Aegis128L),
            Cipher::Aes256gcm => Some(Suite::Aes256Gcm),
            Cipher::Chacha20 => Some(Suite::ChaCha20Poly1305),
        };
        Ok(Self {
            packet_len: head.len() + BLOCK_LEN + messages * framed,
            head,
            digits: at..at + DIGITS,
            message_len: arguments.size,
            messages: messages as u64,
            key: suite.map(|suite| PacketKey::new(suite, &[7; MATERIAL_LEN])),
        })
    }

    /// Writes packet `number`.
    fn pack(&self, number: u64, packet: &mut [u8], message: &mut [u8]) {
        let head_len = self.head.len();
        let first = FIRST + number * self.messages;
        packet[..head_len].copy_from_slice(&self.head);
        for (place, digit) in packet[self.digits.clone()].iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(first >> (4 * place) & 15) as usize];
        }
        packet[head_len..head_len + 4].fill(0);
        packet[head_len + 4..head_len + NUMBERS_LEN].copy_from_slice(&number.to_be_bytes());
        let (before, body) = packet.split_at_mut(head_len + BLOCK_LEN);
        if body.len() == self.message_len {
            message[..8].copy_from_slice(&first.to_le_bytes());
            body.copy_from_slice(message);
        } else {
            let mut at = 0;
            for transaction in first..first + self.messages {
                message[..8].copy_from_slice(&transaction.to_le_bytes());
                at = bundle::append(body, at, message).expect("counted before");
            }
        }
        if let Some(key) = &self.key {
            let (aad, room) = before.split_at_mut(head_len + NUMBERS_LEN);
            room.copy_from_slice(&key.seal(number, aad, body));
        }
    }

    /// Opens a packet and looks at each message. `false`: it is not what was sent.
    fn open(&self, packet: &mut [u8]) -> bool {
        let head_len = self.head.len();
        let Range { start, end } = self.digits;
        if packet.len() != self.packet_len
            || packet[..start] != self.head[..start]
            || packet[end..head_len] != self.head[end..]
        {
            return false;
        }
        let digits = packet[start..end].iter();
        let first = digits.fold(0, |value, digit| {
            value << 4 | u64::from(if *digit < b'a' { digit - b'0' } else { digit - b'a' + 10 })
        });
        let (before, body) = packet.split_at_mut(head_len + BLOCK_LEN);
        let (aad, tag) = before.split_at(head_len + NUMBERS_LEN);
        let number = aad[head_len + 4..].first_chunk().copied().map(u64::from_be_bytes);
        if let (Some(key), Some(number)) = (&self.key, number) {
            let tag = tag.first_chunk().expect("split so");
            if key.open(number, aad, tag, body).is_err() {
                return false;
            }
        }
        let is_next = |message: &[u8], transaction: u64| {
            message.first_chunk().copied().map(u64::from_le_bytes) == Some(transaction)
        };
        if body.len() == self.message_len {
            return is_next(body, first);
        }
        bundle::count(body).is_ok()
            && bundle::messages(body).zip(first..).all(|(message, number)| is_next(message, number))
    }
}

struct Sending<'a> {
    shape: &'a Shape,
    pool: Pool,
    window: Window,
    message: Vec<u8>,
}

impl<'a> Sending<'a> {
    fn new(shape: &'a Shape, now: Instant) -> Result<Self, String> {
        let pool = Pool::new(64, TRAIN_LEN_MAX.next_multiple_of(64));
        let pool = pool.map_err(|error| error.to_string())?;
        let message = vec![5; shape.message_len];
        Ok(Self { shape, pool, window: Window::new(shape.packet_len, now), message })
    }

    fn turn(&mut self, driver: &mut impl Driver, now: Instant, to: SocketAddr, shared: &Shared) {
        let size = self.shape.packet_len;
        let train = (TRAIN_LEN_MAX / size).clamp(1, TRAIN_SEGMENTS_MAX) as u64;
        let mut room = self.window.room(now, shared);
        while room > 0 {
            let Some(mut lease) = self.pool.take() else { return };
            let count = train.min(room);
            let bytes = lease.get_mut().expect("just taken");
            for (packet, number) in
                bytes.chunks_exact_mut(size).zip(self.window.sent..).take(count as usize)
            {
                self.shape.pack(number, packet, &mut self.message);
            }
            let lease = lease.narrow(0..count as usize * size);
            let train = Transmit { segment_len: size, ..Transmit::single(to, Ecn::Ect0, lease) };
            if driver.transmit(train).is_err() {
                return;
            }
            self.window.sent += count;
            room -= count;
        }
    }
}

/// The receiver's count of packets, and of those that were not what they should be.
#[derive(Default)]
struct Receiving {
    packets: u64,
    wrong: u64,
}

impl Receiving {
    fn turn(&mut self, shape: &Shape, driver: &mut impl Driver, shared: &Shared) {
        let before = self.packets;
        while let Some(Received { mut lease, segment_len, .. }) = driver.receive() {
            let bytes = lease.get_mut().expect("nobody else holds it");
            for packet in bytes.chunks_mut(segment_len) {
                self.wrong += u64::from(!shape.open(packet));
                self.packets += 1;
            }
        }
        if self.packets != before {
            shared.received.store(self.packets, Ordering::Release);
        }
    }
}

struct Sender<'a> {
    shape: &'a Shape,
    shared: &'a Shared,
    to: SocketAddr,
}

impl Role<u64> for Sender<'_> {
    fn run(self, mut driver: impl Driver, _: SocketAddr) -> Result<u64, String> {
        let mut now = driver.now();
        let mut sending = Sending::new(self.shape, now)?;
        while !self.shared.stop.load(Ordering::Relaxed) {
            sending.turn(&mut driver, now, self.to, self.shared);
            now = driver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            while driver.receive().is_some() {}
        }
        Ok(sending.window.abandoned)
    }
}

struct Receiver<'a> {
    shape: &'a Shape,
    shared: &'a Shared,
    length: Duration,
    address: mpsc::Sender<SocketAddr>,
}

/// Packets a second, and how many were wrong.
type Measured = (f64, u64);

impl Role<Measured> for Receiver<'_> {
    fn run(self, mut driver: impl Driver, address: SocketAddr) -> Result<Measured, String> {
        self.address.send(address).map_err(|_| "the sender is gone".to_owned())?;
        let mut span = Span::new(driver.now(), self.length);
        let mut receiving = Receiving::default();
        loop {
            let now = driver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            receiving.turn(self.shape, &mut driver, self.shared);
            if let Some((packets, seconds)) = span.turn(now, receiving.packets) {
                self.shared.stop.store(true, Ordering::Relaxed);
                return Ok((packets as f64 / seconds, receiving.wrong));
            }
        }
    }
}

/// Opens the sender's driver beside the receiver's, and runs both in turn.
struct Both<'a> {
    arguments: &'a Arguments,
    probe: &'a Probe,
    shape: &'a Shape,
}

impl Role<(Measured, u64)> for Both<'_> {
    fn run(self, receiver: impl Driver, to: SocketAddr) -> Result<(Measured, u64), String> {
        let Self { arguments, probe, shape } = self;
        let with = BothOpen { shape, receiver, to, length: arguments.length() };
        with_driver(&arguments.sides(), probe, 0, pool(64)?, with)
    }
}

struct BothOpen<'a, D> {
    shape: &'a Shape,
    receiver: D,
    to: SocketAddr,
    length: Duration,
}

impl<D: Driver> Role<(Measured, u64)> for BothOpen<'_, D> {
    fn run(self, mut sender: impl Driver, _: SocketAddr) -> Result<(Measured, u64), String> {
        let Self { shape, mut receiver, to, length } = self;
        let shared = Shared::default();
        let mut now = sender.now();
        let mut sending = Sending::new(shape, now)?;
        let (mut span, mut receiving) = (Span::new(now, length), Receiving::default());
        loop {
            sending.turn(&mut sender, now, to, &shared);
            now = sender.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            receiver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            receiving.turn(shape, &mut receiver, &shared);
            if let Some((packets, seconds)) = span.turn(now, receiving.packets) {
                let measured = (packets as f64 / seconds, receiving.wrong);
                return Ok((measured, sending.window.abandoned));
            }
        }
    }
}

impl Arguments {
    fn sides(&self) -> Sides {
        Sides { io: self.io, trains: true, cores: self.pin.clone() }
    }

    fn length(&self) -> Duration {
        std::time::Duration::from_secs_f64(self.seconds).into()
    }
}

fn pool(buffers: u32) -> Result<Pool, String> {
    Pool::new(buffers, RECEIVE_BUFFER_LEN).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !(8..=60_000).contains(&arguments.size) {
        return fail("--size has to be from 8 to 60000");
    }
    if !(arguments.seconds > 0.0 && arguments.seconds < 3600.0) {
        return fail("--seconds has to be above 0 and below 3600");
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn fail(error: impl Display) -> ExitCode {
    eprintln!("packet_path: {error}");
    ExitCode::from(2)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let shape = Shape::of(arguments)?;
    let probe = Probe::run();
    let ((packets, wrong), abandoned) = if arguments.one_thread {
        let both = Both { arguments, probe: &probe, shape: &shape };
        with_driver(&arguments.sides(), &probe, 0, pool(256)?, both)?
    } else {
        two_threads(arguments, &probe, &shape)?
    };
    println!(
        "{} {} B, {} a packet of {} B: {:.3} M messages/s, {:.3} M packets/s, {:.0} MB/s; given up {abandoned}",
        arguments.io,
        arguments.size,
        shape.messages,
        shape.packet_len,
        packets * shape.messages as f64 / 1e6,
        packets / 1e6,
        packets * shape.messages as f64 * arguments.size as f64 / 1e6,
    );
    if wrong > 0 {
        return Err(format!("{wrong} packets did not open or were not what was sent"));
    }
    Ok(())
}

fn two_threads(
    arguments: &Arguments,
    probe: &Probe,
    shape: &Shape,
) -> Result<(Measured, u64), String> {
    let shared = &Shared::default();
    let (announce, announced) = mpsc::channel();
    let sides = &arguments.sides();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let length = arguments.length();
            let role = Receiver { shape, shared, length, address: announce };
            with_driver(sides, probe, 1, pool(256)?, role)
        });
        let sender = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the receiver did not start".to_owned())?;
            with_driver(sides, probe, 0, pool(64)?, Sender { shape, shared, to })
        });
        let measured = receiver.join().expect("the receiver does not panic");
        shared.stop.store(true, Ordering::Relaxed);
        let abandoned = sender.join().expect("the sender does not panic")?;
        Ok((measured?, abandoned))
    })
}
