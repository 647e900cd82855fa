#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgvol::untrusted::pid_file(data));
