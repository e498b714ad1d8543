//! Signature Version 4, computed again from what arrived and compared.
//!
//! Source: docs.aws.amazon.com, "Create a signed AWS API request". Written from the document and not by the signer of
//! the SDKs, so that a fault in either shows.

use std::collections::BTreeMap;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::AwsError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// How far a request's time may be from ours.
const SKEW_SECONDS_MAX: i64 = 15 * 60;

/// What the `Authorization` header says.
struct Authorization<'a> {
    access_key: &'a str,
    /// `20261120/eu-west-1/logs/aws4_request`.
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// Secrets by access key; without any, every signature passes.
pub(crate) type Secrets = BTreeMap<String, String>;

/// Refuses what was not signed with a known secret, as it arrived, in these minutes.
pub(crate) fn check(
    secrets: &Secrets,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), AwsError> {
    if secrets.is_empty() {
        return Ok(());
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let given = header(AUTHORIZATION.as_str())
        .and_then(parse)
        .ok_or_else(|| refused("IncompleteSignatureException", "Authorization header cannot be read."))?;
    let secret = secrets.get(given.access_key).ok_or_else(|| {
        refused("UnrecognizedClientException", "The security token included in the request is invalid.")
    })?;
    let date = header("x-amz-date").ok_or_else(|| refused("IncompleteSignatureException", "X-Amz-Date is missing."))?;
    check_time(date, given.scope, now)?;
    for required in ["host", "x-amz-date"] {
        if !given.signed_headers.split(';').any(|name| name == required) {
            return Err(refused(
                "IncompleteSignatureException",
                format!("{required} is not among the signed headers."),
            ));
        }
    }
    let hash = hex::encode(Sha256::digest(body));
    if header("x-amz-content-sha256").is_some_and(|said| said != hash) {
        return Err(refused("InvalidSignatureException", "The body is not what X-Amz-Content-SHA256 says."));
    }
    let canonical = canonical_request(method, uri, headers, given.signed_headers, &hash);
    match signature(secret, date, given.scope, &canonical) == given.signature {
        true => Ok(()),
        false => Err(refused(
            "InvalidSignatureException",
            format!(
                "The request signature we calculated does not match the signature you provided. The Canonical String \
                 for this request should have been\n'{canonical}'"
            ),
        )),
    }
}

fn refused(shape: &'static str, message: impl Into<String>) -> AwsError {
    AwsError::new(shape, message).status(StatusCode::BAD_REQUEST)
}

/// `AWS4-HMAC-SHA256 Credential=KEY/SCOPE, SignedHeaders=a;b, Signature=HEX`.
fn parse(header: &str) -> Option<Authorization<'_>> {
    let rest = header.strip_prefix(ALGORITHM)?;
    let part = |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (access_key, scope) = part("Credential")?.split_once('/')?;
    Some(Authorization { access_key, scope, signed_headers: part("SignedHeaders")?, signature: part("Signature")? })
}

fn check_time(date: &str, scope: &str, now: Timestamp) -> Result<(), AwsError> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date);
    let signed_at = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC)).map_err(|_| {
        refused("IncompleteSignatureException", format!("Date must be in ISO-8601 'basic format'. Got '{date}'."))
    })?;
    let skew = signed_at.timestamp().as_second().abs_diff(now.as_second());
    if skew > SKEW_SECONDS_MAX.unsigned_abs() {
        return Err(refused("InvalidSignatureException", format!("Signature expired: {date} is {skew} s away.")));
    }
    match date.get(..8) == scope.get(..8) && scope.ends_with(TERMINATOR) {
        true => Ok(()),
        false => Err(refused("InvalidSignatureException", "Credential should be scoped to the request's date.")),
    }
}

fn canonical_request(method: &Method, uri: &Uri, headers: &HeaderMap, signed: &str, body_hash: &str) -> String {
    let mut query: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let query: Vec<String> =
        query.into_iter().map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") }).collect();
    let mut lines = String::new();
    for name in signed.split(';') {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let values: Vec<String> =
            values.map(|value| value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
        lines.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    format!("{method}\n{}\n{}\n{lines}\n{signed}\n{body_hash}", uri.path(), query.join("&"))
}

fn signature(secret: &str, date: &str, scope: &str, canonical: &str) -> String {
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| sign(&key, part));
    let hash = hex::encode(Sha256::digest(canonical));
    hex::encode(sign(&key, &format!("{ALGORITHM}\n{date}\n{scope}\n{hash}")))
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORIZATION_OF_GET_VANILLA: &str = "AWS4-HMAC-SHA256 \
        Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
        Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

    fn headers(authorization: &str) -> HeaderMap {
        let pairs =
            [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"), ("authorization", authorization)];
        pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn checked(authorization: &str, body: &[u8], now: &str) -> Result<(), &'static str> {
        let secrets = Secrets::from([("AKIDEXAMPLE".into(), "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into())]);
        let (uri, headers) = (Uri::from_static("/"), headers(authorization));
        check(&secrets, &Method::GET, &uri, &headers, body, now.parse().unwrap()).map_err(|error| error.shape)
    }

    /// `get-vanilla` of AWS' test suite for Signature Version 4.
    #[test]
    fn the_published_example_passes_and_whatever_differs_from_it_does_not() {
        const NOW: &str = "2015-08-30T12:40:00Z";
        let good = AUTHORIZATION_OF_GET_VANILLA;
        assert_eq!(checked(good, b"", NOW), Ok(()));
        for (what, authorization, body, now, expected) in [
            ("another body", good.to_owned(), &b"x"[..], NOW, "InvalidSignatureException"),
            ("another signature", good.replace("5fa0", "5fa1"), b"", NOW, "InvalidSignatureException"),
            ("another key", good.replace("AKIDEXAMPLE", "AKIDOTHER"), b"", NOW, "UnrecognizedClientException"),
            ("too late", good.to_owned(), b"", "2015-08-30T12:52:00Z", "InvalidSignatureException"),
            ("another day", good.replace("20150830", "20150831"), b"", NOW, "InvalidSignatureException"),
            ("the time is not signed", good.replace(";x-amz-date", ""), b"", NOW, "IncompleteSignatureException"),
            ("no signature", "Bearer x".to_owned(), b"", NOW, "IncompleteSignatureException"),
        ] {
            assert_eq!(checked(&authorization, body, now), Err(expected), "{what}");
        }
    }
}
