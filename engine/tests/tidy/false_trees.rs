//! Small trees with one fault each, beside the same without it.

use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    Tree::new(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

/// A room's file in an engine that has them all.
fn engine_with(name: &str, text: &str) -> Tree {
    let mut files = vec![
        ("engine/src/lib.rs", "mod buffer; mod io; mod limits; mod node; mod protocol; mod shard;"),
        ("engine/src/buffer/mod.rs", ""),
        ("engine/src/io/mod.rs", "mod sim;"),
        ("engine/src/io/sim.rs", ""),
        ("engine/src/limits.rs", ""),
        ("engine/src/node/mod.rs", ""),
        (
            "engine/src/protocol/mod.rs",
            "mod crypto; mod endpoint; mod session; mod transaction; mod wire;",
        ),
        ("engine/src/protocol/crypto/mod.rs", ""),
        ("engine/src/protocol/endpoint.rs", ""),
        ("engine/src/protocol/session/mod.rs", "mod recovery;"),
        ("engine/src/protocol/session/recovery.rs", ""),
        ("engine/src/protocol/transaction/mod.rs", ""),
        ("engine/src/protocol/wire/mod.rs", ""),
        ("engine/src/shard/mod.rs", ""),
    ];
    files.retain(|(existing, _)| *existing != name);
    files.push((name, text));
    tree(&files)
}

#[track_caller]
fn assert_one(complaints: &[String], about: &str) {
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains(about), "{:?} is not about {about:?}", complaints[0]);
}

#[test]
fn forbidden_arrow_is_found_however_it_is_written() {
    let session = "engine/src/protocol/session/mod.rs";
    for text in [
        "mod recovery; use crate::protocol::transaction::Table;",
        "mod recovery; use super::transaction::Table;",
        "mod recovery; use super::{wire::Head, transaction};",
        "mod recovery; use crate::{buffer::Lease, protocol::{wire, transaction::{self as t}}};",
        "mod recovery; fn f(table: &crate::protocol::transaction::Table) {}",
        "mod recovery; fn f() { super::transaction::insert::<u8>(); }",
        "mod recovery; mod tests { use super::super::transaction::Table; }",
        "mod recovery; #[cfg(test)] mod tests { fn f() { crate::protocol::transaction::insert() } }",
        "mod recovery; macro_rules! m { () => { $crate::protocol::transaction::insert() } }",
        "mod recovery; pub use crate::protocol::transaction::Table as Other;",
    ] {
        assert_one(&arrows(&engine_with(session, text)), "session may not import protocol::tra");
    }
}

#[test]
fn allowed_arrows_and_leaves_are_quiet() {
    for (name, text) in [
        ("engine/src/protocol/session/mod.rs", "use super::wire::Head; use crate::limits::A;"),
        ("engine/src/protocol/session/recovery.rs", "use super::super::super::buffer::Lease;"),
        (
            "engine/src/protocol/session/recovery.rs",
            "use crate::protocol::drop_reason::DropReason;",
        ),
        (
            "engine/src/protocol/wire/mod.rs",
            "use crate::time::Instant; use std::io; use super::wire::X;",
        ),
        ("engine/src/protocol/endpoint.rs", "use crate::protocol::{session::S, transaction::T};"),
        ("engine/src/protocol/mod.rs", "mod session; pub use self::session::Session;"),
        ("engine/src/shard/mod.rs", "use crate::protocol::session::Keys; use crate::io::Driver;"),
        (
            "engine/src/node/mod.rs",
            "use crate::protocol::crypto::PublicKey; use crate::shard::Shard;",
        ),
        ("engine/src/io/sim.rs", "pub(in crate::shard) fn f() {} use crate::buffer::Lease;"),
        (
            "engine/src/io/sim.rs",
            "// use crate::node::Node;\nconst A: &str = \"crate::node::Node\";",
        ),
        (
            "engine/src/io/sim.rs",
            "const A: &str = r#\"use \"crate::node::Node;\"#; /* crate::node */",
        ),
    ] {
        assert_none(&arrows(&engine_with(name, text)));
    }
}

#[test]
fn rooms_that_nobody_planned_and_detours_by_a_door_are_found() {
    let detour = engine_with("engine/src/protocol/wire/mod.rs", "use crate::protocol::Session;");
    assert_one(&arrows(&detour), "wire may not import protocol (");
    let root = engine_with("engine/src/io/sim.rs", "use crate::Node;");
    assert_one(&arrows(&root), "io may not import the crate's root");
    let upward = engine_with("engine/src/io/sim.rs", "use super::super::shard::Shard;");
    assert_one(&arrows(&upward), "io may not import shard");
    let leaf = engine_with("engine/src/limits.rs", "use crate::buffer::Lease;");
    assert_one(&arrows(&leaf), "limits may not import buffer");
    let stranger =
        tree(&[("engine/src/lib.rs", "mod helpers;"), ("engine/src/helpers.rs", "fn f() {}")]);
    assert_one(&arrows(&stranger), "engine/src/helpers.rs: belongs to no room");
}

#[test]
fn neighbours_that_reach_around_raet_are_found() {
    let quiet = [
        ("loadgen/src/main.rs", "use raet::Node; use raet::node::Config; use serde_json::Value;"),
        ("loadgen/Cargo.toml", "raet.workspace = true\nserde_json.workspace = true"),
        ("bench/benches/wire.rs", "use raet::protocol::wire;"),
        ("bench/peers/Cargo.toml", "raet = { path = \"../../engine\" }"),
    ];
    assert_none(&neighbours(&tree(&quiet)));
    for (name, text, about) in [
        ("loadgen/src/main.rs", "use raet::protocol::wire::Head;", "enters raet by protocol::wire"),
        ("loadgen/src/main.rs", "fn f(d: raet::io::sim::Sim) {}", "enters raet by io"),
        ("loadgen/src/main.rs", "#[path = \"../../engine/src/time.rs\"] mod time;", "leaves"),
        ("bench/src/lib.rs", "include!(\"x.rs\");", "includes source text"),
        ("bench/Cargo.toml", "raet-loadgen.workspace = true", "may depend on raet only"),
        ("bench/peers/Cargo.toml", "raet-bench = { path = \"..\" }", "may depend on raet only"),
        ("loadgen/Cargo.toml", "raet-bench = { path = \"../bench\" }", "may depend on raet only"),
    ] {
        assert_one(&neighbours(&tree(&[(name, text)])), about);
    }
}

#[test]
fn clocks_outside_drivers_are_found() {
    let session = "engine/src/protocol/session/recovery.rs";
    for text in [
        "use std::time::Instant;",
        "use std::{io, time::{Duration, Instant}};",
        "use std::time;",
        "use std::time::{self, Duration};",
        "use std::time::*;",
        "fn f() { let now = std::time::SystemTime::now(); }",
        "fn f() -> ::std::time::Instant {}",
        "#[cfg(test)] mod tests { use std::time::Instant; }",
    ] {
        assert_one(&clocks(&engine_with(session, text)), "only drivers read a clock");
    }
    for (name, text) in [
        (session, "use std::time::Duration; use crate::time::Instant;"),
        ("engine/src/io/sim.rs", "use std::time::Instant;"),
        ("engine/src/shard/mod.rs", "#[cfg(test)] mod tests { use std::time::Instant; }"),
    ] {
        assert_none(&clocks(&engine_with(name, text)));
    }
    let shard =
        engine_with("engine/src/shard/mod.rs", "use std::time::Instant; #[cfg(test)] mod t {}");
    assert_one(&clocks(&shard), "engine/src/shard/mod.rs:1");
}

#[test]
fn leftover_macros_are_found() {
    let wire = "engine/src/protocol/wire/mod.rs";
    for text in [
        "fn f() { dbg!(1); }",
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "fn f() { std::println!(); }",
        "#[cfg(test)] mod tests { fn f() { dbg!(1); } }",
        "#[cfg(not(test))] mod g { fn f() { println!(); } }",
        "#[cfg(any(test, unix))] mod g { fn f() { println!(); } }",
    ] {
        assert_one(&macros(&engine_with(wire, text)), "is left over");
    }
    for text in [
        "// todo!()\nfn f() { assert!(true, \"dbg!\"); let todo = 1; }",
        "#[cfg(test)] mod tests { #[test] fn f() { println!(\"SKIPPED f: no ring\"); } }",
    ] {
        assert_none(&macros(&engine_with(wire, text)));
    }
}

#[test]
fn println_after_a_test_region_is_found() {
    let text =
        "#[cfg(test)]\nuse a::b;\n#[cfg(test)]\nfn g(a: [u8; 3]) { h(); }\nfn f() { println!(); }";
    let complaints = macros(&engine_with("engine/src/protocol/wire/mod.rs", text));
    assert_one(&complaints, "mod.rs:5: println!");
}

#[test]
fn dead_files_are_found() {
    let files = [
        ("engine/src/lib.rs", "mod io; mod time; mod x { mod y; } #[cfg(test)] mod tests;"),
        ("engine/src/io/mod.rs", "// mod sim;\nmod uring;"),
        ("engine/src/io/uring.rs", "mod ring; #[path = \"odd.rs\"] mod even;"),
        ("engine/src/io/uring/ring.rs", ""),
        ("engine/src/io/odd.rs", ""),
        ("engine/src/tests.rs", ""),
        ("engine/src/time.rs", ""),
        ("engine/src/x/y.rs", ""),
        ("loadgen/src/main.rs", "mod report;"),
        ("loadgen/src/report.rs", ""),
        ("bench/src/bin/limit.rs", ""),
        ("bench/peers/src/main.rs", "mod peer;"),
        ("bench/peers/src/peer/mod.rs", "#[cfg(feature = \"tls\")] mod tls;"),
        ("bench/peers/src/peer/tls.rs", ""),
    ];
    assert_none(&dead_files(&tree(&files)));
    let mut more = files.to_vec();
    more.push(("engine/src/io/sim.rs", ""));
    assert_one(&dead_files(&tree(&more)), "engine/src/io/sim.rs: no mod line leads here");
    more.pop();
    more.push(("loadgen/src/plot.rs", ""));
    assert_one(&dead_files(&tree(&more)), "loadgen/src/plot.rs");
    more.pop();
    more.push(("bench/peers/src/peer/udp.rs", ""));
    assert_one(&dead_files(&tree(&more)), "bench/peers/src/peer/udp.rs");
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    let allowed = "fn f() { unsafe { g() } }";
    assert_none(&unsafe_code(&tree(&[("engine/src/buffer/region.rs", allowed)])));
    assert_none(&unsafe_code(&tree(&[("engine/src/io/uring/ring.rs", allowed)])));
    let words =
        "#![forbid(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\"; const B: char = '\"';";
    assert_none(&unsafe_code(&tree(&[("engine/src/protocol/mod.rs", words)])));
    for text in [allowed, "unsafe impl Send for A {}", "const Q: char = '\\''; unsafe fn f() {}"] {
        assert_one(&unsafe_code(&tree(&[("engine/src/shard/mod.rs", text)])), "has no place here");
    }
}

#[test]
fn limits_that_bound_nothing_are_found() {
    let limits_text = "pub const USED: usize = 1;\n/// Of USED and [`PART`].\n\
        pub const PART: usize = 2;\npub const SUM: usize = PART + 3;\nconst _: () = assert!(SUM > 1);";
    let user = (
        "engine/src/buffer/mod.rs",
        "use crate::limits; const A: usize = limits::USED + limits::SUM;",
    );
    let home = "engine/src/limits.rs";
    assert_none(&limits(&tree(&[(home, limits_text), user])));
    let unused = format!("{limits_text} pub const IDLE: u8 = 1; const _: () = assert!(IDLE > 0);");
    assert_one(&limits(&tree(&[(home, &unused), user])), "IDLE bounds nothing");
    let sum = format!(
        "{limits_text} const fn total() -> usize {{ let a = IDLE; a }} pub const IDLE: u8 = 1;"
    );
    let total = ("engine/src/io/mod.rs", "fn f() { crate::limits::total(); }");
    assert_none(&limits(&tree(&[(home, &sum), user, total])));
    let comment = ("engine/src/buffer/mod.rs", "// USED and SUM");
    assert_eq!(limits(&tree(&[(home, limits_text), comment])).len(), 3);
}

#[test]
fn untested_rules_and_empty_citations_are_found() {
    let document =
        ("docs/PROTOCOL.md", "# 2 Wire\n\n**2.1** A head.\n\n- **2.10** More.\n  See **2.9**.\n");
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    // PROTOCOL 2.1 and 2.10.\n    #[test]\n    fn g() {}\n}";
    let name = "engine/src/protocol/wire/mod.rs";
    let with = |text: &str| {
        let mut tree = engine_with(name, text);
        tree.0.extend(self::tree(&[document]).0);
        tree
    };
    assert_none(&rules(&with(tests)));
    let one = tests.replace(" and 2.10", "");
    assert_one(&rules(&with(&one)), "no test cites PROTOCOL 2.10");
    let outside = format!("{one}\n/// (PROTOCOL 2.10).\nfn h() {{}}");
    assert_one(&rules(&with(&outside)), "no test cites PROTOCOL 2.10");
    let dangling = format!("{tests}\n/// (PROTOCOL 2.11).\nfn h() {{}}");
    assert_one(&rules(&with(&dangling)), "mod.rs:8: there is no rule 2.11");
    let mut elsewhere = with(&one);
    elsewhere.0.extend(tree(&[("engine/tests/sim.rs", "// PROTOCOL 2.10\nfn f() {}")]).0);
    assert_none(&rules(&elsewhere));
    let twice = tree(&[
        ("docs/PROTOCOL.md", "**2.1** a\n\n**2.1** b"),
        ("engine/tests/a.rs", "// PROTOCOL 2.1"),
    ]);
    assert_one(&rules(&twice), "2.1 is also the rule of line 1");
}

#[test]
fn citations_are_read_as_written() {
    assert_eq!(citations("// PROTOCOL 2.3"), ["2.3"]);
    assert_eq!(
        citations("/// dropped (PROTOCOL 2.3, 4.12 and 5.1). See 9.9"),
        ["2.3", "4.12", "5.1"]
    );
    assert_eq!(citations("// PROTOCOL 2.3. Then 9.9; PROTOCOL 4.1"), ["2.3", "4.1"]);
    assert_eq!(citations("// PROTOCOL 2.9 to 2.12, 3.1"), ["2.9", "2.10", "2.11", "2.12", "3.1"]);
    assert!(citations("// the PROTOCOL document, 2.3; PROTOCOL 2").is_empty());
}

#[test]
fn long_files_are_found() {
    let long = "\n".repeat(FILE_LINES_MAX + 1);
    assert_one(&file_sizes(&tree(&[("bench/src/lib.rs", &long)])), "801 lines");
    assert_none(&file_sizes(&tree(&[("bench/src/lib.rs", &long[1..]), ("docs/A.md", &long)])));
}
