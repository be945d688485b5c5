//! Heads that are not written our way: any key order, JSON's insignificant spaces, unknown keys.
//!
//! A look at each byte comes first. It leaves an alphabet in which no string can hide structure
//! and nothing nests, so that `simd-json` meets only small flat objects; what it then finds is
//! checked member by member. None of this is on the path of our own packets.

use std::cell::RefCell;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::header::{Fields, Form, INTEGER_MAX, Key};
use crate::limits::{HEAD_KEYS_MAX, HEAD_LEN_MAX};
use crate::protocol::drop_reason::DropReason;

/// What `simd-json` works in, kept so that a thread allocates it once.
struct Workspace {
    buffers: Buffers,
    tape: Tape<'static>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace {
        buffers: Buffers::with_max_depth(HEAD_LEN_MAX, 1),
        tape: Tape(Vec::with_capacity(HEAD_LEN_MAX)),
    });
}

/// Reads `json`, a head without its terminator, of at most [`HEAD_LEN_MAX`] bytes.
#[cold]
pub(super) fn read(json: &[u8]) -> Result<Fields, DropReason> {
    if !is_flat_object_alphabet(json) {
        return Err(DropReason::HeadMalformed);
    }
    let mut copy = [0; HEAD_LEN_MAX];
    let copy = &mut copy[..json.len()];
    copy.copy_from_slice(json);
    WORKSPACE.with_borrow_mut(|workspace| {
        let mut tape = core::mem::replace(&mut workspace.tape, Tape(Vec::new())).reset();
        let fields = simd_json::fill_tape(copy, &mut workspace.buffers, &mut tape)
            .map_err(|_| DropReason::HeadMalformed)
            .and_then(|()| read_tape(&tape.0));
        workspace.tape = tape.reset();
        fields
    })
}

/// Whether `json` has only the bytes that a head can consist of, and no more than one object.
fn is_flat_object_alphabet(json: &[u8]) -> bool {
    let mut objects = 0;
    json.iter().all(|&byte| {
        objects += usize::from(byte == b'{');
        matches!(byte, b' ' | b'"' | b',' | b':' | b'{' | b'}' | b'0'..=b'9' | b'a'..=b'z')
    }) && objects == 1
}

fn read_tape(nodes: &[Node<'_>]) -> Result<Fields, DropReason> {
    let malformed = DropReason::HeadMalformed;
    let Some((Node::Object { len, .. }, members)) = nodes.split_first() else {
        return Err(malformed);
    };
    // A flat object: its members are all there is, in pairs.
    if *len > HEAD_KEYS_MAX || members.len() != 2 * len {
        return Err(malformed);
    }
    let mut fields = Fields::new();
    let mut seen = KeySet::default();
    for member in members.chunks_exact(2) {
        let Node::String(key) = member[0] else { return Err(malformed) };
        let &[first @ b'a'..=b'z', second @ b'a'..=b'z'] = key.as_bytes() else {
            return Err(malformed);
        };
        let letters = [first, second];
        if !seen.insert(letters) {
            return Err(malformed);
        }
        let known = Key::from_wire(letters);
        let (form, value) = match member[1] {
            Node::String(text) => (Form::Hex, read_hex_string(text)?),
            Node::Static(StaticNode::U64(value)) if value <= INTEGER_MAX => {
                (Form::Integer, Some(value))
            }
            _ => return Err(malformed),
        };
        if let Some(key) = known {
            let value = value.filter(|&value| value <= key.value_max()).ok_or(malformed)?;
            if form != key.form() {
                return Err(malformed);
            }
            fields.set(key, value);
        }
    }
    Ok(fields)
}

/// The value of a string of hex digits, `None` if it is wider than a known key's can be.
fn read_hex_string(text: &str) -> Result<Option<u64>, DropReason> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.is_empty() || !digits {
        return Err(DropReason::HeadMalformed);
    }
    Ok((text.len() <= super::digits::HEX_LEN_MAX)
        .then(|| u64::from_str_radix(text, 16).expect("1 to 16 hex digits")))
}

/// Pairs of lower-case letters, one bit each.
#[derive(Default)]
struct KeySet([u32; 26]);

impl KeySet {
    /// Adds a pair; false if it was there.
    fn insert(&mut self, [first, second]: [u8; 2]) -> bool {
        let row = &mut self.0[usize::from(first - b'a')];
        let bit = 1 << (second - b'a');
        let is_new = *row & bit == 0;
        *row |= bit;
        is_new
    }
}
