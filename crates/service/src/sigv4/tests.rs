use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use aws_credential_types::provider::future;

use super::*;

/// The moment and the keys of AWS' own test suite.
const NOW: Duration = Duration::from_secs(1_440_938_160);
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn sdk(provider: SharedCredentialsProvider) -> SdkConfig {
    SdkConfig::builder().region(Region::new("us-east-1")).credentials_provider(provider).build()
}

async fn signed(signer: &Signer, at: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let url = "https://example.amazonaws.com/";
    signer.sign(&Method::GET, url, &mut headers, b"", UNIX_EPOCH + at).await.expect("signed");
    headers
}

/// `get-vanilla` of the AWS Signature Version 4 test suite.
#[tokio::test]
async fn a_request_carries_the_signature_of_the_published_test_suite() {
    let keys = Credentials::new("AKIDEXAMPLE", SECRET, None, None, "test");
    let signer = Signer::from_sdk("service", &sdk(SharedCredentialsProvider::new(keys))).expect("complete");
    let headers = signed(&signer, NOW).await;
    assert_eq!(headers["x-amz-date"], "20150830T123600Z");
    assert_eq!(
        headers["authorization"],
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    );
    assert!(headers["authorization"].is_sensitive());
}

/// Hands out a new session every time, valid for an hour; the third is the last.
#[derive(Debug)]
struct Sessions(Arc<AtomicU64>);

impl ProvideCredentials for Sessions {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        if n >= 2 {
            return future::ProvideCredentials::ready(Err(CredentialsError::provider_error("gone")));
        }
        let expiry = UNIX_EPOCH + NOW + Duration::from_secs(3600) * (n as u32 + 1);
        let token = Some(format!("session-{n}"));
        future::ProvideCredentials::ready(Ok(Credentials::new("AKID", SECRET, token, Some(expiry), "test")))
    }
}

#[tokio::test]
async fn credentials_are_kept_renewed_before_they_expire_and_used_up_when_renewal_fails() {
    let asked = Arc::new(AtomicU64::new(0));
    let provider = SharedCredentialsProvider::new(Sessions(asked.clone()));
    let signer = Signer::from_sdk("aps", &sdk(provider)).expect("complete");
    let minutes = |n: u64| NOW + Duration::from_secs(60 * n);
    for (minute, token) in [(0, "session-0"), (54, "session-0"), (56, "session-1"), (118, "session-1")] {
        assert_eq!(signed(&signer, minutes(minute)).await["x-amz-security-token"], token, "minute {minute}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let at = UNIX_EPOCH + minutes(121);
    let expired = signer.sign(&Method::GET, "https://example.com/", &mut HeaderMap::new(), b"", at).await;
    assert!(matches!(expired, Err(SignError::Credentials(_))));
}

#[tokio::test]
async fn configured_keys_and_region_are_used_and_half_a_pair_is_refused() {
    let config = Config {
        region: Some("eu-central-1".to_owned()),
        access_key: Some("AKIDEXAMPLE".to_owned()),
        secret_key: Some(Secret::new(SECRET)),
        ..Config::default()
    };
    assert_eq!(config.check(), Ok(()));
    let headers = signed(&Signer::new("aps", config.clone()), NOW).await;
    let authorization = headers["authorization"].to_str().expect("text");
    assert!(authorization.contains("Credential=AKIDEXAMPLE/20150830/eu-central-1/aps/aws4_request"), "{authorization}");
    assert!(Config { secret_key: None, ..config.clone() }.check().is_err());
    assert!(Config { external_id: Some("x".to_owned()), ..config }.check().is_err());
}
