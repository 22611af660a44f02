//! The arguments that every client command takes, and the connection that they select.

use clap::{Args, builder::FalseyValueParser};

use crate::{
    cli::{
        Failure,
        time::{Time, some_time},
    },
    client::{Client, error::Result, in_process::Connector},
};

/// The arguments of every client command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Address of the server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "IMAGESTORE_SERVER",
        default_value = "http://127.0.0.1:19080"
    )]
    pub server: String,
    /// Print results as JSON, one object per line
    #[arg(long, global = true, env = "IMAGESTORE_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Time limit for the whole command, in seconds or with ms, s, m, h or d. Without it, each request has
    /// one minute, a transfer continues while bytes move, and a copy while the server responds
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "IMAGESTORE_TIMEOUT",
        value_parser = some_time
    )]
    pub timeout: Option<Time>,
    /// The server in the same process to connect to, instead of the one at `server`.
    #[arg(skip)]
    pub in_process: Option<Connector>,
}

impl Global {
    /// Connects to the server.
    ///
    /// # Errors
    /// [`Failure::Said`] with a hint if no server accepts the connection; else the error of the client.
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
