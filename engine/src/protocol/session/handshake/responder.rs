//! The side that is asked: answers Hellos from nothing, and Initiates once their cookie checks.
//!
//! The order of the checks is the defence: each is dearer than the one before and is reached only
//! by who passed it. Length, rate, MAC, cookie, spent cookies: all without public-key work and
//! without remembering anything. Then the two agreements that reveal the peer, the decision about
//! it, and the reply, which has one length and costs one price whatever it says.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::cookie::{Bound, Cookies, id_of};
use super::messages::{
    ACCEPT_LEN, AcceptPayload, COOKIE_LEN, FLAG_DISCOVER, FLAG_PSK, Frame, HELLO_LEN, INITIATE_LEN,
    InitiatePayload, Opening, PROLOGUE, PROLOGUE_BODY_LEN, Status, accept_auth_key, check_mac,
    check_shape, cookie_auth_key, mac_of, mac1_key, proof_of, start_accept,
};
use super::noise::{FirstRead, SEALED_KEY_LEN, SecondMixed, read_first};
use super::rate::{PrefixRates, Rate};
use super::refusal::{Reason, Refusal};
use crate::limits::{
    ACCEPT_CACHED, HALF_OPEN_MAX, HELLOS_PER_SECOND, INITIATES_PER_SECOND, RESETS_PER_SECOND,
};
use crate::protocol::crypto::{self, KEY_LEN, MAC_LEN, Random, Secret, TAG_LEN};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::established::{Established, Role};
use crate::protocol::session::identity::{BootId, Identity, PublicKey, ResetToken};
use crate::protocol::session::keys::{SessionSecrets, session_id};
use crate::protocol::session::offer::{Choice, HEADS_JSON, NoneInCommon, Offer};
use crate::protocol::session::parameters::Parameters;
use crate::protocol::session::trust::{Standing, Trust};
use crate::protocol::wire::{Packet, PacketKind};
use crate::time::{Duration, Instant};

/// When a pending peer may ask again by itself; a notice may come before.
const PENDING_RETRY_AFTER: Duration = Duration::from_secs(10);
/// When a refused peer may ask again.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// What a responder needs.
pub struct ResponderConfig {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// A secret that every initiator must know, too.
    pub psk: Option<Zeroizing<[u8; KEY_LEN]>>,
    /// What we would speak; its order decides.
    pub offer: Offer,
    /// What we are ready for.
    pub parameters: Parameters,
    /// Which of our lives this is.
    pub boot_id: BootId,
    /// Whether we tell our public key to who asks without knowing it.
    pub discoverable: bool,
    /// Initiates that may cost public-key work in a second; at least 1.
    pub initiates_per_second: u32,
}

impl ResponderConfig {
    /// What is needed at least, and the usual rest.
    pub fn new(identity: Arc<Identity>, boot_id: BootId) -> Self {
        Self {
            identity,
            psk: None,
            offer: Offer::default(),
            parameters: Parameters::default(),
            boot_id,
            discoverable: false,
            initiates_per_second: INITIATES_PER_SECOND,
        }
    }
}

/// What an Initiate led to.
#[derive(Debug, Default)]
pub struct Initiated {
    /// Bytes of the Accept to send back; 0 is silence.
    pub reply_len: usize,
    /// The session, unconfirmed until its first packet opens: till then it must neither send nor
    /// deliver, nor take another session's place.
    pub established: Option<Box<Established>>,
    /// A peer that now waits for an operator; it wants a notice when it is accepted.
    pub pending: Option<PublicKey>,
    /// Who was refused, and what it was told.
    pub refused: Option<(PublicKey, Refusal)>,
}

/// Answers the handshakes of one endpoint.
pub struct Responder {
    config: ResponderConfig,
    mac_key: [u8; KEY_LEN],
    mac_key_discover: [u8; KEY_LEN],
    cookie_auth: [u8; KEY_LEN],
    accept_auth: [u8; KEY_LEN],
    cookies: Cookies,
    hellos: Rate,
    /// Initiates that cost hashes.
    initiates: Rate,
    /// Initiates that cost public-key work.
    agreements: Rate,
    /// Answers to packets of unknown sessions.
    resets: Rate,
    prefixes: PrefixRates,
    accepts: Accepts,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive() // It holds secrets.
    }
}

impl Responder {
    /// A responder that has answered nobody.
    pub fn new(now: Instant, config: ResponderConfig, random: &mut Random) -> Self {
        let own = config.identity.public();
        Self {
            mac_key: mac1_key(Some(&own)),
            mac_key_discover: mac1_key(None),
            cookie_auth: cookie_auth_key(&own),
            accept_auth: accept_auth_key(&own),
            cookies: Cookies::new(now, random),
            hellos: Rate::new(HELLOS_PER_SECOND, HELLOS_PER_SECOND / 10),
            initiates: Rate::new(HELLOS_PER_SECOND, HELLOS_PER_SECOND / 10),
            agreements: Rate::new(config.initiates_per_second, config.initiates_per_second),
            resets: Rate::new(RESETS_PER_SECOND, RESETS_PER_SECOND / 10),
            prefixes: PrefixRates::new(random.bytes()),
            accepts: Accepts::default(),
            config,
        }
    }

    /// What it was made with.
    pub const fn config(&self) -> &ResponderConfig {
        &self.config
    }

    /// Whether `from` may be told now that a session is unknown; counts it if so.
    pub fn may_reset(&mut self, now: Instant, from: IpAddr) -> bool {
        self.resets.allows(now) && self.prefixes.resets(from).take(now) && self.resets.take(now)
    }

    /// Answers a Hello with a Cookie in `out`, and remembers nothing.
    ///
    /// # Errors
    /// The reason to drop it.
    ///
    /// # Panics
    /// If `out` has no room for a Cookie, fewer than 512 bytes.
    pub fn handle_hello(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &Packet,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        check_shape(packet, PacketKind::Hello)?;
        if datagram.len() < HELLO_LEN {
            return Err(DropReason::HandshakeInvalid);
        }
        if !self.hellos.take(now) {
            return Err(DropReason::OverBudget);
        }
        let (opening, bytes) = Opening::read(&datagram[packet.body()])?;
        let discover = self.check_discover(&opening)?;
        let key = if discover { &self.mac_key_discover } else { &self.mac_key };
        check_mac(packet, datagram, key, &[])?;

        let transaction = packet.head.transaction;
        let bound = Bound { from, transaction, opening: &bytes };
        let cookie = self.cookies.bake(now, discover, self.config.offer.bits(), bound);
        let body_len = if discover { COOKIE_LEN + KEY_LEN } else { COOKIE_LEN };
        let frame = Frame::of_body(PacketKind::Cookie, transaction, body_len, out);
        assert!(frame.len < datagram.len(), "a cookie is shorter than any hello");
        let (place, key) = out[frame.body()].split_at_mut(COOKIE_LEN);
        place.copy_from_slice(&cookie);
        if discover {
            key.copy_from_slice(self.config.identity.public().as_bytes());
        }
        frame.authenticate(&self.cookie_auth, &mac_of(packet, datagram), out);
        Ok(frame.len)
    }

    /// Answers an Initiate with an Accept in `out`.
    ///
    /// `is_session_taken` tells which session ids are in use; `association_of` which association
    /// with a peer a session would belong to, the present one or, if there is none, the next.
    ///
    /// # Errors
    /// The reason to drop it.
    ///
    /// # Panics
    /// If `out` has no room for an Accept, 512 bytes.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing of the caller's")]
    pub fn handle_initiate(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &Packet,
        datagram: &[u8],
        trust: &mut Trust,
        is_session_taken: &dyn Fn(u64) -> bool,
        association_of: &dyn Fn(&PublicKey) -> u64,
        random: &mut Random,
        out: &mut [u8],
    ) -> Result<Initiated, DropReason> {
        check_shape(packet, PacketKind::Initiate)?;
        if datagram.len() < INITIATE_LEN {
            return Err(DropReason::HandshakeInvalid);
        }
        if !self.initiates.take(now) {
            return Err(DropReason::OverBudget);
        }
        check_mac(packet, datagram, &self.mac_key, &[])?;
        let body = &datagram[packet.body()];
        let (opening, bytes) = Opening::read(body)?;
        self.check_discover(&opening)?;
        let cookie = proof_of(body)?;
        let transaction = packet.head.transaction;
        let bound = Bound { from, transaction, opening: &bytes };
        self.cookies.check(now, &cookie, bound)?;
        let asked = Asked { from, cookie: id_of(&cookie), hash: crypto::hash(&[datagram]) };
        self.accepts.expire(now);
        if self.cookies.is_spent(&cookie) {
            let accept = self.accepts.find(&asked).ok_or(DropReason::CookieInvalid)?;
            out[..accept.len()].copy_from_slice(accept);
            return Ok(Initiated { reply_len: accept.len(), ..Initiated::default() });
        }
        self.take_agreement(now, from)?;

        // A copy, opened in place; a cookie is spent only by who proves a key with it, so that a
        // forger cannot spend another's.
        let mut sealed = Zeroizing::new(body[PROLOGUE_BODY_LEN..].to_vec());
        if sealed.len() < SEALED_KEY_LEN + TAG_LEN {
            return Err(DropReason::HandshakeInvalid);
        }
        let own = self.config.identity.public();
        let read = read_first(
            &[PROLOGUE, &transaction.to_be_bytes(), &body[..PROLOGUE_BODY_LEN]],
            (self.config.identity.secret(), own.as_bytes()),
            &opening.ephemeral,
            &mut sealed,
        );
        let read = read.map_err(|_| DropReason::AuthenticationFailed)?;
        let peer = PublicKey::from_bytes(read.peer);
        let text = &sealed[SEALED_KEY_LEN..sealed.len() - TAG_LEN];
        let said = InitiatePayload::read(text)?;
        if peer == own || said.device != peer.device_id() {
            return Err(DropReason::HandshakeInvalid);
        }
        self.cookies.spend(&cookie);

        let verdict = self.judge(&opening, &peer, &said, trust, from);
        let boot = self.config.boot_id.of_association(association_of(&peer));
        let (initiated, mut payload) =
            self.answer(&opening, read, verdict, peer, said, is_session_taken, random)?;
        payload.boot = boot;
        self.reply(now, asked, packet, datagram, initiated, payload, out)
    }

    fn check_discover(&self, opening: &Opening) -> Result<bool, DropReason> {
        let discover = opening.flags & FLAG_DISCOVER != 0;
        if discover && !self.config.discoverable {
            return Err(DropReason::HandshakeUnexpected);
        }
        Ok(discover)
    }

    /// Takes one out of the budget for public-key work. Prefixes count only when it runs low: a
    /// quiet responder has no reason to slow down anyone.
    fn take_agreement(&mut self, now: Instant, from: SocketAddr) -> Result<(), DropReason> {
        let is_busy = self.agreements.is_busy(now);
        let prefix = self.prefixes.initiates(from.ip());
        if !self.agreements.allows(now) || (is_busy && !prefix.allows(now)) {
            return Err(DropReason::OverBudget);
        }
        prefix.charge(now);
        self.agreements.charge(now);
        Ok(())
    }

    fn judge(
        &self,
        opening: &Opening,
        peer: &PublicKey,
        said: &InitiatePayload,
        trust: &mut Trust,
        from: SocketAddr,
    ) -> Verdict {
        let rejected = |reason| {
            Verdict::Refused(Refusal::Rejected { reason, retry_after: REFUSED_RETRY_AFTER })
        };
        let choice = match self.config.offer.choose(opening.offer) {
            Ok(choice) => choice,
            Err(NoneInCommon::Heads) => return rejected(Reason::NoCommonHead),
            Err(NoneInCommon::Modes) => return rejected(Reason::NoCommonMode),
            Err(NoneInCommon::Suites) => return rejected(Reason::NoCommonSuite),
        };
        if (opening.flags & FLAG_PSK != 0) != self.config.psk.is_some() {
            return rejected(Reason::PskMismatch);
        }
        match trust.decide(peer, &said.name, &said.role, from.ip()) {
            Standing::Accepted => Verdict::Accepted(choice),
            Standing::Pending => Verdict::Pending,
            Standing::Rejected => rejected(Reason::KeyRejected),
            Standing::Denied => {
                Verdict::Refused(Refusal::Denied { retry_after: REFUSED_RETRY_AFTER })
            }
        }
    }

    /// Finishes the handshake up to the Accept's payload. The work is the same for each verdict.
    #[expect(clippy::too_many_arguments, reason = "all that was learnt so far, used up here")]
    fn answer(
        &self,
        opening: &Opening,
        read: FirstRead,
        verdict: Verdict,
        peer: PublicKey,
        said: InitiatePayload,
        is_session_taken: &dyn Fn(u64) -> bool,
        random: &mut Random,
    ) -> Result<(Answer, AcceptPayload), DropReason> {
        let ephemeral = Secret::generate(random);
        let public = ephemeral.public();
        // Without the peer's flag it mixes zeros, and can still read that it needs a key.
        let mixes_psk = opening.flags & FLAG_PSK != 0;
        let no_psk = Zeroizing::new([0; KEY_LEN]);
        let psk = self.config.psk.as_ref().filter(|_| mixes_psk).unwrap_or(&no_psk);
        let mixed = read.mix_second((&ephemeral, &public), psk);
        let mixed = mixed.map_err(|_| DropReason::HandshakeInvalid)?;
        let (salt, session) = draw_session(mixed.hash(), is_session_taken)?;
        let reset_token = self.config.identity.reset_token(session);
        let mut payload = AcceptPayload {
            status: Status::Accepted,
            reason: 0,
            suite: 0,
            mode: 0,
            heads: 0,
            salt: 0,
            retry_after_ms: 0,
            boot: self.config.boot_id,
            reset_token: [0; MAC_LEN],
            parameters: self.config.parameters,
        };
        let millis = |span: Duration| u32::try_from(span.as_micros() / 1_000).unwrap_or(u32::MAX);
        match verdict {
            Verdict::Accepted(choice) => {
                payload.suite = choice.suite.number();
                payload.mode = choice.mode.number();
                payload.heads = HEADS_JSON;
                payload.salt = salt;
                payload.reset_token = reset_token.0;
            }
            Verdict::Pending => {
                payload.status = Status::Pending;
                payload.retry_after_ms = millis(PENDING_RETRY_AFTER);
            }
            Verdict::Refused(Refusal::Rejected { reason, retry_after }) => {
                payload.status = Status::Rejected;
                payload.reason = reason as u8;
                payload.retry_after_ms = millis(retry_after);
            }
            Verdict::Refused(Refusal::Denied { retry_after }) => {
                payload.status = Status::Denied;
                payload.retry_after_ms = millis(retry_after);
            }
        }
        Ok((
            Answer { ephemeral: public, mixed, verdict, peer, said, session, reset_token },
            payload,
        ))
    }

    /// Writes, seals and keeps the Accept.
    #[expect(clippy::too_many_arguments, reason = "the packet, its answer and where it goes")]
    fn reply(
        &mut self,
        now: Instant,
        asked: Asked,
        packet: &Packet,
        datagram: &[u8],
        answer: Answer,
        payload: AcceptPayload,
        out: &mut [u8],
    ) -> Result<Initiated, DropReason> {
        let transaction = packet.head.transaction;
        let frame = Frame::of_len(PacketKind::Accept, transaction, ACCEPT_LEN, out);
        let sealed = start_accept(&answer.ephemeral, &mut out[frame.body()]);
        payload.write(sealed);
        let split = answer.mixed.write(sealed);
        frame.authenticate(&self.accept_auth, &mac_of(packet, datagram), out);
        let secrets = SessionSecrets::derive(split);

        let Answer { verdict, peer, said, session, reset_token, .. } = answer;
        let mut initiated = Initiated { reply_len: frame.len, ..Initiated::default() };
        match verdict {
            Verdict::Accepted(Choice { suite, mode }) => {
                initiated.established = Some(Box::new(Established {
                    session,
                    role: Role::Responder,
                    peer,
                    peer_boot: said.boot,
                    peer_name: said.name,
                    peer_role: said.role,
                    suite,
                    mode,
                    peer_parameters: said.parameters,
                    secrets,
                    reset_token,
                }));
            }
            Verdict::Pending => initiated.pending = Some(peer),
            Verdict::Refused(refusal) => {
                initiated.refused = Some((peer, refusal));
                if !self.prefixes.may_tell_refusal(now, asked.from.ip()) {
                    initiated.reply_len = 0;
                    return Ok(initiated);
                }
            }
        }
        self.accepts.keep(now, asked, &out[..frame.len]);
        Ok(initiated)
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Accepted(Choice),
    Pending,
    Refused(Refusal),
}

/// A handshake that lacks only its reply.
struct Answer {
    /// Our ephemeral public key; the secret one has served.
    ephemeral: [u8; KEY_LEN],
    mixed: SecondMixed,
    verdict: Verdict,
    peer: PublicKey,
    said: InitiatePayload,
    session: u64,
    reset_token: ResetToken,
}

/// The first salt whose session id is free.
fn draw_session(
    hash: &[u8; 32],
    is_session_taken: &dyn Fn(u64) -> bool,
) -> Result<(u8, u64), DropReason> {
    (0..=u8::MAX)
        .map(|salt| (salt, session_id(hash, salt)))
        .find(|&(_, session)| session != 0 && !is_session_taken(session))
        .ok_or(DropReason::OverBudget)
}

/// One Initiate, for recognising it when it comes again.
struct Asked {
    from: SocketAddr,
    cookie: u64,
    hash: [u8; 32],
}

/// Accepts that were sent, for a while: an Initiate that comes again, byte for byte and from the
/// same address, is answered again byte for byte.
#[derive(Default)]
struct Accepts {
    by_cookie: BTreeMap<u64, Accept>,
    /// In the order in which they expire.
    order: VecDeque<(Instant, u64)>,
}

struct Accept {
    from: SocketAddr,
    initiate: [u8; 32],
    datagram: Box<[u8]>,
}

impl Accepts {
    fn find(&self, asked: &Asked) -> Option<&[u8]> {
        let accept = self.by_cookie.get(&asked.cookie)?;
        let is_same = accept.from == asked.from && accept.initiate == asked.hash;
        is_same.then_some(&*accept.datagram)
    }

    /// The oldest gives way: its initiator has had its reply, or begins again.
    fn keep(&mut self, now: Instant, asked: Asked, datagram: &[u8]) {
        if self.order.len() >= HALF_OPEN_MAX {
            self.drop_oldest();
        }
        self.order.push_back((now + ACCEPT_CACHED, asked.cookie));
        let accept = Accept { from: asked.from, initiate: asked.hash, datagram: datagram.into() };
        self.by_cookie.insert(asked.cookie, accept);
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|&(until, _)| now >= until) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, cookie)) = self.order.pop_front() {
            self.by_cookie.remove(&cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL 3.11
    #[test]
    fn oldest_accept_gives_way_when_the_room_is_full() {
        let asked = |cookie: u64| Asked {
            from: SocketAddr::from(([10, 0, 0, 1], 1)),
            cookie,
            hash: [0; 32],
        };
        let mut accepts = Accepts::default();
        let kept = HALF_OPEN_MAX as u64;
        for cookie in 0..kept + 10 {
            accepts.keep(Instant::from_nanos(cookie), asked(cookie), b"accept");
        }
        assert_eq!(accepts.by_cookie.len(), HALF_OPEN_MAX);
        assert_eq!(accepts.find(&asked(9)), None);
        assert_eq!(accepts.find(&asked(10)), Some(b"accept".as_slice()));
        accepts.expire(Instant::from_nanos(kept) + ACCEPT_CACHED);
        assert_eq!(accepts.by_cookie.len(), 9);
        assert_eq!(accepts.order.len(), 9);
    }
}
