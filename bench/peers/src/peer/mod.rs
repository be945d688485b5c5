//! The peers, each with its settings.

#[cfg(feature = "aeron")]
mod aeron;
#[cfg(any(feature = "quinn", feature = "s2n", feature = "tls"))]
mod certificate;
#[cfg(feature = "kcp")]
mod kcp;
#[cfg(any(feature = "quinn", feature = "s2n"))]
mod quic;
#[cfg(feature = "quinn")]
mod quinn;
mod raet;
#[cfg(feature = "s2n")]
mod s2n;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(any(feature = "aeron", feature = "kcp", feature = "quinn", feature = "s2n"))]
mod udp;
#[cfg(feature = "zeromq")]
mod zeromq;

use crate::application::Findings;
use crate::link::Result;
use crate::workload::Workload;

/// A peer with one choice of settings: a row of each table.
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is and how it is set, in a line.
    pub(crate) settings: &'static str,
    /// Whether what it carries is encrypted.
    pub(crate) is_encrypted: bool,
    /// Why a workload is not measured here, if it is not.
    pub(crate) excuse: fn(Workload) -> Option<&'static str>,
    /// Measures a workload for some seconds.
    pub(crate) run: fn(Workload, f64) -> Result<Findings>,
}

/// Every peer that this program was built with.
pub(crate) fn entries() -> Vec<Entry> {
    let mut entries = raet::entries();
    entries.extend(tcp::entries());
    #[cfg(feature = "tls")]
    entries.extend(tls::entries());
    #[cfg(feature = "quinn")]
    entries.extend(quinn::entries());
    #[cfg(feature = "s2n")]
    entries.extend(s2n::entries());
    #[cfg(feature = "kcp")]
    entries.extend(kcp::entries());
    #[cfg(feature = "aeron")]
    entries.extend(aeron::entries());
    #[cfg(feature = "zeromq")]
    entries.extend(zeromq::entries());
    entries
}

/// Of what measures everything.
fn none(_: Workload) -> Option<&'static str> {
    None
}

/// Of what runs over TCP.
fn not_over_udp(workload: Workload) -> Option<&'static str> {
    workload.loss().map(|_| "not measured here: it does not run over UDP")
}
