//! The server's half of the hello, for one client.

use super::bytes::{Bytes, Listed};
use super::ends::Ends;
use super::packet::{HEAD, Kind, No, Packet, refused};
use super::{Agreed, CLIENT, Choice, Hello, PROLOGUE, Proof, REMEDY, SERVER, Terms, decode};
use crate::err;
use crate::error::{Error, Result};
use crate::peer::choose::Offered;
use crate::peer::cookie::{Cookie, Cookies, short};
use crate::peer::options::Options;
use crate::transport::{Handshake, Keys, Role};

/// A server that has said welcome; the client is in when its [`confirmation`](Answering::confirmed) is right.
#[derive(Debug)]
pub(in crate::peer) struct Answering {
    terms: Terms,
    offered: Offered,
    expects: Expects,
}

/// What the client has to show.
#[derive(Debug)]
enum Expects {
    Nothing,
    Keys(Keys),
    Cookie {
        cookie: Cookie,
        /// What the proof is over, but for the confirmation itself.
        before: Vec<u8>,
    },
}

impl Answering {
    /// What to make of a client's first packet, and what to answer.
    pub fn begin(packet: &Packet, options: &Options, ends: &Ends) -> std::result::Result<(Vec<u8>, Answering), No> {
        Ok(match (packet.kind, &options.secret) {
            (Kind::Hello, None) => welcome(packet, options, ends)?,
            (Kind::SealedHello, Some(secret)) => {
                if ends.peer_user.is_some() && !ends.is_same_user() {
                    return Err(other_user(ends).into());
                }
                let mut handshake = Handshake::new(Role::Responder, secret, &PROLOGUE)?;
                let hello = Hello::decode_alone(&handshake.read(packet.body())?)?;
                let (mine, offered) = offer(options, ends, &hello)?;
                let welcome = handshake.write(&mine.encode()?)?;
                let expects = Expects::Keys(handshake.finish()?);
                let terms = Terms::new(options, &hello, Proof::Secret)?;
                (Packet::new(Kind::SealedWelcome, &welcome).raw, Answering { terms, offered, expects })
            }
            (Kind::Hello, Some(_)) => {
                return Err(
                    err!(Auth, "this server wants a secret and the client gave none (secret = or IPC_SECRET)").into()
                );
            }
            (Kind::SealedHello, None) => {
                return Err(err!(
                    Auth,
                    "the client has a secret and this server has none: give both ends the same, or neither"
                )
                .into());
            }
            (kind, _) => return Err(err!(Protocol, "a client began with {kind:?}").into()),
        })
    }

    /// The bytes that the confirmation has at least: an empty map, and the proof.
    pub fn least(&self) -> usize {
        let proof = match self.expects {
            Expects::Nothing => 0,
            Expects::Keys(_) => 16,
            Expects::Cookie { .. } => size_of::<crate::peer::cookie::Proof>(),
        };
        HEAD + 1 + proof
    }

    /// Whether the client has shown what it has to; then the agreement is in force.
    pub fn confirmed(self, packet: &Packet) -> std::result::Result<Agreed, No> {
        match packet.kind {
            Kind::Confirm => Ok(self.check(packet)?),
            Kind::Refusal => Err(No::silent(refused(packet, "client"))),
            kind => Err(err!(Protocol, "a client confirmed with {kind:?}").into()),
        }
    }

    fn check(self, packet: &Packet) -> Result<Agreed> {
        let mut keys = None;
        let choice: Choice = match self.expects {
            Expects::Nothing => said(packet.body())?,
            Expects::Keys(mut agreed) => {
                let choice = agreed.open(packet.body())?;
                // With the count of what has been received.
                keys = Some(agreed);
                said(&choice)?
            }
            Expects::Cookie { cookie, before } => {
                let Some((before_it, proof)) = packet.split_proof() else {
                    return Err(err!(Protocol, "a client confirmed without the proof of the cookie"));
                };
                if !cookie.is_proved(&[CLIENT, &before, before_it], proof) {
                    return Err(err!(
                        Refused,
                        "the client does not have the cookie {} that it named",
                        short(&cookie.id)
                    ));
                }
                let end = packet.body().len() - size_of_val(proof);
                said(&packet.body()[..end])?
            }
        };
        Ok(self.terms.over(self.offered.chosen(choice.link.as_deref())?, keys))
    }
}

/// What this server is, for the client that said `hello`, and what it offers to that.
fn offer(options: &Options, ends: &Ends, hello: &Hello) -> Result<(Hello, Offered)> {
    let mut mine = Hello::of(options, ends)?;
    let offered = Offered::new(options, Hello::near(hello)?, &hello.offers)?;
    mine.offers = offered.links();
    mine.token = offered.token().map(Bytes);
    Ok((mine, offered))
}

/// What a confirmation says: a map, and nothing after it.
fn said(bytes: &[u8]) -> Result<Choice> {
    match decode::<Choice>(bytes)? {
        (choice, []) => Ok(choice),
        (_, rest) => Err(err!(Protocol, "{} bytes follow the client's confirmation", rest.len())),
    }
}

fn other_user(ends: &Ends) -> Error {
    let user = ends.peer_user.unwrap_or_default();
    err!(
        Refused,
        "the client belongs to user {user}, this server to user {}: {REMEDY} over TCP",
        crate::sys::socket::uid()
    )
}

/// The answer to a hello in the clear, of a server without a secret.
fn welcome(packet: &Packet, options: &Options, ends: &Ends) -> Result<(Vec<u8>, Answering)> {
    let hello = Hello::decode_alone(packet.body())?;
    let plain = |proof| -> Result<_> {
        let (mine, offered) = offer(options, ends, &hello)?;
        let terms = Terms::new(options, &hello, proof)?;
        let welcome = Packet::new(Kind::Welcome, &mine.encode()?).raw;
        Ok((welcome, Answering { terms, offered, expects: Expects::Nothing }))
    };
    if ends.peer_user.is_some() {
        if !options.insecure && !ends.is_same_user() {
            return Err(other_user(ends));
        }
        return plain(if ends.is_proved_by_system() { Proof::System } else { Proof::None });
    }
    if options.insecure && !hello.demands {
        return plain(Proof::None);
    }
    if !ends.is_same_host() {
        return Err(elsewhere(options, ends));
    }
    hello.check_place(ends)?;
    let theirs = hello.cookies.as_ref().map_or(&[][..], |Listed(ids)| ids);
    let cookie = match Cookies::common(theirs) {
        Some(cookie) => cookie,
        None => {
            // One that is in memory only, or was made this very moment.
            let cookies = Cookies::read()?;
            cookies.find(theirs).cloned().ok_or_else(|| no_common(&cookies, theirs))?
        }
    };
    let (mut mine, offered) = offer(options, ends, &hello)?;
    mine.cookie = Some(Bytes(cookie.id));
    mine.seen = Some(ends.name(Role::Responder));
    let terms = Terms::new(options, &hello, Proof::Cookie)?;
    let mut welcome = Packet::new(Kind::Welcome, &[&mine.encode()?[..], &[0; 32]].concat());
    let end = welcome.raw.len() - 32;
    let addresses = ends.addresses(Role::Responder);
    let proof = cookie.prove(&[SERVER, &packet.raw, &welcome.raw[..end], &addresses]);
    welcome.raw[end..].copy_from_slice(&proof);
    let before = [&packet.raw[..], &welcome.raw, &addresses].concat();
    Ok((welcome.raw, Answering { terms, offered, expects: Expects::Cookie { cookie, before } }))
}

fn elsewhere(options: &Options, ends: &Ends) -> Error {
    let who = if options.insecure { "the client takes servers" } else { "this server takes clients" };
    err!(
        Refused,
        "there is no secret, so {who} of the own host only, and the addresses ({}) are those of two hosts, or of one \
         that forwards; {REMEDY}, or, on a network that you trust, let both be insecure = true (IPC_INSECURE=1)",
        ends.name(Role::Responder)
    )
}

fn no_common(cookies: &Cookies, theirs: &[crate::peer::cookie::Id]) -> Error {
    let theirs = match theirs {
        [] => "none, since it sees another host at the other end".to_string(),
        ids => ids.iter().map(short).collect::<Vec<_>>().join(", "),
    };
    err!(
        Refused,
        "the two ends have no cookie in common, with which they would prove that they belong to one user. They may \
         belong to two; or to one that has other folders in the two places (a container, sudo: let IPC_RUNTIME_DIR \
         name the same folder for both); or something in between forwards the connection. If they shall talk, \
         {REMEDY}. The server's cookies: {}; the client named: {theirs}",
        cookies.list()
    )
}
