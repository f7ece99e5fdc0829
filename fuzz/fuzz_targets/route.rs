//! libFuzzer's entry for `clawgate_fuzz::route`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::route(data));
