//! The arguments that every client command takes, and the connection that they select.

use std::path::PathBuf;

use clap::{Args, builder::FalseyValueParser};

use crate::{
    cli::{
        Failure, local_file,
        time::{Time, some_time},
    },
    client::{Client, Identity, Options, in_process::Connector},
    secret::Secret,
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
    /// Certificate authority of the server in PEM [default: those of the system]
    #[arg(long, global = true, value_name = "FILE", env = "IMAGESTORE_CA")]
    pub ca: Option<PathBuf>,
    /// Certificate of the caller in PEM, for a server that takes client certificates
    #[arg(long, global = true, value_name = "FILE", env = "IMAGESTORE_CERT")]
    pub cert: Option<PathBuf>,
    /// Private key of this certificate in PEM, not encrypted, which only its owner may read
    #[arg(long, global = true, value_name = "FILE", env = "IMAGESTORE_KEY")]
    pub key: Option<PathBuf>,
    /// The file with the token of the caller.
    #[arg(long, global = true, value_name = "FILE", env = "IMAGESTORE_TOKEN_FILE")]
    #[arg(
        help = "File with the token of the caller, which only its owner may read [default: the token in \
                  IMAGESTORE_TOKEN]"
    )]
    pub token_file: Option<PathBuf>,
    /// The token of the environment. It has no flag, because other users see the flags of a process.
    #[arg(skip)]
    pub token: Option<Secret>,
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
    /// [`Failure::Said`] with a hint if no server accepts the connection; a `--ca` or token file that cannot be read;
    /// two tokens; else the error of the client.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let time = self.timeout.map(|Time(time)| time);
        let connected = if let Some(connector) = &self.in_process {
            Client::connect_in_process(connector.clone(), time).await
        } else {
            let ca = self
                .ca
                .as_deref()
                .map(|path| local_file::certificates("certificate authority", path));
            let (authorities, identity) = (ca.transpose()?, self.identity()?);
            let options = Options { time, authorities, identity, token: self.credential()? };
            Client::connect_with(&self.server, options).await
        };
        connected.map_err(|error| {
            if error.is_lost() {
                let hint = "is it running? --server or IMAGESTORE_SERVER says where it is";
                return Failure::Said(format!("{error}; {hint}"));
            }
            error.into()
        })
    }

    /// The certificate of the caller, and its key.
    fn identity(&self) -> Result<Option<Identity>, Failure> {
        match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Ok(Some(Identity {
                certificate: local_file::certificates("certificate", certificate)?,
                key: local_file::key(key)?,
            })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Failure::Said("--cert needs --key, its key".to_owned())),
            (None, Some(_)) => Err(Failure::Said("--key needs --cert, its certificate".to_owned())),
        }
    }

    /// The token of the file or of the environment.
    fn credential(&self) -> Result<Option<Secret>, Failure> {
        match (&self.token_file, &self.token) {
            (Some(_), Some(_)) => Err(Failure::Said(
                "IMAGESTORE_TOKEN has a token, and --token-file or IMAGESTORE_TOKEN_FILE names a file with \
                 one; give one of them"
                    .to_owned(),
            )),
            (Some(path), None) => local_file::token(path).map(Some),
            (None, token) => Ok(token.clone()),
        }
    }
}
