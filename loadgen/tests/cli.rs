//! The built program, run as people and scripts run it.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Faults under which every service has to keep its promise.
const FAULTS: &str = "loss=5%,dup=5%,reorder=5%,corrupt=1%";

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raet-loadgen"));
    command.args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(line: &str) -> Output {
    command(line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and reads the JSON report; the run has to end with `code`.
fn report(line: &str, code: i32) -> Value {
    report_of(command(&format!("{line} --json -")).spawn().unwrap(), line, code)
}

fn report_of(child: Child, line: &str, code: i32) -> Value {
    let output = child.wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}\n{told}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{line}: {error}\n{}\n{told}", text(&output.stdout)))
}

/// A responder in a process of its own.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: String,
    key: String,
}

impl Server {
    fn start(options: &str) -> Self {
        let mut child = command(&format!("serve --bind 127.0.0.1:0 {options}")).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!((words[0], words[1], words[3]), ("listening", "on", "key"), "{line}");
        let (address, key) = (words[2].to_owned(), words[4].to_owned());
        Self { child, lines, address, key }
    }

    fn connect(&self) -> String {
        format!("--connect {} --peer-key {}", self.address, self.key)
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} of {report:#}"))
}

fn assert_whole(report: &Value, sent: u64) {
    assert_eq!(report["schema"], "raet-loadgen/1");
    assert_eq!(number(report, "sent"), sent, "{report:#}");
    assert_eq!(number(report, "delivered"), sent, "{report:#}");
    for field in ["duplicates", "corrupted", "lost", "refused", "not_sent", "indeterminate"] {
        assert_eq!(number(report, field), 0, "{field} of {report:#}");
    }
    assert_eq!(report["held"], true, "{report:#}");
}

// ---- Loads -----------------------------------------------------------------------------------

#[test]
fn counted_run_delivers_every_message_once() {
    let report = report("--messages 50k", 0);
    assert_whole(&report, 50_000);
    assert_eq!(report["latency_us"]["count"], 50_000);
    assert_eq!(report["verdict"], "given");
    assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    assert!(report["cpu_seconds"]["initiator"].as_f64().unwrap() > 0.0);
    assert!(report["cpu_seconds"]["responder"].as_f64().unwrap() > 0.0);
}

#[test]
fn table_is_short_and_goes_to_stdout() {
    let output = run("--messages 1k");
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(table.contains("promise    kept"), "{table}");
    assert!(table.lines().count() < 15, "{table}");
}

#[test]
fn every_service_keeps_its_promise_on_a_bad_path() {
    for service in [
        "maybe",
        "repeat",
        "repeat-dedup",
        "more-or-less-once",
        "at-most-once",
        "exactly-once",
        "request",
        "sequence",
    ] {
        let report =
            report(&format!("--service {service} --messages 5k --impair {FAULTS} --seed 11"), 0);
        assert_eq!(number(&report, "sent"), 5_000);
        let delivered = number(&report, "delivered");
        let lost = number(&report, "lost");
        match service {
            "exactly-once" | "request" | "sequence" => assert_whole(&report, 5_000),
            _ => assert_eq!(delivered + lost, 5_000, "{report:#}"),
        }
    }
}

#[test]
fn what_maybe_loses_is_counted_as_lost() {
    let report = report("--service maybe --size 600 --messages 3k --impair loss=20% --seed 3", 0);
    assert!(number(&report, "lost") > 100, "{report:#}");
    assert_eq!(number(&report, "lost") + number(&report, "delivered"), 3_000);
}

#[test]
fn messages_that_the_path_delays_are_waited_for() {
    let report = report("--service maybe --messages 1k --impair delay=250ms..300ms", 0);
    assert_whole(&report, 1_000);
}

#[test]
fn every_way_to_run_the_engine_delivers() {
    for options in [
        "--io mmsg",
        "--gso off",
        "--mode signed",
        "--mode plain",
        "--suite chacha20",
        "--bundle off",
        "--linger 200us",
        "--mtu 1400 --size 1400",
        "--idle park",
        "--idle spin",
        "--idle yield",
        "--closed 5",
        "--service request --closed 1",
        "--service request --size 60000",
        "--one-thread",
        "--one-thread --io mmsg --service request --closed 1",
        "--sessions 3",
        "--shards 2",
        "--size 0",
        "--size 1",
        "--size 0..64",
        "--size 1..3000",
    ] {
        assert_whole(&report(&format!("{options} --messages 2k"), 0), 2_000);
    }
}

#[test]
fn open_loop_sends_what_its_schedule_says_and_times_from_it() {
    let report = report("--rate 2k --duration 500ms --warmup 100ms", 0);
    assert_whole(&report, 1_000);
    assert_eq!(number(&report, "skipped"), 0);
    assert_eq!(report["warmup"]["sent"], 200);
    assert_eq!(report["latency_measured"], "intended send to delivery");
    assert_eq!(report["latency_us"]["count"], 1_000);
}

#[test]
fn overload_shows_as_latency_or_as_skipped_and_never_as_less_load() {
    let report = report("--rate 100M --duration 300ms --warmup 0s", 0);
    let offered = number(&report, "sent") + number(&report, "skipped");
    assert_eq!(offered, 30_000_000, "{report:#}");
    assert_eq!(number(&report, "delivered"), number(&report, "sent"));
}

#[test]
fn lines_of_a_file_arrive_once_and_their_hashes_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.txt");
    let lines: Vec<_> = (0..20_000).map(|n| "x".repeat(n % 300) + &n.to_string()).collect();
    std::fs::write(&path, lines.join("\n") + "\n\n").unwrap();
    for options in ["", "--service request", "--sessions 2", "--impair loss=2%,dup=2% --seed 4"] {
        let report = report(&format!("--size file:{} {options}", path.display()), 0);
        assert_whole(&report, 20_001);
        assert_eq!(report["content_hash_match"], true, "{options}");
    }
    let again = report(&format!("--size file:{} --messages 45k", path.display()), 0);
    assert_whole(&again, 45_000);
}

#[test]
fn a_line_that_no_packet_carries_travels_in_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.txt");
    std::fs::write(&path, format!("short\n{}\n", "y".repeat(300_000))).unwrap();
    let report = report(&format!("--size file:{} --mtu 1400", path.display()), 0);
    assert_whole(&report, 2);
    assert_eq!(report["content_hash_match"], true);
}

#[test]
fn a_line_that_no_message_carries_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.txt");
    std::fs::write(&path, format!("short\n{}\n", "y".repeat(64 << 20))).unwrap();
    let sentence = refusal(&run(&format!("--size file:{}", path.display())), 2);
    assert!(sentence.contains("line 2 of") && sentence.contains("67108848"), "{sentence}");
}

#[test]
fn ordered_streams_of_every_kind_stay_in_order_on_a_bad_path() {
    for kind in ["reliable", "lossy", "reliable-on-request", "lossy-on-request"] {
        let line = format!(
            "--service sequence --streams 5 --stream-kind {kind} --messages 3k --impair {FAULTS} \
             --seed 5"
        );
        let report = report(&line, 0);
        let order = &report["kinds"][0]["order"];
        assert_eq!((&order["out_of_order"], &order["gaps_untold"]), (&0.into(), &0.into()));
        assert_eq!(number(&report, "corrupted"), 0, "{report:#}");
        if kind.starts_with("reliable") {
            assert_whole(&report, 3_000);
            assert_eq!(order["gaps_told"], 0);
        }
    }
}

#[test]
fn what_lossy_streams_pass_over_is_told() {
    // What is lost is asked for and comes later than a stream waits for it.
    let line = "--service sequence --streams 2 --bundle off --size 600 --messages 2k \
                --stream-kind lossy-on-request --impair loss=10%,delay=60ms --seed 5";
    let report = report(line, 0);
    let told = number(&report["kinds"][0]["order"], "gaps_told");
    assert!(told > 0, "{report:#}");
    assert_eq!(report["kinds"][0]["order"]["gaps_untold"], 0);
}

#[test]
fn long_messages_of_a_stream_arrive_in_order_on_both_drivers() {
    for io in ["mmsg", "auto"] {
        let report = report(
            &format!(
                "--io {io} --service sequence --size 1MiB --messages 24 --seed 6 --impair \
                 loss=2%,reorder=5%"
            ),
            0,
        );
        assert_whole(&report, 24);
        let driver = &report["nodes"][0]["driver"];
        if io == "auto" && driver != "uring" {
            eprintln!("SKIPPED: uring, for this machine has only {driver}");
        }
        let order = &report["kinds"][0]["order"];
        assert_eq!((&order["out_of_order"], &order["gaps_told"]), (&0.into(), &0.into()));
    }
}

#[test]
fn the_longest_messages_arrive_whole_and_in_pieces() {
    for options in ["--service exactly-once", "--service exactly-once --segments"] {
        let report = report(&format!("{options} --size 64MiB --messages 3"), 0);
        assert_whole(&report, 3);
        assert_eq!(report["latency_us"]["count"], 3);
    }
    for service in ["maybe", "at-most-once", "exactly-once"] {
        let report = report(
            &format!(
                "--service {service} --segments --size 9000..300000 \
            --messages 200"
            ),
            0,
        );
        assert_eq!(number(&report, "corrupted"), 0);
        assert_eq!(number(&report, "delivered") + number(&report, "lost"), 200, "{report:#}");
    }
}

#[test]
fn messages_in_pieces_among_whole_ones_are_counted_in_their_turn() {
    // Of these lengths the last two come in pieces, and neighbours of one length are a run.
    let report = report("--service exactly-once --segments --size 8191..8194 --messages 5000", 0);
    assert_whole(&report, 5_000);
    assert_eq!(report["latency_us"]["count"], 5_000);
}

#[test]
fn a_file_arrives_whole_with_the_hash_that_others_give_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &bytes).unwrap();
    let file = format!("--file {}", path.display());
    let hash = blake3::hash(&bytes).to_hex();
    for options in ["", "--size 100000 --io mmsg --impair loss=1% --seed 3"] {
        let report = report(&format!("{file} {options}"), 0);
        assert_eq!(report["content_hash_match"], true, "{report:#}");
        assert_eq!(report["content_hash"], hash.as_str());
    }
    let pieces = report(&format!("{file} --service exactly-once --segments"), 0);
    assert_eq!(pieces["content_hash_match"], true, "{pieces:#}");
}

#[test]
fn a_mix_is_a_regular_file_of_bounded_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    std::fs::write(path("long"), "#".repeat((1 << 20) + 1)).unwrap();
    std::fs::write(path("nameless"), "name= service=request size=64").unwrap();
    for (file, word) in [
        ("/dev/zero".to_owned(), "no regular file"),
        (path("pipe"), "no regular file"),
        (path(""), "no regular file"),
        (path("long"), "at most 1048576 bytes"),
        (path("nameless"), "line 1: name: it is empty"),
    ] {
        let output = run(&format!("--mix {file} --duration 1s"));
        let told = text(&output.stderr);
        assert!(!output.status.success() && told.contains(word), "{file}: {told}");
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
    }
}

#[test]
fn a_mix_reports_each_kind_and_its_bad_lines_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mix");
    let mix = "name=small service=exactly-once size=64 rate=1000 priority=urgent\n\
               name=large service=exactly-once size=1MiB closed=1 priority=bulk # in segments\n\
               name=asked service=request size=100 share=50%\n\
               name=feed service=sequence size=16..2000 streams=3 share=100% stream-kind=lossy\n";
    std::fs::write(&path, mix).unwrap();
    let line = |options: &str| format!("--mix {} {options}", path.display());
    let report = report(&line("--rate 1000 --duration 1s --warmup 200ms"), 0);
    let kinds = report["kinds"].as_array().unwrap();
    let names: Vec<_> = kinds.iter().map(|kind| &kind["name"]).collect();
    assert_eq!(names, ["small", "large", "asked", "feed"]);
    let sent: u64 = kinds.iter().map(|kind| number(kind, "sent")).sum();
    assert_eq!(number(&report, "sent"), sent);
    for (kind, expected) in [(&kinds[0], 1_000), (&kinds[2], 500), (&kinds[3], 1_000)] {
        assert_eq!(number(kind, "sent") + number(kind, "skipped"), expected, "{kind:#}");
        assert_eq!(kind["latency_us"]["count"], kind["delivered"], "{kind:#}");
    }
    assert!(number(&kinds[1], "delivered") > 0);
    let table = text(&run(&line("--rate 1000 --duration 200ms --warmup 0s")).stdout);
    assert!(table.contains("kind       small: sent"), "{table}");
    let in_pieces = refusal(&run(&line("--rate 1000 --segments")), 2);
    assert!(in_pieces.contains("request"), "{in_pieces}");
    std::fs::write(&path, "size=64\nsize=big\n").unwrap();
    let sentence = refusal(&run(&line("")), 2);
    assert!(sentence.contains("line 2: size"), "{sentence}");
}

#[test]
fn results_are_written_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (json, hgrm, plot) = (at("r.json"), at("r.hgrm"), at("r.svg"));
    let output = run(&format!("--messages 5k --json {json} --hgrm {hgrm} --plot {plot}"));
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_whole(&report, 5_000);
    assert!(std::fs::read_to_string(hgrm).unwrap().contains("#[Max"));
    assert!(std::fs::read_to_string(plot).unwrap().ends_with("</svg>\n"));
}

#[test]
fn a_signal_ends_the_run_early_with_its_report() {
    let line = "--duration 60s --rate 1k";
    let child = command(&format!("{line} --json -")).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    let started = Instant::now();
    signal(&child, "-INT");
    let report = report_of(child, line, 0);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["delivered"], report["sent"]);
}

#[test]
fn drivers_are_compared_in_one_table() {
    let output = run("compare-io --messages 1k --rounds 2");
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}{}", text(&output.stderr));
    for name in ["uring gso on", "uring gso off", "mmsg gso on", "mmsg gso off"] {
        assert!(table.contains(name), "{table}");
    }
}

// ---- Two processes ---------------------------------------------------------------------------

#[test]
fn two_processes_agree_on_what_was_sent() {
    let mut server = Server::start("");
    let report = report(&format!("run {} --messages 20k", server.connect()), 0);
    assert_whole(&report, 20_000);
    // One machine, one clock.
    assert_eq!(report["latency_us"]["count"], 20_000);
    let line = server.next_line();
    assert!(line.contains("20 000 delivered, 0 duplicates, 0 corrupted"), "{line}");
    let two = self::report(&format!("run {} --messages 2k --sessions 2", server.connect()), 0);
    assert_whole(&two, 2_000);
    signal(&server.child, "-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_killed_responder_ends_the_run_with_clear_outcomes() {
    let server = Server::start("");
    let line = format!("run {} --duration 60s --warmup 0s", server.connect());
    let child = command(&format!("{line} --json -")).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    signal(&server.child, "-KILL");
    let started = Instant::now();
    let report = report_of(child, &line, 1);
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert_eq!(report["verdict"], "missing");
    let sent = number(&report, "sent");
    let ended = number(&report, "acknowledged")
        + number(&report, "indeterminate")
        + number(&report, "not_sent");
    assert_eq!(ended, sent, "every send has an outcome: {report:#}");
    assert!(number(&report, "indeterminate") > 0, "{report:#}");
    assert_eq!(report["held"], false);
}

#[test]
fn a_responder_that_pauses_at_the_end_is_asked_again_when_it_goes_on() {
    let server = Server::start("");
    let line = format!("run {} --service maybe --duration 1s --warmup 0s", server.connect());
    let child = command(&format!("{line} --json -")).spawn().unwrap();
    thread::sleep(Duration::from_millis(700));
    signal(&server.child, "-STOP");
    // Past the end of the load: all that the responder granted has left, and nothing more fits.
    thread::sleep(Duration::from_millis(1_800));
    signal(&server.child, "-CONT");
    let report = report_of(child, &line, 0);
    assert_eq!(report["verdict"], "given");
    assert_eq!(report["held"], true, "{report:#}");
}

#[test]
fn a_killed_initiator_frees_its_session() {
    let mut server = Server::start("");
    let line = format!("run {} --duration 60s", server.connect());
    let mut child = command(&line).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    let started = Instant::now();
    let ended = server.next_line();
    assert!(ended.contains("ended (Idle)"), "{ended}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert_whole(&report(&format!("run {} --messages 1k", server.connect()), 0), 1_000);
}

// ---- Bad input -------------------------------------------------------------------------------

/// The one sentence that a refused start tells.
fn refusal(output: &Output, code: i32) -> String {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    // Lines of progress may come before it.
    let sentences: Vec<_> =
        told.lines().filter(|line| line.starts_with("raet-loadgen: ")).collect();
    assert_eq!(sentences.len(), 1, "{told}");
    assert!(told.trim_end().ends_with(sentences[0]), "{told}");
    sentences[0].to_owned()
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    const PORT_ZERO: &str = "--connect 127.0.0.1:0 --peer-key \
         0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
    const ELSEWHERE: &str = "--segments --connect 127.0.0.1:9 --peer-key \
         0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
    for (line, word) in [
        ("--rate 0", "at least 1"),
        ("--size 70000000", "smaller"),
        ("--size file:/nowhere/at/all", "readable"),
        ("--file /nowhere/at/all", "readable"),
        ("--mix /nowhere/at/all", "readable"),
        ("--service sequence --segments", "--segments"),
        ("--service request --segments", "--segments"),
        ("--service sequence --streams 0", "1 to 256"),
        ("--connect 127.0.0.1:9", "--peer-key"),
        ("--one-thread --sessions 2", "--one-thread"),
        ("--one-thread --idle park", "--idle"),
        ("--cpus 900", "900"),
        ("--cpus 0,1,900", "900"),
        ("--json /nowhere/at/all", "writable"),
        ("--impair moths=1%", "loss"),
        ("--frobnicate", "--help"),
        ("serve --bind nowhere", "HOST:PORT"),
        ("compare-io --plot x.svg", "--json"),
        ("--bind 192.0.2.1:0 --mode plain", "plain"),
        (PORT_ZERO, "port 0"),
        (ELSEWHERE, "serve"),
    ] {
        let sentence = refusal(&run(line), 2);
        assert!(sentence.contains(word), "{line}: {sentence}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for line in [format!("--bind {address}"), format!("serve --bind {address}")] {
        let sentence = refusal(&run(&line), 1);
        assert!(sentence.contains(&address.to_string()) && sentence.contains("in use"));
    }
}

/// A folder fit for keys.
fn private_folder() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn write_with_mode(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn key_files_that_others_can_read_are_refused() {
    let folder = private_folder();
    let path = folder.path().join("key");
    let created = run(&format!("--messages 10 --key {}", path.display()));
    assert_eq!(created.status.code(), Some(0), "{}", text(&created.stderr));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let psk = folder.path().join("psk");
    write_with_mode(&psk, &"5a".repeat(32), 0o600);
    let used = run(&format!("--messages 10 --psk {}", psk.display()));
    assert_eq!(used.status.code(), Some(0), "{}", text(&used.stderr));
    for (option, path) in [("--key", &path), ("--psk", &psk)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let sentence = refusal(&run(&format!("{option} {}", path.display())), 2);
        assert!(sentence.contains("chmod 600"), "{sentence}");
    }
}

#[test]
fn sessions_that_cannot_be_say_why() {
    let folder = private_folder();
    let at = |name: &str| folder.path().join(name);
    write_with_mode(&at("psk"), &"5a".repeat(32), 0o600);
    write_with_mode(&at("other-psk"), &"a5".repeat(32), 0o600);
    // An identity whose public key is known: a server that uses it tells.
    let known = Server::start(&format!("--key {}", at("key").display()));
    let rejected = format!("raet-trust-1\nrejected {} \"\" \"\"\n", known.key);
    drop(known);
    write_with_mode(&at("trust"), &rejected, 0o600);

    let open = Server::start("");
    let with_psk = Server::start(&format!("--psk {}", at("psk").display()));
    let never = Server::start("--accept never");
    let rejecting = Server::start(&format!("--trust {}", at("trust").display()));
    let signed = Server::start("--mode signed");
    let wrong_key = format!("--connect {} --peer-key {}", open.address, never.key);
    let nobody = format!("--connect 127.0.0.1:1 --peer-key {}", open.key);
    let psk = |name: &str| format!("{} --psk {}", with_psk.connect(), at(name).display());
    let key = format!("{} --key {}", rejecting.connect(), at("key").display());
    // All at once: most of them wait for a time-out.
    let cases = [
        (wrong_key, "--peer-key"),
        (nobody, "--peer-key"),
        (psk("other-psk"), "--psk"),
        (with_psk.connect(), "--psk"),
        (never.connect(), "--accept"),
        (key, "rejects our key"),
        (signed.connect(), "--mode"),
    ];
    let started = Instant::now();
    let runs = cases.map(|(line, word)| {
        let child = command(&format!("run {line} --messages 10")).spawn().unwrap();
        (child, line, word)
    });
    for (child, line, word) in runs {
        let sentence = refusal(&child.wait_with_output().unwrap(), 1);
        assert!(sentence.contains(word), "{line}: {word}\n{sentence}");
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
