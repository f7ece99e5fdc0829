//! A long job, verified whole, beside the raw cost of its signatures in the same run.
//!
//! The budget: at least 0.8 of (processors x the rate of raw Ed25519 verification).

use std::hint::black_box;

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Options, Verdict, verify};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proof::SigningKey;
use proof::frequent::{Claim, Keyring};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Model calls of the job; two more calls and the seals bring a few signatures more.
const CALLS: usize = 1000;

fn bench(criterion: &mut Criterion) {
    let story = Story::with_model_calls(CALLS);
    let bundle = seal(story.evidence(), &story.keys).to_file();
    let trust = bytes(&story.keys.trust_root());
    let report = verify(&bundle, &trust, &Options::default());
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");

    let mut group = criterion.benchmark_group("verify");
    group.sample_size(20);
    group.throughput(Throughput::Elements(CALLS as u64));
    group.bench_function("bundle of 1000 receipts", |bencher| {
        bencher.iter(|| verify(black_box(&bundle), &trust, &Options::default()));
    });

    let key = SigningKey::from_seed(&[1; 32]);
    let message = [b'x'; 43];
    let signature = key.sign(&message);
    let public = key.public();
    group.bench_function("1000 raw signatures, one thread", |bencher| {
        bencher.iter(|| (0..CALLS).all(|_| public.verify(black_box(&message), &signature)));
    });
    let claim = Claim {
        key: public,
        message: message.to_vec(),
        signature,
    };
    // As they come in a file; by the second round the key's table is there.
    let claims = vec![claim; 16];
    let keys = Keyring::default();
    group.bench_function("1000 signatures of a frequent key, one thread", |bencher| {
        bencher.iter(|| {
            (0..CALLS)
                .step_by(16)
                .all(|_| keys.verify_each(black_box(&claims))[0])
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
