//! The whole protocol in memory: two endpoints, no kernel, every packet sealed and opened.
//!
//! One round sends a batch of messages from one endpoint to the other and ends when every send
//! has its outcome; criterion's throughput line divides it into messages.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raet::protocol::crypto::Suite;
use raet::protocol::session::{Mode, Offer};
use raet::protocol::wire::ServiceKind;
use raet_bench::memory::Pair;

/// Messages of a round: half a window.
const ROUND: u64 = 2_048;

fn pair(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoint");
    group.throughput(Throughput::Elements(ROUND));
    let cases = [
        ("exactly_once/bundled", ServiceKind::ExactlyOnce, 64, true),
        ("exactly_once/unbundled", ServiceKind::ExactlyOnce, 64, false),
        ("exactly_once/bundled", ServiceKind::ExactlyOnce, 1_200, true),
        ("request/bundled", ServiceKind::Request, 64, true),
        ("request/unbundled", ServiceKind::Request, 64, false),
    ];
    for (name, service, len, bundle) in cases {
        let mut pair = Pair::open(|config| config.bundle = bundle);
        let message = vec![7; len];
        group.bench_function(BenchmarkId::new(name, len), |bencher| {
            bencher.iter(|| pair.round(ROUND, service, &message));
        });
        pair.settle();
    }
    group.finish();
}

/// What protection costs: the same messages in each mode and suite.
fn protection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoint_protection");
    group.throughput(Throughput::Elements(ROUND));
    let cases = [
        ("sealed_aes256gcm", Suite::Aes256Gcm, Mode::Sealed),
        ("sealed_chacha20", Suite::ChaCha20Poly1305, Mode::Sealed),
        ("signed_aes256gcm", Suite::Aes256Gcm, Mode::Signed),
        ("plain", Suite::Aes256Gcm, Mode::Plain),
    ];
    for (name, suite, mode) in cases {
        let mut pair = Pair::open(|config| config.offer = Offer::new(&[suite], &[mode]));
        group.bench_function(BenchmarkId::new(name, 64), |bencher| {
            bencher.iter(|| pair.round(ROUND, ServiceKind::ExactlyOnce, &[7; 64]));
        });
        pair.settle();
    }
    group.finish();
}

criterion_group!(benches, pair, protection);
criterion_main!(benches);
