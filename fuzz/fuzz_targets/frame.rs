//! Any bytes on a connection are messages, or end it with an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipc::transport::fuzz_frames(bytes));
