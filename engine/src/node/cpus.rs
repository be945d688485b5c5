//! Which cores a node may use, which it prefers, and how a thread is tied to one.
//!
//! A shard is a thread that never wants to move: its caches, its rings and its buffers are warm on
//! one core. So an operator names cores (`--cpus 0-3,8`) or we choose. Two facts limit the choice.
//! The system may allow us only some cores (a container, `taskset`, a cpuset), and a core outside
//! that set is refused by name before any thread starts. And logical CPUs are not equal: two that
//! share a physical core share its execution units, so the default order takes one of each
//! physical core before it takes any core's second thread, and fills one memory node before the
//! next.

use core::fmt;
use std::fs;

use core_affinity::CoreId;

use crate::limits::CPUS_MAX;

/// Reads a list of logical CPUs in the syntax of `taskset -c` and of the kernel: numbers and
/// inclusive ranges, separated by commas (`0-3,8`). The order is kept: shard 0 runs on the first.
///
/// # Errors
/// [`CpuListError`] if the text is not such a list, names a CPU twice, or names one of number
/// [`CPUS_MAX`] or above.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (first, last) = match item.split_once('-') {
            Some((first, last)) => (cpu_number(first)?, cpu_number(last)?),
            None => (cpu_number(item)?, cpu_number(item)?),
        };
        if first > last {
            return Err(CpuListError::Backwards { first, last });
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(CpuListError::Twice(cpu));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

fn cpu_number(text: &str) -> Result<usize, CpuListError> {
    // `usize::from_str` alone would accept a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CpuListError::NotANumber);
    }
    match text.parse() {
        Ok(cpu) if cpu < CPUS_MAX => Ok(cpu),
        _ => Err(CpuListError::TooLarge),
    }
}

/// Why a text is not a list of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuListError {
    /// A range ends before it starts.
    Backwards {
        /// Where the range starts.
        first: usize,
        /// Where it ends, below `first`.
        last: usize,
    },
    /// Something between the commas is neither a number nor a range of numbers.
    NotANumber,
    /// A number is [`CPUS_MAX`] or more.
    TooLarge,
    /// This CPU is named twice: two shards on one core would only slow each other down.
    Twice(usize),
}

impl fmt::Display for CpuListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backwards { first, last } => {
                write!(f, "the range {first}-{last} runs backwards: write {last}-{first}")
            }
            Self::NotANumber => {
                f.write_str("this is no list of cores: write numbers and ranges, as in 0-3,8")
            }
            Self::TooLarge => write!(f, "core numbers end at {}: name lower ones", CPUS_MAX - 1),
            Self::Twice(cpu) => write!(f, "core {cpu} is named twice: name each core once"),
        }
    }
}

impl std::error::Error for CpuListError {}

/// Writes `cpus` in the syntax that [`parse_cpu_list`] reads, ascending runs as ranges. No CPUs
/// give an empty text, which is not a list.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let text = |(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

/// The logical CPUs that the calling thread may run on, ascending; empty if the system does not
/// say. A new thread inherits its creator's set: ask before pinning, not after.
pub fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Checks that the calling thread may run on each of `cpus`.
///
/// # Errors
/// [`CpusNotAllowed`], which names those it may not run on.
pub fn check(cpus: &[usize]) -> Result<(), CpusNotAllowed> {
    check_within(cpus, allowed())
}

fn check_within(cpus: &[usize], allowed: Vec<usize>) -> Result<(), CpusNotAllowed> {
    let wanted: Vec<_> = cpus.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if wanted.is_empty() { Ok(()) } else { Err(CpusNotAllowed { wanted, allowed }) }
}

/// Cores were asked for that this process may not use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpusNotAllowed {
    /// The cores asked for that are outside the set, in the order in which they were asked for.
    pub wanted: Vec<usize>,
    /// The set, ascending; empty if the system does not say.
    pub allowed: Vec<usize>,
}

impl fmt::Display for CpusNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, are) = match self.wanted.len() {
            1 => ("core", "is"),
            _ => ("cores", "are"),
        };
        write!(
            f,
            "{cores} {} {are} not in this process's allowed set {}: choose from it or start the \
             process with a wider set (taskset)",
            format_cpu_list(&self.wanted),
            if self.allowed.is_empty() {
                "(unknown)".into()
            } else {
                format_cpu_list(&self.allowed)
            },
        )
    }
}

impl std::error::Error for CpusNotAllowed {}

/// Ties the calling thread to `cpu` until it is tied to another or ends.
///
/// # Errors
/// [`CpusNotAllowed`] if the system refuses, which it does for a core outside the allowed set,
/// for one that is switched off and for one that does not exist.
pub fn pin_current_thread(cpu: usize) -> Result<(), CpusNotAllowed> {
    // The kernel's set of this size has no bit for a higher number.
    if cpu < CPUS_MAX && core_affinity::set_for_current(CoreId { id: cpu }) {
        return Ok(());
    }
    Err(CpusNotAllowed { wanted: vec![cpu], allowed: allowed() })
}

/// What the system says of one logical CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its number, as in a list of CPUs.
    pub number: usize,
    /// The logical CPUs of its physical core, itself among them, ascending; only itself if the
    /// system does not say.
    pub siblings: Vec<usize>,
    /// The memory node it is next to; 0 if the system does not say.
    pub node: usize,
}

/// The allowed CPUs with what the system says of each, ascending.
pub fn topology() -> Vec<Cpu> {
    allowed().into_iter().map(|number| read_cpu("/sys/devices/system/cpu", number)).collect()
}

/// The allowed CPUs in the order in which shards should take them: one of each physical core
/// first, then the cores' further threads; within that by memory node, then by number.
pub fn default_order() -> Vec<usize> {
    order(&topology())
}

fn read_cpu(system: &str, number: usize) -> Cpu {
    let folder = format!("{system}/cpu{number}");
    let siblings = fs::read_to_string(format!("{folder}/topology/thread_siblings_list"))
        .ok()
        .and_then(|text| parse_cpu_list(text.trim_end()).ok())
        .filter(|siblings| siblings.contains(&number))
        .unwrap_or_else(|| vec![number]);
    Cpu { number, siblings, node: read_node(&folder).unwrap_or(0) }
}

/// The folder of a CPU holds a link `node<N>` to the memory node it belongs to.
fn read_node(folder: &str) -> Option<usize> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

fn order(cpus: &[Cpu]) -> Vec<usize> {
    // A CPU comes in the round given by how many allowed siblings stand before it.
    let round = |cpu: &Cpu| {
        let before =
            |other: &&Cpu| other.number < cpu.number && cpu.siblings.contains(&other.number);
        cpus.iter().filter(before).count()
    };
    let mut keys: Vec<_> = cpus.iter().map(|cpu| (round(cpu), cpu.node, cpu.number)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|(_, _, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::thread;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_keep_their_order_and_name_each_core_once() {
        let cases: &[(&str, Result<&[usize], CpuListError>)] = &[
            ("0", Ok(&[0])),
            ("0-3,8", Ok(&[0, 1, 2, 3, 8])),
            ("8,0-1", Ok(&[8, 0, 1])),
            ("5-5", Ok(&[5])),
            ("1023", Ok(&[1023])),
            ("007", Ok(&[7])),
            ("1024", Err(CpuListError::TooLarge)),
            ("0-99999999999999999999", Err(CpuListError::TooLarge)),
            ("", Err(CpuListError::NotANumber)),
            (",", Err(CpuListError::NotANumber)),
            ("0,", Err(CpuListError::NotANumber)),
            ("-1", Err(CpuListError::NotANumber)),
            ("1-", Err(CpuListError::NotANumber)),
            ("1-2-3", Err(CpuListError::NotANumber)),
            ("+1", Err(CpuListError::NotANumber)),
            ("0, 1", Err(CpuListError::NotANumber)),
            ("٣", Err(CpuListError::NotANumber)),
            ("3-0", Err(CpuListError::Backwards { first: 3, last: 0 })),
            ("0,0", Err(CpuListError::Twice(0))),
            ("0-3,2", Err(CpuListError::Twice(2))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_cpu_list(text).as_deref(), expected.as_ref().copied(), "{text:?}");
        }
    }

    #[test]
    fn core_outside_the_allowed_set_is_an_error_which_names_the_set() {
        assert_eq!(check_within(&[1, 0], vec![0, 1]), Ok(()));
        let one = check_within(&[0, 7], vec![0, 1]).expect_err("7 is outside");
        assert_eq!(
            one.to_string(),
            "core 7 is not in this process's allowed set 0-1: choose from it or start the process \
             with a wider set (taskset)",
        );
        let two = check_within(&[9, 7], vec![0, 2]).expect_err("both are outside");
        assert!(
            two.to_string().starts_with("cores 9,7 are not in this process's allowed set 0,2:")
        );
        let unknown = check_within(&[0], Vec::new()).expect_err("nothing is known to be allowed");
        assert!(unknown.to_string().contains("allowed set (unknown):"));
        assert!(check(&[CPUS_MAX]).is_err());
    }

    #[test]
    fn pinned_thread_may_run_on_its_core_only() {
        let cpu = *allowed().last().expect("this thread runs somewhere");
        let seen = thread::spawn(move || pin_current_thread(cpu).map(|()| allowed()));
        assert_eq!(seen.join().expect("does not panic"), Ok(vec![cpu]));
    }

    #[test]
    fn pinning_to_a_core_that_cannot_exist_is_an_error() {
        for cpu in [CPUS_MAX, usize::MAX] {
            let error = pin_current_thread(cpu).expect_err("no such core");
            assert_eq!(error, CpusNotAllowed { wanted: vec![cpu], allowed: allowed() });
        }
    }

    fn cpu(number: usize, siblings: &[usize], node: usize) -> Cpu {
        Cpu { number, siblings: siblings.to_vec(), node }
    }

    #[test]
    fn physical_cores_come_before_second_threads_and_near_memory_before_far() {
        // Neighbours share a core.
        let neighbours =
            [cpu(0, &[0, 1], 0), cpu(1, &[0, 1], 0), cpu(2, &[2, 3], 0), cpu(3, &[2, 3], 0)];
        assert_eq!(order(&neighbours), [0, 2, 1, 3]);
        // The second half are the second threads, as on most servers.
        let halves =
            [cpu(0, &[0, 2], 0), cpu(1, &[1, 3], 0), cpu(2, &[0, 2], 0), cpu(3, &[1, 3], 0)];
        assert_eq!(order(&halves), [0, 1, 2, 3]);
        // Nodes alternate.
        let nodes = [cpu(0, &[0], 0), cpu(1, &[1], 1), cpu(2, &[2], 0), cpu(3, &[3], 1)];
        assert_eq!(order(&nodes), [0, 2, 1, 3]);
        // A core whose first thread is not allowed counts as a core of its own.
        let partly = [cpu(1, &[0, 1], 0), cpu(2, &[2, 3], 0), cpu(3, &[2, 3], 0)];
        assert_eq!(order(&partly), [1, 2, 3]);
    }

    #[test]
    fn topology_is_read_from_the_system_and_survives_its_absence() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let system = folder.path().to_str().expect("its name is text");
        let topology = format!("{system}/cpu3/topology");
        fs::create_dir_all(&topology).expect("a folder");
        fs::write(format!("{topology}/thread_siblings_list"), "3,7\n").expect("a file");
        symlink("../../node/node1", format!("{system}/cpu3/node1")).expect("a link");
        assert_eq!(read_cpu(system, 3), cpu(3, &[3, 7], 1));
        assert_eq!(read_cpu(system, 4), cpu(4, &[4], 0));
        for nonsense in ["", "x", "4-8"] {
            fs::write(format!("{topology}/thread_siblings_list"), nonsense).expect("a file");
            assert_eq!(read_cpu(system, 3).siblings, [3], "{nonsense:?}");
        }
    }

    #[test]
    fn default_order_holds_exactly_the_allowed_cores() {
        let mut order = default_order();
        order.sort_unstable();
        assert_eq!(order, allowed());
        assert_eq!(check(&order), Ok(()));
    }

    fn any_cpus() -> impl Strategy<Value = Vec<usize>> {
        btree_set(0..CPUS_MAX, 1..50).prop_map(Vec::from_iter).prop_shuffle()
    }

    proptest! {
        #[test]
        fn prop_list_reads_back_what_was_written(cpus in any_cpus()) {
            prop_assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)), Ok(cpus));
        }

        #[test]
        fn prop_no_text_panics(text in "[-0-9, x]{0,20}") {
            if let Ok(cpus) = parse_cpu_list(&text) {
                prop_assert!(!cpus.is_empty() && cpus.len() <= CPUS_MAX);
            }
        }

        #[test]
        fn prop_order_holds_each_core_once_and_physical_ones_first(
            nodes in vec(0_usize..3, 1..40),
            width in 1_usize..4,
        ) {
            let siblings = |number: usize| {
                let first = number / width * width;
                (first..first + width).collect()
            };
            let describe = |(number, node)| Cpu { number, siblings: siblings(number), node };
            let cpus: Vec<_> = (0..).zip(nodes).map(describe).collect();
            let mut numbers = order(&cpus);
            let physical = cpus.len().div_ceil(width);
            prop_assert!(numbers[..physical].iter().all(|number| number % width == 0));
            numbers.sort_unstable();
            prop_assert_eq!(numbers, Vec::from_iter(0..cpus.len()));
        }
    }
}
