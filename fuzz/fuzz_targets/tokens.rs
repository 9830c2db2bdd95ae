//! Any bytes of a message are tokens, or end with an error.
#![no_main]

use ipc::wire::{Decoder, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut decoder) = Decoder::new(bytes) else { return };
    let mut left = decoder.remaining();
    while let Ok(token) = decoder.token() {
        match token {
            Token::String(s) | Token::Binary(s) => assert!(s.len() < left),
            Token::Array(n) => assert!(n as usize <= decoder.remaining()),
            Token::Map(n) => assert!(2 * n as usize <= decoder.remaining()),
            Token::Extension(_, n) => {
                assert!(n as usize <= decoder.remaining());
                // Each way of reading what is in it; the first byte of the message says which way to go on.
                let mut copies = [decoder.clone(), decoder.clone(), decoder.clone()];
                let _ = copies[0].payload(n);
                let _ = copies[1].numbered(n);
                let _ = copies[2].boxed(n);
                let way = bytes[0] as usize % 4;
                if way < 3 {
                    decoder = copies[way].clone();
                }
            }
            _ => {}
        }
        assert!(decoder.remaining() < left, "every token takes a byte at least");
        left = decoder.remaining();
    }
    let _ = decoder.finish();
});
