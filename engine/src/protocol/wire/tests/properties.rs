//! Heads that nobody chose: written, loosely written, mutated and random ones.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn any_width() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..=64).prop_map(|(value, shift)| value.checked_shr(shift).unwrap_or(0))
}

prop_compose! {
    fn any_head()(
        ids in prop::array::uniform5(any_width()),
        date_time in 0..=INTEGER_MAX,
        (segment_count, segment) in (1..=SEGMENT_COUNT_MAX).prop_flat_map(|count| (Just(count), 0..count)),
        is_whole: bool,
        service in select(ServiceKind::ALL),
        packet in select(PacketKind::ALL),
        auth in select(AuthKind::ALL),
        body in select(BodyKind::ALL),
        tail in select(TailKind::ALL),
        body_len in 0u32..3000,
        flags: u8,
    ) -> Head {
        Head {
            version: 0,
            source: ids[0],
            destination: ids[1],
            session: ids[2],
            transaction: ids[3],
            service,
            packet,
            order: ids[4],
            date_time,
            segment: if is_whole { 0 } else { segment },
            segment_count: if is_whole { 1 } else { segment_count },
            auth,
            body,
            body_len: if body == BodyKind::None { 0 } else { body_len },
            tail,
            flags: Flags::from_wire(flags),
        }
    }
}

/// Heads that follow each other as in a session, with now and then another.
fn head_run() -> impl Strategy<Value = Vec<Head>> {
    let step = prop_oneof![
        6 => (any_width(), 0u32..2000, any::<u8>(), any::<u32>(), any_width(), any::<[bool; 5]>())
            .prop_map(Some),
        1 => Just(None),
    ];
    (prop::collection::vec((step, any_head()), 1..20)).prop_map(|steps| {
        let mut head = steps[0].1;
        steps
            .into_iter()
            .map(|(step, other)| {
                match step {
                    None => head = other,
                    Some((transaction, body_len, flags, segment, session, changes)) => {
                        if changes[0] {
                            head.transaction = transaction;
                        }
                        if changes[1] && head.body != BodyKind::None {
                            head.body_len = body_len;
                        }
                        if changes[2] {
                            head.flags = Flags::from_wire(flags);
                        }
                        if changes[3] {
                            head.segment = segment % head.segment_count;
                        }
                        if changes[4] {
                            head.session = session;
                        }
                    }
                }
                head
            })
            .collect()
    })
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Delete(Index),
    Swap(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = prop_oneof![
        6 => select(b"{}\":, 0123456789abcdefghilnstk\r\n\\\t-.E[]".to_vec()),
        1 => any::<u8>(),
    ];
    prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<Index>().prop_map(Mutation::Delete),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

/// Changes only within the first `len` bytes, where the head is.
fn mutate(bytes: &mut Vec<u8>, len: usize, mutations: &[Mutation]) {
    for mutation in mutations {
        match mutation {
            Mutation::Replace(at, byte) => bytes[at.index(len)] = *byte,
            Mutation::Insert(at, byte) => bytes.insert(at.index(len), *byte),
            Mutation::Delete(at) => drop(bytes.remove(at.index(len))),
            Mutation::Swap(a, b) => bytes.swap(a.index(len), b.index(len)),
        }
    }
}

/// Members that are often right: known and unknown keys, values of either form, any order.
fn loose_json() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        8 => select(vec![
            "hk", "vn", "sd", "dd", "si", "ti", "sk", "pk", "oi", "dt", "sn", "sc", "nk", "nl", "bk",
            "bl", "tk", "tl", "fg",
        ]).prop_map(str::to_owned),
        2 => "[a-z]{2}",
        1 => "[a-zA-Z0-9]{0,3}",
    ];
    let value = prop_oneof![
        4 => (0u64..10).prop_map(|value| value.to_string()),
        4 => any_width().prop_map(|value| format!("\"{value:x}\"")),
        1 => any_width().prop_map(|value| value.to_string()),
        1 => "\"0{0,3}[0-9a-f]{1,17}\"",
        1 => select(vec!["0.0", "-1", "1e1", "null", "true", "{}", "[]", "\"\"", "00"])
            .prop_map(str::to_owned),
    ];
    let space = || select(vec!["", "", "", "", " ", "  ", "\t"]);
    let member = (space(), key, space(), space(), value)
        .prop_map(|(a, key, b, c, value)| format!("{a}\"{key}\"{b}:{c}{value}"));
    (prop::collection::vec(member, 0..6), any::<Index>(), space(), space()).prop_map(
        |(mut members, at, before, after)| {
            members.insert(at.index(members.len() + 1), "\"hl\":\"%%%\"".to_owned());
            format!("{before}{{{}}}{after}", members.join(","))
        },
    )
}

/// What `encode` writes, as text.
fn encoded(head: &Head) -> String {
    let mut before = [0; HEAD_EMIT_LEN_MAX];
    let len = encode(head, &mut before);
    before[HEAD_EMIT_LEN_MAX - len..].escape_ascii().to_string()
}

/// What a writer writes that was told of `head`, as text.
fn put(writer: &HeadWriter, head: &Head) -> String {
    let mut place = vec![0xaa; encode(head, &mut [0; HEAD_EMIT_LEN_MAX])];
    writer.put(&mut place);
    place.escape_ascii().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // PROTOCOL 2.7
    #[test]
    fn what_was_written_reads_back(head in any_head()) {
        prop_assert_eq!(agreed(&built(&head)).unwrap().head, head);
    }

    #[test]
    fn writer_with_template_writes_what_encode_writes(heads in head_run()) {
        let (mut writer, mut last) = (HeadWriter::new(), Head::default());
        for head in heads {
            // A head like the last one but for its transaction.
            let mut again = writer.clone();
            if again.renumber(head.session, head.transaction) {
                let renumbered = Head { transaction: head.transaction, ..last };
                prop_assert_eq!(last.session, head.session);
                prop_assert_eq!(put(&again, &renumbered), encoded(&renumbered));
            }
            prop_assert_eq!(writer.prepare(&head), encode(&head, &mut [0; HEAD_EMIT_LEN_MAX]));
            prop_assert_eq!(put(&writer, &head), encoded(&head));
            last = head;
        }
    }

    #[test]
    fn reader_with_prediction_says_what_split_says(
        heads in head_run(),
        mutations in prop::collection::vec(prop::collection::vec(mutation(), 0..2), 20),
    ) {
        let mut reader = HeadReader::new();
        for (head, mutations) in heads.iter().zip(mutations) {
            let mut bytes = built(head);
            let head_len = split(&bytes).unwrap().head_len();
            mutate(&mut bytes, head_len - 1, &mutations);
            prop_assert_eq!(reader.split(&bytes), agreed(&bytes), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn mutated_heads_are_judged_alike(
        head in any_head(), mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let mut bytes = built(&Head { body_len: 0, ..head });
        let head_len = split(&bytes).unwrap().head_len();
        mutate(&mut bytes, head_len - 3, &mutations);
        let _ = agreed(&bytes);
    }

    #[test]
    fn loosely_written_heads_are_judged_alike(json in loose_json(), rest in 0usize..3) {
        let _ = agreed(&datagram(&json, rest));
    }

    #[test]
    fn any_bytes_are_judged_alike(bytes: Vec<u8>) {
        let _ = agreed(&bytes);
    }

    #[test]
    fn text_of_the_heads_alphabet_is_judged_alike(
        json in "[ {}\":,0-9a-f]{0,12}\"[a-z]{2}\":[\"0-9a-f]{1,4}[ {}\":,0-9a-f]{0,12}",
    ) {
        let _ = agreed(&datagram(&json, 0));
        let _ = agreed(&datagram(&format!("{{\"hl\":\"%%%\",{json}}}"), 0));
    }

    // PROTOCOL 2.2
    #[test]
    fn end_of_head_is_where_the_naive_search_finds_it(
        bytes in prop::collection::vec(select(b"\r\r\r\n\n\nx".to_vec()), 0..600), before in 490usize..512,
    ) {
        for bytes in [bytes.clone(), [vec![b'x'; before], bytes].concat()] {
            let naive = (4..=bytes.len().min(HEAD_LEN_MAX)).find(|&end| bytes[..end].ends_with(b"\r\n\r\n"));
            prop_assert_eq!(find_end(&bytes), naive);
        }
    }
}
