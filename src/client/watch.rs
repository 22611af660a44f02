//! Watches: the states of operations as a stream, across lost connections.
//!
//! A watch reconnects by itself. The watch of a copy repeats the request, which the operation id makes safe. If the
//! server has cancelled the copy because the connection was lost, the repeated request runs the copy again. So a
//! cancellation that the watch reports was never caused by a lost connection.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Streaming, metadata::MetadataMap};
use uuid::Uuid;

use crate::{
    client::{
        Client,
        error::{Error, Result},
        retry::Backoff,
        wait::Timeout,
    },
    limits,
    wire::{
        LAST_CHANGE,
        v1::{
            CopyRequest, Operation, OperationState, WatchOperationRequest, WatchOperationsRequest,
        },
    },
};

/// A stream of operations, see [`Watch::next`].
#[derive(Debug)]
pub struct Watch {
    client: Client,
    subject: Subject,
    attached: Option<Attached>,
    ended: bool,
    backoff: Backoff,
}

/// An open response stream, and whether its first message was received.
#[derive(Debug)]
struct Attached {
    stream: Streaming<Operation>,
    begun: bool,
}

/// What a watch follows.
#[derive(Debug)]
enum Subject {
    Copy(CopyRequest),
    One(String),
    /// All operations, and the highest `change` that was received.
    All(Option<u64>),
}

impl Client {
    /// Copies a file or a folder; the first call of [`Watch::next`] sends the request. Dropping the watch cancels the
    /// copy, unless it is `detached`. An empty operation id is replaced by a new one.
    ///
    /// The server cancels the copy at the deadline of the client.
    pub fn copy(&self, mut request: CopyRequest) -> Watch {
        if request.operation_id.is_empty() {
            request.operation_id = Uuid::now_v7().to_string();
        }
        self.follow(Subject::Copy(request))
    }

    /// Follows an operation until it ends.
    pub fn watch(&self, id: &str) -> Watch {
        self.follow(Subject::One(id.to_owned()))
    }

    /// Follows all operations, without end. After a lost connection the watch first reports the operations that ended
    /// meanwhile, unless they have expired.
    pub fn watch_all(&self) -> Watch {
        self.follow(Subject::All(None))
    }

    fn follow(&self, subject: Subject) -> Watch {
        Watch {
            client: self.clone(),
            subject,
            attached: None,
            ended: false,
            backoff: self.backoff(),
        }
    }
}

impl Watch {
    /// The id of the operation that is followed; empty for a watch of all operations.
    pub fn id(&self) -> &str {
        match &self.subject {
            Subject::Copy(request) => &request.operation_id,
            Subject::One(id) => id,
            Subject::All(_) => "",
        }
    }

    /// Waits for the next state; `None` after the final state of the one operation.
    ///
    /// After a lost connection the same state may be returned again.
    ///
    /// # Errors
    /// The server's error for a copy that fails. A watched operation that fails is no error: its final state says so.
    /// [`Error::Waited`] if the server is silent and does not respond to a probe.
    ///
    /// # Cancel safety
    /// No state is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        let (client, wait) = (self.client.clone(), self.wait());
        let next = client.attended(&wait, self.proceed(&wait)).await;
        self.ended |= next.is_err();
        next
    }

    /// Begins the wait for the next state. Silence is not bounded, because an operation may pause for any time.
    fn wait(&self) -> Timeout {
        let Client { server, deadline, .. } = &self.client;
        let (what, deadline) = match &self.subject {
            Subject::Copy(CopyRequest { source, destination, .. }) => {
                // The grace lets the response of the server arrive, which says how the copy ended.
                let deadline = deadline.map(|deadline| deadline.with_grace(limits::VERDICT_GRACE));
                (format!("copy {source:?} to {destination:?}"), deadline)
            }
            Subject::One(id) => (format!("tell the end of operation {id}"), *deadline),
            Subject::All(_) => ("tell of another operation".to_owned(), *deadline),
        };
        Timeout::begin((server, what), deadline, Duration::MAX)
    }

    async fn proceed(&mut self, wait: &Timeout) -> Result<Option<Operation>> {
        while !self.ended {
            let error = match self.message().await {
                Ok(operation) => {
                    self.note(&operation);
                    return Ok(Some(operation));
                }
                Err(error) => error,
            };
            self.attached = None;
            self.backoff.after(error, wait).await?;
        }
        Ok(None)
    }

    /// Notes the change number, or whether the state is final.
    fn note(&mut self, operation: &Operation) {
        match &mut self.subject {
            Subject::All(since) => *since = (*since).max(Some(operation.change)),
            Subject::Copy(_) | Subject::One(_) => self.ended = is_final(operation.state()),
        }
    }

    /// The next message of the open stream, or of a new one.
    async fn message(&mut self) -> Result<Operation> {
        let attached = match &mut self.attached {
            Some(attached) => attached,
            none => {
                let answer = attach(&self.client, &self.subject).await?;
                if let Subject::All(since) = &mut self.subject {
                    *since = (*since).max(last_change(answer.metadata()));
                }
                none.insert(Attached { stream: answer.into_inner(), begun: false })
            }
        };
        let message = attached.stream.message().await;
        let message = message.map_err(|status| self.client.error(&status))?;
        // Only the second message counts as progress: else a server whose streams break after one message would be
        // called without end.
        if attached.begun {
            self.backoff.renew();
        }
        attached.begun = true;
        message.ok_or_else(|| Error::Lost {
            server: self.client.server.clone(),
            why: "it ended the watch before the operation ended".to_owned(),
        })
    }
}

/// Opens a response stream.
async fn attach(client: &Client, subject: &Subject) -> Result<Response<Streaming<Operation>>> {
    let mut stub = client.stub.clone();
    let answer = match subject {
        Subject::Copy(request) => {
            let mut request = Request::new(request.clone());
            if let Some(deadline) = client.deadline {
                request.set_timeout(deadline.at.saturating_duration_since(Instant::now()));
            }
            stub.copy(request).await
        }
        Subject::One(id) => stub.watch_operation(WatchOperationRequest { id: id.clone() }).await,
        Subject::All(since) => {
            stub.watch_operations(WatchOperationsRequest { since: *since }).await
        }
    };
    answer.map_err(|status| client.error(&status))
}

/// The number of the last change before a watch of all operations began.
fn last_change(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(LAST_CHANGE)?.to_str().ok()?.parse().ok()
}

/// Whether an operation in this state has ended.
pub fn is_final(state: OperationState) -> bool {
    match state {
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
        OperationState::Running | OperationState::Unspecified => false,
    }
}
