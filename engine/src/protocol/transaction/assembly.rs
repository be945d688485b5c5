//! Messages in segments on their way in: memory for the whole, a bit for each segment.
//!
//! A segment says how long its message is and how many segments there are, so its place follows
//! from its number alone, and memory for the whole is reserved when the first one arrives; what
//! is not reserved is not kept, and not acknowledged. A message that is handed over piece by piece
//! keeps only what arrived before its turn.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use super::grant::GrantWindow;
use super::service::{Features, Retry};
use crate::buffer::{Block, Blocks};
use crate::limits::{
    ASSEMBLIES_MAX, ASSEMBLY_PATIENCE, EARLY_PIECE_OVERHEAD, GRANT_SHARE_KEPT, GRANTS_MAX,
    MESSAGE_LEN_MAX, MISSING_MESSAGES_MAX, MISSING_RANGES_MAX, SEGMENTS_GRANTED_MAX,
    SEGMENTS_UNSCHEDULED_LEN,
};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire::varint;
use crate::time::Instant;

/// Messages that are told of first because something of them came: half of a report.
const TOUCHED_MAX: usize = MISSING_MESSAGES_MAX / 2;

/// Names a message that arrives in segments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct AssemblyKey {
    /// Whether it replies to a transaction of ours.
    pub is_reply: bool,
    /// Its transaction.
    pub transaction: u64,
}

/// A segment that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Length of the whole message.
    total: usize,
    /// Segments of the whole message.
    count: u32,
    /// Which of them this is.
    segment: u32,
    /// Whether the whole is a bundle: a piece of one is no piece of a message.
    is_bundle: bool,
    bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Reads the body of a packet with segment number `segment` of `count` (PROTOCOL 6.15).
    ///
    /// # Errors
    /// [`DropReason::BodyMalformed`] if the length of the message is missing, absurd, or does not
    /// agree with the length of this segment.
    pub fn read(body: &'a [u8], segment: u32, count: u32) -> Result<Self, DropReason> {
        let (total, prefix) = varint::read(body).ok_or(DropReason::BodyMalformed)?;
        let total = usize::try_from(total).map_err(|_| DropReason::BodyMalformed)?;
        let bytes = &body[prefix..];
        let piece = Self { total, count, segment, is_bundle: false, bytes };
        // Every segment but the last is full, and the last one is not empty.
        let is_cut_right = count > 1
            && total <= MESSAGE_LEN_MAX
            && total > (count as usize - 1) * piece.size()
            && piece.bytes.len() == piece.size().min(total - piece.offset());
        if is_cut_right { Ok(piece) } else { Err(DropReason::BodyMalformed) }
    }

    /// The same as a segment of a bundle, if `is_bundle`.
    #[must_use]
    pub const fn of_bundle(self, is_bundle: bool) -> Self {
        Self { is_bundle, ..self }
    }

    /// Bytes of every segment but the last.
    fn size(&self) -> usize {
        self.total.div_ceil(self.count as usize)
    }

    /// Where the segment begins in the message.
    pub fn offset(&self) -> usize {
        self.segment as usize * self.size()
    }

    /// Length of the whole message.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Transactions that the whole can be of, if the first is `first`.
    pub fn transactions(&self, first: u64) -> Range<u64> {
        transactions(first, self.total, self.is_bundle)
    }

    /// Bytes of the body that are not of the message.
    pub fn prefix_len(&self, body: &[u8]) -> usize {
        body.len() - self.bytes.len()
    }
}

/// Transactions that a body of `total` bytes can be of: a message of a bundle takes a byte at least.
const fn transactions(first: u64, total: usize, is_bundle: bool) -> Range<u64> {
    first..first.saturating_add(if is_bundle { total as u64 } else { 1 })
}

/// What a segment led to.
#[derive(Debug)]
pub enum Progress {
    /// It is the last one that was missing: the whole message.
    Complete(Block),
    /// It was there already.
    Duplicate,
    /// It is kept until the others come.
    Kept,
    /// The message is handed over piece by piece, and it is this one's turn. `is_last`: the
    /// message is complete with it, unless [`Assemblies::next_early`] has more.
    Turn {
        /// Whether nothing comes after it.
        is_last: bool,
    },
}

/// One incomplete message.
#[derive(Debug)]
struct Assembly {
    total: usize,
    count: u32,
    arrived: u32,
    /// Segments that may have left.
    granted: u32,
    /// How many have to arrive before the peer should hear of a new grant; none will do if `None`.
    renews_at: Option<u32>,
    bits: Vec<u64>,
    memory: Memory,
    /// Whose memory it uses.
    account: Account,
    is_bundle: bool,
    retry: Retry,
    touched_at: Instant,
}

/// What shares a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Account {
    /// Messages that their sender counts against what it was granted: their memory is there.
    Granted,
    /// Messages of levels without acknowledgement, which nothing bounds before they arrive.
    Ungranted,
    /// Replies.
    Replies,
}

impl Account {
    const fn of(key: AssemblyKey, row: Features) -> Self {
        match (key.is_reply, row.ack) {
            (true, _) => Self::Replies,
            (false, true) => Self::Granted,
            (false, false) => Self::Ungranted,
        }
    }
}

#[derive(Debug)]
enum Memory {
    /// The message as it will be handed over.
    Whole(Block),
    /// Pieces whose turn has not come, and whose it is.
    Pieces { next: u32, early: BTreeMap<u32, Block> },
}

/// What a piece that came before its turn takes of the memory that was reserved: the smallest one
/// costs more than its bytes.
const fn early_cost(len: usize) -> u64 {
    (len + EARLY_PIECE_OVERHEAD) as u64
}

impl Assembly {
    fn size(&self) -> usize {
        self.total.div_ceil(self.count as usize)
    }

    /// Whether something of it came lately.
    fn is_moving(&self, now: Instant) -> bool {
        now < self.touched_at + GRANT_SHARE_KEPT
    }

    fn remaining(&self) -> usize {
        (self.count - self.arrived) as usize * self.size()
    }

    /// Segments on their way, if everything that was granted left.
    fn ahead(&self) -> u32 {
        self.granted.saturating_sub(self.arrived)
    }

    /// The segments below `end` may leave. The next grant is due when half of them arrived.
    fn grant(&mut self, end: u32) {
        self.granted = end.min(self.count);
        let more = self.granted < self.count;
        self.renews_at = more.then_some(self.arrived + self.ahead().div_ceil(2));
    }

    /// Segments of `len` bytes.
    fn segments(&self, len: usize) -> u32 {
        u32::try_from(len.div_ceil(self.size())).unwrap_or(u32::MAX).min(self.count)
    }

    /// Runs of segments that did not arrive, ascending, but for the last run of the message.
    fn gaps(&self) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.find(at, false)?;
            at = self.find(start, true)?;
            Some(start..=at - 1)
        })
    }

    /// The first segment from `from` up that arrived, or did not.
    fn find(&self, from: u32, has_arrived: bool) -> Option<u32> {
        let mut mask = u64::MAX << (from % 64);
        for index in from / 64..self.count.div_ceil(64) {
            let word = self.bits[index as usize];
            let wanted = if has_arrived { word } else { !word } & mask;
            if wanted != 0 {
                let found = index * 64 + wanted.trailing_zeros();
                return (found < self.count).then_some(found);
            }
            mask = u64::MAX;
        }
        None
    }

    /// One past the last segment that arrived.
    fn end(&self) -> u32 {
        let empty = self.bits.iter().rev().take_while(|word| **word == 0).count();
        let words = &self.bits[..self.bits.len() - empty];
        let len = u32::try_from(words.len()).expect("a thousand");
        words.last().map_or(0, |last| len * 64 - last.leading_zeros())
    }

    /// One past the highest segment such that a report on those below names few enough gaps.
    fn spoken_of(&self) -> u32 {
        match self.gaps().nth(MISSING_RANGES_MAX) {
            Some(beyond) => *beyond.start(),
            None => self.end(),
        }
    }
}

/// Every incomplete message of one association.
#[derive(Debug)]
pub struct Assemblies {
    list: BTreeMap<AssemblyKey, Assembly>,
    /// Bytes of memory in use, by [`Account`].
    used: [u64; 3],
    /// Bytes of each that may be in use.
    budget: u64,
    /// Longer messages are handed over piece by piece.
    whole_len_max: usize,
    window: GrantWindow,
    sweep_at: Option<Instant>,
    /// The first few of which a segment came since the last report.
    touched: Vec<AssemblyKey>,
}

impl Assemblies {
    /// None yet; `budget` bytes may be in use for messages, as many for those of levels without
    /// acknowledgement, and as many for replies.
    pub fn new(budget: u64, whole_len_max: usize) -> Self {
        let granted_max = usize::try_from(budget).unwrap_or(usize::MAX).min(SEGMENTS_GRANTED_MAX);
        Self {
            list: BTreeMap::new(),
            used: [0; 3],
            budget,
            whole_len_max,
            window: GrantWindow::new(granted_max),
            sweep_at: None,
            touched: Vec::new(),
        }
    }

    /// Forgets what arrived of a message if this segment shows that its sender has cut it anew,
    /// because the path carries less than before (PROTOCOL 6.17). Returns whether pieces of it
    /// were handed over.
    pub fn forget_former(&mut self, key: AssemblyKey, piece: &Piece<'_>) -> bool {
        let is_former = |known: &Assembly| known.total == piece.total && known.count < piece.count;
        self.list.get(&key).is_some_and(is_former) && self.forget(key)
    }

    /// Takes a segment, for which [`Assemblies::forget_former`] made place.
    ///
    /// # Errors
    /// [`DropReason::TransactionViolation`] if it contradicts what arrived of its message,
    /// [`DropReason::SegmentMemory`] if there is no memory for it; it is as if it never came.
    pub fn accept(
        &mut self,
        now: Instant,
        key: AssemblyKey,
        row: Features,
        piece: &Piece<'_>,
        blocks: &Blocks,
    ) -> Result<Progress, DropReason> {
        let known = self.list.get(&key).map(|known| (known.total, known.count));
        match known {
            Some((total, count)) if total == piece.total && count == piece.count => {}
            // Of a message that has been cut anew since.
            Some((total, _)) if total == piece.total => return Ok(Progress::Duplicate),
            Some(_) => return Err(DropReason::TransactionViolation),
            None => self.begin(now, key, row, piece, blocks)?,
        }
        if self.touched.len() < TOUCHED_MAX && !self.touched.contains(&key) {
            self.touched.push(key);
        }
        let budget = self.budget;
        let assembly = self.list.get_mut(&key).expect("found or begun above");
        let used = &mut self.used[assembly.account as usize];
        let (word, bit) = (piece.segment as usize / 64, 1 << (piece.segment % 64));
        if assembly.bits[word] & bit != 0 {
            return Ok(Progress::Duplicate);
        }
        let mut turn = None;
        match &mut assembly.memory {
            Memory::Whole(block) => {
                let start = piece.offset();
                block[start..start + piece.bytes.len()].copy_from_slice(piece.bytes);
            }
            Memory::Pieces { next, .. } if *next == piece.segment => {
                *next += 1;
                turn = Some(*next == piece.count);
            }
            Memory::Pieces { early, .. } => {
                let cost = early_cost(piece.bytes.len());
                if *used + cost > budget {
                    return Err(DropReason::SegmentMemory);
                }
                let block = blocks.try_take(piece.bytes.len());
                let mut block = block.ok_or(DropReason::SegmentMemory)?;
                *used += cost;
                block.copy_from_slice(piece.bytes);
                early.insert(piece.segment, block);
            }
        }
        assembly.bits[word] |= bit;
        assembly.arrived += 1;
        assembly.touched_at = now;
        self.window.on_arrived(now, key, piece.segment, piece.bytes.len());
        if let Some(is_last) = turn {
            if is_last {
                self.forget(key);
            }
            return Ok(Progress::Turn { is_last });
        }
        let is_whole = matches!(assembly.memory, Memory::Whole(_));
        if !is_whole || assembly.arrived < assembly.count {
            return Ok(Progress::Kept);
        }
        *used -= assembly.total as u64;
        self.window.on_over(key);
        let complete = self.list.remove(&key).expect("found above");
        let Memory::Whole(block) = complete.memory else { unreachable!("checked above") };
        Ok(Progress::Complete(block))
    }

    fn begin(
        &mut self,
        now: Instant,
        key: AssemblyKey,
        row: Features,
        piece: &Piece<'_>,
        blocks: &Blocks,
    ) -> Result<(), DropReason> {
        let account = Account::of(key, row);
        let used = &mut self.used[account as usize];
        // A stream's messages are handed over one after the other, not piece between piece.
        let is_whole = piece.total <= self.whole_len_max || row.order || piece.is_bundle;
        let needed = if is_whole { piece.total as u64 } else { 0 };
        if self.list.len() >= ASSEMBLIES_MAX || *used + needed > self.budget {
            return Err(DropReason::SegmentMemory);
        }
        let memory = if is_whole {
            Memory::Whole(blocks.try_take(piece.total).ok_or(DropReason::SegmentMemory)?)
        } else {
            Memory::Pieces { next: 0, early: BTreeMap::new() }
        };
        let mut assembly = Assembly {
            total: piece.total,
            count: piece.count,
            arrived: 0,
            granted: 0,
            renews_at: None,
            bits: vec![0; (piece.count as usize).div_ceil(64)],
            memory,
            account,
            is_bundle: piece.is_bundle,
            retry: row.retry,
            touched_at: now,
        };
        *used += needed;
        assembly.grant(assembly.segments(SEGMENTS_UNSCHEDULED_LEN));
        self.list.insert(key, assembly);
        self.sweep_at.get_or_insert(now + ASSEMBLY_PATIENCE);
        Ok(())
    }

    /// The piece that comes after the one whose turn it was, if it came early: where it begins,
    /// its bytes, and whether it is the last.
    pub fn next_early(&mut self, key: AssemblyKey) -> Option<(usize, Block, bool)> {
        let assembly = self.list.get_mut(&key)?;
        let (size, count) = (assembly.size(), assembly.count);
        let Memory::Pieces { next, early } = &mut assembly.memory else { return None };
        let block = early.remove(next)?;
        let offset = *next as usize * size;
        *next += 1;
        let is_last = *next == count;
        self.used[assembly.account as usize] -= early_cost(block.len());
        if is_last {
            self.forget(key);
        }
        Some((offset, block, is_last))
    }

    /// Forgets an incomplete message. Returns whether pieces of it were handed over.
    pub fn forget(&mut self, key: AssemblyKey) -> bool {
        let Some(assembly) = self.list.remove(&key) else { return false };
        self.window.on_over(key);
        let used = &mut self.used[assembly.account as usize];
        match &assembly.memory {
            Memory::Whole(_) => {
                *used -= assembly.total as u64;
                false
            }
            Memory::Pieces { next, early } => {
                *used -= early.values().map(|block| early_cost(block.len())).sum::<u64>();
                *next > 0
            }
        }
    }

    /// Forgets an incomplete message if it is one that is handed over piece by piece. Returns whether
    /// it is.
    pub fn forget_pieces(&mut self, key: AssemblyKey) -> bool {
        let in_pieces = |assembly: &Assembly| matches!(assembly.memory, Memory::Pieces { .. });
        let is_known = self.list.get(&key).is_some_and(in_pieces);
        if is_known {
            self.forget(key);
        }
        is_known
    }

    /// The peer has settled its transactions below `low`: what is incomplete of them stays so.
    /// Returns one whose pieces were handed over; call again until there is none.
    pub fn on_low_water(&mut self, low: u64) -> Option<AssemblyKey> {
        loop {
            let (&key, _) = self.list.first_key_value()?;
            if key.is_reply || key.transaction >= low {
                return None;
            }
            if self.forget(key) {
                return Some(key);
            }
        }
    }

    /// Forgets what is incomplete of replies that nobody waits for, as `awaits` says of a range of
    /// transactions. Returns one whose pieces were handed over; call again until there is none.
    pub fn forget_replies(
        &mut self,
        mut awaits: impl FnMut(Range<u64>) -> bool,
    ) -> Option<AssemblyKey> {
        const FIRST: AssemblyKey = AssemblyKey { is_reply: true, transaction: 0 };
        loop {
            let is_idle = |(key, assembly): &(&AssemblyKey, &Assembly)| {
                let Assembly { total, is_bundle, .. } = **assembly;
                !awaits(transactions(key.transaction, total, is_bundle))
            };
            let key = *self.list.range(FIRST..).find(is_idle)?.0;
            if self.forget(key) {
                return Some(key);
            }
        }
    }

    /// Forgets messages that are not reported on and of which nothing came for long.
    /// Returns one whose pieces were handed over; call again until there is none.
    pub fn sweep(&mut self, now: Instant) -> Option<AssemblyKey> {
        if self.sweep_at.is_none_or(|at| at > now) {
            return None;
        }
        let is_stale = |assembly: &Assembly| {
            matches!(assembly.retry, Retry::Copies | Retry::Never)
                && assembly.touched_at + ASSEMBLY_PATIENCE <= now
        };
        while let Some(key) = self.list.iter().find(|(_, a)| is_stale(a)).map(|(&key, _)| key) {
            if self.forget(key) {
                return Some(key);
            }
        }
        self.sweep_at = (!self.list.is_empty()).then_some(now + ASSEMBLY_PATIENCE);
        None
    }

    /// When [`Assemblies::sweep`] has something to look at.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Whether half of what a message was last granted arrived: says so once a grant.
    pub fn is_grant_due(&mut self, key: AssemblyKey) -> bool {
        let Some(assembly) = self.list.get_mut(&key) else { return false };
        assembly.renews_at.take_if(|at| *at <= assembly.arrived).is_some()
    }

    /// How far the peer may go in which messages: those with the least to come, a few at a time,
    /// and those of which nothing came for long only after the others, since their sender may
    /// have given them up (PROTOCOL 6.18). The peer is told at `now`.
    pub fn grants(&mut self, now: Instant) -> impl Iterator<Item = (AssemblyKey, u32)> + use<> {
        let nearest = self.nearest(now);
        let moving = nearest.iter().flatten().filter(|key| self.list[key].is_moving(now));
        let sharers = moving.count().max(1);
        let share = self.window.len(now) / sharers;
        let is_clear = self.is_clear(now, self.window.clear_len() / sharers);
        let mut watched = None;
        let mut grants = [None; GRANTS_MAX];
        for (grant, key) in grants.iter_mut().zip(nearest.into_iter().flatten()) {
            let assembly = self.list.get_mut(&key).expect("it is the nearest");
            let from = assembly.granted;
            assembly.grant(assembly.arrived.saturating_add(assembly.segments(share)).max(from));
            *grant = Some((key, assembly.granted));
            if from < assembly.granted {
                // The one of which something came last is the likeliest to go on.
                watched = watched.max(Some((assembly.touched_at, key, from)));
            }
        }
        if let Some((_, key, from)) = watched.filter(|_| self.window.wants_probe(now)) {
            self.window.watch(now, key, from, is_clear);
        }
        grants.into_iter().flatten()
    }

    /// Whether no message that is coming has more than `len` bytes on its way.
    fn is_clear(&self, now: Instant, len: usize) -> bool {
        let mut coming = self.list.values().filter(|assembly| assembly.is_moving(now));
        coming.all(|assembly| assembly.ahead() <= assembly.segments(len))
    }

    /// The messages with the least to come.
    fn nearest(&self, now: Instant) -> [Option<AssemblyKey>; GRANTS_MAX] {
        const NONE: ((bool, usize), Option<AssemblyKey>) = ((true, usize::MAX), None);
        let mut nearest = [NONE; GRANTS_MAX];
        for (&key, assembly) in &self.list {
            let is_silent = assembly.touched_at + ASSEMBLY_PATIENCE <= now;
            let candidate = ((is_silent, assembly.remaining()), Some(key));
            let farthest = nearest.iter_mut().max_by_key(|entry| entry.0).expect("not empty");
            if candidate.0 < farthest.0 {
                *farthest = candidate;
            }
        }
        nearest.map(|entry| entry.1)
    }

    /// What arrived of messages and what did not: those that `asks` names by how they are sent
    /// again, a few of them, first some of which a segment came since [`Assemblies::on_told`], then
    /// from `start` on and from the first. Each with its segments and one past those that are
    /// spoken of, and the ranges below that are missing.
    pub fn missing(
        &self,
        start: AssemblyKey,
        asks: impl Fn(Retry) -> bool,
    ) -> impl Iterator<Item = (AssemblyKey, (u32, u32), impl Iterator<Item = RangeInclusive<u32>> + '_)>
    {
        let touched = self.touched.iter().filter_map(|key| self.list.get_key_value(key));
        let in_turn = self.list.range(start..).chain(self.list.range(..start));
        let all = touched.chain(in_turn.filter(|(key, _)| !self.is_touched(**key)));
        let asked = all.filter(move |(_, assembly)| asks(assembly.retry));
        asked.take(MISSING_MESSAGES_MAX).map(|(&key, assembly)| {
            let end = assembly.spoken_of();
            (key, (assembly.count, end), assembly.gaps().take_while(move |gap| *gap.end() < end))
        })
    }

    /// Whether a message is told of first in the next report, out of turn.
    pub fn is_touched(&self, key: AssemblyKey) -> bool {
        self.touched.contains(&key)
    }

    /// A report left.
    pub fn on_told(&mut self) {
        self.touched.clear();
    }

    /// Whether something of a message arrived, and not all.
    pub fn contains(&self, key: AssemblyKey) -> bool {
        self.list.contains_key(&key)
    }

    /// Whether nothing is incomplete.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of memory in use for messages, for those of levels without acknowledgement, and for
    /// replies; none more than the budget.
    pub fn used(&self) -> [u64; 3] {
        self.used
    }
}

#[cfg(test)]
mod tests;
