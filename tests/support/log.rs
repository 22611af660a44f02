//! Fails a test that logs a warning or error which it has not declared. Operators read warnings and errors, so the
//! server must not log any without need.
//!
//! Each test, with nearly all tasks of its server, runs on a thread of its own, which identifies the test of a log
//! line. Lines from other threads, such as those of the database, are stray: they cannot be assigned to one of the
//! parallel tests. A stray line that no test has declared fails the next test that ends with a log of [`Log::of_all`].

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// The error of database threads whose folder was deleted: a server that a test drops ends as if it were killed.
const GONE: &str = "No such file or directory";

/// Lines that a server logs on an overloaded machine; they are always allowed.
const SLOW: [&str; 2] = [
    "the server is not ready, because its database does not answer",
    "the store did not close in time",
];

/// The lines of threads that belong to no test.
static STRAY: Lines = Lines::new();

thread_local! {
    static OWN: RefCell<Option<Arc<Lines>>> = const { RefCell::new(None) };
}

/// Log lines, and the declared texts: a line that contains one of them is expected.
#[derive(Debug)]
struct Lines(Mutex<(Vec<String>, Vec<&'static str>)>);

impl Lines {
    const fn new() -> Self {
        Self(Mutex::new((Vec::new(), Vec::new())))
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<String>, Vec<&'static str>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: String) {
        self.lock().0.push(line);
    }

    fn expect(&self, text: &'static str) {
        self.lock().1.push(text);
    }

    /// Removes all lines, and returns those that are not expected.
    fn surprises(&self) -> Vec<String> {
        let (lines, expected) = &mut *self.lock();
        let is_expected = |line: &str| expected.iter().any(|text| line.contains(text));
        lines.drain(..).filter(|line| !is_expected(line)).collect()
    }
}

/// The log of a test. Dropping it fails the test if there are unexpected lines.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Arc<Lines>,
    has_stray: bool,
}

impl Log {
    /// The log of the test that runs on this thread.
    pub(crate) fn of_test() -> Self {
        static COLLECTED: Once = Once::new();
        COLLECTED.call_once(|| {
            tracing::subscriber::set_global_default(Collector).expect("no other subscriber");
        });
        let lines = OWN
            .with_borrow_mut(|own| Arc::clone(own.get_or_insert_with(|| Arc::new(Lines::new()))));
        Self { lines, has_stray: false }
    }

    /// The log of the test that runs on this thread, together with the stray lines.
    pub(crate) fn of_all() -> Self {
        let mut log = Self::of_test();
        log.has_stray = true;
        log
    }

    /// Declares warnings and errors that contain `text`, including those logged before this call.
    pub(crate) fn expect(&self, text: &'static str) {
        self.lines.expect(text);
        STRAY.expect(text);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut surprises = if self.has_stray { STRAY.surprises() } else { Vec::new() };
        surprises.retain(|line| !line.contains(GONE));
        surprises.extend(self.lines.surprises());
        surprises.retain(|line| !SLOW.iter().any(|text| line.contains(text)));
        if !thread::panicking() {
            assert!(surprises.is_empty(), "no test expects this:\n{}", surprises.join("\n"));
        }
    }
}

/// The `tracing` subscriber, which keeps warnings and errors.
struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} {}:", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        // On a thread that ends, the thread-local value may be destroyed already.
        let own = OWN.try_with(|own| own.borrow().clone()).ok().flatten();
        own.as_deref().unwrap_or(&STRAY).add(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// An event as text.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").expect("a string takes all");
    }
}
