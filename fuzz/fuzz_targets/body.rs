//! libFuzzer's entry for `clawgate_fuzz::body`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::body(data));
