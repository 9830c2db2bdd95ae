//! Any bytes in a file are Torch's records, in either form, or end with an error.
#![no_main]

use ipc::tensor::DType;
use ipc::tensor::t7::{Form, Reader, Record};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let form = if how & 1 == 0 { Form::Binary } else { Form::Ascii };
    let mut reader = Reader::new(bytes, bytes.len() as u64, form);
    while let Ok(record) = reader.record() {
        let Record::Object(index, class) = record else { continue };
        for dtype in (0..=u8::MAX).filter_map(DType::from_code) {
            if class == dtype.storage_class() {
                let Ok(storage) = reader.storage(dtype, index) else { return };
                assert!(storage.len() <= bytes.len());
            } else if class == dtype.tensor_class() {
                let Ok(tensor) = reader.tensor(dtype) else { return };
                // Whatever it says that it has is there. A stride of 0 makes any number of elements.
                if tensor.numel() < 1 << 20 {
                    let _ = tensor.contiguous();
                }
            }
        }
    }
});
