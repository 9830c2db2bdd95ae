//! The client's half of the hello.

use super::bytes::{Bytes, Listed};
use super::ends::Ends;
use super::packet::{Kind, No, Packet, refused, said};
use super::{Agreed, CLIENT, Choice, Hello, PROLOGUE, Proof, REMEDY, SERVER, Terms, encode};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::peer::choose::{Chosen, choose};
use crate::peer::cookie::{Cookies, short};
use crate::peer::options::Options;
use crate::transport::{Handshake, Role};

/// A client that has said hello.
#[derive(Debug)]
pub(in crate::peer) struct Calling {
    options: Options,
    ends: Ends,
    hello: Packet,
    handshake: Option<Handshake>,
    cookies: Option<Cookies>,
}

impl Calling {
    /// Begins: what to send first.
    pub fn begin(options: &Options, ends: &Ends) -> Result<(Calling, Vec<u8>)> {
        let mut hello = Hello::of(options, ends)?;
        let mut cookies = None;
        let (hello, handshake) = match &options.secret {
            Some(secret) => {
                let mut handshake = Handshake::new(Role::Initiator, secret, &PROLOGUE)?;
                (Packet::new(Kind::SealedHello, &handshake.write(&hello.encode()?)?), Some(handshake))
            }
            None => {
                if ends.peer_user.is_none() && ends.is_same_host() {
                    let known = cookies.insert(Cookies::read()?);
                    hello.cookies = Some(Listed(known.ids()));
                }
                (Packet::new(Kind::Hello, &hello.encode()?), None)
            }
        };
        let first = hello.raw.clone();
        Ok((Calling { options: options.clone(), ends: ends.clone(), hello, handshake, cookies }, first))
    }

    /// The server's answer: what was agreed, and what to send last.
    pub fn answered(mut self, packet: &Packet) -> std::result::Result<(Agreed, Vec<u8>), No> {
        match (packet.kind, self.handshake.take()) {
            (Kind::Refusal, _) => Err(No::silent(self.explain(refused(packet, "server")))),
            (Kind::Welcome, None) => self.welcomed(packet),
            (Kind::SealedWelcome, Some(mut handshake)) => {
                let hello = Hello::decode_alone(&handshake.read(packet.body())?)?;
                let mut keys = handshake.finish()?;
                let (chosen, choice) = self.choose(&hello)?;
                let confirm = Packet::new(Kind::Confirm, &keys.seal(&choice)?);
                Ok((Terms::new(&self.options, &hello, Proof::Secret)?.over(chosen, Some(keys)), confirm.raw))
            }
            (Kind::Welcome, Some(_)) => {
                Err(err!(Auth, "the server answered without proof that it knows the secret").into())
            }
            (kind, _) => Err(err!(Protocol, "the server answered with {kind:?}").into()),
        }
    }

    /// What the server could not know: which cookies there are here.
    fn explain(&self, refusal: Error) -> Error {
        match &self.cookies {
            Some(cookies) if refusal.code() == Code::Refused => {
                Error::new(Code::Refused, "", format!("{}. This client's: {}", refusal.what(), cookies.list()))
            }
            _ => refusal,
        }
    }

    fn welcomed(&self, packet: &Packet) -> std::result::Result<(Agreed, Vec<u8>), No> {
        let (hello, rest) = Hello::decode(packet.body())?;
        let Some(Bytes(id)) = hello.cookie else {
            if !rest.is_empty() {
                return Err(err!(Protocol, "{} bytes follow the server's welcome", rest.len()).into());
            }
            let proof = self.without_cookie()?;
            let (chosen, choice) = self.choose(&hello)?;
            let terms = Terms::new(&self.options, &hello, proof)?;
            return Ok((terms.over(chosen, None), Packet::new(Kind::Confirm, &choice).raw));
        };
        let known = self.cookies.as_ref().and_then(|cookies| cookies.find(&[id]));
        let (Some(cookie), Some((said_before, proof)), true) =
            (known, packet.split_proof(), rest.len() == size_of::<crate::peer::cookie::Proof>())
        else {
            return Err(
                err!(Protocol, "the server's welcome names a cookie that this client did not, or proves none").into()
            );
        };
        let addresses = self.ends.addresses(Role::Initiator);
        if !cookie.is_proved(&[SERVER, &self.hello.raw, said_before, &addresses], proof) {
            let here = self.ends.name(Role::Initiator);
            let there = said(hello.seen.as_deref().unwrap_or("not said"), 120);
            return Err(err!(
                Refused,
                "the server says that it has the cookie {} (here in {}), but its proof does not fit this connection, \
                 which goes from {here} as seen here, and from {there} as seen by the server: something in between \
                 forwards it (ssh -L, socat, a proxy, a published port of a container), or pretends. Connect to the \
                 server itself, or {REMEDY}",
                short(&id),
                cookie.place
            )
            .into());
        }
        hello.check_place(&self.ends)?;
        let (chosen, choice) = self.choose(&hello)?;
        let mut confirm = Packet::new(Kind::Confirm, &[&choice[..], &[0; 32]].concat());
        let end = confirm.raw.len() - 32;
        let proof = cookie.prove(&[CLIENT, &self.hello.raw, &packet.raw, &addresses, &confirm.raw[..end]]);
        confirm.raw[end..].copy_from_slice(&proof);
        Ok((Terms::new(&self.options, &hello, Proof::Cookie)?.over(chosen, None), confirm.raw))
    }

    /// The link, of those that the server that said `hello` offers, and what to say of it.
    fn choose(&self, hello: &Hello) -> Result<(Chosen, Vec<u8>)> {
        let token = hello.token.as_ref().map(|Bytes(token)| token);
        let (chosen, link) = choose(&self.options, Hello::near(hello)?, &hello.offers, token)?;
        Ok((chosen, encode(&Choice { link: link.map(String::from) })?))
    }

    /// What a welcome without a cookie is worth.
    fn without_cookie(&self) -> Result<Proof> {
        match self.ends.peer_user {
            Some(_) if self.ends.is_same_user() => Ok(Proof::System),
            Some(_) if self.options.insecure && self.ends.is_proved_by_system() => Ok(Proof::System),
            _ if self.options.insecure => Ok(Proof::None),
            Some(user) => Err(err!(
                Refused,
                "the server belongs to user {user}, this client to user {}: {REMEDY}",
                crate::sys::socket::uid()
            )),
            None => Err(err!(
                Refused,
                "the server has no secret and gave no proof that it belongs to this user: {REMEDY}, or, where everyone \
                 can be trusted, let both be insecure = true (IPC_INSECURE=1)"
            )),
        }
    }
}
