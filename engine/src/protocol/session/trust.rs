//! Whom we talk to: the states of a peer's key and the policy for keys not seen before.
//!
//! A key is what is trusted; a name is only a label that at most one accepted key has. Nothing
//! becomes accepted because of its name, and a known name that comes with another key is denied
//! until an operator decides. This is pure data: whoever keeps it on disk reads the changes.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::identity::{PeerText, PublicKey};
use crate::limits::{DECIDED_PEERS_MAX, PENDING_PEERS_MAX, PENDING_PER_PREFIX_MAX};

/// What happens to a key that nobody has decided about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TrustPolicy {
    /// It waits for an operator.
    #[default]
    Never,
    /// It is accepted if its name is new; later the name belongs to it.
    Once,
    /// It is accepted; if its name belongs to another key, then without its name.
    Always,
}

/// Where a key stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// Sessions are opened.
    Accepted,
    /// Its name belongs to another key; an operator has to decide.
    Denied,
    /// Waits for an operator.
    Pending,
    /// An operator said no.
    Rejected,
}

/// What is known of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerRecord {
    /// Where it stands.
    pub standing: Standing,
    /// What it calls itself; empty if it does not, or if another key has that name.
    pub name: PeerText,
    /// What it says it is for.
    pub role: PeerText,
}

/// The address prefix by which strangers are counted: /32 of IPv4, /64 of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    is_v6: bool,
    bits: u64,
}

impl Prefix {
    /// The prefix of an address. A mapped IPv4 address counts as the IPv4 address it is.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { is_v6: false, bits: u32::from(address).into() },
            IpAddr::V6(address) => {
                let [high, _] = halves(u128::from(address));
                Self { is_v6: true, bits: high }
            }
        }
    }

    pub(super) fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [u8::from(self.is_v6); 9];
        bytes[1..].copy_from_slice(&self.bits.to_be_bytes());
        bytes
    }
}

fn halves(whole: u128) -> [u64; 2] {
    let half = |shift: u32| u64::try_from(whole >> shift & u128::from(u64::MAX)).expect("64 bits");
    [half(64), half(0)]
}

/// The keys that we know, and the policy for those we do not.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    policy: TrustPolicy,
    /// Accepted and rejected keys.
    decided: BTreeMap<PublicKey, PeerRecord>,
    /// The accepted key of each name.
    names: BTreeMap<PeerText, PublicKey>,
    /// Pending and denied keys: what strangers can make us remember, so bounded tightly.
    waiting: BTreeMap<PublicKey, Waiting>,
    /// Keys of `waiting`, oldest first.
    arrivals: VecDeque<PublicKey>,
    /// Counts changes of `decided`, so that a keeper knows when to write.
    revision: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    record: PeerRecord,
    prefix: Prefix,
}

impl Trust {
    /// Knows nobody.
    pub fn new(policy: TrustPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The policy for keys not seen before.
    pub const fn policy(&self) -> TrustPolicy {
        self.policy
    }

    /// Where a key stands that has just proved itself and its address, by an Initiate. Only
    /// waiting is recorded here; an acceptance by policy is recorded by [`Self::confirm`], since
    /// an Initiate alone does not yet prove the pre-shared key, and can be forged by who stole
    /// *our* key.
    pub fn decide(
        &mut self,
        key: &PublicKey,
        name: &PeerText,
        role: &PeerText,
        from: IpAddr,
    ) -> Standing {
        if let Some(record) = self.decided.get(key) {
            return record.standing;
        }
        let standing = self.standing_of_undecided(key, name);
        if standing != Standing::Accepted {
            let record = PeerRecord { standing, name: name.clone(), role: role.clone() };
            self.keep_waiting(*key, record, Prefix::of(from));
        }
        standing
    }

    /// Records a peer whose session is confirmed, and returns where it stands now: another key
    /// may have taken the name since it was accepted by policy.
    pub fn confirm(&mut self, key: &PublicKey, name: &PeerText, role: &PeerText) -> Standing {
        if let Some(record) = self.decided.get(key) {
            return record.standing;
        }
        let standing = self.standing_of_undecided(key, name);
        if standing != Standing::Accepted {
            return standing;
        }
        // Policy `always` does not need the record; `once` must not lose it.
        if self.decided.len() >= DECIDED_PEERS_MAX {
            return match self.policy {
                TrustPolicy::Always => Standing::Accepted,
                TrustPolicy::Never | TrustPolicy::Once => Standing::Pending,
            };
        }
        self.stop_waiting(key);
        let is_taken = self.names.contains_key(name);
        let name = if is_taken { PeerText::default() } else { name.clone() };
        self.settle(*key, PeerRecord { standing, name, role: role.clone() });
        standing
    }

    /// An operator accepts a key. If its name belonged to another, the name is this key's from
    /// now on and the other is rejected. Returns whether there was room.
    pub fn accept(&mut self, key: &PublicKey) -> bool {
        self.rule(key, Standing::Accepted)
    }

    /// An operator rejects a key. Returns whether there was room.
    pub fn reject(&mut self, key: &PublicKey) -> bool {
        self.rule(key, Standing::Rejected)
    }

    /// An operator takes a decision back: the key is as if never seen. Returns whether it was
    /// known.
    pub fn forget(&mut self, key: &PublicKey) -> bool {
        let was_waiting = self.stop_waiting(key);
        let Some(record) = self.decided.remove(key) else { return was_waiting };
        if self.names.get(&record.name) == Some(key) {
            self.names.remove(&record.name);
        }
        self.revision += 1;
        true
    }

    /// Puts back what was kept. Returns whether there was room; a waiting key is kept by no one.
    pub fn restore(&mut self, key: PublicKey, record: PeerRecord) -> bool {
        let is_decided = matches!(record.standing, Standing::Accepted | Standing::Rejected);
        if !is_decided || self.decided.len() >= DECIDED_PEERS_MAX {
            return false;
        }
        self.settle(key, record);
        true
    }

    /// What is known of a key.
    pub fn record(&self, key: &PublicKey) -> Option<&PeerRecord> {
        self.decided.get(key).or_else(|| self.waiting.get(key).map(|waiting| &waiting.record))
    }

    /// The accepted key of a name.
    pub fn key_of(&self, name: &PeerText) -> Option<&PublicKey> {
        self.names.get(name)
    }

    /// Every key known: decided ones, then waiting ones.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &PeerRecord)> {
        let waiting = self.waiting.iter().map(|(key, waiting)| (key, &waiting.record));
        self.decided.iter().chain(waiting)
    }

    /// Changes whenever what should be kept on disk does.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    fn standing_of_undecided(&self, key: &PublicKey, name: &PeerText) -> Standing {
        let name_is_anothers = self.names.get(name).is_some_and(|owner| owner != key);
        match self.policy {
            TrustPolicy::Always => Standing::Accepted,
            TrustPolicy::Never | TrustPolicy::Once if name_is_anothers => Standing::Denied,
            TrustPolicy::Never => Standing::Pending,
            TrustPolicy::Once => Standing::Accepted,
        }
    }

    fn rule(&mut self, key: &PublicKey, standing: Standing) -> bool {
        let is_known = self.decided.contains_key(key);
        if !is_known && self.decided.len() >= DECIDED_PEERS_MAX {
            return false;
        }
        let record = self.record(key).cloned();
        let (name, role) = record.map(|record| (record.name, record.role)).unwrap_or_default();
        self.stop_waiting(key);
        if standing == Standing::Accepted
            && let Some(other) = self.names.get(&name).copied().filter(|other| other != key)
        {
            let role = self.decided[&other].role.clone();
            let name = PeerText::default();
            self.settle(other, PeerRecord { standing: Standing::Rejected, name, role });
        }
        self.settle(*key, PeerRecord { standing, name, role });
        true
    }

    fn settle(&mut self, key: PublicKey, record: PeerRecord) {
        if let Some(before) = self.decided.get(&key)
            && self.names.get(&before.name) == Some(&key)
        {
            self.names.remove(&before.name);
        }
        if record.standing == Standing::Accepted && !record.name.is_empty() {
            self.names.insert(record.name.clone(), key);
        }
        self.decided.insert(key, record);
        self.revision += 1;
    }

    fn keep_waiting(&mut self, key: PublicKey, record: PeerRecord, prefix: Prefix) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = Waiting { record, prefix };
            return;
        }
        let same = |other: &PublicKey| self.waiting[other].prefix == prefix;
        let crowded = self.arrivals.iter().filter(|other| same(other)).count();
        let out = if crowded >= PENDING_PER_PREFIX_MAX {
            self.arrivals.iter().position(same)
        } else {
            (self.arrivals.len() >= PENDING_PEERS_MAX).then_some(0)
        };
        if let Some(oldest) = out.and_then(|at| self.arrivals.remove(at)) {
            self.waiting.remove(&oldest);
        }
        self.arrivals.push_back(key);
        self.waiting.insert(key, Waiting { record, prefix });
    }

    fn stop_waiting(&mut self, key: &PublicKey) -> bool {
        if self.waiting.remove(key).is_none() {
            return false;
        }
        self.arrivals.retain(|other| other != key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    fn name(text: &str) -> PeerText {
        PeerText::new(text.as_bytes()).expect("printable")
    }

    fn decide(trust: &mut Trust, number: u32, called: &str) -> Standing {
        let from = IpAddr::from([10, 0, 0, 1]);
        trust.decide(&key(number), &name(called), &name(""), from)
    }

    fn confirm(trust: &mut Trust, number: u32, called: &str) -> Standing {
        trust.confirm(&key(number), &name(called), &name(""))
    }

    // PROTOCOL 3.20
    #[test]
    fn policy_never_waits_for_the_operator() {
        let mut trust = Trust::new(TrustPolicy::Never);
        assert_eq!(decide(&mut trust, 1, "a"), Standing::Pending);
        assert_eq!(trust.record(&key(1)).expect("kept").standing, Standing::Pending);
        assert_eq!(trust.revision(), 0);
        assert!(trust.accept(&key(1)));
        assert_eq!(trust.revision(), 1);
        assert_eq!(decide(&mut trust, 1, "a"), Standing::Accepted);
        assert_eq!(trust.key_of(&name("a")), Some(&key(1)));
        assert!(trust.reject(&key(1)));
        assert_eq!(decide(&mut trust, 1, "a"), Standing::Rejected);
        assert!(trust.forget(&key(1)));
        assert_eq!(decide(&mut trust, 1, "a"), Standing::Pending);
    }

    // PROTOCOL 3.20
    #[test]
    fn policy_once_denies_a_known_name_with_another_key() {
        let mut trust = Trust::new(TrustPolicy::Once);
        assert_eq!(decide(&mut trust, 1, "a"), Standing::Accepted);
        assert_eq!(trust.key_of(&name("a")), None, "an Initiate alone takes no name");
        assert_eq!(decide(&mut trust, 2, "a"), Standing::Accepted);
        assert_eq!(confirm(&mut trust, 1, "a"), Standing::Accepted);
        assert_eq!(confirm(&mut trust, 2, "a"), Standing::Denied);
        assert_eq!(decide(&mut trust, 2, "a"), Standing::Denied);
        assert_eq!(decide(&mut trust, 2, "a"), Standing::Denied);
        // The operator may hand the name over; the key that had it is then rejected.
        assert!(trust.accept(&key(2)));
        assert_eq!(trust.key_of(&name("a")), Some(&key(2)));
        assert_eq!(decide(&mut trust, 1, "a"), Standing::Rejected);
    }

    // PROTOCOL 3.20
    #[test]
    fn policy_always_never_gives_a_name_away() {
        let mut trust = Trust::new(TrustPolicy::Always);
        assert_eq!(confirm(&mut trust, 1, "a"), Standing::Accepted);
        assert_eq!(decide(&mut trust, 2, "a"), Standing::Accepted);
        assert_eq!(confirm(&mut trust, 2, "a"), Standing::Accepted);
        assert_eq!(trust.key_of(&name("a")), Some(&key(1)));
        assert!(trust.record(&key(2)).expect("kept").name.is_empty());
        assert_eq!(confirm(&mut trust, 3, ""), Standing::Accepted);
        assert_eq!(confirm(&mut trust, 4, ""), Standing::Accepted);
        assert_eq!(trust.key_of(&name("")), None);
    }

    // PROTOCOL 3.20
    #[test]
    fn atk_pending_fill() {
        let mut trust = Trust::new(TrustPolicy::Never);
        for number in 0..10_000_u32 {
            let [_, b, c, d] = (number % 3_000).to_be_bytes();
            let from = IpAddr::from([10, b, c, d]);
            let called = name(&format!("n{number}"));
            trust.decide(&key(number), &called, &name(""), from);
        }
        assert_eq!(trust.iter().count(), PENDING_PEERS_MAX);
        assert!(trust.record(&key(9_999)).is_some() && trust.record(&key(0)).is_none());
        let mut trust = Trust::new(TrustPolicy::Never);
        for number in 0..100 {
            decide(&mut trust, number, "x");
        }
        assert_eq!(trust.iter().count(), PENDING_PER_PREFIX_MAX);
        assert!(trust.record(&key(99)).is_some() && trust.record(&key(83)).is_none());
    }

    #[test]
    fn prop_alias_unique() {
        use proptest::prelude::*;
        let step = (0..6_u32, 0..6_u32, 0..3_u32);
        let steps = prop::collection::vec(step, 0..60);
        proptest!(|(policy in 0..3_usize, steps in steps)| {
            let policy = [TrustPolicy::Never, TrustPolicy::Once, TrustPolicy::Always][policy];
            let mut trust = Trust::new(policy);
            for (action, number, called) in steps {
                let called = ["", "a", "b"][called as usize];
                match action {
                    0 => drop(decide(&mut trust, number, called)),
                    1 => drop(confirm(&mut trust, number, called)),
                    2 => drop(trust.accept(&key(number))),
                    3 => drop(trust.reject(&key(number))),
                    4 => drop(trust.forget(&key(number))),
                    _ => drop(decide(&mut trust, number, "a")),
                }
                let accepted = trust.iter().filter(|(_, r)| r.standing == Standing::Accepted);
                let named: Vec<_> = accepted.filter(|(_, r)| !r.name.is_empty()).collect();
                prop_assert_eq!(named.len(), trust.names.len());
                for (key, record) in named {
                    prop_assert_eq!(trust.key_of(&record.name), Some(key));
                }
                prop_assert_eq!(trust.arrivals.len(), trust.waiting.len());
            }
        });
    }

    #[test]
    fn restored_trust_is_the_trust_that_was_kept() {
        let mut trust = Trust::new(TrustPolicy::Once);
        confirm(&mut trust, 1, "a");
        trust.reject(&key(2));
        decide(&mut trust, 3, "a");
        let mut again = Trust::new(TrustPolicy::Once);
        for (key, record) in trust.iter() {
            let is_kept = record.standing != Standing::Denied;
            assert_eq!(again.restore(*key, record.clone()), is_kept);
        }
        assert_eq!(again.key_of(&name("a")), Some(&key(1)));
        assert_eq!(decide(&mut again, 2, "b"), Standing::Rejected);
    }
}
