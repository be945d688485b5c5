//! A run of datagrams through one predicting reader: it always agrees with the plain one, parts
//! never leave the datagram, and what was read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::limits::HEAD_EMIT_LEN_MAX;
use raet::protocol::wire::{HeadReader, HeadWriter, encode, split};

fuzz_target!(|data: &[u8]| {
    let (mut reader, mut writer) = (HeadReader::new(), HeadWriter::new());
    // 0xff stands in no head: it parts the datagrams.
    for datagram in data.split(|&byte| byte == 0xff) {
        let packet = split(datagram);
        assert_eq!(reader.split(datagram), packet);
        let Ok(packet) = packet else { continue };
        assert_eq!(packet.auth().start, packet.head_len());
        assert_eq!(packet.auth().end, packet.body().start);
        assert_eq!(packet.body().end, packet.tail().start);
        assert_eq!(packet.tail().end, datagram.len());
        let _ = packet.check_tail(datagram);

        let mut plain = [0; HEAD_EMIT_LEN_MAX];
        let head_len = encode(&packet.head, &mut plain);
        assert_eq!(writer.prepare(&packet.head), head_len);
        let mut template = vec![0; head_len];
        writer.put(&mut template);
        assert!(plain.ends_with(&template));
        let mut again = plain[HEAD_EMIT_LEN_MAX - head_len..].to_vec();
        again.extend(&datagram[packet.head_len()..]);
        assert_eq!(split(&again).expect("ours").head, packet.head);
        assert_eq!(reader.split(&again).expect("ours").head, packet.head);
    }
});
