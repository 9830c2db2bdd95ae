//! Tensors that are to go by reference, over every kind of link.

use super::*;
use crate::transport::Sending;

fn by_reference(attachments: Vec<Attachment>) -> Message {
    Message { bytes: LONE.to_vec(), attachments, share: true, ..Message::default() }
}

#[test]
fn shared_memory_goes_by_reference_where_the_link_can() {
    for (link, a, b) in every() {
        let t = Tensor::shared(DType::Float, &[3]).unwrap();
        let mut message = by_reference(vec![Attachment::Tensor(t.clone())]);
        let parcel = Arc::new(Parcel::new(by_reference(vec![Attachment::Tensor(t.clone())])).unwrap());
        let (sent, tried) = (a.send(&mut message, &never()), a.try_send(&parcel, &mut None));
        let whole = a.send_parcel(&parcel, &mut None, &never());
        if link != "memory" {
            for refused in [sent.unwrap_err(), tried.unwrap_err(), whole.unwrap_err()] {
                assert_eq!(refused.code(), Code::Unsupported, "{link}");
            }
            a.send(&mut text(b"next"), &never()).unwrap();
            assert_eq!(receive(&*b).unwrap().bytes, b"next", "{link}: and nothing was sent");
            continue;
        }
        sent.unwrap();
        assert_eq!(tried.unwrap(), Sending::Sent);
        whole.unwrap();
        for i in 0..3 {
            let got = receive(&*b).unwrap();
            let [Attachment::Tensor(came)] = &got.attachments[..] else { panic!("{got:?}") };
            came.fill(i as f64).unwrap();
            assert_eq!(t.to_vec::<f32>().unwrap(), [i as f32; 3]);
        }
        assert_eq!(a.stats().tx.bytes, b.stats().rx.bytes);
    }
}

#[test]
fn what_is_not_shared_is_not_copied_in_its_place() {
    for (link, a, b) in every() {
        let t = Tensor::shared(DType::Float, &[3]).unwrap();
        let mut message = by_reference(vec![Attachment::Tensor(t), Attachment::Tensor(tensor(&[1.0]))]);
        assert_eq!(a.send(&mut message, &never()).unwrap_err().code(), Code::Unsupported, "{link}");
        // What has no tensors goes anyhow.
        let mut plain = Message { share: true, ..text(b"plain") };
        a.send(&mut plain, &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"plain", "{link}");
    }
}
