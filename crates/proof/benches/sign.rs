//! What a governed call pays for evidence: one receipt signed, one token verified (once for its
//! life, then found by its hash), and one record read strictly and written canonically.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use proof::receipt::{Binding, GatewayReceipt};
use proof::record::{Body, Caller, Intent, Lane, Record};
use proof::token::{Claims, Scope, UnverifiedToken};
use proof::{Envelope, EnvelopeType, Hash, Json, Numbers, SigningKey, Timestamp, json, token};

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn at() -> Timestamp {
    Timestamp::from_seconds(1_793_491_200)
}

fn claims() -> Claims {
    Claims {
        token_version: "1".to_owned(),
        sub: key().did(),
        aud: "gateway.example".to_owned(),
        scope: vec![Scope::ProxyCall, Scope::TerraformPlan, Scope::ModelCall],
        iat: at().seconds(),
        exp: at().seconds() + 1800,
        policy_hash_b64u: Hash::of(b"contract"),
        mission_id: "job_00000000-0000-7000-8000-000000000001".to_owned(),
        token_scope_hash_b64u: Hash::of(b""),
        jti: "00000000-0000-7000-8000-000000000002".to_owned(),
        cnf: None,
    }
}

fn receipt() -> GatewayReceipt {
    GatewayReceipt {
        receipt_version: "1".to_owned(),
        receipt_id: "rcpt_00000000-0000-7000-8000-000000000003".to_owned(),
        gateway_id: "did:web:gateway.example".to_owned(),
        provider: "openai".to_owned(),
        model: "gpt-5.2".to_owned(),
        request_hash_b64u: Hash::of(b"request"),
        response_hash_b64u: Hash::of(b"response"),
        tokens_input: 812,
        tokens_output: 164,
        latency_ms: 731,
        timestamp: at(),
        binding: Binding {
            run_id: "job_00000000-0000-7000-8000-000000000001".to_owned(),
            event_hash_b64u: Hash::of(b"event"),
            nonce: "job_00000000-0000-7000-8000-000000000001:4".to_owned(),
            policy_hash: Hash::of(b"contract"),
            token_scope_hash_b64u: Some(Hash::of(b"scope")),
        },
        metadata: serde_json::json!({"clawgate": {"ended": "complete", "tokens_derived": false}})
            .into(),
    }
}

fn record() -> Record {
    let object = |value: serde_json::Value| Json::from(value);
    Record {
        job_id: "job_00000000-0000-7000-8000-000000000001"
            .parse()
            .expect("a job id"),
        seq: 4,
        at: at(),
        body: Body::Intent(Box::new(Intent {
            caller: Caller {
                token_hash: Hash::of(b"token").to_hex(),
                agent_did: key().did(),
                holder: "127.0.0.1".to_owned(),
            },
            lane: Lane::Terraform,
            operation: "create-run".to_owned(),
            run_id: None,
            input: object(serde_json::json!({
                "lane": "terraform", "operation": "create-run", "scope": ["tfc:plan"],
                "workspace_id": "ws-staging-app", "run": {"plan_only": false, "variables": []},
            })),
            decision: object(serde_json::json!({"verdict": "allow", "code": "ALLOWED"})),
            policy_hash_b64u: Hash::of(b"contract"),
            request_hash_b64u: Hash::of(b"request"),
            trace_id: None,
            caused_by: None,
        })),
    }
}

fn signatures(criterion: &mut Criterion) {
    let key = key();
    let public = key.public();
    let text = token::sign(claims(), &key).expect("claims can be signed");
    let payload = receipt();
    let mut group = criterion.benchmark_group("sign");
    group.bench_function("a gateway receipt", |bencher| {
        bencher.iter(|| {
            Envelope::sign(
                EnvelopeType::GatewayReceipt,
                black_box(&payload),
                &key,
                at(),
            )
        });
    });
    group.bench_function("43 bytes, the raw signature alone", |bencher| {
        bencher.iter(|| key.sign(black_box(&[b'x'; 43])));
    });
    group.finish();
    criterion.bench_function("read and verify a token", |bencher| {
        bencher.iter(|| {
            let read = UnverifiedToken::parse(black_box(&text)).expect("it is a token");
            read.verify(&public).expect("its signature holds")
        });
    });
}

fn records(criterion: &mut Criterion) {
    let record = record();
    let bytes = record.to_jcs();
    let mut group = criterion.benchmark_group("record");
    group.bench_function("read strictly, write canonically", |bencher| {
        bencher.iter(|| {
            json::parse(black_box(&bytes), Numbers::Integers)
                .expect("it is strict")
                .to_jcs()
        });
    });
    group.bench_function("hash as a leaf of the log", |bencher| {
        bencher.iter(|| black_box(&record).leaf_hash());
    });
    group.finish();
}

criterion_group!(benches, signatures, records);
criterion_main!(benches);
