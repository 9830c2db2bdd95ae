#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn reader(bytes: &[u8], form: Form) -> Reader<&[u8]> {
    Reader::new(bytes, bytes.len() as u64, form)
}

/// Reads everything in an object, as a walker would.
fn walk(r: &mut Reader<&[u8]>, depth: usize) -> Result<()> {
    if depth > 50 {
        return Err(err!(Limit, "too deep"));
    }
    match r.record()? {
        Record::Table(_, pairs) => (0..2 * pairs).try_for_each(|_| walk(r, depth + 1)),
        Record::Function(..) => walk(r, depth + 1),
        Record::Object(index, class) => {
            let dtype = DType::ALL.into_iter().find(|d| d.tensor_class() == class || d.storage_class() == class);
            match dtype {
                Some(d) if d.tensor_class() == class => r.tensor(d).map(|t| drop(t.clone_data())),
                Some(d) => r.storage(d, index).map(drop),
                None => walk(r, depth + 1),
            }
        }
        _ => Ok(()),
    }
}

/// `{ 'x', t, t:storage(), t:t(), true, nil key's sake 1.5 }`, t a tensor of each type.
fn sample(form: Form) -> Vec<u8> {
    let mut w = Writer::new(Vec::new(), form);
    assert!(w.table(Identity::Value(1), 5 * DType::ALL.len()).unwrap());
    for (n, d) in DType::ALL.into_iter().enumerate() {
        let t = Tensor::from_slice(&[1i32, 2, 3, 4, 5, 6]).unwrap().view(&[2, 3]).unwrap().to_dtype(d).unwrap();
        for part in 0..5 {
            w.number((n * 10 + part) as f64 + 0.5).unwrap();
            match part {
                0 => w.tensor(Identity::Value(100 + n), &t).unwrap(),
                1 => w.storage(t.storage().unwrap()).unwrap(),
                2 => w.tensor(Identity::Value(200 + n), &t.t().unwrap()).unwrap(),
                3 => w.string(d.name().as_bytes()).unwrap(),
                _ => assert!(!w.table(Identity::Value(1), 0).unwrap()),
            }
        }
    }
    w.finish().unwrap()
}

#[test]
fn the_bytes_are_those_of_torch() {
    let t = Tensor::from_slice(&[1.0f32, 2.0]).unwrap();
    let mut w = Writer::new(Vec::new(), Form::Binary);
    w.tensor(Identity::Value(1), &t).unwrap();
    let mut want = Vec::new();
    let int = |v: i32| v.to_le_bytes();
    let long = |v: i64| v.to_le_bytes();
    want.extend([int(4), int(1), int(3)].concat());
    want.extend(b"V 1");
    want.extend(int(17));
    want.extend(b"torch.FloatTensor");
    want.extend(int(1));
    want.extend([long(2), long(1), long(1)].concat());
    want.extend([int(4), int(2), int(3)].concat());
    want.extend(b"V 1");
    want.extend(int(18));
    want.extend(b"torch.FloatStorage");
    want.extend(long(2));
    want.extend([1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
    assert_eq!(w.finish().unwrap(), want);
}

#[test]
fn the_text_is_that_of_torch() {
    let t = Tensor::from_slice(&[1i64, -2, 3, 4]).unwrap().view(&[2, 2]).unwrap();
    let mut w = Writer::new(Vec::new(), Form::Ascii);
    assert!(w.table(Identity::Value(1), 2).unwrap());
    w.string(b"x").unwrap();
    w.tensor(Identity::Value(2), &t).unwrap();
    w.number(2.5).unwrap();
    w.boolean(true).unwrap();
    let want = "3\n1\n2\n2\n1\nx\n4\n2\n3\nV 1\n16\ntorch.LongTensor\n2\n2 2\n2 1\n1\n\
                4\n3\n3\nV 1\n17\ntorch.LongStorage\n4\n1 -2 3 4\n1\n2.5\n5\n1\n";
    assert_eq!(String::from_utf8(w.finish().unwrap()).unwrap(), want);
}

#[test]
fn what_is_written_is_read_and_shared_storages_stay_shared() {
    for form in [Form::Binary, Form::Ascii] {
        let bytes = sample(form);
        let mut r = reader(&bytes, form);
        assert!(matches!(r.record().unwrap(), Record::Table(1, 45)));
        for (n, d) in DType::ALL.into_iter().enumerate() {
            let mut keep = Vec::new();
            for part in 0..5 {
                assert_eq!(r.record().unwrap(), Record::Number((n * 10 + part) as f64 + 0.5));
                match r.record().unwrap() {
                    Record::Object(_, class) => {
                        assert_eq!(class, d.tensor_class());
                        keep.push(r.tensor(d).unwrap());
                    }
                    Record::Again(1) => assert_eq!(part, 4),
                    Record::Again(i) => assert!(r.storage_again(i).unwrap().same(keep[0].storage().unwrap())),
                    Record::String(s) => assert_eq!(s, d.name().as_bytes()),
                    other => panic!("{other:?}"),
                }
            }
            assert!(keep[0].storage().unwrap().same(keep[1].storage().unwrap()));
            assert_eq!(keep[0].to_vec::<i32>().unwrap(), [1, 2, 3, 4, 5, 6]);
            assert_eq!(keep[1].to_vec::<i32>().unwrap(), [1, 4, 2, 5, 3, 6]);
        }
        assert_eq!(r.left(), 0);
    }
}

#[test]
fn odd_numbers_survive_as_text() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300, 5e-324, 0.1, f64::MAX];
    let mut w = Writer::new(Vec::new(), Form::Ascii);
    odd.iter().for_each(|&v| w.number(v).unwrap());
    w.storage(&Storage::from_slice(&odd).unwrap()).unwrap();
    w.storage(&Storage::from_slice(&[0.1f32, f32::MAX, f32::NAN]).unwrap()).unwrap();
    let bytes = w.finish().unwrap();
    let mut r = reader(&bytes, Form::Ascii);
    for v in odd {
        let Record::Number(got) = r.record().unwrap() else { panic!() };
        assert!(got.to_bits() == v.to_bits() || got.is_nan() && v.is_nan(), "{got} {v}");
    }
    for _ in 0..2 {
        walk(&mut r, 0).unwrap();
    }
}

#[test]
fn announced_sizes_take_no_memory_before_the_data() {
    let int = |v: i32| v.to_le_bytes().to_vec();
    let long = |v: i64| v.to_le_bytes().to_vec();
    let head = [int(4), int(1), int(3), b"V 1".to_vec(), int(19), b"torch.DoubleStorage".to_vec()].concat();
    for n in [-1, 2, 1 << 40, i64::MAX] {
        let bytes = [head.clone(), long(n), vec![0; 8]].concat();
        assert!(walk(&mut reader(&bytes, Form::Binary), 0).is_err(), "{n}");
    }
    for bytes in [[int(2), int(i32::MAX)].concat(), [int(3), int(1), int(i32::MAX)].concat(), int(9), vec![1], vec![]] {
        assert!(walk(&mut reader(&bytes, Form::Binary), 0).is_err());
    }
}

#[test]
fn every_truncation_is_an_error() {
    for form in [Form::Binary, Form::Ascii] {
        let bytes = sample(form);
        // The newline at the end of the last record is no loss.
        for n in 0..bytes.len() - 1 {
            assert!(walk(&mut reader(&bytes[..n], form), 0).is_err() || form == Form::Ascii, "{n}");
        }
    }
}

proptest! {
    #[test]
    fn no_mutation_does_harm(at in 0usize..3000, value: u8, ascii: bool, more in proptest::collection::vec((0usize..3000, any::<u8>()), 0..4)) {
        let form = if ascii { Form::Ascii } else { Form::Binary };
        let mut bytes = sample(form);
        let n = bytes.len();
        bytes[at % n] = value;
        for (at, value) in more {
            bytes[at % n] = value;
        }
        let _ = walk(&mut reader(&bytes, form), 0);
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(0u8..9, 0..200), ascii: bool) {
        let form = if ascii { Form::Ascii } else { Form::Binary };
        let _ = walk(&mut reader(&bytes, form), 0);
    }
}
