//! Benchmark: what does a skip list cost?
//!
//! A folder of 100,000 files in 1,000 sub-folders is copied without a skip list, with one that matches no
//! file, and with one that matches a single file. The cost should be that of the folders on the way to a
//! skipped file, plus one look-up for each folder, and not depend on the number of files.

mod support;

use clap::Parser;

use support::{
    Common, Result, arguments, block_on, durable_writes, median, ratio,
    rows::Rows,
    say,
    store::Opened,
    table::{Table, count, time, times},
    timed,
};

/// Measures filtered copies.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Files in the folder
    #[arg(long)]
    files: Option<u64>,
    /// Sub-folders of the folder
    #[arg(long)]
    folders: Option<u64>,
    /// How often the folder is copied in each way
    #[arg(long)]
    copies: Option<usize>,
}

fn main() -> Result<()> {
    block_on(run(&arguments()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let files = common.size(arguments.files, 100_000, 2000);
    let folders = common.size(arguments.folders, 1000, 20);
    let copies = common.size(arguments.copies, 100, 5);
    let scratch = common.scratch()?;
    let data = scratch.path().join("data");
    let opened = Opened::open(&data).await?;
    opened.load("source", files, files / folders).await?;
    let odd = format!("source/d{:05}/odd.one", folders / 2);
    opened.upload(&odd, "the file to skip".into()).await?;
    let ways: [(&str, &[&str]); 3] =
        [("plain copy", &[]), ("skip, no match", &["no.one"]), ("skip, one match", &["odd.one"])];
    let mut found = ways.map(|_| Vec::with_capacity(copies));
    for round in 0..copies {
        for ((name, skip), times) in ways.iter().zip(&mut found) {
            let destination = format!("{name}/copy{round:05}");
            times.push(timed(opened.copy("source", &destination, skip)).await?);
        }
    }
    let limit = durable_writes(&scratch.path().join("page"), copies)?;
    let mut table = Table::new(&["copy", "median", "to the plain one", "rows"]);
    let plain = found.first().map(|times| median(times)).unwrap_or_default();
    let rows = Rows::count(&data)?;
    for ((name, skip), took) in ways.iter().zip(&found) {
        let took = median(took);
        rows.take()?;
        opened.copy("source", &format!("{name}/counted"), skip).await?;
        let rows = rows.take()?;
        table.row([(*name).to_owned(), time(took), times(ratio(took, plain)), rows.to_string()]);
    }
    rows.end()?;
    opened.close().await;
    let (files, folders) = (count(files), count(folders));
    say(&format!("{files} files in {folders} folders; one durable write: {}\n", time(limit)))?;
    Ok(table.print()?)
}
