//! Any bytes on a connection, received into a tensor or not, under strict and loose limits, are messages, or end it.
#![no_main]

use std::os::fd::AsRawFd;

use ipc::error::Result;
use ipc::sys::socket::{self, Address, Region};
use ipc::tensor::{DType, Tensor};
use ipc::transport::{Connection, Policy, Stream, Target};
use ipc::wait::{Cancel, Deadline, Interrupt, Wait};
use ipc::wire::Message;
use libfuzzer_sys::fuzz_target;

struct Nobody;

impl Interrupt for Nobody {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }

    fn cancel(&self) -> Option<&Cancel> {
        None
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let (near, far) = socket::pair().expect("two descriptors");
    let policy =
        Policy { max_message: if how & 1 == 0 { 1 << 30 } else { 100 }, functions: how & 2 != 0, ..Policy::default() };
    let stream =
        Stream::new(near, &Address::Unix(Default::default()), "the fuzzer".into(), policy, None).expect("a connection");
    // As much as the socket takes without anybody reading, then the end.
    // SAFETY: a slice, for the length of the call.
    let _ = unsafe { socket::send(far.as_raw_fd(), &[Region::of(rest)]) };
    drop(far);

    let mine = Tensor::zeros(DType::Float, &[2, 3]).expect("a small tensor");
    let into = (how & 4 != 0).then_some(Target::Tensor(&mine));
    let mut message = Message::default();
    // Errors of one message leave the stream in step; the end does not.
    for _ in 0..1000 {
        let wait = Wait { deadline: Deadline::now(), interrupt: &Nobody };
        let _ = stream.recv_before(into, &mut message, &wait);
        if !stream.is_open() {
            break;
        }
    }
});
