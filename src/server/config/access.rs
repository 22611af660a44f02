//! The settings of access: who may do what, and that no combination of flags leaves the store open by accident.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Serve;
use crate::server::{Error, identity::ClientFiles};

/// The value of `--access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AccessFlag {
    /// Everyone may do everything
    Open,
    /// A caller may do what is granted
    Required,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the server may do everything.
    Open,
    /// A caller may do what is granted to it.
    Required(Required),
}

/// The files that say what a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Required {
    /// The file of grants.
    pub grants: Option<PathBuf>,
    /// The files by which client certificates are judged.
    pub clients: Option<ClientFiles>,
    /// Whether every caller has to show a client certificate.
    pub needs_certificate: bool,
}

impl Serve {
    /// Who may do what, by the flags together.
    pub(super) fn access(&self) -> Result<Access, Error> {
        let reach = self.port.reach();
        let contradicts = |flag: &str| {
            let message = format!("--allow-anonymous gives every right to everyone; omit {flag}");
            Err(Error::new(message))
        };
        for (flag, is_given) in [
            ("--client-ca", self.client_ca.is_some()),
            ("--client-crl", self.client_crl.is_some()),
            ("--require-client-cert", self.require_client_cert),
        ] {
            if is_given && self.allow_anonymous {
                return contradicts(&format!("it, or {flag}"));
            }
            if is_given && self.access == Some(AccessFlag::Open) {
                let message =
                    format!("--access open gives every right to everyone; omit it, or {flag}");
                return Err(Error::new(message));
            }
            if is_given && self.port.tls_cert.is_none() {
                let message = format!("{flag} needs TLS: give --tls-cert and --tls-key");
                return Err(Error::new(message));
            }
        }
        if self.client_crl.is_some() && self.client_ca.is_none() {
            return Err(Error::new("--client-crl needs --client-ca, whose certificates it lists"));
        }
        let has_clients = self.client_ca.is_some() || self.require_client_cert;
        match (self.allow_anonymous, &self.grants, self.access, &reach) {
            (true, Some(_), ..) => return contradicts("it, or --grants"),
            (true, None, Some(AccessFlag::Required), _) => {
                return contradicts("it, or --access required");
            }
            (true, None, ..) => return Ok(Access::Open),
            (false, Some(_), Some(AccessFlag::Open), _) => {
                let message = "--access open gives every right to everyone; omit it, or --grants";
                return Err(Error::new(message));
            }
            (false, None, Some(AccessFlag::Open), Some(reach)) => {
                return Err(Error::new(format!(
                    "{reach}; if everyone there may do everything, give --allow-anonymous instead of \
                     --access open"
                )));
            }
            (false, None, None | Some(AccessFlag::Open), None) if !has_clients => {
                return Ok(Access::Open);
            }
            (false, ..) => {}
        }
        if let Some(reach) = reach
            && !self.port.is_protected()
            && !self.allow_plaintext
        {
            return Err(Error::new(format!(
                "{reach}; give --tls-cert and --tls-key, or \
                 --trusted-proxy with the address of a proxy that has TLS, or \
                 --allow-plaintext if only the callers reach this network, or --allow-anonymous if \
                 everyone there may do everything"
            )));
        }
        let clients = self.client_ca.clone().map(|authorities| {
            let revoked = self.client_crl.clone();
            ClientFiles { authorities, revoked }
        });
        let needs_certificate = self.require_client_cert;
        Ok(Access::Required(Required { grants: self.grants.clone(), clients, needs_certificate }))
    }
}
