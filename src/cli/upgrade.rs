//! The command `upgrade`.

use std::process::ExitCode;

use crate::{
    cli::{Failure, Global, json, output::Output, run_to_end},
    model::Formats,
};

/// Runs an upgrade to its end, and says what it has done. Returns 0 for success, else 1 after printing the failure.
pub fn upgrade(global: &Global, work: impl Future<Output = Result<Formats, String>>) -> ExitCode {
    run_to_end(global, async |output: &mut Output| {
        let formats = work.await.map_err(Failure::Said)?;
        Ok(output.print_and_flush(&json::upgraded(formats), line(formats))?)
    })
}

fn line(Formats { before, after }: Formats) -> String {
    if before == after {
        return format!("the store has format {after}, which this program writes");
    }
    format!("brought the store from format {before} to format {after}")
}
