//! The arguments that every client command takes, and the connection that they ask for.

use clap::{Args, builder::FalseyValueParser};

use crate::{
    cli::{
        Failure,
        time::{Time, some_time},
    },
    client::{Client, error::Result, in_process::Connector},
};

/// What every client command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Address of the store
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "IMAGESTORE_SERVER",
        default_value = "http://127.0.0.1:19080"
    )]
    pub server: String,
    /// Print one JSON object per line
    #[arg(long, global = true, env = "IMAGESTORE_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// How long the command may take as a whole, in seconds or with ms, s, m, h or d. Without it each
    /// question to the server has a minute, and transfers and copies take as long as they move
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "IMAGESTORE_TIMEOUT",
        value_parser = some_time
    )]
    pub timeout: Option<Time>,
    /// The server in the same process that is asked, instead of the one at the address
    #[arg(skip)]
    pub in_process: Option<Connector>,
}

impl Global {
    /// Connects to the server.
    ///
    /// # Errors
    /// [`Failure::Said`] where nobody is there, with a hint; else the client's.
    pub(super) async fn connect(&self) -> std::result::Result<Client, Failure> {
        let time = self.timeout.map(|Time(time)| time);
        let connected: Result<Client> = match &self.in_process {
            Some(connector) => Client::connect_in_process(connector.clone(), time).await,
            None => Client::connect_within(&self.server, time).await,
        };
        connected.map_err(|error| {
            if error.is_lost() {
                let hint = "is it running? --server or IMAGESTORE_SERVER says where it is";
                return Failure::Said(format!("{error}; {hint}"));
            }
            error.into()
        })
    }
}
