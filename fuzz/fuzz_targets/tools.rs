//! libFuzzer's entry for `clawgate_fuzz::tools`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| clawgate_fuzz::tools(data));
