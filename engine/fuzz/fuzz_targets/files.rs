//! Any bytes as a key file, a pre-shared key, or a trust file: refused or understood, never more,
//! and what was understood is written and read again as the same.

#![no_main]

use std::cell::OnceCell;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use libfuzzer_sys::fuzz_target;
use raet::node::files::{IdentityFile, TrustFile, load_psk};
use raet::{Impairment, TrustPolicy};
use tempfile::TempDir;

thread_local! {
    /// Removed by the system's own cleaning if the fuzzer is killed.
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder"));
        check(folder, data);
    });
});

fn check(folder: &TempDir, data: &[u8]) {
    let at = |name: &str| folder.path().join(name);
    let path = at("file");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&path).and_then(|mut file| file.write_all(data)).expect("a file of ours");

    let again = at("again");
    if let Ok(identity) = IdentityFile::load(&path) {
        let _ = std::fs::remove_file(&again);
        IdentityFile::create(&again, &identity).expect("it does not exist");
        let read = IdentityFile::load(&again).expect("just written");
        assert_eq!(read.public(), identity.public());
    }
    let _ = load_psk(&path);
    if let Ok(records) = TrustFile::records(&path) {
        let trust = TrustFile::load(&path, TrustPolicy::Never).expect("its records were read");
        TrustFile::save(&again, &trust).expect("room in the folder");
        let mut kept = TrustFile::records(&again).expect("just written");
        for record in &kept {
            assert!(records.contains(record));
        }
        TrustFile::save(&again, &TrustFile::load(&again, TrustPolicy::Never).expect("ours"))
            .expect("room in the folder");
        let mut twice = TrustFile::records(&again).expect("just written");
        kept.sort_by_key(|(key, _)| *key);
        twice.sort_by_key(|(key, _)| *key);
        assert_eq!(kept, twice);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = text.parse::<Impairment>();
        let _ = raet::node::cpus::parse_cpu_list(text);
        let _ = text.parse::<raet::PublicKey>();
    }
}
