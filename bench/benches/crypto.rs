//! Packet ciphers alone and as a session uses them, and a whole handshake. Every timed call's
//! result is checked.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raet::limits::HEAD_EMIT_LEN_MAX;
use raet::protocol::crypto::{MATERIAL_LEN, PacketKey, Random, Suite};
use raet::protocol::session::{
    BootId, Established, Identity, Initiator, InitiatorConfig, Mode, Offer, Progress, Protection,
    Responder, ResponderConfig, Trust, TrustPolicy,
};
use raet::protocol::wire::{BodyKind, Head, encode, split};
use raet::time::{Duration, Instant};

const BODIES: [usize; 4] = [64, 256, 1_400, 8_192];
const SUITES: &[Suite] = &[
    #[cfg(feature = "aegis")]
    Suite::Aegis128L,
    Suite::Aes256Gcm,
    Suite::ChaCha20Poly1305,
];

/// The cipher itself, with as much associated data as a head has.
fn key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crypto/key");
    for &suite in SUITES {
        let key = PacketKey::new(suite, &[1; MATERIAL_LEN]);
        for len in BODIES {
            group.throughput(Throughput::Bytes(len as u64));
            let aad = [3; 120];
            let mut body = vec![5; len];
            let tag = key.seal(0, &aad, &mut body);
            let sealed = body.clone();
            group.bench_function(BenchmarkId::new(format!("{suite:?}/seal"), len), |bench| {
                bench.iter(|| {
                    body.fill(5);
                    assert_eq!(key.seal(black_box(0), &aad, &mut body), tag);
                });
            });
            group.bench_function(BenchmarkId::new(format!("{suite:?}/open"), len), |bench| {
                bench.iter(|| {
                    body.copy_from_slice(&sealed);
                    key.open(black_box(0), &aad, &tag, &mut body).expect("our own");
                    assert_eq!(body[len - 1], 5);
                });
            });
            group.bench_function(BenchmarkId::new(format!("{suite:?}/sign"), len), |bench| {
                let all = vec![7; aad.len() + len];
                let tag = key.seal(0, &all, &mut []);
                bench.iter(|| assert_eq!(key.seal(0, black_box(&all), &mut []), tag));
            });
        }
    }
    group.finish();
}

/// What a session adds: block, nonce, window, ratchet bookkeeping.
fn protection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crypto/protection");
    for (suite, mode) in [
        (Suite::Aes256Gcm, Mode::Sealed),
        (Suite::ChaCha20Poly1305, Mode::Sealed),
        (Suite::Aes256Gcm, Mode::Signed),
        (Suite::Aes256Gcm, Mode::Plain),
    ] {
        for len in BODIES {
            let (ours, theirs) = World::new(&Offer::new(&[suite], &[mode])).establish();
            let mut sender = Protection::new(Instant::ZERO, &ours);
            let mut receiver = Protection::new(Instant::ZERO, &theirs);
            let (clear, head_len) = packet(&sender, ours.session, len);
            let name = |what| BenchmarkId::new(format!("{suite:?}/{mode:?}/{what}"), len);
            group.throughput(Throughput::Bytes(len as u64));
            let mut number = 0;
            let mut sealed = clear.clone();
            group.bench_function(name("seal"), |bench| {
                bench.iter(|| {
                    sealed.copy_from_slice(&clear);
                    sender.seal(black_box(number), &mut sealed, head_len);
                    number += 1;
                });
            });
            let parsed = split(&sealed).expect("our own");
            receiver.open(Instant::ZERO, &mut sealed, &parsed).expect("what was sealed opens");
            assert_eq!(sealed[parsed.body()], clear[parsed.body()]);
            group.bench_function(name("open"), |bench| {
                bench.iter_batched_ref(
                    || {
                        let mut sealed = clear.clone();
                        sender.seal(number, &mut sealed, head_len);
                        number += 1;
                        sealed
                    },
                    |sealed| {
                        let opened = receiver.open(Instant::ZERO, sealed, black_box(&parsed));
                        assert!(opened.is_ok());
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// Both sides of a handshake on one thread.
fn handshake(criterion: &mut Criterion) {
    let mut world = World::new(&Offer::default());
    criterion.bench_function("crypto/handshake/both_sides", |bench| {
        bench.iter(|| {
            let (ours, theirs) = world.establish();
            assert_eq!(ours.session, theirs.session);
        });
    });
}

fn packet(protection: &Protection, session: u64, len: usize) -> (Vec<u8>, usize) {
    let head = Head {
        session,
        transaction: 0x1000,
        auth: protection.auth_kind(),
        body: BodyKind::Raw,
        body_len: u32::try_from(len).expect("a datagram's body"),
        tail: protection.tail_kind(),
        ..Head::default()
    };
    let mut before = [0; HEAD_EMIT_LEN_MAX];
    let head_len = encode(&head, &mut before);
    let mut packet = before[HEAD_EMIT_LEN_MAX - head_len..].to_vec();
    packet.resize(head_len + head.auth.len() + len + head.tail.len(), 9);
    (packet, head_len)
}

/// Two nodes and the clock between them.
struct World {
    now: Instant,
    random: Random,
    config: InitiatorConfig,
    responder: Responder,
    trust: Trust,
}

impl World {
    fn new(offer: &Offer) -> Self {
        let mut random = Random::from_seed([1; 32]);
        let [asked, asking]: [_; 2] =
            core::array::from_fn(|_| Arc::new(Identity::generate(&mut random)));
        let boot = BootId::generate(&mut random);
        let config = InitiatorConfig {
            offer: offer.clone(),
            ..InitiatorConfig::new(asking, Some(asked.public()), boot)
        };
        let responder =
            ResponderConfig { offer: offer.clone(), ..ResponderConfig::new(asked, boot) };
        let responder = Responder::new(Instant::ZERO, responder, &mut random);
        let trust = Trust::new(TrustPolicy::Always);
        Self { now: Instant::ZERO, random, config, responder, trust }
    }

    fn establish(&mut self) -> (Established, Established) {
        // Apart far enough not to meet the budgets for strangers.
        self.now += Duration::from_millis(100);
        let from = ([127, 0, 0, 1], 1).into();
        let (mut sent, mut reply) = ([0; 1_200], [0; 1_200]);
        let Self { now, random, config, responder, trust } = self;
        let mut initiator = Initiator::start(*now, config.clone(), random);
        let hello = initiator.poll_transmit(*now, &mut sent).expect("a hello");
        let hello = &sent[..hello];
        let parsed = split(hello).expect("our own");
        let len = responder.handle_hello(*now, from, &parsed, hello, &mut reply).expect("a cookie");
        let parsed = split(&reply[..len]).expect("our own");
        initiator.handle(*now, &parsed, &reply[..len], random).expect("an initiate");
        let initiate = initiator.poll_transmit(*now, &mut sent).expect("an initiate");
        let initiate = &sent[..initiate];
        let parsed = split(initiate).expect("our own");
        let initiated = responder
            .handle_initiate(
                *now,
                from,
                &parsed,
                initiate,
                trust,
                &|_| false,
                &|_| 0,
                random,
                &mut reply,
            )
            .expect("an accept");
        let accept = &reply[..initiated.reply_len];
        let parsed = split(accept).expect("our own");
        match initiator.handle(*now, &parsed, accept, random) {
            Ok(Progress::Established(ours)) => (*ours, *initiated.established.expect("both")),
            other => panic!("not established: {other:?}"),
        }
    }
}

criterion_group!(benches, key, protection, handshake);
criterion_main!(benches);
