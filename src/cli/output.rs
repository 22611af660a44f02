//! The output of a command: results to standard output, progress and errors to standard error.
//!
//! **Invariant:** text from the server or the file system sends no control sequence to the terminal and hides no
//! character: [`escape`] is applied to every line, every label of a bar and all JSON.

use std::{
    fmt,
    io::{self, BufWriter, Write},
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;

use crate::cli::escape;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Lines for people.
    Lines,
    /// One JSON object per line.
    Json,
}

/// The two output streams of a command, and the style of its results.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    notes: Stderr,
    style: Style,
}

/// Standard error, with the progress bars on it. Clones share the stream, so that callbacks of running work can write
/// lines too.
#[derive(Clone)]
pub(super) struct Stderr {
    err: Arc<Mutex<Box<dyn Write + Send>>>,
    bars: Option<MultiProgress>,
}

impl Stderr {
    fn new(err: Box<dyn Write + Send>, bars: Option<MultiProgress>) -> Self {
        Self { err: Arc::new(Mutex::new(err)), bars }
    }

    /// Writes a line, above the bars if there are any. A write error is ignored, because no other stream is left to
    /// report it on.
    pub(super) fn say(&self, line: impl fmt::Display) {
        let line = escape::line(&line.to_string());
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.bars {
            Some(bars) => bars.suspend(|| writeln!(err, "{line}")).ok(),
            None => writeln!(err, "{line}").ok(),
        };
    }
}

impl Output {
    /// Writes to the process's own streams, with bars if standard error is a terminal.
    pub(super) fn standard(style: Style) -> Self {
        let bars = MultiProgress::new();
        Self {
            out: Box::new(BufWriter::new(io::stdout())),
            notes: Stderr::new(
                Box::new(io::stderr()),
                (style == Style::Lines && !bars.is_hidden()).then_some(bars),
            ),
            style,
        }
    }

    /// Whether results are JSON.
    pub(super) fn is_json(&self) -> bool {
        self.style == Style::Json
    }

    /// A new bar; `None` for JSON, or if standard error is no terminal.
    pub(super) fn bar(&self) -> Option<ProgressBar> {
        self.notes.bars.as_ref().map(|bars| bars.add(ProgressBar::no_length()))
    }

    /// Removes a bar.
    pub(super) fn remove_bar(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        if let Some(bars) = &self.notes.bars {
            bars.remove(bar);
        }
    }

    /// Writes one result, as JSON or as a line for people, for a command that only shows something.
    ///
    /// # Errors
    /// The error of the stream; `BrokenPipe` if its reader has closed it.
    pub(super) fn print(
        &mut self,
        value: &impl Serialize,
        line: impl fmt::Display,
    ) -> io::Result<()> {
        let Self { out, style, notes } = self;
        let mut write = || {
            if *style == Style::Json {
                writeln!(out, "{}", escape::json(&serde_json::to_string(value)?))
            } else {
                writeln!(out, "{}", escape::line(&line.to_string()))
            }
        };
        let Some(bars) = &notes.bars else { return write() };
        bars.suspend(write)?;
        // A buffered line that is written later would overwrite the bars.
        bars.suspend(|| out.flush())
    }

    /// Flushes buffered results.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes and flushes one result, for a command that changes something: it continues after `BrokenPipe`.
    pub(super) fn print_and_flush(
        &mut self,
        value: &impl Serialize,
        line: impl fmt::Display,
    ) -> io::Result<()> {
        match self.print(value, line).and_then(|()| self.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed,
        }
    }

    /// Writes a line to standard error, as [`Stderr::say`] does.
    pub(super) fn note(&mut self, line: impl fmt::Display) {
        self.notes.say(line);
    }

    /// Standard error, for a callback of running work.
    pub(super) fn notes(&self) -> Stderr {
        self.notes.clone()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("style", &self.style)
            .field("bars", &self.notes.bars.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An output stream that keeps its bytes for the test to read.
    #[derive(Clone, Default)]
    pub(in crate::cli) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(in crate::cli) fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            String::from_utf8(bytes).expect("UTF-8")
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output without a terminal, and the two streams that it writes to: standard output and standard error.
    pub(in crate::cli) fn output(style: Style) -> (Output, Sink, Sink) {
        let (out, err) = (Sink::default(), Sink::default());
        let notes = Stderr::new(Box::new(err.clone()), None);
        let output = Output { out: Box::new(out.clone()), notes, style };
        (output, out, err)
    }

    /// A pipe whose reader has closed it.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_is_a_line_or_an_object() {
        for (style, expected) in [(Style::Lines, "one: 1\n"), (Style::Json, "{\"one\":1}\n")] {
            let (mut output, out, err) = output(style);
            output
                .print(&serde_json::json!({ "one": 1 }), format_args!("one: {}", 1))
                .expect("out");
            assert_eq!((out.text().as_str(), err.text().as_str()), (expected, ""));
        }
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let (mut lines, _, err) = output(Style::Lines);
        lines.note("a\u{1b}[2Jb\nc\u{9b}\u{202e}");
        assert_eq!(err.text(), "a\\u{1b}[2Jb\\u{a}c\\u{9b}\\u{202e}\n");
        let (mut json, out, _) = output(Style::Json);
        let name = serde_json::json!({ "name": "a\u{9b}\u{202e}" });
        json.print(&name, "").expect("out");
        assert_eq!(out.text(), "{\"name\":\"a\\u009b\\u202e\"}\n");
    }

    #[test]
    fn work_goes_on_when_nobody_reads() {
        let mut output = Output {
            out: Box::new(Closed),
            notes: Stderr::new(Box::new(Closed), None),
            style: Style::Lines,
        };
        assert!(output.print(&(), "x").is_err());
        assert!(output.print_and_flush(&(), "x").is_ok());
        output.note("x");
    }
}
