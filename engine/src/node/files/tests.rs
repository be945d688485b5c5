//! Files on a real file system, each in a folder that the test makes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::{env, thread};

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::*;

/// A user that is neither us nor root, as the kernel and `setpriv` count.
const STRANGER: u32 = 54_321;
/// Tells this test program that it runs as the stranger, and which folder to look at.
const STRANGER_FOLDER: &str = "RAET_TEST_STRANGER_FOLDER";

fn folder() -> TempDir {
    let folder = tempdir().expect("a folder for the test");
    set_mode(folder.path(), 0o700);
    folder
}

fn random(seed: u8) -> Random {
    Random::from_seed([seed; 32])
}

fn identity(seed: u8) -> Identity {
    Identity::generate(&mut random(seed))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

/// Writes a file 0600.
fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).expect("a folder of ours");
    set_mode(path, 0o600);
}

fn problem<T>(result: Result<T, FileError>) -> FileProblem {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.problem,
    }
}

fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a name").path()).collect()
}

#[test]
fn identity_is_loaded_as_it_was_created() {
    let folder = folder();
    let path = folder.path().join("key");
    let identity = identity(1);
    IdentityFile::create(&path, &identity).expect("a safe folder");
    let again = IdentityFile::load(&path).expect("a safe file");
    assert_eq!(again.public(), identity.public());
    let metadata = fs::metadata(&path).expect("is there");
    assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1));
    assert_eq!(names(folder.path()), [path], "a draft is left behind");
}

#[test]
fn create_never_replaces_a_file() {
    let folder = folder();
    let path = folder.path().join("key");
    let first = identity(1);
    IdentityFile::create(&path, &first).expect("a safe folder");
    let again = IdentityFile::create(&path, &identity(2));
    assert!(matches!(problem(again), FileProblem::Exists));
    let dangling = folder.path().join("link");
    symlink(folder.path().join("elsewhere"), &dangling).expect("a folder of ours");
    let through = IdentityFile::create(&dangling, &identity(2));
    assert!(matches!(problem(through), FileProblem::Exists));
    assert_eq!(IdentityFile::load(&path).expect("untouched").public(), first.public());
    assert_eq!(names(folder.path()).len(), 2, "a draft is left behind");
}

#[test]
fn missing_folders_are_made_closed_to_others() {
    let folder = folder();
    let inner = folder.path().join("a/b");
    let path = inner.join("key");
    assert!(matches!(problem(IdentityFile::load(&path)), FileProblem::Missing));
    assert!(!inner.exists(), "a load makes nothing");
    let made = IdentityFile::load_or_create(&path, &mut random(1)).expect("a safe folder");
    for folder in [folder.path().join("a"), inner] {
        assert_eq!(fs::metadata(folder).expect("is there").mode() & 0o7777, 0o700);
    }
    let loaded = IdentityFile::load_or_create(&path, &mut random(2)).expect("a safe file");
    assert_eq!(loaded.public(), made.public());
}

#[test]
fn all_who_make_an_identity_at_once_get_the_same() {
    let folder = folder();
    let path = folder.path().join("key");
    let barrier = Barrier::new(8);
    let keys: Vec<_> = thread::scope(|scope| {
        let start = |seed| {
            let (path, barrier) = (&path, &barrier);
            scope.spawn(move || {
                barrier.wait();
                IdentityFile::load_or_create(path, &mut random(seed)).expect("safe").public()
            })
        };
        let threads: Vec<_> = (1..=8).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(names(folder.path()), [path], "a draft is left behind");
}

// Note 1.2, row 16.
#[test]
fn reg_key_mode() {
    if let Some(folder) = env::var_os(STRANGER_FOLDER) {
        return look_as_stranger(Path::new(&folder));
    }
    let folder = folder();
    let path = folder.path().join("key");
    IdentityFile::create(&path, &identity(1)).expect("a safe folder");
    for mode in [0o604, 0o602, 0o601, 0o640, 0o620, 0o610, 0o644, 0o666, 0o777, 0o4644] {
        set_mode(&path, mode);
        let refused = problem(IdentityFile::load(&path));
        assert!(matches!(refused, FileProblem::Mode(seen) if seen == mode), "{mode:o}");
    }
    set_mode(&path, 0o644);
    let quoted = path.display();
    assert_eq!(
        IdentityFile::load(&path).expect_err("it is loose").to_string(),
        format!(
            "identity file '{quoted}' is open to others (mode 0644): run chmod 600 '{quoted}', \
             and make a new key if anybody may have read it"
        ),
    );
    for mode in [0o600, 0o400, 0o700] {
        set_mode(&path, mode);
        IdentityFile::load(&path).expect("nobody else can use it");
    }
    for mode in [0o701, 0o710, 0o750, 0o755, 0o722, 0o1777] {
        set_mode(folder.path(), mode);
        let error = IdentityFile::load(&path).expect_err("the folder is loose");
        assert!(matches!(error.problem, FileProblem::FolderMode(seen) if seen == mode));
        assert!(error.to_string().contains(&format!("(mode {mode:04o}): move it to")));
        let others_write = mode & 0o022 != 0;
        assert_ne!(error.to_string().contains("run chmod 700 '"), others_write, "{error}");
        let create = IdentityFile::create(folder.path().join("new"), &identity(2));
        assert!(matches!(problem(create), FileProblem::FolderMode(_)));
    }
    set_mode(folder.path(), 0o700);
    write(&folder.path().join("psk"), "11".repeat(32));
    set_mode(&folder.path().join("psk"), 0o640);
    assert!(matches!(problem(load_psk(folder.path().join("psk"))), FileProblem::Mode(0o640)));
    be_looked_at_by_stranger(folder.path());
}

/// Runs this very test as another user. Who may see which folder is set so that everything
/// depends on the file.
fn be_looked_at_by_stranger(folder: &Path) {
    let loose = folder.join("loose");
    IdentityFile::create(&loose, &identity(3)).expect("a safe folder");
    set_mode(&loose, 0o644);
    set_mode(folder, 0o755);
    // The stranger may have no way to where this program was built.
    let program = folder.join("program");
    fs::copy(env::current_exe().expect("a running program"), &program).expect("room for a copy");
    set_mode(&program, 0o755);
    let id = STRANGER.to_string();
    let run = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .arg(&program)
        .args(["--exact", "node::files::tests::reg_key_mode"])
        .env(STRANGER_FOLDER, folder)
        .current_dir("/")
        .output();
    match run {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("1 passed"), "the test's name changed: {said}");
        }
        // It cannot become another user, or not start a program that lies here.
        Ok(output) if output.stderr.starts_with(b"setpriv: ") => {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: reg_key_mode as another user: {}", why.trim_end());
        }
        Ok(output) => panic!("the stranger: {output:?}"),
        Err(cause) => eprintln!("SKIPPED: reg_key_mode as another user: no setpriv ({cause})"),
    }
}

fn look_as_stranger(folder: &Path) {
    // The folder belongs to root, which judges it by who may write there, and then the file.
    match problem(IdentityFile::load(folder.join("key"))) {
        FileProblem::Io { action: "open it", cause } => {
            assert_eq!(cause.kind(), std::io::ErrorKind::PermissionDenied);
        }
        other => panic!("{other:?}"),
    }
    let loose = problem(IdentityFile::load(folder.join("loose")));
    assert!(matches!(loose, FileProblem::Owner(0)), "{loose:?}");
    let create = problem(IdentityFile::create(folder.join("new"), &identity(4)));
    assert!(matches!(create, FileProblem::Io { .. }), "{create:?}");
}

#[test]
fn files_and_folders_of_others_are_refused() {
    let folder = folder();
    let path = folder.path().join("key");
    IdentityFile::create(&path, &identity(1)).expect("a safe folder");
    let us = fs::metadata(&path).expect("is there").uid();
    // Whoever is not us sees what we would see of theirs.
    let refused = |user| Place::open_as(user, &path, Folder::MustExist).and_then(|p| p.read(99));
    refused(us).expect("ours");
    match us {
        // Root's closed folder is good enough for anybody; root's file is not.
        0 => assert!(matches!(refused(STRANGER), Err(FileProblem::Owner(0)))),
        _ => assert!(matches!(refused(STRANGER), Err(FileProblem::FolderOwner(o)) if o == us)),
    }
    if us != 0 {
        eprintln!("SKIPPED: folders of others and of root: only root can give files away");
        return;
    }
    set_mode(folder.path(), 0o755);
    assert!(matches!(refused(STRANGER), Err(FileProblem::Owner(0))));
    for mode in [0o775, 0o757, 0o1777] {
        set_mode(folder.path(), mode);
        let seen = refused(STRANGER).expect_err("others can write there");
        assert!(matches!(seen, FileProblem::FolderMode(_)), "{seen:?}");
    }
    set_mode(folder.path(), 0o700);
    chown(&path, Some(STRANGER), None).expect("we are root");
    let error = IdentityFile::load(&path).expect_err("it is another's");
    assert!(error.to_string().contains("belongs to user 54321: run as that user or give it"));
    chown(folder.path(), Some(STRANGER), None).expect("we are root");
    let error = IdentityFile::load(&path).expect_err("its folder is another's");
    assert!(error.to_string().contains("which belongs to user 54321: keep it in a folder of"));
}

#[test]
fn whatever_is_not_a_regular_file_is_refused_without_waiting_for_it() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    IdentityFile::create(at("key"), &identity(1)).expect("a safe folder");
    symlink("key", at("link")).expect("a folder of ours");
    assert!(matches!(problem(IdentityFile::load(at("link"))), FileProblem::SymbolicLink));
    fs::create_dir(at("folder")).expect("a folder of ours");
    assert!(matches!(problem(IdentityFile::load(at("folder"))), FileProblem::NotAFile));
    let _socket = UnixListener::bind(at("socket")).expect("a folder of ours");
    assert!(matches!(problem(IdentityFile::load(at("socket"))), FileProblem::NotAFile));
    let pipe = Command::new("mkfifo").args(["-m", "600"]).arg(at("pipe")).status();
    if pipe.is_ok_and(|status| status.success()) {
        assert!(matches!(problem(IdentityFile::load(at("pipe"))), FileProblem::NotAFile));
    } else {
        eprintln!("SKIPPED: a pipe as a key file: no mkfifo");
    }
    for path in ["/", "..", "a/..", ""] {
        assert!(matches!(problem(IdentityFile::load(path)), FileProblem::NotAFile), "{path}");
    }
    assert!(matches!(problem(IdentityFile::load(at("key/key"))), FileProblem::Io { .. }));
    // A link to the folder is a way, not the thing.
    symlink(folder.path(), at("way")).expect("a folder of ours");
    IdentityFile::load(at("way/key")).expect("the same file");
}

#[test]
fn malformed_and_oversized_files_are_refused_and_say_what_they_should_hold() {
    let folder = folder();
    let path = folder.path().join("key");
    let hex = "0a".repeat(32);
    for (text, is_identity, is_psk) in [
        (format!("raet-identity-1 {hex}\n"), true, false),
        (format!("raet-identity-1 {hex}"), true, false),
        (format!("{hex}\n"), false, true),
        (hex.clone(), false, true),
        (format!("raet-identity-2 {hex}\n"), false, false),
        (format!("raet-identity-1  {hex}\n"), false, false),
        (format!("raet-identity-1 {}\n", "0A".repeat(32)), false, false),
        (format!("raet-identity-1 {}\n", "00".repeat(32)), false, false),
        (format!("{}\n", "00".repeat(32)), false, false),
        (format!("{hex}\r\n"), false, false),
        (format!("{hex}\n\n"), false, false),
        (format!("{hex}0a\n"), false, false),
        (format!("{}\n", &hex[1..]), false, false),
        (format!("{}\n", "é".repeat(32)), false, false),
        (String::new(), false, false),
    ] {
        write(&path, &text);
        for (kind, is_good, result) in [
            (FileKind::Identity, is_identity, IdentityFile::load(&path).map(|_| ())),
            (FileKind::PreSharedKey, is_psk, load_psk(&path).map(|key| assert_eq!(*key, [10; 32]))),
        ] {
            match result {
                Ok(()) => assert!(is_good, "{kind:?} {text:?}"),
                Err(error) => {
                    assert!(!is_good && error.kind() == kind, "{kind:?} {text:?}");
                    let said = error.to_string();
                    assert!(said.contains("is malformed in line 1: write "), "{said}");
                    assert!(!said.contains("0a0a"), "an error must not tell the key: {said}");
                }
            }
        }
    }
    write(&path, "x".repeat(KEY_FILE_LEN_MAX));
    assert!(matches!(problem(load_psk(&path)), FileProblem::Malformed { .. }));
    write(&path, "x".repeat(KEY_FILE_LEN_MAX + 1));
    assert!(matches!(problem(load_psk(&path)), FileProblem::TooLong { len: 257, .. }));
}

#[test]
fn replaced_file_is_the_old_or_the_new_one_and_never_part_of_either() {
    let folder = folder();
    let path = folder.path().join("trust");
    let texts = [vec![b'a'; 10_000], vec![b'b'; 20_000]];
    let place = Place::open(&path, Folder::MustExist).expect("a safe folder");
    place.replace(&texts[0]).expect("nothing is there yet");
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..50 {
                place.replace(&texts[round % 2]).expect("a safe folder");
            }
        });
        while !writer.is_finished() {
            let seen = place.read(20_000).expect("always there");
            assert!(texts.contains(&seen), "{} bytes", seen.len());
        }
    });
    assert_eq!(names(folder.path()), [path], "a draft is left behind");
}

#[test]
fn path_in_an_error_cannot_write_to_the_terminal() {
    let error = IdentityFile::load("/nowhere/\x1b[2J\nkey").expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "identity file '/nowhere/\\u{1b}[2J\\nkey' does not exist: check the path or make it first",
    );
}

proptest! {
    #[test]
    fn prop_identity_reads_back_what_was_written(secret in any::<[u8; 32]>()) {
        prop_assume!(secret != [0; 32]);
        let text = format_identity(&secret);
        prop_assert_eq!(text.capacity(), text.len(), "the vector grew");
        prop_assert_eq!(*parse_identity(&text).expect("is good"), secret);
    }

    #[test]
    fn prop_damaged_identity_never_panics(
        at in any::<prop::sample::Index>(),
        bytes in vec(any::<u8>(), 0..4),
    ) {
        let mut text = format_identity(&[7; 32]).to_vec();
        let at = at.index(text.len());
        text.splice(at..=at, bytes);
        if let Ok(secret) = parse_identity(&text) {
            let again = format_identity(&secret);
            prop_assert!(line(&text) == line(&again));
        }
    }

    #[test]
    fn prop_random_keys_never_panic(text in vec(any::<u8>(), 0..300)) {
        let _ = parse_key(line(&text));
        let _ = parse_identity(&text);
        let _ = parse_identity(&[IDENTITY_TAG, &text].concat());
    }
}
