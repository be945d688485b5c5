//! Bakes into the binary what a report must name and the running program cannot find out: the
//! commit and the compiler.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-env=LOADGEN_COMMIT={}", commit());
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = answer(&compiler, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=LOADGEN_RUSTC={version}");
    // `HEAD` and the branch it names change with every commit.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = answer("git", &["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

fn commit() -> String {
    let Some(commit) = answer("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changes = answer("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changes.is_some_and(|changes| !changes.is_empty()) {
        format!("{commit}-dirty")
    } else {
        commit
    }
}

fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
