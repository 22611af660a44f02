//! The arguments that every client command takes, and the connection that they select.

use std::path::{Path, PathBuf};

use clap::{Args, builder::FalseyValueParser};

use crate::{
    cli::{
        Failure, config_file, local_file,
        time::{Time, some_time},
    },
    client::{Client, Identity, Options, in_process::Connector},
    secret::Secret,
};

/// The arguments of every client command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Address of the server, or NAME: for that of a named store
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
    /// The file with the named stores.
    #[arg(long, global = true, value_name = "FILE", env = "IMAGESTORE_CONFIG")]
    #[arg(
        help = "Configuration file with the named stores, which only its owner may read [default: \
                  imagestore/config.toml in XDG_CONFIG_HOME, or in ~/.config]"
    )]
    pub config: Option<PathBuf>,
    /// The configuration file without `config`; `None` if the user has no home.
    #[arg(skip)]
    pub config_default: Option<PathBuf>,
    /// The named store on which the command works, instead of the server at `server`. The other settings override
    /// those of the store.
    #[arg(skip)]
    pub store: Option<String>,
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
    /// two tokens; a named store that the configuration file does not have; else the error of the client.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let (connected, hint) = if let Some(connector) = &self.in_process {
            let time = self.timeout.map(|Time(time)| time);
            (Client::connect_in_process(connector.clone(), time).await, String::new())
        } else if let Some(name) = &self.store {
            let file = self.config_file()?;
            let of_store = self.with_store(name, file)?;
            let hint = format!("the store '{name}' has this address in {}", file.display());
            (Client::connect_with(&of_store.server, of_store.options()?).await, hint)
        } else {
            let hint = "--server or IMAGESTORE_SERVER says where it is".to_owned();
            (Client::connect_with(&self.server, self.options()?).await, hint)
        };
        connected.map_err(|error| {
            if error.is_lost() {
                return Failure::Said(format!("{error}; is it running? {hint}"));
            }
            error.into()
        })
    }

    /// The configuration file.
    ///
    /// # Errors
    /// [`Failure::Said`] if none is given and the user has no home.
    pub(super) fn config_file(&self) -> Result<&Path, Failure> {
        self.config.as_deref().or(self.config_default.as_deref()).ok_or_else(|| {
            let why = "--config has to say where the configuration file is: HOME is not set";
            Failure::Said(why.to_owned())
        })
    }

    /// Drops the settings of the connection that are from environment variables.
    pub(super) fn forget_variables(&mut self, is_typed: impl Fn(&'static str) -> bool) {
        self.token = None;
        for (id, file) in [
            ("ca", &mut self.ca),
            ("cert", &mut self.cert),
            ("key", &mut self.key),
            ("token_file", &mut self.token_file),
        ] {
            if !is_typed(id) {
                *file = None;
            }
        }
    }

    /// The settings with those of a named store. A certificate and its key come from one place, and so does the token.
    fn with_store(&self, name: &str, file: &Path) -> Result<Self, Failure> {
        let mut stores = config_file::read(file)?;
        let store = stores.remove(name).ok_or_else(|| config_file::unknown(file, name))?;
        let mut all = Self { server: store.address, ..self.clone() };
        all.ca = all.ca.or(store.ca);
        if all.cert.is_none() && all.key.is_none() {
            (all.cert, all.key) = (store.cert, store.key);
        }
        if all.token.is_none() {
            all.token_file = all.token_file.or(store.token_file);
        }
        Ok(all)
    }

    /// How the client connects. Reads the files of the settings.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        let ca = self.ca.as_deref();
        let ca = ca.map(|path| local_file::certificates("certificate authority", path));
        Ok(Options {
            time: self.timeout.map(|Time(time)| time),
            authorities: ca.transpose()?,
            identity: self.identity()?,
            token: self.credential()?,
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
