//! What becomes of sessions while no application has anything to say: those that are kept alive stay
//! open, follow a node to another address, and come back once they were lost; the others end.

use raet::Mode;
use raet::time::Duration;

use super::World;
use crate::plan::{ASSOCIATION_TIMEOUT_MAX, Edge, pick};

/// Idle time-outs that the silence lasts.
const SILENCE: u64 = 3;
/// How much longer than its idle time-out a path is cut at most, so that a session is lost.
const CUT_BEYOND: Duration = Duration::from_secs(10);
/// When a lost session is open again after its path was mended, at the latest: the rest of a
/// handshake that times out (20 s), the pause before the next one (5 s), and that.
const REOPENED_WITHIN: Duration = Duration::from_secs(30);

impl World {
    /// Keep-alive (PROTOCOL 7.4, 7.14 and 7.15), in worlds with a node that does so.
    pub(super) fn fall_silent(&mut self) {
        let keepers: Vec<_> = (0..self.nodes.len()).filter(|&node| self.keeps(node)).collect();
        if keepers.is_empty() || !self.is_sound() {
            return;
        }
        let longest = self.plan.nodes.iter().map(|node| node.idle_timeout).max();
        let longest = longest.expect("some nodes");
        // Sessions that only seem to live, each side at an address that the other left, end first,
        // and handshakes that the other side has not heard the last of.
        self.run_until(self.network.now() + longest, |_| false);
        self.rest();
        self.nodes.iter_mut().for_each(|node| node.is_closing = true);
        self.run_until(self.network.now() + Duration::from_secs(1), |_| false);
        self.nodes.iter_mut().for_each(|node| node.ended.clear());
        // A plain session does not follow its peer.
        if self.plan.mode != Mode::Plain && self.random.below(2) == 0 {
            let node = *pick(&mut self.random, &keepers);
            self.count("address changed in a silence", 1);
            self.rebind(node);
        }
        self.run_until(self.network.now() + longest.saturating_mul(SILENCE), |_| false);
        for (one, other) in self.pairs() {
            let is_kept = self.keeps(one) || self.keeps(other);
            let (is_open, is_half_open) = (self.knows(one, other), self.knows(other, one));
            let has_ended =
                self.nodes[one].ended.contains(&other) || self.nodes[other].ended.contains(&one);
            if is_kept && (has_ended || !is_open || !is_half_open) {
                let what = format!("the session of {one} and {other} was lost in a silence");
                self.auditor.blame("keep-alive", what);
            } else if !is_kept && (is_open || is_half_open) {
                let what = format!("the session of {one} and {other} outlived a silence");
                self.auditor.blame("keep-alive", what);
            }
        }
        self.lose_one();
    }

    /// A session whose path was cut for too long comes back by itself.
    fn lose_one(&mut self) {
        // Who opened it opens it again, if it still knows what it was.
        let redials = |node: usize| {
            let plan = &self.plan.nodes[node];
            plan.keep_alive && plan.association_timeout == ASSOCIATION_TIMEOUT_MAX
        };
        let is_due =
            |edge: &Edge| redials(edge.initiator) && (!edge.is_mutual || redials(edge.responder));
        let edges = self.plan.edges.iter().filter(|edge| is_due(edge));
        let due: Vec<_> = edges.map(|edge| (edge.initiator, edge.responder)).collect();
        let due: Vec<_> = self.pairs().into_iter().filter(|pair| due.contains(pair)).collect();
        if due.is_empty() || !self.is_sound() {
            return;
        }
        let (one, other) = *pick(&mut self.random, &due);
        self.count("kept session lost", 1);
        let addresses = [one, other].map(|node| self.nodes[node].address);
        self.network.partition(addresses[0], addresses[1]);
        let idle = [one, other].map(|node| self.plan.nodes[node].idle_timeout);
        let cut = idle[0].min(idle[1]) + Duration::from_secs(1);
        let cut = cut + self.random.between(Duration::ZERO, CUT_BEYOND);
        self.run_until(self.network.now() + cut, |_| false);
        if self.is_sound() && (self.knows(one, other) || self.knows(other, one)) {
            let what = format!("the session of {one} and {other} outlived a cut");
            self.auditor.blame("keep-alive", what);
        }
        self.network.heal(addresses[0], addresses[1]);
        let is_back = |world: &Self| world.knows(one, other) && world.knows(other, one);
        self.run_until(self.network.now() + REOPENED_WITHIN, is_back);
        if self.is_sound() && !is_back(self) {
            let what = format!("the session of {one} and {other} does not come back");
            self.auditor.blame("keep-alive", what);
        }
    }

    fn keeps(&self, node: usize) -> bool {
        self.plan.nodes[node].keep_alive
    }
}
