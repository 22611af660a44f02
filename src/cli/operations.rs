//! The commands `watch`, `operations` and `cancel`.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::{
    cli::{
        Failure,
        args::State,
        json::OperationJson,
        output::Output,
        progress::{self, ProgressDisplay},
        text::{self, bytes, files, second, work},
    },
    client::{Client, watch::is_final},
    wire::v1::{Operation, OperationState},
};

/// Follows one operation until it ends, or all operations without end.
pub(super) async fn watch(
    client: &Client,
    id: Option<&str>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut watch = id.map_or_else(|| client.watch_all(), |id| client.watch(id));
    let mut meters: HashMap<String, ProgressDisplay> = HashMap::new();
    let mut last = None;
    while let Some(operation) = progress::next(&mut watch, |now| {
        for meter in meters.values_mut() {
            meter.show_again(now, output);
        }
    })
    .await?
    {
        if is_final(operation.state()) {
            if let Some(mut meter) = meters.remove(&operation.id) {
                meter.end(output);
            }
            output.print(&OperationJson(&operation), line(&operation))?;
        } else if output.is_json() {
            output.print(&OperationJson(&operation), "")?;
        } else {
            let meter = meters
                .entry(operation.id.clone())
                .or_insert_with(|| ProgressDisplay::new(work(&operation), output));
            meter.show(progress::of(&operation), Instant::now(), output);
        }
        output.flush()?;
        last = Some(operation);
    }
    match last {
        Some(operation) if operation.state() != OperationState::Succeeded => {
            let state = text::state(operation.state());
            let why = operation.error.map(|error| format!(": {}", error.message));
            let why = why.unwrap_or_default();
            Err(Failure::Said(format!("operation {} {state}{why}", operation.id)))
        }
        _ => Ok(()),
    }
}

/// Lists operations, page by page.
pub(super) async fn list(
    client: &Client,
    state: Option<State>,
    output: &mut Output,
) -> Result<(), Failure> {
    let state = state.map_or(OperationState::Unspecified, OperationState::from);
    let mut token = String::new();
    loop {
        let page = client.operations(state, &token).await?;
        for operation in &page.operations {
            output.print(&OperationJson(operation), line(operation))?;
        }
        output.flush()?;
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(());
        }
    }
}

/// Cancels an operation.
pub(super) async fn cancel(client: &Client, id: &str, output: &mut Output) -> Result<(), Failure> {
    let operation = client.cancel(id).await?;
    Ok(output.print_and_flush(&OperationJson(&operation), line(&operation))?)
}

/// An operation as a line: id, state, start, work, and its error or counters.
fn line(operation: &Operation) -> String {
    let outcome = operation.error.as_ref().map_or_else(
        || {
            let (done, size) = (files(operation.files_done), bytes(operation.bytes_done));
            format!("{done}, {size}{}", text::beside(operation))
        },
        |error| error.message.clone(),
    );
    format!(
        "{}  {:<9}  {}  {}: {outcome}",
        operation.id,
        text::state(operation.state()),
        second(operation.started_at.as_ref()),
        work(operation),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::OperationKind;

    #[test]
    fn a_line_tells_what_came_of_it() {
        let mut operation = Operation {
            id: "7".to_owned(),
            kind: OperationKind::Copy.into(),
            state: OperationState::Succeeded.into(),
            source: "a".to_owned(),
            destination: "b".to_owned(),
            files_done: 1,
            bytes_done: 5,
            files_skipped: 2,
            ..Operation::default()
        };
        assert_eq!(line(&operation), "7  succeeded  -  copy a to b: 1 file, 5 B");
        operation.state = OperationState::Failed.into();
        operation.error = Some(tonic_types::Status {
            code: 5,
            message: "a is gone".to_owned(),
            details: Vec::new(),
        });
        assert_eq!(line(&operation), "7  failed     -  copy a to b: a is gone");
    }
}
