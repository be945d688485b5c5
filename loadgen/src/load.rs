//! The load of a run: what every session's initiator is told, and how it is described.

use std::net::SocketAddr;

use raet::time::Duration;
use raet::{Congestion, Impairment, PublicKey, Service};
use serde_json::{Value, json};

use crate::cli::{MtuChoice, RunOptions, Size};
use crate::engine::{self, Trouble};
use crate::lines::Survey;
use crate::names::{ModeName, ServiceName, name_of};
use crate::plan::{Pace, Sizes};
use crate::source::Content;

/// The load, the same for every session.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The responder.
    pub(crate) address: SocketAddr,
    /// Its key.
    pub(crate) key: PublicKey,
    /// Service level of the messages.
    pub(crate) service: Service,
    /// How fast.
    pub(crate) pace: Pace,
    /// How long after the warm-up; `None` without end.
    pub(crate) duration: Option<Duration>,
    /// How many after the warm-up; `None` without end.
    pub(crate) messages: Option<u64>,
    /// How long to send before measuring.
    pub(crate) warmup: Duration,
    /// Sessions that share it.
    pub(crate) sessions: u32,
    /// Seed of the contents.
    pub(crate) seed: u64,
    /// What is sent.
    pub(crate) content: Content,
    /// Whether datagrams may grow while the path is probed.
    pub(crate) is_path_probed: bool,
    /// How long messages that nobody acknowledges may still be under way.
    pub(crate) settle: Duration,
}

/// [`Load::settle`] of a path without delays of our own making.
const SETTLE: Duration = Duration::from_millis(500);

impl Load {
    /// The load that the options ask for, sent to the holder of `key` at `address`.
    pub(crate) fn new(
        options: &RunOptions,
        content: Content,
        seed: u64,
        address: SocketAddr,
        key: PublicKey,
    ) -> Self {
        let (duration, messages) = options.length();
        let faults = options.engine.impair.as_ref().and_then(|text| text.parse().ok());
        let delay = faults.map_or(Duration::ZERO, |faults: Impairment| faults.delay_max);
        Self {
            address,
            key,
            service: engine::service(options.service),
            pace: options.pace(),
            duration: duration.map(Into::into),
            messages,
            warmup: options.warmup().into(),
            sessions: options.sessions(),
            seed,
            content,
            is_path_probed: options.engine.mtu == MtuChoice::Auto,
            settle: if is_acknowledged(options.service) { Duration::ZERO } else { SETTLE + delay },
        }
    }

    /// What falls to the session at `place` of `total` things dealt in turn.
    pub(crate) fn share(&self, total: u64, place: u32) -> u64 {
        let sessions = u64::from(self.sessions);
        total / sessions + u64::from(u64::from(place) < total % sessions)
    }

    /// One line that says what is run.
    pub(crate) fn title(&self, options: &RunOptions) -> String {
        let engine = &options.engine;
        let plural = if self.sessions == 1 { "" } else { "s" };
        let protection = match engine.mode {
            ModeName::Plain => "plain".to_owned(),
            mode => format!("{} {}", name_of(mode), name_of(engine.suite)),
        };
        format!(
            "{}, {}, {}, {} session{plural}, {protection}",
            name_of(options.service),
            size_text(&options.size),
            pace_text(self.pace),
            self.sessions,
        )
    }

    /// The options as they were understood.
    pub(crate) fn to_json(&self, options: &RunOptions) -> Value {
        let engine = &options.engine;
        let seconds = |duration: raet::time::Duration| duration.as_secs_f64();
        json!({
            "connect": options.connect.map(|address| address.to_string()),
            "peer_key": options.peer_key.map(|key| key.to_string()),
            "bind": options.bind.map(|address| address.to_string()),
            "service": name_of(options.service),
            "size": match &options.size {
                Size::Generated(Sizes { min, max }) if min == max => json!(min),
                Size::Generated(Sizes { min, max }) => json!(format!("{min}..{max}")),
                Size::Lines(path) => json!(format!("file:{}", path.display())),
            },
            "duration_seconds": self.duration.map(seconds),
            "messages": self.messages,
            "warmup_seconds": seconds(self.warmup),
            "rate": match self.pace {
                Pace::PerSecond(rate) => json!(rate),
                Pace::Max => json!("max"),
                Pace::Closed(_) => Value::Null,
            },
            "closed": match self.pace {
                Pace::Closed(outstanding) => json!(outstanding),
                Pace::Max | Pace::PerSecond(_) => Value::Null,
            },
            "sessions": self.sessions,
            "shards": engine.shards,
            "cpus": engine.cpus.as_ref().map(|list| &list.0),
            "idle": name_of(engine.idle),
            "io": name_of(engine.io),
            "gso": engine.gso.is_on(),
            "mtu": match engine.mtu {
                MtuChoice::Auto => json!("auto"),
                MtuChoice::Fixed(len) => json!(len),
            },
            "suite": name_of(engine.suite),
            "mode": name_of(engine.mode),
            "linger_us": u64::try_from(engine.linger.as_micros()).unwrap_or(u64::MAX),
            "bundle": engine.bundle.is_on(),
            "congestion": match engine.congestion {
                Congestion::Cubic => json!("cubic"),
                Congestion::FixedRate { bytes_per_second } => json!(bytes_per_second),
                Congestion::NewReno => json!("newreno"),
            },
            "network": name_of(engine.network),
            "impair": engine.impair,
            "seed": self.seed,
        })
    }
}

/// What the options say is sent; a file is looked through.
///
/// # Errors
/// A file that cannot be sent.
pub(crate) fn content(options: &RunOptions) -> Result<Content, Trouble> {
    match &options.size {
        Size::Generated(sizes) => Ok(Content::Generated(*sizes)),
        Size::Lines(path) => {
            let survey = Survey::of(path).map_err(Trouble::Arguments)?;
            let repeat = options.length() != (None, None);
            Ok(Content::Lines { survey, repeat })
        }
    }
}

/// Whether the responder reports each message's fate.
fn is_acknowledged(service: ServiceName) -> bool {
    !matches!(service, ServiceName::Maybe | ServiceName::Repeat | ServiceName::RepeatDedup)
}

fn size_text(size: &Size) -> String {
    match size {
        Size::Generated(Sizes { min, max }) if min == max => format!("{min} B"),
        Size::Generated(Sizes { min, max }) => format!("{min}..{max} B"),
        Size::Lines(path) => format!("lines of {}", path.display()),
    }
}

fn pace_text(pace: Pace) -> String {
    match pace {
        Pace::Closed(outstanding) => format!("{outstanding} outstanding"),
        Pace::Max => "full rate".to_owned(),
        Pace::PerSecond(rate) => format!("{rate} a second"),
    }
}
