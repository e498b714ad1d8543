//! Tokens: what is accepted, and what must not be.

use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use platform_api::shared::auth::keys;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{self, PASSWORD};

fn claims(audience: &str, expires_in_s: i64) -> Value {
    let now = Utc::now().timestamp();
    json!({
        "iss": "platform-api", "aud": audience, "sub": Uuid::nil(), "org": Uuid::nil(), "roles": ["SuperAdmin"],
        "permissions": ["*:*"], "iat": now, "exp": now + expires_in_s, "jti": Uuid::nil(), "family": Uuid::nil(),
    })
}

fn private_pem() -> String {
    std::fs::read_to_string(fixture::key_dir().join(keys::PRIVATE_KEY_FILE)).unwrap()
}

fn public_pem() -> String {
    std::fs::read_to_string(fixture::key_dir().join(keys::PUBLIC_KEY_FILE)).unwrap()
}

fn signed(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

#[tokio::test]
async fn tokens_that_are_not_ours_are_refused() {
    let Some(platform) = fixture::start().await else { return };
    let kid = keys::jwk_of_public_pem(&public_pem()).unwrap().kid;
    let own = EncodingKey::from_rsa_pem(private_pem().as_bytes()).unwrap();
    let good = claims("platform-api", 60);
    let valid = signed(Algorithm::RS256, &own, Some(&kid), &good);
    assert_eq!(
        platform.get("/api/v1/orders", &valid).await.status,
        200,
        "the others differ from this one in one thing"
    );

    // The public key is known to all: a token "signed" with it by HMAC must not pass.
    let hmac = EncodingKey::from_secret(public_pem().as_bytes());
    let other_dir = tempfile::tempdir().unwrap();
    let (other, _) = keys::generate(other_dir.path()).unwrap();
    let other = EncodingKey::from_rsa_pem(std::fs::read_to_string(other).unwrap().as_bytes()).unwrap();
    let unsigned = {
        use base64::prelude::*;
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(json!({ "alg": "none", "typ": "JWT", "kid": kid })), part(good.clone()))
    };
    let mut foreign_issuer = good.clone();
    foreign_issuer["iss"] = json!("elsewhere");
    let mut changed = valid.clone();
    changed.replace_range(
        valid.len() - 10..valid.len() - 9,
        if &valid[valid.len() - 10..valid.len() - 9] == "A" { "B" } else { "A" },
    );
    for (what, token) in [
        ("HS256 with the public key", signed(Algorithm::HS256, &hmac, Some(&kid), &good)),
        ("RS512", signed(Algorithm::RS512, &own, Some(&kid), &good)),
        ("no algorithm", unsigned),
        ("another key under our id", signed(Algorithm::RS256, &other, Some(&kid), &good)),
        ("an unknown key", signed(Algorithm::RS256, &own, Some("elsewhere"), &good)),
        ("no key id", signed(Algorithm::RS256, &own, None, &good)),
        ("a refresh token", signed(Algorithm::RS256, &own, Some(&kid), &claims("platform-api/refresh", 60))),
        ("another issuer", signed(Algorithm::RS256, &own, Some(&kid), &foreign_issuer)),
        ("a changed signature", changed),
        ("no token", "nonsense".to_owned()),
    ] {
        let answer = platform.get("/api/v1/orders", &token).await;
        assert_eq!((answer.status, answer.code()), (401, "token_invalid"), "{what}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let old = signed(Algorithm::RS256, &own, Some(&kid), &claims("platform-api", -60));
    assert_eq!(platform.get("/api/v1/orders", &old).await.code(), "token_expired");
    assert_eq!(platform.get("/api/v1/orders", "").await.code(), "token_missing");
}

#[tokio::test]
async fn an_access_token_says_who_and_what_and_is_signed_with_the_published_key() {
    let Some(platform) = fixture::start().await else { return };
    let token = platform.customer().await;
    let jwks = platform.get("/.well-known/jwks.json", "").await.body;
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, Algorithm::RS256);
    assert_eq!(jwks["keys"][0]["kid"].as_str(), header.kid.as_deref());
    let payload = {
        use base64::prelude::*;
        BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()
    };
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    let me = platform.get("/api/v1/users/me", &token).await.body;
    assert_eq!((&claims["sub"], &claims["org"]), (&me["id"], &me["org_id"]));
    assert_eq!(claims["roles"], json!(["Member"]));
    assert!(claims["permissions"].as_array().unwrap().contains(&json!("orders:create:own")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    assert!(Uuid::parse_str(claims["jti"].as_str().unwrap()).is_ok());
    assert!(me.get("password_hash").is_none());
}

#[tokio::test]
async fn services_without_the_key_file_learn_it_from_the_user_service() {
    let Some(platform) = fixture::start().await else { return };
    let token = platform.customer().await;
    let verifier =
        platform_api::shared::auth::jwt::Verifier::remote(&format!("http://{}", platform.addr), platform.http.clone());
    assert!(verifier.verify_access(&token).await.is_ok());
    let gone = platform_api::shared::auth::jwt::Verifier::remote("http://127.0.0.1:1", platform.http.clone());
    assert_eq!(gone.verify_access(&token).await.unwrap_err().status.as_u16(), 503);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_get_the_same_answer() {
    let Some(platform) = fixture::start().await else { return };
    platform.register("known@example.com", None).await;
    let wrong = platform.log_in("known@example.com", "not the password").await;
    let unknown = platform.log_in("unknown@example.com", PASSWORD).await;
    assert_eq!((wrong.status, wrong.code()), (401, "credentials_invalid"));
    assert_eq!((unknown.status, &unknown.body["detail"]), (401, &wrong.body["detail"]));
    assert_eq!(platform.log_in("KNOWN@example.com", PASSWORD).await.status, 200, "case does not matter");
}

#[tokio::test]
async fn an_address_is_registered_once_and_only_with_a_password_that_is_one() {
    let Some(platform) = fixture::start().await else { return };
    platform.register("twice@example.com", None).await;
    let register = |email: &str, password: &str| {
        platform.post("/api/v1/auth/register", "", json!({ "email": email, "password": password, "display_name": "X" }))
    };
    let again = register("Twice@Example.com", PASSWORD).await;
    assert_eq!((again.status, again.code()), (409, "email_taken"));
    let bad = register("nobody", "short").await;
    assert_eq!((bad.status, bad.code()), (422, "validation_failed"));
    assert_eq!(bad.body["errors"].as_array().unwrap().len(), 2);
    assert!(!bad.body.to_string().contains("short\""), "a password is not repeated");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_sign_in() {
    let Some(platform) = fixture::start().await else { return };
    platform.register("rotating@example.com", None).await;
    let first = platform.log_in("rotating@example.com", PASSWORD).await.body["refresh_token"].clone();
    let refresh = |token: &Value| platform.post("/api/v1/auth/refresh", "", json!({ "refresh_token": token }));
    let second = refresh(&first).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(refresh(&first).await.code(), "refresh_reused");
    // The thief and the owner cannot be told apart: both are out.
    assert_eq!(refresh(&second.body["refresh_token"]).await.code(), "refresh_reused");
    assert_eq!(refresh(&second.body["access_token"]).await.code(), "token_invalid");
}

#[tokio::test]
async fn members_see_themselves_and_administrators_see_their_organisation() {
    let Some(platform) = fixture::start().await else { return };
    let member = platform.customer().await;
    let boss = platform.register("boss@elsewhere.example", Some("Elsewhere")).await;
    let count = async |token: &str| platform.get("/api/v1/users", token).await.body["items"].as_array().unwrap().len();
    assert_eq!(count(&member).await, 1);
    assert_eq!(count(&boss).await, 1);
    assert_eq!(count(&platform.admin).await, 2);
    assert_eq!(platform.get("/api/v1/reports/sales", &member).await.code(), "forbidden");
}

#[tokio::test]
async fn no_route_of_the_api_is_open_but_the_ones_that_give_out_tokens() {
    let Some(platform) = fixture::start().await else { return };
    let id = Uuid::now_v7();
    for (method, path) in [
        (Method::GET, "/api/v1/users/me".to_owned()),
        (Method::GET, "/api/v1/users".to_owned()),
        (Method::GET, "/api/v1/products".to_owned()),
        (Method::POST, "/api/v1/products".to_owned()),
        (Method::GET, format!("/api/v1/products/{id}")),
        (Method::GET, format!("/api/v1/products/{id}/inventory")),
        (Method::PUT, format!("/api/v1/products/{id}/inventory")),
        (Method::GET, "/api/v1/orders".to_owned()),
        (Method::POST, "/api/v1/orders".to_owned()),
        (Method::GET, format!("/api/v1/orders/{id}")),
        (Method::POST, format!("/api/v1/orders/{id}/pay")),
        (Method::POST, format!("/api/v1/orders/{id}/ship")),
        (Method::POST, format!("/api/v1/orders/{id}/cancel")),
        (Method::GET, "/api/v1/reports/sales".to_owned()),
        (Method::GET, "/api/v1/notifications".to_owned()),
        (Method::POST, format!("/api/v1/notifications/{id}/read")),
    ] {
        let answer = platform.send(platform.request(method.clone(), &path, "")).await;
        assert_eq!((answer.status, answer.code()), (401, "token_missing"), "{method} {path}");
    }
}
