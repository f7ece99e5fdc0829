//! libFuzzer's entry for `clawgate_fuzz::proofs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::proofs(data));
