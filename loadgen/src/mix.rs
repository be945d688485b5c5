//! A file that describes several workloads, which share the sessions of a run.
//!
//! One workload a line, as `key=value` words; `#` begins a comment, empty lines are passed over:
//!
//! ```text
//! name=alerts  service=exactly-once  size=64    rate=10000  priority=urgent
//! name=copy    service=exactly-once  size=64MiB closed=1    priority=bulk
//! name=feed    service=sequence      size=1KiB  share=20%   streams=8  stream-kind=lossy
//! ```

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::ValueEnum;

use crate::cli::{RunOptions, Size};
use crate::load;
use crate::names::{PriorityName, ServiceName, StreamKindName, name_of};
use crate::parse;
use crate::payload::{KINDS_MAX, NUMBERED_LEN_MIN};
use crate::plan::{Pace, Sizes};
use crate::workload::Workload;

/// Bytes of such a file at most.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Ordered streams of one kind.
const STREAMS_MAX: u16 = 256;

/// Reads the workloads of a file.
///
/// # Errors
/// One sentence that names the line.
pub(crate) fn read(path: &Path, options: &RunOptions) -> Result<Vec<Workload>, String> {
    let shown = path.display();
    let failed = |error| format!("cannot read {shown}: {error}; give a readable text file");
    // Before it is opened: a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{shown} is no regular file; give a readable text file"));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_LEN_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(format!("{shown} is too long; a mix has at most {FILE_LEN_MAX} bytes"));
    }
    parse(&text, options).map_err(|sentence| format!("{shown}, {sentence}"))
}

fn parse(text: &str, options: &RunOptions) -> Result<Vec<Workload>, String> {
    let mut workloads: Vec<Workload> = Vec::new();
    // Streams that earlier lines took, of each kind.
    let mut taken = [0; 4];
    for (place, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        let named = |sentence| format!("line {}: {sentence}", place + 1);
        let workload = workload(line, options, &mut taken).map_err(named)?;
        if workloads.iter().any(|known| known.name == workload.name) {
            return Err(named(format!("another line has the name {} too", workload.name)));
        }
        workloads.push(workload);
        if workloads.len() > KINDS_MAX {
            return Err(named(format!("a mix has at most {KINDS_MAX} workloads")));
        }
    }
    if workloads.is_empty() {
        return Err("no line: describe a workload in it, like service=exactly-once size=64 \
                    rate=10000 priority=urgent"
            .to_owned());
    }
    Ok(workloads)
}

/// What one line says.
#[derive(Default)]
struct Said {
    name: Option<String>,
    service: ServiceName,
    size: Option<Size>,
    pace: Option<Pace>,
    messages: Option<u64>,
    priority: PriorityName,
    streams: Option<u16>,
    stream_kind: Option<StreamKindName>,
}

fn workload(line: &str, options: &RunOptions, taken: &mut [u16; 4]) -> Result<Workload, String> {
    let mut said = Said::default();
    let mut keys = Vec::new();
    for word in line.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else {
            return Err(format!("{word} is no key=value; write like size=64"));
        };
        if keys.contains(&key) {
            return Err(format!("{key} stands there twice; keep one"));
        }
        keys.push(key);
        said.take(key, value, options).map_err(|sentence| format!("{key}: {sentence}"))?;
    }
    said.check()?;
    let (kind, count) = (said.stream_kind.unwrap_or_default(), said.streams.unwrap_or(1));
    let mut first = 0;
    if said.service == ServiceName::Sequence {
        let used = &mut taken[kind as usize];
        first = *used;
        *used += count;
        if *used > STREAMS_MAX {
            return Err(format!(
                "with this line there are {used} {} streams; have at most {STREAMS_MAX}",
                name_of(kind)
            ));
        }
    }
    let size = said.size.unwrap_or(Size::Generated(Sizes { min: 64, max: 64 }));
    let mut workload = Workload {
        name: String::new(),
        service: said.service,
        content: load::content(&size, true)?,
        pace: said.pace.unwrap_or(Pace::Max),
        messages: said.messages,
        priority: said.priority,
        stream_kind: kind,
        stream_first: u8::try_from(first).expect("below the number of streams"),
        stream_count: count,
    };
    workload.name = said.name.unwrap_or_else(|| workload.text());
    Ok(workload)
}

impl Said {
    fn take(&mut self, key: &str, value: &str, options: &RunOptions) -> Result<(), String> {
        match key {
            "name" if value.is_empty() => return Err("it is empty; give one, or none".to_owned()),
            "name" => self.name = Some(value.to_owned()),
            "service" => self.service = choice(value)?,
            "size" => self.size = Some(parse::size(value)?),
            "rate" | "share" | "closed" if self.pace.is_some() => {
                return Err("a line has one of rate, share and closed".to_owned());
            }
            "rate" => self.pace = Some(parse::rate(value)?),
            "share" => self.pace = Some(share(value, options.rate)?),
            "closed" => self.pace = Some(Pace::Closed(parse::outstanding(value)?)),
            "messages" => self.messages = Some(parse::count(value)?),
            "priority" => self.priority = choice(value)?,
            "streams" => self.streams = Some(parse::streams(value)?),
            "stream-kind" => self.stream_kind = Some(choice(value)?),
            _ => {
                return Err("there is no such key; there are name, service, size, rate, share, \
                            closed, messages, priority, streams and stream-kind"
                    .to_owned());
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if let Some(Size::Generated(sizes)) = self.size
            && sizes.min < NUMBERED_LEN_MIN
        {
            return Err(format!(
                "messages of a mix need {NUMBERED_LEN_MIN} bytes to say which they are; raise size"
            ));
        }
        let has_streams = self.streams.is_some() || self.stream_kind.is_some();
        if has_streams && self.service != ServiceName::Sequence {
            return Err(format!(
                "{} has no streams; write service=sequence",
                name_of(self.service)
            ));
        }
        Ok(())
    }
}

/// A part of the rate that the command line gives, in percent.
fn share(text: &str, rate: Option<Pace>) -> Result<Pace, String> {
    let Some(Pace::PerSecond(rate)) = rate else {
        return Err("a share is one of --rate N; give it on the command line".to_owned());
    };
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let percent = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    let percent = percent.ok_or("give a percentage like 20% or 0.5%")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the rate")]
    let part = (rate as f64 * percent / 100.0).round() as u64;
    Ok(Pace::PerSecond(part.max(1)))
}

fn choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let known = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = known.map(|value| value.get_name().to_owned()).collect();
        format!("{text} is none; choose of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(line: &str) -> RunOptions {
        let words = std::iter::once("raet-loadgen").chain(line.split_whitespace());
        crate::cli::read(words.map(Into::into)).unwrap().run
    }

    #[test]
    fn lines_say_what_a_workload_is_and_the_rest_has_its_default() {
        let text = "# mix\n\nname=a service=request size=64..128 rate=5k priority=urgent # x\n\
                    service=sequence streams=4 stream-kind=lossy size=1KiB share=20%\n\
                    service=sequence streams=3 stream-kind=lossy closed=9 messages=7 name=c\n";
        let workloads = parse(text, &options("--rate 1000")).unwrap();
        let [a, b, c] = &workloads[..] else { panic!("{workloads:?}") };
        assert_eq!(
            (a.name.as_str(), a.service, a.pace),
            ("a", ServiceName::Request, Pace::PerSecond(5_000))
        );
        assert_eq!((a.priority, a.stream_count), (PriorityName::Urgent, 1));
        assert_eq!((b.pace, b.stream_first, b.stream_count), (Pace::PerSecond(200), 0, 4));
        assert_eq!((c.pace, c.stream_first, c.messages), (Pace::Closed(9), 4, Some(7)));
        assert_eq!(c.content.longest(), 64);
    }

    const WORDS: &str = "name=a name=b service=sequence service=request size=64..128 size=64MiB \
                         size=4 rate=5k share=20% closed=9 messages=7 priority=bulk streams=200 \
                         stream-kind=lossy # name= = \u{e9}=\u{e9} \n \n";

    proptest! {
        #[test]
        fn any_lines_are_workloads_within_bounds_or_refused_by_number(
            words in prop::collection::vec(
                prop::sample::select(WORDS.split(' ').collect::<Vec<_>>()),
                0..24,
            ),
        ) {
            match parse(&words.join(" "), &options("--rate 1000")) {
                Ok(workloads) => {
                    prop_assert!((1..=KINDS_MAX).contains(&workloads.len()));
                    for workload in &workloads {
                        prop_assert!(workload.content.longest() >= NUMBERED_LEN_MIN);
                        let first = u16::from(workload.stream_first);
                        prop_assert!(first + workload.stream_count <= STREAMS_MAX);
                    }
                }
                Err(sentence) => {
                    prop_assert!(sentence.starts_with("line ") || sentence.starts_with("no line"));
                }
            }
        }
    }

    #[test]
    fn nonsense_is_named_with_its_line() {
        for (line, word) in [
            ("nonsense", "key=value"),
            ("colour=red", "no such key"),
            ("name=", "name: it is empty"),
            ("size=64 size=65", "twice"),
            ("size=4", "8 bytes"),
            ("size=65MiB", "64 MiB"),
            ("service=sometimes", "exactly-once"),
            ("priority=high", "urgent"),
            ("rate=0", "at least 1"),
            ("rate=5 closed=5", "one of"),
            ("share=20%", "--rate"),
            ("streams=0 service=sequence", "256"),
            ("streams=4", "service=sequence"),
            ("service=exactly-once stream-kind=lossy", "service=sequence"),
            ("service=sequence streams=257", "256"),
        ] {
            let text = format!("size=64 name=good\n\n{line}\n");
            let sentence = parse(&text, &options("")).unwrap_err();
            assert!(sentence.starts_with("line 3: ") && sentence.contains(word), "{sentence}");
        }
        let twice = parse("name=a\nname=a", &options("")).unwrap_err();
        assert!(twice.starts_with("line 2: "), "{twice}");
        let many = "service=sequence streams=200 name=a\nservice=sequence streams=57 name=b";
        assert!(parse(many, &options("")).unwrap_err().contains("257"));
        assert!(parse("# nothing", &options("")).unwrap_err().contains("no line"));
        let all: String = (0..33).map(|n| format!("name=n{n}\n")).collect();
        assert!(parse(&all, &options("")).unwrap_err().contains("at most 32"));
    }
}
