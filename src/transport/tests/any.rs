//! What holds whatever is sent, in whatever pieces it comes.

use super::*;

/// Two streams with a middleman who passes bytes on in pieces of the given sizes, and cuts the line after `cut` bytes.
fn through(pieces: Vec<usize>, cut: Option<usize>, sealed: bool) -> (Arc<Stream>, Arc<Stream>, thread::JoinHandle<()>) {
    let (a, ra) = socket::pair().unwrap();
    let (rb, b) = socket::pair().unwrap();
    let (ka, kb) = if sealed { Some(keys()).unzip() } else { (None, None) };
    let (a, b) = (stream(a, Policy::default(), ka), stream(b, Policy::default(), kb));
    let middle = thread::spawn(move || {
        let (from, to) = (Raw(ra), Raw(rb));
        let mut left = cut.unwrap_or(usize::MAX);
        for size in pieces.iter().cycle() {
            let Some(mut got) = from.read((*size).max(1)) else { return };
            got.truncate(left);
            left -= got.len();
            if !to.write(&got) || left == 0 {
                return;
            }
            if *size < 8 {
                thread::yield_now();
            }
        }
    });
    (a, b, middle)
}

#[derive(Clone, Debug)]
enum Part {
    Tensor(u8, Vec<usize>, bool),
    Storage(u8, usize),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let tensor =
        (1u8..=9, prop::collection::vec(1usize..9, 0..4), any::<bool>()).prop_map(|(d, s, t)| Part::Tensor(d, s, t));
    let storage = (1u8..=9, 0usize..5000).prop_map(|(d, n)| Part::Storage(d, n));
    prop::collection::vec(prop_oneof![3 => tensor, 1 => storage], 0..4)
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let bytes = prop_oneof![4 => 0usize..40, 2 => 3000usize..6000, 1 => 60_000usize..140_000];
    prop::collection::vec((bytes, any::<u8>(), parts()), 1..6)
        .prop_map(|list| list.into_iter().map(|(n, fill, parts)| build(n, fill, &parts)).collect())
}

/// `n` bytes, or as many as it takes to name the parts.
fn build(n: usize, fill: u8, parts: &[Part]) -> Message {
    let n = n.max(parts.len() * ext::NAMED_ATTACHMENT);
    let bytes = (0..n).map(|i| fill.wrapping_add(i as u8)).collect();
    let mut message = Message { bytes, ..Message::default() };
    for part in parts {
        message.attachments.push(match part {
            Part::Tensor(code, sizes, transposed) => {
                let t = Tensor::with_sizes(DType::from_code(*code).unwrap(), sizes).unwrap();
                let span = t.bytes().unwrap();
                span.write(0, &(0..span.len()).map(|i| fill.wrapping_mul(i as u8)).collect::<Vec<_>>());
                Attachment::Tensor(if *transposed && t.ndim() > 1 { t.transpose(0, 1).unwrap() } else { t })
            }
            Part::Storage(code, n) => {
                let s = Storage::new(DType::from_code(*code).unwrap(), *n).unwrap();
                let span = s.span().unwrap();
                span.write(0, &(0..span.len()).map(|i| fill ^ i as u8).collect::<Vec<_>>());
                Attachment::Storage(s)
            }
        });
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn messages_cross_whole_and_in_order_whatever_the_pieces(
        list in messages(), pieces in prop::collection::vec(prop_oneof![1usize..4, 10usize..90_000], 1..5), sealed: bool, try_only: bool,
    ) {
        let (a, b, middle) = through(pieces, None, sealed);
        let want: Vec<_> = list.iter().map(content).collect();
        let sender = thread::spawn(move || list.into_iter().try_for_each(|mut m| a.send(&mut m, &never())));
        let mut out = Message::default();
        for want in &want {
            if try_only {
                while !b.try_recv(&mut out).unwrap() {
                    thread::yield_now();
                }
            } else {
                // Short waits on the way: the partial message is kept.
                while !b.recv_before(None, &mut out, &Wait::until(Deadline::after(1e-4))).unwrap() {}
            }
            prop_assert_eq!(&content(&out), want);
        }
        sender.join().unwrap().unwrap();
        prop_assert_eq!(b.recv(None, &mut out, &never()).unwrap_err().code(), Code::Closed);
        middle.join().unwrap();
    }

    #[test]
    fn a_peer_that_dies_anywhere_is_closed_after_the_whole_messages(
        list in messages(), pieces in prop::collection::vec(10usize..90_000, 1..5), at in 0.0f64..1.0, sealed: bool,
    ) {
        let total: usize = list.iter().map(|m| 16 + m.bytes.len() + content(m).1.iter().map(Vec::len).sum::<usize>()).sum();
        let (a, b, middle) = through(pieces, Some((total as f64 * at) as usize + 1), sealed);
        let want: Vec<_> = list.iter().map(content).collect();
        // The line may be cut after everything went, too.
        let sender = thread::spawn(move || list.into_iter().try_for_each(|mut m| a.send(&mut m, &never())).map_err(|e| e.code()));
        let mut n = 0;
        let e = loop {
            match receive(&*b) {
                Ok(m) => {
                    prop_assert_eq!(&content(&m), &want[n]);
                    n += 1;
                }
                Err(e) => break e,
            }
        };
        prop_assert_eq!(e.code(), Code::Closed);
        prop_assert!(e.what().contains("the peer"), "{}", e);
        prop_assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed);
        prop_assert_eq!(b.send(&mut text(b"x"), &never()).unwrap_err().code(), Code::Closed);
        prop_assert!(matches!(sender.join().unwrap(), Ok(()) | Err(Code::Closed)));
        middle.join().unwrap();
    }

    #[test]
    fn garbage_ends_the_connection_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..400), valid_start: bool) {
        let (raw, b) = raw_pair(Policy { takes: Limits { message: 1000, ..Limits::default() }, ..Policy::default() });
        if valid_start {
            raw.write(&Header { functions: false, descriptors: 40, bytes: 12 }.encode());
        }
        raw.write(&bytes);
        drop(raw);
        for _ in 0..30 {
            if let Err(e) = receive(&*b) {
                prop_assert!(matches!(e.code(), Code::Closed | Code::Protocol | Code::Limit | Code::Unsupported), "{e}");
            }
        }
        prop_assert!(receive(&*b).is_err());
    }
}
