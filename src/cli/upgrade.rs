//! The command `upgrade`.

use std::process::ExitCode;

use crate::{
    cli::{Failure, Global, json, output::Output, run_to_end},
    model::Formats,
};

/// Runs an upgrade to its end, and says what it has done. `work` returns where the store is, too. Returns 0 for success,
/// else 1 after printing the failure.
pub fn upgrade(
    global: &Global,
    work: impl Future<Output = Result<(String, Formats), String>>,
) -> ExitCode {
    run_to_end(global, async |output: &mut Output| {
        let (place, formats) = work.await.map_err(Failure::Said)?;
        Ok(output.print_and_flush(&json::upgraded(formats), line(&place, formats))?)
    })
}

fn line(place: &str, Formats { before, after }: Formats) -> String {
    if before == after {
        return format!("the store in {place} has format {after}, which this program writes");
    }
    format!("brought the store in {place} from format {before} to format {after}")
}
