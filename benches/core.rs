//! The core without Lua: the form of a message, the queue, the kernels. `cargo bench --no-default-features --bench
//! core`.
//!
//! Each kernel stands beside the plain loop or the memcpy that bounds it, in the same run.

// disallowed_types: divan's macro makes them of `args`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_types)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ipc::sync::{Channel, Limits};
use ipc::tensor::{DType, Tensor};
use ipc::wait::{Deadline, Wait};
use ipc::wire::{Decoder, Encoder, Message, Queue};

fn main() {
    divan::main();
}

/// A message like `{ x = 1, y = 2.5, name = 'hello' }`.
fn small_table(bytes: &mut Vec<u8>) {
    let mut out = Encoder::new(bytes);
    let table = out.open_table();
    out.begin_map(table);
    assert!(out.string(b"x"));
    out.integer(1);
    assert!(out.string(b"y"));
    out.float(2.5);
    assert!(out.string(b"name"));
    assert!(out.string(b"hello"));
    out.close_map(table, 3);
}

#[divan::bench]
fn write_a_small_table(bencher: Bencher<'_, '_>) {
    let mut bytes = Vec::new();
    bencher.bench_local(|| {
        bytes.clear();
        small_table(&mut bytes);
        black_box(bytes.len())
    });
}

#[divan::bench]
fn read_a_small_table(bencher: Bencher<'_, '_>) {
    let mut bytes = Vec::new();
    small_table(&mut bytes);
    bencher.bench_local(|| {
        let mut tokens = Decoder::new(black_box(&bytes)).unwrap();
        for _ in 0..7 {
            black_box(tokens.token().unwrap());
        }
    });
}

#[divan::bench]
fn queue_in_and_out(bencher: Bencher<'_, '_>) {
    let queue = Queue::new(None);
    let mut message = Message::default();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        message.clear();
        message.bytes.extend_from_slice(&[0x10, 1]);
        let _ = queue.push_all(std::slice::from_mut(&mut message));
        queue.pop(&mut message)
    });
}

/// Items that cross a channel in one run.
const ITEMS: usize = 100_000;
/// Writers and readers.
const CROWDS: [(usize, usize); 3] = [(1, 1), (1, 4), (4, 1)];

/// How long `ITEMS` take from the writers to the readers, all threads of their own. `write` is told how many to write;
/// when all have, `close` is called; `read` goes on until nothing is left.
fn cross(crowd: (usize, usize), write: impl Fn(usize) + Sync, close: impl FnOnce(), read: impl Fn() + Sync) {
    std::thread::scope(|threads| {
        (0..crowd.1).for_each(|_| drop(threads.spawn(&read)));
        std::thread::scope(|writers| {
            (0..crowd.0).for_each(|_| drop(writers.spawn(|| write(ITEMS / crowd.0))));
        });
        close();
    });
}

fn forever() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

#[divan::bench(args = CROWDS, sample_count = 21)]
fn channel_writers_to_readers(bencher: Bencher<'_, '_>, crowd: (usize, usize)) {
    bencher.counter(ItemsCount::new(ITEMS)).with_inputs(|| Channel::new(Limits::default())).bench_refs(|channel| {
        let write = |count| {
            let mut message = Message::default();
            for _ in 0..count {
                message.bytes.extend_from_slice(&[0x10, 1]);
                channel.write(std::slice::from_mut(&mut message), &forever()).unwrap();
            }
        };
        let read = || {
            let mut message = Message::default();
            while channel.read(&mut message, &forever()).unwrap().0 {}
        };
        cross(crowd, write, || channel.close(), read);
    });
}

#[divan::bench(args = CROWDS, sample_count = 21)]
fn peer_crossbeam_writers_to_readers(bencher: Bencher<'_, '_>, crowd: (usize, usize)) {
    bencher.counter(ItemsCount::new(ITEMS)).with_inputs(crossbeam_channel::unbounded::<u64>).bench_values(
        |(writer, reader)| {
            let write = |count| (0..count).for_each(|_| writer.send(1).unwrap());
            // Each reader takes one 0.
            let close = || (0..crowd.1).for_each(|_| writer.send(0).unwrap());
            let read = || while reader.recv() != Ok(0) {};
            cross(crowd, write, close, read);
        },
    );
}

const N: usize = 1 << 20;

#[divan::bench]
fn limit_memcpy_4_mib(bencher: Bencher<'_, '_>) {
    let (a, mut b) = (vec![1.0f32; N], vec![0.0f32; N]);
    bencher.counter(BytesCount::of_slice(&a)).bench_local(|| b.copy_from_slice(black_box(&a)));
}

#[divan::bench]
fn limit_plain_loop_add_4_mib(bencher: Bencher<'_, '_>) {
    let (a, mut b) = (vec![1.0f32; N], vec![0.0f32; N]);
    bencher.counter(BytesCount::of_slice(&a)).bench_local(|| {
        for (x, y) in b.iter_mut().zip(black_box(&a)) {
            *x += *y;
        }
    });
}

fn float_tensor() -> Tensor {
    let t = Tensor::with_sizes(DType::Float, &[N]).unwrap();
    t.fill(1.0).unwrap();
    t
}

#[divan::bench]
fn tensor_copy_4_mib(bencher: Bencher<'_, '_>) {
    let (a, b) = (float_tensor(), float_tensor());
    bencher.counter(BytesCount::new(4 * N)).bench_local(|| b.copy_from(&a).unwrap());
}

#[divan::bench]
fn tensor_add_4_mib(bencher: Bencher<'_, '_>) {
    let (a, b) = (float_tensor(), float_tensor());
    bencher.counter(BytesCount::new(4 * N)).bench_local(|| b.add_scaled(&b, 1.0, &a).unwrap());
}

#[divan::bench]
fn tensor_sum_4_mib(bencher: Bencher<'_, '_>) {
    let a = float_tensor();
    bencher.counter(BytesCount::new(4 * N)).bench_local(|| a.sum().unwrap());
}
