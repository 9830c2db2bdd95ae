//! What the first packets agree on, prove and refuse.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::transport::Secret;
use proptest::prelude::*;

fn packet(bytes: &[u8]) -> Packet {
    let (kind, len) = Packet::head(bytes[..HEAD].try_into().unwrap()).unwrap();
    assert_eq!(bytes.len(), HEAD + len);
    Packet { kind, body: bytes[HEAD..].to_vec() }
}

fn here() -> Address {
    Address::Tcp("127.0.0.1:9".parse().unwrap())
}

fn there() -> Address {
    Address::Tcp("192.0.2.1:9".parse().unwrap())
}

fn with(secret: Option<&str>) -> Options {
    Options { secret: secret.map(|s| Secret::new(s.as_bytes())), ..Options::default() }
}

fn meet(client: &Options, server: &Options, from: &Address) -> (Result<Agreed>, Result<Agreed>) {
    let (calling, first) = Calling::begin(client).unwrap();
    match Heard::first(&packet(&first), server, from) {
        Heard::In(bytes, agreed) => (calling.answered(&packet(&bytes)).map(|a| a.0), Ok(agreed)),
        Heard::Out(bytes, e) => (calling.answered(&packet(&bytes)).map(|a| a.0), Err(e)),
        Heard::Confirm(bytes, agreed, keys) => match calling.answered(&packet(&bytes)) {
            Ok((client, confirm)) => (Ok(client), Heard::confirmed(&packet(&confirm.unwrap()), agreed, keys)),
            Err(e) => (Err(e), Err(err!(Closed, ""))),
        },
    }
}

#[test]
fn two_ends_agree_on_the_stricter_of_their_wishes() {
    let a = Options { functions: true, max_message: 5, ..with(None) };
    let b = Options { functions: true, max_message: 7, ..with(None) };
    let (c, s) = meet(&a, &b, &here());
    let (c, s) = (c.unwrap(), s.unwrap());
    assert!(c.policy.functions && s.policy.functions && c.keys.is_none() && s.keys.is_none());
    assert_eq!((c.policy.max_message, c.policy.peer_max_message), (5, 7));
    assert_eq!((s.policy.max_message, s.policy.peer_max_message), (7, 5));
    let (c, s) = meet(&a, &with(None), &here());
    assert!(!c.unwrap().policy.functions && !s.unwrap().policy.functions);
}

#[test]
fn each_end_knows_how_far_away_the_other_is() {
    let (c, s) = meet(&with(None), &with(None), &here());
    assert_eq!((c.unwrap().near, s.unwrap().near), (Near::Process, Near::Process));
    let me = Hello::of(&with(None)).unwrap();
    let child = Hello { process: [9; 16], pid: 7, ..me.clone() };
    assert_eq!(Hello::near(&child).unwrap(), Near::Host(7));
    assert_eq!(Hello::near(&Hello { boot: "another".into(), ..child.clone() }).unwrap(), Near::Elsewhere);
    assert_eq!(Hello::near(&Hello { boot: String::new(), ..child }).unwrap(), Near::Elsewhere);
}

#[test]
fn encryption_is_off_only_where_both_ends_say_so() {
    for (a, b) in [(true, true), (true, false), (false, true), (false, false)] {
        let (client, server) = (Options { encrypt: a, ..with(Some("s")) }, Options { encrypt: b, ..with(Some("s")) });
        let (c, s) = meet(&client, &server, &there());
        assert_eq!(c.unwrap().keys.is_some(), a || b);
        assert_eq!(s.unwrap().keys.is_some(), a || b);
    }
}

#[test]
fn secrets_that_differ_or_lack_are_auth_errors_that_say_what_to_do() {
    for (client, server, from, says) in [
        (with(Some("s")), with(Some("t")), here(), "secrets of the two ends differ"),
        (with(None), with(Some("t")), here(), "wants a secret"),
        (with(Some("s")), with(None), here(), "this server has none"),
        (with(None), with(None), there(), "insecure = true"),
    ] {
        let (c, s) = meet(&client, &server, &from);
        let (c, s) = (c.unwrap_err(), s.unwrap_err());
        assert_eq!((c.code(), s.code()), (Code::Auth, Code::Auth));
        assert!(c.what().contains(says) && s.what().contains(says), "{c} / {s}");
    }
    let trusting = Options { insecure: true, ..with(None) };
    assert!(meet(&with(None), &trusting, &there()).1.is_ok());
}

#[test]
fn a_recorded_hello_does_not_let_anyone_in() {
    let options = with(Some("s"));
    let (_, first) = Calling::begin(&options).unwrap();
    let Heard::Confirm(_, agreed, keys) = Heard::first(&packet(&first), &options, &there()) else { panic!() };
    for body in [vec![], vec![0; 16], first[HEAD..].to_vec()] {
        let agreed = Agreed { policy: agreed.policy, keys: None, near: agreed.near };
        let confirm = Packet { kind: Kind::Confirm, body };
        assert_eq!(Heard::confirmed(&confirm, agreed, keys.clone()).unwrap_err().code(), Code::Auth);
    }
}

#[test]
fn a_server_without_proof_is_refused_by_a_client_with_a_secret() {
    let options = with(Some("s"));
    let (calling, _) = Calling::begin(&options).unwrap();
    let body = Hello::of(&with(None)).unwrap().encode().unwrap();
    assert_eq!(calling.answered(&Packet { kind: Kind::Welcome, body }).unwrap_err().code(), Code::Auth);
}

#[test]
fn another_version_or_program_is_named() {
    let mut head = Packet::encode(Kind::Hello, b"");
    head[6] = 9;
    assert!(Packet::head(head[..].try_into().unwrap()).unwrap_err().what().contains("version 9"));
    assert!(Packet::head(b"HTTP/1.1 400").unwrap_err().what().contains("not libipc"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_hello_or_an_error(kind in 0u8..8, body in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
        let mut head = Packet::encode(Kind::Hello, &body);
        head[7] = kind;
        let Ok((kind, _)) = Packet::head(head[..HEAD].try_into().unwrap()) else { return Ok(()) };
        let valid = Hello::of(&with(None)).unwrap().encode().unwrap();
        for body in [body, valid[..valid.len().saturating_sub(cut)].to_vec()] {
            let packet = Packet { kind, body };
            for options in [with(None), with(Some("s"))] {
                let _ = Heard::first(&packet, &options, &here());
                let _ = Calling::begin(&options).unwrap().0.answered(&packet);
            }
        }
    }
}
