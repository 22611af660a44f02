//! Fails a test for each warning and error in the log that it has not declared: operators are to read
//! them, so none may come without need.
//!
//! A test runs on a thread of its own, and so do nearly all tasks of its server. What is logged on another
//! thread, such as those of the database, cannot be told apart by tests that run at once. Where all tests
//! look at the log, whoever looks next fails for it, unless any test has declared it.

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

/// What threads of a database say whose folder is gone: a server that is dropped ends as if killed.
const GONE: &str = "No such file or directory";

/// What a server says on a machine that has other work to do.
const SLOW: [&str; 2] = [
    "the server is not ready, because its database does not answer",
    "the store did not close in time",
];

/// What is logged on threads that belong to no test.
static STRAY: Lines = Lines::new();

thread_local! {
    static OWN: RefCell<Option<Arc<Lines>>> = const { RefCell::new(None) };
}

/// Lines, and what some of them are expected to have in them.
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

    /// Takes out what nobody expects.
    fn surprises(&self) -> Vec<String> {
        let (lines, expected) = &mut *self.lock();
        let is_expected = |line: &str| expected.iter().any(|text| line.contains(text));
        lines.drain(..).filter(|line| !is_expected(line)).collect()
    }
}

/// The log of a test. When it is dropped, what was not expected fails the test.
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

    /// The same with what is logged on threads that belong to no test.
    pub(crate) fn of_all() -> Self {
        let mut log = Self::of_test();
        log.has_stray = true;
        log
    }

    /// Declares warnings and errors with a text in them, those before this as well.
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

/// Keeps warnings and errors.
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
        // A thread that ends has no own any more.
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
