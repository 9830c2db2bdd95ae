//! Writer and reader of a message's bytes against each other, and the reader against anything.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{Decoder, Encoder, Token, ext};

/// A value as plain as the form itself.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nil,
    Boolean(bool),
    Integer(i64),
    Float(u64),
    String(Vec<u8>),
    /// Items, then pairs.
    Table(Vec<Value>, Vec<(Value, Value)>),
    Boxed(bool, u64),
    Number(i8, u32),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        (-200i64..70000).prop_map(Value::Integer),
        any::<u64>().prop_map(Value::Float),
        prop::collection::vec(any::<u8>(), 0..70).prop_map(Value::String),
        (any::<bool>(), any::<u64>()).prop_map(|(signed, bits)| Value::Boxed(signed, bits)),
        any::<u32>().prop_map(|n| Value::Number(ext::REF, n)),
        any::<u32>().prop_map(|n| Value::Number(ext::ATTACHMENT, n)),
    ];
    leaf.prop_recursive(5, 100, 8, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..6);
        let pairs = prop::collection::vec((inner.clone(), inner), 0..6);
        (items, pairs).prop_map(|(items, pairs)| Value::Table(items, pairs))
    })
}

fn write(out: &mut Encoder<'_>, value: &Value) {
    match value {
        Value::Nil => out.nil(),
        Value::Boolean(b) => out.boolean(*b),
        Value::Integer(n) => out.integer(*n),
        Value::Float(bits) => out.float(f64::from_bits(*bits)),
        Value::String(s) => assert!(out.string(s)),
        Value::Boxed(signed, bits) => out.boxed(if *signed { ext::INT64 } else { ext::UINT64 }, *bits),
        Value::Number(code, n) => out.numbered(*code, *n),
        Value::Table(items, pairs) => {
            let table = out.open_table();
            items.iter().for_each(|v| write(out, v));
            let rest = |out: &mut Encoder<'_>| {
                for (k, v) in pairs {
                    write(out, k);
                    write(out, v);
                }
            };
            let (n, m) = (items.len() as u32, pairs.len() as u32);
            match (n, m) {
                (_, 0) => out.close_array(table, n),
                (0, _) => {
                    out.begin_map(table);
                    rest(out);
                    out.close_map(table, m);
                }
                _ => {
                    let marks = out.begin_mixed(table, n);
                    rest(out);
                    assert!(out.close_mixed(marks, m));
                }
            }
        }
    }
}

fn read(bytes: &mut Decoder<'_>) -> crate::error::Result<Value> {
    let items = |bytes: &mut Decoder<'_>, n: u32| (0..n).map(|_| read(bytes)).collect::<Result<Vec<_>, _>>();
    let pairs = |bytes: &mut Decoder<'_>, n: u32| {
        (0..n).map(|_| Ok((read(bytes)?, read(bytes)?))).collect::<crate::error::Result<Vec<_>>>()
    };
    Ok(match bytes.token()? {
        Token::Nil => Value::Nil,
        Token::Boolean(b) => Value::Boolean(b),
        Token::Integer(n) => Value::Integer(n),
        Token::Unsigned(n) => Value::Boxed(false, n),
        Token::Float(n) => Value::Float(n.to_bits()),
        Token::String(s) | Token::Binary(s) => Value::String(s.to_vec()),
        Token::Array(n) => Value::Table(items(bytes, n)?, Vec::new()),
        Token::Map(n) => Value::Table(Vec::new(), pairs(bytes, n)?),
        Token::Extension(ext::MIXED, _) => {
            let Token::Array(n) = bytes.token()? else { return Err(crate::err!(Protocol, "no array")) };
            let items = items(bytes, n)?;
            let Token::Map(m) = bytes.token()? else { return Err(crate::err!(Protocol, "no map")) };
            Value::Table(items, pairs(bytes, m)?)
        }
        Token::Extension(code @ (ext::INT64 | ext::UINT64), n) => Value::Boxed(code == ext::INT64, bytes.boxed(n)?),
        Token::Extension(code @ (ext::REF | ext::ATTACHMENT), n) => Value::Number(code, bytes.numbered(n)?),
        Token::Extension(_, n) => Value::String(bytes.payload(n)?.to_vec()),
    })
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes), value);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read(v in value()) {
        let bytes = encoded(&v);
        let mut decoder = Decoder::new(&bytes).unwrap();
        prop_assert_eq!(read(&mut decoder).unwrap(), v);
        decoder.finish().unwrap();
    }

    #[test]
    fn a_message_cut_short_is_an_error(v in value(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&v);
        let short = &bytes[..cut.index(bytes.len())];
        let whole = Decoder::new(short).and_then(|mut d| read(&mut d));
        prop_assert!(whole.is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(mut decoder) = Decoder::new(&bytes) {
            // Nesting is the caller's to limit, and 200 bytes nest no deeper than 200.
            let _ = read(&mut decoder);
        }
    }

    #[test]
    fn a_number_is_an_integer_exactly_when_that_says_the_same(n in prop_oneof![any::<f64>(), any::<i64>().prop_map(|i| i as f64)]) {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes).number(n);
        match Decoder::new(&bytes).unwrap().token().unwrap() {
            Token::Integer(i) => prop_assert_eq!((i as f64).to_bits(), n.to_bits()),
            Token::Float(f) => {
                prop_assert_eq!(f.to_bits(), n.to_bits());
                prop_assert!(n.fract() != 0.0 || n.abs() > ext::MAX_EXACT as f64 || n.to_bits() == (-0.0f64).to_bits() || !n.is_finite());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn another_form_or_an_unknown_flag_is_refused() {
    for first in 0..=u8::MAX {
        let known = (0x10..=0x17).contains(&first);
        assert_eq!(Decoder::new(&[first, 0xc0]).is_ok(), known, "{first:#x}");
    }
}

#[test]
fn the_bytes_are_messagepack() {
    let table = Value::Table(vec![Value::Integer(1)], vec![(Value::String(b"x".to_vec()), Value::Boolean(true))]);
    let expected = b"\x10\xc9\x00\x00\x00\x0e\x03\xdd\x00\x00\x00\x01\x01\xdf\x00\x00\x00\x01\xa1x\xc3";
    assert_eq!(encoded(&table), expected);
}

#[test]
fn counts_past_what_is_there_are_refused_before_memory_is_taken() {
    for bytes in [&b"\x10\xdd\xff\xff\xff\xff"[..], b"\x10\xdf\x80\x00\x00\x00", b"\x10\xdb\xff\xff\xff\xffx"] {
        assert!(Decoder::new(bytes).unwrap().token().is_err());
    }
}
