//! libFuzzer's entry for `clawgate_fuzz::names`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::names(data));
