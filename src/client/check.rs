//! Checks of the store, as a stream of reports.

use tonic::Streaming;

use crate::{
    client::{
        Client,
        error::{Error, Result},
    },
    limits,
    wire::v1::{CheckRequest, CheckResponse},
};

/// A running check. Dropping it ends the check.
#[derive(Debug)]
pub struct Check {
    client: Client,
    reports: Streaming<CheckResponse>,
    is_done: bool,
}

impl Client {
    /// Begins a check. The call is not retried when the connection is lost.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::error::Kind::Busy) if another check runs.
    pub async fn check(&self, request: CheckRequest) -> Result<Check> {
        let mut stub = self.stub.clone();
        let reports = self.once("begin a check".to_owned(), stub.check(request)).await?;
        Ok(Check { client: self.clone(), reports, is_done: false })
    }
}

impl Check {
    /// Waits for the next report; `None` after the last.
    ///
    /// # Errors
    /// Those of the server; [`Error::Lost`] if the stream ends before the last report.
    ///
    /// # Cancel safety
    /// No report is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<CheckResponse>> {
        if self.is_done {
            return Ok(None);
        }
        let (client, reports) = (&self.client, &mut self.reports);
        let wait = client.wait("go on with the check".to_owned(), limits::TRANSFER_SILENCE);
        let report = async { reports.message().await.map_err(|status| client.error(&status)) };
        let report = client.attended(&wait, report).await?;
        let report = report.ok_or_else(|| Error::Lost {
            server: self.client.server.clone(),
            why: "it ended the check before its last report".to_owned(),
        })?;
        self.is_done = report.done;
        Ok(Some(report))
    }
}
