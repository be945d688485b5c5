//! Where a figure was measured: without it a figure cannot be compared with another.

use std::fs;

use serde_json::{Value, json};

/// The machine and the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Environment {
    /// Release of the running kernel.
    pub(crate) kernel: String,
    /// Model of the first core.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Those cores by number, as the kernel lists them.
    pub(crate) cores_allowed: String,
    /// Bytes of main memory.
    pub(crate) memory_bytes: u64,
    /// What the program was built from.
    pub(crate) commit: &'static str,
    /// What it was built with.
    pub(crate) compiler: &'static str,
    /// Whether it was built without optimisation.
    pub(crate) debug_build: bool,
}

impl Environment {
    /// Looks around. What the machine does not tell is `unknown` or 0.
    pub(crate) fn read() -> Self {
        Self {
            kernel: line_of("/proc/sys/kernel/osrelease"),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cores_allowed: field("/proc/self/status", "Cpus_allowed_list").unwrap_or_else(unknown),
            memory_bytes: field("/proc/meminfo", "MemTotal").and_then(bytes_of).unwrap_or(0),
            commit: env!("LOADGEN_COMMIT"),
            compiler: env!("LOADGEN_RUSTC"),
            debug_build: cfg!(debug_assertions),
        }
    }

    /// As part of the report.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cores": self.cores,
            "cores_allowed": self.cores_allowed,
            "memory_bytes": self.memory_bytes,
            "commit": self.commit,
            "compiler": self.compiler,
            "debug_build": self.debug_build,
        })
    }
}

/// Which boot of which machine this is: two processes with the same answer share one clock.
pub(crate) fn boot() -> String {
    line_of("/proc/sys/kernel/random/boot_id")
}

/// The most memory this process has held at once, in bytes; 0 if the machine does not tell.
pub(crate) fn resident_bytes_max() -> u64 {
    field("/proc/self/status", "VmHWM").and_then(bytes_of).unwrap_or(0)
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

/// The value of the first `name: value` line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    field_in(&fs::read_to_string(path).ok()?, name)
}

fn field_in(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// `123 kB` as bytes.
fn bytes_of(text: String) -> Option<u64> {
    let kibibytes: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "VmHWMx: 1 kB\nVmHWM:\t  5120 kB\n";
        assert_eq!(field_in(text, "VmHWM").and_then(bytes_of), Some(5_242_880));
        assert_eq!(field_in(text, "Vm"), None);
    }

    #[test]
    fn this_machine_answers() {
        let environment = Environment::read();
        assert!(environment.cores > 0);
        assert_ne!(environment.kernel, "");
        assert!(resident_bytes_max() > 0);
        assert_eq!(boot(), boot());
    }
}
