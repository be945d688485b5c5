//! Instruction counts from a profile of valgrind's callgrind.
//!
//! Only the engine's own instructions count, with what it inlines of the standard library: not
//! those of the C library, nor those of dependencies, which are written once for every set of
//! vector instructions. So a count is the same on every x86-64 machine with the same compiler,
//! and a session may be sealed as sessions are.

use std::collections::HashMap;

/// Beginnings of names of functions that do not count, also where they have inlined others.
const OTHERS: [&str; 4] = ["ring::", "crc32c::", "memchr::", "blake3::"];
/// In the path of each source file of a dependency.
const DEPENDENCIES: &str = "/registry/src/";

/// Instructions of a profile that are our own, and of those that are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Instructions {
    /// Of the engine.
    pub own: u64,
    /// Of the cipher, other dependencies and the C library.
    pub others: u64,
}

/// Counts the instructions in the text of a profile of the program whose file is `object`.
///
/// # Errors
/// One sentence: what is not as callgrind writes it.
pub fn count(profile: &str, object: &str) -> Result<Instructions, String> {
    let mut names = Names::default();
    let (mut in_object, mut in_own_file, mut in_own_function) = (false, false, false);
    let mut is_call = false;
    let mut sum = Instructions::default();
    for line in profile.lines() {
        let first = line.bytes().next().unwrap_or(b'#');
        if let Some(name) = line.strip_prefix("ob=") {
            in_object = names.objects.of(name)?.ends_with(object);
        } else if let Some(name) = line.strip_prefix("fn=") {
            in_own_function = is_own(names.functions.of(name)?);
        } else if let Some(name) = strip_any(line, ["fl=", "fi=", "fe="]) {
            in_own_file = !names.files.of(name)?.contains(DEPENDENCIES);
        } else if let Some(name) = strip_any(line, ["cfl=", "cfi="]) {
            names.files.of(name)?;
        } else if let Some(name) = line.strip_prefix("cob=") {
            names.objects.of(name)?;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            names.functions.of(name)?;
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'*') {
            // What a call cost stands in the called function, too.
            if std::mem::take(&mut is_call) {
                continue;
            }
            let cost = line.split(' ').nth(1).unwrap_or("0");
            let cost: u64 = cost.parse().map_err(|_| format!("no count in '{line}'"))?;
            let counter = if in_object && in_own_file && in_own_function {
                &mut sum.own
            } else {
                &mut sum.others
            };
            *counter += cost;
        }
    }
    if sum.own == 0 {
        return Err(format!("the profile has nothing of {object}"));
    }
    Ok(sum)
}

fn strip_any<'a, const N: usize>(line: &'a str, prefixes: [&str; N]) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| line.strip_prefix(prefix))
}

/// Whether a function, as `<type as trait>::name` or `path::name`, is none of the [`OTHERS`].
fn is_own(function: &str) -> bool {
    let path = function.trim_start_matches(['<', '&']);
    !OTHERS.iter().any(|other| path.starts_with(other))
}

/// Names that stand in full where they come first, and as their number after that.
#[derive(Default)]
struct Names<'a> {
    files: Table<'a>,
    objects: Table<'a>,
    functions: Table<'a>,
}

#[derive(Default)]
struct Table<'a>(HashMap<&'a str, &'a str>);

impl<'a> Table<'a> {
    fn of(&mut self, text: &'a str) -> Result<&'a str, String> {
        let Some((number, name)) = text.split_once(')') else { return Ok(text) };
        let name = name.trim_start();
        if !name.is_empty() {
            self.0.insert(number, name);
        }
        self.0.get(number).copied().ok_or_else(|| format!("{text} was never named"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
version: 1
positions: line
events: Ir
summary: 175

ob=(1) target/hot_paths
fl=(1) engine/src/lib.rs
fn=(1) raet::protocol::send
12 100
+3 20
fi=(2) core.rs
* 5
fe=(1)
cob=(2) /lib/libc.so.6
cfn=(2) memcpy
calls=1 0
-2 30
cob=(1)
cfn=(3) <ring::aead::Key as Seal>::seal
calls=1 7
14 11

fn=(3)
8 11

fl=(4) home/.cargo/registry/src/ring/aes.S
fn=(4) _aesni_ctr32_6x
1 9

ob=(2)
fl=(3) memcpy.S
fn=(2)
1 30

totals: 175
";

    #[test]
    fn only_the_program_s_own_functions_count_and_calls_not_twice() {
        let counted = count(PROFILE, "/hot_paths").unwrap();
        assert_eq!(counted, Instructions { own: 125, others: 50 });
    }

    #[test]
    fn a_profile_of_something_else_is_refused() {
        assert!(count(PROFILE, "/other").is_err());
        assert!(count("fn=(9)\n", "/hot_paths").is_err());
    }
}
