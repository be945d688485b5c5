//! The load of a run: what every session's initiator is told, and how it is described.

use std::net::SocketAddr;

use raet::time::Duration;
use raet::{Congestion, Impairment, PublicKey};
use serde_json::{Value, json};

use crate::blocks::WholeFile;
use crate::cli::{MtuChoice, RunOptions, Size};
use crate::control::Terms;
use crate::engine::Trouble;
use crate::lines::Survey;
use crate::mix;
use crate::names::{ModeName, ServiceName, name_of};
use crate::source::Content;
use crate::workload::Workload;

/// The load, the same for every session.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The responder.
    pub(crate) address: SocketAddr,
    /// Its key.
    pub(crate) key: PublicKey,
    /// The kinds of messages; their order numbers them.
    pub(crate) workloads: Vec<Workload>,
    /// How long after the warm-up; `None` without end.
    pub(crate) duration: Option<Duration>,
    /// How long to send before measuring.
    pub(crate) warmup: Duration,
    /// Sessions that share it.
    pub(crate) sessions: u32,
    /// Seed of the contents.
    pub(crate) seed: u64,
    /// Whether small messages may share a packet.
    pub(crate) is_bundled: bool,
    /// Whether datagrams may grow while the path is probed.
    pub(crate) is_path_probed: bool,
    /// How long messages that nobody acknowledges may still be under way.
    pub(crate) settle: Duration,
}

/// [`Load::settle`] of a path without delays of our own making.
const SETTLE: Duration = Duration::from_millis(500);
/// How long nothing may end before what is outstanding is given up.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Bytes a second that a path carries at least.
const SLOWEST: u64 = 1 << 20;

impl Load {
    /// The load that the options ask for, sent to the holder of `key` at `address`.
    pub(crate) fn new(
        options: &RunOptions,
        workloads: Vec<Workload>,
        seed: u64,
        address: SocketAddr,
        key: PublicKey,
    ) -> Self {
        let (duration, _) = options.length();
        let faults = options.engine.impair.as_ref().and_then(|text| text.parse().ok());
        let delay = faults.map_or(Duration::ZERO, |faults: Impairment| faults.delay_max);
        let is_reported = workloads.iter().all(Workload::is_acknowledged);
        Self {
            address,
            key,
            workloads,
            duration: duration.map(Into::into),
            warmup: options.warmup().into(),
            sessions: options.sessions(),
            seed,
            is_bundled: options.engine.bundle.is_on(),
            is_path_probed: options.engine.mtu == MtuChoice::Auto,
            settle: if is_reported { Duration::ZERO } else { SETTLE + delay },
        }
    }

    /// The numbers of its kinds of messages.
    pub(crate) fn kinds(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.workloads.len()).expect("a mix has few workloads")
    }

    /// What a responder is told about each kind.
    pub(crate) fn terms(&self) -> Vec<Terms> {
        let terms = |workload: &Workload| Terms {
            holding: workload.content.holding(),
            is_numbered: workload.content.is_numbered(),
            is_request: workload.service == ServiceName::Request,
            longest: workload.content.longest() as u64,
            streams: workload.streams(),
        };
        self.workloads.iter().map(terms).collect()
    }

    /// How long nothing may end before what is outstanding is given up: some of the longest
    /// messages share a slow path.
    pub(crate) fn stall_max(&self) -> Duration {
        STALL_MAX + Duration::from_secs(4 * longest(&self.workloads) as u64 / SLOWEST)
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
        let what = match (&self.workloads[..], &options.mix) {
            ([alone], None) => alone.text(),
            (workloads, path) => {
                let path =
                    path.as_ref().map_or_else(String::new, |path| path.display().to_string());
                format!("{} workloads of {path}", workloads.len())
            }
        };
        format!("{what}, {} session{plural}, {protection}", self.sessions)
    }

    /// The options as they were understood.
    pub(crate) fn to_json(&self, options: &RunOptions) -> Value {
        let engine = &options.engine;
        let seconds = |duration: raet::time::Duration| duration.as_secs_f64();
        let mut config = json!({
            "connect": options.connect.map(|address| address.to_string()),
            "peer_key": options.peer_key.map(|key| key.to_string()),
            "bind": options.bind.map(|address| address.to_string()),
            "mix": options.mix,
            "workloads": self.workloads.iter().map(Workload::to_json).collect::<Vec<_>>(),
            "duration_seconds": self.duration.map(seconds),
            "warmup_seconds": seconds(self.warmup),
            "segments": engine.segments,
            "sessions": self.sessions,
            "shards": engine.shards,
            "one_thread": options.one_thread,
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
        });
        // What describes the only workload also stands where it always did.
        if let ([alone], Value::Object(fields)) = (&self.workloads[..], &mut config)
            && let Value::Object(mut workload) = alone.to_json()
        {
            fields.append(&mut workload);
        }
        config
    }
}

/// Bytes of the longest message of all.
pub(crate) fn longest(workloads: &[Workload]) -> usize {
    workloads.iter().map(|workload| workload.content.longest()).max().unwrap_or(0)
}

/// What the options say is sent; files are looked through.
///
/// # Errors
/// What cannot be sent.
pub(crate) fn workloads(options: &RunOptions) -> Result<Vec<Workload>, Trouble> {
    if options.engine.segments && options.connect.is_some() {
        return Err(Trouble::Arguments(
            "--segments says how a responder takes messages, and that of --connect runs elsewhere; \
             give it to `raet-loadgen serve` there, and leave it out here"
                .to_owned(),
        ));
    }
    let workloads = match &options.mix {
        Some(path) => mix::read(path, options).map_err(Trouble::Arguments)?,
        None => vec![alone(options).map_err(Trouble::Arguments)?],
    };
    let is_ordered = |workload: &Workload| workload.service == ServiceName::Sequence;
    if options.engine.segments && workloads.iter().all(is_ordered) {
        return Err(Trouble::Arguments(
            "messages of ordered streams are handed over whole; leave out --segments, or name \
             another --service"
                .to_owned(),
        ));
    }
    let is_echoed = |workload: &Workload| workload.service == ServiceName::Request;
    if options.engine.segments && workloads.iter().any(is_echoed) {
        return Err(Trouble::Arguments(
            "a request is sent back, so it is taken whole; leave out --segments, or name another \
             --service"
                .to_owned(),
        ));
    }
    Ok(workloads)
}

/// The only workload of a run without a mix.
fn alone(options: &RunOptions) -> Result<Workload, String> {
    let service = options.service();
    let content = match &options.file {
        Some(path) => {
            let in_order = service == ServiceName::Sequence;
            Content::Blocks(WholeFile::of(path, options.block(), in_order)?)
        }
        None => content(&options.size(), options.length() != (None, None))?,
    };
    Ok(Workload {
        name: name_of(service),
        service,
        content,
        pace: options.pace(),
        messages: options.messages,
        priority: options.priority,
        stream_kind: options.stream_kind.unwrap_or_default(),
        stream_first: 0,
        stream_count: options.streams.unwrap_or(1),
    })
}

/// What messages of a size are.
///
/// # Errors
/// A file that cannot be sent.
pub(crate) fn content(size: &Size, repeat: bool) -> Result<Content, String> {
    match size {
        Size::Generated(sizes) => Ok(Content::Generated(*sizes)),
        Size::Lines(path) => Ok(Content::Lines { survey: Survey::of(path)?, repeat }),
    }
}
