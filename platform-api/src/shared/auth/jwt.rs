//! Access and refresh tokens: RS256 and nothing else, with key id, issuer and audience.
//!
//! The user service signs with the private key. Every service verifies with public keys: the ones of
//! `JWT_PUBLIC_KEY_PATH`, or the user service's JWKS, fetched when a token first names an unknown key.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::keys::{Jwk, JwkSet};
use crate::shared::error::{ApiError, ApiResult};

pub const ISSUER: &str = "platform-api";
/// A refresh token is no access token: each has its own audience.
pub const ACCESS_AUDIENCE: &str = "platform-api";
pub const REFRESH_AUDIENCE: &str = "platform-api/refresh";
/// Clocks of tasks differ by less than this.
const LEEWAY_S: u64 = 5;
/// A forged key id must not make us ask the user service at each request.
const JWKS_FETCH_MIN_INTERVAL: Duration = Duration::from_secs(5);
const JWKS_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessClaims {
    pub iss: String,
    pub aud: String,
    pub sub: Uuid,
    pub org: Uuid,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    pub iat: i64,
    pub exp: i64,
    pub jti: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefreshClaims {
    pub iss: String,
    pub aud: String,
    pub sub: Uuid,
    pub jti: Uuid,
    /// The sign-in that this token descends from.
    pub family: Uuid,
    pub iat: i64,
    pub exp: i64,
}

/// Signs tokens; only the user service has one.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    pub jwk: Jwk,
    /// None where the key's PEM does not say.
    pub created: Option<chrono::DateTime<chrono::Utc>>,
}

impl Signer {
    /// # Errors
    /// The PEM is not an RSA private key.
    pub fn from_private_pem(pem: &str) -> anyhow::Result<Self> {
        let jwk = super::keys::jwk_of_private_pem(pem)?;
        let created = super::keys::created(pem);
        Ok(Signer { key: EncodingKey::from_rsa_pem(pem.as_bytes())?, jwk, created })
    }

    /// # Errors
    /// 500 when signing fails.
    pub fn sign<C: Serialize>(&self, claims: &C) -> ApiResult<String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.jwk.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(ApiError::internal)
    }
}

/// Verifies tokens by public keys; clones share what has been fetched.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<RwLock<HashMap<String, DecodingKey>>>,
    jwks: Option<Arc<JwksSource>>,
}

struct JwksSource {
    url: String,
    client: reqwest::Client,
    asked_at: Mutex<Option<Instant>>,
}

impl Verifier {
    /// Knows exactly these keys.
    ///
    /// # Errors
    /// A key is not RSA.
    pub fn fixed(jwks: &[Jwk]) -> anyhow::Result<Self> {
        let verifier = Verifier { keys: Arc::default(), jwks: None };
        verifier.learn(jwks)?;
        Ok(verifier)
    }

    /// Asks `<user service>/.well-known/jwks.json` for keys when it needs them.
    pub fn remote(user_service: &str, client: reqwest::Client) -> Self {
        let url = format!("{}/.well-known/jwks.json", user_service.trim_end_matches('/'));
        Verifier { keys: Arc::default(), jwks: Some(Arc::new(JwksSource { url, client, asked_at: Mutex::default() })) }
    }

    fn learn(&self, jwks: &[Jwk]) -> anyhow::Result<()> {
        let keys: Result<HashMap<_, _>, _> = jwks
            .iter()
            .filter(|jwk| jwk.kty == "RSA" && jwk.alg == "RS256")
            .map(|jwk| {
                Ok::<_, jsonwebtoken::errors::Error>((
                    jwk.kid.clone(),
                    DecodingKey::from_rsa_components(&jwk.n, &jwk.e)?,
                ))
            })
            .collect();
        *self.keys.write().expect("no one panics holding it") = keys?;
        Ok(())
    }

    /// # Errors
    /// 401 with the reason; 503 where the keys cannot be had.
    pub async fn verify_access(&self, token: &str) -> ApiResult<AccessClaims> {
        self.verify(token, ACCESS_AUDIENCE).await
    }

    /// # Errors
    /// As [`Verifier::verify_access`].
    pub async fn verify_refresh(&self, token: &str) -> ApiResult<RefreshClaims> {
        self.verify(token, REFRESH_AUDIENCE).await
    }

    async fn verify<C: DeserializeOwned + Clone>(&self, token: &str, audience: &str) -> ApiResult<C> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
        // Pinned here and again in Validation: a token never chooses how it is verified.
        if header.alg != Algorithm::RS256 {
            return Err(invalid());
        }
        let kid = header.kid.ok_or_else(invalid)?;
        let key = self.key(&kid).await?.ok_or_else(invalid)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY_S;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        match jsonwebtoken::decode::<C>(token, &key, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) if *error.kind() == jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                Err(ApiError::unauthorised("token_expired", "the token has expired: refresh it or log in again"))
            }
            Err(_) => Err(invalid()),
        }
    }

    async fn key(&self, kid: &str) -> ApiResult<Option<DecodingKey>> {
        let known = || self.keys.read().expect("no one panics holding it").get(kid).cloned();
        if let Some(key) = known() {
            return Ok(Some(key));
        }
        let Some(source) = &self.jwks else { return Ok(None) };
        // One asks, the others wait for its answer.
        let mut asked_at = source.asked_at.lock().await;
        if let Some(key) = known() {
            return Ok(Some(key));
        }
        if asked_at.is_some_and(|at| at.elapsed() < JWKS_FETCH_MIN_INTERVAL) {
            return Ok(None);
        }
        let set = source.fetch().await.map_err(|error| {
            ApiError::unavailable(
                "keys_unavailable",
                "the token's key cannot be fetched at the moment, try again",
                error,
            )
        })?;
        *asked_at = Some(Instant::now());
        self.learn(&set.keys)?;
        Ok(known())
    }
}

impl JwksSource {
    async fn fetch(&self) -> reqwest::Result<JwkSet> {
        self.client.get(&self.url).timeout(JWKS_TIMEOUT).send().await?.error_for_status()?.json().await
    }
}

fn invalid() -> ApiError {
    ApiError::unauthorised("token_invalid", "the token is not one of ours")
}

/// Seconds since the epoch, as claims count.
pub fn now() -> i64 {
    Utc::now().timestamp()
}
