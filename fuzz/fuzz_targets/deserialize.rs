//! Any bytes given to `ipc.unmarshal` are a message, or refused with an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = ipc::transport::deserialize(bytes) {
        for number in 0..message.attachments.len().min(3) {
            let _ = ipc::wire::path_to(&message.bytes, number as u32);
        }
        if let Ok(again) = ipc::transport::serialize(&message) {
            let _ = ipc::transport::deserialize(&again);
        }
    }
});
