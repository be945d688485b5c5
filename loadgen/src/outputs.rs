//! Where the results go.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::RunOptions;
use crate::engine::Trouble;
use crate::report::Report;
use crate::{hgrm, plot};

/// Files that the results go to, opened before the run so that a bad path does not cost one.
pub(crate) struct Outputs {
    json: Option<Sink>,
    hgrm: Option<Sink>,
    plot: Option<Sink>,
}

enum Sink {
    File(File),
    Stdout,
}

impl Outputs {
    /// Opens what the options name.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn open(options: &RunOptions) -> Result<Self, Trouble> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Sink::open).transpose();
        Ok(Self {
            json: open(&options.json)?,
            hgrm: open(&options.hgrm)?,
            plot: open(&options.plot)?,
        })
    }

    /// Shows text to people: on stdout, unless the JSON goes there.
    pub(crate) fn tell(&self, text: &str) {
        if matches!(self.json, Some(Sink::Stdout)) {
            eprint!("{text}");
        } else {
            // A reader that went away must not turn a good run into a bad one.
            let _ = write!(std::io::stdout(), "{text}");
        }
    }

    /// Writes the files that were asked for.
    ///
    /// # Errors
    /// One that cannot be written after all.
    pub(crate) fn write_files(self, report: &Report) -> Result<(), Trouble> {
        if let Some(sink) = self.hgrm {
            sink.write(&hgrm::render(&report.latency))?;
        }
        if let Some(sink) = self.plot {
            sink.write(&plot::render(&report.latency, &report.title, &report.subtitle()))?;
        }
        Self { hgrm: None, plot: None, ..self }.write_json(&report.to_json())
    }

    /// Writes the JSON alone, if it was asked for.
    ///
    /// # Errors
    /// It cannot be written after all.
    pub(crate) fn write_json(self, json: &Value) -> Result<(), Trouble> {
        self.json.map_or(Ok(()), |sink| sink.write(&format!("{json:#}\n")))
    }
}

impl Sink {
    fn open(path: &Path) -> Result<Self, Trouble> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        File::create(path).map(Self::File).map_err(|error| {
            let path = path.display();
            Trouble::Arguments(format!("cannot write {path}: {error}; name a writable file"))
        })
    }

    fn write(self, text: &str) -> Result<(), Trouble> {
        let written = match self {
            Self::File(mut file) => file.write_all(text.as_bytes()),
            Self::Stdout => std::io::stdout().write_all(text.as_bytes()),
        };
        written.map_err(|error| Trouble::Running(format!("cannot write the results: {error}")))
    }
}
