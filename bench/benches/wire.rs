//! Heads, bundles and splitting, each alone. Every timed call's result is checked.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raet::limits::HEAD_EMIT_LEN_MAX;
use raet::protocol::wire::{
    AuthKind, BodyKind, Head, HeadReader, HeadWriter, ServiceKind, bundle, encode, find_end, split,
    split_any,
};

fn head(transaction: u64) -> Head {
    Head {
        session: 0x0123_4567_89ab_cdef,
        transaction,
        service: ServiceKind::ExactlyOnce,
        auth: AuthKind::Aead,
        body: BodyKind::Bundle,
        body_len: 1260,
        ..Head::default()
    }
}

fn datagram(head: &Head) -> Vec<u8> {
    let mut before = [0; HEAD_EMIT_LEN_MAX];
    let len = encode(head, &mut before);
    let mut bytes = before[HEAD_EMIT_LEN_MAX - len..].to_vec();
    bytes.resize(len + head.auth.len() + head.body_len as usize, 0);
    bytes
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/read");
    let datagrams: Vec<_> = (0x10_0000..0x10_0040).map(|ti| datagram(&head(ti))).collect();
    let head_len = split(&datagrams[0]).expect("ours").head_len();
    let expected = head(0x10_0000);

    group.bench_function("find_end", |bench| {
        bench.iter(|| assert_eq!(find_end(black_box(&datagrams[0])), Some(head_len)));
    });
    group.bench_function("split", |bench| {
        let mut turn = 0;
        bench.iter(|| {
            turn = (turn + 1) % datagrams.len();
            let packet = split(black_box(&datagrams[turn])).expect("ours");
            assert_eq!(packet.head.transaction, expected.transaction + turn as u64);
            packet
        });
    });
    group.bench_function("split_predicted", |bench| {
        let (mut reader, mut turn) = (HeadReader::new(), 0);
        bench.iter(|| {
            turn = (turn + 1) % datagrams.len();
            let packet = reader.split(black_box(&datagrams[turn])).expect("ours");
            assert_eq!(packet.head.transaction, expected.transaction + turn as u64);
            packet
        });
    });
    group.bench_function("split_alternating_sessions", |bench| {
        let other = datagram(&Head { session: 1, ..expected });
        let mut reader = HeadReader::new();
        bench.iter(|| {
            let one = reader.split(black_box(&datagrams[0])).expect("ours");
            let two = reader.split(black_box(&other)).expect("ours");
            assert_eq!((one.head.session, two.head.session), (expected.session, 1));
        });
    });
    group.bench_function("split_any", |bench| {
        bench
            .iter(|| assert_eq!(split_any(black_box(&datagrams[0])).expect("ours").head, expected));
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/write");
    let first = head(0x10_0000);
    let head_len = split(&datagram(&first)).expect("ours").head_len();

    group.bench_function("encode", |bench| {
        let (mut before, mut transaction) = ([0; HEAD_EMIT_LEN_MAX], 0x10_0000);
        bench.iter(|| {
            transaction = 0x10_0000 | (transaction + 1) & 0xffff;
            assert_eq!(encode(black_box(&head(transaction)), &mut before), head_len);
        });
        assert!(before.ends_with(b"}\r\n\r\n"));
    });
    group.bench_function("template", |bench| {
        let (mut writer, mut transaction) = (HeadWriter::new(), 0x10_0000);
        let mut before = [0; HEAD_EMIT_LEN_MAX];
        bench.iter(|| {
            transaction = 0x10_0000 | (transaction + 1) & 0xffff;
            assert_eq!(writer.prepare(black_box(&head(transaction))), head_len);
            writer.put(&mut before[..head_len]);
        });
        let mut plain = [0; HEAD_EMIT_LEN_MAX];
        encode(&head(transaction), &mut plain);
        assert!(plain.ends_with(&before[..head_len]));
    });
    group.finish();
}

fn bundles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/bundle");
    let message = [7; 64];
    for body_len in [1260, 60_000] {
        let mut body = vec![0; body_len];
        let count = body_len / bundle::framed_len(message.len());
        let fill = |body: &mut [u8]| {
            let (mut at, mut appended) = (0, 0);
            while let Some(next) = bundle::append(body, at, black_box(&message)) {
                at = next;
                appended += 1;
            }
            assert_eq!(appended, count);
            at
        };
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("append_64_byte_messages_into_{body_len}"), |bench| {
            bench.iter(|| fill(black_box(&mut body)));
        });
        let end = fill(&mut body);
        group.bench_function(format!("iterate_64_byte_messages_of_{body_len}"), |bench| {
            bench.iter(|| {
                let body = black_box(&body[..end]);
                assert_eq!(bundle::count(body).expect("ours") as usize, count);
                let bytes: usize = bundle::messages(body).map(<[u8]>::len).sum();
                assert_eq!(bytes, count * message.len());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, read, write, bundles);
criterion_main!(benches);
