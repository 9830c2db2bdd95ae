//! Any bytes before a connection are a hello, or refused with an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipc::peer::fuzz_hello(bytes));
