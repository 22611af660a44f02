//! The command `copy`.
//!
//! Ctrl-C cancels the copy by its id and waits for the outcome, because the copy may have succeeded a moment before.
//! If the server does not answer, the command ends and closes the stream of the copy, which cancels a copy that is
//! not detached.

use std::fmt::Write as _;

use tokio::time::{Instant, timeout};

use crate::{
    cli::{
        Failure,
        args::Copy,
        interrupt::Interrupt,
        json::OperationJson,
        many::Failures,
        output::Output,
        place,
        progress::{self, ProgressDisplay},
        text::{self, bytes, files, path},
    },
    client::{
        Client,
        watch::{Watch, is_final},
    },
    error::Kind,
    limits,
    wire::v1::{CopyRequest, EntryKind, IfExists, Operation, OperationState},
};

/// Copies one source after the other.
pub(super) async fn copy(client: &Client, args: Copy, output: &mut Output) -> Result<(), Failure> {
    let named = args.sources.iter().map(|source| (source.clone(), place::own_name(source)));
    let named: Vec<_> = named.collect();
    let places = place::destinations(client, &named, &args.destination).await?;
    let mut interrupt = Interrupt::listen()?;
    let mut failures = Failures::default();
    for (source, destination) in args.sources.iter().zip(&places) {
        let outcome = copy_one(client, (source, destination), &args, &mut interrupt, output).await;
        let outcome = match outcome {
            Err(failure) => Err(advise(client, destination, failure).await),
            done => done,
        };
        failures.take(outcome, output)?;
    }
    failures.end()
}

/// Adds to an `AlreadyExists` failure what the user can do.
async fn advise(client: &Client, destination: &str, failure: Failure) -> Failure {
    let Failure::Client(error) = &failure else { return failure };
    if error.kind() != Some(Kind::AlreadyExists) {
        return failure;
    }
    let found = client.stat(destination).await.ok().and_then(|found| found.entry);
    let Some(found) = found else { return failure };
    let replace = "--replace replaces it";
    Failure::Refused(if found.kind() == EntryKind::Folder {
        format!("{error}; {}/ copies into it, and {replace}", place::trimmed(destination))
    } else {
        format!("{error}; {replace}")
    })
}

/// Copies one source, and follows the copy until it ends, or with `--detach` until it has begun.
async fn copy_one(
    client: &Client,
    (source, destination): (&str, &str),
    args: &Copy,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let detached = args.switches.detach;
    let kept = args.switches.keep.then_some(KeepSummary { may_skip: !args.skip.is_empty() });
    let until = if detached { Until::Begun } else { Until::Ended };
    let label = format!("copying {} to {}", path(source), path(destination));
    let if_exists = match (args.switches.keep, args.replace) {
        (true, _) => IfExists::Keep,
        (false, true) => IfExists::Overwrite,
        (false, false) => IfExists::ReplaceSameKind,
    };
    let mut watch = client.copy(CopyRequest {
        source: source.to_owned(),
        destination: destination.to_owned(),
        skip_files: args.skip.clone(),
        check_mark_file: args.switches.check_mark,
        if_exists: if_exists.into(),
        operation_id: args.operation_id.clone().unwrap_or_default(),
        verify: args.switches.verify,
        detached,
        ..CopyRequest::default()
    });
    let mut meter = ProgressDisplay::new(label, output);
    let result = tokio::select! {
        result = follow(&mut watch, &mut meter, until, output) => result.map(Some),
        () = interrupt.recv() => Ok(None),
    };
    meter.end(output);
    match result.map_err(|failure| lost(failure, watch.id()))? {
        Some(operation) => print_outcome(&operation, kept, output),
        None => cancel(client, (watch, kept), interrupt, output).await,
    }
}

/// Adds the operation id to the failure of a copy whose response was lost or late: the copy may have succeeded.
fn lost(failure: Failure, id: &str) -> Failure {
    match &failure {
        Failure::Client(error) if error.is_lost() || error.is_late() => Failure::Said(format!(
            "{error}; the copy is operation {id}: watch it, or repeat it with --operation-id {id}"
        )),
        Failure::Client(_)
        | Failure::Stream(_)
        | Failure::Said(_)
        | Failure::Refused(_)
        | Failure::No => failure,
    }
}

/// A copy with `--keep`.
#[derive(Clone, Copy, Debug)]
struct KeepSummary {
    /// Whether the copy has `--skip` names too.
    may_skip: bool,
}

/// How long a copy is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until the first state: the server has begun the copy.
    Begun,
    /// Until the final state.
    Ended,
}

/// Follows the copy and shows its progress; returns the first state that ends the following.
async fn follow(
    watch: &mut Watch,
    meter: &mut ProgressDisplay,
    until: Until,
    output: &mut Output,
) -> Result<Operation, Failure> {
    while let Some(operation) = progress::next(watch, |now| meter.show_again(now, output)).await? {
        if until == Until::Begun || is_final(operation.state()) {
            return Ok(operation);
        }
        if output.is_json() {
            output.print_and_flush(&OperationJson(&operation), "")?;
        }
        meter.show(progress::of(&operation), Instant::now(), output);
    }
    Err(Failure::Said(format!("the copy {} ended without a last state", watch.id())))
}

/// Prints how the copy ended, or that it has begun.
fn print_outcome(
    operation: &Operation,
    kept: Option<KeepSummary>,
    output: &mut Output,
) -> Result<(), Failure> {
    match operation.state() {
        OperationState::Succeeded | OperationState::Running => {
            Ok(output.print_and_flush(&OperationJson(operation), summary(operation, kept))?)
        }
        OperationState::Failed | OperationState::Cancelled | OperationState::Unspecified => {
            let state = text::state(operation.state());
            Err(Failure::Said(format!("the copy {} is {state}", operation.id)))
        }
    }
}

/// The result of a copy as a line.
fn summary(operation: &Operation, kept: Option<KeepSummary>) -> String {
    let (source, destination) = (path(&operation.source), path(&operation.destination));
    if operation.state() == OperationState::Running {
        return format!(
            "copying {source} to {destination} as operation {}; follow it with: imagestore watch {}",
            operation.id, operation.id
        );
    }
    // If the destination is kept, the server counts every file as skipped.
    let nothing = operation.files_done == 0 && operation.files_skipped == operation.files_total;
    match kept.filter(|_| nothing && operation.files_total > 0) {
        Some(KeepSummary { may_skip: false }) => {
            return format!("kept {destination}: it exists already");
        }
        Some(KeepSummary { may_skip: true }) => {
            let why = "it exists already, or every file is left out";
            return format!("copied nothing to {destination}: {why}");
        }
        None => {}
    }
    let (done, size) = (files(operation.files_done), bytes(operation.bytes_done));
    let mut line = format!("copied {source} to {destination}: {done}, {size}");
    if operation.files_skipped > 0 {
        let (skipped, size) = (files(operation.files_skipped), bytes(operation.bytes_skipped));
        write!(line, "; left out {skipped}, {size}").ok();
    }
    line + &text::beside(operation)
}

/// Cancels the copy and reports the outcome. A SIGINT, or no answer within [`limits::INTERRUPT_TIME`], ends
/// the wait; the dropped watch then cancels the copy, unless it is detached.
async fn cancel(
    client: &Client,
    (mut watch, kept): (Watch, Option<KeepSummary>),
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    output.note("imagestore: cancelling the copy");
    let id = watch.id().to_owned();
    let outcome = tokio::select! {
        outcome = timeout(limits::INTERRUPT_TIME, client.cancel(&id)) => outcome,
        () = interrupt.recv_interrupt() => {
            return Err(Failure::Said(format!("left the copy {id} without waiting for its end")));
        }
    };
    match outcome {
        Ok(Ok(operation)) => {
            if output.is_json() {
                output.print_and_flush(&OperationJson(&operation), "")?;
            }
            Err(Failure::Said(format!("cancelled the copy {id}; nothing has changed")))
        }
        Ok(Err(error)) if error.kind() == Some(Kind::Finished) => {
            output.note("imagestore: the copy had ended before");
            let mut last = ProgressDisplay::new(String::new(), output);
            let ended = follow(&mut watch, &mut last, Until::Ended, output).await;
            last.end(output);
            print_outcome(&ended?, kept, output)
        }
        Ok(Err(error)) => Err(Failure::Said(format!("left the copy {id}: {error}"))),
        Err(_) => Err(Failure::Said(format!("left the copy {id}: the server does not answer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::error::Error;

    #[test]
    fn a_summary_tells_what_was_left_out() {
        let mut operation = Operation {
            id: "7".to_owned(),
            state: OperationState::Succeeded.into(),
            source: "a".to_owned(),
            destination: "b".to_owned(),
            files_done: 2,
            bytes_done: 2048,
            ..Operation::default()
        };
        let summary = |operation: &_| summary(operation, None);
        assert_eq!(summary(&operation), "copied a to b: 2 files, 2.00 KiB");
        operation.files_skipped = 1;
        assert_eq!(summary(&operation), "copied a to b: 2 files, 2.00 KiB; left out 1 file, 0 B");
        operation.files_replaced = 8;
        operation.skip_files_unmatched = vec!["notes.tx".to_owned(), "a,b".to_owned()];
        let end = "; left out 1 file, 0 B; replaced 8 files; no file was left out as \"notes.tx\", \"a,b\"";
        assert!(summary(&operation).ends_with(end));
        operation.state = OperationState::Running.into();
        assert!(summary(&operation).contains("imagestore watch 7"));
    }

    #[test]
    fn a_summary_tells_that_the_destination_is_kept() {
        let mut operation = Operation {
            state: OperationState::Succeeded.into(),
            source: "a".to_owned(),
            destination: "b".to_owned(),
            files_skipped: 2,
            files_total: 2,
            ..Operation::default()
        };
        let keep = Some(KeepSummary { may_skip: false });
        assert_eq!(summary(&operation, keep), "kept b: it exists already");
        // Without --keep the files were skipped by name; with --keep and --skip the reason is not known.
        assert!(summary(&operation, None).starts_with("copied a to b: 0 files"));
        let both = summary(&operation, Some(KeepSummary { may_skip: true }));
        assert!(both.starts_with("copied nothing to b: it exists already, or"), "{both}");
        (operation.files_done, operation.files_skipped) = (2, 0);
        assert_eq!(summary(&operation, keep), "copied a to b: 2 files, 0 B");
    }

    #[test]
    fn a_copy_that_is_lost_tells_its_id() {
        let error = Error::Lost { server: "http://there".to_owned(), why: "reset".to_owned() };
        assert_eq!(
            lost(error.into(), "7").to_string(),
            "cannot reach http://there: reset; the copy is operation 7: watch it, or repeat it with \
             --operation-id 7"
        );
        let other = Error::Answer("odd".to_owned());
        assert!(!lost(other.into(), "7").to_string().contains("operation"));
    }
}
