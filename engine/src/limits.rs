//! Every bound of the engine with its reason. A peer, a network or an application can fill each
//! of these and no more; what happens then is written where the bound is used.

use std::ops::RangeInclusive;

use crate::time::Duration;

// ---- Wire --------------------------------------------------------------------------------

/// Bytes of a head with its terminator (PROTOCOL 2.2). Ours are below 200; the rest is room for
/// keys that later versions add.
pub const HEAD_LEN_MAX: usize = 512;
/// Keys in a head, known and unknown (PROTOCOL 2.2).
pub const HEAD_KEYS_MAX: usize = 40;
/// Bytes of an authentication block: the largest kind is an Ed25519 signature.
pub const AUTH_LEN_MAX: usize = 64;
/// Bytes of a tail.
pub const TAIL_LEN_MAX: usize = 64;
/// Segments of one message: what fits a 16-bit bitmap index, checked before any allocation.
pub const SEGMENT_COUNT_MAX: u32 = 65_535;

// ---- Datagrams and buffers ---------------------------------------------------------------

/// Payload bytes that every path is assumed to carry (RFC 8899 base, RFC 9000 14.1).
pub const DATAGRAM_LEN_BASE: usize = 1200;
/// Largest UDP payload over IPv4: 65 535 less IP and UDP headers.
pub const DATAGRAM_LEN_MAX: usize = 65_507;
/// Room before a body that is written before its head: the head we emit is at most [`HEAD_EMIT_LEN_MAX`], the
/// authentication block at most [`AUTH_LEN_MAX`].
pub const HEADROOM: usize = HEAD_EMIT_LEN_MAX + AUTH_LEN_MAX;
/// Longest head that we emit ourselves: every key of the table at its widest form.
pub const HEAD_EMIT_LEN_MAX: usize = 320;
/// Buffers for handshake and control packets of one shard: a train of them and what is held by
/// the kernel meanwhile.
pub const CONTROL_BUFFERS: u32 = 512;
/// Of those, the ones that packets of strangers do not get: acknowledgements need them.
pub const CONTROL_BUFFERS_KEPT: usize = CONTROL_BUFFERS as usize / 2;
/// Bytes of such a buffer: an Initiate is 1200, and an acknowledgement with every list full less.
pub const CONTROL_BUFFER_LEN: usize = HEADROOM + 1_400;
/// Segments of one GSO or GRO train (`UDP_MAX_SEGMENTS` of Linux 6.x).
pub const TRAIN_SEGMENTS_MAX: usize = 128;
/// Bytes of one GSO or GRO train: one IP datagram before it is cut.
pub const TRAIN_LEN_MAX: usize = 65_507;
/// Bytes of a buffer in which a train is put together; an odd number of cache lines, so that buffers
/// differ in their sets.
pub const TRAIN_BUFFER_LEN: usize = 65_600;
/// Such buffers of one shard: those that its driver may hold, one that it had no room for and one in
/// the making.
pub const TRAIN_BUFFERS: u32 = 130;

/// Send buffers, and receive buffers, of one shard that can be configured: from as many as the
/// `uring` driver lends to the kernel to 64 GiB of the largest, of which the kernel gives what is used.
pub const BUFFERS_RANGE: RangeInclusive<u32> = 16..=1 << 20;

// ---- Drivers -----------------------------------------------------------------------------

/// Trains queued in a kernel driver or in the kernel's hands. 128 are 16 000 datagrams to one
/// peer, or one to each of 128; what waits longer belongs to the endpoint, which can still change
/// its mind.
pub const TRAINS_QUEUED_MAX: usize = 128;
/// Datagrams queued in a driver that does not build trains, between two waits.
pub const TRANSMIT_QUEUE_MAX: usize = 1_024;
/// Receives that one system call of the `mmsg` driver may fill.
pub const RECEIVE_BATCH_MAX: usize = 32;
/// Receive buffers that the `uring` driver lends to the kernel at a time: a megabyte that goes
/// round and stays in cache. On loopback 8 to 64 differ less than two runs do, for trains and for
/// single datagrams. What finds no buffer waits in the socket.
pub const BUFFERS_PROVIDED_MAX: u16 = 16;
/// How often the `uring` driver asks the kernel to let go before it leaks the memory instead.
pub const URING_TEARDOWN_TRIES: u32 = 16;
/// How long the probe of the kernel waits for its own datagrams on loopback.
pub const PROBE_PATIENCE: Duration = Duration::from_millis(200);
/// Bytes of a receive buffer for a whole train, with what io_uring writes before the payload
/// ([`RECEIVE_HEADER_LEN`]); an odd number of cache lines, so that buffers differ in their sets.
pub const RECEIVE_BUFFER_LEN: usize = 65_728;
/// Bytes that io_uring writes before a payload: its header, the sender's address, control data.
pub const RECEIVE_HEADER_LEN: usize = 96;
/// Bytes asked of the kernel for a socket's send and receive buffer each: 100 full trains.
pub const SOCKET_BUFFER_LEN: i32 = 8 << 20;
/// How long a driver naps when no buffer is free to receive into: only its own thread can free
/// one, so it must come back soon.
pub const NAP: Duration = Duration::from_millis(1);
/// Datagrams that an impaired driver holds back; the rest are dropped and counted. 8 ms at a
/// million datagrams in a second.
pub const IMPAIR_QUEUE_MAX: u32 = 8_192;
/// How far an impaired driver takes a datagram out of turn at least, without a longer delay.
pub const IMPAIR_REORDER_DELAY: Duration = Duration::from_millis(1);
/// How long an impaired driver can be told to hold a datagram back: longer than any path does.
pub const IMPAIR_DELAY_MAX: Duration = Duration::from_secs(60);
/// Datagrams under way in a simulated network; what is sent beyond them is dropped and counted.
pub const SIM_IN_FLIGHT_MAX: usize = 262_144;
/// Datagrams that wait in one simulated socket, about as many small ones as a kernel keeps.
pub const SIM_INBOX_MAX: usize = 16_384;

// ---- Shards -------------------------------------------------------------------------------

/// Receives, and commands, that one turn takes before it sends: bounds how long a timer waits.
pub const RECEIVE_BATCH: usize = 64;
/// Packets that one turn receives at most: room for an event each is taken at start.
pub const TURN_PACKETS_MAX: usize = RECEIVE_BATCH * TRAIN_SEGMENTS_MAX;
/// Commands that wait for one shard.
pub const MAILBOX_LEN: usize = 1_024;
/// Buffers for datagrams that arrived at another shard: roaming peers are few.
pub const FORWARD_BUFFERS: u32 = 64;
/// How long a backing-off shard spins after work: about what a park and a wake would cost.
pub const BACKOFF_SPIN: Duration = Duration::from_micros(200);
/// How long it then yields before it parks.
pub const BACKOFF_YIELD: Duration = Duration::from_micros(300);
/// Cores in a list: as many as a CPU mask of the C library holds.
pub const CPUS_MAX: usize = 1_024;
/// Shards of one node: a core each, at most.
pub const SHARDS_MAX: usize = CPUS_MAX;
/// Longest sleep of a shard: commands and arrivals end it sooner.
pub const REST_MAX: Duration = Duration::from_secs(1);

// ---- Packet plane ------------------------------------------------------------------------

/// Packet numbers that a receiver remembers for data (TRANSPORT 1.3, row 15).
pub const REPLAY_WINDOW: u64 = 8_192;
/// Ranges of packet numbers in one acknowledgement.
pub const ACK_RANGES_MAX: usize = 64;
/// Ranges of transactions in one acknowledgement.
pub const TRANSACTION_RANGES_MAX: usize = 32;
/// Packets after which a session is taken for a busy one: it has all the memory that its lists of
/// packets may ever need, and does not ask for some in the midst of work; and its keys stay expanded.
pub const PACKETS_BEFORE_BUSY: u64 = 64;
/// Ranges of missing segments of one message in one control body; one byte counts them.
pub const MISSING_RANGES_MAX: usize = 63;
/// Messages in segments, and as many transactions of which nothing came, of which one control body
/// says what is missing.
pub const MISSING_MESSAGES_MAX: usize = 8;
/// Lists of transactions that one control body reports as done or accepted, of ours and of replies.
pub const TRANSACTION_LISTS_MAX: usize = 3;
/// Blocks of one control body that are looked at (PROTOCOL 2.17): packet ranges, refusals, reports
/// both ways, credit, grants, what is missing, marks and ping are fewer than 70.
pub const CONTROL_BLOCKS_MAX: usize = 96;
/// Packets in flight on one session: the sent-packet ring. A window that wants more waits.
pub const PACKETS_IN_FLIGHT_MAX: usize = 16_384;
/// Sent packets that loss detection waits for behind a missing one at most, however much a path
/// reorders (PROTOCOL 5.11).
pub const PACKET_THRESHOLD_MAX: u64 = 64;
/// Acknowledgements that repeat a range of packet numbers below the largest: a range is then
/// known, or one loss more or less does not matter (PROTOCOL 5.5).
pub const ACK_REPORTS_MAX: u8 = 16;
/// Packets after which a receiver acknowledges, at least (PROTOCOL 5.33): a sender with a window of
/// a few packets waits for it.
pub const ACK_EVERY_MIN: u32 = 2;
/// Packets after which a receiver acknowledges a sender that does not wait for its window, at
/// least. Fewer would put an acknowledgement beside every second packet of a request/response
/// exchange, whose packets ask for none.
pub const ACK_EVERY_RELAXED: u32 = 8;
/// Packets after which a receiver acknowledges at most (PROTOCOL 5.33).
pub const ACK_EVERY_MAX: u32 = 64;
/// Packets of one pacing quantum, which leaves as one GSO train (PROTOCOL 5.20).
pub const PACING_QUANTUM_PACKETS_MAX: u64 = 64;
/// Bytes a second that can be set aside for a session: from what a modem carries to what the pacer
/// counts to (8 Tbit/s).
pub const FIXED_RATE_RANGE: RangeInclusive<u64> = 8_000..=1_000_000_000_000;
/// Bytes of one pacing quantum, unless two datagrams are more.
pub const PACING_QUANTUM_LEN_MAX: u64 = 65_536;
/// Probes of one datagram length before it is taken for too large (RFC 8899 5.1.2).
pub const MTU_PROBES_MAX: u8 = 3;
/// Ranges in an acknowledgement from which on it asks to be confirmed, so that they can go.
pub const ACK_CONFIRM_RANGES: usize = 8;
/// Addresses of a peer that are asked at a time whether it is there (PROTOCOL 7.11): one that
/// changes faster than three probe time-outs is asked at its latest.
pub const PATH_CHALLENGES_MAX: usize = 3;
/// How many times the bytes received from an address go to it before it answered (RFC 9000 8.1).
pub const PATH_RECEIVED_RATIO: u64 = 3;
/// Lanes of one session. One until a session may span shards.
pub const LANES_MAX: u16 = 1;

// ---- Transactions ------------------------------------------------------------------------

/// A peer's messages hold no more send buffers than so many times those that are free: one that
/// stops reading gets four fifths of the pool, and what comes after it four fifths of the rest.
pub const BUFFERS_HELD_SHARE: usize = 4;
/// Outstanding transactions to one peer, unless configured.
pub const TRANSACTIONS_DEFAULT: u32 = 4_096;
/// Outstanding transactions to one peer at most: one bit each in the duplicate ring (8 KiB).
pub const TRANSACTIONS_MAX: u32 = 65_536;
/// Bytes that a peer can be allowed to have outstanding: from what every datagram carries to more
/// than the memory of any host, far below the 2^62 that the wire can say.
pub const RECEIVE_BYTES_RANGE: RangeInclusive<u64> = DATAGRAM_LEN_BASE as u64..=1 << 40;
/// Longest that an open bundle can be told to wait for more messages, if nobody flushes it.
pub const LINGER_MAX: Duration = Duration::from_secs(3_600);
/// Room that a queue of an outbox has from its first use for what is lost, repeated or over. It
/// grows to the outbox's units at most, and stays as large as it ever was.
pub const OUTBOX_QUEUES_START: usize = 16;
/// Copies of a `repeat` message and tries of a finite-retry message at most.
pub const TRIES_MAX: u8 = 64;

/// Packets of the window that only urgent messages may use, at most.
pub const URGENT_RESERVE_PACKETS: u64 = 4;
/// The part of the window that they may be of: windows below as many packets keep nothing back.
pub const URGENT_RESERVE_SHARE: u64 = 16;
/// How long after an urgent message bulk yields: an application that sends one a second still has
/// each of them meet a short queue.
pub const YIELD_FOR: Duration = Duration::from_secs(1);
/// Bytes that bulk which yields keeps in a path's queue (Vegas, Brakmo and Peterson 1995).
pub const YIELD_QUEUE_LEN: u64 = 16 << 10;
/// How long the shortest round trip of a path stands while bulk yields: as long as with BBR.
pub const YIELD_PATH_MEMORY: Duration = Duration::from_secs(10);
/// Packets of each priority in one round of a sender, the most urgent first.
pub const PRIORITY_WEIGHTS: [u32; 3] = [16, 4, 1];
/// Bytes of a message in segments that leave before its receiver granted any (Homa's unscheduled
/// part): what a receiver may get at once from each of many senders.
pub const SEGMENTS_UNSCHEDULED_LEN: usize = 65_536;
/// Segments of one message that leave in a row while other messages of its priority wait.
pub const SEGMENT_BURST: u32 = 16;
/// Bytes that a receiver grants a peer beyond what arrived, at least: as much as a path of 1 ms
/// carries at 2 Gbit/s. On a shorter path it is the queue in front of a receiver that is the
/// bottleneck, and what is urgent waits behind it.
pub const SEGMENTS_GRANTED_MIN: usize = 256 << 10;
/// Bytes that a receiver grants a peer beyond what arrived, at most: 10 Gbit/s over 6 ms, or
/// 640 Mbit/s over 100 ms, twice over.
pub const SEGMENTS_GRANTED_MAX: usize = 16 << 20;
/// Messages that a receiver grants at a time (Homa's overcommitment).
pub const GRANTS_MAX: usize = 8;
/// How long a receiver keeps what it knows of the path by its grants: as long as BBR does.
pub const GRANT_MEMORY: Duration = Duration::from_secs(10);
/// Time over which arrivals are counted at least: in less, a receiver that had to wait for its core
/// finds what gathered in its socket, and takes it for the path's rate.
pub const GRANT_ROUND_MIN: Duration = Duration::from_millis(10);
/// How long a message has its share of what is granted after something of it came.
pub const GRANT_SHARE_KEPT: Duration = Duration::from_secs(1);
/// Largest message, in segments.
pub const MESSAGE_LEN_MAX: usize = 64 << 20;
/// Bytes that a piece of a message, or a message of a stream, takes beside its own when it comes before its turn: a place in a
/// tree, the names of a block, and what the allocator adds.
pub const EARLY_PIECE_OVERHEAD: usize = 128;
/// Memory for messages in segments and before their turn, of all peers of a node together; a quarter
/// of what the machine has, if that is less.
pub const RECEIVE_BYTES_TOTAL: u64 = 1 << 30;
/// Messages in segments under way from one peer, each way of a transaction: their number only
/// bounds the memory of lists, their bytes are bounded by credit.
pub const ASSEMBLIES_MAX: usize = 1_024;
/// How long a receiver keeps an incomplete message of a level that is not reported on without
/// another segment of it, and how long its sender waits for a grant.
pub const ASSEMBLY_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of memory of complete messages that is kept for the next ones.
pub const BLOCKS_SPARE_LEN: usize = 64 << 20;
/// Blocks of memory of complete messages that are kept for the next ones.
pub const BLOCKS_SPARE_MAX: usize = 64;
/// Messages of one stream that are not reported yet, at the sender, and that wait for their turn
/// at the receiver.
pub const ESCROW_MESSAGES_MAX: u64 = 1_024;
/// An ordered stream's messages without an outcome have no more bytes than so many times those that
/// the peer's grant still has free: one that waits for what is missing gets four fifths of the
/// grant, and what comes after it four fifths of the rest.
pub const STREAM_BYTES_SHARE: u64 = 4;
/// How long a receiver waits for what is missing in a lossy stream, at least.
pub const ESCROW_PATIENCE: Duration = Duration::from_millis(100);
/// As many round trips, if that is longer: one for the loss to be concluded and what is lost to come
/// again, one for the second try to be lost and come again, one for what delays it.
pub const ESCROW_ROUND_TRIPS: u64 = 3;

/// Reason reported for a request whose handler could not do what it asks.
pub const REFUSED_FAILED: u8 = 254;
/// Reason reported for a transaction that expired at the receiver.
pub const REFUSED_EXPIRED: u8 = 255;

// ---- Sessions ----------------------------------------------------------------------------

/// Half-open handshakes whose Accept is kept for retransmission.
pub const HALF_OPEN_MAX: usize = 4_096;
/// Cookies remembered as used, in each of two epochs.
pub const COOKIES_USED_MAX: usize = 65_536;
/// Peers that wait for an operator's decision.
pub const PENDING_PEERS_MAX: usize = 1_024;
/// Pending peers from one address prefix (/32 or /64).
pub const PENDING_PER_PREFIX_MAX: usize = 16;
/// Bytes of a peer's name, role or enrolment token.
pub const PEER_TEXT_LEN_MAX: usize = 64;
/// Hellos answered by one shard in a second; beyond it they are dropped before any hash.
pub const HELLOS_PER_SECOND: u32 = 100_000;
/// Initiates that may cost public-key work in a second on one shard, unless configured: 10 % of a core at
/// 340 us.
pub const INITIATES_PER_SECOND: u32 = 300;
/// As many as can be configured: more than a core can do.
pub const INITIATES_PER_SECOND_MAX: u32 = 100_000;
/// How long an Accept is kept to answer a repeated Initiate.
pub const ACCEPT_CACHED: Duration = Duration::from_secs(10);
/// Initiates from one address prefix (/32 or /64) in a second, while the shard is busy with them.
pub const INITIATES_PER_PREFIX_SECOND: u32 = 20;
/// Initiates that a prefix may send at once before its rate counts.
pub const INITIATES_PER_PREFIX_BURST: u32 = 5;
/// Address prefixes whose rates are told apart; more share.
pub const PREFIX_SLOTS: usize = 1_024;
/// Refusals that a prefix is told in a minute; further ones it has to guess from silence.
pub const REFUSALS_PER_PREFIX_MINUTE: u8 = 3;
/// Packets of unknown sessions that one shard answers in a second.
pub const RESETS_PER_SECOND: u32 = 1_000;
/// And of one address prefix (/32 or /64).
pub const RESETS_PER_PREFIX_SECOND: u32 = 1;
/// Peers that an endpoint knows at a time, unless configured.
pub const PEERS_DEFAULT: usize = 65_536;
/// As many as can be configured.
pub const PEERS_MAX: usize = 1 << 20;
/// Peers with a lasting decision, accepted or rejected.
pub const DECIDED_PEERS_MAX: usize = 65_536;

// ---- Keys --------------------------------------------------------------------------------

/// Cipher blocks after which a key is replaced: half of [`KEY_COST_MAX`].
pub const KEY_COST_RATCHET: u64 = 1 << 34;
/// Cipher blocks that one key may protect: RFC 9001 B.1.1 allows AES-GCM 2^28 packets of 2^7
/// blocks. ChaCha20-Poly1305 could do more; one rule is simpler than two.
pub const KEY_COST_MAX: u64 = 1 << 35;
/// Openings that may fail in a session (RFC 9001 6.6 allows 2^36 at least).
pub const OPENINGS_FAILED_MAX: u64 = 1 << 30;
/// How long a generation of keys is used, less or more a tenth.
pub const GENERATION_INTERVAL: Duration = Duration::from_secs(120);
/// When a new handshake is due in a session that lives on, less or more a tenth.
pub const KEY_RENEWAL_AFTER: Duration = Duration::from_secs(15 * 60);
/// When a session whose keys no handshake renewed ends.
pub const KEY_LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);
/// A responder's session whose initiator sent no protected packet is dropped after this.
pub const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that answered "pending" is asked again no sooner than this, notice or not.
pub const ASK_AGAIN_MIN: Duration = Duration::from_secs(5);

// ---- Time --------------------------------------------------------------------------------

/// Granularity of every timer.
pub const GRANULARITY: Duration = Duration::from_micros(100);
/// A session without an authenticated packet for this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is under way with a peer whose session was lost waits this long for the next one: longer than
/// a switch takes to restart, shorter than anybody would believe an old order.
pub const ASSOCIATION_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest such wait that can be configured.
pub const ASSOCIATION_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Silence after which a peer is asked for a sign of life, at least, unless its session would end
/// before (RFC 8085 3.5).
pub const KEEP_ALIVE_MIN: Duration = Duration::from_secs(15);
/// Idle time-outs that a handshake takes (PROTOCOL 3.14).
pub const IDLE_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);
/// Patience with a handshake that can be configured: from a round trip of any path to a day.
pub const HANDSHAKE_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);
/// Probe time-out at most (RFC 6298 allows a cap of at least 60 s).
pub const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

// ---- Files -------------------------------------------------------------------------------

/// Bytes of a key file: its one line has fewer than half of these.
pub const KEY_FILE_LEN_MAX: usize = 256;
/// Bytes of a trust file: a line for each peer we may remember, with every character of its name
/// and role escaped.
pub const TRUST_FILE_LEN_MAX: usize =
    16 + (DECIDED_PEERS_MAX + PENDING_PEERS_MAX) * (96 + 4 * PEER_TEXT_LEN_MAX);
/// Names tried for a file that is to be moved into place: each left over by a killed process
/// costs one.
pub const DRAFTS_MAX: u32 = 64;

/// Bytes of a record in an outbox: messages of this length still fit every default.
pub const OUTBOX_RECORD_LEN_MAX: usize = 1 << 20;
/// Records in an outbox that are not done, or wait for older ones: 40 bytes of memory each, or 80 for
/// one that was moved.
pub const OUTBOX_RECORDS_MAX: usize = 1 << 20;
/// Bytes that an outbox may be told to take on disk. It is read in sixteenths at start.
pub const OUTBOX_BYTES_RANGE: RangeInclusive<u64> = (64 << 10)..=(4 << 30);
/// Bytes that an outbox gathers in memory before it writes them unasked.
pub const OUTBOX_BATCH_LEN_MAX: usize = 1 << 20;

// How the bounds relate. A wrong pair does not compile.
const _: () = assert!(HEAD_EMIT_LEN_MAX <= HEAD_LEN_MAX);
const _: () = assert!(TRAIN_LEN_MAX <= DATAGRAM_LEN_MAX);
const _: () = assert!(RECEIVE_HEADER_LEN + TRAIN_LEN_MAX <= RECEIVE_BUFFER_LEN);
const _: () = assert!(RECEIVE_BUFFER_LEN % 128 == 64);
const _: () = assert!(TRAIN_LEN_MAX <= TRAIN_BUFFER_LEN && TRAIN_BUFFER_LEN % 128 == 64);
const _: () = assert!(TRAIN_BUFFERS as usize == TRAINS_QUEUED_MAX + 2);
const _: () = assert!(PACKETS_IN_FLIGHT_MAX.is_power_of_two());
const _: () = assert!(MESSAGE_LEN_MAX / SEGMENT_COUNT_MAX as usize <= DATAGRAM_LEN_BASE);
const _: () = assert!(TRANSACTIONS_MAX.is_power_of_two());
const _: () = assert!(REPLAY_WINDOW.is_multiple_of(64));
const _: () = assert!(ACK_EVERY_MIN <= ACK_EVERY_RELAXED && ACK_EVERY_RELAXED <= ACK_EVERY_MAX);
const _: () = assert!(*BUFFERS_RANGE.start() >= BUFFERS_PROVIDED_MAX as u32);
