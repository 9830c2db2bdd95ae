//! Writers at a full queue, under every order that the memory model allows: each change wakes one who can use it.

use std::sync::Arc;

use loom::thread;
use models::sync::Fifo;

#[test]
fn a_writer_of_two_items_hears_of_room_for_two() {
    loom::model(|| {
        let fifo = Arc::new(Fifo::full());
        let writer = fifo.clone();
        let writer = thread::spawn(move || writer.write(2));
        fifo.take();
        fifo.take();
        writer.join().unwrap();
    });
}

#[test]
fn a_writer_of_one_item_and_one_of_two_both_get_their_room() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let fifo = Arc::new(Fifo::full());
        let writers = [1, 2].map(|count| {
            let fifo = fifo.clone();
            thread::spawn(move || fifo.write(count))
        });
        (0..3).for_each(|_| fifo.take());
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}
