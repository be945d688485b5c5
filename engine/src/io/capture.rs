//! A driver that wraps a driver and writes what passes to a pcapng file, for Wireshark.
//!
//! Datagrams are written in both directions, trains taken apart, each with the IP and UDP header
//! that it has or might have had on the wire. A capture never disturbs what it watches: when the
//! file cannot be written the capture ends, and the datagrams go on.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::{Driver, DriverCounters, Waker};
use crate::buffer::{Ecn, Received, Transmit};
use crate::time::{Duration, Instant};

const UDP: u8 = 17;

/// A driver whose datagrams are written to `W`.
#[derive(Debug)]
pub struct Captured<D, W> {
    inner: D,
    local: SocketAddr,
    /// Unix time at the origin of the driver's clock.
    epoch: Duration,
    /// The clock at the last wait.
    now: Instant,
    /// Where blocks are put together.
    block: Vec<u8>,
    output: Result<W, io::Error>,
}

/// Which way a datagram went, as pcapng numbers it.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Inbound = 1,
    Outbound = 2,
}

impl<D: Driver, W: Write> Captured<D, W> {
    /// Wraps `inner`, which is bound to `local`, and begins the file. `epoch` is the Unix time at
    /// the origin of the driver's clock: [`unix_epoch`] for a kernel driver, zero for a simulated
    /// network.
    ///
    /// # Errors
    /// The output's.
    pub fn new(inner: D, local: SocketAddr, epoch: Duration, mut output: W) -> io::Result<Self> {
        let mut start = Vec::with_capacity(64);
        // Section header: byte order, version 1.0, length not known.
        block(&mut start, 0x0a0d_0d0a, |body| {
            body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
            body.extend_from_slice(&1_u16.to_le_bytes());
            body.extend_from_slice(&0_u16.to_le_bytes());
            body.extend_from_slice(&u64::MAX.to_le_bytes());
        });
        // Interface: packets begin with their IP header (LINKTYPE_RAW), whole, in nanoseconds.
        block(&mut start, 1, |body| {
            body.extend_from_slice(&101_u16.to_le_bytes());
            body.extend_from_slice(&[0; 6]);
            body.extend_from_slice(&[9, 0, 1, 0, 9, 0, 0, 0]);
            body.extend_from_slice(&[0; 4]);
        });
        output.write_all(&start)?;
        let now = inner.now();
        Ok(Self { inner, local, epoch, now, block: start, output: Ok(output) })
    }

    /// Why the capture ended early, if it did.
    pub fn error(&self) -> Option<&io::Error> {
        self.output.as_ref().err()
    }

    /// The driver inside.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    fn write(&mut self, direction: Direction, peer: SocketAddr, ecn: Ecn, datagram: &[u8]) {
        let Ok(output) = &mut self.output else { return };
        let (from, to) = match direction {
            Direction::Inbound => (peer, self.local),
            Direction::Outbound => (self.local, peer),
        };
        let time = (self.now + self.epoch).as_nanos();
        let (high, low) = (time >> 32, time & 0xffff_ffff);
        self.block.clear();
        block(&mut self.block, 6, |body| {
            body.extend_from_slice(&0_u32.to_le_bytes());
            for half in [high, low] {
                let half = u32::try_from(half).expect("half of 64 bits");
                body.extend_from_slice(&half.to_le_bytes());
            }
            let lengths = body.len();
            body.extend_from_slice(&[0; 8]);
            write_headers(body, from, to, ecn, datagram);
            body.extend_from_slice(datagram);
            let len = body.len() - lengths - 8;
            let len = u32::try_from(len).expect("a datagram and its headers fit").to_le_bytes();
            body[lengths..lengths + 4].copy_from_slice(&len);
            body[lengths + 4..lengths + 8].copy_from_slice(&len);
            pad(body);
            body.extend_from_slice(&[2, 0, 4, 0, direction as u8, 0, 0, 0]);
            body.extend_from_slice(&[0; 4]);
        });
        if let Err(error) = output.write_all(&self.block) {
            self.output = Err(error);
        }
    }
}

impl<D: Driver, W: Write> Driver for Captured<D, W> {
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Instant> {
        self.now = self.inner.wait(deadline)?;
        Ok(self.now)
    }

    fn receive(&mut self) -> Option<Received> {
        let received = self.inner.receive()?;
        if received.lease.is_empty() {
            self.write(Direction::Inbound, received.from, received.ecn, &[]);
        }
        for datagram in received.lease.chunks(received.segment_len) {
            self.write(Direction::Inbound, received.from, received.ecn, datagram);
        }
        Some(received)
    }

    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        let (all, ecn, to) = (transmit.part(0, usize::MAX), transmit.ecn, transmit.to);
        let refused = self.inner.transmit(transmit).err();
        let taken = all.datagrams() - refused.as_ref().map_or(0, Transmit::datagrams);
        for place in 0..taken {
            self.write(Direction::Outbound, to, ecn, &all.part(place, 1).lease);
        }
        refused.map_or(Ok(()), Err)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }

    fn counters(&self) -> DriverCounters {
        self.inner.counters()
    }
}

/// The Unix time at the origin of a clock that shows `now`.
pub fn unix_epoch(now: Instant) -> Duration {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Duration::from(since).saturating_sub(now.saturating_since(Instant::ZERO))
}

/// Writes one pcapng block: its type, its length, the body, its length again.
fn block(bytes: &mut Vec<u8>, kind: u32, write_body: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    write_body(bytes);
    let len = u32::try_from(bytes.len() + 4 - start).expect("blocks are short").to_le_bytes();
    bytes[start + 4..start + 8].copy_from_slice(&len);
    bytes.extend_from_slice(&len);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Writes the IP header (RFC 791, RFC 8200) and the UDP header (RFC 768).
fn write_headers(bytes: &mut Vec<u8>, from: SocketAddr, to: SocketAddr, ecn: Ecn, datagram: &[u8]) {
    let udp_len = u16::try_from(datagram.len() + 8).unwrap_or(u16::MAX).to_be_bytes();
    let start = bytes.len();
    let addresses = if let (IpAddr::V4(from), IpAddr::V4(to)) = (from.ip(), to.ip()) {
        let total = u16::try_from(datagram.len() + 28).unwrap_or(u16::MAX).to_be_bytes();
        // Version and length, mark, length, no id, do not fragment, 64 hops.
        let head = [0x45, ecn as u8, total[0], total[1], 0, 0, 0x40, 0, 64, UDP, 0, 0];
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&from.octets());
        bytes.extend_from_slice(&to.octets());
        let sum = checksum(0, &bytes[start..]).to_be_bytes();
        bytes[start + 10..start + 12].copy_from_slice(&sum);
        start + 12..start + 20
    } else {
        bytes.extend_from_slice(&[0x60, (ecn as u8) << 4, 0, 0, udp_len[0], udp_len[1], UDP, 64]);
        for address in [from.ip(), to.ip()] {
            let address = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            bytes.extend_from_slice(&address.octets());
        }
        start + 8..start + 40
    };
    let udp = bytes.len();
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&udp_len);
    bytes.extend_from_slice(&[0; 2]);
    let pseudo = sum(&bytes[addresses]) + sum(&bytes[udp..]) + sum(&udp_len) + u64::from(UDP);
    let check = match checksum(pseudo, datagram) {
        0 => u16::MAX,
        check => check,
    };
    bytes[udp + 6..udp + 8].copy_from_slice(&check.to_be_bytes());
}

/// The Internet checksum (RFC 1071) of `bytes` on top of `start`.
fn checksum(start: u64, bytes: &[u8]) -> u16 {
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).expect("folded to 16 bits")
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::io::random::Chance;
    use crate::io::sim::{Faults, SimNetwork};

    /// Type and body of each block of a file; both lengths are checked.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let len = usize::try_from(word(&file[4..])).unwrap();
            assert_eq!(len % 4, 0);
            assert_eq!(word(&file[len - 4..]) as usize, len);
            blocks.push((word(file), file[8..len - 4].to_vec()));
            file = &file[len..];
        }
        blocks
    }

    fn exchange(one: &str, two: &str) -> Vec<(u32, Vec<u8>)> {
        let (one, two): (SocketAddr, SocketAddr) = (one.parse().unwrap(), two.parse().unwrap());
        let network = SimNetwork::new(1, Faults { train: Chance::ALWAYS, ..Faults::NONE });
        let pool = Pool::new(8, 64).unwrap();
        let mut file = Vec::new();
        let inner = network.open(one, pool.clone());
        let mut watched = Captured::new(inner, one, Duration::ZERO, &mut file).unwrap();
        let mut other = network.open(two, pool.clone());
        let send = |driver: &mut dyn Driver, to, bytes: &[u8]| {
            let mut lease = pool.take().unwrap().narrow(0..bytes.len());
            lease.get_mut().unwrap().copy_from_slice(bytes);
            driver.transmit(Transmit::single(to, Ecn::Ect0, lease)).unwrap();
        };
        send(&mut watched, two, b"ping!");
        watched.wait(None).unwrap();
        send(&mut other, one, b"pong");
        send(&mut other, one, b"pon");
        other.wait(None).unwrap();
        network.advance_to(network.next_event().unwrap());
        watched.wait(None).unwrap();
        assert_eq!(watched.receive().unwrap().datagrams(), 2);
        assert!(watched.error().is_none());
        drop(watched);
        blocks(&file)
    }

    #[test]
    fn both_directions_are_written_with_addresses_and_times() {
        let blocks = exchange("10.0.0.1:1000", "10.0.0.2:2000");
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 6, 6]);
        let expected = [
            (1_000_000_000_u64, [10, 0, 0, 1], 1000_u16, &b"ping!"[..], 2_u8),
            (1_000_050_000, [10, 0, 0, 2], 2000, b"pong", 1),
            (1_000_050_000, [10, 0, 0, 2], 2000, b"pon", 1),
        ];
        for ((_, body), (time, source, port, payload, direction)) in
            blocks[2..].iter().zip(expected)
        {
            let high = u64::from(u32::from_le_bytes(body[4..8].try_into().unwrap()));
            let low = u64::from(u32::from_le_bytes(body[8..12].try_into().unwrap()));
            assert_eq!(high << 32 | low, time);
            let len =
                usize::try_from(u32::from_le_bytes(body[12..16].try_into().unwrap())).unwrap();
            let packet = &body[20..20 + len];
            assert_eq!(packet[1], 0b10, "ECT(0)");
            assert_eq!(packet[12..16], source);
            assert_eq!(packet[20..22], port.to_be_bytes());
            assert_eq!(&packet[28..], payload);
            assert_eq!(checksum(0, &packet[..20]), 0, "IP checksum");
            let pseudo = sum(&packet[12..20]) + u64::from(UDP) + (packet.len() - 20) as u64;
            assert_eq!(checksum(pseudo, &packet[20..]), 0, "UDP checksum");
            assert_eq!(body[(20 + len).next_multiple_of(4)..][..5], [2, 0, 4, 0, direction]);
        }
    }

    #[test]
    fn ipv6_checksums_hold_too() {
        for (_, body) in &exchange("[fd00::1]:1000", "[fd00::2]:2000")[2..] {
            let len =
                usize::try_from(u32::from_le_bytes(body[12..16].try_into().unwrap())).unwrap();
            let packet = &body[20..20 + len];
            assert_eq!(packet[..2], [0x60, 0b10_0000], "ECT(0)");
            let pseudo = sum(&packet[8..40]) + u64::from(UDP) + (packet.len() - 40) as u64;
            assert_eq!(checksum(pseudo, &packet[40..]), 0, "UDP checksum");
        }
    }

    #[test]
    fn full_disk_ends_the_capture_and_not_the_traffic() {
        let network = SimNetwork::new(1, Faults::NONE);
        let pool = Pool::new(2, 64).unwrap();
        let local: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let mut room = [0; 80];
        let inner = network.open(local, pool.clone());
        let mut watched = Captured::new(inner, local, Duration::ZERO, room.as_mut_slice()).unwrap();
        let lease = pool.take().unwrap();
        assert!(watched.transmit(Transmit::single(local, Ecn::NotEct, lease)).is_ok());
        watched.wait(None).unwrap();
        assert!(watched.error().is_some());
        network.advance_to(network.next_event().unwrap());
        assert!(watched.receive().is_some());
    }
}
