//! What the first packets agree on, prove and refuse.
#![allow(clippy::unwrap_used)]
use super::packet::{HEAD, Kind, NAME};
use super::*;
use crate::error::Code;
use crate::peer::cookie::Cookies;
use crate::peer::options::TransportChoice;
use crate::transport::Secret;
use proptest::prelude::*;

fn packet(bytes: &[u8]) -> Packet {
    let mut packet = Packet::begin(bytes[..HEAD].try_into().unwrap()).unwrap();
    packet.body_mut().copy_from_slice(&bytes[HEAD..]);
    packet
}

fn tcp(own: &str, peer: &str) -> Ends {
    let address = |text: &str| socket::Address::Tcp(text.parse().unwrap());
    Ends { own: address(own), peer: address(peer), peer_user: None, network: None }
}

/// A connection as its client and its server see it.
struct Line(Ends, Ends);

fn here() -> Line {
    Line(tcp("127.0.0.1:1000", "127.0.0.1:2000"), tcp("127.0.0.1:2000", "127.0.0.1:1000"))
}

fn between_hosts() -> Line {
    Line(tcp("192.0.2.1:1000", "192.0.2.2:2000"), tcp("192.0.2.2:2000", "192.0.2.1:1000"))
}

/// A forwarder between two networks of this host, with the same addresses in both.
fn between_networks() -> Line {
    let Line(client, server) = here();
    Line(Ends { network: Some(1), ..client }, Ends { network: Some(2), ..server })
}

/// A forwarder on this host: the client talks to port 3000, which talks from port 4000 to the server.
fn forwarded() -> Line {
    Line(tcp("127.0.0.1:1000", "127.0.0.1:3000"), tcp("127.0.0.1:2000", "127.0.0.1:4000"))
}

fn unix(user: u32) -> Line {
    let end = || Ends {
        own: socket::Address::Unix(Default::default()),
        peer: socket::Address::Unix(Default::default()),
        peer_user: Some(user),
        network: None,
    };
    Line(end(), end())
}

fn with(secret: Option<&str>) -> Options {
    Options { secret: secret.map(|s| Secret::new(s.as_bytes())), ..Options::default() }
}

fn trusting() -> Options {
    Options { insecure: true, ..Options::default() }
}

type Outcome = Result<Agreed>;

/// What client and server come to, and what each heard.
fn meet(client: &Options, server: &Options, line: &Line) -> (Outcome, Outcome) {
    let (calling, first) = Calling::begin(client, &line.0).unwrap();
    let (welcome, answering) = match Answering::begin(&packet(&first), server, &line.1) {
        Ok(both) => both,
        Err(No { tell, why }) => return (calling.answered(&packet(&tell)).map(|a| a.0).map_err(|no| no.why), Err(why)),
    };
    match calling.answered(&packet(&welcome)) {
        Ok((agreed, confirm)) => (Ok(agreed), answering.confirmed(&packet(&confirm)).map_err(|no| no.why)),
        Err(No { tell, why }) => {
            let server = if tell.is_empty() {
                Err(err!(Closed, "nothing"))
            } else {
                answering.confirmed(&packet(&tell)).map_err(|no| no.why)
            };
            (Err(why), server)
        }
    }
}

fn codes(client: &Options, server: &Options, line: &Line) -> std::result::Result<Proof, (Code, Code)> {
    match meet(client, server, line) {
        (Ok(c), Ok(s)) => {
            assert_eq!(c.proof, s.proof);
            assert_eq!((c.policy.takes, c.policy.peer_takes), (s.policy.peer_takes, s.policy.takes));
            Ok(c.proof)
        }
        (Err(c), Err(s)) => Err((c.code(), s.code())),
        other => panic!("the two do not agree: {other:?}"),
    }
}

#[test]
fn the_table_of_who_may_connect_holds_in_every_cell() {
    const REFUSED: std::result::Result<Proof, (Code, Code)> = Err((Code::Refused, Code::Refused));
    const AUTH: std::result::Result<Proof, (Code, Code)> = Err((Code::Auth, Code::Auth));
    let (nothing, secret, insecure) = (with(None), with(Some("s")), trusting());
    for (line, name) in [(here(), "here"), (between_hosts(), "between hosts"), (forwarded(), "forwarded")] {
        let is_here = name == "here";
        let by_cookie = if is_here { Ok(Proof::Cookie) } else { REFUSED };
        for (client, server, expected) in [
            (&nothing, &nothing, by_cookie),
            (&nothing, &secret, AUTH),
            (&nothing, &insecure, by_cookie),
            (&secret, &nothing, AUTH),
            (&secret, &secret, Ok(Proof::Secret)),
            (&secret, &with(Some("t")), AUTH),
            (&secret, &insecure, AUTH),
            (&insecure, &nothing, by_cookie),
            (&insecure, &secret, AUTH),
            (&insecure, &insecure, Ok(Proof::None)),
        ] {
            assert_eq!(codes(client, server, &line), expected, "{name}: {client:?} with {server:?}");
        }
    }
}

#[test]
fn on_a_unix_socket_the_system_proves_the_user() {
    let (own, root, other) = (socket::uid(), 0, 4_000_000);
    for user in [own, root] {
        for (client, server) in [(with(None), with(None)), (trusting(), with(None)), (with(None), trusting())] {
            assert_eq!(codes(&client, &server, &unix(user)), Ok(Proof::System));
        }
    }
    let (c, s) = meet(&with(None), &with(None), &unix(other));
    let (c, s) = (c.unwrap_err(), s.unwrap_err());
    assert_eq!((c.code(), s.code()), (Code::Refused, Code::Refused));
    assert!(s.what().contains(&format!("user {other}")) && c.what().contains("secret ="), "{c} / {s}");
    // A client looks, too, when the server does not.
    assert_eq!(codes(&with(None), &trusting(), &unix(other)), Err((Code::Refused, Code::Refused)));
    assert!(codes(&trusting(), &trusting(), &unix(other)).is_ok());
    assert_eq!(codes(&with(Some("s")), &with(Some("s")), &unix(own)), Ok(Proof::Secret));
}

#[test]
fn two_ends_agree_on_the_stricter_of_their_wishes() {
    let a = Options { functions: true, max_message: 5, max_tensor_bytes: Some(8), ..with(None) };
    let b = Options { functions: true, max_message: 7, ..with(None) };
    let (c, s) = meet(&a, &b, &here());
    let (c, s) = (c.unwrap(), s.unwrap());
    assert!(c.policy.functions && s.policy.functions && c.keys.is_none() && s.keys.is_none());
    let all = Limits { message: 7, tensor_bytes: u64::MAX, tensors: 65_536 };
    assert_eq!((c.policy.takes, c.policy.peer_takes), (Limits { message: 5, tensor_bytes: 8, ..all }, all));
    let (c, s) = meet(&a, &with(None), &here());
    assert!(!c.unwrap().policy.functions && !s.unwrap().policy.functions);
}

#[test]
fn a_peer_that_proves_nothing_gets_a_limit_on_tensors_unless_the_user_says_otherwise() {
    let limits = |client: &Options, server: &Options| {
        let (c, s) = meet(client, server, &between_hosts());
        let (c, s) = (c.unwrap().policy, s.unwrap().policy);
        assert_eq!((c.takes, c.peer_takes), (s.peer_takes, s.takes));
        (c.takes.tensor_bytes, s.takes.tensor_bytes)
    };
    assert_eq!(limits(&trusting(), &trusting()), (1 << 30, 1 << 30));
    let more = Options { max_tensor_bytes: Some(1 << 40), ..trusting() };
    assert_eq!(limits(&more, &trusting()), (1 << 40, 1 << 30));
    assert_eq!(limits(&with(Some("s")), &with(Some("s"))), (u64::MAX, u64::MAX));
}

#[test]
fn each_end_knows_how_far_away_the_other_is() {
    let (c, s) = meet(&with(None), &with(None), &here());
    assert_eq!((c.unwrap().near, s.unwrap().near), (Near::Process, Near::Process));
    let me = Hello::of(&with(None), &here().0).unwrap();
    let child = Hello { process: Bytes([9; 16]), pid: 7, ..me.clone() };
    assert_eq!(Hello::near(&child).unwrap(), Near::Host(7));
    assert_eq!(Hello::near(&Hello { boot: "another".into(), ..child.clone() }).unwrap(), Near::Elsewhere);
    assert_eq!(Hello::near(&Hello { boot: String::new(), ..child }).unwrap(), Near::Elsewhere);
}

#[test]
fn the_link_is_in_memory_where_both_ends_may_and_are_in_one_process() {
    use TransportChoice::{Auto, Memory, Tcp};
    const NO: std::result::Result<bool, Code> = Err(Code::Unsupported);
    let given = |transport, encrypt, secret| Options { transport, encrypt, ..with(secret) };
    for secret in [None, Some("s")] {
        for (client, server, is_socket) in [
            (Auto, Auto, Ok(false)),
            (Memory, Auto, Ok(false)),
            (Auto, Memory, Ok(false)),
            (Memory, Memory, Ok(false)),
            (Tcp, Auto, Ok(true)),
            (Auto, Tcp, Ok(true)),
            (Tcp, Tcp, Ok(true)),
            (Memory, Tcp, NO),
            (Tcp, Memory, NO),
        ] {
            let what = format!("{client:?} {server:?} {secret:?}");
            let (c, s) = meet(&given(client, None, secret), &given(server, None, secret), &here());
            // A client that says no after the welcome tells why, too.
            let link = |end: Outcome| end.map(|agreed| agreed.chosen.is_socket()).map_err(|e| e.code());
            assert_eq!((link(c), link(s)), (is_socket, is_socket), "{what}");
        }
    }
    // With a secret memory needs no encryption, and whoever insists on it gets a socket.
    let (c, s) = meet(&given(Auto, None, Some("s")), &given(Auto, None, Some("s")), &here());
    assert!(c.unwrap().keys.is_none() && s.unwrap().keys.is_none());
    let (c, s) = meet(&given(Auto, Some(true), Some("s")), &given(Auto, None, Some("s")), &here());
    let (c, s) = (c.unwrap(), s.unwrap());
    assert!(c.keys.is_some() && c.chosen.is_socket() && s.keys.is_some() && s.chosen.is_socket());
    assert_eq!(given(Memory, Some(true), Some("s")).check().unwrap_err().code(), Code::Argument);
}

#[test]
fn a_link_that_was_not_offered_or_is_not_here_ends_the_hello() {
    let (_, first) = Calling::begin(&trusting(), &here().0).unwrap();
    for (link, says) in [("memory", "is not in this process"), ("carrier pigeon", "was not offered")] {
        let (_, answering) = Answering::begin(&packet(&first), &trusting(), &here().1).unwrap();
        let choice = encode(&Choice { link: Some(link.into()) }).unwrap();
        let no = answering.confirmed(&Packet::new(Kind::Confirm, &choice)).unwrap_err();
        assert!(no.why.code() == Code::Protocol && no.why.what().contains(says), "{}", no.why);
    }
    // A token of somebody else's is worth nothing: the client keeps the socket.
    let (calling, _) = Calling::begin(&trusting(), &here().0).unwrap();
    let mut welcome = Hello::of(&trusting(), &here().1).unwrap();
    welcome.token = Some(Bytes([7; 16]));
    let (agreed, _) = calling.answered(&Packet::new(Kind::Welcome, &welcome.encode().unwrap())).unwrap();
    assert!(agreed.chosen.is_socket());
}

#[test]
fn encryption_is_off_only_where_both_ends_say_so() {
    for a in [None, Some(true), Some(false)] {
        for b in [None, Some(true), Some(false)] {
            let with = |encrypt| Options { encrypt, transport: TransportChoice::Tcp, ..with(Some("s")) };
            let (client, server) = (with(a), with(b));
            let (c, s) = meet(&client, &server, &between_hosts());
            let off = a == Some(false) && b == Some(false);
            assert_eq!((c.unwrap().keys.is_some(), s.unwrap().keys.is_some()), (!off, !off));
        }
    }
    assert_eq!(Options { encrypt: Some(true), ..with(None) }.check().unwrap_err().code(), Code::Argument);
    assert!(Options { encrypt: Some(true), ..with(Some("s")) }.check().is_ok());
}

#[test]
fn refusals_say_what_was_compared_and_what_to_do() {
    for (client, server, line, says) in [
        (with(Some("s")), with(Some("t")), here(), &["secrets of the two ends differ"][..]),
        (with(None), with(Some("t")), here(), &["wants a secret"]),
        (with(Some("s")), with(None), here(), &["this server has none"]),
        (
            with(None),
            with(None),
            between_hosts(),
            &["insecure = true", "IPC_SECRET", "192.0.2.1:1000 to 192.0.2.2:2000"],
        ),
        (with(None), with(None), forwarded(), &["127.0.0.1:3000", "127.0.0.1:4000", "forwards", "IPC_SECRET"]),
    ] {
        let (c, s) = meet(&client, &server, &line);
        let (c, s) = (c.unwrap_err(), s.unwrap_err());
        for word in says {
            assert!(c.what().contains(word) && s.what().contains(word), "{word}: {c} / {s}");
        }
    }
}

#[test]
fn ends_without_a_common_cookie_are_told_which_there_are_and_where() {
    let line = here();
    let mut hello = Hello::of(&with(None), &here().0).unwrap();
    hello.cookies = Some(Listed(vec![[0xab; 16]]));
    let first = Packet::new(Kind::Hello, &hello.encode().unwrap());
    let No { tell, why } = Answering::begin(&first, &with(None), &line.1).unwrap_err();
    let own = Cookies::read().unwrap();
    for word in ["abababab", &own.known[0].place, "IPC_RUNTIME_DIR", "IPC_SECRET"] {
        assert!(why.what().contains(word), "{word}: {why}");
    }
    let options = with(None);
    let (calling, _) = Calling::begin(&options, &line.0).unwrap();
    let no = calling.answered(&packet(&tell)).unwrap_err();
    assert_eq!(no.why.code(), Code::Refused);
    assert!(no.why.what().contains("This client's: ") && no.why.what().contains("abababab"), "{}", no.why);
}

#[test]
fn a_forwarder_that_uses_the_very_same_addresses_between_two_networks_or_hosts_is_refused() {
    let plain = with(None);
    for (client, server) in [(with(None), with(None)), (trusting(), with(None)), (with(None), trusting())] {
        let (c, s) = meet(&client, &server, &between_networks());
        for e in [c.unwrap_err(), s.unwrap_err()] {
            assert_eq!(e.code(), Code::Refused);
            assert!(e.what().contains("two networks of this host") && e.what().contains("secret ="), "{e}");
        }
    }
    assert_eq!(codes(&with(Some("s")), &with(Some("s")), &between_networks()), Ok(Proof::Secret));
    // Where the system does not say it at one end, the addresses decide; where both say the same, too.
    for network in [None, Some(1)] {
        let Line(client, server) = here();
        let line = Line(Ends { network: Some(1), ..client }, Ends { network, ..server });
        assert_eq!(codes(&plain, &plain, &line), Ok(Proof::Cookie));
    }
    // Two hosts, by what each says of its boot.
    let ends = here().0;
    let me = Hello::of(&plain, &ends).unwrap();
    let other = Hello { boot: "another".into(), ..me.clone() };
    let same = other.check_place(&ends);
    assert!(boot().is_empty() || same.unwrap_err().what().contains("two hosts"));
    assert!(Hello { boot: String::new(), ..me.clone() }.check_place(&ends).is_ok() && me.check_place(&ends).is_ok());
}

#[test]
fn a_body_that_is_no_map_is_refused_though_it_has_all_that_is_needed() {
    let hello = Hello::of(&with(None), &here().0).unwrap();
    let in_order = rmp_serde::to_vec(&hello).unwrap();
    let first = Packet::new(Kind::Hello, &in_order);
    let no = Answering::begin(&first, &with(None), &here().1).unwrap_err();
    assert_eq!(no.why.code(), Code::Protocol);
    assert!(no.why.what().contains("no map"), "{}", no.why);
}

#[test]
fn nobody_gets_in_with_what_it_has_seen_of_others() {
    let line = here();
    let options = with(None);
    let (calling, first) = Calling::begin(&options, &line.0).unwrap();
    let begin = || Answering::begin(&packet(&first), &options, &line.1).unwrap();
    let (welcome, answering) = begin();
    let (_, confirm) = calling.answered(&packet(&welcome)).unwrap();
    // The confirmation of another connection, the server's own proof, and nothing.
    let (_, another) = begin();
    assert_eq!(another.confirmed(&packet(&confirm)).unwrap_err().why.code(), Code::Refused);
    let (own, reflected) = begin();
    let mut echo = confirm.clone();
    let n = echo.len();
    echo[n - 32..].copy_from_slice(&own[own.len() - 32..]);
    assert_eq!(reflected.confirmed(&packet(&echo)).unwrap_err().why.code(), Code::Refused);
    let (_, cut) = begin();
    assert!(cut.confirmed(&Packet::new(Kind::Confirm, &[])).is_err());
    assert!(answering.confirmed(&packet(&confirm)).is_ok());
    // A server that answers with a cookie that nobody named, or changes what it said.
    let (calling, _) = Calling::begin(&options, &line.0).unwrap();
    assert_eq!(calling.answered(&packet(&welcome)).unwrap_err().why.code(), Code::Refused);
    let (calling, first) = Calling::begin(&options, &line.0).unwrap();
    let (mut welcome, _) = Answering::begin(&packet(&first), &options, &line.1).unwrap();
    let at = welcome.windows(16).position(|w| w == Cookies::read().unwrap().ids()[0]).unwrap();
    welcome[at] ^= 1;
    assert_eq!(calling.answered(&packet(&welcome)).unwrap_err().why.code(), Code::Protocol);
}

#[test]
fn a_recorded_hello_does_not_let_anyone_in() {
    let options = with(Some("s"));
    let line = between_hosts();
    let (_, first) = Calling::begin(&options, &line.0).unwrap();
    for body in [vec![], vec![0; 16], first[HEAD..].to_vec()] {
        let (_, answering) = Answering::begin(&packet(&first), &options, &line.1).unwrap();
        assert_eq!(answering.confirmed(&Packet::new(Kind::Confirm, &body)).unwrap_err().why.code(), Code::Auth);
    }
}

#[test]
fn a_server_without_proof_is_refused_by_a_client_with_a_secret_and_by_one_that_demands_proof() {
    let welcome = Packet::new(Kind::Welcome, &Hello::of(&trusting(), &here().0).unwrap().encode().unwrap());
    for (options, code) in [(with(Some("s")), Code::Auth), (with(None), Code::Refused)] {
        let line = here();
        let (calling, _) = Calling::begin(&options, &line.0).unwrap();
        assert_eq!(calling.answered(&welcome).unwrap_err().why.code(), code);
    }
}

#[test]
fn another_version_or_program_is_named_in_a_way_that_it_can_read() {
    for (version, answer) in [(1, 1), (3, 2), (9, 2)] {
        let head = Packet::of_version(version, Kind::Hello, b"").raw;
        let no = Packet::begin(head[..].try_into().unwrap()).unwrap_err();
        assert!(no.why.what().contains(&format!("version {version}")));
        assert_eq!((&no.tell[..6], no.tell[6], no.tell[7]), (&NAME[..], answer, Kind::Refusal as u8));
        // A refusal of any version can be read.
        let refusal = Packet::of_version(version, Kind::Refusal, &no.tell[HEAD..]);
        let line = here();
        let options = with(None);
        let (calling, _) = Calling::begin(&options, &line.0).unwrap();
        let no = calling.answered(&packet(&refusal.raw)).unwrap_err();
        assert!(no.why.what().contains(&format!("version {version}")), "{}", no.why);
    }
    let no = Packet::begin(b"HTTP/1.1 400").unwrap_err();
    assert!(no.tell.is_empty() && no.why.what().contains("not libipc"));
}

#[test]
fn fields_of_later_versions_are_passed_over_and_those_that_may_lack_do() {
    #[derive(Serialize)]
    struct Later<'a> {
        #[serde(flatten)]
        hello: &'a Hello,
        weather: [[&'static str; 2]; 2],
    }
    let hello = Hello::of(&with(None), &here().0).unwrap();
    let bytes = encode(&Later { hello: &hello, weather: [["rain", "wind"]; 2] }).unwrap();
    assert_eq!(Hello::decode_alone(&bytes).unwrap(), hello);
    let cut = encode(&serde_map(&hello, &["devices", "offers"])).unwrap();
    assert_eq!(Hello::decode_alone(&cut).unwrap(), Hello { offers: Vec::new(), ..hello.clone() });
    for needed in ["nonce", "max_message", "process", "little_endian", "demands"] {
        let cut = encode(&serde_map(&hello, &[needed])).unwrap();
        assert_eq!(Hello::decode_alone(&cut).unwrap_err().code(), Code::Protocol, "{needed}");
    }
}

/// The fields of a hello without some of them.
fn serde_map(hello: &Hello, without: &[&str]) -> std::collections::BTreeMap<String, Field> {
    let all: std::collections::BTreeMap<String, Field> = decode(&hello.encode().unwrap()).unwrap().0;
    all.into_iter().filter(|(name, _)| !without.contains(&&**name)).collect()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Field {
    No(()),
    Flag(bool),
    Number(u64),
    // Before text: random bytes may be such.
    Bytes(Bytes<16>),
    Text(String),
    Numbers(Vec<u8>),
    Texts(Vec<String>),
}

proptest! {
    #[test]
    fn any_bytes_are_a_hello_or_an_error(kind in 0u8..8, body in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
        let valid = Hello::of(&with(None), &here().0).unwrap().encode().unwrap();
        for body in [body, valid[..valid.len().saturating_sub(cut)].to_vec()] {
            let mut raw = Packet::new(Kind::Hello, &body).raw;
            raw[7] = kind;
            let Ok(mut packet) = Packet::begin(raw[..HEAD].try_into().unwrap()) else { continue };
            packet.body_mut().copy_from_slice(&raw[HEAD..]);
            for options in [with(None), trusting(), with(Some("s"))] {
                for line in [here(), between_hosts(), unix(0)] {
                    if let Ok((_, answering)) = Answering::begin(&packet, &options, &line.1) {
                        let _ = answering.confirmed(&packet);
                    }
                    let _ = Calling::begin(&options, &line.0).unwrap().0.answered(&packet);
                }
            }
        }
    }
}
