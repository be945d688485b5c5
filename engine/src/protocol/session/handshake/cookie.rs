//! Cookies: how an address is proved without remembering who asked.
//!
//! A cookie is a MAC over everything that must come back unchanged. Its key changes every minute
//! and is derived, not stored, so answering a Hello leaves nothing behind. What is remembered is
//! only which cookies have been spent, for as long as they would still verify.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use super::messages::{COOKIE_CLEAR_LEN, COOKIE_LEN, OPENING_LEN, cookie_clear, cookie_epoch};
use crate::limits::COOKIES_USED_MAX;
use crate::protocol::crypto::{self, KEY_LEN, MAC_LEN, Random};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::offer::OfferBits;
use crate::time::{Duration, Instant};

/// How long cookies have the same key. A cookie lives for one to two of these.
const EPOCH: Duration = Duration::from_secs(60);

/// What a cookie is bound to besides itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'a> {
    pub(super) from: SocketAddr,
    pub(super) transaction: u64,
    pub(super) opening: &'a [u8; OPENING_LEN],
}

/// One responder's cookies.
pub(super) struct Cookies {
    root: Zeroizing<[u8; KEY_LEN]>,
    started: Instant,
    /// Epochs that were begun before their time, because too many cookies were spent in one.
    begun_early: u32,
    epoch: u32,
    /// The keys and the spent cookies of this epoch and of the one before.
    current: Epoch,
    previous: Epoch,
}

struct Epoch {
    key: Zeroizing<[u8; KEY_LEN]>,
    used: BTreeSet<u64>,
}

impl Cookies {
    pub(super) fn new(now: Instant, random: &mut Random) -> Self {
        let mut root = Zeroizing::new([0; KEY_LEN]);
        random.fill(root.as_mut_slice());
        let current = Epoch::new(&root, 0);
        // Nothing was made before the first epoch, so nothing verifies under this.
        let previous = Epoch::new(&root, u32::MAX);
        Self { root, started: now, begun_early: 0, epoch: 0, current, previous }
    }

    /// Makes a cookie.
    pub(super) fn bake(
        &mut self,
        now: Instant,
        key_attached: bool,
        offer: OfferBits,
        bound: Bound<'_>,
    ) -> [u8; COOKIE_LEN] {
        self.turn(now);
        let clear = cookie_clear(key_attached, offer, self.epoch);
        let mac = bound.mac(&self.current.key, &clear);
        let mut cookie = [0; COOKIE_LEN];
        cookie[..COOKIE_CLEAR_LEN].copy_from_slice(&clear);
        cookie[COOKIE_CLEAR_LEN..].copy_from_slice(&mac);
        cookie
    }

    /// Whether we made this cookie for this, not long ago.
    pub(super) fn check(
        &mut self,
        now: Instant,
        cookie: &[u8; COOKIE_LEN],
        bound: Bound<'_>,
    ) -> Result<(), DropReason> {
        self.turn(now);
        let epoch = self.epoch_of(cookie).ok_or(DropReason::CookieInvalid)?;
        let (clear, mac): (&[u8; COOKIE_CLEAR_LEN], _) =
            cookie.split_first_chunk().expect("a cookie starts clear");
        let mac: &[u8; MAC_LEN] = mac.try_into().expect("and ends with its mac");
        let expected = bound.mac(&epoch.key, clear);
        if crypto::equal(&expected, mac) { Ok(()) } else { Err(DropReason::CookieInvalid) }
    }

    /// Whether a cookie that checked has been spent.
    pub(super) fn is_spent(&self, cookie: &[u8; COOKIE_LEN]) -> bool {
        self.epoch_of(cookie).is_none_or(|epoch| epoch.used.contains(&id_of(cookie)))
    }

    /// Spends a cookie that checked. When an epoch's room is full the next one begins, which
    /// ends the cookies of the one before early instead of forgetting what was spent.
    pub(super) fn spend(&mut self, cookie: &[u8; COOKIE_LEN]) {
        let is_current = cookie_epoch(cookie) == self.epoch;
        let epoch = if is_current { &mut self.current } else { &mut self.previous };
        epoch.used.insert(id_of(cookie));
        if epoch.used.len() >= COOKIES_USED_MAX {
            self.begun_early += 1;
            self.begin(self.epoch + 1);
        }
    }

    fn epoch_of(&self, cookie: &[u8; COOKIE_LEN]) -> Option<&Epoch> {
        let epoch = cookie_epoch(cookie);
        if epoch == self.epoch {
            Some(&self.current)
        } else {
            (Some(epoch) == self.epoch.checked_sub(1)).then_some(&self.previous)
        }
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_since(self.started).as_nanos() / EPOCH.as_nanos();
        let by_clock = u32::try_from(age).unwrap_or(u32::MAX - 1);
        let epoch = by_clock.saturating_add(self.begun_early).min(u32::MAX - 1);
        if epoch > self.epoch {
            self.begin(epoch);
        }
    }

    fn begin(&mut self, epoch: u32) {
        let begun = Epoch::new(&self.root, epoch);
        self.previous = if epoch == self.epoch + 1 {
            core::mem::replace(&mut self.current, begun)
        } else {
            self.current = begun;
            Epoch::new(&self.root, epoch - 1)
        };
        self.epoch = epoch;
    }
}

impl Epoch {
    fn new(root: &[u8; KEY_LEN], epoch: u32) -> Self {
        let context = "RAET 2026-11-22 rsh1 cookie epoch";
        Self { key: crypto::derive(context, &[root, &epoch.to_be_bytes()]), used: BTreeSet::new() }
    }
}

impl Bound<'_> {
    fn mac(&self, key: &[u8; KEY_LEN], clear: &[u8; COOKIE_CLEAR_LEN]) -> [u8; MAC_LEN] {
        let address = match self.from.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        crypto::mac(
            key,
            &[
                &address.octets(),
                &self.from.port().to_be_bytes(),
                &self.transaction.to_be_bytes(),
                self.opening,
                clear,
            ],
        )
    }
}

/// Eight bytes of the cookie's own MAC name it; nobody but us can choose them.
pub(super) fn id_of(cookie: &[u8; COOKIE_LEN]) -> u64 {
    u64::from_be_bytes(*cookie.last_chunk().expect("28 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: OfferBits = OfferBits { suites: 3, modes: 1, heads: 1 };

    fn start() -> Cookies {
        Cookies::new(Instant::from_nanos(77), &mut Random::from_seed([1; 32]))
    }

    fn after(seconds: u64) -> Instant {
        Instant::from_nanos(77) + Duration::from_secs(seconds)
    }

    fn from(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    // PROTOCOL 3.6
    #[test]
    fn cookie_checks_only_for_what_it_was_made_for() {
        let mut cookies = start();
        let bound = Bound { from: from("10.0.0.1:1000"), transaction: 5, opening: &[7; 64] };
        let cookie = cookies.bake(after(1), false, OFFER, bound);
        assert_eq!(cookies.check(after(1), &cookie, bound), Ok(()));
        let mut opening = [7; 64];
        opening[63] ^= 1;
        for other in [
            Bound { from: from("10.0.0.2:1000"), ..bound },
            Bound { from: from("10.0.0.1:1001"), ..bound },
            Bound { transaction: 6, ..bound },
            Bound { opening: &opening, ..bound },
        ] {
            assert_eq!(cookies.check(after(1), &cookie, other), Err(DropReason::CookieInvalid));
        }
        for bit in 0..8 * COOKIE_LEN {
            let mut changed = cookie;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cookies.check(after(1), &changed, bound), Err(DropReason::CookieInvalid));
        }
        assert_eq!(start().check(after(1), &cookie, bound), Ok(()), "same root, same cookie");
    }

    // PROTOCOL 3.6
    #[test]
    fn cookie_lives_for_its_epoch_and_the_next() {
        let bound = Bound { from: from("[2001:db8::1]:9"), transaction: 5, opening: &[7; 64] };
        for (made, used, verdict) in [
            (0, 59, Ok(())),
            (59, 61, Ok(())),
            (0, 119, Ok(())),
            (0, 120, Err(DropReason::CookieInvalid)),
            (59, 3_600, Err(DropReason::CookieInvalid)),
        ] {
            let mut cookies = start();
            let cookie = cookies.bake(after(made), false, OFFER, bound);
            assert_eq!(cookies.check(after(used), &cookie, bound), verdict, "{made} {used}");
        }
    }

    // PROTOCOL 3.6
    #[test]
    fn spent_cookie_stays_spent_until_it_is_too_old() {
        let mut cookies = start();
        let bound = Bound { from: from("10.0.0.1:1000"), transaction: 5, opening: &[7; 64] };
        let cookie = cookies.bake(after(1), false, OFFER, bound);
        assert!(!cookies.is_spent(&cookie));
        cookies.spend(&cookie);
        assert!(cookies.is_spent(&cookie));
        assert_eq!(cookies.check(after(61), &cookie, bound), Ok(()));
        assert!(cookies.is_spent(&cookie));
    }

    // PROTOCOL 3.6
    #[test]
    fn full_epoch_ends_early_and_nothing_spent_is_forgotten() {
        let mut cookies = start();
        let bound = Bound { from: from("10.0.0.1:1000"), transaction: 0, opening: &[7; 64] };
        let first = cookies.bake(after(1), false, OFFER, bound);
        for transaction in 0..COOKIES_USED_MAX as u64 {
            let cookie = cookies.bake(after(1), false, OFFER, Bound { transaction, ..bound });
            cookies.spend(&cookie);
        }
        let fresh = cookies.bake(after(1), false, OFFER, bound);
        assert_eq!(cookie_epoch(&fresh), 1);
        assert_eq!(cookies.check(after(1), &first, bound), Ok(()));
        assert!(cookies.is_spent(&first));
        assert_eq!(cookie_epoch(&cookies.bake(after(61), false, OFFER, bound)), 2);
        assert_eq!(cookies.check(after(61), &first, bound), Err(DropReason::CookieInvalid));
        assert!(cookies.is_spent(&first));
    }
}
