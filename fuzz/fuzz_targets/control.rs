#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgvol::untrusted::control_file(data));
