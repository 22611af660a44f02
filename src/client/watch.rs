//! The progress of operations, followed across lost connections.
//!
//! A watch attaches again by itself. That of a copy repeats the request: its operation id makes that
//! safe. Where the server cancels the copy because its caller was gone, it runs the repeat after that. So a
//! cancellation that is told is never the echo of a lost connection.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Streaming, metadata::MetadataMap};
use uuid::Uuid;

use crate::{
    client::{
        Client,
        error::{Error, Result},
        retry::Backoff,
        wait::Wait,
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

/// A stream, and whether it has sent more than the state that it begins with.
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
    /// All, and the highest change that was told.
    All(Option<u64>),
}

impl Client {
    /// Copies a file or a folder, beginning with the first call of [`Watch::next`]. Dropping the
    /// watch cancels the copy unless it is `detached`. A copy without operation id gets one.
    ///
    /// The server cancels it when the time of the client is over.
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

    /// Follows all operations, for ever. After a lost connection come the ends that were missed, unless
    /// their operations have expired.
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
    /// The id of the one operation that is followed; empty for all.
    pub fn id(&self) -> &str {
        match &self.subject {
            Subject::Copy(request) => &request.operation_id,
            Subject::One(id) => id,
            Subject::All(_) => "",
        }
    }

    /// Waits for the next state of what is followed; none after the last state of an operation.
    ///
    /// After a lost connection the same state may come again.
    ///
    /// # Errors
    /// A copy that fails ends with the server's error. A watched operation that fails does not: its
    /// last state says so. [`Error::Waited`] where the server is silent, and does not say either that it
    /// is there.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        let (client, wait) = (self.client.clone(), self.wait());
        let next = client.attended(&wait, self.proceed(&wait)).await;
        self.ended |= next.is_err();
        next
    }

    /// Begins to wait for the next state, which may take as long as it likes.
    fn wait(&self) -> Wait {
        let Client { server, deadline, .. } = &self.client;
        let (what, deadline) = match &self.subject {
            Subject::Copy(CopyRequest { source, destination, .. }) => {
                // The server says how it ended.
                let deadline = deadline.map(|deadline| deadline.with_grace(limits::VERDICT_GRACE));
                (format!("copy {source:?} to {destination:?}"), deadline)
            }
            Subject::One(id) => (format!("tell the end of operation {id}"), *deadline),
            Subject::All(_) => ("tell of another operation".to_owned(), *deadline),
        };
        Wait::begin((server, what), deadline, Duration::MAX)
    }

    async fn proceed(&mut self, wait: &Wait) -> Result<Option<Operation>> {
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

    /// Notes how far the caller is.
    fn note(&mut self, operation: &Operation) {
        match &mut self.subject {
            Subject::All(since) => *since = (*since).max(Some(operation.change)),
            Subject::Copy(_) | Subject::One(_) => self.ended = is_final(operation.state()),
        }
    }

    /// The next message of the stream that there is, or of a new one.
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
        // The first message proves nothing: a server that breaks after each would be asked for ever.
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

/// Begins a stream.
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

/// The number of the last change before a watch of all.
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
