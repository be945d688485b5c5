//! What clippy cannot see: who may import whom, where clocks and unsafe code may be, files that
//! nothing compiles, bounds that nothing uses, rules that nothing tests.
//!
//! Each check is a function from a tree of files to a list of complaints. The real tree must give
//! none; small false trees at the bottom show that each check is able to fail.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use source::{Child, Path, Source};

// ---- What is allowed ---------------------------------------------------------------------

/// The rooms and what each may import. A longer path wins over a shorter one.
const ARROWS: &[(&str, &[&str])] = &[
    ("buffer", &[]),
    // Above the node: it drives queues and reads keys, as an application does.
    ("durable", &["node", "protocol"]),
    ("io", &["buffer"]),
    // Beyond its two neighbours a node shows users the protocol's own types, such as keys.
    ("node", &["shard", "io", "protocol"]),
    ("protocol", &["protocol"]),
    ("protocol::crypto", &[]),
    (
        "protocol::endpoint",
        &["protocol::session", "protocol::transaction", "protocol::wire", "buffer"],
    ),
    ("protocol::session", &["protocol::wire", "protocol::crypto", "buffer"]),
    ("protocol::transaction", &["protocol::wire", "buffer"]),
    ("protocol::wire", &[]),
    ("shard", &["protocol", "io", "buffer"]),
];

/// What anyone may read; these read each other and nothing else.
const LEAVES: &[&str] = &["limits", "protocol::drop_reason", "time"];

/// Rooms of raet that the load generator may enter: it drives a node from outside.
const LOADGEN_ENTERS: &[&str] = &["limits", "node", "time"];

/// The package outside the workspace that measures raet beside others, and how it names the engine.
const PEERS: &str = "bench/peers/Cargo.toml";
const PEERS_ENGINE: &str = "raet = { path = \"../../engine\" }";

/// Where `std`'s clocks may be read. Test code of a threaded room needs real deadlines.
const CLOCKS: &[&str] = &["engine/src/io/"];
const CLOCKS_IN_TESTS: &[&str] = &["engine/src/node/", "engine/src/shard/"];

const UNSAFE: &[&str] = &[
    "engine/src/buffer/region.rs",
    "engine/src/io/mmsg/",
    "engine/src/io/clock.rs",
    "engine/src/io/socket.rs",
    "engine/src/io/waker.rs",
    "engine/src/io/uring/",
    "engine/src/shard/mailbox.rs",
];

const FILE_LINES_MAX: usize = 800;
/// Longer files, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

// ---- The tree ----------------------------------------------------------------------------

struct File {
    text: String,
    source: Source,
}

/// Files by their path from the top of the checkout.
struct Tree(BTreeMap<String, File>);

/// A file that is compiled, and as what.
struct Compiled<'a> {
    name: &'a str,
    source: &'a Source,
    /// `["protocol", "wire", "head"]`.
    module: Vec<String>,
    /// Only tests compile it.
    test: bool,
}

impl Tree {
    fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let read = |(name, text): (String, String)| {
            let rust = name.ends_with(".rs");
            let source = if rust { Source::read(&text) } else { Source::default() };
            (name, File { text, source })
        };
        Self(files.into_iter().map(read).collect())
    }

    /// The checkout around this package, as far as the checks read it.
    fn checkout() -> Self {
        // Asked at run time: then a test binary can be pointed at another checkout.
        let package = env::var("CARGO_MANIFEST_DIR").expect("cargo names the package for tests");
        let top = PathBuf::from(package).join("..");
        let mut folders: Vec<PathBuf> =
            ["bench", "docs", "engine", "loadgen"].iter().map(|name| top.join(name)).collect();
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.expect("a folder of the checkout can be listed").path();
                let name = path.strip_prefix(&top).expect("entries are below the top");
                let name = name.to_str().expect("our file names are plain").to_owned();
                if path.is_dir() && !name.ends_with("/target") {
                    folders.push(path);
                } else if [".rs", ".toml", ".md"].iter().any(|end| name.ends_with(end)) {
                    files.push((name, fs::read_to_string(&path).expect("sources are UTF-8")));
                }
            }
        }
        Self::new(files)
    }

    fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
        let inside = move |(name, _): &(&String, &File)| name.starts_with(folder);
        self.0.iter().filter(inside).map(|(name, file)| (name.as_str(), file))
    }

    /// Everything that `root`, a `lib.rs` or `main.rs`, pulls in by `mod` lines.
    fn compiled(&self, root: &str) -> Vec<Compiled<'_>> {
        let mut found = Vec::new();
        let mut waiting = vec![(root.to_owned(), Vec::new(), false)];
        while let Some((name, module, test)) = waiting.pop() {
            let Some((name, file)) = self.0.get_key_value(&name) else { continue };
            for child in &file.source.children {
                let (path, child_module) = self.place(name, &module, child);
                waiting.push((path, child_module, test || child.test));
            }
            found.push(Compiled { name, source: &file.source, module, test });
        }
        found
    }

    /// Where `mod name;` in file `parent` points, and the module path it gets.
    fn place(&self, parent: &str, module: &[String], child: &Child) -> (String, Vec<String>) {
        let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
        let mut inside = folder.to_owned();
        if !matches!(file, "lib.rs" | "main.rs" | "mod.rs") {
            inside = parent.trim_end_matches(".rs").to_owned();
        }
        for name in &child.scope {
            inside = format!("{inside}/{name}");
        }
        let path = if let Some(path) = &child.path {
            format!("{}/{path}", if child.scope.is_empty() { folder } else { &inside })
        } else {
            let flat = format!("{inside}/{}.rs", child.name);
            let nested = format!("{inside}/{}/mod.rs", child.name);
            if self.0.contains_key(&nested) { nested } else { flat }
        };
        let mut path_of_child = module.to_vec();
        path_of_child.extend(child.scope.iter().cloned());
        path_of_child.push(child.name.clone());
        (path, path_of_child)
    }

    fn engine(&self) -> Vec<Compiled<'_>> {
        self.compiled("engine/src/lib.rs")
    }
}

/// `path` from the crate's root, if it begins with `crate`, `self` or `super`.
fn resolve(module: &[String], path: &Path) -> Option<Vec<String>> {
    let mut place: Vec<String> = module.iter().chain(&path.scope).cloned().collect();
    let mut rest = path.segments.as_slice();
    match rest.first()?.as_str() {
        "crate" => place.clear(),
        "self" => {}
        "super" => {
            place.pop();
        }
        _ => return None,
    }
    rest = &rest[1..];
    while rest.first().is_some_and(|segment| segment == "super") {
        place.pop();
        rest = &rest[1..];
    }
    place.extend(rest.iter().cloned());
    Some(place)
}

/// The room that owns a path: the longest entry of the tables that begins it.
fn room(path: &[String]) -> Option<&'static str> {
    let path = path.join("::");
    let begins = |room: &&str| path == **room || path.starts_with(&format!("{room}::"));
    let rooms = ARROWS.iter().map(|(room, _)| *room).chain(LEAVES.iter().copied());
    rooms.filter(begins).max_by_key(|room| room.len())
}

fn starts_with_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

// ---- The checks --------------------------------------------------------------------------

fn arrows(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.engine() {
        if file.module.is_empty() {
            continue; // lib.rs shows users names from everywhere
        }
        let Some(from) = room(&file.module) else {
            complaints.push(format!("{}: belongs to no room of ARROWS", file.name));
            continue;
        };
        let allowed = ARROWS.iter().find(|(room, _)| *room == from).map_or(&[][..], |row| row.1);
        for path in &file.source.paths {
            let Some(target) = resolve(&file.module, path) else { continue };
            let to = room(&target).unwrap_or("the crate's root");
            let below = |room: &&str| to == *room || to.starts_with(&format!("{room}::"));
            if to != from && !LEAVES.contains(&to) && !allowed.iter().any(below) {
                complaints.push(format!(
                    "{}:{}: {from} may not import {to} ({})",
                    file.name,
                    path.line,
                    path.segments.join("::")
                ));
            }
        }
    }
    complaints
}

/// The packages around the engine know it by its name only. The one outside the workspace, which
/// has nothing to inherit the name from, says where it is.
fn neighbours(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, file) in tree.below("loadgen/").chain(tree.below("bench/")) {
        if name.ends_with("Cargo.toml") {
            for (line, text) in numbered(&file.text) {
                let names_engine = name == PEERS && text == PEERS_ENGINE;
                let leaves = text.contains("path") && text.contains("..") && !names_engine;
                if leaves || text.starts_with("raet-") {
                    complaints.push(format!("{name}:{line}: may depend on raet only ({text})"));
                }
            }
            continue;
        }
        for child in &file.source.children {
            if let Some(path) = child.path.as_ref().filter(|path| path.contains("..")) {
                complaints.push(format!("{name}: mod {} leaves its package ({path})", child.name));
            }
        }
        for (called, token) in file.source.macros() {
            if called == "include" {
                complaints.push(format!("{name}:{}: includes source text", token.line));
            }
        }
        for path in file.source.paths.iter().filter(|_| name.starts_with("loadgen/")) {
            let [package, entered @ ..] = path.segments.as_slice() else { continue };
            if let Some(room) = room(entered).filter(|_| package == "raet")
                && !LOADGEN_ENTERS.contains(&room)
            {
                complaints.push(format!("{name}:{}: enters raet by {room}", path.line));
            }
        }
    }
    complaints
}

fn clocks(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.engine() {
        if starts_with_any(file.name, CLOCKS) {
            continue;
        }
        for path in &file.source.paths {
            let names: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let clock = match names.as_slice() {
                ["std", "time"] | ["libc", "clock_gettime"] => true,
                ["std", "time", name, ..] => {
                    ["*", "Instant", "SystemTime", "UNIX_EPOCH"].contains(name)
                }
                _ => false,
            };
            let excused = (file.test || path.test) && starts_with_any(file.name, CLOCKS_IN_TESTS);
            if clock && !excused {
                let path_text = names.join("::");
                complaints.push(format!(
                    "{}:{}: only drivers read a clock ({path_text})",
                    file.name, path.line
                ));
            }
        }
    }
    complaints
}

fn macros(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, file) in tree.below("engine/src/") {
        for (called, token) in file.source.macros() {
            // A test says aloud what it skips.
            let forbidden = match called {
                "dbg" | "todo" | "unimplemented" => true,
                "print" | "println" => !token.test,
                _ => false,
            };
            if forbidden {
                complaints.push(format!("{name}:{}: {called}! is left over", token.line));
            }
        }
    }
    complaints
}

fn dead_files(tree: &Tree) -> Vec<String> {
    let roots = [
        ("engine/src/", "engine/src/lib.rs"),
        ("bench/peers/src/", "bench/peers/src/main.rs"),
        ("bench/src/", "bench/src/lib.rs"),
        ("loadgen/src/", "loadgen/src/main.rs"),
    ];
    let mut complaints = Vec::new();
    for (folder, root) in roots {
        let mut live: BTreeSet<&str> = tree.compiled(root).iter().map(|file| file.name).collect();
        // A package may have a library beside its binary, and more binaries.
        let more = [format!("{folder}lib.rs"), format!("{folder}main.rs")];
        let programs = tree.below(folder).map(|(name, _)| name.to_owned());
        let programs = programs.filter(|name| name.starts_with(&format!("{folder}bin/")));
        for root in programs.chain(more) {
            live.extend(tree.compiled(&root).iter().map(|file| file.name));
        }
        for (name, _) in tree.below(folder) {
            if name.ends_with(".rs") && !live.contains(name) {
                complaints.push(format!("{name}: no mod line leads here"));
            }
        }
    }
    complaints
}

fn unsafe_code(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, file) in tree.below("engine/src/") {
        if starts_with_any(name, UNSAFE) {
            continue;
        }
        for token in &file.source.tokens {
            if token.word() == Some("unsafe") {
                complaints.push(format!("{name}:{}: unsafe code has no place here", token.line));
            }
        }
    }
    complaints
}

/// Every bound bounds something: it is read outside `limits.rs`, or another that is read there
/// is made from it.
fn limits(tree: &Tree) -> Vec<String> {
    const HOME: &str = "engine/src/limits.rs";
    let Some(home) = tree.0.get(HOME) else { return vec![format!("{HOME}: is missing")] };
    let words = |source: &Source| -> BTreeSet<String> {
        source.tokens.iter().filter_map(|token| token.word().map(str::to_owned)).collect()
    };
    let mut used: BTreeSet<String> = BTreeSet::new();
    for (name, file) in tree.below("engine/src/") {
        if name != HOME {
            used.extend(words(&file.source));
        }
    }
    // Each constant or function with the words of its definition: those up to the next one.
    let mut items: Vec<(&str, Vec<&str>)> = Vec::new();
    let words: Vec<&str> = home.source.tokens.iter().filter_map(source::Token::word).collect();
    for pair in words.windows(2) {
        match (pair[0], items.last_mut()) {
            ("const" | "fn", _) if pair[1] != "fn" => items.push((pair[1], Vec::new())),
            (_, Some((_, made_from))) => made_from.push(pair[1]),
            _ => {}
        }
    }
    items.retain(|(name, _)| *name != "_");
    // An item may stand before or after those it is made from.
    for _ in 0..items.len() {
        for (name, made_from) in &items {
            if used.contains(*name) {
                used.extend(made_from.iter().map(|word| (*word).to_owned()));
            }
        }
    }
    let unused = items.iter().filter(|(name, _)| !used.contains(*name));
    unused.map(|(name, _)| format!("{HOME}: {name} bounds nothing")).collect()
}

/// Rules of the protocol document: `**2.3**` at the start of a paragraph or list item.
fn rules_in(text: &str) -> Vec<(usize, String)> {
    let mut rules = Vec::new();
    for (line, text) in numbered(text) {
        let text = text.trim_start();
        let text = text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")).unwrap_or(text);
        if let Some((number, _)) = text.strip_prefix("**").and_then(|rest| rest.split_once("**"))
            && is_rule_number(number)
        {
            rules.push((line, number.to_owned()));
        }
    }
    rules
}

/// `2.3`, and deeper; not `2` and not `2.`.
fn is_rule_number(text: &str) -> bool {
    let mut parts = 0;
    for part in text.split('.') {
        parts += 1;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
    }
    parts >= 2
}

/// The numbers after `PROTOCOL` in a comment: `PROTOCOL 2.3`, `PROTOCOL 2.3, 2.4 and 2.7`,
/// `PROTOCOL 2.3 to 2.7`.
fn citations(comment: &str) -> Vec<String> {
    let mut cited: Vec<String> = Vec::new();
    for after in comment.split("PROTOCOL ").skip(1) {
        let mut range = false;
        for word in after.split_whitespace() {
            let number = word.trim_matches(|c: char| !c.is_ascii_digit());
            if is_rule_number(number) {
                let from = cited.last().filter(|_| range).cloned();
                cited.extend(from.iter().flat_map(|from| between(from, number)));
                cited.push(number.to_owned());
            } else if !["and", "to"].contains(&word) {
                break;
            }
            range = word == "to";
            // The list goes on after a comma or an `and`; a full stop or a bracket ends it.
            if word.ends_with(['.', ')', ':', ';']) {
                break;
            }
        }
    }
    cited
}

/// The rules after `from` and before `to` of one section.
fn between(from: &str, to: &str) -> Vec<String> {
    let last = |rule: &str| {
        let (section, number) = rule.rsplit_once('.')?;
        Some((section.to_owned(), number.parse::<u32>().ok()?))
    };
    match (last(from), last(to)) {
        (Some((section, first)), Some((same, end))) if section == same => {
            (first + 1..end).map(|number| format!("{section}.{number}")).collect()
        }
        _ => Vec::new(),
    }
}

/// Every numbered rule has a test that cites it, and every citation a rule.
fn rules(tree: &Tree) -> Vec<String> {
    const DOCUMENT: &str = "docs/PROTOCOL.md";
    let Some(document) = tree.0.get(DOCUMENT) else { return Vec::new() };
    let mut complaints = Vec::new();
    let mut rules = BTreeMap::new();
    for (line, rule) in rules_in(&document.text) {
        if let Some(first) = rules.insert(rule.clone(), line) {
            complaints.push(format!("{DOCUMENT}:{line}: {rule} is also the rule of line {first}"));
        }
    }
    let test_files: BTreeSet<&str> =
        tree.engine().iter().filter(|file| file.test).map(|file| file.name).collect();
    let mut tested = BTreeSet::new();
    for (name, file) in tree.below("engine/") {
        if name.starts_with("engine/tests/tidy/") {
            continue; // its citations are examples
        }
        let test_file =
            starts_with_any(name, &["engine/tests/", "engine/fuzz/"]) || test_files.contains(name);
        for comment in &file.source.comments {
            for cited in citations(&comment.text) {
                if !rules.contains_key(&cited) {
                    let line = comment.line;
                    complaints.push(format!("{name}:{line}: there is no rule {cited}"));
                }
                if test_file || comment.test {
                    tested.insert(cited);
                }
            }
        }
    }
    for (rule, line) in &rules {
        if !tested.contains(rule) {
            complaints.push(format!("{DOCUMENT}:{line}: no test cites PROTOCOL {rule}"));
        }
    }
    complaints
}

fn file_sizes(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, file) in &tree.0 {
        let lines = file.text.lines().count();
        let excused = LONG_FILES.iter().any(|(long, _)| long == name);
        if name.ends_with(".rs") && lines > FILE_LINES_MAX && !excused {
            complaints.push(format!("{name}: {lines} lines, of at most {FILE_LINES_MAX}"));
        }
    }
    for (long, _) in LONG_FILES {
        let lines = tree.0.get(*long).map_or(0, |file| file.text.lines().count());
        if lines <= FILE_LINES_MAX && tree.0.contains_key("engine/src/lib.rs") {
            complaints.push(format!("{long}: needs no place in LONG_FILES"));
        }
    }
    complaints
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

// ---- The real tree -----------------------------------------------------------------------

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn rooms_import_along_the_arrows() {
    assert_none(&arrows(&Tree::checkout()));
}

#[test]
fn neighbours_know_raet_by_name_only() {
    assert_none(&neighbours(&Tree::checkout()));
}

#[test]
fn only_drivers_read_clocks() {
    assert_none(&clocks(&Tree::checkout()));
}

#[test]
fn no_macro_is_left_over() {
    assert_none(&macros(&Tree::checkout()));
}

#[test]
fn no_file_is_dead() {
    assert_none(&dead_files(&Tree::checkout()));
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    assert_none(&unsafe_code(&Tree::checkout()));
}

#[test]
fn every_limit_bounds_something() {
    let tree = Tree::checkout();
    let exists = |room: &str| {
        let path = format!("engine/src/{}", room.replace("::", "/"));
        tree.0.contains_key(&format!("{path}.rs")) || tree.0.contains_key(&format!("{path}/mod.rs"))
    };
    let missing: Vec<&str> =
        ARROWS.iter().map(|(room, _)| *room).filter(|room| !exists(room)).collect();
    if missing.is_empty() {
        assert_none(&limits(&tree));
    } else {
        println!("SKIPPED every_limit_bounds_something: not built yet: {}", missing.join(", "));
    }
}

#[test]
fn every_rule_is_tested_and_every_citation_has_a_rule() {
    let tree = Tree::checkout();
    if tree.0.contains_key("docs/PROTOCOL.md") {
        assert_none(&rules(&tree));
    } else {
        println!("SKIPPED every_rule_is_tested: there is no docs/PROTOCOL.md yet");
    }
}

#[test]
fn no_file_is_too_long() {
    assert_none(&file_sizes(&Tree::checkout()));
}

// ---- False trees: each check can fail -----------------------------------------------------

mod false_trees;
