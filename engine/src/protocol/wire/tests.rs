//! Heads and datagrams as a whole, rule by rule. Each reading is held against the naive twin.

mod properties;

use super::*;
use crate::limits::{HEAD_EMIT_LEN_MAX, HEAD_KEYS_MAX, HEAD_LEN_MAX, SEGMENT_COUNT_MAX};
use crate::protocol::drop_reason::DropReason::{self, *};

/// A datagram of `json`, the terminator and `rest` zero bytes. `%%%` in `json` stands for the
/// three digits of the head's length.
fn datagram(json: &str, rest: usize) -> Vec<u8> {
    let mut bytes = json.as_bytes().to_vec();
    bytes.extend(b"\r\n\r\n");
    let len = format!("{:03x}", bytes.len());
    if let Some(at) = bytes.windows(3).position(|three| three == b"%%%") {
        bytes.splice(at..at + 3, len.into_bytes());
    }
    bytes.resize(bytes.len() + rest, 0);
    bytes
}

/// A datagram that fits `head`; what follows the head is zero.
fn built(head: &Head) -> Vec<u8> {
    let mut before = [0; HEAD_EMIT_LEN_MAX];
    let len = encode(head, &mut before);
    let mut bytes = before[HEAD_EMIT_LEN_MAX - len..].to_vec();
    bytes.resize(len + head.auth.len() + head.body_len as usize + head.tail.len(), 0);
    bytes
}

fn outcome(packet: Result<Packet, DropReason>) -> Result<[u64; 20], &'static str> {
    packet.map(|packet| packet.head.values(packet.head_len())).map_err(DropReason::name)
}

/// What every way of reading says of `datagram`; fails if they differ.
fn agreed(datagram: &[u8]) -> Result<Packet, DropReason> {
    let packet = split(datagram);
    assert_eq!(outcome(packet), naive::read(datagram), "{}", datagram.escape_ascii());
    assert_eq!(split_any(datagram), packet, "{}", datagram.escape_ascii());
    assert_eq!(HeadReader::new().split(datagram), packet, "{}", datagram.escape_ascii());
    packet
}

/// What a head with these further members and nothing after it comes to.
fn members(members: &str) -> Result<Head, DropReason> {
    let comma = if members.is_empty() { "" } else { "," };
    agreed(&datagram(&format!("{{\"hl\":\"%%%\"{comma}{members}}}"), 0)).map(|packet| packet.head)
}

fn json(json: &str) -> Result<Head, DropReason> {
    agreed(&datagram(json, 0)).map(|packet| packet.head)
}

fn typical() -> Head {
    Head {
        session: 0x0123_4567_89ab_cdef,
        transaction: 0x1a2b,
        service: ServiceKind::ExactlyOnce,
        auth: AuthKind::Aead,
        body: BodyKind::Bundle,
        body_len: 0x4e2,
        flags: Flags::BURST,
        ..Head::default()
    }
}

fn widest() -> Head {
    Head {
        version: 0,
        source: u64::MAX,
        destination: u64::MAX,
        session: u64::MAX,
        transaction: u64::MAX,
        service: ServiceKind::Request,
        packet: PacketKind::Reset,
        order: u64::MAX,
        date_time: INTEGER_MAX,
        segment: SEGMENT_COUNT_MAX - 1,
        segment_count: SEGMENT_COUNT_MAX,
        auth: AuthKind::Ed25519,
        body: BodyKind::Control,
        body_len: u32::MAX,
        tail: TailKind::Crc32c,
        flags: Flags::from_wire(0xff),
    }
}

// PROTOCOL 2.1
#[test]
fn parts_follow_each_other_and_fill_the_datagram_exactly() {
    let head = Head { tail: TailKind::Crc32c, body_len: 10, ..typical() };
    let mut bytes = built(&head);
    let packet = agreed(&bytes).unwrap();
    assert_eq!(packet.auth(), packet.head_len()..packet.head_len() + 28);
    assert_eq!(packet.body(), packet.auth().end..packet.auth().end + 10);
    assert_eq!(packet.tail(), packet.body().end..bytes.len());
    let tail = tail::crc32c(&bytes[..packet.tail().start]);
    assert_eq!(packet.check_tail(&bytes), Err(TailInvalid));
    bytes[packet.tail()].copy_from_slice(&tail);
    assert_eq!(packet.check_tail(&bytes), Ok(()));
    bytes.push(0);
    assert_eq!(agreed(&bytes), Err(LengthMismatch));
    bytes.truncate(bytes.len() - 2);
    assert_eq!(agreed(&bytes), Err(LengthMismatch));
    // A length or a sum that leaves 16 or 32 bits is a mismatch like any other, also where what is
    // left of it fits: here nothing, as in the datagram.
    for lengths in [
        r#""bk":2,"bl":"10000""#,
        r#""nk":1,"nl":"1c","bk":2,"bl":"ffe4""#,
        r#""nk":1,"nl":"1c","bk":2,"bl":"ffffffe4""#,
        r#""nk":1,"nl":"1c","bk":2,"bl":"ffffffff""#,
    ] {
        assert_eq!(members(lengths), Err(LengthMismatch), "{lengths}");
    }
}

// PROTOCOL 2.2
#[test]
fn head_ends_with_the_first_terminator_within_the_bound_and_where_hl_says() {
    assert_eq!(agreed(b""), Err(Empty));
    assert_eq!(agreed(b"x"), Err(HeadUnterminated));
    assert_eq!(agreed(b"{\"hl\":\"010\"}\r\n\r"), Err(HeadUnterminated));
    assert_eq!(agreed(b"{\"hl\":\"010\"}\r\n\r\n").map(|packet| packet.head_len()), Ok(16));
    assert_eq!(agreed(b"{\"hl\":\"011\"}\r\n\r\n"), Err(HeadUnterminated));
    assert_eq!(agreed(b"{\"hl\":\"00f\"}\r\n\r\n"), Err(HeadUnterminated));
    // A second terminator, to which `hl` points, does not make the head longer.
    assert_eq!(agreed(b"{\"hl\":\"014\"}\r\n\r\n\r\n\r\n"), Err(HeadUnterminated));

    let longest = |spaces: usize| datagram(&format!("{}{{\"hl\":\"%%%\"}}", " ".repeat(spaces)), 0);
    let fits = longest(HEAD_LEN_MAX - 16);
    assert_eq!(fits.len(), HEAD_LEN_MAX);
    assert_eq!(agreed(&fits).map(|packet| packet.head_len()), Ok(HEAD_LEN_MAX));
    assert_eq!(agreed(&longest(HEAD_LEN_MAX - 15)), Err(HeadUnterminated));
}

// PROTOCOL 2.2
#[test]
fn head_of_40_keys_is_taken_and_of_41_is_not() {
    let with_unknown = |count: usize| {
        let letters =
            (b'w'..=b'z').flat_map(|first| (b'a'..=b'z').map(move |second| [first, second]));
        let unknown: String = letters
            .take(count)
            .map(|[first, second]| format!(",\"{}{}\":0", char::from(first), char::from(second)))
            .collect();
        json(&format!("{{\"hl\":\"%%%\"{unknown}}}"))
    };
    assert_eq!(with_unknown(HEAD_KEYS_MAX - 1), Ok(Head::default()));
    assert_eq!(with_unknown(HEAD_KEYS_MAX), Err(HeadMalformed));
}

// PROTOCOL 2.3
#[test]
fn head_is_one_flat_object_in_its_alphabet_with_spaces_only_between_tokens() {
    let taken = Ok(Head { transaction: 7, service: ServiceKind::Repeat, ..Head::default() });
    assert_eq!(json(r#" { "hl" : "%%%" , "ti" : "7" , "sk" : 1 } "#), taken);
    assert_eq!(json(r#"{"sk":1,"ti":"7","hl":"%%%"}"#), taken);
    for malformed in [
        "",
        "{",
        "}",
        "{}",
        "[]",
        "7",
        "null",
        r#"{"hl":"%%%"}{}"#,
        r#"{"hl":"%%%"},"#,
        r#"{"hl":"%%%",}"#,
        r#"{,"hl":"%%%"}"#,
        r#"{"hl":"%%%""ti":"7"}"#,
        r#"{"hl":"%%%","ti":{}}"#,
        r#"{"hl":"%%%","ti":{"sk":1}}"#,
        r#"{"hl":"%%%","ti":["7"]}"#,
        r#"{"hl":"%%%","ti":"7 "}"#,
        r#"{"hl":"%%%","t i":"7"}"#,
        r#"{"hl":"%%%","ti":"\u0037"}"#,
        "{\"hl\":\"%%%\",\t\"ti\":\"7\"}",
        "{\"hl\":\"%%%\",\r\n\"ti\":\"7\"}",
        "{\"hl\":\"%%%\",\"ti\":\"7\"}\0",
        "\u{feff}{\"hl\":\"%%%\"}",
        "{\"hl\":\"%%%\",\"ti\":\"\u{ff17}\"}",
        r#"{"hl":"%%%","ti":true}"#,
        r#"{"hl":"%%%","zz":null}"#,
        r#"{"hl":"%%%" "ti":"7"}"#,
        r#"{"hl":"%%%","ti"}"#,
        r#"{"hl":"%%%","ti":}"#,
        r#"{"hl":"%%%","ti":"7}"#,
        r#"{hl:"%%%"}"#,
    ] {
        assert_eq!(json(malformed), Err(HeadMalformed), "{malformed}");
    }
}

// PROTOCOL 2.4
#[test]
fn unknown_keys_are_ignored_and_keys_are_two_lower_case_letters() {
    assert_eq!(members(r#""zz":1,"aa":"beef""#), Ok(Head::default()));
    let long = format!(r#""zz":"{}""#, "f".repeat(64));
    assert_eq!(members(&long), Ok(Head::default()));
    for key in ["t", "tid", "TI", "t1", "", "_a"] {
        assert_eq!(members(&format!("\"{key}\":1")), Err(HeadMalformed), "{key}");
    }
}

// PROTOCOL 2.4
#[test]
fn reg_dup_key() {
    assert_eq!(members(r#""ti":"1","ti":"2""#), Err(HeadMalformed));
    assert_eq!(members(r#""ti":"1","ti":"1""#), Err(HeadMalformed));
    assert_eq!(members(r#""zz":1,"ti":"1","zz":1"#), Err(HeadMalformed));
    assert_eq!(members(r#""hl":"%%%""#), Err(HeadMalformed));
}

// PROTOCOL 1.3, 1.4, 2.5
#[test]
fn values_are_plain_integers_or_lower_case_hex_strings() {
    assert_eq!(members(r#""zz":9007199254740991"#), Ok(Head::default()));
    for value in [
        "-1",
        "-0",
        "+1",
        "01",
        "00",
        "1.0",
        "1e0",
        "1E0",
        "0x1",
        "9007199254740992",
        "18446744073709551616",
        "NaN",
        "1 2",
        r#""""#,
        r#""A""#,
        r#""g""#,
        r#""-1""#,
        r#""0x1""#,
    ] {
        assert_eq!(members(&format!("\"zz\":{value}")), Err(HeadMalformed), "{value}");
        assert_eq!(members(&format!("\"dt\":{value}")), Err(HeadMalformed), "{value}");
        assert_eq!(members(&format!("\"ti\":{value}")), Err(HeadMalformed), "{value}");
    }
    assert_eq!(
        members(r#""ti":"0000000000000007""#),
        Ok(Head { transaction: 7, ..Head::default() })
    );
    assert_eq!(members(r#""ti":"00000000000000007""#), Err(HeadMalformed));
}

// PROTOCOL 2.6, 2.9
#[test]
fn known_keys_have_their_form_range_and_default() {
    assert_eq!(members(""), Ok(Head::default()));
    assert_eq!(Head::default().segment_count, 1);
    for malformed in [
        r#""ti":7"#,
        r#""sk":"1""#,
        r#""dt":"1""#,
        r#""bl":1"#,
        r#""fg":1"#,
        r#""hk":"0""#,
        r#""fg":"100""#,
        r#""sk":256"#,
        r#""bl":"100000000""#,
        r#""nl":"41""#,
        r#""tl":"41""#,
        r#""sn":"10000""#,
        r#""vn":256"#,
    ] {
        assert_eq!(members(malformed), Err(HeadMalformed), "{malformed}");
    }
    let bytes = built(&Head { body_len: 0, ..widest() });
    assert_eq!(agreed(&bytes).unwrap().head, Head { body_len: 0, ..widest() });
    // Values equal to the default may be present.
    let defaults = r#""hk":0,"vn":0,"sd":"0","dd":"0","si":"0","ti":"0","sk":0,"pk":0,"oi":"0",
        "dt":0,"sn":"0","sc":"1","nk":0,"nl":"0","bk":0,"bl":"0","tk":0,"tl":"0","fg":"0""#;
    assert_eq!(members(&defaults.replace("\n        ", "")), Ok(Head::default()));
}

// PROTOCOL 2.6
#[test]
fn reg_sc_bomb() {
    assert_eq!(members(r#""sc":"10000""#), Err(HeadMalformed));
    assert_eq!(members(r#""sc":"ffffffffffffffff""#), Err(HeadMalformed));
    assert_eq!(members(r#""sc":"0""#), Err(HeadMalformed));
    assert_eq!(members(r#""sn":"1""#), Err(HeadMalformed));
    assert_eq!(members(r#""sn":"5","sc":"5""#), Err(HeadMalformed));
    let head = members(r#""sn":"fffe","sc":"ffff""#).unwrap();
    assert_eq!((head.segment, head.segment_count), (SEGMENT_COUNT_MAX - 1, SEGMENT_COUNT_MAX));
}

// PROTOCOL 2.7
#[test]
fn written_head_is_canonical() {
    let bytes = built(&typical());
    let expected = concat!(
        r#"{"hl":"068","si":"0123456789abcdef","ti":"1a2b","sk":5,"nk":1,"nl":"1c","bk":3,"#,
        r#""bl":"4e2","fg":"04"}"#,
        "\r\n\r\n"
    );
    assert_eq!(
        bytes[..0x68].escape_ascii().to_string(),
        expected.as_bytes().escape_ascii().to_string()
    );
    assert_eq!(&built(&Head::default())[..], b"{\"hl\":\"010\"}\r\n\r\n");
    let session = built(&Head { session: 0x1f, ..Head::default() });
    assert_eq!(&session[..], b"{\"hl\":\"028\",\"si\":\"000000000000001f\"}\r\n\r\n");
    let mut before = [0; HEAD_EMIT_LEN_MAX];
    let len = encode(&widest(), &mut before);
    let expected = concat!(
        r#"{"hl":"107","sd":"ffffffffffffffff","dd":"ffffffffffffffff","si":"ffffffffffffffff","#,
        r#""ti":"ffffffffffffffff","sk":7,"pk":11,"oi":"ffffffffffffffff","dt":9007199254740991,"#,
        r#""sn":"fffe","sc":"ffff","nk":3,"nl":"40","bk":4,"bl":"ffffffff","tk":1,"tl":"4","fg":"37"}"#,
        "\r\n\r\n"
    );
    assert_eq!(
        before[HEAD_EMIT_LEN_MAX - len..].escape_ascii().to_string(),
        expected.as_bytes().escape_ascii().to_string()
    );
}

// PROTOCOL 2.7
#[test]
fn head_shown_in_the_document_is_what_is_written() {
    let head = Head {
        session: 0xe3ab_4629_e63e_6415,
        transaction: 0x1a2b,
        service: ServiceKind::ExactlyOnce,
        auth: AuthKind::Aead,
        body: BodyKind::Raw,
        body_len: 64,
        ..Head::default()
    };
    let bytes = built(&head);
    let text = core::str::from_utf8(&bytes[..split(&bytes).unwrap().head_len()]).unwrap();
    assert!(include_str!("../../../../docs/PROTOCOL.md").contains(text.trim_end()), "{text}");
}

// PROTOCOL 1.4, 2.7
#[test]
fn date_time_that_a_head_cannot_hold_is_written_as_the_largest_that_it_can() {
    let bytes = built(&Head { date_time: u64::MAX, ..Head::default() });
    assert_eq!(agreed(&bytes).unwrap().head.date_time, INTEGER_MAX);
}

// PROTOCOL 2.8
#[test]
fn head_with_several_faults_is_dropped_for_the_first_reason_in_order() {
    // Malformed, and of another version, and with a wrong length.
    assert_eq!(json(r#"{"hl":"001","vn":1,"zz":-1}"#), Err(HeadMalformed));
    assert_eq!(json(r#"{"vn":1}"#), Err(HeadMalformed));
    assert_eq!(json(r#"{"hl":"0","vn":1}"#), Err(HeadMalformed));
    assert_eq!(json(r#"{"hl":"001","vn":1}"#), Err(HeadUnterminated));
    assert_eq!(members(r#""vn":1,"sc":"0""#), Err(Unsupported));
    assert_eq!(members(r#""sc":"0","bk":2,"bl":"9""#), Err(HeadMalformed));
    assert_eq!(members(r#""bk":2,"bl":"9""#), Err(LengthMismatch));
}

// PROTOCOL 2.8, 2.10, 2.11, 2.12, 2.13, 2.14
#[test]
fn other_head_kind_version_or_unknown_kind_is_unsupported() {
    for unsupported in
        [r#""hk":1"#, r#""vn":1"#, r#""sk":8"#, r#""pk":12"#, r#""nk":5"#, r#""bk":5"#, r#""tk":2"#]
    {
        assert_eq!(members(unsupported), Err(Unsupported), "{unsupported}");
    }
}

// PROTOCOL 2.12, 2.13, 2.14
#[test]
fn length_that_does_not_go_with_its_kind_is_malformed() {
    for malformed in [
        r#""nk":1"#,
        r#""nk":1,"nl":"1b""#,
        r#""nl":"1c""#,
        r#""nk":3,"nl":"1c""#,
        r#""nk":4,"nl":"1c""#,
        r#""bl":"1""#,
        r#""tk":1"#,
        r#""tl":"4""#,
        r#""tk":1,"tl":"5""#,
    ] {
        assert_eq!(members(malformed), Err(HeadMalformed), "{malformed}");
    }
    assert_eq!(members(r#""bk":2"#), Ok(Head { body: BodyKind::Raw, ..Head::default() }));
}

// PROTOCOL 1.6, 2.15
#[test]
fn reserved_flag_bits_are_ignored() {
    assert_eq!(members(r#""fg":"c8""#), Ok(Head::default()));
    assert_eq!(members(r#""fg":"ff""#).unwrap().flags.to_wire(), 0x37);
}

// PROTOCOL 1.5
#[test]
fn dropped_datagram_changes_nothing_in_the_reader() {
    let mut reader = HeadReader::new();
    reader.split(&built(&typical())).unwrap();
    let before = format!("{reader:?}");
    let mut damaged = built(&Head { session: 1, ..typical() });
    damaged.push(0);
    assert_eq!(reader.split(&damaged), Err(LengthMismatch));
    assert_eq!(reader.split(b"junk"), Err(HeadUnterminated));
    assert_eq!(format!("{reader:?}"), before);
}

#[test]
fn head_of_another_session_is_predicted() {
    let mut reader = HeadReader::new();
    reader.split(&built(&typical())).unwrap();
    let learnt = format!("{reader:?}");
    for session in [0xfedc_ba98_7654_3210, 0x42] {
        let other = Head { session, transaction: 7, ..typical() };
        assert_eq!(reader.split(&built(&other)).map(|packet| packet.head), Ok(other));
    }
    // It was not parsed: that makes a head the next prediction.
    assert_eq!(format!("{reader:?}"), learnt.replace("varied: 0", "varied: 2"));
}

// PROTOCOL 2.13
#[test]
fn prediction_lends_no_body_to_a_head_whose_kind_has_none() {
    let mut reader = HeadReader::new();
    assert!(reader.split(&datagram(r#"{"hl":"%%%","bl":"0"}"#, 0)).is_ok());
    assert_eq!(reader.split(&datagram(r#"{"hl":"%%%","bl":"5"}"#, 5)), Err(HeadMalformed));
}

/// Every byte at every place of a typical datagram's head, so that no single byte is trusted.
#[test]
fn every_single_byte_change_is_judged_alike() {
    let bytes = built(&Head { body_len: 20, ..typical() });
    let head_len = split(&bytes).unwrap().head_len();
    let mut reader = HeadReader::new();
    reader.split(&bytes).unwrap();
    for at in 0..head_len {
        for byte in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = byte;
            let expected = agreed(&changed);
            assert_eq!(reader.clone().split(&changed), expected, "{}", changed.escape_ascii());
        }
    }
}
