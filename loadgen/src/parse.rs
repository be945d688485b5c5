//! Values of the command line: each reader takes the text and answers with the value, or with a
//! sentence that shows a good one.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use raet::limits::{DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX, MESSAGE_LEN_MAX, TRANSACTIONS_MAX};
use raet::{Congestion, PublicKey};

use crate::cli::{MtuChoice, Size};
use crate::plan::{Pace, Sizes};

/// Longest time that may be asked for: a month of soaking.
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);
/// Message numbers that the payload has room for.
const MESSAGES_MAX: u64 = 1 << 48;

/// Cores in the order in which shards take them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

/// A socket address, or a host name and port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; give HOST:PORT, like 127.0.0.1:4040"))?;
    found.next().ok_or_else(|| "the name has no address; give HOST:PORT".to_owned())
}

/// A node's public key.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, String> {
    text.parse().map_err(|error| format!("{error}; give the 64 hex digits that `serve` prints"))
}

/// `N`, `A..B` or `file:PATH`.
pub(crate) fn size(text: &str) -> Result<Size, String> {
    if let Some(path) = text.strip_prefix("file:") {
        if path.is_empty() {
            return Err("name the file, like file:/usr/share/dict/words".to_owned());
        }
        return Ok(Size::Lines(PathBuf::from(path)));
    }
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (bytes(min)?, bytes(max)?),
        None => (bytes(text)?, bytes(text)?),
    };
    if min > max {
        return Err(format!("the range runs backwards; write {max}..{min}"));
    }
    Ok(Size::Generated(Sizes { min, max }))
}

/// Bytes of a message, with an optional `KiB` or `MiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, factor) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(digits), _) => (digits, 1 << 10),
        (_, Some(digits)) => (digits, 1 << 20),
        (None, None) => (text, 1),
    };
    let number = digits.parse::<usize>().map_err(|_| {
        "give bytes like 64 or 1MiB, a range like 64..1200, or lines like file:PATH".to_owned()
    })?;
    match number.checked_mul(factor) {
        Some(bytes @ ..=MESSAGE_LEN_MAX) => Ok(bytes),
        _ => Err(format!(
            "a message has at most {MESSAGE_LEN_MAX} bytes (64 MiB); give a smaller size"
        )),
    }
}

/// A time with its unit, above zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_zero(text)?;
    if duration.is_zero() {
        return Err("give a time longer than 0s".to_owned());
    }
    Ok(duration)
}

/// A time with its unit.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "" => return Err(format!("a time needs a unit, like {text}s or {text}ms")),
        _ => return Err("the units are ns, us, ms, s, m and h".to_owned()),
    };
    let number: f64 =
        number.parse().map_err(|_| "give a time like 10s, 1.5s or 200us".to_owned())?;
    let duration = Duration::try_from_secs_f64(number * seconds)
        .map_err(|_| "give a time like 10s, 1.5s or 200us".to_owned())?;
    if duration > DURATION_MAX {
        return Err("give at most 744h (31 days)".to_owned());
    }
    Ok(duration)
}

/// A whole number from 1, with an optional `k`, `M` or `G` for thousands, millions, thousands of
/// millions.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let count = digits
        .replace('_', "")
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "give a whole number like 5000, 5k or 2M".to_owned())?;
    match count {
        0 => Err("give a number of at least 1".to_owned()),
        1..=MESSAGES_MAX => Ok(count),
        _ => Err(format!("give a number of at most {MESSAGES_MAX}")),
    }
}

/// Messages a second, or `max`.
pub(crate) fn rate(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    count(text).map(Pace::PerSecond).map_err(|sentence| format!("{sentence}, or `max`"))
}

/// Messages outstanding at a time.
pub(crate) fn outstanding(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=TRANSACTIONS_MAX).contains(number));
    number.ok_or_else(|| format!("give a number from 1 to {TRANSACTIONS_MAX}"))
}

/// How many ordered streams.
pub(crate) fn streams(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=256).contains(number));
    number.ok_or_else(|| "give a number of streams from 1 to 256".to_owned())
}

/// `auto` or bytes.
pub(crate) fn mtu(text: &str) -> Result<MtuChoice, String> {
    if text == "auto" {
        return Ok(MtuChoice::Auto);
    }
    match text.parse::<usize>() {
        Ok(bytes @ DATAGRAM_LEN_BASE..=DATAGRAM_LEN_MAX) => Ok(MtuChoice::Fixed(bytes)),
        _ => Err(format!(
            "give `auto` or bytes from {DATAGRAM_LEN_BASE} to {DATAGRAM_LEN_MAX}, like 1472 for \
             Ethernet"
        )),
    }
}

/// `cubic`, `newreno` or bytes a second.
pub(crate) fn congestion(text: &str) -> Result<Congestion, String> {
    match text {
        "cubic" => Ok(Congestion::Cubic),
        "newreno" => Ok(Congestion::NewReno),
        _ => count(text)
            .map(|bytes_per_second| Congestion::FixedRate { bytes_per_second })
            .map_err(|_| "give `cubic`, `newreno`, or bytes a second like 10M".to_owned()),
    }
}

/// Cores and ranges of cores, in order, none twice.
pub(crate) fn cpu_list(text: &str) -> Result<CpuList, String> {
    raet::node::cpus::parse_cpu_list(text)
        .map(CpuList)
        .map_err(|error| format!("{error}; write a list like 0-3,8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_within_bounds_or_refused(
            text in "(file:)?[-+]?[0-9_]{0,22}[.e]?[0-9]{0,4}(us|ms|s|m|h|k|M|G|KiB|MiB|%|)(\\.\\.[0-9]{0,9})?.?",
        ) {
            if let Ok(duration) = duration(&text) {
                prop_assert!(!duration.is_zero());
            }
            if let Ok(Size::Generated(sizes)) = size(&text) {
                prop_assert!(sizes.min <= sizes.max && sizes.max <= MESSAGE_LEN_MAX);
            }
            if let Ok(count) = count(&text) {
                prop_assert!(count > 0);
            }
            let _ = (duration_or_zero(&text), rate(&text), outstanding(&text), streams(&text));
            let _ = (mtu(&text), congestion(&text), cpu_list(&text), public_key(&text));
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration_or_zero("0us"), Ok(Duration::ZERO));
        for bad in ["", "10", "s", "-1s", "1e400s", "10 weeks", "NaNs", "infs", "800h", "0s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_have_optional_suffixes_and_bounds() {
        assert_eq!(count("5"), Ok(5));
        assert_eq!(count("5k"), Ok(5_000));
        assert_eq!(count("2M"), Ok(2_000_000));
        assert_eq!(count("1_000"), Ok(1_000));
        for bad in ["", "k", "0", "-1", "1.5", "99999999999999999999", "300000G", "ü"] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_numbers_ranges_or_files() {
        assert_eq!(size("64"), Ok(Size::Generated(Sizes { min: 64, max: 64 })));
        assert_eq!(size("1KiB..64MiB"), Ok(Size::Generated(Sizes { min: 1 << 10, max: 64 << 20 })));
        assert_eq!(size("0..9"), Ok(Size::Generated(Sizes { min: 0, max: 9 })));
        assert_eq!(size("file:a..b"), Ok(Size::Lines(PathBuf::from("a..b"))));
        for bad in
            ["", "..", "1..", "9..1", "67108865", "65MiB", "MiB", "1GiB", "file:", "1..2..3", "-5"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn congestion_is_a_name_or_a_rate() {
        assert_eq!(congestion("newreno"), Ok(Congestion::NewReno));
        assert_eq!(congestion("10M"), Ok(Congestion::FixedRate { bytes_per_second: 10_000_000 }));
        assert!(congestion("bbr").unwrap_err().contains("newreno"));
    }

    #[test]
    fn cpu_lists_are_the_engines() {
        assert_eq!(cpu_list("0-3,8"), Ok(CpuList(vec![0, 1, 2, 3, 8])));
        assert!(cpu_list("3-1").unwrap_err().contains("0-3,8"));
    }

    #[test]
    fn keys_are_hex_and_whole() {
        assert_eq!(public_key(&"0a".repeat(32)), Ok(PublicKey::from_bytes([10; 32])));
        for bad in ["", "0a", &"0g".repeat(32), &"0a".repeat(33), &"é".repeat(32)] {
            assert!(public_key(bad).unwrap_err().contains("serve"), "{bad}");
        }
    }

    #[test]
    fn datagram_sizes_are_auto_or_within_the_protocols_bounds() {
        assert_eq!(mtu("auto"), Ok(MtuChoice::Auto));
        assert_eq!(mtu("1472"), Ok(MtuChoice::Fixed(1_472)));
        for bad in ["", "1199", "65508", "big"] {
            assert!(mtu(bad).is_err(), "{bad}");
        }
    }
}
