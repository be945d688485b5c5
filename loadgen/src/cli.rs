//! The command line: what may be asked for, and what is refused before anything starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::names::{
    AcceptName, IdleName, IoName, ModeName, NetworkName, PriorityName, ServiceName, StreamKindName,
    SuiteName, Switch, name_of,
};
use crate::parse;
use crate::payload::{HEADER_LEN, NUMBERED_LEN_MIN};
use crate::plan::{Pace, Sizes};

/// What people want to do most, shown below the options.
const EXAMPLES: &str = "\
Examples:
  raet-loadgen                                        how fast is it here?
  raet-loadgen --service request --closed 1           how long is a round trip?
  raet-loadgen --rate 100k --plot latency.svg         how late are messages at a steady load?
  raet-loadgen --impair loss=5%,dup=5%,reorder=5%     does it hold on a bad path?
  raet-loadgen --size file:words.txt                  do all lines of a file arrive?
  raet-loadgen --file disk.img --size 4MiB            does a file arrive as it is?
  raet-loadgen --service sequence --streams 8         do ordered streams stay in order?
  raet-loadgen --mix mix.txt                          do kinds of messages disturb each other?
  raet-loadgen serve --bind 0.0.0.0:4040              and from another machine, with what it prints:
  raet-loadgen run --connect HOST:4040 --peer-key KEY

A mix is a text file with one workload a line, as key=value words; # begins a comment:
  name=alerts service=exactly-once size=64 rate=10000 priority=urgent
  name=copy service=exactly-once size=64MiB closed=1 priority=bulk
  name=feed service=sequence size=1KiB share=20% streams=8 stream-kind=lossy
Keys: name, service, size (at least 8 bytes), one of rate, closed and share (of --rate), messages,
priority, streams and stream-kind; what is left out is as on the command line.";

/// Drives raet nodes on a schedule and reports throughput and latency that can be trusted.
///
/// Without arguments: starts a responder and an initiator in this process on loopback, opens a
/// sealed session, sends 64-byte exactly-once messages at full rate for 10 s, verifies every one
/// and prints a short table.
///
/// Exit status: 0 if what the service promises held, 2 for bad arguments, 1 otherwise.
#[derive(Parser, Debug)]
#[command(name = "raet-loadgen", version, args_conflicts_with_subcommands = true)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Send a load, verify it and report (what happens without a sub-command, too)
    Run(Box<RunOptions>),
    /// Answer the load of `run --connect` from other processes until interrupted
    Serve(Box<ServeOptions>),
    /// Run the same loads over io_uring and mmsg, with and without GSO, in turn, and compare
    CompareIo(Box<CompareOptions>),
}

/// How to compare, and the load.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = COMPARE_NOTE)]
pub(crate) struct CompareOptions {
    /// How often each driver has its turn
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) rounds: u16,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// What is compared if no load is named.
const COMPARE_NOTE: &str = "\
Without a load of your own (--service, --size, --closed, --rate, --file, --mix) there are three: 64 B
bundled and 1200 B at full rate, and 64-B requests one at a time. Without --duration and --messages
each run takes 2 s.";

/// The load.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub(crate) struct RunOptions {
    /// Send to a responder in another process at this address, instead of starting one here
    #[arg(long, value_name = "ADDR", value_parser = parse::address, requires = "peer_key")]
    pub(crate) connect: Option<std::net::SocketAddr>,
    /// Public key of that responder: the 64 hex digits that `serve` prints
    #[arg(long, value_name = "KEY", value_parser = parse::public_key, requires = "connect")]
    pub(crate) peer_key: Option<raet::PublicKey>,
    /// Local address: the responder's if it runs here (its port may be fixed), else the initiator's
    #[arg(long, value_name = "ADDR", value_parser = parse::address)]
    pub(crate) bind: Option<std::net::SocketAddr>,
    /// Several workloads at once, described in this file (see the end of --help)
    #[arg(long, value_name = "FILE", conflicts_with_all =
          ["service", "size", "file", "messages", "closed", "priority", "streams", "stream_kind"])]
    pub(crate) mix: Option<PathBuf>,
    /// Service level of the messages; `request` measures round trips [default: exactly-once, or
    /// sequence with --file]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) service: Option<ServiceName>,
    /// Bytes of a message, up to 64MiB: N, a range A..B drawn evenly, or the lines of file:PATH
    /// in order [default: 64, or 1MiB with --file]
    #[arg(long, value_name = "N|A..B|file:PATH", value_parser = parse::size)]
    pub(crate) size: Option<Size>,
    /// Send this file once, whole and unchanged, in messages of --size; both sides hash it
    #[arg(long, value_name = "PATH", conflicts_with_all = ["duration", "messages", "warmup"])]
    pub(crate) file: Option<PathBuf>,
    /// Ordered streams to which the messages of `sequence` are dealt in turn [default: 1]
    #[arg(long, value_name = "N", value_parser = parse::streams)]
    pub(crate) streams: Option<u16>,
    /// What ordered streams promise, and whether losses are repaired only on request [default:
    /// reliable]
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) stream_kind: Option<StreamKindName>,
    /// How soon messages leave when others wait too
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    pub(crate) priority: PriorityName,
    /// How long to send, after the warm-up: 10s, 500ms, 2m [default: 10s, or until --messages
    /// are sent, or once through the file]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub(crate) duration: Option<Duration>,
    /// How many messages to send, after the warm-up
    #[arg(long, value_name = "N", value_parser = parse::count)]
    pub(crate) messages: Option<u64>,
    /// Send, verify but do not measure for this long first [default: 1s with a duration, else 0s]
    #[arg(long, value_name = "TIME", value_parser = parse::duration_or_zero)]
    pub(crate) warmup: Option<Duration>,
    /// Messages a second over all sessions, on a fixed schedule, latency counted from the
    /// schedule; or `max`: as fast as credit allows, latency counted from sending [default: max]
    #[arg(long, value_name = "N|max", value_parser = parse::rate, conflicts_with = "closed")]
    pub(crate) rate: Option<Pace>,
    /// Keep N messages outstanding on each session instead
    #[arg(long, value_name = "N", value_parser = parse::outstanding)]
    pub(crate) closed: Option<u32>,
    /// Sessions, each of a node with an identity, a socket and a thread of its own [default: one
    /// a shard of the responder]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) sessions: Option<u32>,
    /// Turn both nodes on one thread, as a program with a loop of its own does; on the first of
    /// --cpus
    #[arg(long, conflicts_with_all = ["connect", "idle"])]
    pub(crate) one_thread: bool,
    #[command(flatten)]
    pub(crate) engine: EngineOptions,
    /// Write the report as JSON (schema raet-loadgen/1) to a file, or to stdout with `-`; the
    /// table then goes to stderr
    #[arg(long, value_name = "FILE|-", help_heading = "Results")]
    pub(crate) json: Option<PathBuf>,
    /// Write the latency distribution as an HdrHistogram percentile log
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Draw the latency percentiles
    #[arg(long, value_name = "FILE.svg", help_heading = "Results")]
    pub(crate) plot: Option<PathBuf>,
}

/// The responder alone.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeOptions {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", value_parser = parse::address,
          default_value = "127.0.0.1:4040")]
    pub(crate) bind: std::net::SocketAddr,
    /// Which peers get in whose keys are not known yet: none (each waits for an operator who is
    /// not there), the first of each name, or any
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub(crate) accept: AcceptName,
    /// Keys decided about, from a trust file (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) engine: EngineOptions,
}

/// How a node runs. In one process these hold for both nodes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineOptions {
    /// Identity from this file (mode 0600), made there if missing [default: a new one each run]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Pre-shared key from this file (mode 0600): 64 hex digits, the same on both sides
    #[arg(long, value_name = "FILE")]
    pub(crate) psk: Option<PathBuf>,
    /// Shards of the responder: threads with a socket each
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub(crate) shards: u16,
    /// The responder takes messages above 8 KiB piece by piece as they come, without memory for
    /// the whole; not those of `sequence`, which wait for their turn whole, nor `request`, which
    /// are sent back whole
    #[arg(long)]
    pub(crate) segments: bool,
    /// Cores, like 0-3,8: as many as shards for the initiators, then as many for the responder
    #[arg(long, value_name = "LIST", value_parser = parse::cpu_list)]
    pub(crate) cpus: Option<parse::CpuList>,
    /// What a shard does that has nothing to do
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(crate) idle: IdleName,
    /// How datagrams reach the kernel
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t)]
    pub(crate) io: IoName,
    /// Trains of datagrams in one send, where the kernel has them
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Switch::On)]
    pub(crate) gso: Switch,
    /// Bytes of a datagram: `auto` probes the path, N fixes it
    #[arg(long, value_name = "auto|N", value_parser = parse::mtu, default_value = "auto")]
    pub(crate) mtu: MtuChoice,
    /// Packet cipher
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    pub(crate) suite: SuiteName,
    /// Protection of the session: encrypted, authenticated in clear, or a checksum only
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    pub(crate) mode: ModeName,
    /// How long a small message may wait for others to share its packet
    #[arg(long, value_name = "TIME", value_parser = parse::duration_or_zero,
          default_value = "0us")]
    pub(crate) linger: Duration,
    /// Several small messages in one packet
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Switch::On)]
    pub(crate) bundle: Switch,
    /// What decides how much is under way: `cubic`, `newreno`, or a fixed rate in bytes a second
    #[arg(long, value_name = "cubic|newreno|N", value_parser = parse::congestion,
          default_value = "cubic")]
    pub(crate) congestion: raet::Congestion,
    /// What lies between the nodes, before it is measured
    #[arg(long, value_name = "lan|wan", value_enum, default_value_t)]
    pub(crate) network: NetworkName,
    /// Faults on what this process sends: loss=1%,dup=1%,reorder=2%,delay=100us..1ms,corrupt=0.1%
    #[arg(long, value_name = "FAULTS")]
    pub(crate) impair: Option<String>,
    /// Seed of the faults and of the messages' contents
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// What a message's bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// Lines of a file.
    Lines(PathBuf),
    /// Generated, within bounds.
    Generated(Sizes),
}

/// Largest datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MtuChoice {
    /// Probe the path.
    Auto,
    /// So many bytes.
    Fixed(usize),
}

impl RunOptions {
    /// The service level.
    pub(crate) fn service(&self) -> ServiceName {
        let of_file = self.file.as_ref().map(|_| ServiceName::Sequence);
        self.service.or(of_file).unwrap_or_default()
    }

    /// What messages are, without a file that is sent whole.
    pub(crate) fn size(&self) -> Size {
        self.size.clone().unwrap_or(Size::Generated(Sizes { min: 64, max: 64 }))
    }

    /// Bytes of a message that carries a block of the file that is sent whole.
    pub(crate) fn block(&self) -> usize {
        match self.size {
            Some(Size::Generated(sizes)) => sizes.max,
            None | Some(Size::Lines(_)) => BLOCK_LEN,
        }
    }

    /// The load's pace.
    pub(crate) fn pace(&self) -> Pace {
        self.closed.map(Pace::Closed).or(self.rate).unwrap_or(Pace::Max)
    }

    /// How many sessions.
    pub(crate) fn sessions(&self) -> u32 {
        self.sessions.unwrap_or_else(|| self.engine.shards.into())
    }

    /// When sending ends: so long after the warm-up, after so many messages, or (neither) at the
    /// end of the file.
    pub(crate) fn length(&self) -> (Option<Duration>, Option<u64>) {
        let once = self.file.is_some() || matches!(self.size, Some(Size::Lines(_)));
        match (self.duration, self.messages) {
            (None, None) if !once => (Some(Duration::from_secs(10)), None),
            length => length,
        }
    }

    /// How long to send without measuring.
    pub(crate) fn warmup(&self) -> Duration {
        let unnamed = matches!(self.size, Some(Size::Generated(sizes)) if sizes.min == 0);
        match self.warmup {
            Some(warmup) => warmup,
            None if self.length().0.is_some() && !unnamed => Duration::from_secs(1),
            None => Duration::ZERO,
        }
    }

    /// Refuses combinations that mean nothing, in one sentence.
    ///
    /// # Errors
    /// The sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (duration, messages) = self.length();
        let sessions = self.sessions();
        if self.one_thread && (sessions > 1 || self.engine.shards > 1) {
            return Err("one thread turns one session's two nodes; leave out --sessions and \
                        --shards, or --one-thread"
                .to_owned());
        }
        if u32::from(self.engine.shards) > sessions {
            return Err(format!(
                "{} shards cannot share {sessions} session(s); give --sessions at least --shards",
                self.engine.shards
            ));
        }
        if self.engine.key.is_some() && self.connect.is_some() && sessions > 1 {
            return Err("one key has one session with a responder; leave out --key or give \
                        --sessions 1"
                .to_owned());
        }
        if let Some(messages) = messages
            && messages < u64::from(sessions)
        {
            return Err(format!(
                "{messages} message(s) do not reach {sessions} sessions; give --messages at \
                 least --sessions"
            ));
        }
        if let Some(Size::Lines(_)) = self.size
            && duration.is_none()
            && messages.is_none()
            && self.warmup.is_some_and(|warmup| !warmup.is_zero())
        {
            return Err("a file that is sent once has no warm-up; leave out --warmup, or give \
                        --duration or --messages"
                .to_owned());
        }
        if let Some(Size::Generated(sizes)) = self.size
            && sizes.min == 0
            && !self.warmup().is_zero()
        {
            return Err("empty messages cannot say that they belong to the warm-up; leave out \
                        --warmup, or give --size at least 1"
                .to_owned());
        }
        if self.connect.is_some_and(|address| address.port() == 0) {
            return Err(
                "nobody listens on port 0; give --connect the port that `serve` prints".to_owned()
            );
        }
        self.check_order()?;
        self.engine.check()
    }

    /// Refuses streams and files that cannot be.
    fn check_order(&self) -> Result<(), String> {
        let service = self.service();
        let is_ordered = service == ServiceName::Sequence;
        if !is_ordered && (self.streams.is_some() || self.stream_kind.is_some()) {
            return Err(format!(
                "{} has no streams; give --service sequence, or leave out --streams and \
                 --stream-kind",
                name_of(service)
            ));
        }
        if let Some(Size::Generated(sizes)) = self.size
            && is_ordered
            && sizes.min < NUMBERED_LEN_MIN
        {
            return Err(format!(
                "messages of a stream need {NUMBERED_LEN_MIN} bytes to say their place; raise \
                 --size"
            ));
        }
        if self.file.is_none() {
            return Ok(());
        }
        let is_block = match self.size {
            None => true,
            Some(Size::Generated(sizes)) => sizes.min == sizes.max && sizes.min > HEADER_LEN,
            Some(Size::Lines(_)) => false,
        };
        if !is_block {
            return Err(format!(
                "--file is cut into messages of one size above {HEADER_LEN} bytes; give --size \
                 like 1MiB"
            ));
        }
        let lasting =
            [None, Some(StreamKindName::Reliable), Some(StreamKindName::ReliableOnRequest)];
        let is_whole = match service {
            ServiceName::Sequence => lasting.contains(&self.stream_kind),
            ServiceName::ExactlyOnce | ServiceName::Request => true,
            _ => false,
        };
        if !is_whole {
            return Err("a file arrives whole by --service exactly-once, request, or sequence in \
                        reliable streams; choose one"
                .to_owned());
        }
        if self.sessions() > 1 || self.streams.is_some_and(|streams| streams > 1) {
            return Err("a file goes over one session and one stream; leave out --sessions and \
                        --streams"
                .to_owned());
        }
        Ok(())
    }
}

/// Bytes of a block of a file, unless --size says otherwise.
const BLOCK_LEN: usize = 1 << 20;

impl ServeOptions {
    /// Refuses combinations that mean nothing, in one sentence.
    ///
    /// # Errors
    /// The sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.engine.check()
    }
}

impl EngineOptions {
    fn check(&self) -> Result<(), String> {
        let Some(cpus) = &self.cpus else { return Ok(()) };
        if cpus.0.len() < usize::from(self.shards) {
            return Err(format!(
                "--cpus names {} core(s) for {} shards; name at least one a shard",
                cpus.0.len(),
                self.shards
            ));
        }
        // All of them, also those that no shard would take: the list is not of this machine.
        raet::node::cpus::check(&cpus.0).map_err(|error| error.to_string())
    }
}

/// Reads the command line. Bad arguments come back as one sentence; help and version are printed.
///
/// # Errors
/// The sentence, for exit status 2.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Cli, Failure> {
    let cli = Cli::try_parse_from(arguments).map_err(|error| {
        if error.use_stderr() {
            Failure::Bad(one_sentence(&error.render().to_string()))
        } else {
            Failure::Shown(error)
        }
    })?;
    match &cli.command {
        None => cli.run.check(),
        Some(Command::Run(run)) => run.check(),
        Some(Command::CompareIo(compare)) => compare.run.check(),
        Some(Command::Serve(serve)) => serve.check(),
    }
    .map_err(Failure::Bad)?;
    Ok(cli)
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad arguments, in one sentence.
    Bad(String),
    /// Help or version was asked for.
    Shown(clap::Error),
}

/// Clap's paragraphs as one line: what was wrong, its tips, and where help is.
fn one_sentence(rendered: &str) -> String {
    let body = rendered.split("\n\nUsage:").next().unwrap_or(rendered);
    let body = body.split("\n\nFor more information").next().unwrap_or(body);
    let parts: Vec<_> = body
        .lines()
        .map(|line| line.trim().trim_start_matches("error: "))
        .filter(|line| !line.is_empty())
        .collect();
    format!("{}; see --help", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("raet-loadgen").chain(line.split_whitespace());
        read(words.map(Into::into)).map_err(|failure| match failure {
            Failure::Bad(sentence) => sentence,
            Failure::Shown(error) => panic!("shown: {error}"),
        })
    }

    #[test]
    fn definition_of_the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn no_arguments_mean_ten_seconds_of_sixty_four_byte_exactly_once_at_full_rate() {
        let run = read_line("").unwrap().run;
        assert_eq!(run.service(), ServiceName::ExactlyOnce);
        assert_eq!(run.size(), Size::Generated(Sizes { min: 64, max: 64 }));
        assert_eq!(run.pace(), Pace::Max);
        assert_eq!(run.length(), (Some(Duration::from_secs(10)), None));
        assert_eq!(run.warmup(), Duration::from_secs(1));
        assert_eq!((run.sessions(), run.engine.shards), (1, 1));
        assert_eq!(run.engine.idle, IdleName::Backoff);
    }

    #[test]
    fn run_is_the_default_and_takes_the_same_options() {
        let named = read_line("run --rate 5k --service request").unwrap();
        let Some(Command::Run(named)) = named.command else { panic!("{named:?}") };
        let default = read_line("--rate 5k --service request").unwrap().run;
        assert_eq!(named.pace(), Pace::PerSecond(5_000));
        assert_eq!(default.pace(), named.pace());
        assert_eq!(default.service, named.service);
    }

    #[test]
    fn every_service_of_the_table_has_its_name() {
        for name in [
            "maybe",
            "repeat",
            "repeat-dedup",
            "more-or-less-once",
            "at-most-once",
            "exactly-once",
            "request",
            "sequence",
        ] {
            let run = read_line(&format!("--service {name}")).unwrap().run;
            assert_eq!(name_of(run.service()), name);
        }
    }

    #[test]
    fn counted_and_file_runs_measure_from_the_first_message() {
        let counted = read_line("--messages 1M").unwrap().run;
        assert_eq!(counted.length(), (None, Some(1_000_000)));
        assert_eq!(counted.warmup(), Duration::ZERO);
        let file = read_line("--size file:words.txt").unwrap().run;
        assert_eq!(file.length(), (None, None));
        assert_eq!(file.warmup(), Duration::ZERO);
        let empty = read_line("--size 0").unwrap().run;
        assert_eq!(empty.warmup(), Duration::ZERO);
    }

    #[test]
    fn bad_input_is_refused_in_one_sentence_that_says_what_to_do() {
        for (line, word) in [
            ("--rate 0", "at least 1"),
            ("--rate fast", "max"),
            ("--rate 5 --closed 5", "--closed"),
            ("--closed 0", "from 1 to 65536"),
            ("--size 5..3", "3..5"),
            ("--size 65MiB", "64 MiB"),
            ("--size banana", "file:PATH"),
            ("--duration 10", "unit"),
            ("--duration 0s", "longer"),
            ("--messages 0", "at least 1"),
            ("--connect 127.0.0.1:1", "--peer-key"),
            ("--peer-key 00", "64 hex"),
            ("--connect nowhere", "HOST:PORT"),
            ("--service sometimes", "exactly-once"),
            ("--io tcp", "uring"),
            ("--cpus 3-1", "3-1"),
            ("--cpus 0 --sessions 2 --shards 2", "one a shard"),
            ("--shards 2 --sessions 1", "--sessions"),
            ("--mtu 10", "1200"),
            ("--size 0 --warmup 1s", "--warmup"),
            ("--size file:x --warmup 1s", "--warmup"),
            ("--messages 1 --sessions 2", "--sessions"),
            ("--streams 0 --service sequence", "1 to 256"),
            ("--streams 257 --service sequence", "1 to 256"),
            ("--streams 2", "--service sequence"),
            ("--service maybe --stream-kind lossy", "--service sequence"),
            ("--service sequence --size 7", "8 bytes"),
            ("--service sequence --stream-kind sometimes", "lossy"),
            ("--priority high", "urgent"),
            ("--mix x --size 5", "--mix"),
            ("--file x --messages 5", "--messages"),
            ("--file x --size 16", "--size"),
            ("--file x --size file:y", "--size"),
            ("--file x --service maybe", "exactly-once"),
            ("--file x --stream-kind lossy", "exactly-once"),
            ("--file x --streams 2", "--streams"),
            ("--bogus", "--help"),
            ("serve --accept maybe", "always"),
            ("serve --rate 5", "--help"),
        ] {
            let sentence = read_line(line).unwrap_err();
            assert!(sentence.contains(word), "{line}: {sentence}");
            assert!(!sentence.contains('\n'), "{line}: {sentence}");
            assert!(!sentence.contains("error:"), "{line}: {sentence}");
        }
    }
}
