//! The file of a node's trust: one line a key, so that an operator can read it and compare two.
//!
//! ```text
//! raet-trust-1
//! accepted 4f0c…9e "edge-17" "sensor"
//! rejected 77aa…01 "" ""
//! pending 90d2…5b "edge-18" "says \"sensor\""
//! ```
//!
//! Decided keys come first, then waiting ones, each by key: the same trust gives the same text.
//! Waiting keys are written so that an operator sees them while the node is down; they are not
//! restored, because they wait with the address prefix that they came from and have to knock
//! again. Names are printable ASCII (PROTOCOL 3.14), so a quote and a backslash are all there is
//! to escape, with a backslash.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::error::{FileError, FileKind, FileProblem};
use super::folder::Folder;
use super::place::Place;
use crate::limits::{DECIDED_PEERS_MAX, TRUST_FILE_LEN_MAX};
use crate::protocol::session::{PeerRecord, PeerText, PublicKey, Standing, Trust, TrustPolicy};

/// The file of a [`Trust`].
#[derive(Debug)]
pub struct TrustFile;

impl TrustFile {
    /// Reads whom a node trusts: the keys decided about. Write again when
    /// [`Trust::revision`] is no longer what it is now.
    ///
    /// # Errors
    /// [`FileError`]: the file is missing, unsafe or malformed.
    pub fn load(path: impl AsRef<Path>, policy: TrustPolicy) -> Result<Trust, FileError> {
        Ok(restore(Self::records(path)?, policy))
    }

    /// Reads whom a node trusts: nobody yet if there is no such file.
    ///
    /// # Errors
    /// [`FileError`]: the file is unsafe or malformed.
    pub fn load_or_new(path: impl AsRef<Path>, policy: TrustPolicy) -> Result<Trust, FileError> {
        match Self::load(path, policy) {
            Err(FileError { problem: FileProblem::Missing, .. }) => Ok(Trust::new(policy)),
            loaded => loaded,
        }
    }

    /// Writes what `trust` knows, waiting keys included, in place of what the file said before.
    ///
    /// # Errors
    /// [`FileError`]: the folder is unsafe or the file cannot be written; then it says what it
    /// said before.
    pub fn save(path: impl AsRef<Path>, trust: &Trust) -> Result<(), FileError> {
        let path = path.as_ref();
        Place::open(path, Folder::MayBeMade)
            .and_then(|place| place.replace(format(trust.iter()).as_bytes()))
            .map_err(|problem| error(path, problem))
    }

    /// Every key in the file with what is known of it, in the file's order.
    ///
    /// # Errors
    /// [`FileError`]: the file is missing, unsafe or malformed.
    pub fn records(path: impl AsRef<Path>) -> Result<Vec<(PublicKey, PeerRecord)>, FileError> {
        let path = path.as_ref();
        Place::open(path, Folder::MustExist)
            .and_then(|place| place.read(TRUST_FILE_LEN_MAX))
            .and_then(|text| parse(&text))
            .map_err(|problem| error(path, problem))
    }
}

fn error(path: &Path, problem: FileProblem) -> FileError {
    FileError { kind: FileKind::Trust, path: path.into(), problem }
}

fn restore(records: Vec<(PublicKey, PeerRecord)>, policy: TrustPolicy) -> Trust {
    let mut trust = Trust::new(policy);
    for (key, record) in records {
        if is_decided(record.standing) {
            assert!(trust.restore(key, record), "the parser counts the decided keys");
        }
    }
    trust
}

const fn is_decided(standing: Standing) -> bool {
    matches!(standing, Standing::Accepted | Standing::Rejected)
}

const HEADING: &str = "raet-trust-1";

/// The words of the file.
const STANDINGS: [(Standing, &str); 4] = [
    (Standing::Accepted, "accepted"),
    (Standing::Denied, "denied"),
    (Standing::Pending, "pending"),
    (Standing::Rejected, "rejected"),
];

fn format<'a>(records: impl Iterator<Item = (&'a PublicKey, &'a PeerRecord)>) -> String {
    let mut text = format!("{HEADING}\n");
    for (key, PeerRecord { standing, name, role }) in records {
        let (_, word) = STANDINGS
            .iter()
            .find(|(other, _)| other == standing)
            .expect("the table has every standing");
        writeln!(text, "{word} {key} {} {}", quote(name), quote(role))
            .expect("a string takes any text");
    }
    text
}

fn quote(text: &PeerText) -> String {
    format!("\"{}\"", text.as_str().replace('\\', "\\\\").replace('"', "\\\""))
}

fn parse(text: &[u8]) -> Result<Vec<(PublicKey, PeerRecord)>, FileProblem> {
    let malformed = |line, expected| FileProblem::Malformed { line, expected };
    // Cut off in the middle of a line, a name could pass for another.
    let Some(text) = text.strip_suffix(b"\n") else {
        let last = 1 + text.iter().filter(|&&byte| byte == b'\n').count();
        return Err(malformed(last, "a newline behind the last line"));
    };
    let mut lines = (1..).zip(text.split(|&byte| byte == b'\n'));
    if lines.next().is_none_or(|(_, heading)| heading != HEADING.as_bytes()) {
        return Err(malformed(1, "'raet-trust-1'"));
    }
    let mut records = Vec::new();
    let mut keys = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut decided = 0;
    for (number, line) in lines {
        let (key, record) = parse_line(line).map_err(|expected| malformed(number, expected))?;
        let owns_its_name = record.standing == Standing::Accepted && !record.name.is_empty();
        if !keys.insert(key) {
            return Err(malformed(number, "each key once"));
        }
        if owns_its_name && !names.insert(record.name.clone()) {
            return Err(malformed(number, "each name for one accepted key"));
        }
        decided += usize::from(is_decided(record.standing));
        if decided > DECIDED_PEERS_MAX {
            return Err(malformed(number, "65536 accepted and rejected keys at most"));
        }
        records.push((key, record));
    }
    Ok(records)
}

/// Reads a line, or says what should be in it.
fn parse_line(line: &[u8]) -> Result<(PublicKey, PeerRecord), &'static str> {
    let (word, rest) = word(line);
    let (standing, _) = STANDINGS
        .iter()
        .find(|(_, other)| other.as_bytes() == word)
        .ok_or("accepted, denied, pending or rejected first")?;
    let (digits, rest) = self::word(rest);
    let key = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or("a public key of 64 hex digits second")?;
    let (name, rest) = unquote(rest).ok_or("a name in double quotes third")?;
    let role = match rest.split_first() {
        Some((b' ', rest)) => unquote(rest),
        _ => None,
    };
    match role {
        Some((role, [])) => Ok((key, PeerRecord { standing: *standing, name, role })),
        _ => Err("a role in double quotes last"),
    }
}

/// What stands before the first space, and what stands behind it.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&byte| byte == b' ') {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (line, &[]),
    }
}

/// Reads a text in double quotes; returns it and what stands behind it.
fn unquote(text: &[u8]) -> Option<(PeerText, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut plain = Vec::new();
    loop {
        match rest {
            [b'"', behind @ ..] => return Some((PeerText::new(&plain)?, behind)),
            [b'\\', escaped @ (b'"' | b'\\'), behind @ ..] => {
                plain.push(*escaped);
                rest = behind;
            }
            [b'\\', ..] | [] => return None,
            [byte, behind @ ..] => {
                plain.push(*byte);
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::net::IpAddr;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::limits::PEER_TEXT_LEN_MAX;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn folder() -> TempDir {
        let folder = tempdir().expect("a folder for the test");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("it is ours");
        folder
    }

    fn name(text: &str) -> PeerText {
        PeerText::new(text.as_bytes()).expect("printable")
    }

    fn everything(trust: &Trust) -> Vec<(PublicKey, PeerRecord)> {
        trust.iter().map(|(key, record)| (*key, record.clone())).collect()
    }

    #[test]
    fn saved_trust_is_loaded_again_and_waiting_keys_are_shown_but_not_restored() {
        let folder = folder();
        let path = folder.path().join("trust");
        let mut trust = TrustFile::load_or_new(&path, TrustPolicy::Once).expect("a new one");
        assert_eq!(trust.iter().count(), 0);
        let [one, two, three] = [1, 2, 3].map(|byte| PublicKey::from_bytes([byte; 32]));
        trust.confirm(&two, &name("edge \"17\" \\ west"), &name("sensor"));
        trust.reject(&one);
        let from = IpAddr::from([10, 0, 0, 1]);
        let denied = trust.decide(&three, &name("edge \"17\" \\ west"), &name(""), from);
        assert_eq!(denied, Standing::Denied);
        TrustFile::save(&path, &trust).expect("a safe folder");

        assert_eq!(
            fs::read_to_string(&path).expect("a text"),
            format!(
                "raet-trust-1\nrejected {one} \"\" \"\"\naccepted {two} \"edge \\\"17\\\" \\\\ \
                 west\" \"sensor\"\ndenied {three} \"edge \\\"17\\\" \\\\ west\" \"\"\n",
            ),
        );
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o7777, 0o600);
        assert_eq!(TrustFile::records(&path).expect("is good"), everything(&trust));
        let again = TrustFile::load(&path, TrustPolicy::Once).expect("is good");
        assert_eq!(everything(&again), everything(&trust)[..2]);
        assert_eq!(again.key_of(&name("edge \"17\" \\ west")), Some(&two));
        assert_eq!(again.policy(), TrustPolicy::Once);

        trust.forget(&one);
        TrustFile::save(&path, &trust).expect("replaces");
        assert_eq!(TrustFile::records(&path).expect("is good").len(), 2);
        let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").flatten().collect();
        assert_eq!(names.len(), 1, "a draft is left behind: {names:?}");
    }

    #[test]
    fn loose_or_missing_trust_file_is_refused() {
        let folder = folder();
        let path = folder.path().join("trust");
        let missing = TrustFile::load(&path, TrustPolicy::Never).expect_err("there is none");
        assert!(matches!(missing.problem(), FileProblem::Missing));
        TrustFile::save(&path, &Trust::new(TrustPolicy::Never)).expect("a safe folder");
        fs::set_permissions(&path, Permissions::from_mode(0o664)).expect("it is ours");
        let loose = TrustFile::load_or_new(&path, TrustPolicy::Never).expect_err("it is loose");
        assert_eq!(
            loose.to_string(),
            format!(
                "trust file '{path}' is open to others (mode 0664): run chmod 600 '{path}' and \
                 check what it says",
                path = path.display(),
            ),
        );
    }

    #[test]
    fn wrong_lines_are_named_with_what_should_stand_there() {
        let good = format!("accepted {KEY} \"a\" \"\"");
        let cases = [
            ("", 1, "newline"),
            ("raet-trust-1", 1, "newline"),
            ("raet-trust-2\n", 1, "'raet-trust-1'"),
            ("raet-trust-1\n\n", 2, "accepted, denied"),
            (&format!("raet-trust-1\n{good}"), 2, "newline"),
            (&format!("raet-trust-1\r\n{good}\r\n"), 1, "'raet-trust-1'"),
            (&format!("raet-trust-1\n{good}\n{good}\n"), 3, "each key once"),
            (&format!("raet-trust-1\n{good}\naccepted {OTHER} \"a\" \"\"\n"), 3, "each name"),
            (&format!("raet-trust-1\nAccepted {KEY} \"\" \"\"\n"), 2, "accepted, denied"),
            (&format!("raet-trust-1\naccepted {} \"\" \"\"\n", &KEY[1..]), 2, "public key"),
            (&format!("raet-trust-1\naccepted {KEY}\n"), 2, "a name"),
            (&format!("raet-trust-1\naccepted {KEY} \"a\n"), 2, "a name"),
            (&format!("raet-trust-1\naccepted {KEY} \"\\n\" \"\"\n"), 2, "a name"),
            (&format!("raet-trust-1\naccepted {KEY} \"\t\" \"\"\n"), 2, "a name"),
            (&format!("raet-trust-1\naccepted {KEY} \"{}\" \"\"\n", "x".repeat(65)), 2, "a name"),
            (&format!("raet-trust-1\naccepted {KEY} \"a\"\n"), 2, "a role"),
            (&format!("raet-trust-1\naccepted {KEY} \"a\" \"\" \n"), 2, "a role"),
        ];
        for (text, wrong, hint) in cases {
            match parse(text.as_bytes()) {
                Err(FileProblem::Malformed { line, expected }) => {
                    assert_eq!(line, wrong, "{text:?}");
                    assert!(expected.contains(hint), "{text:?}: {expected}");
                }
                other => panic!("{text:?} gave {other:?}"),
            }
        }
        // A waiting key may say what it likes.
        let rivals = format!("raet-trust-1\n{good}\ndenied {OTHER} \"a\" \"\"\n");
        assert_eq!(parse(rivals.as_bytes()).expect("is good").len(), 2);
    }

    #[test]
    fn fullest_trust_fits_its_file() {
        let quotes = name(&"\"".repeat(PEER_TEXT_LEN_MAX));
        let mut trust = Trust::new(TrustPolicy::Always);
        for number in 0..DECIDED_PEERS_MAX {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let record = PeerRecord {
                standing: Standing::Rejected,
                name: quotes.clone(),
                role: quotes.clone(),
            };
            assert!(trust.restore(PublicKey::from_bytes(bytes), record));
        }
        let text = format(trust.iter());
        assert!(text.len() <= TRUST_FILE_LEN_MAX);
        assert_eq!(parse(text.as_bytes()).expect("is good").len(), DECIDED_PEERS_MAX);
        let line = text.lines().last().expect("there is one").replace(&text[22..24], "ee");
        let one_more = format!("{text}{line}\n");
        let refused = parse(one_more.as_bytes()).expect_err("one too many");
        assert!(matches!(refused, FileProblem::Malformed { line: 65_538, .. }), "{refused:?}");
    }

    fn texts() -> impl Strategy<Value = PeerText> {
        "[ -~]{0,64}".prop_map(|text| name(&text))
    }

    fn records() -> impl Strategy<Value = Vec<(PublicKey, PeerRecord)>> {
        let record = (0..4_usize, texts(), texts()).prop_map(|(standing, name, role)| PeerRecord {
            standing: STANDINGS[standing].0,
            name,
            role,
        });
        let key = (0..200_u8).prop_map(|byte| PublicKey::from_bytes([byte; 32]));
        vec((key, record), 0..20).prop_map(|mut records| {
            let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
            records.retain(|(key, record)| {
                keys.insert(*key) && (record.name.is_empty() || names.insert(record.name.clone()))
            });
            records
        })
    }

    proptest! {
        #[test]
        fn prop_records_read_back_what_was_written(records in records()) {
            let text = format(records.iter().map(|(key, record)| (key, record)));
            prop_assert_eq!(parse(text.as_bytes()).expect("is good"), records.clone());
            // What is restored is written alike, whatever order it was read in.
            let decided = |trust: &Trust| format(trust.iter());
            let forward = restore(records.clone(), TrustPolicy::Never);
            let backward = restore(records.into_iter().rev().collect(), TrustPolicy::Never);
            prop_assert_eq!(decided(&forward), decided(&backward));
        }

        #[test]
        fn prop_damaged_text_never_panics(
            records in records(),
            at in any::<prop::sample::Index>(),
            bytes in vec(any::<u8>(), 0..4),
        ) {
            let mut text = format(records.iter().map(|(key, record)| (key, record))).into_bytes();
            let at = at.index(text.len());
            text.splice(at..(at + 1).min(text.len()), bytes);
            if let Ok(records) = parse(&text) {
                let again = format(records.iter().map(|(key, record)| (key, record)));
                prop_assert_eq!(parse(again.as_bytes()).expect("is good"), records);
            }
        }

        #[test]
        fn prop_random_text_never_panics(text in vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
            let _ = parse(&[b"raet-trust-1\n", text.as_slice(), b"\n"].concat());
        }
    }
}
