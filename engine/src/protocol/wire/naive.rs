//! The naive twin: a head read in the most obvious way, for the others to be held against.
//!
//! It shares no code and no types with the engine, and the fuzz targets include this very file.

use serde_json::{Map, Value};

/// Every key of PROTOCOL 2.9: is it a hex string, its largest value, its default.
const TABLE: [(&str, bool, u64, u64); 20] = [
    ("hl", true, 512, 0),
    ("hk", false, 255, 0),
    ("vn", false, 255, 0),
    ("sd", true, u64::MAX, 0),
    ("dd", true, u64::MAX, 0),
    ("si", true, u64::MAX, 0),
    ("ti", true, u64::MAX, 0),
    ("sk", false, 255, 0),
    ("pk", false, 255, 0),
    ("oi", true, u64::MAX, 0),
    ("dt", false, (1 << 53) - 1, 0),
    ("sn", true, 65_535, 0),
    ("sc", true, 65_535, 1),
    ("nk", false, 255, 0),
    ("nl", true, 64, 0),
    ("bk", false, 255, 0),
    ("bl", true, u32::MAX as u64, 0),
    ("tk", false, 255, 0),
    ("tl", true, 64, 0),
    ("fg", true, 255, 0),
];

/// The head's values in table order, or the name of the reason to drop the datagram.
pub(crate) fn read(datagram: &[u8]) -> Result<[u64; 20], &'static str> {
    if datagram.is_empty() {
        return Err("empty");
    }
    let end = (4..=datagram.len().min(512))
        .find(|&end| &datagram[end - 4..end] == b"\r\n\r\n")
        .ok_or("head_unterminated")?;
    let values = members(&datagram[..end - 4]).ok_or("head_malformed")?;
    let value = |key: &str| values[TABLE.iter().position(|row| row.0 == key).unwrap()];
    if value("hl") == 0 {
        return Err("head_malformed");
    }
    if value("hl") != end as u64 {
        return Err("head_unterminated");
    }
    let kinds = [("hk", 0), ("vn", 0), ("sk", 7), ("pk", 11), ("nk", 4), ("bk", 4), ("tk", 1)];
    if kinds.iter().any(|&(key, last)| value(key) > last) {
        return Err("unsupported");
    }
    if value("sn") >= value("sc")
        || !matches!((value("nk"), value("nl")), (0, 0) | (1, 28) | (2, 28) | (3, 64) | (4, 16))
        || !matches!((value("tk"), value("tl")), (0, 0) | (1, 4))
        || (value("bk") == 0 && value("bl") != 0)
    {
        return Err("head_malformed");
    }
    if value("hl") + value("nl") + value("bl") + value("tl") != datagram.len() as u64 {
        return Err("length_mismatch");
    }
    let mut values = values;
    values[19] &= 0b0011_0111;
    Ok(values)
}

fn members(json: &[u8]) -> Option<[u64; 20]> {
    let text = std::str::from_utf8(json).ok()?;
    if text.contains(|byte: char| !(' '..='~').contains(&byte) || byte == '\\') {
        return None;
    }
    let map: Map<String, Value> = serde_json::from_str(text).ok()?;
    // A map keeps one of two equal keys. Where keys and values are as they must be, no string
    // holds a comma, so commas count the members.
    let commas = text.matches(',').count();
    if map.len() > 40 || map.len() != commas + 1 {
        return None;
    }
    let mut values = TABLE.map(|row| row.3);
    for (key, value) in &map {
        if key.len() != 2 || !key.chars().all(|letter| letter.is_ascii_lowercase()) {
            return None;
        }
        let known = TABLE.iter().position(|row| row.0 == key);
        let number = match value {
            Value::Number(number) => {
                let number = number.as_u64().filter(|&number| number < 1 << 53)?;
                if known.is_some_and(|at| TABLE[at].1) {
                    return None;
                }
                number
            }
            Value::String(digits) => {
                let hex = "0123456789abcdef";
                if digits.is_empty() || !digits.chars().all(|digit| hex.contains(digit)) {
                    return None;
                }
                match known {
                    Some(at) if !TABLE[at].1 || digits.len() > 16 => return None,
                    Some(_) => u64::from_str_radix(digits, 16).unwrap(),
                    None => 0,
                }
            }
            _ => return None,
        };
        if let Some(at) = known {
            if number > TABLE[at].2 {
                return None;
            }
            values[at] = number;
        }
    }
    Some(values)
}
