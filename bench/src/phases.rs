//! Which room a function belongs to: perf's symbols summed up in the engine's own words.
//!
//! What is inlined counts for the function that it is inlined into, so a share says where time
//! passes, not whose code it is. A side that waits spins, and its empty turns are in "io, shard".

/// Rooms, each with what its functions have in their names; the first that matches counts.
const ROOMS: &[(&str, &[&str])] = &[
    ("cipher", &["ring::", "ring_core", "aesni", "aes_", "ghash"]),
    ("loadgen", &["raet_loadgen::"]),
    ("recovery, acks", &["::recovery", "::ack"]),
    ("wire", &["protocol::wire"]),
    ("session", &["protocol::session", "protocol::crypto"]),
    ("inbox", &["transaction::inbox"]),
    ("outbox", &["protocol::transaction"]),
    ("endpoint", &["protocol::endpoint"]),
    ("io, shard", &["raet::io", "raet::shard", "raet::buffer", "raet::node", "clock_gettime"]),
];

/// Each room's share of the samples, the largest first, from `perf report -t ';' --sort symbol`.
pub fn shares(report: &str) -> Vec<(&'static str, f64)> {
    let mut sums: Vec<(&'static str, f64)> = Vec::new();
    for line in report.lines() {
        let Some((percent, symbol)) = line.split_once(';') else { continue };
        let Ok(percent) = percent.trim().trim_end_matches('%').parse::<f64>() else { continue };
        let room = room_of(symbol.trim());
        match sums.iter_mut().find(|(name, _)| *name == room) {
            Some((_, sum)) => *sum += percent / 100.0,
            None => sums.push((room, percent / 100.0)),
        }
    }
    sums.sort_by(|one, other| other.1.total_cmp(&one.1));
    sums
}

/// The room of a symbol as perf writes it: `[k]` or `[.]`, then its name.
fn room_of(symbol: &str) -> &'static str {
    if symbol.starts_with("[k]") {
        return "kernel";
    }
    ROOMS
        .iter()
        .find(|(_, parts)| parts.iter().any(|part| symbol.contains(part)))
        .map_or("C library, other", |(room, _)| *room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_summed_by_room_and_the_largest_comes_first() {
        let report = "
 20.00%;[.] _aesni_ctr32_ghash_6x
 30.50%;[k] copy_user_generic
 10.00%;[.] raet::protocol::transaction::inbox::Inbox::admit
 15.00%;[.] ring::aead::aes_gcm::seal
  4.00%;[.] raet::protocol::transaction::unit::Unit::append
  1.00%;[.] __memcpy_avx_unaligned_erms
";
        let shares = shares(report);
        let rooms: Vec<_> = shares.iter().map(|(room, _)| *room).collect();
        assert_eq!(rooms, ["cipher", "kernel", "inbox", "outbox", "C library, other"]);
        assert!((shares[0].1 - 0.35).abs() < 1e-9);
    }
}
