//! What is measured.

use std::fmt;

/// Bytes of a small message.
const SMALL_LEN: usize = 64;

/// One kind of work, the same for every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A fresh connection, a request and its reply, and again.
    Connect,
    /// Messages one way, as many as go.
    Flood {
        /// Bytes of each.
        size: usize,
    },
    /// 64-byte messages one way over a path that loses, as many as go.
    LossyFlood {
        /// Packets lost each way, in percent.
        percent: u32,
    },
    /// 10 000 messages of 64 bytes a second over a path that loses.
    LossyPaced {
        /// Packets lost each way, in percent.
        percent: u32,
    },
    /// 64-byte requests, each with a reply of 64 bytes.
    Request {
        /// How many are outstanding.
        outstanding: usize,
    },
}

/// Every workload, in the order of the table.
pub(crate) const WORKLOADS: [Workload; 10] = [
    Workload::Flood { size: SMALL_LEN },
    Workload::Flood { size: 1_200 },
    Workload::Flood { size: 1 << 20 },
    Workload::Request { outstanding: 1 },
    Workload::Request { outstanding: 64 },
    Workload::Connect,
    Workload::LossyFlood { percent: 1 },
    Workload::LossyFlood { percent: 5 },
    Workload::LossyPaced { percent: 1 },
    Workload::LossyPaced { percent: 5 },
];

impl Workload {
    /// The workload of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        WORKLOADS.into_iter().find(|workload| workload.name() == name)
    }

    /// A word for it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::Flood { size } => format!("flood-{size}"),
            Self::LossyFlood { percent } => format!("flood-64-loss-{percent}"),
            Self::LossyPaced { percent } => format!("paced-loss-{percent}"),
            Self::Request { outstanding } => format!("request-{outstanding}"),
        }
    }

    /// Bytes of a message.
    pub(crate) fn size(self) -> usize {
        if let Self::Flood { size } = self { size } else { SMALL_LEN }
    }

    /// Share of the packets that are lost each way, in percent, if they go through the relay.
    pub(crate) fn loss(self) -> Option<u32> {
        match self {
            Self::LossyFlood { percent } | Self::LossyPaced { percent } => Some(percent),
            Self::Connect | Self::Flood { .. } | Self::Request { .. } => None,
        }
    }

    /// Whether it is about latency: then nothing waits for company.
    pub(crate) fn is_latency(self) -> bool {
        match self {
            Self::Connect | Self::LossyPaced { .. } | Self::Request { .. } => true,
            Self::Flood { .. } | Self::LossyFlood { .. } => false,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => write!(f, "fresh connection with one request and reply"),
            Self::Flood { size } if *size >= 1 << 20 => {
                write!(f, "{} MiB one way", size >> 20)
            }
            Self::Flood { size } => write!(f, "{size} B one way"),
            Self::LossyFlood { percent } => {
                write!(f, "64 B one way, {percent} % lost each way, 100 us delay")
            }
            Self::LossyPaced { percent } => {
                write!(f, "64 B, 10 000/s, {percent} % lost each way, 100 us delay")
            }
            Self::Request { outstanding } => {
                write!(f, "64-B request and reply, {outstanding} outstanding")
            }
        }
    }
}
