//! The display of progress: a bar on a terminal, a line every [`limits::PROGRESS_LINE_EVERY`] elsewhere, and nothing
//! with `--json`, where the JSON lines are the progress.
//!
//! The rate is the mean since the first sample, so that the work done before it does not count. The first line comes
//! one interval after the first sample, so that a short command prints only its result.

use std::{fmt::Write as _, pin::pin};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use tokio::time::{Duration, Instant, interval};

use crate::{
    cli::{
        escape,
        output::Output,
        text::{bytes, files},
    },
    client::{error::Result, transfer::Progress, watch::Watch},
    limits,
    wire::v1::Operation,
};

/// The template of the bar. The most important values come first in the message, which is cut at the terminal's width.
const BAR: &str = "{percent:>3}% [{bar:16}] {wide_msg}";

/// The length of a bar whose totals are not known yet.
const NO_STEPS: u64 = 1;

/// The progress display of one piece of work.
#[derive(Debug)]
pub(super) struct ProgressDisplay {
    label: String,
    first: Option<(Instant, Progress)>,
    last: Option<Progress>,
    /// The time of the last line; before the first line, that of the first sample.
    shown: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl ProgressDisplay {
    /// Creates the display, with a bar on a terminal; `label` says what the work is.
    pub(super) fn new(label: String, output: &Output) -> Self {
        let bar = output.bar().inspect(|bar| {
            if let Ok(style) = ProgressStyle::with_template(BAR) {
                bar.set_style(style.progress_chars("=> "));
            }
        });
        Self { label, first: None, last: None, shown: None, bar }
    }

    /// Shows a sample of the progress, taken at `now`.
    pub(super) fn show(&mut self, progress: Progress, now: Instant, output: &mut Output) {
        self.last = Some(progress);
        let (since, before) = *self.first.get_or_insert((now, progress));
        let shown = *self.shown.get_or_insert(now);
        let pace = pace(progress, before, now.duration_since(since));
        if let Some(bar) = &self.bar {
            let (done, total) = steps(progress);
            bar.set_length(total.max(NO_STEPS));
            bar.set_position(done);
            // `indicatif` does not escape the message.
            bar.set_message(escape::line(&message(progress, &pace, &self.label)));
        } else if !output.is_json() && now.duration_since(shown) >= limits::PROGRESS_LINE_EVERY {
            self.shown = Some(now);
            let pause = if pace.is_empty() { "" } else { ", " };
            output.note(format_args!("{}: {}{pause}{pace}", self.label, counts(progress)));
        }
    }

    /// Shows the last sample again at a later time, so that lines are printed even while there is no new sample.
    pub(super) fn show_again(&mut self, now: Instant, output: &mut Output) {
        if let Some(progress) = self.last {
            self.show(progress, now, output);
        }
    }

    /// Removes the bar.
    pub(super) fn end(&mut self, output: &Output) {
        if let Some(bar) = self.bar.take() {
            output.remove_bar(&bar);
        }
    }
}

/// Waits for the next state of a watch, and meanwhile calls `look` every [`limits::PROGRESS_EVERY`].
pub(super) async fn next(
    watch: &mut Watch,
    mut look: impl FnMut(Instant),
) -> Result<Option<Operation>> {
    let mut ticks = interval(limits::PROGRESS_EVERY);
    // One future for all ticks, because a new one would cut short the backoff before a retry.
    let mut next = pin!(watch.next());
    loop {
        tokio::select! {
            state = &mut next => return state,
            now = ticks.tick() => look(now),
        }
    }
}

/// The progress of an operation; skipped files and bytes count as done.
pub(super) fn of(operation: &Operation) -> Progress {
    Progress {
        files_done: operation.files_done.saturating_add(operation.files_skipped),
        files_total: operation.files_total,
        bytes_done: operation.bytes_done.saturating_add(operation.bytes_skipped),
        bytes_total: operation.bytes_total,
    }
}

/// The position and length of a bar: in bytes, or in files if there are no bytes.
fn steps(progress: Progress) -> (u64, u64) {
    if progress.bytes_total > 0 {
        (progress.bytes_done.min(progress.bytes_total), progress.bytes_total)
    } else {
        (progress.files_done.min(progress.files_total), progress.files_total)
    }
}

/// The message of a bar: the values that the bar counts and their rate, then the label.
fn message(progress: Progress, pace: &str, label: &str) -> String {
    let pause = if pace.is_empty() { "" } else { ", " };
    let (files, bytes) = (file_counts(progress), byte_counts(progress));
    if progress.bytes_total > 0 {
        format!("{bytes}{pause}{pace}  {label}  {files}")
    } else {
        format!("{files}{pause}{pace}  {label}")
    }
}

/// The files and bytes done, and their totals.
fn counts(progress: Progress) -> String {
    format!("{}, {}", file_counts(progress), byte_counts(progress))
}

fn file_counts(progress: Progress) -> String {
    let done = HumanCount(progress.files_done.min(progress.files_total));
    format!("{done} of {}", files(progress.files_total))
}

fn byte_counts(progress: Progress) -> String {
    let done = bytes(progress.bytes_done.min(progress.bytes_total));
    format!("{done} of {}", bytes(progress.bytes_total))
}

/// The rate and the time left; empty while neither can be computed. `before` is the progress of the first sample,
/// `elapsed` the time since then.
fn pace(progress: Progress, before: Progress, elapsed: Duration) -> String {
    let mut pace = String::new();
    let seconds = elapsed.as_secs_f64();
    let moved = progress.bytes_done.saturating_sub(before.bytes_done) as f64;
    if seconds > 0.0 && moved > 0.0 {
        write!(pace, "{}/s", bytes(whole(moved / seconds))).ok();
    }
    let ((done, total), (done_before, _)) = (steps(progress), steps(before));
    let stepped = done.saturating_sub(done_before);
    if seconds > 0.0 && stepped > 0 && done < total {
        let left = seconds * total.saturating_sub(done) as f64 / stepped as f64;
        let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
        let pause = if pace.is_empty() { "" } else { ", " };
        write!(pace, "{pause}{:#} left", HumanDuration(left)).ok();
    }
    pace
}

/// A rate as a whole number.
#[allow(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Style, tests::output};

    const NOTHING: Progress =
        Progress { files_done: 0, files_total: 0, bytes_done: 0, bytes_total: 0 };

    fn progress(files_done: u64, files_total: u64, bytes_done: u64, bytes_total: u64) -> Progress {
        Progress { files_done, files_total, bytes_done, bytes_total }
    }

    #[test]
    fn counts_never_pass_their_totals() {
        let mib = limits::MIB as u64;
        for (now, expected) in [
            (NOTHING, "0 of 0 files, 0 B of 0 B"),
            (progress(1, 4, mib, 4 * mib), "1 of 4 files, 1.00 MiB of 4.00 MiB"),
            // A tree that has grown since its totals were counted.
            (progress(5, 4, 9, 8), "4 of 4 files, 8 B of 8 B"),
        ] {
            assert_eq!(counts(now), expected);
        }
    }

    #[test]
    fn the_pace_is_that_since_the_first_look() {
        let mib = limits::MIB as u64;
        let half = progress(2, 4, 2 * mib, 4 * mib);
        for (now, before, seconds, expected) in [
            (half, NOTHING, 0, ""),
            (half, half, 2, ""),
            (half, NOTHING, 4, "512.00 KiB/s, 4s left"),
            (progress(3, 4, 3 * mib, 4 * mib), half, 2, "512.00 KiB/s, 2s left"),
            (progress(4, 4, 4 * mib, 4 * mib), NOTHING, 4, "1.00 MiB/s"),
            // Without bytes, the time left is computed from the files.
            (progress(1, 3, 0, 0), NOTHING, 5, "10s left"),
        ] {
            assert_eq!(pace(now, before, Duration::from_secs(seconds)), expected);
        }
    }

    #[tokio::test]
    async fn lines_come_now_and_then() {
        let (mut output, out, err) = output(Style::Lines);
        let mut meter = ProgressDisplay::new("copying a".to_owned(), &output);
        let start = Instant::now();
        for (millis, lines) in [(0, 0), (1_999, 0), (2_000, 1), (2_100, 1), (4_000, 2)] {
            meter.show(progress(1, 2, 0, 0), start + Duration::from_millis(millis), &mut output);
            assert_eq!(err.text().lines().count(), lines, "{}", err.text());
        }
        meter.show_again(start + Duration::from_secs(6), &mut output);
        meter.end(&output);
        assert_eq!(err.text(), "copying a: 1 of 2 files, 0 B of 0 B\n".repeat(3));
        assert_eq!(out.text(), "");
    }

    #[test]
    fn the_bytes_and_the_pace_fit_on_a_terminal() {
        let mib = limits::MIB as u64;
        let (half, label) = (progress(1, 4, 400 * mib, 900 * mib), "uploading a");
        let pace = pace(half, NOTHING, Duration::from_mins(5));
        let text = message(half, &pace, label);
        let said = "400.00 MiB of 900.00 MiB, 1.33 MiB/s, 6m left";
        assert_eq!(text, format!("{said}  uploading a  1 of 4 files"));
        // The percentage and the bar precede the message.
        assert!("100% [................] ".len() + said.len() <= 80);
        assert_eq!(message(progress(1, 3, 0, 0), "", label), "1 of 3 files  uploading a");
    }

    #[tokio::test]
    async fn json_has_no_progress_beside_its_records() {
        let (mut output, out, err) = output(Style::Json);
        ProgressDisplay::new("copying a".to_owned(), &output).show(
            NOTHING,
            Instant::now(),
            &mut output,
        );
        assert_eq!((out.text(), err.text()), (String::new(), String::new()));
    }

    #[test]
    fn the_bar_is_well_formed() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
