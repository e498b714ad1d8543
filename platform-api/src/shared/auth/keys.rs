//! RSA keys: generation into files, the key id, the public set (JWKS).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

pub const PRIVATE_KEY_FILE: &str = "private.pem";
pub const PUBLIC_KEY_FILE: &str = "public.pem";
/// Stands before the private key (RFC 7468 allows text there), so that the key's age goes wherever the key goes.
const CREATED: &str = "Created: ";

/// One public key as RFC 7517 writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    pub kty: String,
    #[serde(rename = "use")]
    pub purpose: String,
    pub alg: String,
    pub kid: String,
    pub n: String,
    pub e: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JwkSet {
    pub keys: Vec<Jwk>,
}

/// The pair in `dir`, if both halves are there.
pub fn existing(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (private, public) = (dir.join(PRIVATE_KEY_FILE), dir.join(PUBLIC_KEY_FILE));
    (private.exists() && public.exists()).then_some((private, public))
}

/// Writes a new RSA 2048 pair into `dir`: `private.pem` (PKCS#8, only its owner may read) and `public.pem`.
///
/// # Errors
/// A file is already there (a key in use is never overwritten), or cannot be written.
pub fn generate(dir: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    let (private, public) = (dir.join(PRIVATE_KEY_FILE), dir.join(PUBLIC_KEY_FILE));
    for path in [&private, &public] {
        anyhow::ensure!(!path.exists(), "`{}` is there already: remove it or choose another --out", path.display());
    }
    let pair = KeyPair::generate(KeySize::Rsa2048).context("failed to generate an RSA key")?;
    let secret: Pkcs8V1Der<'_> = pair.as_der().context("failed to encode the private key")?;
    let open: PublicKeyX509Der<'_> = pair.public_key().as_der().context("failed to encode the public key")?;
    let created = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    write(&private, 0o600, &format!("{CREATED}{created}\n{}", pem("PRIVATE KEY", secret.as_ref())))?;
    write(&public, 0o644, &pem("PUBLIC KEY", open.as_ref()))?;
    Ok((private, public))
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("failed to create `{}`", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("failed to write `{}`", path.display()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn unpem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let body = text.split_once(&begin)?.1.split_once(&end)?.0;
    BASE64_STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// The public key of a `PUBLIC KEY` PEM with its id.
///
/// # Errors
/// The text is not such a PEM, or not an RSA key.
pub fn jwk_of_public_pem(text: &str) -> anyhow::Result<Jwk> {
    let der = unpem(text, "PUBLIC KEY").context("not a PEM with a PUBLIC KEY; `platform-api keygen` writes one")?;
    let (n, e) = rsa_components(&der).context("the PUBLIC KEY is not an RSA key")?;
    Ok(jwk(n, e))
}

/// The public half of a `PRIVATE KEY` PEM.
///
/// # Errors
/// The text is not such a PEM, or not an RSA key.
pub fn jwk_of_private_pem(text: &str) -> anyhow::Result<Jwk> {
    let der = unpem(text, "PRIVATE KEY").context("not a PEM with a PRIVATE KEY; `platform-api keygen` writes one")?;
    let pair = KeyPair::from_pkcs8(&der).map_err(|why| anyhow::anyhow!("the PRIVATE KEY is not an RSA key: {why}"))?;
    let public = pair.public_key();
    Ok(jwk(public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero()))
}

/// When the key was made, where its PEM says so.
pub fn created(pem: &str) -> Option<DateTime<Utc>> {
    let text = pem.lines().find_map(|line| line.strip_prefix(CREATED))?;
    Some(DateTime::parse_from_rfc3339(text.trim()).ok()?.to_utc())
}

/// The key id is the thumbprint of RFC 7638: the same key has the same id everywhere.
fn jwk(n: &[u8], e: &[u8]) -> Jwk {
    let (n, e) = (BASE64_URL_SAFE_NO_PAD.encode(n), BASE64_URL_SAFE_NO_PAD.encode(e));
    let thumbprint = digest(&SHA256, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#).as_bytes());
    let kid = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
    Jwk { kty: "RSA".into(), purpose: "sig".into(), alg: "RS256".into(), kid, n, e }
}

/// Modulus and exponent of a SubjectPublicKeyInfo: SEQUENCE { algorithm, BIT STRING { SEQUENCE { n, e } } }.
fn rsa_components(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let (info, _) = element(der, 0x30)?;
    let (algorithm, rest) = element(info, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    let (bits, _) = element(rest, 0x03)?;
    let (key, _) = element(bits.strip_prefix(&[0])?, 0x30)?;
    let (n, rest) = element(key, 0x02)?;
    let (e, _) = element(rest, 0x02)?;
    let unsigned = |int: &'_ [u8]| int.iter().position(|b| *b != 0).unwrap_or(int.len());
    (oid == RSA_ENCRYPTION).then(|| (&n[unsigned(n)..], &e[unsigned(e)..]))
}

/// Splits one DER element of this tag into its content and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], mut rest) = der.split_first_chunk::<2>()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let octets = usize::from(first & 0x7f);
        let (digits, after) = rest.split_at_checked(octets).filter(|_| octets <= 4)?;
        length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    rest.split_at_checked(length).filter(|_| found == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_generated_pair_has_one_id_and_only_its_owner_reads_the_private_half() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(dir.path()), None);
        let (private, public) = generate(dir.path()).unwrap();
        assert_eq!(existing(dir.path()), Some((private.clone(), public.clone())));
        let from_private = jwk_of_private_pem(&std::fs::read_to_string(&private).unwrap()).unwrap();
        let from_public = jwk_of_public_pem(&std::fs::read_to_string(&public).unwrap()).unwrap();
        assert_eq!(from_private, from_public);
        assert_eq!(from_public.e, "AQAB");
        let age = Utc::now() - created(&std::fs::read_to_string(&private).unwrap()).expect("it says when");
        assert!((0..60).contains(&age.num_seconds()), "{age}");
        assert_eq!(created("-----BEGIN PRIVATE KEY-----"), None);
        assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);

        let again = generate(dir.path()).unwrap_err().to_string();
        assert!(again.contains("private.pem` is there already"), "{again}");
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        for text in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----"] {
            assert!(jwk_of_public_pem(text).is_err(), "{text:?}");
        }
    }
}
