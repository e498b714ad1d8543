//! Settings of the services, from the environment, checked once at start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use service::cli::Exit;
use service::config::{Env, Secret};

use crate::cli::Domain;
use crate::shared::auth::jwt::{Signer, Verifier};
use crate::shared::auth::keys;
use crate::shared::db::Address;
use crate::user::service::Lifetimes;

const POOL_MAX_DEFAULT: u32 = 10;
/// How long a service waits at start for a database that is down.
const DATABASE_PATIENCE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a stopping service still serves while the load balancer learns that it is unready.
const DRAIN_DELAY_DEFAULT: Duration = Duration::from_secs(3);
const ACCESS_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const REFRESH_TTL_DEFAULT: Duration = Duration::from_secs(7 * 86_400);

/// What the environment says, parsed.
#[derive(Clone)]
pub struct Config {
    pub database: Address,
    pub pool_max: u32,
    pub database_patience: Duration,
    pub private_key: Option<PrivateKey>,
    pub public_key: Option<PathBuf>,
    pub lifetimes: Lifetimes,
    pub urls: Urls,
    pub faults_enabled: bool,
    pub trusted_proxy_hops: usize,
    pub drain_delay: Duration,
    pub bootstrap_admin: Option<Admin>,
}

/// Where the signing key is.
#[derive(Clone)]
pub enum PrivateKey {
    /// A file, as development and compose have it.
    File(PathBuf),
    /// The PEM itself, as ECS hands over a secret.
    Pem(Secret),
}

/// The first administrator.
#[derive(Clone)]
pub struct Admin {
    pub email: String,
    pub password: Secret,
}

/// Where the other services are, as far as the environment says.
#[derive(Clone, Default)]
pub struct Urls {
    pub user: Option<String>,
    pub product: Option<String>,
    pub analytics: Option<String>,
    pub notification: Option<String>,
}

impl Config {
    /// # Errors
    /// [`Exit::Config`], naming the variable.
    pub fn from_env(env: &impl Env) -> Result<Config, Exit> {
        read(env).map_err(Exit::Config)
    }

    /// The signing key, for whoever serves the user domain.
    ///
    /// # Errors
    /// [`Exit::Config`] when there is none.
    pub fn signer(&self) -> Result<Arc<Signer>, Exit> {
        let read = || match &self.private_key {
            Some(PrivateKey::File(path)) => Signer::from_private_pem(&read_key("JWT_PRIVATE_KEY_PATH", path)?)
                .with_context(|| format!("JWT_PRIVATE_KEY_PATH: `{}`", path.display())),
            Some(PrivateKey::Pem(pem)) => Signer::from_private_pem(pem.expose()).context("JWT_PRIVATE_KEY"),
            None => anyhow::bail!(
                "the user service signs tokens: set JWT_PRIVATE_KEY_PATH (`platform-api keygen --out keys` makes a pair), \
                 or JWT_PRIVATE_KEY to the PEM itself"
            ),
        };
        read().map(Arc::new).map_err(Exit::Config)
    }

    /// Public keys: of the file, else of our own signer, else of the user service.
    ///
    /// # Errors
    /// [`Exit::Config`] when there is no way to any.
    pub fn verifier(&self, signer: Option<&Signer>, client: &reqwest::Client) -> Result<Verifier, Exit> {
        let read = || match (&self.public_key, signer, &self.urls.user) {
            (Some(path), _, _) => {
                let jwk = keys::jwk_of_public_pem(&read_key("JWT_PUBLIC_KEY_PATH", path)?)
                    .with_context(|| format!("JWT_PUBLIC_KEY_PATH: `{}`", path.display()))?;
                let own = signer.map(|s| s.jwk.clone()).filter(|own| *own != jwk);
                Verifier::fixed(&[jwk].into_iter().chain(own).collect::<Vec<_>>())
            }
            (None, Some(signer), _) => Verifier::fixed(std::slice::from_ref(&signer.jwk)),
            (None, None, Some(user)) => Ok(Verifier::remote(user, client.clone())),
            (None, None, None) => Err(anyhow!(
                "tokens cannot be verified: set JWT_PUBLIC_KEY_PATH, or SERVICE_URL_USER to fetch the keys from there"
            )),
        };
        read().map_err(Exit::Config)
    }

    /// A neighbour's address: what the environment says, else ourselves where we serve every domain.
    ///
    /// # Errors
    /// [`Exit::Config`], naming the variable.
    pub fn neighbour(
        &self,
        variable: &str,
        url: &Option<String>,
        domain: Option<Domain>,
        own: SocketAddr,
    ) -> Result<String, Exit> {
        match (url, domain) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(Domain::All)) => Ok(format!("http://{}", reachable(own))),
            (None, _) => {
                Err(Exit::Config(anyhow!("set {variable} to the service's address, such as http://10.0.10.7:3000")))
            }
        }
    }
}

/// The address under which we reach ourselves.
fn reachable(own: SocketAddr) -> SocketAddr {
    let ip = if own.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { own.ip() };
    SocketAddr::new(ip, own.port())
}

fn read_key(variable: &str, path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!("{variable}: failed to read `{}` (`platform-api keygen --out DIR` makes a pair)", path.display())
    })
}

fn read(env: &impl Env) -> anyhow::Result<Config> {
    let text = |key: &str| env.get(key).filter(|value| !value.is_empty());
    let url = text("DATABASE_URL").context(
        "DATABASE_URL is not set: give it the form postgres://user:password@host:port/database, or try `platform-api dev`",
    )?;
    let admin = match (text("BOOTSTRAP_ADMIN_EMAIL"), text("BOOTSTRAP_ADMIN_PASSWORD")) {
        (Some(email), Some(password)) => Some(Admin { email, password: Secret::new(password) }),
        (None, None) => None,
        _ => anyhow::bail!("BOOTSTRAP_ADMIN_EMAIL and BOOTSTRAP_ADMIN_PASSWORD go together: set both or none"),
    };
    Ok(Config {
        database: Address::parse(&url)?,
        pool_max: env.parse("DB_POOL_MAX")?.unwrap_or(POOL_MAX_DEFAULT).max(2),
        database_patience: duration(env, "DATABASE_WAIT", DATABASE_PATIENCE_DEFAULT)?,
        private_key: match (text("JWT_PRIVATE_KEY_PATH"), text("JWT_PRIVATE_KEY")) {
            (Some(path), _) => Some(PrivateKey::File(path.into())),
            (None, pem) => pem.map(|pem| PrivateKey::Pem(Secret::new(pem))),
        },
        public_key: text("JWT_PUBLIC_KEY_PATH").map(PathBuf::from),
        lifetimes: Lifetimes {
            access: duration(env, "JWT_ACCESS_TOKEN_TTL", ACCESS_TTL_DEFAULT)?,
            refresh: duration(env, "JWT_REFRESH_TOKEN_TTL", REFRESH_TTL_DEFAULT)?,
        },
        urls: Urls {
            user: service_url(env, "SERVICE_URL_USER")?,
            product: service_url(env, "SERVICE_URL_PRODUCT")?,
            analytics: service_url(env, "SERVICE_URL_ANALYTICS")?,
            notification: service_url(env, "SERVICE_URL_NOTIFICATION")?,
        },
        faults_enabled: match text("FAULT_INJECTION").as_deref() {
            None | Some("disabled") => false,
            Some("enabled") => true,
            Some(other) => anyhow::bail!("environment variable FAULT_INJECTION={other:?}: write enabled or disabled"),
        },
        trusted_proxy_hops: env.parse("TRUSTED_PROXY_HOPS")?.unwrap_or(0),
        drain_delay: duration(env, "DRAIN_DELAY", DRAIN_DELAY_DEFAULT)?,
        bootstrap_admin: admin,
    })
}

fn duration(env: &impl Env, key: &str, default: Duration) -> anyhow::Result<Duration> {
    let Some(text) = env.get(key).filter(|value| !value.is_empty()) else { return Ok(default) };
    telemetry::duration::parse(&text).map_err(|error| anyhow!("environment variable {key}={text:?}: {error}"))
}

fn service_url(env: &impl Env, key: &str) -> anyhow::Result<Option<String>> {
    let Some(text) = env.get(key).filter(|value| !value.is_empty()) else { return Ok(None) };
    let url = reqwest::Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(|_| Some(text.clone()))
        .ok_or_else(|| anyhow!("environment variable {key}={text:?}: write http://host:port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn refusal(env: &[(&str, &str)]) -> String {
        let env: HashMap<&str, &str> = [("DATABASE_URL", "postgres://app:hunter2@db.internal/platform")]
            .into_iter()
            .chain(env.iter().copied())
            .collect();
        match Config::from_env(&env) {
            Err(Exit::Config(error)) => format!("{error:#}"),
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named() {
        for (key, value) in [
            ("JWT_ACCESS_TOKEN_TTL", "soon"),
            ("SERVICE_URL_PRODUCT", "10.0.0.1:3000"),
            ("FAULT_INJECTION", "yes"),
            ("DB_POOL_MAX", "many"),
            ("BOOTSTRAP_ADMIN_EMAIL", "a@b.c"),
        ] {
            let message = refusal(&[(key, value)]);
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn the_signing_key_comes_from_a_file_or_from_the_variable_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = keys::generate(dir.path()).unwrap();
        let (path, pem) = (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let kid = |key: &str, value: &str| {
            let env = HashMap::from([("DATABASE_URL", "postgres://app@db/platform"), (key, value)]);
            let config = Config::from_env(&env).unwrap_or_else(|_| panic!("valid"));
            config.signer().unwrap_or_else(|exit| panic!("{exit:?}")).jwk.kid.clone()
        };
        assert_eq!(kid("JWT_PRIVATE_KEY_PATH", &path), kid("JWT_PRIVATE_KEY", &pem));
    }

    #[test]
    fn the_database_is_shown_without_its_password() {
        let message = refusal(&[("DATABASE_URL", "mysql://app:hunter2@db.internal/platform")]);
        assert!(message.starts_with("DATABASE_URL is not of the form") && !message.contains("hunter2"), "{message}");
        let env = HashMap::from([("DATABASE_URL", "postgres://app:hunter2@db.internal/platform")]);
        let config = Config::from_env(&env).unwrap_or_else(|_| panic!("valid"));
        assert_eq!(config.database.to_string(), "db.internal:5432/platform");
    }
}
