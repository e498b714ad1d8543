//! Signs requests to AWS that no SDK client makes: remote write and queries to Amazon Managed Prometheus (service
//! `aps`), OTLP to CloudWatch (`monitoring`, `logs`, `xray`).
//!
//! In: a request's method, URL, headers and body, complete. Out: the same headers with `x-amz-date`, `authorization`
//! and, for temporary credentials, `x-amz-security-token`. Credentials come from the SDK's own chain, are kept and
//! renewed before they expire; nothing is asked before the first signature.
//! Source: docs.aws.amazon.com, "AWS Signature Version 4 for API requests".

use std::time::{Duration, SystemTime};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningError, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OnceCell};

use crate::config::Secret;

/// The `sigv4:` block, as Prometheus has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Absent: the SDK's chain (`AWS_REGION`, the profile).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// With `secret_key`; absent, the SDK's chain (environment, profile, container, instance).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<Secret>,
    /// A profile of the shared configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Assumed with the credentials found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

impl Config {
    /// # Errors
    /// Keys that make sense only together.
    pub fn check(&self) -> Result<(), String> {
        if self.access_key.is_some() != self.secret_key.is_some() {
            return Err("sigv4: access_key and secret_key go together".to_owned());
        }
        if self.external_id.is_some() && self.role_arn.is_none() {
            return Err("sigv4: external_id needs role_arn".to_owned());
        }
        Ok(())
    }
}

/// Why a request was not signed; nothing has been sent.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("no region is known: set sigv4.region or AWS_REGION")]
    NoRegion,
    #[error("no AWS credentials were found: set AWS_ACCESS_KEY_ID, a profile or a task role")]
    NoCredentials,
    #[error("AWS credentials could not be had")]
    Credentials(#[source] CredentialsError),
    #[error("the request cannot be signed")]
    Signing(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<SigningError> for SignError {
    fn from(error: SigningError) -> Self {
        SignError::Signing(Box::new(error))
    }
}

/// Signs for one service in one region.
pub struct Signer {
    config: Config,
    service: &'static str,
    identity: OnceCell<Identity>,
}

/// Credentials are renewed this long before they expire: a request may be on its way for a while.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

struct Identity {
    region: String,
    provider: SharedCredentialsProvider,
    /// The lock lets one request renew them while the others wait.
    held: Mutex<Option<Credentials>>,
}

impl Identity {
    fn new(sdk: &SdkConfig) -> Result<Self, SignError> {
        let region = sdk.region().ok_or(SignError::NoRegion)?.to_string();
        let provider = sdk.credentials_provider().ok_or(SignError::NoCredentials)?;
        Ok(Identity { region, provider, held: Mutex::new(None) })
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials, SignError> {
        let mut held = self.held.lock().await;
        let fresh = |c: &Credentials, ahead: Duration| c.expiry().is_none_or(|expiry| now + ahead < expiry);
        if let Some(credentials) = held.as_ref().filter(|c| fresh(c, RENEW_BEFORE)) {
            return Ok(credentials.clone());
        }
        match self.provider.provide_credentials().await {
            Ok(credentials) => Ok(held.insert(credentials).clone()),
            // What has not expired yet still signs.
            Err(error) => {
                held.as_ref().filter(|c| fresh(c, Duration::ZERO)).cloned().ok_or(SignError::Credentials(error))
            }
        }
    }
}

impl Signer {
    /// `service` is the name that signatures carry: `aps`, `monitoring`, `logs`, `xray`.
    pub fn new(service: &'static str, config: Config) -> Self {
        Signer { config, service, identity: OnceCell::new() }
    }

    /// With the region and credentials of a configuration that was loaded elsewhere.
    ///
    /// # Errors
    /// A configuration without region or without credentials.
    pub fn from_sdk(service: &'static str, sdk: &SdkConfig) -> Result<Self, SignError> {
        let identity = OnceCell::new_with(Some(Identity::new(sdk)?));
        Ok(Signer { config: Config::default(), service, identity })
    }

    /// Adds the signature to `headers`. All headers that are there are signed, so what a client adds afterwards must
    /// not replace them; `now` must be right within five minutes.
    ///
    /// # Errors
    /// When region or credentials cannot be had, or the URL or a header is none. The next call tries anew.
    pub async fn sign(
        &self,
        method: &Method,
        url: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), SignError> {
        let identity = self.identity.get_or_try_init(|| load(&self.config)).await?;
        let credentials = identity.credentials(now).await?.into();
        let params = v4::SigningParams::builder()
            .identity(&credentials)
            .region(&identity.region)
            .name(self.service)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| SignError::Signing(Box::new(error)))?
            .into();
        let texts: Vec<(&str, &str)> =
            headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let request = SignableRequest::new(method.as_str(), url, texts.into_iter(), SignableBody::Bytes(body))?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|error| SignError::Signing(Box::new(error)))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| SignError::Signing(Box::new(error)))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(())
    }
}

async fn load(config: &Config) -> Result<Identity, SignError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
        // A profile that is named outranks the environment's keys, as in Prometheus.
        loader = loader.credentials_provider(ProfileFileCredentialsProvider::builder().profile_name(profile).build());
    }
    if let (Some(key), Some(secret)) = (&config.access_key, &config.secret_key) {
        loader = loader.credentials_provider(Credentials::new(key, secret.expose(), None, None, "configuration"));
    }
    let sdk = loader.load().await;
    let mut identity = Identity::new(&sdk)?;
    if let Some(role) = &config.role_arn {
        let mut builder = AssumeRoleProvider::builder(role).session_name("picket").configure(&sdk);
        if let Some(id) = &config.external_id {
            builder = builder.external_id(id);
        }
        identity.provider = SharedCredentialsProvider::new(builder.build().await);
    }
    Ok(identity)
}

#[cfg(test)]
mod tests;
