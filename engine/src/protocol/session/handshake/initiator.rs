//! The side that opens a session: Hello, wait for a Cookie, Initiate, wait for an Accept.
//!
//! A packet that does not verify is ignored and the true one is still awaited, so a forger has to
//! stop the truth, not only to be faster. What goes out again goes out byte for byte: the same key
//! and nonce then only ever meet the same plaintext. When Initiates stay unanswered (a forged or
//! outdated cookie, a responder that restarted) it begins again with a new ephemeral key.

use core::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::messages::{
    ACCEPT_LEN, AcceptPayload, COOKIE_LEN, FLAG_DISCOVER, FLAG_PSK, Frame, HELLO_LEN, INITIATE_LEN,
    InitiatePayload, OPENING_LEN, Opening, PROLOGUE, PROLOGUE_BODY_LEN, Status, accept_auth_key,
    check_mac, check_shape, cookie_auth_key, mac1_key, read_accept, read_cookie,
};
use super::noise::{FirstWritten, SEALED_KEY_LEN, write_first};
use super::refusal::{Reason, Refusal};
use crate::protocol::crypto::{KEY_LEN, MAC_LEN, Random, Secret, Suite, TAG_LEN};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::established::{Established, Role};
use crate::protocol::session::identity::{BootId, Identity, PeerText, PublicKey, ResetToken};
use crate::protocol::session::keys::{SessionSecrets, session_id};
use crate::protocol::session::offer::{Choice, HEADS_JSON, Mode, Offer};
use crate::protocol::session::parameters::Parameters;
use crate::protocol::wire::{Packet, PacketKind};
use crate::time::{Duration, Instant};

/// Retries grow up to this interval.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(16);
/// Initiates that may stay unanswered before it begins again with a Hello.
const INITIATES_UNANSWERED_MAX: u8 = 4;
/// Accepts that may cost public-key work between two of our own packets.
const ACCEPTS_TRIED_MAX: u8 = 8;

/// What an initiator needs.
#[derive(Clone)]
pub struct InitiatorConfig {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Whom we want; `None` asks whoever is at the address for its key, and trusts the network
    /// between for that.
    pub peer: Option<PublicKey>,
    /// A secret that the responder must know, too.
    pub psk: Option<Zeroizing<[u8; KEY_LEN]>>,
    /// What we would speak.
    pub offer: Offer,
    /// What we are ready for.
    pub parameters: Parameters,
    /// Which of our lives this is.
    pub boot_id: BootId,
    /// What we call ourselves; may be empty.
    pub name: PeerText,
    /// What we are for; may be empty.
    pub role: PeerText,
    /// What an operator gave us to show; may be empty.
    pub token: PeerText,
    /// After this long the first packet is sent again: 1 s, or three known round trips, or 50 ms
    /// in a local network.
    pub first_retry: Duration,
    /// After this long it stops: 90 s.
    pub give_up_after: Duration,
}

impl InitiatorConfig {
    /// What is needed at least, and the usual rest.
    pub fn new(identity: Arc<Identity>, peer: Option<PublicKey>, boot_id: BootId) -> Self {
        Self {
            identity,
            peer,
            psk: None,
            offer: Offer::default(),
            parameters: Parameters::default(),
            boot_id,
            name: PeerText::default(),
            role: PeerText::default(),
            token: PeerText::default(),
            first_retry: Duration::from_secs(1),
            give_up_after: Duration::from_secs(90),
        }
    }
}

/// What became of a packet that verified.
#[derive(Debug)]
pub enum Progress {
    /// The next packet is under way, or the peer's is awaited.
    Waiting,
    /// The session is open. Its first protected packet confirms it to the responder.
    Established(Box<Established>),
    /// An operator over there has to decide; ask again after a while, or when a notice comes.
    Pending {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The responder does not want this session.
    Refused(Refusal),
}

/// Why there is no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// It took too long.
    TimedOut(LastHeard),
}

/// How far a handshake came that timed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastHeard {
    /// A Cookie, so the peer's key is right, but no Accept.
    Cookie,
    /// Nothing: no path, nobody there, or another key.
    Nothing,
    /// An Accept that does not open: the pre-shared keys differ.
    UnreadableAccept,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TimedOut(heard) = self;
        f.write_str(match heard {
            LastHeard::Cookie => "the peer answered the hello but not the initiate",
            LastHeard::Nothing => "nobody with that key answered at that address",
            LastHeard::UnreadableAccept => {
                "the peer's answer cannot be opened: the pre-shared keys differ"
            }
        })
    }
}

impl std::error::Error for HandshakeError {}

/// One attempt to open a session.
pub struct Initiator {
    config: InitiatorConfig,
    transaction: u64,
    state: State,
    /// The last packet, for sending it again as it is.
    datagram: Vec<u8>,
    /// Whether it is to be sent now.
    is_due: bool,
    /// When the present Hello was first sent.
    hello_at: Instant,
    retry_interval: Duration,
    retry_at: Instant,
    give_up_at: Instant,
    heard: LastHeard,
}

enum State {
    Cookie(ExpectCookie),
    Accept(Box<ExpectAccept>),
    Over,
}

/// The Hello is out.
struct ExpectCookie {
    ephemeral: Secret,
    ephemeral_public: [u8; KEY_LEN],
    opening: [u8; OPENING_LEN],
    hello_mac: [u8; MAC_LEN],
}

/// The Initiate is out.
struct ExpectAccept {
    ephemeral: Secret,
    peer: PublicKey,
    written: FirstWritten,
    initiate_mac: [u8; MAC_LEN],
    transmissions: u8,
    accepts_tried: u8,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").finish_non_exhaustive() // It holds secrets.
    }
}

impl Initiator {
    /// Starts an attempt; the Hello is due at once.
    pub fn start(now: Instant, config: InitiatorConfig, random: &mut Random) -> Self {
        let transaction = random.u64();
        let (step, datagram) = ExpectCookie::start(&config, transaction, random);
        let mut initiator = Self {
            transaction,
            state: State::Cookie(step),
            datagram,
            is_due: true,
            hello_at: now,
            retry_interval: config.first_retry,
            retry_at: now,
            give_up_at: now + config.give_up_after,
            heard: LastHeard::Nothing,
            config,
        };
        initiator.schedule_retry(now, random);
        initiator
    }

    /// Starts over after it was pending or refused, or timed out: the same wish, nothing else in
    /// common.
    pub fn start_again(self, now: Instant, random: &mut Random) -> Self {
        Self::start(now, self.config, random)
    }

    /// The transaction id that ties this handshake's packets together.
    pub const fn transaction(&self) -> u64 {
        self.transaction
    }

    /// What it was started with.
    pub const fn config(&self) -> &InitiatorConfig {
        &self.config
    }

    /// Takes a Cookie or an Accept with our transaction id.
    ///
    /// # Errors
    /// The reason to drop it; what is awaited is awaited still.
    pub fn handle(
        &mut self,
        now: Instant,
        packet: &Packet,
        datagram: &[u8],
        random: &mut Random,
    ) -> Result<Progress, DropReason> {
        if packet.head.transaction != self.transaction {
            return Err(DropReason::HandshakeUnexpected);
        }
        match (&mut self.state, packet.head.packet) {
            (State::Cookie(step), PacketKind::Cookie) => {
                let (cookie, peer) = step.check(&self.config, packet, datagram)?;
                let written = step.initiate(&self.config, self.transaction, &cookie, peer)?;
                let (next, datagram) = written;
                self.state = State::Accept(Box::new(next));
                self.datagram = datagram;
                self.is_due = true;
                self.heard = self.heard.max_with(LastHeard::Cookie);
                // The answer shows how long the path is, losses included: an Initiate that is sent
                // again sooner would use up its tries before the Accept can be here.
                let answered_in = now.saturating_since(self.hello_at);
                self.retry_interval = self.config.first_retry.max(answered_in.saturating_mul(2));
                self.schedule_retry(now, random);
                Ok(Progress::Waiting)
            }
            (State::Accept(step), PacketKind::Accept) => {
                let progress = match step.accept(&self.config, packet, datagram) {
                    Ok(progress) => progress,
                    Err(reason) => {
                        if reason == DropReason::AuthenticationFailed {
                            self.heard = LastHeard::UnreadableAccept;
                        }
                        return Err(reason);
                    }
                };
                self.state = State::Over;
                self.is_due = false;
                self.datagram = Vec::new();
                Ok(progress)
            }
            _ => Err(DropReason::HandshakeUnexpected),
        }
    }

    /// Time passes: sends again what is unanswered, or gives up and says why.
    pub fn handle_timeout(&mut self, now: Instant, random: &mut Random) -> Option<HandshakeError> {
        if matches!(self.state, State::Over) {
            return None;
        }
        if now >= self.give_up_at {
            self.state = State::Over;
            self.is_due = false;
            return Some(HandshakeError::TimedOut(self.heard));
        }
        if now < self.retry_at {
            return None;
        }
        if let State::Accept(step) = &mut self.state {
            step.accepts_tried = 0;
            step.transmissions += 1;
            if step.transmissions > INITIATES_UNANSWERED_MAX {
                let (step, datagram) = ExpectCookie::start(&self.config, self.transaction, random);
                self.state = State::Cookie(step);
                self.datagram = datagram;
                self.hello_at = now;
            }
        }
        self.is_due = true;
        self.retry_interval = self.retry_interval.saturating_mul(2);
        self.schedule_retry(now, random);
        None
    }

    /// Copies the datagram that is due to `out` and returns its length. It is at most 1200 bytes.
    pub fn poll_transmit(&mut self, _now: Instant, out: &mut [u8]) -> Option<usize> {
        if !self.is_due {
            return None;
        }
        self.is_due = false;
        out[..self.datagram.len()].copy_from_slice(&self.datagram);
        Some(self.datagram.len())
    }

    /// When [`Self::handle_timeout`] wants to be called; never, once it is over.
    pub fn next_timeout(&self) -> Instant {
        match self.state {
            State::Over => Instant::from_nanos(u64::MAX),
            State::Cookie(_) | State::Accept(_) => self.retry_at.min(self.give_up_at),
        }
    }

    /// The next retry, half an interval early to half an interval late.
    fn schedule_retry(&mut self, now: Instant, random: &mut Random) {
        self.retry_interval = self.retry_interval.min(RETRY_INTERVAL_MAX);
        let per_mille = 500 + u32::try_from(random.below(1_001)).expect("below 1001");
        self.retry_at = now + self.retry_interval.mul_ratio(per_mille, 1_000);
    }
}

impl LastHeard {
    /// An unreadable Accept is remembered over whatever comes later.
    fn max_with(self, other: Self) -> Self {
        if self == Self::UnreadableAccept { self } else { other }
    }
}

impl ExpectCookie {
    fn start(config: &InitiatorConfig, transaction: u64, random: &mut Random) -> (Self, Vec<u8>) {
        let ephemeral = Secret::generate(random);
        let ephemeral_public = ephemeral.public();
        let discover = if config.peer.is_none() { FLAG_DISCOVER } else { 0 };
        let psk = if config.psk.is_some() { FLAG_PSK } else { 0 };
        let opening = Opening {
            flags: discover | psk,
            offer: config.offer.bits(),
            ephemeral: ephemeral_public,
        };
        let opening = opening.write();
        let mut datagram = vec![0; HELLO_LEN];
        let frame = Frame::of_len(PacketKind::Hello, transaction, HELLO_LEN, &mut datagram);
        datagram[frame.body()][..OPENING_LEN].copy_from_slice(&opening);
        let key = mac1_key(config.peer.as_ref());
        let hello_mac = frame.authenticate(&key, &[], &mut datagram);
        (Self { ephemeral, ephemeral_public, opening, hello_mac }, datagram)
    }

    /// The cookie and whose it is, if it answers our Hello.
    fn check(
        &self,
        config: &InitiatorConfig,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<([u8; COOKIE_LEN], PublicKey), DropReason> {
        check_shape(packet, PacketKind::Cookie)?;
        let (cookie, attached) = read_cookie(&datagram[packet.body()])?;
        let peer = match (config.peer, attached) {
            (Some(peer), None) => peer,
            (None, Some(found)) => found,
            _ => return Err(DropReason::HandshakeInvalid),
        };
        check_mac(packet, datagram, &cookie_auth_key(&peer), &self.hello_mac)?;
        if peer == config.identity.public() {
            return Err(DropReason::HandshakeInvalid);
        }
        Ok((cookie, peer))
    }

    /// Writes the Initiate.
    fn initiate(
        &self,
        config: &InitiatorConfig,
        transaction: u64,
        cookie: &[u8; COOKIE_LEN],
        peer: PublicKey,
    ) -> Result<(ExpectAccept, Vec<u8>), DropReason> {
        let mut datagram = vec![0; INITIATE_LEN];
        let frame = Frame::of_len(PacketKind::Initiate, transaction, INITIATE_LEN, &mut datagram);
        let body = &mut datagram[frame.body()];
        let (prologue, sealed) = body.split_at_mut(PROLOGUE_BODY_LEN);
        prologue[..OPENING_LEN].copy_from_slice(&self.opening);
        prologue[OPENING_LEN..OPENING_LEN + COOKIE_LEN].copy_from_slice(cookie);
        let payload = InitiatePayload {
            boot: config.boot_id,
            device: config.identity.public().device_id(),
            name: config.name.clone(),
            role: config.role.clone(),
            token: config.token.clone(),
            parameters: config.parameters,
        };
        payload.write(&mut sealed[SEALED_KEY_LEN..]);
        let own = config.identity.public();
        let written = write_first(
            &[PROLOGUE, &transaction.to_be_bytes(), prologue],
            (&self.ephemeral, &self.ephemeral_public),
            (config.identity.secret(), own.as_bytes()),
            peer.as_bytes(),
            sealed,
        );
        let written = written.map_err(|_| DropReason::HandshakeInvalid)?;
        let initiate_mac = frame.authenticate(&mac1_key(Some(&peer)), &[], &mut datagram);
        let ephemeral = self.ephemeral.clone();
        let next = ExpectAccept {
            ephemeral,
            peer,
            written,
            initiate_mac,
            transmissions: 1,
            accepts_tried: 0,
        };
        Ok((next, datagram))
    }
}

impl ExpectAccept {
    fn accept(
        &mut self,
        config: &InitiatorConfig,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<Progress, DropReason> {
        check_shape(packet, PacketKind::Accept)?;
        if datagram.len() != ACCEPT_LEN {
            return Err(DropReason::HandshakeInvalid);
        }
        let (peer_ephemeral, sealed) = read_accept(&datagram[packet.body()])?;
        check_mac(packet, datagram, &accept_auth_key(&self.peer), &self.initiate_mac)?;
        if self.accepts_tried == ACCEPTS_TRIED_MAX {
            return Err(DropReason::OverBudget);
        }
        self.accepts_tried += 1;

        let no_psk = Zeroizing::new([0; KEY_LEN]);
        let psk = config.psk.as_ref().unwrap_or(&no_psk);
        let own = config.identity.secret();
        // A forged Accept must not use up what the true one needs.
        let written = self.written.clone();
        let mixed = written.mix_second(&self.ephemeral, own, &peer_ephemeral, psk);
        let mixed = mixed.map_err(|_| DropReason::HandshakeInvalid)?;
        let session_hash = *mixed.hash();
        let mut payload = Zeroizing::new(sealed.to_vec());
        let split = mixed.read(&mut payload).map_err(|_| DropReason::AuthenticationFailed)?;
        let text_len = payload.len() - TAG_LEN;
        let payload = AcceptPayload::read(&payload[..text_len])?;
        let retry_after = Duration::from_millis(payload.retry_after_ms.into());
        match payload.status {
            Status::Accepted => {
                let choice = chosen(&payload).filter(|choice| config.offer.holds(*choice));
                let choice = choice.ok_or(DropReason::HandshakeInvalid)?;
                let session = session_id(&session_hash, payload.salt);
                if session == 0 {
                    return Err(DropReason::HandshakeInvalid);
                }
                Ok(Progress::Established(Box::new(Established {
                    session,
                    role: Role::Initiator,
                    peer: self.peer,
                    peer_boot: payload.boot,
                    peer_name: PeerText::default(),
                    peer_role: PeerText::default(),
                    suite: choice.suite,
                    mode: choice.mode,
                    peer_parameters: payload.parameters,
                    secrets: SessionSecrets::derive(split),
                    reset_token: ResetToken(payload.reset_token),
                })))
            }
            Status::Pending => Ok(Progress::Pending { retry_after }),
            Status::Rejected => {
                let reason = Reason::from_number(payload.reason);
                Ok(Progress::Refused(Refusal::Rejected { reason, retry_after }))
            }
            Status::Denied => Ok(Progress::Refused(Refusal::Denied { retry_after })),
        }
    }
}

fn chosen(payload: &AcceptPayload) -> Option<Choice> {
    let suite = Suite::from_number(payload.suite)?;
    let mode = Mode::from_number(payload.mode)?;
    (payload.heads == HEADS_JSON).then_some(Choice { suite, mode })
}
